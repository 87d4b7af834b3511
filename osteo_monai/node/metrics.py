"""Prometheus metrics of the node; labels hold no identifiers."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily

if TYPE_CHECKING:
    from osteo_monai.node.queue import Queue
    from osteo_monai.node.receiver import DicomReceiver
    from osteo_monai.node.spool import Spool

__all__ = ["CONTENT_TYPE", "Metrics"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (5, 10, 20, 40, 80, 160, 320, 640, 1280)


class _QueueCollector:
    """Collector that reads the queue when the metrics are read."""

    def __init__(self, queue: "Queue", spool: "Spool") -> None:
        self._queue = queue
        self._spool = spool

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """Yield the number of studies, screenings and deliveries by state, and the free bytes."""
        for name, states in self._queue.counts().items():
            family = GaugeMetricFamily(f"osteo_node_{name}", f"Number of {name} by state.", labels=["state"])
            for state, number in states.items():
                family.add_metric([state], number)
            yield family
        yield GaugeMetricFamily("osteo_node_disk_free_bytes", "Free bytes of the disk.", self._spool.free_bytes())


class Metrics:
    """Counters of this process, and gauges that are read from the queue."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._objects = Counter(
            "osteo_node_received", "Received objects and messages by result.", ["result"], registry=self._registry
        )
        self._screened = Counter("osteo_node_screened", "Screenings by outcome.", ["outcome"], registry=self._registry)
        self._seconds = Histogram(
            "osteo_node_screening_seconds", "Wall time of one study.", buckets=_SECONDS, registry=self._registry
        )
        self._delivered = Counter(
            "osteo_node_delivered", "Delivered objects by destination.", ["destination"], registry=self._registry
        )
        self._failures = Counter(
            "osteo_node_failures", "Failed attempts; final ones become dead letters.", ["task", "final"],
            registry=self._registry,
        )  # fmt: skip

    def count_object(self, result: str) -> None:
        """Count a received object or message."""
        self._objects.labels(result).inc()

    def count_screening(self, outcome: str, seconds: float) -> None:
        """Count a finished screening."""
        self._screened.labels(outcome).inc()
        self._seconds.observe(seconds)

    def count_delivered(self, destination: str, number: int) -> None:
        """Count delivered objects."""
        self._delivered.labels(destination).inc(number)

    def count_failure(self, task: str, again: bool) -> None:
        """Count a failed attempt."""
        self._failures.labels(task, "no" if again else "yes").inc()

    def watch(self, receiver: "DicomReceiver") -> None:
        """Show the connections of the receiver."""
        gauges = {
            "connections": ("Open connections.", lambda: receiver.connections),
            "refused_connections": ("Connections refused before an association.", lambda: receiver.refused),
            "buffered_bytes": ("Bytes of objects that are being received.", lambda: receiver.buffered_bytes),
        }
        for name, (text, read) in gauges.items():
            Gauge(f"osteo_node_{name}", text, registry=self._registry).set_function(read)

    def watch_queue(self, queue: "Queue", spool: "Spool") -> None:
        """Show the queue and the disk."""
        self._registry.register(_QueueCollector(queue, spool))

    def text(self) -> bytes:
        """Return all metrics in the text format of Prometheus."""
        return generate_latest(self._registry)
