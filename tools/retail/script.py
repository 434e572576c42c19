"""Write down what the user says and how a perfect assistant serves it, call by call."""

from __future__ import annotations

from typing import Any

from awpo_env.types import AssistantMessage, Fact, ToolCall, UserTurn

JSON = Any


class Script:
    """The turns of one task in the making.

    `user` opens a turn, `call` adds messages with calls, `tell` closes the turn with what the user is told.
    """

    def __init__(self) -> None:
        self.turns: list[UserTurn] = []
        self.used_tools: set[str] = set()
        self._message = ""
        self._new_tools: tuple[str, ...] = ()
        self._reference: list[AssistantMessage] = []

    def user(self, message: str, new_tools: tuple[str, ...] = ()) -> None:
        """Open a turn."""
        self._message, self._new_tools, self._reference = message, new_tools, []

    def call(self, reasoning: str, name: str, **arguments: JSON) -> None:
        """Add an assistant message with one call."""
        self.call_all(reasoning, ToolCall(name, arguments))

    def call_all(self, reasoning: str, *calls: ToolCall) -> None:
        """Add an assistant message with calls that do not need each other's results."""
        self._reference.append(AssistantMessage(reasoning, "", calls))
        self.used_tools.update(call.name for call in calls)

    def tell(self, reasoning: str, content: str, *facts: Fact) -> None:
        """Close the turn with a message to the user."""
        reference = (*self._reference, AssistantMessage(reasoning, content))
        self.turns.append(UserTurn(self._message, reference, facts, self._new_tools))
