"""Whether a tool suite is sound: solvable, repeatable, and not solved by doing nothing or by chance."""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import json
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import gymnasium
import numpy as np
from gymnasium.utils.env_checker import check_env

from awpo_env.catalogue import find_suite, table
from awpo_env.env import ToolUseEnv
from awpo_env.errors import UsageError
from awpo_env.execution import close, run_call
from awpo_env.hosting import backend_builder
from awpo_env.sampling import sample_value
from awpo_env.suites import SPLITS, Suite
from awpo_env.types import Task, ToolCall

_HIGHEST_RANDOM_RATE = 0.2  # a task that chance solves this often teaches chance
_RANDOM_TURN_END = 0.2  # of a random policy's messages; the others are calls
_LEAST_COMPARED_TASKS = 200  # a split, when looking for tasks that stand in both
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")

_Result = tuple[str, list[str]]  # what was measured, and what is wrong


@dataclass(frozen=True, slots=True)
class Check:
    """One question about a suite and its answer.

    Attributes:
        name: What was asked.
        where: Split and preset, or empty for the whole suite.
        detail: What was measured, in a few words.
        findings: Everything that is wrong; empty when the check passed.
    """

    name: str
    where: str
    detail: str
    findings: tuple[str, ...] = ()

    @property
    def is_passed(self) -> bool:
        """Whether nothing is wrong."""
        return not self.findings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags of ``awpo env check``."""
    parser.add_argument("suite", metavar="ENV_OR_SUITE", help="an id (awpo/Retail-v0), a suite (retail) or a folder")
    parser.add_argument("--episodes", type=int, default=20, help="tasks tried in each split and preset (default 20)")
    parser.add_argument("--preset", help="only this preset; all by default")
    parser.add_argument("--split", help="only this split (train or test); both by default")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.epilog = (
        "examples:\n"
        "  awpo env check awpo/Retail-v0\n"
        "  awpo env check ./my_suite --episodes 200\n"
        "  awpo env check my_package.weather --json\n\n"
        "Exit status: 0 every check passed, 1 one failed (each finding is printed), 2 the suite cannot be loaded."
    )


def run(args: argparse.Namespace) -> int:
    """Check a suite and print what was found."""
    suite = find_suite(args.suite)
    checks = list(check_suite(suite, args.episodes, split=args.split, preset=args.preset))
    is_passed = all(check.is_passed for check in checks)
    if args.json:
        results = [{**asdict(check), "passed": check.is_passed} for check in checks]
        print(json.dumps({"suite": suite.name, "passed": is_passed, "checks": results}, indent=2))
        return 0 if is_passed else 1
    rows = [[check.name, check.where, "pass" if check.is_passed else "FAIL", check.detail] for check in checks]
    findings = [f"{check.name}: {finding}" for check in checks for finding in _merged(check.findings)]
    num_failed = sum(not check.is_passed for check in checks)
    verdict = "all checks passed" if is_passed else f"{num_failed} of {len(checks)} checks failed"
    print("\n".join([table(["CHECK", "WHERE", "RESULT", "MEASURED"], rows), *findings, f"\n{suite.name}: {verdict}"]))
    return 0 if is_passed else 1


def _merged(findings: Iterable[str]) -> list[str]:
    """Return findings with the same problem as one line that names the first task and counts the others."""
    tasks_of: dict[str, list[str]] = {}
    for finding in findings:
        task_id, _, problem = finding.partition(": ")
        tasks_of.setdefault(problem, []).append(task_id)
    return [
        f"{tasks[0]}{f' and {len(tasks) - 1} more' if len(tasks) > 1 else ''}: {problem}".removesuffix(": ")
        for problem, tasks in tasks_of.items()
    ]


def check_suite(
    suite: Suite, num_tasks: int = 20, split: str | None = None, preset: str | None = None
) -> Iterator[Check]:
    """Yield every check of `suite`, one after the other.

    A task stands in both splits when its state, messages, reference and facts are equal, whatever its id.

    Args:
        suite: A loaded suite.
        num_tasks: Tasks tried in each split and preset, at least 1.
        split: Only this split.
        preset: Only this preset.

    Raises:
        UsageError: There is no such split or preset, or `num_tasks` is below 1.
    """
    if num_tasks < 1:
        raise UsageError(f"{num_tasks} episodes were asked for; expected at least 1")
    for where, task_ids in _places(suite, num_tasks, split, preset):
        for name, examine in _CHECKS.items():
            detail, findings = examine(suite, task_ids)
            yield Check(name, where, detail, tuple(findings))
    if suite.generate is not None and split is None:
        for where in [preset] if preset else suite.presets:
            detail, findings = _compare_splits(suite, where, max(num_tasks, _LEAST_COMPARED_TASKS))
            yield Check("train and test differ", where, detail, tuple(findings))


def _places(suite: Suite, num_tasks: int, split: str | None, preset: str | None) -> Iterator[tuple[str, Sequence[str]]]:
    """Yield where tasks are, with ids of the first of them: fixed ones, then every split and preset of a generator."""
    if split is not None or preset is not None:
        suite.check(split or SPLITS[0], preset or suite.presets[0])
    elif suite.tasks:
        yield "tasks.jsonl", list(suite.tasks)[:num_tasks]
    if suite.generate is not None:
        for each_split in [split] if split else SPLITS:
            for each_preset in [preset] if preset else suite.presets:
                where = f"{each_split}/{each_preset}"
                yield where, [f"{where}/{index}" for index in range(num_tasks)]


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


def _check_gymnasium(suite: Suite, task_ids: Sequence[str]) -> _Result:
    # check_env renders, and "human" prints.
    with warnings.catch_warnings(record=True) as caught, contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("always")
        env = gymnasium.make("awpo/ToolUse-v0", suite=suite, tasks=task_ids, disable_env_checker=True)
        findings = _each(task_ids[:1], lambda _: check_env(env.unwrapped))
    return "Gymnasium's check_env", findings + [_COLOUR.sub("", str(warning.message)) for warning in caught]


def _check_reference(suite: Suite, task_ids: Sequence[str]) -> _Result:
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


def _check_idle(suite: Suite, task_ids: Sequence[str]) -> _Result:
    env = ToolUseEnv(suite, tasks=task_ids)

    def examine(task_id: str) -> str | None:
        env.reset(seed=0, options={"task_id": task_id})
        return "solved by answering 'Done.'" if _is_success(_play(env, itertools.repeat("Done."))) else None

    findings = _each(task_ids, examine)
    return f"{len(findings)} of {len(task_ids)} solved", findings


def _check_random(suite: Suite, task_ids: Sequence[str]) -> _Result:
    num_solved = 0

    def examine(task_id: str) -> None:
        nonlocal num_solved
        num_solved += _is_success(_play_randomly(suite, task_id))

    findings = _each(task_ids, examine)
    rate = num_solved / len(task_ids)
    if rate > _HIGHEST_RANDOM_RATE:
        findings.append(f"random valid calls solve {rate:.0%}; expected at most {_HIGHEST_RANDOM_RATE:.0%}")
    return f"{num_solved} of {len(task_ids)} solved", findings


def _check_repeatable(suite: Suite, task_ids: Sequence[str]) -> _Result:
    env = ToolUseEnv(suite, tasks=task_ids)

    def examine(task_id: str) -> str | None:
        if suite.task(task_id) != suite.task(task_id):
            return "generated twice, it is two different tasks"
        if _play_reference(env, task_id) != _play_reference(env, task_id):
            return "the reference solution gave two different episodes"
        is_equal = _play_randomly(suite, task_id) == _play_randomly(suite, task_id)
        return None if is_equal else "equal random calls gave two different episodes"

    return "two runs each", _each(task_ids, examine)


def _check_failed_calls(suite: Suite, task_ids: Sequence[str]) -> _Result:
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


def _compare_splits(suite: Suite, preset: str, num_tasks: int) -> _Result:
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


_CHECKS: dict[str, Callable[[Suite, Sequence[str]], _Result]] = {
    "Gymnasium conformance": _check_gymnasium,
    "reference solves": _check_reference,
    "doing nothing fails": _check_idle,
    "chance fails": _check_random,
    "equal seeds, equal episodes": _check_repeatable,
    "failed calls leave no trace": _check_failed_calls,
}
