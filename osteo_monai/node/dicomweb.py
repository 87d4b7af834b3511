"""Studies of a DICOMweb service: addresses of the form ``dicomweb://HOST/...``, search and retrieval."""

import os
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from dicomweb_client.api import DICOMwebClient
from pydicom.dataset import Dataset
from pynetdicom.dsutils import encode

from osteo_monai.errors import ConfigError, UnusableInputError
from osteo_monai.node.config import WebServer
from osteo_monai.node.receiver import ACCEPTED_CLASSES
from osteo_monai.node.spool import DicomObject, read_object
from osteo_monai.node.uids import hashed, is_uid
from osteo_monai.node.web import web_client, web_errors
from osteo_monai.utils.files import write_bytes

__all__ = ["RemoteStudies", "downloaded", "find_studies", "is_remote", "parse_remote", "retrieve"]

_ADDRESS = re.compile(r"(dicomweb(?:\+http)?):/{1,2}(.+)", re.DOTALL)
_FORM = "dicomweb://HOST[:PORT]/ROOT/studies/UID[/series/UID] or dicomweb://HOST[:PORT]/ROOT/studies?ATTRIBUTE=VALUE"
_USER, _PASSWORD, _TOKEN = "OSTEO_DICOMWEB_USER", "OSTEO_DICOMWEB_PASSWORD", "OSTEO_DICOMWEB_TOKEN"
_AUTHORITIES = "OSTEO_DICOMWEB_CA"
_PAGE = 100


@dataclass(frozen=True)
class RemoteStudies:
    """Studies of a service: one by its UID, or those that a search finds.

    Attributes:
        server: the service.
        study: StudyInstanceUID; empty for a search.
        series: SeriesInstanceUID; empty for all series.
        query: attributes of the search.
    """

    server: WebServer
    study: str = ""
    series: str = ""
    query: dict[str, str] = field(default_factory=dict)


def is_remote(path: os.PathLike[str] | str) -> bool:
    """Return whether a path is the address of a DICOMweb service.

    Example:
        >>> is_remote("dicomweb://pacs/dicom-web/studies/1.2.3"), is_remote("scan.nii.gz")
        (True, False)
    """
    return _ADDRESS.fullmatch(os.fspath(path)) is not None


def parse_remote(path: os.PathLike[str] | str) -> RemoteStudies:
    """Return the studies that an address names; the scheme is HTTPS, or HTTP for ``dicomweb+http://``.

    Credentials are those of the environment variables ``OSTEO_DICOMWEB_USER`` and ``OSTEO_DICOMWEB_PASSWORD``, or
    ``OSTEO_DICOMWEB_TOKEN``; ``OSTEO_DICOMWEB_CA`` names a file of certificate authorities.

    Raises:
        ConfigError: the address has another form.

    Example:
        >>> remote = parse_remote("dicomweb://pacs:8042/dicom-web/studies/1.2.3")
        >>> remote.server.url, remote.study
        ('https://pacs:8042/dicom-web', '1.2.3')
    """
    found = _ADDRESS.fullmatch(os.fspath(path))
    parts = urlsplit(f"//{found[2]}") if found else None
    place = re.fullmatch(r"(.*?)/studies(?:/([^/]+)(?:/series/([^/]+))?)?", parts.path) if parts else None
    if not found or not parts or not parts.hostname or not place or "@" in parts.netloc:
        raise ConfigError(f"STUDY must be {_FORM}")
    for uid in place.groups()[1:]:
        if uid is not None and not is_uid(uid):
            raise ConfigError("STUDY must have UIDs of digits and points after studies/ and series/")
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    if not place[2] and not query:
        raise ConfigError(f"STUDY must name a study or a search, such as {_FORM}")
    return RemoteStudies(_server(found[1], parts.netloc + place[1]), place[2] or "", place[3] or "", query)


def _server(scheme: str, place: str) -> WebServer:
    names = os.environ
    return WebServer(
        url=f"{'http' if scheme.endswith('http') else 'https'}://{place}",
        user_variable=_USER if names.get(_USER) else None,
        password_variable=_PASSWORD if names.get(_USER) else None,
        token_variable=_TOKEN if names.get(_TOKEN) and not names.get(_USER) else None,
        authorities=Path(names[_AUTHORITIES]) if names.get(_AUTHORITIES) else None,
    )


def find_studies(client: DICOMwebClient, query: dict[str, str], most: int) -> list[tuple[str, int]]:
    """Return StudyInstanceUID and number of instances (0 if not stated) of the studies that a search finds.

    Raises:
        WebError: the service does not answer as it should.
    """
    found: dict[str, int] = {}
    with web_errors(client.base_url):
        while len(found) < most:
            page = client.search_for_studies(
                search_filters=query,
                fields=["NumberOfStudyRelatedInstances"],
                limit=min(_PAGE, most - len(found)),
                offset=len(found),
            )
            before = len(found)
            for item in map(Dataset.from_json, page):
                uid = str(item.get("StudyInstanceUID", ""))
                if is_uid(uid):
                    found[uid] = int(item.get("NumberOfStudyRelatedInstances", 0) or 0)
            if len(page) < _PAGE or len(found) == before:
                break
    return list(found.items())


def retrieve(client: DICOMwebClient, study: str, series: str = "") -> Iterator[DicomObject]:
    """Yield the images of a study, or of one of its series, that can be screened.

    Raises:
        WebError: the service does not answer as it should.
        UnusableInputError: an object cannot be parsed.
    """
    with web_errors(client.base_url):
        parts = client.iter_series(study, series) if series else client.iter_study(study)
        for dataset in parts:
            if dataset.get("SOPClassUID", "") not in ACCEPTED_CLASSES:
                continue
            syntax = dataset.file_meta.TransferSyntaxUID
            content = encode(dataset, syntax.is_implicit_VR, syntax.is_little_endian, syntax.is_deflated)
            if content is None:
                raise UnusableInputError("An object of the DICOMweb service cannot be encoded.")
            yield read_object(memoryview(content), str(syntax))


@contextmanager
def downloaded(remote: RemoteStudies, on_object: Callable[[int], None] = lambda number: None) -> Iterator[Path]:
    """Retrieve studies into a temporary folder, one folder each, which is removed at the end of the block.

    Args:
        remote: which studies.
        on_object: called with the number of objects so far.

    Raises:
        UnusableInputError: no study or no image was found, or the service does not answer as it should.
    """
    client = web_client(remote.server)
    studies = [remote.study] if remote.study else [uid for uid, _ in find_studies(client, remote.query, 10_000)]
    if not studies:
        raise UnusableInputError("The search of the DICOMweb service must find a study, got none.")
    with tempfile.TemporaryDirectory(prefix="osteo_monai_") as temporary:
        root = Path(temporary, "dicomweb")
        number = 0
        for study in studies:
            for item in retrieve(client, study, remote.series):
                path = root / hashed(study)[:12] / f"{hashed(item.instance)}.dcm"
                write_bytes(path, item.file_start() + bytes(item.content))
                number += 1
                on_object(number)
        if not number:
            raise UnusableInputError("The study of the DICOMweb service must have CT or radiographs, got none.")
        yield root if len(studies) > 1 else root / hashed(studies[0])[:12]
