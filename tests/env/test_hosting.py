"""Backends in threads and processes: what hangs, crashes, grows or prints costs its own episode and nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import gc
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from awpo_env.env import ToolUseEnv
from awpo_env.errors import UsageError
from awpo_env.suites import Suite, load_suite

UNRULY = Path(__file__).parent / "suite_unruly"
FAR = 600.0  # seconds no test waits for
SHORT = 0.2  # of a time limit that is meant to be exceeded
LONG = 60.0  # of one that is not

PROCESS = pytest.param("process", marks=pytest.mark.slow)  # each starts a Python or two

Make = Callable[..., ToolUseEnv]
Call = Callable[..., str]


@pytest.fixture(scope="session")
def unruly() -> Suite:
    return load_suite(UNRULY)


@pytest.fixture(params=["thread", PROCESS])
def hosted(request: pytest.FixtureRequest, make: Make, unruly: Suite) -> Callable[..., ToolUseEnv]:
    """Builds an environment of the unruly suite whose tools run elsewhere, and starts a task."""

    def build(timeout: float = LONG, task: str = "put", **settings: Any) -> ToolUseEnv:
        return make(unruly, tool_timeout=timeout, tool_isolation=request.param, task=task, **settings)

    return build


@pytest.fixture
def process(make: Make, unruly: Suite) -> Callable[..., ToolUseEnv]:
    def build(timeout: float = LONG, task: str = "put", **settings: Any) -> ToolUseEnv:
        return make(unruly, tool_timeout=timeout, tool_isolation="process", task=task, **settings)

    return build


def result(env: ToolUseEnv, text: str) -> Any:
    """What a call in a running episode came back with."""
    observation, _, terminated, truncated, info = env.step(text)
    assert not terminated and not truncated, info
    return json.loads(observation["new_messages"][-1]["content"])


def end(env: ToolUseEnv, text: str) -> dict[str, Any]:
    """The last info of an episode that an action ends unscored."""
    _, reward, terminated, truncated, info = env.step(text)
    assert (reward, terminated, truncated, info["status"]) == (0.0, False, True, "environment_error")
    assert info["outcome"] is None
    return info


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that ended and was not waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "it never came about"
        time.sleep(0.01)


# -- the same as in place ----------------------------------------------------------------------------------------------


def record(env: ToolUseEnv, call: Call) -> str:
    texts = [
        call("put", key="x", value="1") + call("put", key="y", value="") + call("read"),
        call("put", key="z") + call("nope") + "<tool_call>",
        call("put", key="b", value="2"),
        "Done.",
    ]
    return json.dumps(
        [env.reset(seed=3, options={"task_id": "put"}), *map(env.step, texts)], default=dataclasses.asdict
    )


def test_an_episode_is_the_same_wherever_its_tools_run(make: Make, unruly: Suite, hosted: Any, call: Call) -> None:
    in_place = dataclasses.replace(unruly, backend=type("Backend", (unruly.backend,), {"nap": unruly.backend.hang}))
    assert make(in_place).answers_at_once
    assert not hosted().answers_at_once
    expected = record(make(in_place), call)
    assert "tool_error" in expected and '{\\"a\\": \\"1\\", \\"x\\": \\"1\\"}' in expected
    env = hosted()
    assert record(env, call) == record(env, call) == expected


def test_the_reference_solves_wherever_the_tools_run(hosted: Any, call: Call) -> None:
    for task, text in (("put", call("put", key="b", value="2")), ("slow", call("nap", seconds=0) * 2)):
        env = hosted(task=task)
        env.step(text)
        assert env.step("Done.")[4]["outcome"].success
        env.reset(options={"task_id": task})
        assert not env.step("Done.")[4]["outcome"].success


def test_a_backend_stays_in_one_thread(hosted: Any, call: Call) -> None:
    env = hosted()
    places = [result(env, call("where")) for _ in range(3)]
    assert all(place["is_home"] for place in places) and places[0] == places[2]
    assert places[0]["thread"] != threading.get_ident() or places[0]["pid"] != os.getpid()


def test_tools_that_wait_get_a_thread_without_being_asked_for(make: Make, notes: Suite, unruly: Suite) -> None:
    assert make(notes).answers_at_once
    assert not make(unruly).answers_at_once  # it has an asynchronous tool
    waiting = dataclasses.replace(notes, backend=type("Backend", (notes.backend,), {"waits": True}))
    assert not make(waiting).answers_at_once


# -- too late ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tool", ["hang", "nap"])
def test_a_late_answer_is_an_observation_and_leaves_no_trace(hosted: Any, call: Call, tool: str) -> None:
    env = hosted(SHORT)
    result(env, call("put", key="x", value="1"))
    assert result(env, call(tool, seconds=FAR)) == {
        "error": {"code": "timeout", "message": f"{tool} did not answer within 0.2 s"}
    }
    assert result(env, call("read")) == {"a": "1", "x": "1"}
    assert result(env, call(tool, seconds=0)) == {("slept" if tool == "hang" else "napped"): 0}


def test_two_late_answers_in_a_row_end_the_episode(hosted: Any, call: Call) -> None:
    env = hosted(SHORT)
    for breather in (call("read"), call("put", key="x", value="")):  # a refusal is an answer too
        assert result(env, call("hang", seconds=FAR))["error"]["code"] == "timeout"
        result(env, breather)
    assert result(env, call("hang", seconds=FAR))["error"]["code"] == "timeout"
    assert result(env, call("nope"))["error"]["code"] == "unknown_tool"  # asks no tool
    info = end(env, call("hang", seconds=FAR))
    assert info["error"] == "2 calls in a row took too long: hang did not answer within 0.2 s"
    env.reset(options={"task_id": "put"})
    assert result(env, call("hang", seconds=FAR))["error"]["code"] == "timeout"
    assert result(env, call("read")) == {"a": "1"}


def test_a_late_asynchronous_tool_is_cancelled(make: Make, unruly: Suite, call: Call) -> None:
    cancelled = threading.Event()

    async def nap(self: Any, seconds: float) -> None:
        try:
            await type(self).sleep(seconds)
        finally:
            cancelled.set()

    backend = type("Backend", (unruly.backend,), {"nap": nap, "sleep": staticmethod(asyncio.sleep)})
    env = make(dataclasses.replace(unruly, backend=backend), tool_timeout=SHORT, task="put")
    assert result(env, call("nap", seconds=FAR))["error"]["code"] == "timeout"
    assert cancelled.wait(30)


@pytest.mark.parametrize("error", [asyncio.CancelledError, KeyboardInterrupt])
def test_a_tool_that_breaks_off_itself_has_crashed(make: Make, unruly: Suite, call: Call, error: type) -> None:
    async def nap(self: Any, seconds: float) -> None:
        raise error("enough")

    env = make(dataclasses.replace(unruly, backend=type("Backend", (unruly.backend,), {"nap": nap})), task="put")
    for _ in range(2):
        assert f"{error.__name__}: enough" in end(env, call("nap", seconds=0))["error"]
        env.reset(options={"task_id": "put"})
    assert result(env, call("read")) == {"a": "1"}


@pytest.mark.slow
def test_a_late_process_is_killed(process: Any, call: Call) -> None:
    env = process(SHORT)
    first = result(env, call("where"))["pid"]
    result(env, call("hang", seconds=FAR))
    assert not is_alive(first)
    second = result(env, call("where"))["pid"]
    assert second != first and is_alive(second)


# -- bugs --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (("leave", {}), "tool 'leave' raised SystemExit: enough"),
        (("odd", {"kind": "set"}), "no JSON value"),
        (("odd", {"kind": "nan"}), "no JSON value"),
        (("odd", {"kind": "deep"}), "no JSON value"),
    ],
)
def test_a_bug_ends_its_episode_and_the_next_one_runs(
    hosted: Any, call: Call, text: tuple[str, dict[str, Any]], problem: str
) -> None:
    env = hosted()
    result(env, call("put", key="x", value="1"))
    assert problem in end(env, call(text[0], **text[1]))["error"]
    env.reset(options={"task_id": "put"})
    assert result(env, call("read")) == {"a": "1"}


def test_odd_values_that_are_json_come_through(hosted: Any, call: Call) -> None:
    env = hosted()
    assert result(env, call("odd", kind="surrogate")) == "\ufffd"
    assert result(env, call("odd", kind="null")) is None


@pytest.mark.parametrize("isolation", ["thread", PROCESS])
def test_a_hosted_backend_that_cannot_be_built_ends_its_episode(
    make: Make, unruly: Suite, call: Call, isolation: str
) -> None:
    env = make(unruly, tool_timeout=LONG, tool_isolation=isolation, task="broken")
    assert end(env, call("read"))["error"].endswith("RuntimeError: no such table")
    env.reset(options={"task_id": "put"})
    assert result(env, call("read")) == {"a": "1"}


def test_a_backend_in_place_that_cannot_be_built_ends_its_episode(make: Make, notes: Suite, call: Call) -> None:
    def refuse(self: Any, state: Any) -> None:
        raise ConnectionError("no such server")

    env = make(dataclasses.replace(notes, backend=type("Backend", (notes.backend,), {"__init__": refuse})), task="ask")
    for text in (call("list_notes"), "Done."):
        assert end(env, text)["error"].endswith("building the backend raised ConnectionError: no such server")
        env.reset(options={"task_id": "ask"})


def test_a_sys_exit_in_place_ends_its_episode(make: Make, notes: Suite, call: Call) -> None:
    def leave(self: Any) -> None:
        raise SystemExit(4)

    env = make(dataclasses.replace(notes, backend=type("Backend", (notes.backend,), {"list_notes": leave})), task="ask")
    assert "SystemExit: 4" in end(env, call("list_notes"))["error"]


@pytest.mark.parametrize(
    ("status", "how"), [(3, "exit status 3"), pytest.param(0, "exit status 0", marks=pytest.mark.slow)]
)
def test_a_process_that_ends_itself_ends_its_episode(process: Any, call: Call, status: int, how: str) -> None:
    env = process()
    result(env, call("put", key="x", value="1"))
    assert end(env, call("die", status=status))["error"] == f"the tools' process ended with {how}"
    env.reset(options={"task_id": "put"})
    assert result(env, call("read")) == {"a": "1"}


@pytest.mark.slow
def test_a_process_killed_between_two_calls_ends_its_episode(process: Any, call: Call) -> None:
    env = process()
    pid = result(env, call("where"))["pid"]
    os.kill(pid, 9)
    wait_until(lambda: not is_alive(pid))
    assert end(env, call("read"))["error"] == "the tools' process ended with signal SIGKILL"


@pytest.mark.slow
def test_a_reference_that_kills_its_process_is_not_the_models_fault(process: Any, call: Call) -> None:
    env = process(task="fatal")
    result(env, call("read"))
    assert "exit status 3" in end(env, "Done.")["error"]


@pytest.mark.slow
def test_a_process_that_grows_meets_its_limit_and_starts_again(process: Any, call: Call) -> None:
    env = process(tool_memory_mb=1024)
    assert result(env, call("leak", megabytes=100)) == {"held": 100}
    pid = result(env, call("where"))["pid"]
    info = end(env, call("leak", megabytes=100) * 12)
    assert "MemoryError" in info["error"]
    assert not is_alive(pid)
    env.reset(options={"task_id": "put"})
    assert result(env, call("leak", megabytes=100)) == {"held": 100}


def test_what_a_tool_prints_is_no_answer(process: Any, call: Call, capfd: pytest.CaptureFixture[str]) -> None:
    env = process()
    fake = '{"result": "all mine", "snapshot": null}\n'
    assert result(env, call("shout", text=fake)) == {"said": fake}
    assert result(env, call("read")) == {"a": "1"}
    printed = capfd.readouterr()
    assert printed.out == "" and fake in printed.err


# -- processes come and go ---------------------------------------------------------------------------------------------


def children() -> set[int]:
    return {int(pid) for pid in Path("/proc/self/task").joinpath(str(os.getpid()), "children").read_text().split()}


def test_a_process_is_started_by_its_first_call_and_kept_for_the_next_episode(process: Any, call: Call) -> None:
    before = children()
    env = process()
    assert children() == before
    pid = result(env, call("where"))["pid"]
    assert children() - before == {pid}
    env.step("Done.")
    env.reset(options={"task_id": "put"})
    assert result(env, call("where"))["pid"] == pid and children() - before == {pid}
    assert process().close() is None and children() - before == {pid}
    env.close()
    env.close()
    assert not is_alive(pid)


@pytest.mark.slow
def test_a_process_does_not_outlive_an_environment_that_was_forgotten(unruly: Suite, call: Call) -> None:
    env = ToolUseEnv(unruly, tool_timeout=LONG, tool_isolation="process")
    env.reset(options={"task_id": "put"})
    pid = result(env, call("where"))["pid"]
    del env
    gc.collect()
    assert not is_alive(pid)


@pytest.mark.slow
def test_what_a_tool_has_started_ends_with_its_process(process: Any, call: Call) -> None:
    env = process()
    pid = result(env, call("breed"))["pid"]
    try:
        assert is_alive(pid)
        env.close()
        wait_until(lambda: not is_alive(pid))
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, 9)


@pytest.fixture
def orphaned() -> Iterator[Callable[[str], int]]:
    import subprocess
    import sys

    pids: list[int] = []

    def run(last_call: str) -> int:
        code = (
            "import os, json; from awpo_env.env import ToolUseEnv; "
            f"env = ToolUseEnv({str(UNRULY)!r}, tool_timeout=600, tool_isolation='process'); "
            "env.reset(options={'task_id': 'put'}); "
            'pid = json.loads(env.step(\'<tool_call>{"name": "where", "arguments": {}}</tool_call>\')[0]'
            "['new_messages'][-1]['content'])['pid']; print(pid, flush=True); "
            f"{last_call}"
        )
        parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        assert parent.stdout is not None
        with parent.stdout:
            pids.append(int(parent.stdout.readline()))
        wait_until(lambda: is_alive(pids[-1]) or parent.poll() is not None)
        if "hang" in last_call:
            time.sleep(0.2)
            parent.kill()
        parent.wait(30)
        return pids[-1]

    yield run
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, 9)


@pytest.mark.slow
@pytest.mark.parametrize(
    "last_call",
    ["pass", "os._exit(1)", 'env.step(\'<tool_call>{"name": "hang", "arguments": {"seconds": 600}}</tool_call>\')'],
)
def test_a_process_does_not_outlive_its_parent(orphaned: Callable[[str], int], last_call: str) -> None:
    pid = orphaned(last_call)
    wait_until(lambda: not is_alive(pid))


# -- wrong use ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"tool_timeout": 0}, "tool_timeout is 0; expected seconds, more than 0"),
        ({"tool_timeout": float("inf")}, "tool_timeout is inf"),
        ({"tool_isolation": "container"}, "tool_isolation 'container' is unknown; expected one of"),
        ({"tool_isolation": "process"}, "'process' needs a tool_timeout"),
        ({"tool_memory_mb": 512}, "tool_memory_mb is 512, but threads share memory"),
        (
            {"tool_isolation": "process", "tool_timeout": 1, "tool_memory_mb": 5},
            "tool_memory_mb is 5; expected at least",
        ),
    ],
)
def test_impossible_settings_are_refused(unruly: Suite, settings: dict[str, Any], problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        ToolUseEnv(unruly, **settings)


def test_a_suite_that_no_other_process_can_load_is_refused(unruly: Suite) -> None:
    for changed in ({"backend": type("Backend", (unruly.backend,), {})}, {"name": "elsewhere"}):
        with pytest.raises(UsageError, match="cannot be loaded by its name"):
            ToolUseEnv(dataclasses.replace(unruly, **changed), tool_timeout=1, tool_isolation="process")
