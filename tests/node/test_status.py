"""Status page, health and metrics: content, headers, hosts, methods."""

import http.client
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from osteo_monai.node import Queue
from osteo_monai.node.config import Retry, Status
from osteo_monai.node.metrics import Metrics
from osteo_monai.node.queue import Image
from osteo_monai.node.status import StatusServer

STUDY = "ab" * 16


@pytest.fixture
def problems() -> list[str]:
    return []


@pytest.fixture
def server(tmp_path: Path, problems: list[str]) -> Iterator[StatusServer]:
    queue = Queue(tmp_path / "queue.sqlite3")
    queue.add_image(Image("1", STUDY, "c", 100), 0)
    queue.complete(100, 10, 100)
    job = queue.take_job(100)
    assert job is not None
    queue.fail_job(job, "<script>alert(1)</script>", Retry(attempts=1), 100)
    status = StatusServer(Status(port=0), queue, Metrics(), lambda: problems)
    status.start()
    yield status
    status.stop()


def get(server: StatusServer, path: str, method: str = "GET", host: str = "") -> tuple[http.client.HTTPResponse, str]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
    connection.request(method, path, headers={"Host": host} if host else {})
    answer = connection.getresponse()
    return answer, answer.read().decode()


def test_page_shows_failures_and_quotes_nothing_as_markup(server: StatusServer) -> None:
    answer, page = get(server, "/")
    assert answer.status == 200
    assert "job 1" in page
    assert STUDY[:12] in page
    assert STUDY not in page
    assert "<script" not in page
    assert "default-src 'none'" in str(answer.getheader("Content-Security-Policy"))


def test_page_in_a_browser(server: StatusServer, tmp_path: Path) -> None:
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("needs Chromium")
    words = [browser, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    words += ["--dump-dom", "--enable-logging=stderr", "--v=0", f"http://127.0.0.1:{server.port}/"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert "<td>job 1</td>" in done.stdout
    assert "CONSOLE" not in done.stderr, "such as a style that the policy of the page forbids"


def test_health_follows_the_problems(server: StatusServer, problems: list[str]) -> None:
    answer, body = get(server, "/health")
    assert (answer.status, json.loads(body)["status"]) == (200, "ok")
    problems.append("the disk is full")
    answer, body = get(server, "/health")
    assert (answer.status, json.loads(body)["problems"]) == (503, ["the disk is full"])
    assert "Does not work: the disk is full" in get(server, "/")[1]


def test_metrics(server: StatusServer) -> None:
    server._metrics.count_object("new")
    assert 'osteo_node_received_total{result="new"} 1.0' in get(server, "/metrics")[1]


@pytest.mark.parametrize(
    ("path", "method", "host", "status"),
    [
        ("/other", "GET", "", 404),
        ("/../etc/passwd", "GET", "", 404),
        ("/", "POST", "", 501),
        ("/", "HEAD", "", 200),
        ("/", "GET", "localhost:8104", 200),
        ("/", "GET", "attacker.example", 403),
        ("/", "GET", "127.0.0.1.attacker.example:80", 403),
    ],
)
def test_requests(server: StatusServer, path: str, method: str, host: str, status: int) -> None:
    answer, body = get(server, path, method, host)
    assert answer.status == status
    assert method != "HEAD" or not body
