"""The choice between series that differ by contrast agent: by their pixels, not by the words of their headers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.uid import generate_uid

from osteo_monai.domain import ContrastPhase, Severity, VertebraLevel
from osteo_monai.imaging import CTVolume, read_acquisition, read_ct
from osteo_monai.virtual.anatomy import Anatomy
from osteo_monai.virtual.ct import CTProtocol, VirtualCT, acquire
from osteo_monai.virtual.files import write_dicom_series
from osteo_monai.virtual.person import draw_person

NATIVE, AGENT = "without contrast", "with contrast"
NUMBERS = {"native": 3, "enhanced": 2}
Study = Callable[..., Path]


@pytest.fixture(scope="module")
def phases() -> dict[str, VirtualCT]:
    """One person at the same places, native and in the portal venous phase."""
    anatomy = Anatomy(draw_person(5))
    made = {"native": ContrastPhase.NATIVE, "enhanced": ContrastPhase.PORTAL_VENOUS}
    low = float(anatomy.vertebra(VertebraLevel.L4).centre[2])
    return {
        name: acquire(
            anatomy,
            CTProtocol(phase=phase, pixel=4.0, matrix=(110, 100), slice_step=3.0, slice_thickness=3.0),
            z_range=(low, low + 150.0),
            seed=n,
        )
        for n, (name, phase) in enumerate(made.items())
    }


@pytest.fixture
def study(phases: dict[str, VirtualCT], tmp_path: Path) -> Study:
    """Write the phases as series of one study; ``texts`` are their descriptions, ``values`` other header entries."""

    def write(texts: dict[str, str], values: dict[str, dict[str, Any]] | None = None) -> Path:
        for name, text in texts.items():
            series = generate_uid(entropy_srcs=[name])
            for path in write_dicom_series(phases[name], tmp_path / name, subject_id="virtual_5"):
                ds = pydicom.dcmread(path)
                ds.SeriesInstanceUID, ds.SeriesNumber, ds.SeriesDescription = series, NUMBERS[name], text
                ds.StudyInstanceUID, ds.FrameOfReferenceUID = "1.2.3", "1.2.3.4"
                ds.ContrastBolusAgent = ds.ContrastBolusRoute = ""
                for key, value in (values or {}).get(name, {}).items():
                    setattr(ds, key, value)
                ds.save_as(path)
        return tmp_path

    return write


def is_native(scan: CTVolume, phases: dict[str, VirtualCT]) -> bool:
    means = {name: float(np.mean(ct.hu)) for name, ct in phases.items()}
    return min(means, key=lambda name: abs(means[name] - float(scan.hu.mean()))) == "native"


@pytest.mark.parametrize(
    ("native", "enhanced", "contradicted"),
    [(AGENT, NATIVE, True), (AGENT, "", True), ("", "", False), (NATIVE, AGENT, False), ("", NATIVE, True)],
)
def test_the_native_series_is_chosen_whatever_the_words(
    study: Study, phases: dict[str, VirtualCT], native: str, enhanced: str, contradicted: bool
) -> None:
    scan = read_ct(study({"native": native, "enhanced": enhanced}))
    assert is_native(scan, phases)
    codes = [f.code for f in scan.findings]
    assert codes[0] == "series_chosen"
    assert ("contrast_words_contradicted" in codes) == contradicted
    message = scan.findings[0].message
    assert "number 3" in message.split("Not read")[0]


def test_the_reason_states_both_shares(study: Study) -> None:
    path = study({"native": AGENT, "enhanced": NATIVE})
    found = next(f for f in read_ct(path).findings if f.code == "contrast_words_contradicted")
    assert found.severity is Severity.WARNING
    assert "series number 2" in found.message
    assert found.message.count("%") == 2
    # the header facts are those of the series that is read
    assert read_acquisition(path).series_description == AGENT


def test_right_words_are_confirmed(study: Study) -> None:
    found = read_ct(study({"native": NATIVE, "enhanced": AGENT})).findings[0]
    assert "Its pixels have less contrast agent than those of series number 2" in found.message


def test_one_series_is_not_compared(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr("osteo_monai.imaging.dicom_choice.compare_enhancement", fail)
    assert not [f for f in read_ct(study({"enhanced": NATIVE})).findings if f.code.startswith(("series", "contrast"))]


def test_another_frame_of_reference_leaves_the_words(study: Study, phases: dict[str, VirtualCT]) -> None:
    other = {"native": {"FrameOfReferenceUID": "1.2.3.5"}}
    assert not is_native(read_ct(study({"native": AGENT, "enhanced": NATIVE}, other)), phases)


def test_too_thick_a_native_series_is_no_choice(study: Study, phases: dict[str, VirtualCT]) -> None:
    thick = {"native": {"SliceThickness": 8}}
    assert not is_native(read_ct(study({"native": "", "enhanced": NATIVE}, thick)), phases)


def test_damaged_pixels_of_the_other_series_do_not_matter(study: Study, phases: dict[str, VirtualCT]) -> None:
    path = study({"native": NATIVE, "enhanced": AGENT})
    for file in (path / "enhanced").iterdir():
        ds = pydicom.dcmread(file)
        ds.PixelData = ds.PixelData[:100]
        ds.save_as(file)
    assert is_native(read_ct(path), phases)
