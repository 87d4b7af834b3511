"""DICOM storage receiver: admission, C-ECHO, C-STORE, and the answers of storage commitment.

An object is answered with success when :class:`osteo_monai.node.spool.Spool` has it safely on the disk.
"""

import errno
import logging
import sqlite3
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from pynetdicom import _config, evt
from pynetdicom.ae import ApplicationEntity
from pynetdicom.association import Association
from pynetdicom.events import Event, EventHandlerType
from pynetdicom.presentation import AllStoragePresentationContexts
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    ComputedRadiographyImageStorage,
    CTImageStorage,
    DigitalXRayImageStorageForPresentation,
    DigitalXRayImageStorageForProcessing,
    EnhancedCTImageStorage,
    LegacyConvertedEnhancedCTImageStorage,
    StorageCommitmentPushModel,
    Verification,
)

from osteo_monai.errors import ConfigError, UnusableInputError
from osteo_monai.node.config import Receiver, ServerTLS
from osteo_monai.node.spool import Spool, Stored, read_object
from osteo_monai.node.transport import BufferBudget, ConnectionLimits, LimitedServer, LimitedSocket
from osteo_monai.node.uids import hashed, is_uid, shown

__all__ = ["ACCEPTED_CLASSES", "TRANSFER_SYNTAXES", "DicomReceiver", "OnCommitment"]

ACCEPTED_CLASSES = (
    CTImageStorage,
    EnhancedCTImageStorage,
    LegacyConvertedEnhancedCTImageStorage,
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    DigitalXRayImageStorageForProcessing,
)
"""Images that can be screened. Results are none of them, so that a PACS that routes them back starts no loop."""

TRANSFER_SYNTAXES = [
    "1.2.840.10008.1.2.1",  # explicit VR little endian
    "1.2.840.10008.1.2",  # implicit VR little endian
    "1.2.840.10008.1.2.2",  # explicit VR big endian
    "1.2.840.10008.1.2.4.57",  # JPEG lossless
    "1.2.840.10008.1.2.4.70",  # JPEG lossless, selection value 1
    "1.2.840.10008.1.2.4.80",  # JPEG-LS lossless
    "1.2.840.10008.1.2.4.90",  # JPEG 2000 lossless
    "1.2.840.10008.1.2.5",  # RLE
    "1.2.840.10008.1.2.4.50",  # JPEG baseline: received, and refused with a reason by the screening of CT
    "1.2.840.10008.1.2.4.51",
    "1.2.840.10008.1.2.4.81",
    "1.2.840.10008.1.2.4.91",
]
"""Not deflated: it inflates without limit when a header is read."""

SUCCESS, DISCARDED, NO_SPACE, OTHER_CLASS, NOT_UNDERSTOOD, BAD_UID, DUPLICATE = (
    0x0000,
    0xB006,
    0xA700,
    0xA900,
    0xC000,
    0xC001,
    0x0111,
)
_FAILURE = 0x0110

OnCommitment = Callable[[str, list[str], list[str]], None]
"""Called with the transaction UID and the hashed SOPInstanceUIDs that were committed and that failed."""

logger = logging.getLogger(__name__)


class _Entity(ApplicationEntity):
    """Application entity whose limit of associations counts requests only, not connections that send none."""

    @property
    def active_associations(self) -> list[Association]:
        """Associations that are requested or established."""
        return [a for a in super().active_associations if a.requestor.primitive is not None]


def ignore_commitment(transaction: str, committed: list[str], failed: list[str]) -> None:
    """Do nothing."""


class DicomReceiver:
    """The receiver; it listens from :meth:`start` to :meth:`stop`.

    Args:
        settings: admission and limits.
        spool: stores the objects.
        on_commitment: called with each answer of storage commitment.
        count: called with the name of each event, for the metrics.
    """

    def __init__(
        self,
        settings: Receiver,
        spool: Spool,
        on_commitment: OnCommitment = ignore_commitment,
        count: Callable[[str], None] = lambda event: None,
    ) -> None:
        self._settings = settings
        self._spool = spool
        self._on_commitment = on_commitment
        self._count = count
        self._stopping = False
        self._storing = 0
        self._lock = threading.Lock()
        self._server: LimitedServer | None = None
        mib = 2**20
        self._limits = ConnectionLimits(
            peers=settings.peers,
            connections=settings.max_connections,
            pdu=settings.max_pdu_kib * 1024,
            message=settings.max_object_mib * mib,
            pdu_seconds=settings.idle_seconds,
            message_seconds=settings.object_seconds,
            budget=BufferBudget(settings.max_buffered_mib * mib),
        )

    def start(self) -> None:
        """Listen for connections.

        Raises:
            ConfigError: the address is in use, or a certificate cannot be read.
        """
        settings = self._settings
        _config.LOG_HANDLER_LEVEL = "none"  # its handlers format every PDU
        entity = _Entity(settings.ae_title)
        entity.maximum_associations = settings.max_associations
        entity.maximum_pdu_size = settings.max_pdu_kib * 1024
        entity.acse_timeout = entity.network_timeout = entity.dimse_timeout = settings.idle_seconds
        entity.require_called_aet = True
        entity.require_calling_aet = list(settings.calling_ae_titles)
        entity.add_supported_context(Verification)
        for sop_class in ACCEPTED_CLASSES:
            entity.add_supported_context(sop_class, TRANSFER_SYNTAXES)
        if settings.other_objects == "discard":
            for context in AllStoragePresentationContexts:
                if context.abstract_syntax not in ACCEPTED_CLASSES:
                    entity.add_supported_context(str(context.abstract_syntax), TRANSFER_SYNTAXES)
        entity.add_supported_context(StorageCommitmentPushModel, scu_role=True, scp_role=True)
        handlers: list[EventHandlerType] = [
            (evt.EVT_C_ECHO, self._echo),
            (evt.EVT_C_STORE, self._store),
            (evt.EVT_N_EVENT_REPORT, self._report),
            (evt.EVT_DIMSE_RECV, _pause),
            (evt.EVT_REJECTED, self._rejected),
            (evt.EVT_CONN_CLOSE, _closed),
        ]
        try:
            self._server = LimitedServer(
                entity,
                (settings.address, settings.port),
                settings.ae_title,
                entity.supported_contexts,
                ssl_context=None if settings.tls is None else server_context(settings.tls),
                evt_handlers=handlers,
                limits=self._limits,
            )
        except OSError as error:
            raise ConfigError(
                f"receiver must have a free address of this machine, got {settings.address}:{settings.port}"
                f" ({error.strerror})"
            ) from None
        threading.Thread(target=self._server.serve_forever, args=(0.2,), name="receiver", daemon=True).start()

    @property
    def port(self) -> int:
        """Port that the receiver listens on."""
        assert self._server is not None
        return int(self._server.server_address[1])

    @property
    def connections(self) -> int:
        """Number of open connections."""
        return self._server.connections if self._server else 0

    @property
    def refused(self) -> int:
        """Number of connections that were refused before an association."""
        return self._server.refused if self._server else 0

    @property
    def buffered_bytes(self) -> int:
        """Bytes of objects that are being received."""
        return self._limits.budget.used

    def stop(self, seconds: float = 10) -> None:
        """Accept no more connections, let objects that are being stored end, and close all connections."""
        if self._server is None:
            return
        self._server.stop()
        until = time.monotonic() + seconds
        self._stopping = True  # objects that arrive from here on are refused; the sender has them
        while self._storing and time.monotonic() < until:
            time.sleep(0.02)
        for association in self._server.active_associations:
            connection = association.dul.socket
            if association.is_established:
                association.abort()
            elif isinstance(connection, LimitedSocket):
                connection.drop()
        self._server = None

    # --- events -----------------------------------------------------------------------------------------------------

    def _echo(self, event: Event) -> int:
        with _answered(event):
            self._count("echo")
            return SUCCESS

    def _store(self, event: Event) -> int:
        with _answered(event):
            if self._stopping:
                return NO_SPACE
            with self._lock:
                self._storing += 1
            try:
                status, name = self._stored(event)
            finally:
                with self._lock:
                    self._storing -= 1
            self._count(name)
            if status not in (SUCCESS, DISCARDED):
                logger.warning("object refused", extra={"reason": name, "status": f"{status:04X}"})
            return status

    def _stored(self, event: Event) -> tuple[int, str]:
        """Return the status of one object and the name of what was done with it."""
        request = cast(Any, event.request)
        if not (is_uid(str(request.AffectedSOPInstanceUID)) and is_uid(str(request.AffectedSOPClassUID))):
            return BAD_UID, "bad_uid"
        if request.AffectedSOPClassUID not in ACCEPTED_CLASSES:
            return DISCARDED, "discarded"
        try:
            item = read_object(request.DataSet.getbuffer(), str(event.context.transfer_syntax))
        except UnusableInputError as error:
            return (BAD_UID, "bad_uid") if "UID" in str(error) else (NOT_UNDERSTOOD, "damaged")
        if (item.instance, item.sop_class) != (request.AffectedSOPInstanceUID, request.AffectedSOPClassUID):
            return OTHER_CLASS, "other_identity"
        try:
            stored = self._spool.store(item, time.time())
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                return NO_SPACE, "no_space"
            logger.error("object not stored", extra={"reason": type(error).__name__})
            return _FAILURE, "not_stored"
        except sqlite3.Error as error:
            logger.error("object not stored", extra={"reason": type(error).__name__})
            return _FAILURE, "not_stored"
        logger.info(
            "object received",
            extra={"study": shown(hashed(item.study)), "image": shown(hashed(item.instance)), "stored": stored.value},
        )
        return (DUPLICATE if stored is Stored.QUARANTINED else SUCCESS), stored.value

    def _report(self, event: Event) -> tuple[int, None]:
        """Handle the answer of storage commitment: its event type is 1 for success, 2 if some objects failed."""
        with _answered(event):
            try:
                answer = event.event_information
                transaction = str(answer.get("TransactionUID", ""))
                committed = instances_of(answer.get("ReferencedSOPSequence"))
                failed = instances_of(answer.get("FailedSOPSequence"))
            # pydicom raises errors of any type on damaged data
            except Exception:  # noqa: BLE001
                return _FAILURE, None
            self._count("commitment")
            self._on_commitment(transaction, committed, failed)
            return SUCCESS, None

    def _rejected(self, event: Event) -> None:
        self._count("rejected")
        logger.warning("association rejected", extra={"reason": "AE title or number of associations"})


def instances_of(sequence: Any) -> list[str]:
    """Return the hashed SOPInstanceUIDs of a sequence of references."""
    return [hashed(str(item.get("ReferencedSOPInstanceUID", ""))) for item in sequence or ()]


def _pause(event: Event) -> None:
    connection = event.assoc.dul.socket
    if isinstance(connection, LimitedSocket):
        connection.message_received()


def _closed(event: Event) -> None:
    connection = event.assoc.dul.socket
    if isinstance(connection, LimitedSocket):
        connection.end_wait()


@contextmanager
def _answered(event: Event) -> Iterator[None]:
    """Free the object at the end and read the next message."""
    try:
        yield
    finally:
        request = cast(Any, event.request)
        if getattr(request, "DataSet", None) is not None:
            request.DataSet = None
        connection = event.assoc.dul.socket
        if isinstance(connection, LimitedSocket):
            connection.message_answered()


def server_context(tls: ServerTLS) -> ssl.SSLContext:
    """Return a context that requires TLS 1.2 or newer and a client certificate.

    Raises:
        ConfigError: a file cannot be read.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    load_certificates(context, tls.authorities, tls.certificate, tls.key)
    return context


def load_certificates(context: ssl.SSLContext, authorities: Path, certificate: Path | None, key: Path | None) -> None:
    """Load PEM files into a context.

    Raises:
        ConfigError: a file cannot be read.
    """
    try:
        context.load_verify_locations(authorities)
        if certificate is not None:
            context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"tls must name readable PEM files that belong together ({type(error).__name__})") from None
