"""A dictionary that cannot be changed, for frozen models."""

from typing import Any, NoReturn, TypeVar

__all__ = ["FrozenDict"]

K = TypeVar("K")
V = TypeVar("V")


class FrozenDict(dict[K, V]):
    """Dictionary without mutation: hashable if its values are, picklable, serialised as a dictionary.

    ``types.MappingProxyType`` is neither hashable nor picklable.

    Example:
        >>> numbers = FrozenDict(a=1)
        >>> numbers["a"], hash(numbers) == hash(FrozenDict(a=1))
        (1, True)
        >>> numbers["b"] = 2
        Traceback (most recent call last):
        TypeError: a FrozenDict must not be changed
    """

    def _refuse(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise TypeError("a FrozenDict must not be changed")

    __setitem__ = __delitem__ = update = setdefault = pop = popitem = clear = __ior__ = _refuse

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(frozenset(self.items()))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (dict(self),)
