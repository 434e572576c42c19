"""The laws of a sound tool suite, each a function of the suite and some of its tasks that says what breaks it."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.utils.env_checker import check_env

from awpo_env.env import ToolUseEnv
from awpo_env.execution import close, run_call
from awpo_env.hosting import backend_builder
from awpo_env.near_misses import sample_near_miss
from awpo_env.sampling import sample_value
from awpo_env.suites import SPLITS, Suite
from awpo_env.types import Task, ToolCall

_HIGHEST_RANDOM_RATE = 0.2  # a task that chance solves this often teaches chance
_RANDOM_TURN_END = 0.2  # of a random policy's messages; the others are calls
_NUM_NEAR_MISSES = 50
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")

Result = tuple[str, list[str]]
"""What was measured, and what is wrong."""


def _each(task_ids: Sequence[str], examine: Callable[[str], str | None]) -> list[str]:
    """Return what `examine` finds wrong with each task; whatever it raises is a finding too."""
    findings = []
    for task_id in task_ids:
        try:
            problem = examine(task_id)
        except Exception as error:
            problem = f"{type(error).__name__}: {error}"
        if problem:
            findings.append(f"{task_id}: {problem}")
    return findings


def _check_gymnasium(suite: Suite, task_ids: Sequence[str]) -> Result:
    # check_env renders, and "human" prints.
    with warnings.catch_warnings(record=True) as caught, contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("always")
        env = gymnasium.make("awpo/ToolUse-v0", suite=suite, tasks=task_ids, disable_env_checker=True)
        findings = _each(task_ids[:1], lambda _: check_env(env.unwrapped))
    return "Gymnasium's check_env", findings + [_COLOUR.sub("", str(warning.message)) for warning in caught]


def _check_reference(suite: Suite, task_ids: Sequence[str]) -> Result:
    env = ToolUseEnv(suite, tasks=task_ids)

    def examine(task_id: str) -> str | None:
        steps = _play_reference(env, task_id)
        info = steps[-1][-1] if steps else {}
        if "outcome" not in info:
            return "the reference solution stops before the task is over"
        if info["outcome"] is None:
            return f"the environment broke: {info.get('error')}"
        parts = dict(info["outcome"].components)
        return None if info["outcome"].success else f"the reference solution ends as {info['status']} with {parts}"

    findings = _each(task_ids, examine)
    return f"{len(task_ids) - len(findings)} of {len(task_ids)} tasks solved", findings


def _check_reference_calls(suite: Suite, task_ids: Sequence[str]) -> Result:
    num_calls = 0

    def examine(task_id: str) -> str | None:
        nonlocal num_calls
        task = suite.task(task_id)
        on_show = list(task.tools or suite.tools)
        for turn in task.turns:
            on_show += turn.new_tools
            for call in (call for message in turn.reference for call in message.calls):
                num_calls += 1
                if error := suite.tools.check(call, on_show):
                    return f"its reference calls {call.name} wrongly: {error['error']['message']}"
        return None

    findings = _each(task_ids, examine)
    return f"{num_calls} calls", findings


def _check_idle(suite: Suite, task_ids: Sequence[str]) -> Result:
    env = ToolUseEnv(suite, tasks=task_ids)

    def examine(task_id: str) -> str | None:
        env.reset(seed=0, options={"task_id": task_id})
        return "solved by answering 'Done.'" if _is_success(_play(env, itertools.repeat("Done."))) else None

    findings = _each(task_ids, examine)
    return f"{len(findings)} of {len(task_ids)} solved", findings


def _check_random(suite: Suite, task_ids: Sequence[str]) -> Result:
    num_solved = 0

    def examine(task_id: str) -> None:
        nonlocal num_solved
        num_solved += _is_success(_play_randomly(suite, task_id))

    findings = _each(task_ids, examine)
    rate = num_solved / len(task_ids)
    if rate > _HIGHEST_RANDOM_RATE:
        findings.append(f"random valid calls solve {rate:.0%}; expected at most {_HIGHEST_RANDOM_RATE:.0%}")
    return f"{num_solved} of {len(task_ids)} solved", findings


def _check_repeatable(suite: Suite, task_ids: Sequence[str]) -> Result:
    env = ToolUseEnv(suite, tasks=task_ids)

    def examine(task_id: str) -> str | None:
        if suite.task(task_id) != suite.task(task_id):
            return "generated twice, it is two different tasks"
        if _play_reference(env, task_id) != _play_reference(env, task_id):
            return "the reference solution gave two different episodes"
        is_equal = _play_randomly(suite, task_id) == _play_randomly(suite, task_id)
        return None if is_equal else "equal random calls gave two different episodes"

    return "two runs each", _each(task_ids, examine)


def _check_failed_calls(suite: Suite, task_ids: Sequence[str]) -> Result:
    num_failed = 0

    def examine(task_id: str) -> str | None:
        nonlocal num_failed
        task, rng = suite.task(task_id), np.random.default_rng(0)
        backend = backend_builder(suite)(task.state)
        try:
            for call in task.reference_calls():
                before = backend.snapshot()
                if json.loads(json.dumps(before)) != before:
                    return "snapshot() is no JSON value"
                for wrong in _variants(call, suite, rng):
                    _, has_run = run_call(backend, suite.tools, wrong, list(suite.tools))
                    num_failed += not has_run
                    if not has_run and backend.snapshot() != before:
                        return f"the failed call {wrong.name} {wrong.arguments} changed the state"
                    backend.restore(before)
                    if backend.snapshot() != before:
                        return f"restore() does not undo {wrong.name} {wrong.arguments}"
                run_call(backend, suite.tools, call, list(suite.tools))
            return None
        finally:
            close(backend)

    findings = _each(task_ids, examine)
    return f"{num_failed} failed calls", findings


def _variants(call: ToolCall, suite: Suite, rng: np.random.Generator) -> Iterator[ToolCall]:
    """Yield calls beside a reference call: each argument left out, and replaced by another valid value."""
    properties = suite.tools.parameters(call.name).get("properties", {})
    for name in call.arguments:
        yield ToolCall(call.name, {key: value for key, value in call.arguments.items() if key != name})
        yield ToolCall(call.name, {**call.arguments, name: sample_value(properties.get(name, {}), rng)})


def _check_near_misses(suite: Suite, task_ids: Sequence[str]) -> Result:
    rng, num_tried = np.random.default_rng(0), 0

    def examine(task_id: str) -> str | None:
        nonlocal num_tried
        backend = backend_builder(suite)(suite.task(task_id).state)
        try:
            before = backend.snapshot()
            for _ in range(max(1, _NUM_NEAR_MISSES // len(task_ids))):
                miss = sample_near_miss(suite.tools, rng)
                result, has_run = run_call(backend, suite.tools, miss.call, list(suite.tools))
                num_tried += 1
                if has_run or result["error"].get("path", "") != miss.path or backend.snapshot() != before:
                    return f"the call {miss.call.name} {miss.call.arguments} with a wrong {miss.fault} was let through"
        finally:
            close(backend)
        return None

    findings = _each(task_ids, examine)
    return f"{num_tried} calls refused", findings


def _check_isolation(suite: Suite, task_ids: Sequence[str]) -> Result:
    def examine(task_id: str) -> str | None:
        task = suite.task(task_id)
        written = json.dumps(task.state)
        build = backend_builder(suite)
        used, other = build(task.state), build(task.state)
        try:
            start = other.snapshot()
            for call in task.reference_calls():
                run_call(used, suite.tools, call, list(suite.tools))
            if json.dumps(task.state) != written:
                return "an episode changes the state the next one starts from; copy it in __init__"
            if other.snapshot() != start:
                return "what one episode does changes another that goes on beside it"
            later = build(task.state)
            is_equal = later.snapshot() == start
            close(later)
            return None if is_equal else "an episode starts otherwise after another one was played"
        finally:
            close(used)
            close(other)

    return "two episodes side by side", _each(task_ids, examine)


def compare_splits(suite: Suite, preset: str, num_tasks: int) -> Result:
    """Say which of the first `num_tasks` tasks stand in both splits."""
    prints: dict[str, dict[str, str]] = {split: {} for split in SPLITS}

    def examine(task_id: str) -> None:
        prints[task_id.partition("/")[0]][_fingerprint(suite.task(task_id))] = task_id

    findings = _each([f"{split}/{preset}/{index}" for split in SPLITS for index in range(num_tasks)], examine)
    train, test = (prints[split] for split in SPLITS)
    findings += [f"{train[same]} and {test[same]} are the same task" for same in train if same in test]
    return f"{len(train)} + {len(test)} different tasks", findings


def _fingerprint(task: Task) -> str:
    return json.dumps({**task.to_json(), "id": None}, sort_keys=True)


def _play(env: ToolUseEnv, actions: Iterable[str]) -> list[tuple[Any, ...]]:
    """Return what every step of a freshly reset environment returned, until it is over or the actions are."""
    steps = []
    for action in actions:
        steps.append(env.step(action))
        if steps[-1][2] or steps[-1][3]:
            break
    return steps


def _play_reference(env: ToolUseEnv, task_id: str) -> list[tuple[Any, ...]]:
    env.reset(seed=0, options={"task_id": task_id})
    return _play(env, [env.parser.format(message) for turn in env.task.turns for message in turn.reference])


def _play_randomly(suite: Suite, task_id: str) -> list[tuple[Any, ...]]:
    """Play random valid calls; now and then tell the user everything the last tool returned."""
    env = ToolUseEnv(suite, tasks=[task_id])
    start = env.reset(seed=0)
    rng = np.random.default_rng(0)
    env.action_space.seed(0)

    def actions() -> Iterator[str]:
        while True:
            is_call = rng.random() >= _RANDOM_TURN_END
            yield env.action_space.sample() if is_call else env.transcript.messages[-1]["content"]

    steps = [start, *_play(env, actions())]
    env.close()
    return steps


def _is_success(steps: Sequence[tuple[Any, ...]]) -> bool:
    outcome = steps[-1][-1].get("outcome")
    return outcome is not None and outcome.success


LAWS: dict[str, Callable[[Suite, Sequence[str]], Result]] = {
    "episodes share nothing": _check_isolation,
    "Gymnasium conformance": _check_gymnasium,
    "reference calls are valid": _check_reference_calls,
    "reference solves": _check_reference,
    "doing nothing fails": _check_idle,
    "chance fails": _check_random,
    "equal seeds, equal episodes": _check_repeatable,
    "failed calls leave no trace": _check_failed_calls,
    "near misses are refused": _check_near_misses,
}
"""Every law by its name."""
