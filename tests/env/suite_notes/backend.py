"""A notebook in memory, as small as a suite can be: no transaction, so snapshot and restore are used around calls."""

from __future__ import annotations

import copy
from typing import Any

from awpo_env.errors import ToolError


class Backend:
    """Notes by id. Ids count up and are never used again."""

    def __init__(self, state: dict[str, Any]) -> None:
        self._state = copy.deepcopy(state)

    def snapshot(self) -> dict[str, Any]:
        return copy.deepcopy(self._state)

    def restore(self, snapshot: dict[str, Any]) -> None:
        self._state = copy.deepcopy(snapshot)

    def list_notes(self) -> list[dict[str, str]]:
        return [{"note_id": note_id, "title": note["title"]} for note_id, note in self._state["notes"].items()]

    def get_note(self, note_id: str) -> dict[str, Any]:
        return {"note_id": note_id, **self._note(note_id)}

    def add_note(self, title: str, text: str, tags: list[str] | None = None, priority: int = 1) -> dict[str, str]:
        note_id = f"N{self._state['next']}"
        self._state["next"] += 1  # before the check below, so that a refused call has something to undo
        if any(note["title"] == title for note in self._state["notes"].values()):
            raise ToolError(f"There already is a note called {title}.")
        self._state["notes"][note_id] = {"title": title, "text": text, "tags": tags or [], "priority": priority}
        return {"note_id": note_id}

    def delete_note(self, note_id: str) -> dict[str, str]:
        self._note(note_id)
        del self._state["notes"][note_id]
        return {"deleted": note_id}

    def _note(self, note_id: str) -> dict[str, Any]:
        if note_id not in self._state["notes"]:
            raise ToolError(f"There is no note {note_id}.")
        return self._state["notes"][note_id]
