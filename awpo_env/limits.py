"""When an episode is cut off."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from awpo_env.errors import UsageError, did_you_mean


@dataclass(frozen=True, slots=True)
class Limits:
    """When an episode is cut off (`truncated`), and what a message may cost.

    Attributes:
        max_turns: Assistant messages in an episode.
        max_tool_calls: Tool calls in an episode; calls beyond it are answered with a ``limit`` error.
        max_parse_errors: Assistant messages in a row that hold an unreadable call.
    """

    max_turns: int = 30
    max_tool_calls: int = 60
    max_parse_errors: int = 3

    def __post_init__(self) -> None:
        for name in self.__slots__:
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise UsageError(f"{name} is {value!r}; expected a whole number, at least 1")

    @classmethod
    def from_mapping(cls, limits: Mapping[str, int]) -> Limits:
        """Build limits from their names; an unknown name is refused."""
        known = cls.__slots__
        for name in limits:
            if name not in known:
                raise UsageError(f"unknown limit {name!r}; expected one of {known}.{did_you_mean(name, known)}")
        return cls(**limits)
