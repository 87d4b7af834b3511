"""The report of radiographs: required and forbidden content, and its figures."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from osteo_monai.domain import Finding, Severity, Sex
from osteo_monai.reporting import write_heat_map, write_report
from osteo_monai.reporting.figures import radiograph_picture, risk_picture
from osteo_monai.reporting.wording import chance_words
from osteo_monai.screening.images import RadiographImage, RadiographImages
from osteo_monai.screening.result import (
    ModelUsed,
    PersonFacts,
    RadiographAcquisition,
    RadiographRisk,
    RiskOpinion,
    ScreeningResult,
)

SPACE = "\N{NO-BREAK SPACE}"


def opinion(name: str = "chest_frontal", probability: float = 0.29, cutoff: float = 0.12, **changes: Any) -> Any:
    fields = {
        "name": name,
        "score": 0.532,
        "probability": probability,
        "low": 0.2,
        "high": 0.4,
        "cutoff": cutoff,
        "cutoff_rule": "sensitivity_90",
        "raised": probability >= cutoff,
        "prevalence": 0.17,
        "people": 2400,
        "with_osteoporosis": 408,
        "virtual": True,
    }
    return RiskOpinion(**(fields | changes))


def result(
    risk: Any = None,
    verdict: str = "accepted",
    findings: tuple[Any, ...] = (),
    view: str = "chest_frontal",
    **changes: Any,
) -> Any:
    acquisition = RadiographAcquisition(view=view, source="a.png", source_format="PNG", rows=60, columns=50)
    found = {
        "radiographs": (acquisition,),
        "risk": risk or opinion(),
        "combined_absent": "It needs age, sex, height and weight; not known: height.",
        "clinical_absent": "It needs age, sex, height and weight; not known: height.",
        "person": PersonFacts(age_years=71.6, sex=Sex.FEMALE, weight_kg=58.0, given=("weight",)),
        "trained_on": "virtual patients",
    }
    return ScreeningResult(
        study="study_<1>",
        modality="radiograph",
        verdict=verdict,
        findings=findings,
        radiograph=RadiographRisk(**(found | changes)),
        models=(ModelUsed(bundle="a_bundle", version="0.1.0", weights_sha256="ab" * 32),),
        seconds={"reading": 1.25},
    )


def image(
    view: str = "chest_frontal",
    heat: bool = True,
    attention: bool = True,
    shape: tuple[Any, ...] = (60, 50),
    **changes: Any,
) -> Any:
    grey = np.linspace(0, 1, shape[0] * shape[1], dtype=np.float32).reshape(shape)
    warm = np.zeros(shape, np.float32)
    warm[: shape[0] // 3, : shape[1] // 3] = 2.0
    return RadiographImage(view, grey, warm if heat else None, warm + 1 if attention else None, **changes)


@pytest.fixture
def page(tmp_path: Path) -> Any:
    """Return a function that writes a report and returns its text, and its HTML without embedded figures."""

    def make(one: Any, images: Any = None) -> Any:
        write_report(one, images, tmp_path / "report.html")
        html = (tmp_path / "report.html").read_text(encoding="utf-8")
        bare = re.sub(r"base64,[^\"]+", "", html)
        body = re.sub(r"<style>.*?</style>|<[^>]+>", " ", bare, flags=re.DOTALL)
        return re.sub(r"\s+", " ", body), bare

    return make


def test_report_says_everything(page: Any) -> None:
    text, html = page(result(), RadiographImages((image(),)))
    for statement in (
        "Research use only.",
        "Accepted All quality checks were passed.",
        "Risk of osteoporosis, chest radiograph 29 % 90 % interval 20 % to 40 %",
        "Raised Cut-off 12 %, reached by 90 % of the people with osteoporosis in the calibration cohort. Confirm by",
        "Not given It needs age, sex, height and weight; not known: height.",
        "in a calibration cohort of 2400, of whom 17 % had osteoporosis",
        "Age 71 years",
        "Height unknown",
        "Weight 58 kg (given)",
        "a_bundle 0.1.0 " + "ab" * 32,
        "Network trained on: virtual patients.",
        "Reading 1.2 s",
    ):
        assert statement in text, statement
    for never in ("mg/cm", "density", "not calibrated", "<1>"):
        assert never not in text
    assert "study_&lt;1&gt;" in html
    assert not re.findall(r"(?:src|href)=\"(?!data:)[^\"]*\"", html)


@pytest.mark.parametrize(
    ("changes", "present", "absent"),
    [
        ({"risk": opinion(probability=0.08)}, "Not raised Cut-off 12 %", "Confirm by DXA"),
        ({"risk": opinion(low=0.05)}, "The 90 % interval includes it. Confirm by DXA.", "Not raised"),
        ({"risk": opinion()}, "in the calibration cohort. Confirm by DXA.", "interval includes"),
        (
            {"risk": RiskOpinion(name="chest_frontal", score=0.532)},
            "Score, not calibrated 0.53 Network output, 0 to 1: not a probability",
            "90 % interval",
        ),
        (
            {"risk": opinion(cutoff=0.12, virtual=False)},
            "that of people with the same network output",
            "virtual people",
        ),
        ({"combined": opinion("combined", 0.05)}, "not raised at its cut-off of 12 %", "Not given"),
        (
            {"risk": opinion("fused"), "views": (opinion("lumbar_ap"), opinion("lumbar_lateral"))},
            "lumbar AP and lateral, fused",
            "Chest radiograph",
        ),
    ],
)
def test_available_facts_determine_the_text(page: Any, changes: dict[str, Any], present: str, absent: str) -> None:
    text, _ = page(result(**changes))
    assert present in text
    assert absent not in text


@pytest.mark.parametrize("verdict", ["refused", "unusable"])
def test_refused_report_gives_the_reason_and_no_risk(page: Any, verdict: str) -> None:
    """Even of a result that (against the rules) carries one; the radiograph is shown without maps."""
    reason = Finding(code="view_unknown", severity=Severity.REFUSAL, message="Nothing shows the view.")
    text, html = page(result(verdict=verdict, findings=(reason,)), RadiographImages((image(),)))
    assert "Nothing shows the view. view_unknown" in text
    assert "29" not in text
    assert "Grad-CAM" not in html
    assert "Radiograph, not evaluated" in text


def test_images_of_the_other_modality_are_refused(tmp_path: Path) -> None:
    ct = ScreeningResult(study="a", verdict="accepted", findings=())
    with pytest.raises(ValueError, match="images must be ReportImages for a ct, got RadiographImages"):
        write_report(ct, RadiographImages((image(),)), tmp_path / "report.html")


@pytest.mark.parametrize(
    ("probability", "cutoff", "text"),
    [
        (0.294, None, "29 %"),
        (0.0412, None, "4.1 %"),
        (0.0, None, "0.0 %"),
        (0.0003, None, "<0.1 %"),
        (0.99995, None, ">99.9 %"),
        (0.118, 0.12, "11.8 %"),
        (0.1199, 0.12, "11.99 %"),
        (0.12, 0.12, "12 %"),
    ],
)
def test_chance_stays_on_its_side_of_the_cutoff(probability: float, cutoff: float | None, text: str) -> None:
    assert chance_words(probability, cutoff) == text.replace(" ", SPACE)


def test_pictures_keep_the_shape_of_the_radiograph() -> None:
    """Two views of different aspect, one with pixels twice as high as wide: one height, widths by the aspect."""
    images = RadiographImages(
        (image("lumbar_ap", attention=False), image("lumbar_lateral", False, False, (40, 50), spacing_mm=(2.0, 1.0)))
    )
    picture = radiograph_picture(images)
    drawn = [
        (float(e.attrib["width"]), float(e.attrib["height"]))
        for e in ElementTree.fromstring(picture.svg).iter()
        if e.tag.endswith("image")
    ]
    assert len(drawn) == 3  # AP, its Grad-CAM, lateral
    for (width, height), aspect in zip(drawn, (1.2, 1.2, 1.6), strict=True):
        assert height / width == pytest.approx(aspect, rel=0.01)
        assert height == drawn[0][1]
    assert sum(width for width, _ in drawn) < 720


@pytest.mark.parametrize(
    ("view", "marked"), [("chest_frontal", True), ("lumbar_ap", True), ("lumbar_lateral", False), ("unknown", False)]
)
def test_a_side_is_marked_only_where_it_is_known(view: str, marked: bool) -> None:
    assert (">R</text>" in radiograph_picture(RadiographImages((image(view),))).svg) == marked


@pytest.mark.parametrize(
    ("heat", "attention", "present"),
    [
        (0.0, None, "A map without colour has no such area."),
        (1.0, (1.0, 1.05), "all patches have about an even share"),
        (1.0, (1.0, 3.0), "up to 1.5 times"),
    ],
)
def test_caption_describes_the_maps(heat: float, attention: tuple[Any, ...] | None, present: str) -> None:
    pixels = np.full((10, 10), 0.5, np.float32)
    shares = None
    if attention is not None:
        shares = np.full((10, 10), attention[0], np.float32)
        shares[:, 5:] = attention[1]
    images = RadiographImages((RadiographImage("chest_frontal", pixels, np.full_like(pixels, heat), shares),))
    assert present in radiograph_picture(images).caption


def test_heat_map_is_warm_where_the_map_is(tmp_path: Path) -> None:
    from PIL import Image

    write_heat_map(RadiographImages((image(attention=False),)), tmp_path / "heat.png")
    with Image.open(tmp_path / "heat.png") as picture:
        values = np.asarray(picture).astype(int)
    rows, columns = values.shape[:2]
    width = (columns - 10) // 2
    plain, warm = values[:, :width], values[:, width + 10 : 2 * width + 10]
    assert np.ptp(plain, axis=2).max() == 0
    colour = np.ptp(warm, axis=2)
    assert colour[: rows // 4, : width // 4].min() > 50
    assert colour[rows // 2 :].max() <= 1


def test_scale_shows_each_calibrated_risk() -> None:
    picture = risk_picture([opinion(), opinion("clinical", 0.05), RiskOpinion(name="combined", score=0.5)])
    assert picture.svg.count("<circle") == 2
    assert "Clinical data only 5.0 % (20 % to 40 %)".replace(" %", f"{SPACE}%") in picture.alt
    assert "Radiograph and clinical data" not in picture.svg


@pytest.mark.parametrize("wrong", ["heat", "attention"])
def test_maps_of_another_shape_are_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match=f"{wrong} must have the shape of pixels"):
        replace(image(shape=(4, 4), heat=False, attention=False), **{wrong: np.zeros((2, 2), np.float32)})
