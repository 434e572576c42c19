"""Shared by the tests of the environments: a tiny suite in a folder, and environments that close themselves."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from awpo_env.env import ToolUseEnv
from awpo_env.suites import Suite, load_suite
from awpo_env.types import AssistantMessage, EpisodeStatus, Task, ToolCall, Transcript, UserTurn

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


class FaultServer:
    """A running ``fault_server.py``; options as on its command line."""

    def __init__(self, **options: Any) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("fault_server.py")), *_words(options)],
            stdout=subprocess.PIPE,
            text=True,
        )
        self.port = int(self._process.stdout.readline())
        self.url = f"http://127.0.0.1:{self.port}/v1"
        self.is_alive = True

    def configure(self, **options: Any) -> None:
        body = json.dumps(_words(options)).encode()
        urllib.request.urlopen(f"http://127.0.0.1:{self.port}/options", data=body, timeout=30).close()

    def stats(self) -> dict[str, Any]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/stats", timeout=30) as answer:
            return json.load(answer)

    def kill(self) -> None:
        self.is_alive = False
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()


def _words(options: dict[str, Any]) -> list[str]:
    return [word for name, value in options.items() for word in (f"--{name}", str(value))]


@pytest.fixture(scope="session")
def idle_servers() -> Iterator[list[FaultServer]]:
    """Judge servers to be used again; starting one takes longer than most tests."""
    idle: list[FaultServer] = []
    yield idle
    for server in idle:
        server.kill()


@pytest.fixture
def serve(idle_servers: list[FaultServer]) -> Iterator[Callable[..., FaultServer]]:
    """Starts judge servers that misbehave as told."""
    used: list[FaultServer] = []

    def start(**options: Any) -> FaultServer:
        if idle_servers and "port" not in options:
            used.append(idle_servers.pop())
            used[-1].configure(**options)
        else:
            used.append(FaultServer(**options))
        return used[-1]

    yield start
    idle_servers.extend(server for server in used if server.is_alive)


@pytest.fixture
def make_judge() -> Iterator[Callable[..., Any]]:
    """Builds `LLMJudge`s that lose patience quickly, and closes them afterwards."""
    from awpo_env.judges.llm import LLMJudge

    quick = {"timeout_s": 5.0, "backoff_s": 0.01, "max_backoff_s": 0.1, "breaker_pause_s": 0.05, "cache_dir": None}
    made: list[LLMJudge] = []

    def build(server: FaultServer | None = None, **settings: Any) -> LLMJudge:
        where = {"base_url": server.url} if server is not None else {}
        made.append(LLMJudge(**{"model": "judge", **where, **quick, **settings}))
        return made[-1]

    yield build
    for judge in made:
        judge.close()


def case_transcript(case: int, **changes: Any) -> Transcript:
    text = f"Please see to case {case} now."
    reference = (AssistantMessage(calls=(ToolCall("close_case", {"now": True}),)), AssistantMessage(content="Done."))
    messages = (
        {"role": "system", "content": "Close cases."},
        {"role": "user", "content": text},
        {"role": "assistant", "content": "Done.", "reasoning_content": "Nothing to it."},
    )
    task = Task("train/cases", "close", None, (UserTurn(text, reference),))
    return Transcript(**{"task": task, "messages": messages, "tools": (), "status": EpisodeStatus.COMPLETED, **changes})


@pytest.fixture(scope="session")
def case() -> Callable[..., Transcript]:
    """Makes the transcript of a case; `FaultServer` marks it by its number."""
    return case_transcript
