"""Durable queue of the node in SQLite: images received, studies, screenings and deliveries.

Every change is one transaction that is on the disk when it returns (WAL, synchronous FULL), so that a process that is
killed anywhere leaves a state to continue from. Studies and images are named by hashed UIDs; the queue has no other
attribute of a patient.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from osteo_monai.node.config import Retry
from osteo_monai.node.database import Database, Row

__all__ = ["Delivery", "Image", "Job", "Product", "Queue"]


@dataclass(frozen=True)
class Image:
    """One received object: hashed SOPInstanceUID and StudyInstanceUID, SHA-256 of the content, bytes."""

    image: str
    study: str
    content: str
    size: int
    present: bool = True


@dataclass(frozen=True)
class Job:
    """One screening of one study.

    Attributes:
        job: its number.
        study: hashed StudyInstanceUID.
        version: from 1; a later one supersedes the earlier.
        attempts: with this one.
        images: that it gets; later ones make a new version.
    """

    job: int
    study: str
    version: int
    attempts: int
    images: tuple[Image, ...] = ()


@dataclass(frozen=True)
class Product:
    """One object to deliver: its file name in the folder of the result, and hashed SOPInstanceUID."""

    file: str
    instance: str


@dataclass(frozen=True)
class Delivery:
    """One object for one destination."""

    delivery: int
    study: str
    version: int
    destination: str
    file: str
    attempts: int


class Queue:
    """The queue of a node.

    Args:
        path: of the SQLite file; made if missing.

    Raises:
        UnusableInputError: the file is no queue, or one of another version.
    """

    def __init__(self, path: Path) -> None:
        self._db = Database(path)
        self._rows, self._one, self._change, self._set = (
            self._db.rows, self._db.one, self._db.change, self._db.execute,
        )  # fmt: skip

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    # --- images and studies -----------------------------------------------------------------------------------------

    def image(self, image: str) -> Image | None:
        """Return what is known of an image."""
        row = self._one("SELECT image, study, content, bytes, present FROM images WHERE image = ?", image)
        return None if row is None else Image(image, row["study"], row["content"], row["bytes"], bool(row["present"]))

    def images_of(self, study: str) -> list[Image]:
        """Return all images of a study."""
        rows = self._rows("SELECT image, content, bytes, present FROM images WHERE study = ? ORDER BY image", study)
        return [Image(row["image"], study, row["content"], row["bytes"], bool(row["present"])) for row in rows]

    def study_size(self, study: str) -> tuple[int, int]:
        """Return number and bytes of the images of a study."""
        row = self._one("SELECT images, bytes FROM studies WHERE study = ?", study)
        return (0, 0) if row is None else (row["images"], row["bytes"])

    def add_image(self, image: Image, now: float) -> None:
        """Record an image whose file is on the disk: a new one, or the same one whose file had been removed."""
        with self._change():
            known = self.image(image.image)
            self._set(
                "INSERT INTO images VALUES (?, ?, ?, ?, 1, ?) ON CONFLICT (image) DO UPDATE SET present = 1",
                (image.image, image.study, image.content, image.size, now),
            )
            self._set(
                "INSERT INTO studies (study, state, first_at, last_at) VALUES (?, 'receiving', ?, ?)"
                " ON CONFLICT (study) DO UPDATE SET state = 'receiving', last_at = excluded.last_at,"
                " first_at = CASE state WHEN 'receiving' THEN first_at ELSE excluded.first_at END",
                (image.study, now, now),
            )
            if known is None:
                self._set(
                    "UPDATE studies SET images = images + 1, bytes = bytes + ? WHERE study = ?",
                    (image.size, image.study),
                )

    def add_quarantine(self, image: Image, now: float) -> None:
        """Record an object that has the SOPInstanceUID of another one and is kept apart."""
        with self._change():
            self._set(
                "INSERT OR IGNORE INTO quarantine VALUES (?, ?, ?, ?)", (image.image, image.content, image.study, now)
            )

    def complete(self, now: float, after: float, force: float) -> list[str]:
        """Complete the studies whose time is over, and add a screening for each that has new images.

        Args:
            now: time in seconds since 1970.
            after: seconds since the last new image.
            force: seconds since the first new image.

        Returns:
            The studies that were completed.
        """
        with self._change():
            # a clock that was set back must not keep a study open
            self._set("UPDATE studies SET last_at = ? WHERE state = 'receiving' AND last_at > ?", (now, now))
            self._set("UPDATE studies SET first_at = ? WHERE state = 'receiving' AND first_at > ?", (now, now))
            rows = self._rows(
                "SELECT study, last_at FROM studies WHERE state = 'receiving' AND (last_at <= ? OR first_at <= ?)",
                now - after,
                now - force,
            )
            for row in rows:
                self._complete(row["study"], now, forced=row["last_at"] > now - after)
        return [row["study"] for row in rows]

    def _complete(self, study: str, now: float, forced: bool) -> None:
        images = self.images_of(study)
        missing = sum(not image.present for image in images)
        content = _content(images)
        latest = self._one("SELECT * FROM jobs WHERE study = ? ORDER BY version DESC LIMIT 1", study)
        same = latest is not None and latest["content"] == content
        state, reason = "complete", ""
        if missing and not same:
            state = "incomplete"
            reason = f"{missing} of {len(images)} images were removed after their time; send the whole study again"
        self._set("UPDATE studies SET state = ?, reason = ? WHERE study = ?", (state, reason, study))
        if state == "incomplete" or same:
            return
        if latest is not None and latest["state"] == "waiting" and not latest["attempts"]:
            self._set("UPDATE jobs SET content = ?, forced = ? WHERE job = ?", (content, forced, latest["job"]))
            return
        self._supersede(study)
        version = 1 if latest is None else latest["version"] + 1
        self._set(
            "INSERT INTO jobs (study, version, content, forced, state, due, at) VALUES (?, ?, ?, ?, 'waiting', ?, ?)",
            (study, version, content, forced, now, now),
        )

    def _supersede(self, study: str) -> None:
        """Stop what has not left the node of the earlier results of a study; a running screening ends by itself."""
        self._set(
            "UPDATE deliveries SET state = 'superseded' WHERE state IN ('waiting', 'dead')"
            " AND job IN (SELECT job FROM jobs WHERE study = ?)",
            (study,),
        )

    # --- screenings -------------------------------------------------------------------------------------------------

    def take_job(self, now: float) -> Job | None:
        """Start the next screening that is due, of a study that receives no images or that was completed by force."""
        with self._change():
            self._set(
                "UPDATE jobs SET state = 'superseded' WHERE state IN ('waiting', 'dead') AND EXISTS"
                " (SELECT 1 FROM jobs later WHERE later.study = jobs.study AND later.version > jobs.version)"
            )
            row = self._one(
                "SELECT job, study, version, attempts FROM jobs JOIN studies USING (study)"
                " WHERE jobs.state = 'waiting' AND due <= ? AND (studies.state = 'complete' OR forced)"
                " ORDER BY due, job LIMIT 1",
                now,
            )
            if row is None:
                return None
            attempts = row["attempts"] + 1
            images = tuple(image for image in self.images_of(row["study"]) if image.present)
            self._set(
                "UPDATE jobs SET state = 'running', attempts = ?, content = ? WHERE job = ?",
                (attempts, _content(images), row["job"]),
            )
        return Job(row["job"], row["study"], row["version"], attempts, images)

    def finish_job(
        self,
        job: Job,
        outcome: str,
        products: Sequence[Product],
        destinations: Iterable[str],
        seconds: float,
        now: float,
    ) -> bool:
        """Record a finished screening and its deliveries; return ``False`` if a later version supersedes it."""
        with self._change():
            later = self._one("SELECT 1 FROM jobs WHERE study = ? AND version > ?", job.study, job.version)
            state = "superseded" if later else "done"
            self._set(
                "UPDATE jobs SET state = ?, outcome = ?, seconds = ?, reason = '', at = ? WHERE job = ?",
                (state, outcome, seconds, now, job.job),
            )
            if later:
                return False
            for destination in destinations:
                for product in products:
                    self._set(
                        "INSERT INTO deliveries (job, destination, file, instance, state, due, at)"
                        " VALUES (?, ?, ?, ?, 'waiting', ?, ?)",
                        (job.job, destination, product.file, product.instance, now, now),
                    )
        return True

    def fail_job(self, job: Job, reason: str, retry: Retry, now: float) -> bool:
        """Record a failed screening; return whether it is tried again."""
        again = job.attempts < retry.attempts
        with self._change():
            self._set(
                "UPDATE jobs SET state = ?, due = ?, reason = ?, at = ? WHERE job = ? AND state = 'running'",
                ("waiting" if again else "dead", now + retry.wait(job.attempts), reason, now, job.job),
            )
        return again

    def release_job(self, job: Job) -> None:
        """Give a screening back that a graceful stop ended; it is no failed attempt."""
        with self._change():
            self._set(
                "UPDATE jobs SET state = 'waiting', attempts = attempts - 1 WHERE job = ? AND state = 'running'",
                (job.job,),
            )

    def recover(self, retry: Retry, now: float) -> int:
        """Return the screenings of a process that was killed to the queue; one that did so too often is dead.

        Returns:
            Their number.
        """
        with self._change():
            rows = self._rows("SELECT job, attempts FROM jobs WHERE state = 'running'")
            for row in rows:
                again = row["attempts"] < retry.attempts
                self._set(
                    "UPDATE jobs SET state = ?, due = ?, reason = ? WHERE job = ?",
                    ("waiting" if again else "dead", now, "the node stopped during the screening", row["job"]),
                )
        return len(rows)

    # --- deliveries -------------------------------------------------------------------------------------------------

    def due_deliveries(self, destination: str, now: float, most: int = 100) -> list[Delivery]:
        """Return the deliveries that are due, those of one result together."""
        rows = self._rows(
            "SELECT delivery, study, version, destination, file, deliveries.attempts FROM deliveries JOIN jobs"
            " USING (job) WHERE destination = ? AND deliveries.state = 'waiting' AND deliveries.due <= ?"
            " ORDER BY job, delivery LIMIT ?",
            destination,
            now,
            most,
        )
        return [Delivery(**row) for row in rows]

    def delivered(self, delivery: Delivery, now: float, confirm_by: float | None = None) -> None:
        """Record that the destination has an object; with ``confirm_by``, that its confirmation is awaited."""
        state, due = ("done", now) if confirm_by is None else ("sent", confirm_by)
        with self._change():
            self._set(
                "UPDATE deliveries SET state = ?, due = ?, attempts = attempts + 1, reason = '', at = ?"
                " WHERE delivery = ?",
                (state, due, now, delivery.delivery),
            )

    def not_delivered(self, delivery: Delivery, reason: str, retry: Retry, now: float) -> bool:
        """Record a failed delivery; return whether it is tried again."""
        with self._change():
            return self._not_delivered(delivery.delivery, delivery.attempts, reason, retry, now)

    def _not_delivered(self, delivery: int, attempts: int, reason: str, retry: Retry, now: float) -> bool:
        again = attempts + 1 < retry.attempts
        self._set(
            "UPDATE deliveries SET state = ?, attempts = ?, due = ?, reason = ?, at = ? WHERE delivery = ?",
            ("waiting" if again else "dead", attempts + 1, now + retry.wait(attempts + 1), reason, now, delivery),
        )
        return again

    def confirm(self, destination: str, instances: Iterable[str], now: float) -> int:
        """Record the storage commitment of a destination for hashed SOPInstanceUIDs; return the number confirmed."""
        with self._change():
            return sum(
                self._set(
                    "UPDATE deliveries SET state = 'done', reason = '', at = ?"
                    " WHERE destination = ? AND instance = ? AND state = 'sent'",
                    (now, destination, instance),
                )
                for instance in instances
            )

    def deny(self, destination: str, instances: Iterable[str] | None, reason: str, retry: Retry, now: float) -> int:
        """Send objects again whose commitment failed, or with ``None`` those whose confirmation is overdue."""
        with self._change():
            statement = (
                "SELECT delivery, attempts, instance, due FROM deliveries WHERE destination = ? AND state = 'sent'"
            )
            rows = self._rows(statement, destination)
            chosen = None if instances is None else set(instances)
            late = [row for row in rows if (row["due"] <= now if chosen is None else row["instance"] in chosen)]
            for row in late:
                # the attempt was counted when the object was sent
                self._not_delivered(row["delivery"], row["attempts"] - 1, reason, retry, now)
        return len(late)

    # --- studies of a followed service ------------------------------------------------------------------------------

    def followed(self, study: str) -> int:
        """Return the number of images that a study of a followed service had when it was retrieved; 0 if never."""
        row = self._one("SELECT images FROM followed WHERE study = ?", study)
        return 0 if row is None else int(row["images"])

    def add_followed(self, study: str, images: int, now: float) -> None:
        with self._change():
            self._set(
                "INSERT INTO followed VALUES (?, ?, ?) ON CONFLICT (study) DO UPDATE SET images = excluded.images",
                (study, images, now),
            )

    # --- lists ------------------------------------------------------------------------------------------------------

    def counts(self) -> dict[str, dict[str, int]]:
        """Return the number of studies, jobs and deliveries by state, and of objects in quarantine."""
        tables = {
            name: {row["state"]: row["n"] for row in self._rows(f"SELECT state, COUNT(*) n FROM {name} GROUP BY state")}
            for name in ("studies", "jobs", "deliveries")
        }
        row = self._one("SELECT COUNT(*) n FROM quarantine")
        return tables | {"quarantine": {"kept": row["n"] if row else 0}}

    def outcomes(self) -> dict[str, int]:
        """Return the number of finished screenings by outcome."""
        rows = self._rows("SELECT outcome, COUNT(*) n FROM jobs WHERE state = 'done' GROUP BY outcome")
        return {row["outcome"]: row["n"] for row in rows}

    def studies(self, most: int = 100) -> list[Row]:
        """Return the studies that receive images or wait for their screening, and those that cannot be completed."""
        return self._rows(
            "SELECT studies.study, studies.state, images, bytes, first_at, last_at, studies.reason,"
            " jobs.state AS job_state, version, attempts, due, jobs.reason AS job_reason"
            " FROM studies LEFT JOIN jobs ON jobs.study = studies.study AND jobs.state IN ('waiting', 'running')"
            " WHERE studies.state IN ('receiving', 'incomplete') OR jobs.job IS NOT NULL"
            " ORDER BY studies.first_at LIMIT ?",
            most,
        )

    def results(self, most: int = 100) -> list[Row]:
        """Return the latest finished screenings, with the number of their deliveries by state."""
        return self._rows(
            "SELECT study, version, outcome, seconds, jobs.at, COUNT(delivery) AS objects,"
            " COALESCE(SUM(deliveries.state = 'done'), 0) AS delivered FROM jobs LEFT JOIN deliveries USING (job)"
            " WHERE jobs.state = 'done' GROUP BY job ORDER BY jobs.at DESC, job DESC LIMIT ?",
            most,
        )

    def failures(self, most: int = 1000) -> list[Row]:
        """Return all dead letters, those that cannot be completed, and objects in quarantine: ``item`` names each."""
        return self._rows(
            "SELECT 'job ' || job AS item, study, 'screening' AS kind, attempts, reason, at FROM jobs"
            " WHERE state = 'dead'"
            " UNION ALL SELECT 'delivery ' || delivery, study, 'delivery to ' || destination, deliveries.attempts,"
            " deliveries.reason, deliveries.at FROM deliveries JOIN jobs USING (job) WHERE deliveries.state = 'dead'"
            " UNION ALL SELECT 'study ' || substr(study, 1, 12), study, 'images', 0, reason, last_at FROM studies"
            " WHERE state = 'incomplete'"
            " UNION ALL SELECT 'image ' || substr(image, 1, 12), study, 'quarantine', 0,"
            " 'another object with the same SOPInstanceUID was received before', at FROM quarantine"
            " ORDER BY at DESC LIMIT ?",
            most,
        )

    def revive(self, items: Sequence[str], now: float) -> list[str]:
        """Queue dead letters again.

        Args:
            items: such as ``job 3`` or ``delivery 8``, see :meth:`failures`; empty for all of them.
            now: time in seconds since 1970.

        Returns:
            The items that were queued.
        """
        dead = {row["item"] for row in self.failures() if row["item"].startswith(("job ", "delivery "))}
        chosen = sorted(dead if not items else dead & set(items))
        with self._change():
            for item in chosen:
                table, _, number = item.partition(" ")
                name = {"job": "jobs", "delivery": "deliveries"}[table]
                self._set(
                    f"UPDATE {name} SET state = 'waiting', attempts = 0, due = ? WHERE {table} = ? AND state = 'dead'",
                    (now, int(number)),
                )
        return chosen

    # --- removal ----------------------------------------------------------------------------------------------------

    def expired_images(self, before: float) -> list[str]:
        """Return studies without new images since ``before`` that have files and nothing to screen."""
        rows = self._rows(
            "SELECT study FROM studies WHERE last_at < ? AND state != 'receiving'"
            " AND EXISTS (SELECT 1 FROM images WHERE images.study = studies.study AND present)"
            " AND NOT EXISTS (SELECT 1 FROM jobs WHERE jobs.study = studies.study"
            " AND jobs.state IN ('waiting', 'running', 'dead'))",
            before,
        )
        return [row["study"] for row in rows]

    def expired_results(self, before: float) -> list[str]:
        """Return studies without new images since ``before`` that have nothing to screen or to deliver."""
        rows = self._rows(
            "SELECT DISTINCT study FROM jobs JOIN studies USING (study) WHERE last_at < ?"
            " AND NOT EXISTS (SELECT 1 FROM jobs j LEFT JOIN deliveries d USING (job) WHERE j.study = studies.study"
            " AND (j.state IN ('waiting', 'running', 'dead') OR d.state IN ('waiting', 'sent', 'dead')))",
            before,
        )
        return [row["study"] for row in rows]

    def expired_quarantine(self, before: float) -> list[tuple[str, str]]:
        """Forget the objects in quarantine since before a time; return their names and contents."""
        with self._change():
            rows = self._rows("SELECT image, content FROM quarantine WHERE at < ?", before)
            self._set("DELETE FROM quarantine WHERE at < ?", (before,))
        return [(row["image"], row["content"]) for row in rows]

    def forget(self, before: float) -> int:
        """Remove all rows of studies without new images since ``before`` whose files are removed and work is done.

        Returns:
            The number of studies.
        """
        with self._change():
            studies = [
                row["study"]
                for row in self._rows("SELECT study FROM studies WHERE last_at < ? AND state = 'complete'", before)
                if self._is_past(row["study"])
            ]
            for study in studies:
                jobs = "SELECT job FROM jobs WHERE study = ?"
                self._set(f"DELETE FROM deliveries WHERE job IN ({jobs})", (study,))
                for table in ("jobs", "images", "followed", "studies"):
                    self._set(f"DELETE FROM {table} WHERE study = ?", (study,))
        return len(studies)

    def _is_past(self, study: str) -> bool:
        return not self._rows(
            "SELECT 1 FROM images WHERE study = ? AND present"
            " UNION ALL SELECT 1 FROM jobs LEFT JOIN deliveries d USING (job) WHERE study = ?"
            " AND (jobs.state IN ('waiting', 'running', 'dead') OR d.state IN ('waiting', 'sent', 'dead')) LIMIT 1",
            study,
            study,
        )

    def images_removed(self, study: str) -> bool:
        """Record that the files of a study will be removed; return ``False`` if it has new images."""
        with self._change():
            changed = self._set(
                "UPDATE images SET present = 0 WHERE study = ?"
                " AND EXISTS (SELECT 1 FROM studies WHERE study = ? AND state != 'receiving')",
                (study, study),
            )
        return changed > 0


def _content(images: Iterable[Image]) -> str:
    """Return one hash of the content of all images of a study, whether or not their files are present."""
    lines = sorted(f"{image.image} {image.content}" for image in images)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
