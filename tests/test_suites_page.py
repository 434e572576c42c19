"""The page about the built-in suites counts right; ``python tests/test_suites_page.py`` rewrites its tables."""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from awpo_env.demonstrations import demonstrate
from awpo_env.env import ToolUseEnv
from awpo_env.suites import BUILT_IN, load_suite

PAGE = Path(__file__).parent.parent / "docs" / "suites.md"
NUM_TASKS = 60
TABLES = re.compile(r"(?<=\n\n)\|.*?\|(?=\n\n)", re.DOTALL)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def suites() -> str:
    """One row a suite, with what its package says of itself."""
    rows = []
    for name in BUILT_IN:
        suite = load_suite(name)
        summary = importlib.import_module(f"awpo_tools.{name}").__doc__.strip().split(": ", 1)[1].removesuffix(".")
        rows.append([f"`{name}`", summary, str(len(suite.tools)), str(len(suite.kinds))])
    return table(["suite", "what it is", "tools", "kinds of task"], rows)


def sizes() -> str:
    """One row a preset: the reference conversations of its first training tasks."""
    rows = [
        [f"`{name}`", f"`{preset}`", *size(name, preset)] for name in BUILT_IN for preset in load_suite(name).presets
    ]
    return table(["suite", "preset", "kinds", "user turns", "calls", "most calls", "thousand characters"], rows)


def size(name: str, preset: str) -> list[str]:
    env, rng, texts = ToolUseEnv(name, preset=preset), np.random.default_rng(0), []
    tasks = [env.suite.task(f"train/{preset}/{index}") for index in range(NUM_TASKS)]
    for task in tasks:
        env.reset(options={"task_id": task.id})
        episode = demonstrate(env, rng, 0.0)
        texts.append(len(json.dumps(episode["messages"])) + len(json.dumps(episode["tools"])))
    env.close()
    num_calls = [len(task.reference_calls()) for task in tasks]
    return [
        str(len({task.kind for task in tasks})),
        f"{np.mean([len(task.turns) for task in tasks]):.1f}",
        f"{np.mean(num_calls):.1f}",
        str(max(num_calls)),
        f"{np.mean(texts) / 1000:.1f}",
    ]


def test_the_page_names_every_suite() -> None:
    assert TABLES.findall(PAGE.read_text(encoding="utf-8"))[0] == suites()


@pytest.mark.slow
def test_the_page_gives_the_size_of_conversations() -> None:
    assert TABLES.findall(PAGE.read_text(encoding="utf-8"))[1] == sizes()


if __name__ == "__main__":
    tables = iter((suites(), sizes()))
    PAGE.write_text(TABLES.sub(lambda _: next(tables), PAGE.read_text(encoding="utf-8")), encoding="utf-8")
