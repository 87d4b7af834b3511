"""Status page, health and metrics by HTTP: read only, without identifiers and without scripts."""

import json
import logging
import threading
import time
from collections.abc import Callable
from functools import cache
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from osteo_monai.errors import ConfigError
from osteo_monai.node.config import Status, is_loopback
from osteo_monai.node.metrics import CONTENT_TYPE, Metrics
from osteo_monai.node.queue import Queue
from osteo_monai.node.uids import shown

__all__ = ["StatusServer", "status_page"]

_READ_SECONDS = 10
_MOST_CONNECTIONS = 16
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}

logger = logging.getLogger(__name__)


def _age(seconds: float) -> str:
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if abs(seconds) >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


@cache
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("osteo_monai.node"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters["shown"] = shown
    environment.filters["age"] = _age
    return environment.get_template("status.html.j2")


def status_page(queue: Queue, problems: list[str]) -> str:
    """Return the status page as HTML.

    Args:
        queue: that is shown.
        problems: reasons why the node does not work.
    """
    return _template().render(
        now=time.time(),
        time=time.strftime("%Y-%m-%d %H:%M:%S", time.localtime()),
        problems=problems,
        counts=queue.counts(),
        outcomes=queue.outcomes(),
        studies=queue.studies(),
        results=queue.results(50),
        failures=queue.failures(100),
    )


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, settings: Status, answer: Callable[[str], tuple[HTTPStatus, str, bytes] | None]) -> None:
        self.answer = answer
        self.hosts = {"localhost", settings.address, *settings.hosts}
        if is_loopback(settings.address):
            self.hosts |= {"127.0.0.1", "[::1]"}
        self._slots = threading.BoundedSemaphore(_MOST_CONNECTIONS)
        super().__init__((settings.address, settings.port), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._slots.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._slots.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        logger.debug("request of the status page failed")


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = _READ_SECONDS
    server_version = "osteo-monai"
    sys_version = ""

    def do_GET(self) -> None:
        # a page of another site that resolves its name to this machine has that name here
        host = self.headers.get("Host", "").rpartition(":")[0] or self.headers.get("Host", "")
        if host not in self.server.hosts:
            self._send(HTTPStatus.FORBIDDEN, "text/plain", b"unknown host\n")
            return
        answer = self.server.answer(self.path)
        self._send(*(answer or (HTTPStatus.NOT_FOUND, "text/plain", b"no such page\n")))

    do_HEAD = do_GET  # noqa: N815  # the name that the base class requires

    def _send(self, status: HTTPStatus, kind: str, content: bytes) -> None:
        self.send_response(status)
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *arguments: Any) -> None:
        """Log no requests."""


class StatusServer:
    """HTTP server with ``/`` (status page), ``/health`` and ``/metrics``.

    Args:
        settings: address and port.
        queue: that is shown.
        metrics: that are shown.
        problems: returns the reasons why the node does not work.

    Raises:
        ConfigError: the address is in use.
    """

    def __init__(self, settings: Status, queue: Queue, metrics: Metrics, problems: Callable[[], list[str]]) -> None:
        self._queue = queue
        self._metrics = metrics
        self._problems = problems
        try:
            self._server = _Server(settings, self._answer)
        except OSError as error:
            raise ConfigError(
                f"status must have a free address of this machine, got {settings.address}:{settings.port}"
                f" ({error.strerror})"
            ) from None

    @property
    def port(self) -> int:
        """Port that the server listens on."""
        return int(self._server.server_address[1])

    def start(self) -> None:
        """Serve in a thread."""
        threading.Thread(target=self._server.serve_forever, args=(0.2,), name="status", daemon=True).start()

    def stop(self) -> None:
        """Stop and close."""
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, path: str) -> tuple[HTTPStatus, str, bytes] | None:
        if path == "/metrics":
            return HTTPStatus.OK, CONTENT_TYPE, self._metrics.text()
        problems = self._problems()
        if path == "/health":
            status = HTTPStatus.SERVICE_UNAVAILABLE if problems else HTTPStatus.OK
            body = {"status": "unhealthy" if problems else "ok", "problems": problems, **self._queue.counts()}
            return status, "application/json", json.dumps(body).encode()
        if path == "/":
            return HTTPStatus.OK, "text/html; charset=utf-8", status_page(self._queue, problems).encode()
        return None
