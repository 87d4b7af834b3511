"""The receiver: admission, identity, limits, disk; with pynetdicom on loopback."""

import logging
import os
import socket
import ssl
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pydicom
import pynetdicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.dsutils import encode
from pynetdicom.sop_class import EncapsulatedPDFStorage, SecondaryCaptureImageStorage, Verification  # type: ignore[attr-defined]

from osteo_monai.errors import ConfigError
from osteo_monai.node.config import Receiver, ServerTLS
from osteo_monai.node.queue import Queue
from osteo_monai.node.receiver import DicomReceiver
from osteo_monai.node.spool import Spool, SpoolLimits
from osteo_monai.node.uids import hashed

from .bench import PLANTED, ct_image, ct_images, send, uid

MIB = 2**20
Start = Callable[..., DicomReceiver]


class Place:
    """Folder, queue and spool of one test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.queue = Queue(folder / "queue.sqlite3")
        self.limits = SpoolLimits(0, 1000, 100 * MIB)
        self.events: list[str] = []

    def files(self, name: str) -> list[Path]:
        return sorted(path for path in (self.folder / name).rglob("*") if path.is_file())


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture
def start(place: Place) -> Iterator[Start]:
    running: list[DicomReceiver] = []

    def _start(**settings: Any) -> DicomReceiver:
        values = {"port": 0, "calling_ae_titles": ("CT1",), "idle_seconds": 2} | settings
        spool = Spool(place.folder, place.queue, place.limits)
        receiver = DicomReceiver(Receiver(**values), spool, count=place.events.append)
        receiver.start()
        running.append(receiver)
        return receiver

    yield _start
    for receiver in running:
        receiver.stop()


def associated(receiver: DicomReceiver, ae_title: str = "CT1", called: str = "OSTEO", **keywords: Any) -> Any:
    entity = AE(ae_title)
    entity.add_requested_context(Verification)
    entity.add_requested_context(CTImageStorage, [ExplicitVRLittleEndian])
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 5
    return entity.associate("127.0.0.1", receiver.port, ae_title=called, **keywords)


def wait(condition: Callable[[], bool], seconds: float = 5) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if condition():
            return True
        time.sleep(0.02)
    return condition()


# --- storage ------------------------------------------------------------------------------------------------------


def test_echo(start: Start) -> None:
    association = associated(start())
    assert association.send_c_echo().Status == 0
    association.release()


def test_stored_images_are_readable_and_equal(start: Start, place: Place) -> None:
    images = ct_images(1, 3)
    assert send(start().port, images) == [0, 0, 0]
    read = {str(ds.SOPInstanceUID): ds for ds in map(pydicom.dcmread, place.files("images"))}
    assert [read[str(image.SOPInstanceUID)] == image for image in images] == [True] * 3
    names = {path.name for path in place.files("images")}
    assert names == {f"{hashed(str(image.SOPInstanceUID))}.dcm" for image in images}
    assert place.queue.study_size(hashed(str(images[0].StudyInstanceUID)))[0] == 3


def test_success_follows_the_flush_of_file_and_folder(
    start: Start, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    fsync, replace = os.fsync, os.replace

    def flushed(descriptor: int) -> None:
        order.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        fsync(descriptor)

    def renamed(old: Path, new: Path) -> None:
        order.append("rename")
        replace(old, new)

    monkeypatch.setattr(os, "fsync", flushed)
    monkeypatch.setattr(os, "replace", renamed)
    assert send(start().port, ct_images(1, 1)) == [0]
    (file,) = place.files("images")
    at = order.index("rename")
    assert order[at - 1].startswith(f"{file.parent}/.")
    assert order[at + 1] == str(file.parent)


def test_redelivery_changes_nothing(start: Start, place: Place) -> None:
    receiver = start()
    for _ in range(3):
        assert send(receiver.port, ct_images(1, 2)) == [0, 0]
    assert place.events.count("new") == 2
    assert place.events.count("known") == 4


def test_redelivery_in_another_encoding_is_the_same_image(start: Start, place: Place) -> None:
    receiver = start()
    image = ct_image(1, 0)
    assert send(receiver.port, [image]) == [0]
    entity = AE("CT1")
    entity.add_requested_context(CTImageStorage, ImplicitVRLittleEndian)
    association = entity.associate("127.0.0.1", receiver.port, ae_title="OSTEO")
    image.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    assert association.send_c_store(image).Status == 0
    association.release()
    assert place.events == ["new", "known"]


def test_other_content_with_the_same_uid_is_set_apart(start: Start, place: Place) -> None:
    receiver = start()
    image = ct_image(1, 0)
    other = ct_image(1, 0)
    other.KVP = 80
    assert send(receiver.port, [image, other, other]) == [0, 0x0111, 0x0111]
    assert [pydicom.dcmread(path).KVP for path in place.files("images")] == [120]
    assert [pydicom.dcmread(path).KVP for path in place.files("quarantine")] == [80]
    assert [row["kind"] for row in place.queue.failures()] == ["quarantine"]


def test_same_uid_in_another_study_is_set_apart(start: Start, place: Place) -> None:
    image, other = ct_image(1, 0), ct_image(1, 0)
    other.StudyInstanceUID = uid("another")
    assert send(start().port, [image, other]) == [0, 0x0111]
    assert len(place.files("images")) == 1


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", ["../../x", "1..2", "1.2.", "", "1.2.3\x1b[31m", "a" * 65])
def test_uids_are_checked_before_a_path_is_made(start: Start, place: Place, name: str) -> None:
    image = ct_image(1, 0)
    with pydicom.config.disable_value_validation():
        image.StudyInstanceUID = name
        assert send(start().port, [image]) == [0xC001]
    assert place.files("images") == []


def test_data_set_of_another_object_is_refused(start: Start, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    receiver = start()
    association = associated(receiver)
    image = ct_image(1, 0)
    content = encode(ct_image(1, 1), False, True)
    # the command has the UIDs of the image, its data set is that of another one
    monkeypatch.setattr(pynetdicom.association, "encode", lambda *arguments: content)
    assert association.send_c_store(image).Status == 0xA900
    association.release()
    assert place.files("images") == []


def test_damaged_data_set_is_refused(start: Start, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pynetdicom.association, "encode", lambda *arguments: os.urandom(5000))
    assert send(start().port, [ct_image(1, 0)])[0] in (0xC000, 0xC001)
    assert place.files("images") == []


def test_results_and_other_objects_are_not_accepted(start: Start) -> None:
    """A PACS that routes results back to the node must not start a loop."""
    entity = AE("CT1")
    entity.add_requested_context(EncapsulatedPDFStorage)
    entity.add_requested_context(CTImageStorage, DeflatedExplicitVRLittleEndian)
    entity.add_requested_context(Verification)
    association = entity.associate("127.0.0.1", start().port, ae_title="OSTEO")
    assert [str(context.abstract_syntax) for context in association.accepted_contexts] == [str(Verification)]
    association.release()


def test_other_objects_are_discarded_with_a_warning_on_request(start: Start, place: Place) -> None:
    """Some archives send no images after an object of a kind that is not accepted."""
    entity = AE("CT1")
    entity.add_requested_context(SecondaryCaptureImageStorage, ExplicitVRLittleEndian)
    association = entity.associate("127.0.0.1", start(other_objects="discard").port, ae_title="OSTEO")
    image = ct_image(1, 0)
    image.SOPClassUID = image.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    assert association.send_c_store(image).Status == 0xB006
    association.release()
    assert (place.files("images"), place.events) == ([], ["discarded"])


# --- disk and sizes -----------------------------------------------------------------------------------------------


def test_full_disk_is_answered_with_a700(start: Start, place: Place) -> None:
    place.limits = SpoolLimits(2**62, 1000, 2**40)
    assert send(start().port, ct_images(1, 2)) == [0xA700, 0xA700]
    assert place.files("images") == []


def test_write_that_fills_the_disk_is_answered_with_a700(
    start: Start, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    receiver = start()
    monkeypatch.setattr(os, "fsync", full)
    assert send(receiver.port, ct_images(1, 1)) == [0xA700]
    monkeypatch.undo()
    assert place.files("images") == [], "no partial file"
    assert send(receiver.port, ct_images(1, 1)) == [0]


def test_too_many_images_of_a_study_are_refused(start: Start, place: Place) -> None:
    place.limits = SpoolLimits(0, 2, 2**40)
    receiver = start()
    assert send(receiver.port, ct_images(1, 3)) == [0, 0, 0xA700]
    assert send(receiver.port, ct_images(2, 1)) == [0]


def test_object_above_the_limit_ends_the_connection(start: Start, place: Place) -> None:
    receiver = start(max_object_mib=1)
    assert send(receiver.port, [ct_image(1, 0, size=1024)]) == [-1]
    assert send(receiver.port, [ct_image(1, 1)]) == [0]
    assert len(place.files("images")) == 1
    assert wait(lambda: receiver.buffered_bytes == 0)


# --- admission ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("calling", "called"), [("OTHER", "OSTEO"), ("CT1", "OTHER")])
def test_wrong_ae_titles_are_rejected(start: Start, place: Place, calling: str, called: str) -> None:
    association = associated(start(), calling, called)
    assert association.is_rejected
    assert wait(lambda: place.events == ["rejected"])


def test_peers_outside_the_list_are_closed_at_once(start: Start) -> None:
    receiver = start(peers=("10.0.0.0/8",))
    with socket.create_connection(("127.0.0.1", receiver.port)) as connection:
        connection.settimeout(3)
        assert connection.recv(1) == b""
    assert receiver.refused == 1


def test_more_associations_than_allowed_are_rejected(start: Start) -> None:
    receiver = start(max_associations=2)
    open_ones = [associated(receiver) for _ in range(4)]
    assert [a.is_established for a in open_ones] == [True, True, False, False]
    for association in open_ones[:2]:
        association.release()
    assert wait(lambda: receiver.connections == 0)
    assert associated(receiver).is_established


def test_idle_association_is_closed(start: Start) -> None:
    receiver = start(idle_seconds=1)
    association = associated(receiver)
    begin = time.monotonic()
    assert wait(lambda: not association.is_established, 6)
    assert 0.8 < time.monotonic() - begin < 5


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make an authority, a certificate of it for the node and for a client, and a client certificate of no one."""
    folder = tmp_path_factory.mktemp("certificates")

    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)

    for name in ("ca", "stranger"):
        openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}",
                "-keyout", f"{name}.key", "-out", f"{name}.pem")  # fmt: skip
    (folder / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1")
    for name in ("node", "client"):
        openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", "csr")
        openssl("x509", "-req", "-in", "csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2",
                "-extfile", "names", "-out", f"{name}.pem")  # fmt: skip
    return folder


def client_tls(folder: Path, name: str | None, newest: ssl.TLSVersion | None = None) -> tuple[ssl.SSLContext, str]:
    context = ssl.create_default_context(cafile=str(folder / "ca.pem"))
    if newest is not None:
        context.minimum_version = newest
        context.maximum_version = newest
    if name is not None:
        context.load_cert_chain(folder / f"{name}.pem", folder / f"{name}.key")
    return context, "localhost"


def tls(folder: Path) -> ServerTLS:
    return ServerTLS(certificate=folder / "node.pem", key=folder / "node.key", authorities=folder / "ca.pem")


def test_tls_needs_a_client_certificate(start: Start, certificates: Path) -> None:
    receiver = start(tls=tls(certificates))
    assert associated(receiver, tls_args=client_tls(certificates, "client")).is_established
    for name in (None, "stranger"):
        assert not associated(receiver, tls_args=client_tls(certificates, name)).is_established
    assert not associated(receiver).is_established, "no TLS"
    assert wait(lambda: receiver.refused >= 2)


@pytest.mark.filterwarnings("ignore:.*TLSv1_1 is deprecated:DeprecationWarning")
def test_old_tls_is_refused(start: Start, certificates: Path) -> None:
    receiver = start(tls=tls(certificates))
    old = client_tls(certificates, "client", ssl.TLSVersion.TLSv1_1)
    assert not associated(receiver, tls_args=old).is_established


def test_half_open_tls_handshake_does_not_stop_others(start: Start, certificates: Path) -> None:
    """pynetdicom performs the handshake in the thread that accepts connections."""
    receiver = start(tls=tls(certificates), idle_seconds=3)
    with socket.create_connection(("127.0.0.1", receiver.port)):
        begin = time.monotonic()
        assert associated(receiver, tls_args=client_tls(certificates, "client")).is_established
        assert time.monotonic() - begin < 2.5


def test_certificates_that_cannot_be_read_are_reported(start: Start, tmp_path: Path) -> None:
    missing = ServerTLS(certificate=tmp_path / "a", key=tmp_path / "b", authorities=tmp_path / "c")
    with pytest.raises(ConfigError, match="readable PEM files"):
        start(tls=missing)


def test_address_in_use_is_reported(start: Start) -> None:
    with pytest.raises(ConfigError, match="free address"):
        start(port=start().port)


# --- hostile peers ------------------------------------------------------------------------------------------------


def pdu_head(kind: int, length: int) -> bytes:
    return struct.pack(">BBL", kind, 0, length)


def closed_within(connection: socket.socket, seconds: float) -> bool:
    connection.settimeout(seconds)
    try:
        while connection.recv(4096):
            pass
    except TimeoutError:
        return False
    except OSError:
        pass
    return True


def fails_after(call: Callable[[], object], seconds: float = 8) -> bool:
    """Return whether a call fails when it is repeated for some time, because the connection is closed."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            call()
        except (OSError, AttributeError):
            return True
        time.sleep(0.1)
    return False


@pytest.mark.parametrize("kind", [1, 4])
def test_pdu_of_a_huge_stated_length_is_not_buffered(start: Start, kind: int) -> None:
    """pynetdicom reads it into memory: its issue 1086."""
    receiver = start()
    before = psutil.Process().memory_info().rss
    with socket.create_connection(("127.0.0.1", receiver.port)) as connection:
        connection.sendall(pdu_head(kind, 2**32 - 1))
        sent = 0
        try:
            for _ in range(100):
                sent += connection.send(bytes(MIB))
        except OSError:
            pass
        assert closed_within(connection, 3)
    assert psutil.Process().memory_info().rss - before < 30 * MIB
    assert sent < 20 * MIB


def test_half_a_pdu_is_closed_after_the_time_limit(start: Start) -> None:
    """pynetdicom waits for the rest without limit."""
    receiver = start(idle_seconds=1)
    for start_of_pdu in (b"\x01\x00", pdu_head(1, 200) + bytes(50)):
        with socket.create_connection(("127.0.0.1", receiver.port)) as connection:
            connection.sendall(start_of_pdu)
            assert closed_within(connection, 4)
    assert wait(lambda: receiver.connections == 0)


def test_drop_by_drop_is_closed_after_the_time_limit(start: Start) -> None:
    receiver = start(idle_seconds=1)
    with socket.create_connection(("127.0.0.1", receiver.port)) as connection:
        connection.sendall(pdu_head(1, 2000))
        begin = time.monotonic()
        assert fails_after(lambda: connection.sendall(b"\0"))
        assert time.monotonic() - begin < 4


def test_object_sent_slowly_is_closed_after_the_time_limit(start: Start, place: Place) -> None:
    receiver = start(idle_seconds=5, object_seconds=1)
    association = associated(receiver)
    command = Dataset()
    command.AffectedSOPClassUID, command.AffectedSOPInstanceUID = CTImageStorage, uid("slow")
    command.CommandField, command.MessageID, command.Priority, command.CommandDataSetType = 1, 1, 2, 1
    encoded = encode(command, True, True)
    assert encoded is not None
    context = next(c for c in association.accepted_contexts if c.abstract_syntax == CTImageStorage)

    def pdv(content: bytes, control: int) -> bytes:
        item = struct.pack(">LBB", len(content) + 2, context.context_id, control) + content
        return pdu_head(4, len(item)) + item

    raw = association.dul.socket.socket
    raw.sendall(pdv(encoded, 3))
    begin = time.monotonic()
    assert fails_after(lambda: association.dul.socket.socket.sendall(pdv(bytes(10), 0)))
    assert time.monotonic() - begin < 5
    assert place.events == []


def test_connections_are_limited(start: Start) -> None:
    receiver = start(max_connections=5, idle_seconds=3)
    threads = threading.active_count()
    connections = [socket.create_connection(("127.0.0.1", receiver.port)) for _ in range(30)]
    assert wait(lambda: receiver.refused >= 25)
    assert threading.active_count() - threads <= 3 * 5
    assert receiver.connections <= 5
    for connection in connections:
        connection.close()
    assert wait(lambda: receiver.connections == 0, 8)
    assert associated(receiver).is_established


@pytest.mark.parametrize("content", [b"garbage" * 10, b"\x01", pdu_head(1, 2**31), b""])
def test_closed_connections_free_their_place_at_once(start: Start, content: bytes) -> None:
    """pynetdicom keeps a thread for each until the time limit of its request."""
    receiver = start(idle_seconds=20, max_connections=8)
    for _ in range(3):
        for _ in range(8):
            with socket.create_connection(("127.0.0.1", receiver.port)) as connection:
                connection.sendall(content)
        time.sleep(0.5)  # all are accepted
        assert wait(lambda: receiver.connections == 0, 5)
    assert receiver.refused == 0


def test_connections_without_a_request_take_no_association(start: Start) -> None:
    """pynetdicom counts them, so that a few silent peers keep all others out."""
    receiver = start(max_associations=1, idle_seconds=10)
    silent = [socket.create_connection(("127.0.0.1", receiver.port)) for _ in range(5)]
    assert wait(lambda: receiver.connections == 5)
    assert associated(receiver).is_established
    for connection in silent:
        connection.close()


def test_peer_cannot_queue_messages(start: Start, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is bounded by one object per association, also for a peer that does not wait for answers."""
    receiver = start()
    slow = threading.Event()
    store = Spool.store

    def waiting(self: Spool, *arguments: Any) -> Any:
        slow.wait(5)
        return store(self, *arguments)

    monkeypatch.setattr(Spool, "store", waiting)
    association = associated(receiver)
    sender = threading.Thread(target=lambda: association.send_c_store(ct_image(1, 0, size=256)))
    sender.start()
    assert wait(lambda: receiver.buffered_bytes > 100_000)
    server_side = receiver._server
    assert server_side is not None
    (served,) = server_side.active_associations
    connection = served.dul.socket
    assert connection is not None
    assert wait(lambda: not connection.ready)
    slow.set()
    sender.join()
    assert wait(lambda: receiver.buffered_bytes == 0)
    association.release()


def test_no_identifier_is_logged(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "osteo_monai")
    image, other = ct_image(1, 0), ct_image(1, 0)
    other.KVP = 80
    send(start().port, [image, other])
    records = [str(record.__dict__) for record in caplog.records if record.name.startswith("osteo_monai")]
    assert len(records) >= 3
    for record in records:
        assert not [word for word in (*PLANTED, str(image.StudyInstanceUID)) if word in record]


def test_stop_ends_open_associations(start: Start) -> None:
    receiver = start()
    association, port = associated(receiver), receiver.port
    begin = time.monotonic()
    receiver.stop()
    assert wait(lambda: not association.is_established, 5)
    assert time.monotonic() - begin < 5
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), 1)
