"""Options of radiographs on the command line: one sentence for each mistake."""

from pathlib import Path

import pydicom
import pytest
import torch
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from osteo_monai import cli


def png(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (300, 280), 100).save(path)
    return path


def ct_slice(path: Path) -> Path:
    header = Dataset()
    header.SOPClassUID, header.Modality = CTImageStorage, "CT"
    header.SOPInstanceUID, header.SeriesInstanceUID, header.StudyInstanceUID = (generate_uid() for _ in range(3))
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header.file_meta.MediaStorageSOPClassUID = header.SOPClassUID
    header.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID
    pydicom.dcmwrite(path, header, enforce_file_format=True)
    return path


def run(path: Path, output: Path, *words: str) -> int:
    return cli.run(["screen", str(path), "-o", str(output), "--device", "cpu", *words])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--age", "150"], "age must be between 0 and 120 years, got 150"),
        (["--height", "1.6"], "height must be between 30 and 250 cm, got 1.6"),
        (["--weight", "nan"], "weight must be between 1 and 400 kg, got nan"),
        (["--sex", "x"], "--sex must be female, male, F or M, got 'x'"),
        (["--view", "hand"], "--view must be chest_frontal, lumbar_ap or lumbar_lateral, got 'hand'"),
        (["--levels", "L1", "--kvp", "100"], "--levels and --kvp must be left out for radiographs"),
        pytest.param(
            ["--device", "cuda"],
            "--device must be a device of this machine",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device"),
        ),
    ],
)
def test_wrong_options_are_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    code = run(png(tmp_path / "a.png"), tmp_path / "out", *words)
    assert code == 2
    assert not (tmp_path / "out" / "result.json").exists()
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_options_of_a_person_are_refused_for_many(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    png(tmp_path / "in" / "a.png")
    png(tmp_path / "in" / "b.png")
    code = run(tmp_path / "in", tmp_path / "out", "--age", "70", "--sex", "male")
    assert code == 2
    assert "--age and --sex must be left out for many studies" in capsys.readouterr().err


def test_options_of_radiographs_are_refused_for_ct(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = run(ct_slice(tmp_path / "ct.dcm"), tmp_path / "out", "--age", "70")
    assert code == 2
    assert "--age must be left out for CT" in capsys.readouterr().err
