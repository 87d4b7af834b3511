"""Delivery of results: C-STORE with storage commitment, or STOW-RS."""

import hashlib
import secrets
import ssl
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom import evt
from pynetdicom.ae import ApplicationEntity
from pynetdicom.association import Association
from pynetdicom.sop_class import StorageCommitmentPushModel, StorageCommitmentPushModelInstance  # type: ignore[attr-defined]

from osteo_monai.errors import OsteoError
from osteo_monai.node.config import ClientTLS, CStoreDestination, Destination, StowDestination
from osteo_monai.node.receiver import OnCommitment, instances_of, load_certificates
from osteo_monai.node.web import WebError, web_client, web_errors

__all__ = ["DeliveryError", "Sent", "make_sender", "transaction_uid", "written_by"]

_ANSWER_SECONDS = 3.0
"""Time in which a PACS may answer a request of commitment on the same association; later it opens one of its own."""


_OF_THE_OBJECT = frozenset({400, 409, 413, 415, 422})
"""HTTP status of an object that is refused; others concern all objects."""


class DeliveryError(OsteoError):
    """The destination did not take any object; the message is a reason without identifiers."""


@dataclass(frozen=True)
class Sent:
    """Result of sending one file: ``reason`` is empty if the destination has it."""

    file: Path
    reason: str = ""


def make_sender(
    destination: Destination, calling_ae_title: str, on_commitment: OnCommitment
) -> "CStoreSender | StowSender":
    """Return the sender for a destination.

    Raises:
        ConfigError: a certificate cannot be read, or credentials are not set.
    """
    if isinstance(destination, StowDestination):
        return StowSender(destination)
    return CStoreSender(destination, destination.calling_ae_title or calling_ae_title, on_commitment)


def transaction_uid(destination: str) -> str:
    """Return a new transaction UID from which :func:`written_by` finds the destination, also after a restart."""
    return f"2.25.{int.from_bytes(_mark(destination) + secrets.token_bytes(8))}"


def written_by(transaction: str, destinations: Sequence[str]) -> str | None:
    """Return the destination that a transaction UID was made for."""
    number = transaction.removeprefix("2.25.")
    with suppress(ValueError, OverflowError):
        mark = int(number).to_bytes(16)[:8]
        return next((name for name in destinations if _mark(name) == mark), None)
    return None


def _mark(destination: str) -> bytes:
    digest = hashlib.sha256(destination.encode()).digest()[:8]
    return bytes([digest[0] & 0x7F | 0x40]) + digest[1:]  # no leading zero, and a valid length


class CStoreSender:
    """Sender by C-STORE.

    Args:
        destination: its settings.
        calling_ae_title: of this node.
        on_commitment: called with answers that arrive on the same association.
    """

    def __init__(self, destination: CStoreDestination, calling_ae_title: str, on_commitment: OnCommitment) -> None:
        self._destination = destination
        self._ae_title = calling_ae_title
        self._on_commitment = on_commitment
        self._waiting: dict[str, threading.Event] = {}
        self._tls = None if destination.tls is None else (client_context(destination.tls), _server_name(destination))

    def send(self, files: Sequence[Path]) -> Iterator[Sent]:
        """Send files over one association."""
        headers = [pydicom.dcmread(file, stop_before_pixels=True, specific_tags=["SOPClassUID"]) for file in files]
        contexts = {(str(h.SOPClassUID), str(h.file_meta.TransferSyntaxUID)) for h in headers}
        with self._associated(contexts) as association:
            for file in files:
                yield Sent(file, self._store(association, file))

    def _store(self, association: Association, file: Path) -> str:
        if not association.is_established:
            raise DeliveryError("the association was closed by the destination")
        try:
            status = association.send_c_store(pydicom.dcmread(file))
        except ValueError:
            return "the destination does not accept this kind of object"
        except RuntimeError:
            raise DeliveryError("the association was closed by the destination") from None
        if "Status" not in status:
            raise DeliveryError("the destination did not answer")
        # 0xB000 to 0xBFFF: stored with a warning
        return "" if status.Status == 0 or status.Status >> 12 == 0xB else f"C-STORE status {status.Status:04X}"

    def request_commitment(self, files: Sequence[Path]) -> None:
        """Request storage commitment for files.

        Raises:
            DeliveryError: the request was not accepted.
        """
        transaction = transaction_uid(self._destination.name)
        answered = self._waiting[transaction] = threading.Event()
        request = Dataset()
        request.TransactionUID = UID(transaction)
        request.ReferencedSOPSequence = [_reference(file) for file in files]

        reported, replied = threading.Event(), threading.Event()

        def report(event: evt.Event) -> tuple[int, None]:
            reported.set()
            answer = event.event_information
            committed = instances_of(answer.get("ReferencedSOPSequence"))
            failed = instances_of(answer.get("FailedSOPSequence"))
            self._on_commitment(str(answer.get("TransactionUID", "")), committed, failed)
            return 0x0000, None

        def sent(event: evt.Event) -> None:
            if reported.is_set():
                replied.set()

        context = (str(StorageCommitmentPushModel), "")
        handlers: list[evt.EventHandlerType] = [(evt.EVT_N_EVENT_REPORT, report), (evt.EVT_PDU_SENT, sent)]
        with self._associated({context}, handlers) as association:
            status, _ = association.send_n_action(
                request, 1, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
            )
            if "Status" not in status or status.Status != 0:
                code = f"status {status.Status:04X}" if "Status" in status else "no answer"
                raise DeliveryError(f"storage commitment was not accepted ({code})")
            answered.wait(_ANSWER_SECONDS)
            if reported.is_set():
                replied.wait(_ANSWER_SECONDS)  # the association must not be released before the reply
        del self._waiting[transaction]

    def answered(self, transaction: str) -> None:
        """Wait no longer for the answer to a request, which has arrived by any association."""
        if transaction in self._waiting:
            self._waiting[transaction].set()

    @contextmanager
    def _associated(
        self, contexts: set[tuple[str, str]], handlers: Sequence[evt.EventHandlerType] = ()
    ) -> Iterator[Association]:
        destination = self._destination
        entity = ApplicationEntity(self._ae_title)
        entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = destination.seconds
        entity.connection_timeout = min(10.0, destination.seconds)
        for sop_class, syntax in sorted(contexts):
            entity.add_requested_context(sop_class, [syntax] if syntax else None)
        association = entity.associate(
            destination.host,
            destination.port,
            ae_title=destination.ae_title,
            tls_args=self._tls,
            evt_handlers=list(handlers),
        )
        if not association.is_established:
            reason = "rejected the association" if association.is_rejected else "cannot be reached"
            raise DeliveryError(f"the destination {reason}")
        try:
            yield association
        finally:
            if association.is_established:
                association.release()


def _reference(file: Path) -> Dataset:
    header = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=["SOPClassUID", "SOPInstanceUID"])
    reference = Dataset()
    reference.ReferencedSOPClassUID = header.SOPClassUID
    reference.ReferencedSOPInstanceUID = header.SOPInstanceUID
    return reference


def _server_name(destination: CStoreDestination) -> str:
    assert destination.tls is not None
    return destination.tls.server_name or destination.host


def client_context(tls: ClientTLS) -> ssl.SSLContext:
    """Return a context that requires TLS 1.2 or newer and a certificate of the server for its name.

    Raises:
        ConfigError: a file cannot be read.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    load_certificates(context, tls.authorities, tls.certificate, tls.key)
    return context


class StowSender:
    """Sender by STOW-RS, one object per request: the answer to several may hide which were stored.

    Args:
        destination: its settings.
    """

    def __init__(self, destination: StowDestination) -> None:
        self._destination = destination
        self._client = web_client(destination)

    def send(self, files: Sequence[Path]) -> Iterator[Sent]:
        """Send files, each by one request."""
        for file in files:
            dataset = pydicom.dcmread(file)
            try:
                with web_errors(self._destination.url):
                    answer = self._client.store_instances([dataset])
            except WebError as error:
                if error.status not in _OF_THE_OBJECT:
                    raise DeliveryError(str(error)) from None
                yield Sent(file, f"HTTP status {error.status}")
                continue
            stored = {str(item.ReferencedSOPInstanceUID) for item in answer.get("ReferencedSOPSequence") or ()}
            failed = len(answer.get("FailedSOPSequence") or ())  # some services write it empty
            confirmed = dataset.SOPInstanceUID in stored and not failed
            yield Sent(file, "" if confirmed else "the answer of STOW-RS does not name the object as stored")
