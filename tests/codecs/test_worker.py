"""The choice of the codec, and that it is exact."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.utils import iter_pixels
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian, JPEGLSLossless

from osteo_monai.codecs import worker


def jpeg_ls(path: Path) -> NDArray[np.uint16]:
    """Write a CT slice in JPEG-LS and return its values."""
    values = np.random.default_rng(0).integers(0, 3000, (64, 48)).astype(np.uint16)
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = CTImageStorage
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID = UID("1.2.3")
    ds.Rows, ds.Columns, ds.SamplesPerPixel, ds.PhotometricInterpretation = 64, 48, 1, "MONOCHROME2"
    ds.BitsAllocated = ds.BitsStored = 16
    ds.HighBit, ds.PixelRepresentation = 15, 0
    ds.PixelData = values.tobytes()
    ds.compress(JPEGLSLossless, encoding_plugin="pyjpegls")
    ds.save_as(path, enforce_file_format=True)
    return values


def test_jpeg_ls_is_decoded_by_the_fast_codec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both can decode it; pylibjpeg takes several times as long."""
    used = []

    def spy(dataset: Dataset, decoding_plugin: str) -> Iterator[NDArray[np.generic]]:
        used.append(decoding_plugin)
        return iter_pixels(dataset, decoding_plugin=decoding_plugin)

    monkeypatch.setattr("osteo_monai.codecs.worker.iter_pixels", spy)
    values = jpeg_ls(tmp_path / "slice.dcm")
    job = worker.Job(path=str(tmp_path / "slice.dcm"), frames=1, rows=64, columns=48)
    np.testing.assert_array_equal(next(worker.decode_frames(job)), values)
    assert used == ["pyjpegls"]
    assert "pyjpegls" in get_decoder(JPEGLSLossless).available_plugins
