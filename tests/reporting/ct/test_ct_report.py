"""The report of a CT: required and forbidden content, no external reference, valid markup."""

import re
import shutil
import subprocess
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from osteo_monai.domain import DensityThresholds, Finding, MineralStandard, Severity, Sex, VertebraLevel
from osteo_monai.reporting import write_report
from osteo_monai.screening.images import ClassActivation, ReportImages
from osteo_monai.screening.result import HUStatistics, ScreeningResult, TextureFeature, TextureMeasurement

L1, L2 = VertebraLevel.L1, VertebraLevel.L2
Make = Callable[..., ScreeningResult]
VOID = {"meta", "img", "br", "link", "input", "hr", "source", "base", "embed"}
WARNING = Finding(code="thick_slices", severity=Severity.WARNING, message="Slices of 6 mm blur the end plates.")
INFO = Finding(code="series_chosen", severity=Severity.INFO, message="Series 3 of 5 was chosen.")


class Page(HTMLParser):
    """Text, tags and attributes of a page; fails on tags that do not match."""

    def __init__(self, source: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.style = ""
        self.feed(source)
        self.close()
        assert self.open == []
        self.text = re.sub(r"\s+", " ", " ".join(self.words))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "style":
            self.style += data
        else:
            self.words.append(data)

    def attributes(self, name: str) -> list[str]:
        return [attrs[name] for _, attrs in self.tags if name in attrs]


@pytest.fixture
def report(tmp_path: Path) -> Callable[[ScreeningResult, ReportImages | None], Page]:
    def make(result: ScreeningResult, images: ReportImages | None) -> Page:
        path = tmp_path / "report.html"
        write_report(result, images, path)
        return Page(path.read_text(encoding="utf-8"))

    return make


Report = Callable[[ScreeningResult, ReportImages | None], Page]


@pytest.fixture
def unusable() -> ScreeningResult:
    reason = Finding(code="no_images", severity=Severity.REFUSAL, message="The folder holds no images.")
    return ScreeningResult(study="empty_folder", verdict="unusable", findings=(reason,))


def test_measured_report_says_everything(report: Report, make_result: Make, images: ReportImages) -> None:
    text = report(make_result(), images).text
    for statement in (
        "Research use only. A screening estimate, not a diagnosis: confirm by DXA or QCT.",
        "Study study_017",
        "Accepted All quality checks were passed.",
        "Density, mean of L1 and L2 96.4 mg/cm³ K2HPO4 90 % interval 84.4 to 108.4",
        "Osteopenia 16.4 above 80; 23.6 below 120 mg/cm³. The whole 90 % interval is in this class.",
        # (96.4 - 92.36) / 27.41 = 0.1474 SD: 55.9 %; the ends -0.2904 and 0.5852 SD: 38.6 and 72.1 %
        "56th 90 % interval 39th to 72nd. Percentile of women 60-69 in Pan 2024 Table 1 (92.4 ± 27.4 mg/cm³, n = 60,",
        "Mean HU 131.2 132.2",
        "Median HU 128.7 128.7",
        "Standard deviation HU 41.3 41.3",
        "10th to 90th percentile HU \N{MINUS SIGN}3.2 to 188.8",
        "Trabecular region, rule trabecular_core 1.0",
        "Region, voxels 1235 1235",
        "Region, area on the centre slice (mm²) 370",
        "Body, volume (cm³) 35.6 36.6",
        "Certainty of the name (runner-up) >99 % 80 %",
        "Centre slice (lowest slice is 0) 51 37",
        "DICOM InstanceNumber 200 201",
        "physics: computed from X-ray physics at the tube voltage (an estimate",
        "density = 0.7312 \N{MULTIPLICATION SIGN} HU \N{MINUS SIGN} 4.25 mg/cm³ K2HPO4",
        "8.0 % and 3.5 mg/cm³",
        "120 kVp, no scanner line",
        "normal above 120, osteopenia 80 to 120 (both included), osteoporosis below 80 mg/cm³ K2HPO4",
        "Thresholds from Pan et al. 2024, doi 10.1186/s12891-024-07297-1",
        "Age 64 years",
        "Sex female",
        "Tube voltage 120 kVp",
        "Kernel B",
        "Contrast agent not stated",
        "Scanner Philips Ingenuity Core 128",
        "Matrix 100 \N{MULTIPLICATION SIGN} 140 \N{MULTIPLICATION SIGN} 80",
        "vertebra_localization_ct 0.1.0 " + "ab" * 32,
        "vertebral_body_segmentation_ct 0.2.0 " + "cd" * 32,
        "Reading 1.2 s",
        "Total 7.8 s",
        "T12 80 % T11",
    ):
        assert statement in text, statement


def test_the_line_is_applied_to_what_the_report_says_it_is() -> None:
    hu = HUStatistics(mean=1, median=2, sd=3, p10=4, p90=5)
    assert hu.representative == hu.median  # the report states "from the median HU of the region"


@pytest.mark.parametrize("kind", ["accepted", "warnings", "refused", "unusable"])
def test_every_report_is_self_contained_and_well_formed(
    kind: str,
    report: Report,
    make_result: Make,
    refused: ScreeningResult,
    unusable: ScreeningResult,
    images: ReportImages,
) -> None:
    result = {
        "accepted": make_result(),
        "warnings": make_result(verdict="accepted_with_warnings", findings=(WARNING, INFO)),
        "refused": refused,
        "unusable": unusable,
    }[kind]
    page = report(result, None if kind == "unusable" else images)
    tags = {tag for tag, _ in page.tags}
    assert not tags & {"script", "link", "iframe", "object", "embed", "base", "form", "video", "audio", "svg"}
    assert page.attributes("href") == page.attributes("srcset") == page.attributes("background") == []
    assert all(source.startswith("data:image/") for source in page.attributes("src"))
    assert not re.search(r"url\(|@import|https?:", page.style)
    assert "http" not in page.text
    assert not [name for _, attrs in page.tags for name in attrs if name.startswith("on")]
    # required by screen readers
    pictures = [attrs for tag, attrs in page.tags if tag == "img"]
    assert len(pictures) == {"accepted": 4, "warnings": 4, "refused": 3, "unusable": 0}[kind]
    assert all(len(attrs["alt"]) > 40 for attrs in pictures)
    ids = page.attributes("id")
    assert len(ids) == len(set(ids))
    assert set(page.attributes("aria-labelledby")) <= set(ids)
    assert page.tags[0] == ("html", {"lang": "en-GB"})
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(deeper - above <= 1 for above, deeper in pairwise(levels))
    # forbidden in a CT report
    assert not re.search(r"T-?score", page.text, re.IGNORECASE)
    assert not re.search(r"(?<!m)g/cm", page.text)
    assert "Research use only" in page.text


def test_refused_report_gives_the_reason_first_and_no_number(
    report: Report, refused: ScreeningResult, images: ReportImages
) -> None:
    page = report(refused, images)
    refusal = page.text.index("The aorta is enhanced by contrast agent.")
    assert "Refused No bone density is given for this study. The aorta is enhanced" in page.text
    assert refusal < page.text.index("The kernel is not stated.")
    everything = page.text + " ".join(page.attributes("alt"))
    for number in ("87.6", "87.7", "75.6", "99.6", "131.2", "128.7", "0.7312", "mg/cm", "steopenia", "ercentile"):
        assert number not in everything, number
    assert "Levels shown, not measured" in page.text
    assert "L1" in page.text
    assert len([tag for tag, _ in page.tags if tag == "img"]) == 3


def test_refused_report_without_masks_or_levels(report: Report, refused: ScreeningResult, images: ReportImages) -> None:
    bare = refused.model_copy(update={"levels_found": (), "levels": ()})
    page = report(bare, ReportImages(images.hu, images.affine))
    alts = page.attributes("alt")
    assert len(alts) == 1
    assert "No vertebral level was found." in alts[0]
    found = report(refused, ReportImages(images.hu, images.affine))  # with levels from the result
    assert len(found.attributes("alt")) == 3
    assert "trabecular region" not in found.text


def test_unusable_report(report: Report, unusable: ScreeningResult) -> None:
    text = report(unusable, None).text
    assert "Unusable input The input could not be read, so nothing was measured. The folder holds no images." in text
    assert "No model was run on this study." in text


def test_findings_are_grouped_by_severity(report: Report, make_result: Make, images: ReportImages) -> None:
    text = report(make_result(verdict="accepted_with_warnings", findings=(INFO, WARNING)), images).text
    places = [
        text.index(words)
        for words in ("Accepted with warnings", "Warnings", WARNING.message, "For information", INFO.message)
    ]
    assert places == sorted(places)
    assert WARNING.code in text
    assert "No findings: every quality check was passed." in report(make_result(), images).text


@pytest.mark.parametrize(
    ("age", "sex", "sentence"),
    [
        (None, Sex.MALE, "Age unknown: no percentile is given."),
        (60.0, None, "Sex unknown: no percentile is given."),
        (None, None, "Age and sex unknown: no percentile is given."),
        (90.0, Sex.MALE, "No norm for age 90: Pan 2024 Table 1 covers 18 to below 90 years."),
        (15.5, Sex.MALE, "No norm for age 15: Pan 2024 Table 1 covers 18 to below 90 years."),
    ],
)
def test_no_percentile_without_a_norm(
    age: float | None, sex: Sex | None, sentence: str, report: Report, make_result: Make, images: ReportImages
) -> None:
    text = report(make_result(age=age, sex=sex), images).text
    assert sentence in text
    assert "Percentile of" not in text


def test_class_that_the_interval_leaves_is_called_uncertain(
    report: Report, make_result: Make, images: ReportImages
) -> None:
    text = report(make_result(mg_cm3=79.97), images).text
    assert "79.97 mg/cm³" in text  # not 80.0, which would be osteopenia
    assert "Osteoporosis 0.03 below 80; 40.0 below 120" in text
    assert "The 90 % interval extends into osteopenia: the class is not certain." in text
    assert "exactly at 80; 40.0 below 120" in report(make_result(mg_cm3=80.0), images).text


def test_thresholds_of_the_result_are_the_ones_shown(report: Report, make_result: Make, images: ReportImages) -> None:
    """Cut-offs that no subtraction of a rounded distance gives back."""
    thresholds = DensityThresholds(50.3, 110.1, source="A local table")
    result = make_result(thresholds=thresholds, distance_to_thresholds=None, thresholds_source="A local table")
    page = report(result, images)
    assert "normal above 110.1, osteopenia 50.3 to 110.1 (both included)" in page.text
    assert "Thresholds from A local table" in page.text
    assert "46.1 above 50.3; 13.7 below 110.1 mg/cm³." in page.text
    assert "Bands: classes by volumetric density." in page.text


def test_a_result_without_thresholds_shows_no_invented_cut_off(
    report: Report, make_result: Make, images: ReportImages
) -> None:
    """Results before version 1.4 have distances and a source only."""
    distances = {"osteoporosis_below": 46.1, "normal_above": -13.7}
    old = make_result(thresholds=None, distance_to_thresholds=distances, thresholds_source="A local table")
    page = report(old, images)
    assert "46.1 mg/cm³ above the osteoporosis cut-off; 13.7 mg/cm³ below the normal cut-off." in page.text
    assert "The cut-offs are not recorded in this result." in page.text
    assert "Thresholds from A local table" in page.text
    for invented in ("above 120", "below 80", "50.3", "110.1", "Bands: classes", "Pan et al. 2024, doi"):
        assert invented not in page.text, invented
    without = make_result(thresholds=None, distance_to_thresholds=None, thresholds_source=None, status=None)
    assert "None No class is given." in report(without, images).text


def test_density_in_another_standard_is_never_compared(report: Report, make_result: Make, images: ReportImages) -> None:
    text = report(make_result(standard=MineralStandard.HYDROXYAPATITE), images).text
    assert "96.4 mg/cm³ hydroxyapatite" in text
    assert "None No class is given." in text
    assert "The density is in hydroxyapatite, Pan 2024 Table 1 in K2HPO4." in text
    assert "above 80" not in text


def test_opinions_are_compared_in_one_table(
    report: Report, make_result: Make, with_opinions: Make, images: ReportImages, activation: ClassActivation
) -> None:
    page = report(with_opinions(make_result()), replace(images, activation=activation))
    for statement in (
        "Comparison of methods The methods agree: all say osteopenia.",
        "HU line Osteopenia 96.4 mg/cm³ K2HPO4 90 % interval 84.4 to 108.4",
        "Density regression Osteopenia 104.2 mg/cm³ K2HPO4 90 % interval 95.1 to 113.3 L1 106.0, L2 104.2",
        "Classifier Osteopenia normal 3 %, osteopenia 90 %, osteoporosis 6 % none",
        "HU rule of L1 Osteopenia L1 131.2 HU",
        "not independent of the line, which uses the same HU Pickhardt et al. 2013. no training; published against DXA",
        "Virtual patients made by osteo_monai.virtual",
        "do not show accuracy in real patients",
        "Grad-CAM",
        "not where the bone is diseased",
    ):
        assert statement in page.text, statement
    assert sum(tag == "img" for tag, _ in page.tags) == 5
    assert all(source.startswith("data:image/") for source in page.attributes("src"))


def test_opinions_that_are_absent_say_why(
    report: Report, make_result: Make, with_opinions: Make, images: ReportImages, activation: ClassActivation
) -> None:
    why = {"density_regression": "The bundle bone_density_regression_ct or its weights are not installed."}
    result = with_opinions(make_result(), "hu_line", "hu_rule", opinions_absent=why, findings=())
    page = report(result, replace(images, activation=activation))
    assert "Comparison of methods Method" in page.text
    assert "Density regression No opinion. The bundle bone_density_regression_ct or its weights" in page.text
    assert "Classifier No opinion. It was not run." in page.text
    assert "Grad-CAM" not in page.text
    assert "virtual patients do not show" not in page.text


def test_refused_study_shows_no_opinion(
    report: Report, with_opinions: Make, refused: ScreeningResult, images: ReportImages, activation: ClassActivation
) -> None:
    text = report(with_opinions(refused), replace(images, activation=activation)).text
    assert "Comparison of methods" not in text
    assert "104.2" not in text


def test_words_from_outside_are_escaped(report: Report, make_result: Make, images: ReportImages) -> None:
    text = report(make_result(study='<script>alert("x")</script> & co', findings=(INFO,)), images)
    assert "script" not in {tag for tag, _ in text.tags}
    assert '<script>alert("x")</script> & co' in text.text


def test_only_one_level_or_none_measured(report: Report, make_result: Make, images: ReportImages) -> None:
    one = make_result()
    text = report(one.model_copy(update={"levels": one.levels[:1]}), images).text
    assert "Density, L1 only 96.4" in text
    assert "Opportunistic estimate of trabecular density in L1 only" in text
    assert "L1 only" not in report(one, images).text
    assert VertebraLevel.T12 in text
    nothing = one.model_copy(update={"levels": (), "density": None, "status": None, "distance_to_thresholds": None})
    assert "This result has no density." in report(nothing, images).text


WITNESS = Finding(
    code="last_rib", severity=Severity.INFO, message="T12 carries the last ribs: right 98 mm, left 105 mm"
)


def test_basis_of_the_level_names_is_printed_with_the_views(
    report: Report, make_result: Make, refused: ScreeningResult, images: ReportImages
) -> None:
    bare = ReportImages(images.hu, images.affine)
    for result, seen in (
        (make_result(findings=(WITNESS,)), images),
        (refused.model_copy(update={"findings": (*refused.findings, WITNESS)}), images),
        # without axial slices: with the views of the column
        (refused.model_copy(update={"findings": (WITNESS,), "levels_found": ()}), bare),
    ):
        page = report(result, seen).text
        sentence = f"Basis of the level names: {WITNESS.message} ."
        assert page.count(sentence) == 1
        pictures = page.index("Vertebral column") if seen is not images else page.index("Mediastinal window")
        assert pictures < page.index(sentence)
    assert "Basis of the level names" not in report(make_result(), images).text


def test_bodies_above_the_named_levels_are_printed_once(
    report: Report, make_result: Make, images: ReportImages
) -> None:
    page = report(make_result(bodies_above=7), images)
    assert page.text.count("7 bodies above T9 were found and are not named.") == 1
    assert page.text.count("above T9 not named none 7 bodies") == 1
    assert page.text.index("above T9 not named") < page.text.index("T12 80 % T11")
    (column,) = (alt for alt in page.attributes("alt") if "coronal" in alt)
    assert column.endswith("7 bodies above T9 were found and are not named.")
    assert "above T9" not in report(make_result(), images).text


def test_a_chest_without_any_named_level(report: Report, refused: ScreeningResult, images: ReportImages) -> None:
    chest = refused.model_copy(update={"levels_found": (), "levels": (), "bodies_above": 8})
    page = report(chest, ReportImages(images.hu, images.affine))
    assert page.text.count("8 bodies were found, and none can be named.") == 1
    assert "above T9" not in page.text
    assert "No vertebral level was found" not in " ".join(page.attributes("alt"))


def test_a_full_size_study_is_not_copied_and_gives_a_small_file(
    make_result: Make, images: ReportImages, tmp_path: Path
) -> None:
    """512 x 512 x 150 with noise, the worst case for PNG: file below 3 MB, memory below a fifth of the volume."""
    noise = np.random.default_rng(0).normal(60, 60, (512, 512, 150)).astype(np.float32)
    bodies = np.zeros(noise.shape, dtype=np.uint8)
    affine = np.diag([0.78, 0.78, 2.0, 1.0])
    levels = []
    for k, level in enumerate(VertebraLevel(name) for name in ("T10", "T11", "T12", "L1", "L2", "L3")):
        x, y, z = 256, 230, 130 - 18 * k
        bodies[x - 28 : x + 28, y - 20 : y + 20, z - 6 : z + 7] = level.label
        levels.append(images.levels[0].model_copy(update={"level": level, "centre_mm": (0.78 * x, 0.78 * y, 2.0 * z)}))
    regions = np.zeros(noise.shape, dtype=bool)
    regions[240:270, 220:240, 20:140] = True
    full = ReportImages(noise, affine, bodies, regions, tuple(levels))
    path = tmp_path / "report.html"
    tracemalloc.start()
    try:
        write_report(make_result(), full, path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < noise.nbytes / 5
    assert path.stat().st_size < 3_000_000


def test_a_browser_shows_all_four_pictures(make_result: Make, images: ReportImages, tmp_path: Path) -> None:
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("needs Chromium, which is not installed with this project")
    write_report(make_result(), images, tmp_path / "report.html")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--window-size=820,2600"]
    subprocess.run(
        [browser, *flags, f"--user-data-dir={tmp_path / 'profile'}", f"--screenshot={tmp_path / 'page.png'}",
         (tmp_path / "report.html").as_uri()],
        check=True,
        capture_output=True,
        timeout=120,
    )  # fmt: skip
    page = np.asarray(Image.open(tmp_path / "page.png").convert("RGB")).astype(int)
    cyan = (page[..., 2] > 200) & (page[..., 0] < 140) & (page[..., 1] > 180)  # the contours of the bodies
    rows = np.flatnonzero(cyan.any(axis=1))
    assert len(rows) > 100
    dark = (page.max(axis=2) < 40).mean(axis=1)  # the gutter between the column views takes a seventh of the width
    assert (dark > 0.1).sum() > 300


# --- texture ---


def test_texture_is_printed_with_units_and_each_reason_once(
    report: Report, make_result: Make, images: ReportImages
) -> None:
    plain = make_result()
    coarse = "Voxels must be at most 0.25 mm in plane and 0.5 mm between slices, got 0.7 and 1.2 mm."
    features = [
        TextureFeature(name="first_order_mean", value=999.94, unit="HU"),
        TextureFeature(name="first_order_skewness", value=-0.5123, unit="1"),
        TextureFeature(name="glcm_cluster_shade", value=12.345, unit="1"),
    ]
    texture = (
        TextureMeasurement(level=L1, features=tuple(features), not_computed={"microarchitecture": coarse}),
        TextureMeasurement(
            level=L2,
            features=tuple(features[:1]),
            not_computed={"microarchitecture": coarse, "glcm": "The region must have at least 100 cubes of 1 mm."},
        ),
    )
    text = report(plain.model_copy(update={"texture": texture}), images).text
    for statement in (
        "Texture of the trabecular region Feature L1 L2 Mean (HU) 1000 1000",
        "Skewness \N{MINUS SIGN}0.512",
        "Co-occurrence, cluster shade 12.3",
        f"Microarchitecture (L1 and L2): not computed. {coarse}",
        "Co-occurrence (L2): not computed. The region must have at least 100 cubes of 1 mm.",
    ):
        assert statement in text, statement
    assert text.count(coarse) == 1


def test_texture_is_absent_if_not_requested_or_refused(report: Report, make_result: Make, images: ReportImages) -> None:
    assert "Texture" not in report(make_result(), images).text
    texture = (TextureMeasurement(level=L1, features=(), not_computed={"glcm": "Too coarse."}),)
    accepted = make_result(texture=texture)
    assert "Co-occurrence (L1): not computed. Too coarse." in report(accepted, images).text
    assert "Texture" not in report(accepted.model_copy(update={"verdict": "refused"}), images).text
