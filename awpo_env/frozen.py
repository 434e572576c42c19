"""JSON values that cannot be changed, so that one can be handed to everybody without a copy."""

from __future__ import annotations

from typing import Any, NoReturn, Self

from awpo_env.types import JSON


def freeze(value: JSON) -> JSON:
    """Return a copy of a JSON value whose objects and lists, at any depth, refuse every change.

    To whoever reads them they are still `dict` and `list`. `thaw` and `pickle` make ordinary ones of them; a
    `copy.deepcopy` is the value itself, as of everything immutable.

    >>> freeze({"type": "object"})["type"] = "string"
    Traceback (most recent call last):
    TypeError: this value is shared and cannot be changed; awpo_env.frozen.thaw(value) returns a copy that can
    """
    if isinstance(value, dict):
        return FrozenDict((name, freeze(item)) for name, item in value.items())
    return FrozenList(map(freeze, value)) if isinstance(value, list) else value


def thaw(value: JSON) -> JSON:
    """Return a copy of a JSON value that is made of ordinary dicts and lists."""
    if isinstance(value, dict):
        return {name: thaw(item) for name, item in value.items()}
    return [thaw(item) for item in value] if isinstance(value, list) else value


def _refuse(self: Any, *args: Any, **kwargs: Any) -> NoReturn:
    raise TypeError("this value is shared and cannot be changed; awpo_env.frozen.thaw(value) returns a copy that can")


class FrozenDict(dict[str, JSON]):
    """A JSON object that refuses every change."""

    __slots__ = ()
    __setitem__ = __delitem__ = __ior__ = clear = pop = popitem = setdefault = update = _refuse

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __reduce__(self) -> tuple[type, tuple[JSON]]:
        return dict, (thaw(self),)


class FrozenList(list[JSON]):
    """A JSON list that refuses every change."""

    __slots__ = ()
    __setitem__ = __delitem__ = __iadd__ = __imul__ = _refuse
    append = clear = extend = insert = pop = remove = reverse = sort = _refuse

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __reduce__(self) -> tuple[type, tuple[JSON]]:
        return list, (thaw(self),)
