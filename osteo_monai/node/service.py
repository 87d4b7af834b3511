"""The node: receiver, queue, screening processes, senders, status server; one thread each."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from itertools import groupby
from pathlib import Path

import pydicom

from osteo_monai.batch import Limits, StartError, StoppedError, WorkerError, WorkerProcess
from osteo_monai.errors import ConfigError
from osteo_monai.node.config import CStoreDestination, Destination, NodeConfig, credentials, secret_variables
from osteo_monai.node.delivery import CStoreSender, DeliveryError, StowSender, make_sender, written_by
from osteo_monai.node.follow import Follower
from osteo_monai.node.metrics import Metrics
from osteo_monai.node.processing import FAILED, LoadByName, Processed
from osteo_monai.node.queue import Delivery, Job, Product, Queue
from osteo_monai.node.receiver import DicomReceiver, server_context
from osteo_monai.node.spool import Spool, SpoolLimits
from osteo_monai.node.status import StatusServer
from osteo_monai.node.uids import hashed, shown
from osteo_monai.utils.locks import LockedError, folder_lock

__all__ = ["QUEUE_FILE", "Node", "check_connections"]

QUEUE_FILE = "queue.sqlite3"
_TICK = 0.25
_SWEEP_SECONDS = 60.0
_START_AGAIN_SECONDS = 30.0

logger = logging.getLogger(__name__)


class Node:
    """One node; :meth:`run` returns when it was stopped.

    Args:
        config: its settings.
        processor: what screens a study, ``package.module:function`` of type
            :data:`osteo_monai.node.processing.Load`.

    Attributes:
        stopping: set to stop the node.
        receiver: the DICOM receiver, if there is one.
        status: the status server, if there is one.
    """

    def __init__(self, config: NodeConfig, processor: str) -> None:
        self._config = config
        self._processor = processor
        self._queue: Queue
        self._spool: Spool
        self._failed = ""
        self._unready = ""
        self._senders: Sequence[tuple[Destination, CStoreSender | StowSender]] = ()
        self.stopping = threading.Event()
        self.started = threading.Event()
        self.metrics = Metrics()
        self.receiver: DicomReceiver | None = None
        self.status: StatusServer | None = None

    def run(self) -> None:
        """Serve until :attr:`stopping` is set.

        Raises:
            ConfigError: another node uses the folder, an address is in use, a certificate or a credential is missing.
            StartError: the screening process does not start.
            RuntimeError: a thread of the node ended with an error; what was received is safe.
        """
        config = self._config
        config.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with ExitStack() as stack:
            try:
                stack.enter_context(folder_lock(config.folder))
            except LockedError:
                raise ConfigError(f"folder must be used by one node only, got '{config.folder}'") from None
            self._queue = Queue(config.folder / QUEUE_FILE)
            stack.callback(self._queue.close)
            limits = config.receiver
            mib = 2**20
            self._spool = Spool(
                config.folder,
                self._queue,
                SpoolLimits(limits.min_free_mib * mib, limits.max_study_images, limits.max_study_mib * mib)
                if limits
                else SpoolLimits(2048 * mib, 20_000, 20_000 * mib),
            )
            self._spool.clean()
            again = self._queue.recover(config.screening.retry, time.time())
            if again:
                logger.warning("screenings of a stopped node are queued again", extra={"count": again})
            stack.callback(self._stop)
            self._serve(stack)
        if self._failed:
            raise RuntimeError(self._failed)

    def _serve(self, stack: ExitStack) -> None:
        config = self._config
        ae_title = config.receiver.ae_title if config.receiver else "OSTEO"
        senders = self._senders = [(d, make_sender(d, ae_title, self._committed)) for d in config.destinations]
        workers = [screening_process(config, self._processor, self.stopping) for _ in range(config.screening.processes)]
        for worker in workers:
            stack.callback(worker.end)
        if config.status is not None:
            self.status = StatusServer(config.status, self._queue, self.metrics, self._health)
            self.status.start()
            stack.callback(self.status.stop)
        try:
            workers[0].start()  # a missing model is reported at once
        except StoppedError:
            return
        loops: list[tuple[str, Callable[[], None]]] = [("scheduler", self._schedule)]
        loops += [(f"screening {n}", partial(self._work, worker)) for n, worker in enumerate(workers)]
        loops += [(f"delivery {d.name}", partial(self._deliver, d, s)) for d, s in senders]
        if config.follow is not None:
            follower = Follower(config.follow, self._queue, self._spool, self.stopping)
            loops.append(("follow", follower.run))
        if config.receiver is not None:
            self.receiver = DicomReceiver(config.receiver, self._spool, self._committed, self.metrics.count_object)
            self.receiver.start()
            self.metrics.watch(self.receiver)
            logger.info("listening", extra={"address": config.receiver.address, "port": self.receiver.port})
        threads = [threading.Thread(target=self._guarded, args=loop, name=loop[0]) for loop in loops]
        for thread in threads:
            thread.start()
        self.metrics.watch_queue(self._queue, self._spool)
        self.started.set()
        logger.info("node started")
        self.stopping.wait()
        if self.receiver is not None:
            self.receiver.stop()
        for thread in threads:
            thread.join()
        logger.info("node stopped")

    def _stop(self) -> None:
        self.stopping.set()
        if self.receiver is not None:
            self.receiver.stop()

    def _guarded(self, name: str, loop: Callable[[], None]) -> None:
        """Run one thread; an error that it does not handle stops the node, which its supervisor starts again."""
        try:
            loop()
        except Exception as error:
            self._failed = f"The node stopped: its {name} ended with {type(error).__name__}."
            logger.exception("a thread ended with an error", extra={"reason": name})
            self.stopping.set()

    def _health(self) -> list[str]:
        """Return the reasons why the node does not work; empty if it does."""
        problems = [self._unready] if self._unready else []
        limits = self._config.receiver
        if limits is not None and self._spool.free_bytes() < limits.min_free_mib * 2**20:
            problems.append("the disk is full: objects are refused")
        return problems if self.started.is_set() or problems else ["the node starts"]

    # --- studies ----------------------------------------------------------------------------------------------------

    def _schedule(self) -> None:
        settings = self._config.studies
        swept = 0.0
        while not self.stopping.wait(_TICK):
            now = time.time()
            for study in self._queue.complete(now, settings.complete_after_seconds, settings.force_after_seconds):
                logger.info("study complete", extra={"study": shown(study)})
            for destination in self._config.destinations:
                if isinstance(destination, CStoreDestination) and destination.commitment:
                    self._queue.deny(destination.name, None, "commitment was not confirmed", self._config.retry, now)
            if time.monotonic() - swept > _SWEEP_SECONDS:
                swept = time.monotonic()
                self._sweep(now)

    def _sweep(self, now: float) -> None:
        """Remove images and results whose time is over."""
        settings = self._config.studies
        for study in self._queue.expired_images(now - 3600 * settings.keep_images_hours):
            if self._spool.remove_images(study):
                logger.info("images removed", extra={"study": shown(study)})
        for study in self._queue.expired_results(now - 86400 * settings.keep_results_days):
            self._spool.remove_results(study)
        for image, content in self._queue.expired_quarantine(now - 86400 * settings.keep_results_days):
            self._spool.remove_quarantine(image, content)
        self._queue.forget(now - 86400 * max(settings.forget_days, settings.keep_results_days))

    # --- screenings -------------------------------------------------------------------------------------------------

    def _work(self, worker: WorkerProcess) -> None:
        while not self.stopping.is_set():
            job = self._queue.take_job(time.time())
            if job is None:
                self.stopping.wait(_TICK)
                continue
            try:
                self._screen(job, worker)
                self._unready = ""
            except StoppedError:
                self._queue.release_job(job)
            except StartError as error:  # the study is not at fault
                self._queue.release_job(job)
                self._unready = str(error)
                logger.error("screening process does not start", extra={"reason": str(error)})
                self.stopping.wait(_START_AGAIN_SECONDS)
            except (WorkerError, OSError) as error:
                reason = str(error) if isinstance(error, WorkerError) else f"{error.strerror}"
                again = self._queue.fail_job(job, reason, self._config.screening.retry, time.time())
                self.metrics.count_failure("screening", again)
                logger.warning(
                    "screening failed" if again else "screening failed for good",
                    extra={"study": shown(job.study), "attempt": job.attempts, "reason": reason},
                )
            finally:
                self._spool.discard(job)

    def _screen(self, job: Job, worker: WorkerProcess) -> None:
        begin = time.monotonic()
        images, output = self._spool.prepare(job)
        processed = Processed.of(worker.process((images, output)))
        if processed.outcome == FAILED:
            raise WorkerError(processed.summary or "the screening failed")
        products = _products(output, processed)
        self._spool.keep_result(job, output)
        seconds = time.monotonic() - begin
        names = [destination.name for destination in self._config.destinations]
        latest = self._queue.finish_job(job, processed.outcome, products, names, seconds, time.time())
        self.metrics.count_screening(processed.outcome, seconds)
        logger.info(
            "study screened" if latest else "study screened, superseded by later images",
            extra={
                "study": shown(job.study),
                "version": job.version,
                "outcome": processed.outcome,
                "seconds": round(seconds, 1),
                "objects": len(products),
            },
        )

    # --- deliveries -------------------------------------------------------------------------------------------------

    def _deliver(self, destination: Destination, sender: CStoreSender | StowSender) -> None:
        while not self.stopping.is_set():
            due = self._queue.due_deliveries(destination.name, time.time())
            if not due:
                self.stopping.wait(_TICK)
                continue
            for _, group in groupby(due, key=lambda delivery: (delivery.study, delivery.version)):
                if self.stopping.is_set():
                    return
                self._send(destination, sender, list(group))

    def _send(
        self, destination: Destination, sender: CStoreSender | StowSender, deliveries: Sequence[Delivery]
    ) -> None:
        """Send the objects of one result."""
        waiting = {self._spool.result_folder(d.study, d.version) / d.file: d for d in deliveries}
        confirm_by = None
        if isinstance(destination, CStoreDestination) and destination.commitment:
            confirm_by = time.time() + destination.commitment_seconds
        sent: list[Path] = []
        reason = "the association was closed by the destination"
        try:
            for result in sender.send(list(waiting)):
                delivery = waiting.pop(result.file)
                if result.reason:
                    self._not_delivered(delivery, result.reason)
                else:
                    self._queue.delivered(delivery, time.time(), confirm_by)
                    sent.append(result.file)
        except DeliveryError as error:
            reason = str(error)
        except (OSError, AttributeError, pydicom.errors.InvalidDicomError) as error:
            reason = f"the result cannot be read ({type(error).__name__})"
        for delivery in waiting.values():
            self._not_delivered(delivery, reason)
        if sent:
            self.metrics.count_delivered(destination.name, len(sent))
            logger.info(
                "objects delivered",
                extra={
                    "study": shown(deliveries[0].study), "destination": destination.name, "delivered": len(sent),
                },
            )  # fmt: skip
            if confirm_by is not None and isinstance(sender, CStoreSender):
                with suppress(DeliveryError):  # without an answer the objects are sent again
                    sender.request_commitment(sent)

    def _not_delivered(self, delivery: Delivery, reason: str) -> None:
        again = self._queue.not_delivered(delivery, reason, self._config.retry, time.time())
        self.metrics.count_failure(f"delivery {delivery.destination}", again)
        logger.warning(
            "object not delivered" if again else "object not delivered for good",
            extra={
                "study": shown(delivery.study),
                "destination": delivery.destination,
                "attempt": delivery.attempts + 1,
                "reason": reason,
            },
        )

    def _committed(self, transaction: str, committed: list[str], failed: list[str]) -> None:
        destination = written_by(transaction, [d.name for d in self._config.destinations])
        if destination is None:
            logger.warning("commitment of an unknown transaction")
            return
        now = time.time()
        for _, sender in self._senders:
            if isinstance(sender, CStoreSender):
                sender.answered(transaction)
        confirmed = self._queue.confirm(destination, committed, now)
        self._queue.deny(destination, failed, "commitment failed", self._config.retry, now)
        logger.info("commitment received", extra={"destination": destination, "count": confirmed})


def screening_process(config: NodeConfig, processor: str, stop: threading.Event) -> WorkerProcess:
    """Return a process that screens; its answers are JSON, since it reads files of others and has no credentials."""
    settings = config.screening
    return WorkerProcess(
        LoadByName(processor, settings.model_dump(mode="json", exclude={"retry"})),
        Limits(settings.seconds, settings.memory_mib, settings.start_seconds),
        stop,
        name="screening process",
        hidden=secret_variables(config),
        pickled_answers=False,
    )


def _products(output: Path, processed: Processed) -> list[Product]:
    """Return the objects of a screening with their hashed SOPInstanceUIDs."""
    products = []
    for file in processed.files:
        path = output / file
        if not path.resolve().is_relative_to(output.resolve()):
            raise WorkerError("the screening named a file outside its folder")
        try:
            header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["SOPInstanceUID"])
            products.append(Product(file, hashed(str(header.SOPInstanceUID))))
        except (OSError, AttributeError, pydicom.errors.InvalidDicomError):
            raise WorkerError("the screening wrote an object that cannot be read") from None
    return products


def check_connections(config: NodeConfig) -> None:
    """Check certificates and credentials without opening a connection.

    Raises:
        ConfigError: a certificate cannot be read, or credentials are not set.
    """
    if config.receiver is not None and config.receiver.tls is not None:
        server_context(config.receiver.tls)
    for destination in config.destinations:
        make_sender(destination, "OSTEO", lambda transaction, committed, failed: None)
    if config.follow is not None:
        credentials(config.follow)
