"""Who speaks for the user: a one-method seam, scripted by default."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from awpo_env.types import Message, Task


class User(Protocol):
    """The other side of the conversation."""

    def next(self, messages: Sequence[Message]) -> str | None:
        """Return what the user says next, or None when the user is done.

        Args:
            messages: The conversation so far, system message first.
        """
        ...


class ScriptedUser:
    """Says the task's user messages one after the other, whatever the assistant answers."""

    def __init__(self, task: Task) -> None:
        self._task = task

    def next(self, messages: Sequence[Message]) -> str | None:
        """Return the message after those already said."""
        said = sum(message["role"] == "user" for message in messages)
        return self._task.turns[said].message if said < len(self._task.turns) else None
