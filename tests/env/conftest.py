"""Shared by the tests of the environments: a tiny suite in a folder, and environments that close themselves."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from awpo_env.env import ToolUseEnv
from awpo_env.suites import Suite, load_suite

NOTES = Path(__file__).parent / "suite_notes"


def call_text(name: str, **arguments: Any) -> str:
    return f"<tool_call>{json.dumps({'name': name, 'arguments': arguments})}</tool_call>"


@pytest.fixture(scope="session")
def call() -> Callable[..., str]:
    """Writes a call the way a model does."""
    return call_text


@pytest.fixture(scope="session")
def notes() -> Suite:
    """The folder suite of these tests."""
    return load_suite(NOTES)


@pytest.fixture
def make(notes: Suite) -> Iterator[Callable[..., ToolUseEnv]]:
    """Builds environments, of the notes suite unless told otherwise, and closes them afterwards."""
    made: list[ToolUseEnv] = []

    def build(suite: Any = notes, *, task: str | None = None, **settings: Any) -> ToolUseEnv:
        made.append(ToolUseEnv(suite, **settings))
        if task is not None:
            made[-1].reset(options={"task_id": task})
        return made[-1]

    yield build
    for env in made:
        env.close()
