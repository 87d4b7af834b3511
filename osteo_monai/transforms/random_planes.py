"""Batches of training slices whose planes differ in size, field of view and place of the body."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from monai.data.utils import list_data_collate
from torch import Tensor

from osteo_monai.errors import ConfigError

__all__ = ["RandomPlanes"]


class RandomPlanes:
    """Collate slices on a square plane whose size is drawn for each batch; a ``collate_fn``.

    A network with instance normalisation depends on the share of air in its input, and one with strides on the place of
    the body relative to them. Of each slice a random rectangle (its field of view) is put at a random place of the
    plane, or at its first pixel as at inference. The rest of the plane is air.

    Args:
        sizes: sides of the planes in pixels, drawn with equal probability; a size may be repeated.
        smallest_field: least side of a field of view in pixels; smaller slices are kept whole.
        whole: probability that a side of the field of view is as long as the slice and the plane allow.
        corner: probability that the field of view begins at the first pixel of the plane.
        covered: probability that the field of view contains the label, if it fits.
        keys: images, whose values are those of air at ``fill``, and their labels, (C, X, Y) both; the last key is the
            label.
        fill: value of air in the images.

    Draws from the generator of torch, which the loader seeds in each process.

    Raises:
        ConfigError: when an argument is out of range.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        smallest_field: int = 72,
        whole: float = 0.7,
        corner: float = 0.4,
        covered: float = 0.85,
        keys: tuple[str, str] = ("image", "label"),
        fill: float = 0.0,
    ) -> None:
        if not sizes or min(*sizes, smallest_field) < 1:
            raise ConfigError(f"sizes and smallest_field must be positive, got {list(sizes)} and {smallest_field}")
        if not all(0 <= p <= 1 for p in (whole, corner, covered)):
            raise ConfigError(f"whole, corner and covered must be from 0 to 1, got {whole}, {corner}, {covered}")
        self.sizes, self.smallest_field = tuple(sizes), smallest_field
        self.whole, self.corner, self.covered = whole, corner, covered
        self.keys, self.fill = tuple(keys), fill

    def __call__(self, batch: Sequence[Any]) -> Any:
        """Return a batch of items, which may be lists of items as of a set with several views."""
        items = [one for item in batch for one in (item if isinstance(item, list) else [item])]
        size = self.sizes[_integer(0, len(self.sizes) - 1)]
        return list_data_collate([self._placed(item, size) for item in items])

    def _placed(self, item: Mapping[str, Any], size: int) -> dict[str, Any]:
        """Return the item on a plane of ``size`` pixels."""
        label = item[self.keys[-1]]
        at_corner, covered = _chance(self.corner), _chance(self.covered)
        source, target = [], []
        for axis in (1, 2):
            length = label.shape[axis]
            longest = min(length, size)
            field = longest if _chance(self.whole) else _integer(min(self.smallest_field, longest), longest)
            start = _start(label.any(0).any(2 - axis), field, covered)
            place = 0 if at_corner else _integer(0, size - field)
            source.append(slice(start, start + field))
            target.append(slice(place, place + field))
        placed = dict(item)
        for key, fill in zip(self.keys, (self.fill, 0.0), strict=True):
            image: Tensor = item[key]
            plane = image.new_full((image.shape[0], size, size), fill)
            plane[:, target[0], target[1]] = image[:, source[0], source[1]]
            placed[key] = plane
        return placed


def _start(marked: Tensor, field: int, covered: bool) -> int:
    """Return the first pixel of a field of view along an axis; ``covered``: it contains the marked pixels if it can."""
    low, high = 0, len(marked) - field
    places = marked.nonzero().flatten()
    if covered and len(places):
        first, last = int(places[0]), int(places[-1])
        if last - first < field:
            low, high = max(low, last - field + 1), min(high, first)
    return _integer(low, high)


def _integer(low: int, high: int) -> int:
    """Return a random integer from ``low`` to ``high``, both included."""
    return int(torch.randint(low, high + 1, ()))


def _chance(probability: float) -> bool:
    return bool(torch.rand(()) < probability)
