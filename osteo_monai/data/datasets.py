"""Data sets that report all unusable records together."""

from typing import Any

from monai.data import CacheDataset

from osteo_monai.errors import ScanRefusedError, UnusableInputError

__all__ = ["SubjectDataset"]


class SubjectDataset(CacheDataset):
    """MONAI's ``CacheDataset`` of ``subject_items`` that tells of all scans that cannot be used, not of the first.

    Raises:
        SystemExit: with a sentence a record (a level that its label map lacks, a file that cannot be read), after all
            were read.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._problems: dict[int, str] = {}
        super().__init__(*args, **kwargs)
        if self._problems:
            told = "".join(f"\n  - {sentence}" for _, sentence in sorted(self._problems.items()))
            raise SystemExit(f"error: {len(self._problems)} of {len(self.data)} records cannot be used:{told}")

    def _load_cache_item(self, idx: int) -> Any:
        try:
            return super()._load_cache_item(idx)
        except RuntimeError as error:
            cause: BaseException = error
            while cause.__cause__ is not None:
                cause = cause.__cause__
            if not isinstance(cause, ValueError | KeyError | OSError | UnusableInputError | ScanRefusedError):
                raise
            self._problems[idx] = f"{self.data[idx]['place']}: {cause}"
            return None
