"""One case: what is done to a sound input, what came in version 0.1.0, and what counts as correct now."""

import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from osteo_monai.domain import Severity
from osteo_monai.errors import ScanRefusedError, UnusableInputError
from osteo_monai.imaging import read_ct
from osteo_monai.screening import ScreeningOptions, screen
from osteo_monai.screening.ct.steps import check, check_image
from osteo_monai.screening.models import ScreeningModels
from osteo_monai.screening.result import ScreeningResult

REFUSED, NAMED, RIGHT, WRONG = "refused", "named", "right value", "STILL WRONG"
OTHERWISE, LIMIT = "refused otherwise", "known limit"
"""Refused without the cause being named; not detected, as a document states with figures."""

DENSITY_TOLERANCE = 3.0
"""Largest difference in mg/cm3 from the sound study that counts as the right value."""
NO_RIGHTS = "setpriv --bounding-set=-all --inh-caps=-all"
"""Starts a program to which permissions of files apply, also for an administrator."""
COMMAND_SECONDS, COMMAND_BYTES = 90, 6 * 2**30

Slices = list[Dataset]


@dataclass(frozen=True)
class Outcome:
    """What a case led to: one of the four words above, and the sentence that was shown."""

    kind: str
    sentence: str


@dataclass(frozen=True)
class Ran:
    """A command that has ended: exit code (minus the signal; ``None`` if it was stopped after the time limit)."""

    code: int | None
    text: str
    seconds: float
    peak_mib: float


@dataclass(frozen=True)
class Work:
    """What the function of a case gets.

    Attributes:
        folder: empty.
        study: slices of the sound study from the top, a copy; ``other`` those of another person.
        models: loaded bundles.
        density: of the sound study in mg/cm3, and of its levels.
        levels_mm: z of the centres of the measured bodies in DICOM coordinates, from L1 down.
        sizes: volume in cm3 and height in mm of the measured bodies.
        real: folder of real test data, if there is one.
    """

    folder: Path
    study: Slices
    other: Slices
    models: ScreeningModels
    density: float
    level_densities: tuple[float, ...]
    levels_mm: tuple[float, ...]
    sizes: tuple[tuple[float, float], ...]
    real: Path | None = None

    def save(self, slices: Sequence[Dataset], name: str = "study") -> Path:
        """Write slices as DICOM files; return their folder."""
        folder = self.folder / name
        folder.mkdir(parents=True, exist_ok=True)
        first = len(list(folder.iterdir()))
        for number, ds in enumerate(slices, first):
            ds.save_as(folder / f"IM{number:04d}.dcm", enforce_file_format=False)
        return folder

    def nifti(self, hu: NDArray[Any] | None = None, affine: NDArray[Any] | None = None, name: str = "ct.nii") -> Path:
        """Write a NIfTI file of the sound study, or of other values or another affine; return its path."""
        volume, true = nifti_of(self.study)
        image = nib.Nifti1Image(
            (volume if hu is None else hu),
            true if affine is None else affine,
        )
        nib.save(image, self.folder / name)
        return self.folder / name

    def evaluate(
        self,
        path: Path,
        *,
        refused: Collection[str] = (),
        named: Collection[str] = (),
        right: bool = False,
        sizes: bool = False,
        limit: str = "",
        options: ScreeningOptions | None = None,
    ) -> Outcome:
        """Screen a study and compare the result with what is acceptable.

        Args:
            path: of the study.
            refused: codes; a refusal by one of them is correct.
            named: codes; a result with one of these findings is correct.
            right: whether the density of the sound study is correct too; ``sizes`` demands sizes within a tenth.
            sizes: as above.
            limit: why a result without a finding is a known limit, such as that people differ by as much.
            options: of the screening.
        """
        result = screen(path, self.models, options, device="cpu").result
        outcome = self.compared(result, refused, named, right, sizes)
        return Outcome(LIMIT, f"{outcome.sentence} ({limit})") if limit and outcome.kind == WRONG else outcome

    def compared(
        self,
        result: ScreeningResult,
        refused: Collection[str] = (),
        named: Collection[str] = (),
        right: bool = False,
        sizes: bool = False,
    ) -> Outcome:
        """Compare a result with what is acceptable, see :meth:`evaluate`."""
        codes = {f.code: f for f in result.findings}
        refusals = [f for f in result.findings if f.severity is Severity.REFUSAL]
        if refusals:
            expected = [f for f in refusals if f.code in refused or f.code in named]
            also = [f for code, f in codes.items() if code in named]
            shown = (expected or also or refusals)[0]
            kind = REFUSED if expected else NAMED if also else OTHERWISE
            return Outcome(kind, f"{shown.code}: {shown.message}")
        if result.verdict == "unusable":
            return Outcome(WRONG, result.findings[0].message)
        density = result.density.mg_cm3 if result.density else float("nan")
        said = [f for code, f in codes.items() if code in named]
        number = f"{density:.1f} mg/cm3 (sound {self.density:.1f})"
        if said:
            return Outcome(NAMED, f"{number}; {said[0].code}: {said[0].message}")
        close = len(result.levels) == len(self.level_densities) and all(
            abs(level.density.mg_cm3 - true) <= DENSITY_TOLERANCE
            for level, true in zip(result.levels, self.level_densities, strict=True)
        )
        if sizes:
            close &= all(
                abs(level.body_volume_cm3 / volume - 1) <= 0.1 and abs(level.height_mm / height - 1) <= 0.1
                for level, (volume, height) in zip(result.levels, self.sizes, strict=False)
            )
        warned = ", ".join(f.code for f in result.findings if f.severity is Severity.WARNING) or "nothing"
        return Outcome(RIGHT if right and close else WRONG, f"{number}; warnings: {warned}")

    def header(
        self, path: Path, *, refused: Collection[str] = (), named: Collection[str] = (), said: str = ""
    ) -> Outcome:
        """Read and check a study whose pixels are sound; correct are these codes, or none of them if both are empty.

        Args:
            path: of the study.
            refused: codes, as in :meth:`evaluate`.
            named: codes, as in :meth:`evaluate`.
            said: text that the sentence must contain.
        """
        try:
            findings = check(check_image(read_ct(path, keep_doubts=True), ScreeningOptions())).findings
        except (UnusableInputError, ScanRefusedError) as error:
            findings = tuple(ScreeningResult.unread("", error, {}).findings)
        for kind, wanted in ((REFUSED, refused), (NAMED, named)):
            for finding in findings:
                hit = finding.code in wanted and (kind == NAMED or finding.severity is Severity.REFUSAL)
                if hit and said in finding.message:
                    return Outcome(kind, f"{finding.code}: {finding.message}")
        found = [f for f in findings if f.severity is not Severity.INFO]
        text = "; ".join(f"{f.code}: {f.message}" for f in found) or "no finding"
        return Outcome(WRONG if refused or named or found else RIGHT, text)

    def command(self, *arguments: str | Path, **limits: Any) -> Ran:
        """Run ``osteo-monai`` in a forked process with the loaded models."""
        return run_forked([os.fspath(word) for word in arguments], self.folder / ".log", self.models, **limits)

    def shell(self, script: str, seconds: float = COMMAND_SECONDS) -> Ran:
        """Run a shell script in the folder; ``$OSTEO`` is the command."""
        begin = time.monotonic()
        env = {**os.environ, "OSTEO": f"{sys.executable} -m osteo_monai"}
        with subprocess.Popen(
            ["bash", "-c", script],
            cwd=self.folder,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        ) as process:
            try:
                text = process.communicate(timeout=seconds)[0].decode(errors="replace")
                code: int | None = process.returncode
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                text, code = "stopped after the time limit", None
        return Ran(code, text, time.monotonic() - begin, 0.0)


def run_forked(
    words: Sequence[str],
    log: Path,
    models: ScreeningModels,
    seconds: float = COMMAND_SECONDS,
    file_bytes: int | None = None,
) -> Ran:
    """Run the command in a child with limits; a child after its time limit has ``code`` ``None``."""
    from osteo_monai.cli import run

    begin = time.monotonic()
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(target, 1)
        os.dup2(target, 2)
        code = 1
        try:
            _limit(seconds, file_bytes)
            setattr(sys.modules["osteo_monai.screening.models"], "load_models", lambda *a, **k: models)  # noqa: B010
            code = run(list(words))
            sys.stdout.flush()
        finally:
            os._exit(code)
    _, status, usage = os.wait4(child, 0)
    code = os.waitstatus_to_exitcode(status)
    text = log.read_text(errors="replace")
    taken = time.monotonic() - begin
    return Ran(None if code == -signal.SIGALRM else code, text, taken, usage.ru_maxrss / 1024)


def _limit(seconds: float, file_bytes: int | None) -> None:
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    resource.setrlimit(resource.RLIMIT_AS, (COMMAND_BYTES, COMMAND_BYTES))
    if file_bytes is not None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, file_bytes))


@dataclass(frozen=True)
class Case:
    """A case of a report, or of our own.

    Attributes:
        number: such as ``N1``.
        source: ``break``, ``bugs`` or ``own``.
        words: what is done to the input.
        before: what came in 0.1.0; empty for own cases.
        run: does it.
    """

    number: str
    source: str
    words: str
    before: str
    run: Callable[[Work], Outcome]


@dataclass
class Register:
    """Cases in the order of their definition."""

    source: str
    cases: list[Case] = field(default_factory=list)

    def case(self, number: str, words: str, before: str = "") -> Callable[[Callable[[Work], Outcome]], Any]:
        """Add the decorated function as a case."""

        def add(run: Callable[[Work], Outcome]) -> Callable[[Work], Outcome]:
            self.cases.append(Case(number, self.source, words, before, run))
            return run

        return add

    def many(self, number: str, variants: dict[str, Callable[[Work], Outcome]], words: str, before: str = "") -> None:
        """Add one case for each variant; ``{}`` in the words is its name."""
        for name, run in variants.items():
            label = f"{number} {name}"
            self.cases.append(Case(label, self.source, words.format(name), before, run))


def expect(ok: bool, kind: str, sentence: str) -> Outcome:
    """Return the outcome ``kind`` if ``ok``, else that the case is still wrong."""
    return Outcome(kind if ok else WRONG, " ".join(sentence.split()))


def change(slices: Slices, **elements: Any) -> Slices:
    """Set elements of all slices; ``None`` deletes one; a function gets the index of the slice."""
    for number, ds in enumerate(slices):
        for keyword, value in elements.items():
            given = value(number) if callable(value) else value
            if given is None:
                if keyword in ds:
                    delattr(ds, keyword)
            else:
                setattr(ds, keyword, given)
    return slices


def stored(ds: Dataset) -> NDArray[np.uint16]:
    """Return the stored values of a slice."""
    return np.frombuffer(ds.PixelData, "<u2").reshape(ds.Rows, ds.Columns).copy()


def map_hu(slices: Slices, of_hu: Callable[[NDArray[np.float64]], NDArray[Any]]) -> Slices:
    """Replace the HU of all slices by a function of them."""
    for ds in slices:
        hu = of_hu(stored(ds).astype(float) - 1024)
        ds.PixelData = np.clip(np.round(hu) + 1024, 0, 4095).astype("<u2").tobytes()
    return slices


def nearest(slices: Slices, z: float) -> int:
    """Return the index of the slice nearest to a position."""
    return int(np.argmin([abs(float(ds.ImagePositionPatient[2]) - z) for ds in slices]))


def move(slices: Slices, of_z: Callable[[float], float]) -> Slices:
    """Replace the z position of all slices."""
    for ds in slices:
        x, y, z = (float(v) for v in ds.ImagePositionPatient)
        ds.ImagePositionPatient = [x, y, round(of_z(z), 4)]
        ds.SliceLocation = round(of_z(z), 4)
    return slices


def load(folder: Path) -> Slices:
    """Read all slices of a folder from the top."""
    return sorted((pydicom.dcmread(p) for p in folder.iterdir()), key=lambda d: -float(d.ImagePositionPatient[2]))


def thin(slices: Slices, step: int = 2) -> Slices:
    """Keep every second slice, with the thickness that belongs to it."""
    kept = slices[::step]
    return change(kept, SliceThickness=str(2 * step), InstanceNumber=lambda number: number + 1)


def nifti_of(slices: Slices) -> tuple[NDArray[np.int16], NDArray[np.float64]]:
    """Return HU (x, y, z) and affine of slices given from the top."""
    bottom_up = slices[::-1]
    hu = np.stack([stored(ds).astype(np.int16).T - 1024 for ds in bottom_up], axis=2).astype(np.int16)
    x, y, z = (float(v) for v in bottom_up[0].ImagePositionPatient)
    row, column = (float(v) for v in bottom_up[0].PixelSpacing)
    step = float(bottom_up[1].ImagePositionPatient[2]) - z
    affine = np.diag([-column, -row, step, 1.0])
    affine[:3, 3] = -x, -y, z
    return hu, affine


def small(folder: Path, number: int = 0, slices: int = 6, **elements: Any) -> Path:
    """Write a small study that is refused while reading, since a slice is missing, so that no network is run."""
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian

    folder.mkdir(parents=True, exist_ok=True)
    root = f"1.2.826.0.1.3680043.10.{number + 1}"
    y, x = np.mgrid[:64, :64]
    for k in (k for k in range(slices + 1) if k != 3):
        ds = Dataset()
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = CTImageStorage
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID = UID(f"{root}.9.{k + 1}")
        ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = f"{root}.1", f"{root}.2", f"{root}.3"
        ds.Modality, ds.PatientID, ds.PatientName = "CT", f"P{number}", f"P{number}"
        ds.ImageType, ds.KVP, ds.SliceThickness = ["ORIGINAL", "PRIMARY", "AXIAL"], 120, 5
        ds.Rows, ds.Columns, ds.PixelSpacing = 64, 64, [5, 5]
        ds.ImagePositionPatient, ds.ImageOrientationPatient = [0, 0, 5 * k], [1, 0, 0, 0, 1, 0]
        ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PixelRepresentation = 1, "MONOCHROME2", 0
        ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, 12, 11
        ds.RescaleSlope, ds.RescaleIntercept, ds.RescaleType = 1, -1024, "HU"
        ds.InstanceNumber = k + 1
        noise = np.random.default_rng(100 * number + k).normal(0, 8, (64, 64))
        hu = np.where((x - 32) ** 2 + (y - 32) ** 2 < 500, 50 + noise, -1000)
        ds.PixelData = np.clip(hu + 1024, 0, 4095).astype("<u2").tobytes()
        change([ds], **elements)
        ds.save_as(folder / f"IM{k}.dcm", enforce_file_format=True)
    return folder


def rows_of(output: Path) -> list[str]:
    """Return the study names of a summary table."""
    table = output / "summary.csv"
    return [line.split(",")[0] for line in table.read_text().splitlines()[1:]] if table.exists() else []


def fresh(folder: Path) -> Path:
    """Return the folder, empty."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
