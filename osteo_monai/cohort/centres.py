"""True centres of the vertebral bodies of a record."""

import json
import math
from pathlib import Path

import numpy as np

from osteo_monai.cohort.records import ExcludedRecordError, read_labels
from osteo_monai.data import Record
from osteo_monai.domain import LEVEL_LABELS, VertebraLevel
from osteo_monai.utils.inputs import read_input

Centres = dict[str, tuple[float, float, float]]
"""RAS+ mm by name of the level."""


def labelled_centres(record: Record, base: Path) -> Centres | None:
    """Return the true centres of a record's bodies, from its file of centroids or its label map of bodies.

    The centre of a whole vertebra is behind its body, so that a label map of whole vertebrae gives none. Of a label map
    of bodies those at its first or last slice are left out: they are cut.

    Args:
        record: of a manifest.
        base: folder of the manifest.

    Returns:
        The centres; ``None`` if the record has neither file.

    Raises:
        ExcludedRecordError: a file cannot be read or has another form.
    """
    if record.centroids is not None:
        return _read_centroids(base / record.centroids)
    if not isinstance(record.label, str) or record.label_kind == "vertebra":
        return None
    labels, affine = read_labels(base / record.label)
    centres: Centres = {}
    for level, number in LEVEL_LABELS.items():
        index = np.argwhere(labels == number)
        cut = len(index) and (index[:, 2].min() == 0 or index[:, 2].max() == labels.shape[2] - 1)
        if len(index) and not cut and level is not VertebraLevel.SACRUM:
            x, y, z = (float(v) for v in affine[:3, :3] @ index.mean(axis=0) + affine[:3, 3])
            centres[str(level)] = (x, y, z)
    return centres


def _read_centroids(path: Path) -> Centres:
    try:
        content = json.loads(read_input(path))
        centres = {str(name): (float(x), float(y), float(z)) for name, (x, y, z) in content.items()}
    except (OSError, ValueError, AttributeError, TypeError):
        centres = {"": (math.nan,) * 3}
    if not all(math.isfinite(value) for point in centres.values() for value in point):
        raise ExcludedRecordError(f"'{path.name}' must have three coordinates in mm by level, got another form.")
    return centres
