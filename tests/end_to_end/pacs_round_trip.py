"""Round trip with Orthanc; run by test_pacs.py in a private network namespace. Writes one JSON fact per scenario.

python pacs_round_trip.py FOLDER
"""

import json
import os
import secrets
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests" / "node"))

import yaml  # noqa: E402
from bench import PLANTED, NodeProcess, ct_images, send, uid, write_settings  # type: ignore[import-not-found]  # noqa: E402
from dicomweb_client.api import DICOMwebClient  # noqa: E402
from pydicom.dataset import Dataset  # noqa: E402
from pynetdicom import AE, evt  # noqa: E402
from pynetdicom.sop_class import (  # type: ignore[attr-defined]  # noqa: E402
    CTImageStorage,
    SecondaryCaptureImageStorage,
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelMove,
    Verification,
)

HTTP, DICOM, NODE, SINK = 18042, 14242, 11113, 11114
WEB = f"http://127.0.0.1:{HTTP}/dicom-web"
PLUGINS = Path("/usr/share/orthanc/plugins")


class Orthanc:
    """A throw-away Orthanc, as notes on PACS tests describe it."""

    def __init__(self, folder: Path) -> None:
        self.password = secrets.token_hex(12)
        self._config = folder / "orthanc.json"
        node = {"Host": "127.0.0.1", "AllowEcho": True, "AllowStore": True, "AllowFind": True, "AllowMove": True}
        settings = {
            "StorageDirectory": str(folder / "db"), "IndexDirectory": str(folder / "db"), "HttpPort": HTTP,
            "DicomPort": DICOM, "DicomAet": "LABPACS", "AuthenticationEnabled": True, "RemoteAccessAllowed": False,
            "Plugins": [str(PLUGINS / f"libOrthanc{name}.so") for name in ("DicomWeb", "Gdcm")],
            "RegisteredUsers": {"lab": self.password}, "DicomCheckCalledAet": True, "DicomCheckModalityHost": True,
            "DicomAlwaysAllowEcho": False, "DicomAlwaysAllowStore": False, "UnknownSopClassAccepted": True,
            "OverwriteInstances": False, "StableAge": 2, "ExecuteLuaEnabled": False,
            "DicomModalities": {
                "node": node | {"AET": "OSTEO", "Port": NODE}, "ct": node | {"AET": "CT1", "Port": 11999},
                "sink": node | {"AET": "SINK", "Port": SINK},
            },
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/", "EnableWado": True, "Ssl": False},
        }  # fmt: skip
        self._config.write_text(json.dumps(settings))
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(
            ["Orthanc", str(self._config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        assert wait(lambda: self.get("/system")), "Orthanc does not start"

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def get(self, path: str, body: object = None) -> Any:
        request = Request(f"http://127.0.0.1:{HTTP}{path}", None if body is None else json.dumps(body).encode())
        request.add_header("Authorization", "Basic " + b64encode(f"lab:{self.password}".encode()).decode())
        try:
            with urlopen(request, timeout=30) as answer:
                return json.loads(answer.read() or "null") or True
        except OSError:
            return None

    def instances(self, study: object) -> list[Any]:
        query = {"Level": "Instance", "Query": {"StudyInstanceUID": str(uid("study", study))}, "Expand": True}
        found = self.get("/tools/find", query)
        return found if isinstance(found, list) else []

    def forward(self, study: object) -> bool:
        found = self.get("/tools/find", {"Level": "Study", "Query": {"StudyInstanceUID": str(uid("study", study))}})
        return self.get("/modalities/node/store", found) is not None


def wait(condition: Callable[[], object], seconds: float = 30) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if condition():
            return True
        time.sleep(0.1)
    return bool(condition())


def results(orthanc: Orthanc, study: object) -> int:
    return sum(
        "ImageComments" in item["MainDicomTags"] or is_result(orthanc, item) for item in orthanc.instances(study)
    )


def is_result(orthanc: Orthanc, item: Any) -> bool:
    tags = orthanc.get(f"/instances/{item['ID']}/simplified-tags")
    return "ImageComments" in tags and tags["ImageComments"].endswith(tuple("0123456789"))


def rejected(port: int, calling: str, called: str) -> bool:
    entity = AE(calling)
    entity.add_requested_context(Verification)
    association = entity.associate("127.0.0.1", port, ae_title=called)
    if association.is_established:
        association.release()
    return bool(association.is_rejected)


def moved(study: object) -> int:
    """C-MOVE a study from Orthanc to a storage SCP; return the number of objects that arrived."""
    received: list[str] = []
    sink = AE("SINK")
    for sop_class in (CTImageStorage, SecondaryCaptureImageStorage):
        sink.add_supported_context(sop_class)

    def store(event: evt.Event) -> int:
        received.append(str(event.dataset.SOPInstanceUID))
        return 0

    server = sink.start_server(("127.0.0.1", SINK), block=False, evt_handlers=[(evt.EVT_C_STORE, store)])
    entity = AE("OSTEO")
    entity.add_requested_context(StudyRootQueryRetrieveInformationModelMove)
    association = entity.associate("127.0.0.1", DICOM, ae_title="LABPACS")
    query = Dataset()
    query.QueryRetrieveLevel, query.StudyInstanceUID = "STUDY", uid("study", study)
    list(association.send_c_move(query, "SINK", StudyRootQueryRetrieveInformationModelMove))
    association.release()
    if server is not None:
        server.shutdown()
    return len(set(received))


def found_by_c_find(study: object) -> int:
    entity = AE("OSTEO")
    entity.add_requested_context(StudyRootQueryRetrieveInformationModelFind)
    association = entity.associate("127.0.0.1", DICOM, ae_title="LABPACS")
    query = Dataset()
    query.QueryRetrieveLevel, query.StudyInstanceUID, query.SeriesInstanceUID = "SERIES", uid("study", study), ""
    answers = list(association.send_c_find(query, StudyRootQueryRetrieveInformationModelFind))
    association.release()
    return sum(identifier is not None for _, identifier in answers)


def certificates(folder: Path) -> dict[str, str]:
    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)

    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=ca", "-keyout", "ca.key",
            "-out", "ca.pem")  # fmt: skip
    for name in ("node", "client"):
        openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", "csr")
        openssl("x509", "-req", "-in", "csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2",
                "-out", f"{name}.pem")  # fmt: skip
    return {
        "certificate": str(folder / "node.pem"), "key": str(folder / "node.key"), "authorities": str(folder / "ca.pem"),
    }  # fmt: skip


def change(settings: Path, **changes: Any) -> Path:
    values = yaml.safe_load(settings.read_text())
    for name, value in changes.items():
        values[name] = values[name] | value if isinstance(values.get(name), dict) and value else value
    settings.write_text(yaml.safe_dump(values))
    return settings


def main(folder: Path) -> dict[str, object]:
    facts: dict[str, object] = {}
    orthanc = Orthanc(folder)
    os.environ |= {"PACS_USER": "lab", "PACS_PASSWORD": orthanc.password}
    pacs = {
        "kind": "c-store", "name": "pacs", "ae_title": "LABPACS", "host": "127.0.0.1", "port": DICOM, "seconds": 10,
        "commitment": True, "commitment_seconds": 20,
    }  # fmt: skip
    settings = write_settings(folder, DICOM, NODE, 18104)
    change(
        settings, destinations=[pacs], receiver={"calling_ae_titles": ["LABPACS", "CT1"], "other_objects": "discard"}
    )
    node = NodeProcess(settings)
    assert node.wait_until(node.healthy, 30), node.log.read_text()

    # the CT in the PACS, from there to the node, the result back
    facts["ct in the pacs"] = send(DICOM, ct_images(1), "CT1", "LABPACS")
    facts["echo from the pacs"] = orthanc.get("/modalities/node/echo", {}) is not None
    facts["forwarded"] = orthanc.forward(1)
    facts["result is in the pacs"] = wait(lambda: results(orthanc, 1) == 1)
    facts["committed"] = wait(lambda: node.counts()["deliveries"] == {"done": 1})

    # read it as others do
    client = DICOMwebClient(WEB)
    client._session.auth = ("lab", orthanc.password)
    series = client.search_for_series(str(uid("study", 1)))
    facts["series by QIDO"] = len(series)
    found = client.retrieve_study(str(uid("study", 1)))
    objects = [ds for ds in found if ds.SOPClassUID == SecondaryCaptureImageStorage]
    stored = next((folder / "node" / "results").rglob("*.dcm"))
    from pydicom import dcmread

    facts["result by WADO is identical"] = [ds == Dataset(dcmread(stored)) or ds == dcmread(stored) for ds in objects]
    facts["series by C-FIND"] = found_by_c_find(1)
    facts["objects by C-MOVE"] = moved(1)

    # sent again: no second result
    facts["sent again"] = orthanc.forward(1)
    time.sleep(4)
    facts["results after sending again"] = results(orthanc, 1)
    facts["jobs after sending again"] = node.counts()["jobs"]

    # who is refused
    facts["node rejects a wrong calling AE"] = rejected(NODE, "WRONG", "OSTEO")
    facts["node rejects a wrong called AE"] = rejected(NODE, "CT1", "WRONG")
    facts["pacs rejects a wrong AE"] = rejected(DICOM, "WRONG", "LABPACS")

    # the PACS is down while a study is screened, and comes back
    orthanc.kill()
    facts["study while the pacs is down"] = send(NODE, ct_images(2))
    facts["delivery waits"] = wait(lambda: "osteo_node_failures_total{" in node.get("/metrics"))
    orthanc.start()
    facts["result after the pacs is back"] = wait(lambda: results(orthanc, 2) == 1)
    pages = [node.get(page) for page in ("/", "/health", "/metrics")]
    facts["exit code of the node"] = node.stop()

    # STOW-RS, and a node that follows a QIDO query
    web = {"kind": "stow", "name": "web", "url": WEB, "user_variable": "PACS_USER",
           "password_variable": "PACS_PASSWORD"}  # fmt: skip
    follow = {"url": WEB, "user_variable": "PACS_USER", "password_variable": "PACS_PASSWORD", "every_seconds": 1,
              "query": {"ModalitiesInStudy": "CT", "StudyDate": "20260101"}}  # fmt: skip
    change(settings, destinations=[web], folder="following", receiver=None, follow=follow)
    send(DICOM, ct_images(3), "CT1", "LABPACS")
    follower = NodeProcess(settings)
    facts["followed study has a result by STOW-RS"] = follower.wait_until(lambda: results(orthanc, 3) == 1, 40)
    time.sleep(5)
    facts["jobs of the follower"] = follower.counts()["jobs"]
    pages.append(follower.get("/"))
    follower.stop()

    # TLS, against dcmtk
    tls = certificates(folder)
    change(settings, folder="tls", follow=None, destinations=[], receiver={"port": NODE, "tls": tls,
           "calling_ae_titles": ["CT1"], "idle_seconds": 3, "min_free_mib": 0})  # fmt: skip
    secure = NodeProcess(settings)
    assert secure.wait_until(secure.healthy, 30)
    echo = ["echoscu", "-aet", "CT1", "-aec", "OSTEO", "-to", "5", "-td", "5", "-ta", "5"]
    place = ["127.0.0.1", str(NODE)]
    own = ["+tls", str(folder / "client.key"), str(folder / "client.pem")]
    trust = ["+cf", str(folder / "ca.pem"), "-ic"]
    facts["echo with a client certificate"] = subprocess.run([*echo, *own, *trust, *place], timeout=30).returncode
    facts["echo without a certificate"] = subprocess.run([*echo, "+tla", *trust, *place], timeout=30).returncode
    facts["echo without TLS"] = subprocess.run([*echo, *place], timeout=30).returncode
    secure.stop()

    # the command line retrieves a study
    environment = os.environ | {"OSTEO_DICOMWEB_USER": "lab", "OSTEO_DICOMWEB_PASSWORD": orthanc.password}
    address = f"dicomweb+http://127.0.0.1:{HTTP}/dicom-web/studies/{uid('study', 1)}"
    words = [sys.executable, "-m", "osteo_monai", "screen", address, "-o", str(folder / "screened")]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=200)
    facts["exit code of screen"] = done.returncode
    facts["result of screen"] = (folder / "screened" / "result.json").is_file()
    orthanc.kill()

    # no identifier in anything but the DICOM files
    texts = [*pages, node.log.read_text(), done.stdout, done.stderr]
    texts += [path.read_bytes().decode("latin-1") for path in folder.glob("*/queue.sqlite3*")]
    planted = [*PLANTED, str(uid("study", 1)), str(uid("study", 2))]
    result = (folder / "screened" / "result.json").read_text()  # holds the UIDs of the study, and no name
    leaks = {name for text in texts for name in planted if name in text} | {name for name in PLANTED if name in result}
    facts["identifiers"] = sorted(leaks)
    return facts


if __name__ == "__main__":
    target = Path(sys.argv[1])
    (target / "facts.json").write_text(json.dumps(main(target)))
