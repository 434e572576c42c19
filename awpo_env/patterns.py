"""Regular expressions of a schema: the verdict of Python's `re`, in bounded time whatever the pattern and the text."""

from __future__ import annotations

import re
from collections.abc import Callable
from re import _compiler, _constants, _parser  # type: ignore[attr-defined]
from typing import Any

_LONGEST_PATTERN = 2_000  # characters
_SHORT = 48  # characters of a text that `re` itself may be given
_MOST_PATHS = 200_000  # ways through a pattern that `re` may have to try on a short text
_MOST_STEPS = 500_000  # positions visited in one search

_Starts = set[int]
_Step = Callable[["_Search", _Starts], _Starts]

_LEAVES = (_constants.LITERAL, _constants.NOT_LITERAL, _constants.ANY, _constants.IN, _constants.AT)
_REPEATS = (_constants.MAX_REPEAT, _constants.MIN_REPEAT)
_NAMES = {
    _constants.GROUPREF: "a back-reference",
    _constants.GROUPREF_EXISTS: "a back-reference",
    _constants.ASSERT: "a look-behind",
    _constants.ASSERT_NOT: "a look-behind",
    _constants.SUBPATTERN: "a group with flags of its own",
    _constants.POSSESSIVE_REPEAT: "a possessive repeat",
    _constants.ATOMIC_GROUP: "an atomic group",
}


class TooMuchWork(Exception):
    """A text is too long to be matched against this pattern."""


class BoundedPattern:
    """A regular expression whose searches end soon.

    Python's `re` goes back and tries again, for ever on a pattern such as ``^(a+)+$``. Where a pattern has few enough
    ways through it and the text is short, `re` is used; otherwise every way is followed at once, as the set of
    positions reached, which costs at most the product of both lengths.

    Attributes:
        is_quick: Whether `re` is used on short texts.

    Args:
        pattern: A regular expression as Python writes them.

    Raises:
        ValueError: The pattern is none, or uses what cannot be bounded; the message is a clause that says which.
    """

    def __init__(self, pattern: str) -> None:
        if len(pattern) > _LONGEST_PATTERN:
            raise ValueError(f"has {len(pattern)} characters; at most {_LONGEST_PATTERN} are read")
        try:
            tree = _parser.parse(pattern)
            self._search = re.compile(pattern).search
            is_anchored = len(tree) > 0 and tree[0] == (_constants.AT, _constants.AT_BEGINNING)
            self.is_quick = _count_paths(tree) * (1 if is_anchored else _SHORT) <= _MOST_PATHS
            self._step = _sequence(tree)
        except (re.error, OverflowError) as error:
            raise ValueError(f"is no regular expression: {error}") from None
        except RecursionError:
            raise ValueError("is nested too deeply") from None

    def matches(self, text: str) -> bool:
        """Return whether the pattern is found somewhere in `text`.

        Raises:
            TooMuchWork: Finding out would take too long.
        """
        if self.is_quick and len(text) <= _SHORT:
            return self._search(text) is not None
        try:
            return bool(self._step(_Search(text), set(range(len(text) + 1))))
        except RecursionError:
            raise TooMuchWork from None


class _Search:
    """One text, and how much may still be done on it."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._left = _MOST_STEPS

    def spend(self, starts: _Starts) -> None:
        self._left -= len(starts) + 1
        if self._left < 0:
            raise TooMuchWork


def _count_paths(tree: Any) -> int:
    """Return how many ways of matching a short text there are at most, or a number beyond the limit."""
    paths = 1
    for node in tree:
        paths = min(paths * _paths_of(*node), _MOST_PATHS + 1)
    return paths


def _paths_of(kind: Any, value: Any) -> int:
    if kind in _LEAVES:
        return 1
    if kind is _constants.BRANCH:
        return sum(map(_count_paths, value[1]))
    if kind is _constants.SUBPATTERN and not value[1] and not value[2]:
        return _count_paths(value[3])
    if kind in _REPEATS:
        low, high, body = value
        paths, total = _count_paths(body), 0
        for count in range(min(low, _SHORT), min(high, _SHORT) + 1):
            total += paths**count
            if total > _MOST_PATHS:
                break
        return total
    if kind in (_constants.ASSERT, _constants.ASSERT_NOT) and value[0] > 0:
        return _count_paths(value[1])
    raise ValueError(f"uses {_NAMES.get(kind, 'a construct')}, which cannot be matched in bounded time")


def _sequence(tree: Any) -> _Step:
    """Return what leads from the positions before a sequence to all those behind it."""
    steps: list[_Step] = []
    for node in tree:
        steps.append(_leaf(tree.state, node) if _paths_of(*node) == 1 else _STEPS[node[0]](node[1]))

    def follow(search: _Search, starts: _Starts) -> _Starts:
        for step in steps:
            if not starts:
                break
            search.spend(starts)
            starts = step(search, starts)
        return starts

    return follow


def _leaf(state: Any, node: Any) -> _Step:
    """A node that matches in one way only is left to `re`."""
    match = _compiler.compile(_parser.SubPattern(state, [node])).match
    return lambda search, starts: {found.end() for start in starts if (found := match(search.text, start))}


def _branch(value: Any) -> _Step:
    branches = [_sequence(branch) for branch in value[1]]
    return lambda search, starts: set().union(*(branch(search, starts) for branch in branches))


def _repeat(value: Any) -> _Step:
    low, high, body = value[0], value[1], _sequence(value[2])

    def follow(search: _Search, starts: _Starts) -> _Starts:
        for _ in range(low):
            search.spend(starts)
            starts, before = body(search, starts), starts
            if starts == before or not starts:
                break
        reached, num_repeats = set(starts), low
        while starts and num_repeats < high:
            search.spend(starts)
            starts = body(search, starts) - reached
            reached |= starts
            num_repeats += 1
        return reached

    return follow


def _look_ahead(value: Any, is_wanted: bool) -> _Step:
    body = _sequence(value[1])
    return lambda search, starts: {start for start in starts if bool(body(search, {start})) is is_wanted}


_STEPS: dict[Any, Callable[[Any], _Step]] = {
    _constants.BRANCH: _branch,
    _constants.SUBPATTERN: lambda value: _sequence(value[3]),
    _constants.MAX_REPEAT: _repeat,
    _constants.MIN_REPEAT: _repeat,
    _constants.ASSERT: lambda value: _look_ahead(value, True),
    _constants.ASSERT_NOT: lambda value: _look_ahead(value, False),
}
