"""Worker that follows a DICOMweb service: it searches for studies and retrieves new ones into the queue."""

import logging
import threading
import time
from datetime import date, timedelta

from osteo_monai.errors import UnusableInputError
from osteo_monai.node.config import Follow
from osteo_monai.node.dicomweb import find_studies, retrieve
from osteo_monai.node.queue import Queue
from osteo_monai.node.spool import Spool
from osteo_monai.node.uids import hashed, shown
from osteo_monai.node.web import web_client

__all__ = ["Follower"]

logger = logging.getLogger(__name__)


class Follower:
    """Searches again and again; a study is retrieved when it has more instances than before.

    Args:
        settings: the service and the search.
        queue: that remembers what was retrieved.
        spool: that stores the images.
        stop: ends :meth:`run` when set.

    Raises:
        ConfigError: credentials are not set.
    """

    def __init__(self, settings: Follow, queue: Queue, spool: Spool, stop: threading.Event) -> None:
        self._settings = settings
        self._queue = queue
        self._spool = spool
        self._stop = stop
        self._client = web_client(settings)

    def run(self) -> None:
        """Search until stopped."""
        while not self._stop.is_set():
            self.search()
            self._stop.wait(self._settings.every_seconds)

    def search(self) -> int:
        """Search once and retrieve new studies; return their number. Failures are logged and tried again later."""
        today = date.today()
        first = today - timedelta(days=self._settings.days)
        query = {"StudyDate": f"{first:%Y%m%d}-{today:%Y%m%d}"} | self._settings.query
        try:
            studies = find_studies(self._client, query, self._settings.most)
        except UnusableInputError as error:
            logger.warning("search failed", extra={"reason": str(error)})
            return 0
        number = 0
        for study, instances in studies:
            if self._stop.is_set():
                break
            key = hashed(study)
            if max(instances, 1) <= self._queue.followed(key):
                continue
            try:
                self._retrieve(study)
            except (UnusableInputError, OSError) as error:
                reason = str(error) if isinstance(error, UnusableInputError) else error.strerror
                logger.warning("study not retrieved", extra={"study": shown(key), "reason": reason})
                continue
            self._queue.add_followed(key, max(instances, 1), time.time())
            number += 1
        return number

    def _retrieve(self, study: str) -> None:
        objects = 0
        for item in retrieve(self._client, study):
            if item.study != study:
                raise UnusableInputError("An object of the DICOMweb service must belong to the study of the request.")
            self._spool.store(item, time.time())
            objects += 1
            if self._stop.is_set():
                raise UnusableInputError("The node stops.")
        logger.info("study retrieved", extra={"study": shown(hashed(study)), "objects": objects})
