"""Conversations as text for people."""

from __future__ import annotations

from collections.abc import Sequence

from awpo_env.types import Message


def render_messages(messages: Sequence[Message]) -> str:
    """Return the conversation as a readable transcript, one paragraph a message."""
    return "\n".join(_render(message) for message in messages)


def _render(message: Message) -> str:
    role = message["role"]
    if role != "assistant":
        label = f"tool {message['name']}" if role == "tool" else role
        return f"[{label}] {message['content']}"
    lines = []
    if message.get("reasoning_content"):
        lines.append(f"[assistant thinks] {message['reasoning_content']}")
    for call in message.get("tool_calls", ()):
        lines.append(f"[assistant calls] {call['function']['name']} {call['function']['arguments']}")
    if message["content"] or not lines:
        lines.append(f"[assistant] {message['content']}")
    return "\n".join(lines)
