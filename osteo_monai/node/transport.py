"""Connections of the receiver: limits that pynetdicom does not have.

pynetdicom 3.0 reads a PDU of any stated length into memory before it looks at it (its issue 1086), waits for the rest
of a PDU without limit, keeps a thread for each connection that was closed before its request, performs the TLS
handshake in the thread that accepts connections, and starts two threads for each connection before it checks its limit
of associations. The classes here close each of these.
"""

import ipaddress
import logging
import socket
import socketserver
import ssl
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, cast

from pynetdicom.association import Association
from pynetdicom.transport import AssociationSocket, RequestHandler, ThreadedAssociationServer

__all__ = ["BufferBudget", "ConnectionLimits", "LimitedServer", "LimitedSocket"]

_CHUNK = 1 << 16
_SMALLEST_PDU_LIMIT = 1 << 16
"""Bytes that an A-ASSOCIATE-RQ with 128 presentation contexts may need; it does not obey the limit of P-DATA."""

logger = logging.getLogger(__name__)


class BufferBudget:
    """Bytes of objects that are being received, of all associations together."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._sockets: list[LimitedSocket] = []
        self._lock = threading.Lock()

    def add(self, connection: "LimitedSocket") -> None:
        """Count a new connection, and those that ended no longer."""
        with self._lock:
            self._sockets = [*(known for known in self._sockets if known.in_use), connection]

    @property
    def used(self) -> int:
        """Bytes in use."""
        with self._lock:
            return sum(connection.held_bytes for connection in self._sockets if connection.in_use)

    def allows(self, size: int) -> bool:
        """Return whether that many more bytes may be received."""
        return self.used + size <= self._most


@dataclass(frozen=True)
class ConnectionLimits:
    """Limits of all connections.

    Attributes:
        peers: networks that may connect; empty for all.
        connections: open at the same time.
        pdu: bytes of one PDU.
        message: bytes of one DIMSE message, that is, one object with its command.
        pdu_seconds: for one PDU or one TLS handshake.
        message_seconds: for one DIMSE message.
        budget: of the messages of all connections.
    """

    peers: Sequence[str]
    connections: int
    pdu: int
    message: int
    pdu_seconds: float
    message_seconds: float
    budget: BufferBudget = field(repr=False)


class LimitedSocket(AssociationSocket):
    """Socket of one association that ends the connection where a limit is exceeded.

    Attributes:
        held_bytes: of the message that is being received or answered.
    """

    def __init__(self, assoc: Association, client_socket: socket.socket, limits: ConnectionLimits) -> None:
        super().__init__(assoc, client_socket=client_socket)
        self._limits = limits
        self._longest_pdu = max(limits.pdu, _SMALLEST_PDU_LIMIT)
        self._since: float | None = None
        self._answering = False
        self.held_bytes = 0
        client_socket.settimeout(limits.pdu_seconds)
        limits.budget.add(self)

    @property
    def in_use(self) -> bool:
        """Whether the threads of the association run, or are about to start."""
        association = self.assoc
        return association.ident is None or association.is_alive()

    @property
    def ready(self) -> bool:
        """Whether data can be read; not while a message is answered, so that a peer cannot queue many."""
        return not self._answering and super().ready

    def message_received(self) -> None:
        """Stop reading until :meth:`message_answered`."""
        self._answering = True

    def message_answered(self) -> None:
        """Continue with the next message."""
        self.held_bytes = 0
        self._since = None
        self.assoc.dul._idle_timer.restart()
        self._answering = False

    def recv(self, nr_bytes: int) -> bytearray:
        """Read a number of bytes, fewer if the peer closes the connection.

        Raises:
            OSError: a limit is exceeded, and the connection was closed.
        """
        if nr_bytes > self._longest_pdu:
            raise self._refusal("a PDU is longer than the limit")
        # the length of a PDU is stated by the peer: memory is taken as data arrive
        data = bytearray()
        until = time.monotonic() + self._limits.pdu_seconds
        while len(data) < nr_bytes:
            part = self._read(min(_CHUNK, nr_bytes - len(data)), until)
            if not part:
                self.end_wait()
                break
            data += part
        self._count(len(data))
        return data

    def _read(self, most: int, until: float) -> bytes:
        sock = self.socket
        if sock is None:
            return b""
        seconds = until - time.monotonic()
        if seconds <= 0:
            raise self._refusal("a PDU took longer than the limit")
        sock.settimeout(seconds)
        try:
            return sock.recv(most)
        except TimeoutError:
            raise self._refusal("a PDU took longer than the limit") from None
        finally:
            with suppress(OSError):
                sock.settimeout(self._limits.pdu_seconds)

    def _count(self, size: int) -> None:
        if not self.assoc.is_established:
            return
        now = time.monotonic()
        if self._since is None:
            self._since = now
        if now - self._since > self._limits.message_seconds:
            raise self._refusal("an object took longer than the limit")
        if self.held_bytes + size > self._limits.message:
            raise self._refusal("an object is larger than the limit")
        if not self._limits.budget.allows(size):
            raise self._refusal("the memory for received objects is used up")
        self.held_bytes += size

    def drop(self) -> None:
        """End the connection without a message."""
        sock = self.socket
        if sock is not None:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        self.end_wait()

    def _shutdown_socket(self) -> None:
        super()._shutdown_socket()
        self.end_wait()

    def end_wait(self) -> None:
        """End the thread that waits for the association request, which pynetdicom lets wait for its time limit."""
        if self.assoc.requestor.primitive is None:
            self.assoc.dul.to_user_queue.put(cast(Any, None))

    def _refusal(self, reason: str) -> OSError:
        logger.warning("connection closed", extra={"reason": reason})
        self.drop()
        return OSError(reason)


class _Handler(RequestHandler):
    """Handler of one connection, with a socket that has limits."""

    server: "LimitedServer"

    def _create_association(self) -> Association:
        try:
            association = super()._create_association()
            association.dul.event_queue.get_nowait()  # of the socket that is replaced
            client = cast(socket.socket, self.request)
            association.dul.socket = LimitedSocket(association, client, self.server.limits)
        except BaseException:
            self.server.not_opened()
            raise
        self.server.opened(association)
        return association


class LimitedServer(ThreadedAssociationServer):
    """Server that limits connections and performs TLS handshakes in the thread of the connection.

    Args:
        *arguments: of pynetdicom's server.
        limits: of all connections.
        **keywords: of pynetdicom's server.
    """

    request_queue_size = 128
    daemon_threads = True

    def __init__(self, *arguments: Any, limits: ConnectionLimits, **keywords: Any) -> None:
        self.limits = limits
        self._networks = [ipaddress.ip_network(peer) for peer in limits.peers]
        self._starting = 0
        self._associations: list[Association] = []
        self._open_lock = threading.Lock()
        self.refused = 0
        super().__init__(*arguments, **{"request_handler": _Handler, **keywords})

    @property
    def connections(self) -> int:
        """Number of open connections."""
        with self._open_lock:
            self._associations = [a for a in self._associations if a.ident is None or a.is_alive()]
            return self._starting + len(self._associations)

    def opened(self, association: Association) -> None:
        """Count a connection as an association, no longer as one that starts."""
        with self._open_lock:
            self._associations.append(association)
            self._starting -= 1

    def get_request(self) -> tuple[socket.socket, tuple[str, int]]:
        """Accept a connection; its handshake follows in its own thread."""
        assert self.socket is not None
        return cast("tuple[socket.socket, tuple[str, int]]", self.socket.accept())

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Return whether a peer may connect now."""
        reason = ""
        if self._networks and not self._is_peer(client_address[0]):
            reason = "the address is not in the list of peers"
        elif self.connections >= self.limits.connections:
            reason = "too many connections"
        if reason:
            self.refused += 1
            logger.warning("connection refused", extra={"reason": reason})
        return not reason

    def _is_peer(self, address: str) -> bool:
        peer = ipaddress.ip_address(address.partition("%")[0])
        mapped = getattr(peer, "ipv4_mapped", None)
        return any((mapped or peer) in network for network in self._networks)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection in a thread of its own."""
        with self._open_lock:
            self._starting += 1
        try:
            super().process_request(request, client_address)
        except BaseException:
            self.not_opened()
            raise

    def not_opened(self) -> None:
        """Count a connection no longer that ended before its association."""
        with self._open_lock:
            self._starting -= 1

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Perform the TLS handshake and start the association."""
        connection = self._secured(request)
        if connection is None:
            self.not_opened()
        else:
            super().process_request_thread(connection, client_address)

    def _secured(self, request: socket.socket) -> socket.socket | None:
        if self.ssl_context is None:
            return request
        request.settimeout(self.limits.pdu_seconds)
        try:
            return self.ssl_context.wrap_socket(request, server_side=True)
        except (OSError, ValueError) as error:  # of the peer: ssl has no other
            self.refused += 1
            reason = "no valid client certificate or no TLS" if isinstance(error, ssl.SSLError) else "no TLS handshake"
            logger.warning("connection refused", extra={"reason": reason})
            self.shutdown_request(request)
            return None

    def stop(self) -> None:
        """Accept no more connections; those that are open stay."""
        socketserver.BaseServer.shutdown(self)
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log that a connection failed, without its data."""
        logger.warning("connection failed")
