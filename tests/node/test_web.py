"""DICOMweb: addresses, search, retrieval, STOW-RS and its answers; with a server of the standard library."""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import SecondaryCaptureImageStorage

from osteo_monai.errors import ConfigError, UnusableInputError
from osteo_monai.node import Queue, downloaded, is_remote, parse_remote
from osteo_monai.node.config import Follow, StowDestination
from osteo_monai.node.delivery import DeliveryError, StowSender
from osteo_monai.node.follow import Follower
from osteo_monai.node.spool import Spool, SpoolLimits
from osteo_monai.node.uids import hashed

from .bench import PLANTED, ct_image, ct_images, uid


class Web:
    """A DICOMweb service that answers from lists.

    Attributes:
        studies: images by study.
        requests: paths with their queries.
        status: HTTP status of all answers.
        answer: of STOW-RS; gets the SOPInstanceUID.
    """

    def __init__(self) -> None:
        self.studies: dict[str, list[Dataset]] = {}
        self.requests: list[str] = []
        self.authorization: list[str | None] = []
        self.status = 200
        self.answer: Callable[[Dataset], Dataset] = stored
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.get(self)

            def do_POST(self) -> None:
                outer.post(self)

            def log_message(self, *arguments: Any) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/dicom-web"

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def send(self, handler: BaseHTTPRequestHandler, kind: str, body: bytes) -> None:
        handler.send_response(self.status)
        handler.send_header("Content-Type", kind)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    def get(self, handler: BaseHTTPRequestHandler) -> None:
        self.requests.append(handler.path)
        self.authorization.append(handler.headers.get("Authorization"))
        parts = urlsplit(handler.path)
        if parts.path.endswith("/studies"):
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            first = int(query.get("offset", 0))
            found = list(self.studies.items())[first : first + int(query.get("limit", 100))]
            self.send(handler, "application/dicom+json", json.dumps([summary(*item) for item in found]).encode())
            return
        body = b""
        for image in self.studies[parts.path.split("/")[3]]:
            buffer = BytesIO()
            image.save_as(buffer, enforce_file_format=True)
            body += b"--b\r\nContent-Type: application/dicom\r\n\r\n" + buffer.getvalue() + b"\r\n"
        self.send(handler, 'multipart/related; type="application/dicom"; boundary=b', body + b"--b--")

    def post(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers["Content-Length"]))
        start = body.index(b"DICM") - 128
        image = pydicom.dcmread(BytesIO(body[start:]), force=True, stop_before_pixels=True)
        self.send(handler, "application/dicom+json", json.dumps(self.answer(image).to_json_dict()).encode())


def summary(study: str, images: list[Dataset]) -> dict[str, Any]:
    ds = Dataset()
    ds.StudyInstanceUID, ds.NumberOfStudyRelatedInstances = study, len(images)
    found: dict[str, Any] = ds.to_json_dict()
    return found


def reference(image: Dataset) -> Dataset:
    ds = Dataset()
    ds.ReferencedSOPClassUID, ds.ReferencedSOPInstanceUID = image.SOPClassUID, image.SOPInstanceUID
    return ds


def stored(image: Dataset) -> Dataset:
    answer = Dataset()
    answer.ReferencedSOPSequence = [reference(image)]
    answer.FailedSOPSequence = []  # Orthanc writes it empty
    return answer


def failed(image: Dataset) -> Dataset:
    answer = Dataset()
    answer.FailedSOPSequence = [reference(image)]
    return answer


def partly(image: Dataset) -> Dataset:
    answer = stored(image)
    answer.FailedSOPSequence = [reference(image)]
    return answer


@pytest.fixture
def web() -> Iterator[Web]:
    server = Web()
    yield server
    server.stop()


# --- addresses ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "url", "study", "series", "query"),
    [
        ("dicomweb://pacs/studies/1.2", "https://pacs", "1.2", "", {}),
        ("dicomweb:/pacs:1/base/dicom/studies/1.2/series/3.4", "https://pacs:1/base/dicom", "1.2", "3.4", {}),
        ("dicomweb+http://pacs/x/studies?PatientSex=F&StudyDate=2026", "http://pacs/x", "", "",
         {"PatientSex": "F", "StudyDate": "2026"}),
    ],
)  # fmt: skip
def test_addresses(text: str, url: str, study: str, series: str, query: dict[str, str]) -> None:
    remote = parse_remote(text)
    assert (remote.server.url, remote.study, remote.series, remote.query) == (url, study, series, query)
    assert is_remote(Path(text)), "a path of the command line has one slash"


@pytest.mark.parametrize(
    "text",
    ["dicomweb://", "dicomweb://pacs", "dicomweb://pacs/studies", "dicomweb://pacs/studies/../x", "dicomweb:///studies/1",
     "dicomweb://me:secret@pacs/studies/1.2", "dicomweb://pacs/studies/1.2/instances/3"],
)  # fmt: skip
def test_wrong_addresses(text: str) -> None:
    with pytest.raises(ConfigError, match="STUDY must"):
        parse_remote(text)


def test_credentials_of_the_environment(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OSTEO_DICOMWEB_TOKEN", "t0ken")
    web.studies["1.2"] = ct_images(1, 1)
    with downloaded(parse_remote(web.url.replace("http", "dicomweb+http") + "/studies/1.2")):
        pass
    assert web.authorization == ["Bearer t0ken"]


# --- retrieval ----------------------------------------------------------------------------------------------------


def test_study_is_retrieved_with_images_only(web: Web) -> None:
    result = ct_image(1, 9)
    result.SOPClassUID = result.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    images = ct_images(1, 3)
    web.studies["1.2"] = [*images, result]
    with downloaded(parse_remote(web.url.replace("http", "dicomweb+http") + "/studies/1.2")) as folder:
        read = {ds.SOPInstanceUID: ds for ds in map(pydicom.dcmread, folder.iterdir())}
        assert [read[image.SOPInstanceUID] == image for image in images] == [True] * 3
        assert len(read) == 3
    assert not folder.exists()


def test_search_retrieves_all_pages(web: Web) -> None:
    for number in range(103):
        web.studies[f"1.{number}"] = ct_images(number, 1)
    address = web.url.replace("http", "dicomweb+http") + "/studies?StudyDate=20260101"
    with downloaded(parse_remote(address)) as folder:
        assert len(list(folder.iterdir())) == 103
    assert sum("StudyDate=20260101" in path for path in web.requests) == 2


@pytest.mark.parametrize(("status", "reason"), [(404, "HTTP status 404"), (503, "HTTP status 503")])
def test_errors_of_the_service_name_no_study(web: Web, status: int, reason: str) -> None:
    web.studies[str(uid("study", 1))] = ct_images(1, 1)
    web.status = status
    address = web.url.replace("http", "dicomweb+http") + f"/studies/{uid('study', 1)}"
    with pytest.raises(UnusableInputError, match=reason) as caught, downloaded(parse_remote(address)):
        pass
    assert str(uid("study", 1)) not in str(caught.value)


def test_service_that_is_down(web: Web) -> None:
    web.stop()
    address = web.url.replace("http", "dicomweb+http") + "/studies/1.2"
    with pytest.raises(UnusableInputError, match="must accept connections"), downloaded(parse_remote(address)):
        pass


def test_follower_retrieves_what_is_new(web: Web, tmp_path: Path) -> None:
    queue = Queue(tmp_path / "queue.sqlite3")
    spool = Spool(tmp_path, queue, SpoolLimits(0, 100, 10**9))
    follower = Follower(Follow(url=web.url, query={"ModalitiesInStudy": "CT"}), queue, spool, threading.Event())
    study = str(uid("study", 1))
    web.studies[study] = ct_images(1, 2)
    assert [follower.search(), follower.search()] == [1, 0]
    web.studies[study] = ct_images(1, 3)
    assert follower.search() == 1
    assert queue.study_size(hashed(study))[0] == 3
    assert "ModalitiesInStudy=CT" in web.requests[0]
    assert "StudyDate=" in web.requests[0]


def test_follower_skips_a_study_with_images_of_another(web: Web, tmp_path: Path) -> None:
    queue = Queue(tmp_path / "queue.sqlite3")
    spool = Spool(tmp_path, queue, SpoolLimits(0, 100, 10**9))
    web.studies |= {"1.2": ct_images(1, 1), str(uid("study", 2)): ct_images(2, 1)}
    follower = Follower(Follow(url=web.url), queue, spool, threading.Event())
    assert follower.search() == 1
    web.status = 500
    assert follower.search() == 0


# --- STOW-RS ------------------------------------------------------------------------------------------------------


@pytest.fixture
def result(tmp_path: Path) -> Path:
    ct_image(1, 0).save_as(tmp_path / "a.dcm", enforce_file_format=True)
    return tmp_path / "a.dcm"


def sender(web: Web) -> StowSender:
    return StowSender(StowDestination(kind="stow", name="web", url=web.url, seconds=5))


def test_stored_object_is_delivered(web: Web, result: Path) -> None:
    assert [sent.reason for sent in sender(web).send([result])] == [""]


@pytest.mark.parametrize("answer", [failed, partly, lambda image: Dataset()])
def test_answer_must_name_the_object_as_stored(web: Web, result: Path, answer: Callable[[Dataset], Dataset]) -> None:
    web.answer = answer
    (sent,) = sender(web).send([result])
    assert sent.reason == "the answer of STOW-RS does not name the object as stored"


def test_refused_object_does_not_stop_the_others(web: Web, result: Path) -> None:
    web.status = 409
    assert [sent.reason for sent in sender(web).send([result, result])] == ["HTTP status 409"] * 2


@pytest.mark.parametrize("status", [401, 403, 500, 503])
def test_service_that_refuses_everything_is_tried_later(web: Web, result: Path, status: int) -> None:
    web.status = status
    with pytest.raises(DeliveryError, match=f"HTTP status {status}") as caught:
        list(sender(web).send([result]))
    assert not [word for word in PLANTED if word in str(caught.value)]
