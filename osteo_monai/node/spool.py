"""Files of the node: received images, quarantine, working folders, results.

Names are hashes of UIDs. An image is on the disk (fsync of the file and of its folder) and in the queue before
:meth:`Spool.store` returns.
"""

import errno
import hashlib
import os
import shutil
import threading
from dataclasses import dataclass
from enum import Enum
from io import BytesIO
from pathlib import Path
from typing import Any

import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_file_meta_info
from pydicom.tag import Tag
from pydicom.uid import PYDICOM_IMPLEMENTATION_UID, UID

from osteo_monai.errors import UnusableInputError
from osteo_monai.node.queue import Image, Job, Queue
from osteo_monai.node.uids import hashed, is_uid
from osteo_monai.utils.files import sync, writing

__all__ = ["DicomObject", "NoSpaceError", "Spool", "SpoolLimits", "Stored", "read_object"]

_WANTED: list[Any] = [Tag(n) for n in ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")]
_LAST_READ = Tag("SeriesInstanceUID")
_PREAMBLE = bytes(128) + b"DICM"
_COMPARED = 256 * 2**20
_LOCKS = 64


class NoSpaceError(OSError):
    """The disk is full, or the study has reached a limit."""

    def __init__(self, reason: str) -> None:
        super().__init__(errno.ENOSPC, reason)


class Stored(Enum):
    """What was done with an object."""

    NEW = "new"
    KNOWN = "known"
    QUARANTINED = "quarantined"


@dataclass(frozen=True)
class SpoolLimits:
    """Free bytes that stay on the disk; most images and bytes of one study."""

    min_free: int
    study_images: int
    study_bytes: int


@dataclass(frozen=True)
class DicomObject:
    """One received object: its UIDs, checked, and the encoded data set without file meta information."""

    sop_class: str
    instance: str
    study: str
    transfer_syntax: str
    content: memoryview

    def file_start(self) -> bytes:
        """Return preamble and file meta information."""
        meta = FileMetaDataset()
        meta.FileMetaInformationVersion = b"\x00\x01"
        meta.MediaStorageSOPClassUID = UID(self.sop_class)
        meta.MediaStorageSOPInstanceUID = UID(self.instance)
        meta.TransferSyntaxUID = UID(self.transfer_syntax)
        meta.ImplementationClassUID = PYDICOM_IMPLEMENTATION_UID
        buffer = DicomBytesIO()
        write_file_meta_info(buffer, meta)
        return _PREAMBLE + buffer.getvalue()


def read_object(content: memoryview, transfer_syntax: str) -> DicomObject:
    """Check the UIDs of an encoded data set, of which only the elements up to the SeriesInstanceUID are parsed.

    Raises:
        UnusableInputError: it cannot be parsed, or a UID is missing or is none.
    """
    try:
        with pydicom.config.disable_value_validation():
            header = _parse(content, transfer_syntax, up_to_series=True)
            values = [str(header[tag].value or "") if tag in header else "" for tag in _WANTED]
    # pydicom raises errors of any type on damaged data
    except Exception:  # noqa: BLE001
        raise UnusableInputError("The data set cannot be parsed.") from None
    for tag, value in zip(_WANTED, values, strict=True):
        if not is_uid(value):
            name = pydicom.datadict.keyword_for_tag(tag)
            raise UnusableInputError(f"{name} must be a UID of at most 64 characters.")
    sop_class, instance, study, _ = values
    return DicomObject(sop_class, instance, study, transfer_syntax, content)


def _parse(content: memoryview, transfer_syntax: str, up_to_series: bool = False) -> Dataset:
    syntax = UID(transfer_syntax)
    return read_dataset(
        BytesIO(content),
        syntax.is_implicit_VR,
        syntax.is_little_endian,
        stop_when=(lambda tag, *_: tag > _LAST_READ) if up_to_series else None,
        specific_tags=_WANTED if up_to_series else None,
    )


class Spool:
    """The folder of one node.

    Args:
        folder: of this node only; made if missing, readable by its user only.
        queue: that has a row for each image.
        limits: of what is stored.
    """

    def __init__(self, folder: Path, queue: Queue, limits: SpoolLimits) -> None:
        self._queue = queue
        self._limits = limits
        self._images, self._quarantine = folder / "images", folder / "quarantine"
        self._work, self._results = folder / "work", folder / "results"
        for path in (folder, self._images, self._quarantine, self._work, self._results):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        sync(folder, required=True)
        self._locks = [threading.Lock() for _ in range(_LOCKS)]

    def clean(self) -> None:
        """Remove what a process that was killed left unfinished; called before any other thread starts."""
        for folder in self._work.iterdir():
            shutil.rmtree(folder, ignore_errors=True)
        for root in (self._images, self._quarantine, self._results):
            for temporary in root.rglob(".*"):
                if temporary.is_file():
                    temporary.unlink()

    def free_bytes(self) -> int:
        """Return the free bytes of the disk."""
        return shutil.disk_usage(self._images).free

    # --- images -----------------------------------------------------------------------------------------------------

    def store(self, item: DicomObject, now: float) -> Stored:
        """Store an object safely; an identical one that is stored already changes nothing.

        Raises:
            NoSpaceError: the disk is full, or the study has reached a limit.
        """
        digest = hashlib.sha256(item.content).hexdigest()
        image = Image(hashed(item.instance), hashed(item.study), digest, len(item.content))
        with self._lock(image.study):
            known = self._queue.image(image.image)
            if known is None or not known.present:
                if known is not None and (known.content, known.study) != (digest, image.study):
                    return self._set_apart(item, image, now)
                return self._keep(item, image, known, now)
            if known.study == image.study and (known.content == digest or self._same(item, known)):
                return Stored.KNOWN
            return self._set_apart(item, image, now)

    def _keep(self, item: DicomObject, image: Image, known: Image | None, now: float) -> Stored:
        images, size = self._queue.study_size(image.study)
        if known is None and images >= self._limits.study_images:
            raise NoSpaceError("the study has too many images")
        if known is None and size + image.size > self._limits.study_bytes:
            raise NoSpaceError("the study is too large")
        self._write(item, self._image_path(image))
        self._queue.add_image(image, now)
        return Stored.NEW if known is None else Stored.KNOWN

    def _set_apart(self, item: DicomObject, image: Image, now: float) -> Stored:
        self._write(item, _quarantined(self._quarantine, image.image, image.content))
        self._queue.add_quarantine(image, now)
        return Stored.QUARANTINED

    def _write(self, item: DicomObject, path: Path) -> None:
        start = item.file_start()
        if self.free_bytes() < self._limits.min_free + len(item.content):
            raise NoSpaceError("the disk is full")
        if not path.parent.exists():
            path.parent.mkdir(mode=0o700)
            sync(path.parent.parent, required=True)
        with writing(path, durable=True) as temporary, temporary.open("wb") as stream:
            stream.write(start)
            stream.write(item.content)

    def _same(self, item: DicomObject, known: Image) -> bool:
        """Return whether an object equals the stored one, which another encoding of the elements may hide."""
        if max(known.size, len(item.content)) > _COMPARED:
            return False
        try:
            stored = pydicom.dcmread(self._image_path(known))
            return bool(_parse(item.content, item.transfer_syntax) == Dataset(stored))
        # pydicom raises errors of any type on damaged data
        except Exception:  # noqa: BLE001
            return False

    def _lock(self, study: str) -> threading.Lock:
        return self._locks[int(study[:4], 16) % _LOCKS]

    def _image_path(self, image: Image) -> Path:
        return self._images / image.study / f"{image.image}.dcm"

    def remove_images(self, study: str) -> bool:
        """Remove the files of a study, unless it has new images."""
        with self._lock(study):
            removed = self._queue.images_removed(study)
            if removed:
                shutil.rmtree(self._images / study, ignore_errors=True)
        return removed

    def remove_quarantine(self, image: str, content: str) -> None:
        """Remove one object in quarantine."""
        _quarantined(self._quarantine, image, content).unlink(missing_ok=True)

    # --- screenings -------------------------------------------------------------------------------------------------

    def prepare(self, job: Job) -> tuple[Path, Path]:
        """Make the folders of one attempt: the images of the study (hard links), and an empty one for the output."""
        folder = self._work / f"{job.job}-{job.attempts}"
        shutil.rmtree(folder, ignore_errors=True)
        images, output = folder / "input", folder / "output"
        images.mkdir(parents=True)
        output.mkdir()
        for image in job.images:
            os.link(self._image_path(image), images / f"{image.image}.dcm")
        return images, output

    def keep_result(self, job: Job, output: Path) -> Path:
        """Move the output of a screening to its place, safely on the disk; what an earlier attempt left is replaced."""
        target = self.result_folder(job.study, job.version)
        for folder, _, files in os.walk(output):
            for path in (*(Path(folder, name) for name in files), Path(folder)):
                sync(path, required=True)
        shutil.rmtree(target, ignore_errors=True)
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.replace(output, target)
        sync(target.parent, required=True)
        sync(self._results, required=True)
        return target

    def discard(self, job: Job) -> None:
        """Remove the folders of one attempt."""
        shutil.rmtree(self._work / f"{job.job}-{job.attempts}", ignore_errors=True)

    def result_folder(self, study: str, version: int) -> Path:
        """Return the folder of one result."""
        return self._results / study / str(version)

    def remove_results(self, study: str) -> None:
        """Remove all results of a study."""
        shutil.rmtree(self._results / study, ignore_errors=True)


def _quarantined(folder: Path, image: str, content: str) -> Path:
    return folder / f"{image}-{content[:16]}.dcm"
