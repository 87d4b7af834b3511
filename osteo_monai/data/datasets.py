"""Data sets that report unusable records: all of them together, or as a table beside the usable ones."""

import logging
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any

from monai.data import CacheDataset
from nibabel.filebasedimages import ImageFileError
from rich.progress import track
from torch.utils.data import IterableDataset

from osteo_monai.data.csv_tables import write_table
from osteo_monai.errors import ManifestError, OsteoError, ScanRefusedError, UnusableInputError

__all__ = ["SubjectDataset", "UsableItems"]

logger = logging.getLogger(__name__)

_RECORD_ERRORS = (ValueError, KeyError, OSError, UnusableInputError, ScanRefusedError)

_FILE_ERRORS = (OSError, EOFError, zlib.error, ImageFileError)
"""Errors of readers for a damaged file."""

_NO_READER = "cannot find a suitable reader"
"""Part of the message of MONAI's ``LoadImage`` when no reader accepts the file; a plain ``RuntimeError``."""


class SubjectDataset(CacheDataset):
    """MONAI's ``CacheDataset`` of items with a ``place``, such as ``subject_items``.

    Items that are not kept in memory (``cache_rate`` below 1) are read once at the start as well, so that those which
    cannot be used are reported together before the first step.

    Args:
        *args, **kwargs: see ``CacheDataset``.

    Raises:
        ManifestError: after all items were read, with one sentence for each item that cannot be used (a level missing
            from its label map, a file that cannot be read).
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._problems: dict[int, str] = {}
        super().__init__(*args, **kwargs)
        self._check(range(self.cache_num, len(self.data)))
        if self._problems:
            raise ManifestError(
                f"data set of {len(self.data)} records", [sentence for _, sentence in sorted(self._problems.items())]
            )

    def _check(self, indices: range) -> None:
        """Read items and keep none."""
        if not indices:
            return
        with ThreadPool(self.num_workers) as pool:
            done = pool.imap_unordered(lambda index: self._load_cache_item(index) is None, indices)
            for _ in track(done, "Checking the images", len(indices), disable=not self.progress):
                pass

    def _load_cache_item(self, idx: int) -> Any:
        try:
            return super()._load_cache_item(idx)
        except RuntimeError as error:  # MONAI's error names the transform only
            cause = _first_cause(error)
            if not isinstance(cause, _RECORD_ERRORS):
                raise
            self._problems[idx] = f"{self.data[idx]['place']}: {cause}"
            return None


class UsableItems(IterableDataset[Any]):
    """Items that can be read and transformed, in order; the others become rows of a table.

    The table has the columns ``image`` (file name) and ``reason``. It is written after the last item, and removed when
    no item was refused.

    Args:
        data: items whose ``image`` is a path; ``label`` may be a further one.
        transform: applied to each item.
        refused: CSV file of the refused items.

    Raises:
        UnusableInputError: after all items, when none could be used.
    """

    def __init__(
        self, data: Sequence[Mapping[str, Any]], transform: Callable[[Mapping[str, Any]], Any], refused: str
    ) -> None:
        super().__init__()
        self.data = data
        self.transform = transform
        self.refused = Path(refused)

    def __iter__(self) -> Iterator[Any]:
        rows: list[tuple[str, str]] = []
        for item in self.data:
            try:
                usable = self.transform(item)
            except (RuntimeError, OsteoError) as error:  # MONAI's error names the transform only
                reason = _refusal(item, _first_cause(error))
                if reason is None:
                    raise
                rows.append((Path(item["image"]).name, reason))
                logger.warning("refused %r: %s", *rows[-1])
                continue
            yield usable
        if not rows:
            self.refused.unlink(missing_ok=True)
            return
        write_table(self.refused, ("image", "reason"), rows)
        logger.warning("%d of %d images refused: %s", len(rows), len(self.data), self.refused.name)
        if len(rows) == len(self.data):
            more = f" ({len(rows) - 1} more in {self.refused.name})" if len(rows) > 1 else ""
            raise UnusableInputError(f"image {rows[0][0]!r} cannot be used: {rows[0][1]}{more}")


def _first_cause(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _refusal(item: Mapping[str, Any], cause: BaseException) -> str | None:
    """Return why an item cannot be used; ``None`` when the error is not one of its content."""
    missing = [
        key for key in ("image", "label") if isinstance(item.get(key), (str, Path)) and not Path(item[key]).exists()
    ]
    if missing:
        return f"the file of {missing[0]!r} does not exist"
    if isinstance(cause, _FILE_ERRORS) or _NO_READER in str(cause):
        return "the file is damaged or of an unknown format"
    return str(cause) if isinstance(cause, _RECORD_ERRORS) else None
