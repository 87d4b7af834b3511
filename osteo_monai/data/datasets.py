"""Data sets that report all unusable records together."""

from typing import Any

from monai.data import CacheDataset

from osteo_monai.errors import ManifestError, ScanRefusedError, UnusableInputError

__all__ = ["SubjectDataset"]

_RECORD_ERRORS = (ValueError, KeyError, OSError, UnusableInputError, ScanRefusedError)


class SubjectDataset(CacheDataset):
    """MONAI's ``CacheDataset`` of items with a ``place``, such as ``subject_items``.

    Args:
        *args, **kwargs: see ``CacheDataset``.

    Raises:
        ManifestError: after all items were read, with one sentence for each item that cannot be used (a level missing
            from its label map, a file that cannot be read).
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._problems: dict[int, str] = {}
        super().__init__(*args, **kwargs)
        if self._problems:
            raise ManifestError(
                f"data set of {len(self.data)} records", [sentence for _, sentence in sorted(self._problems.items())]
            )

    def _load_cache_item(self, idx: int) -> Any:
        try:
            return super()._load_cache_item(idx)
        except RuntimeError as error:  # MONAI's error names the transform only
            cause: BaseException = error
            while cause.__cause__ is not None:
                cause = cause.__cause__
            if not isinstance(cause, _RECORD_ERRORS):
                raise
            self._problems[idx] = f"{self.data[idx]['place']}: {cause}"
            return None
