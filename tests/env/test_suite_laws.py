"""Laws every built-in suite keeps, in every preset and split: solvable, and not solved by less than the solution."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from awpo_env.env import ToolUseEnv
from awpo_env.outcomes import contains_word
from awpo_env.parsing import get_parser
from awpo_env.suites import BUILT_IN, SPLITS, load_suite
from awpo_env.types import JSON, AssistantMessage, Outcome, Task, ToolCall

PARSER = get_parser("hermes")
Place = tuple[str, str, str]
PLACES = [(name, preset, split) for name in BUILT_IN for preset in load_suite(name).presets for split in SPLITS]
MOST_LUCK = 0.02
NUM_RANDOM_MESSAGES = 6
NUM_RANDOM_EPISODES = 5


def place_params(places: Iterable[Place]) -> list[Any]:
    """Places as parameters; of the presets that are levels of difficulty, only the medium one is quick to test."""

    def is_quick(name: str, preset: str) -> bool:
        return preset == "medium" or "medium" not in load_suite(name).presets

    marks = {True: (), False: pytest.mark.slow}
    return [pytest.param(place, marks=marks[is_quick(*place[:2])], id="-".join(place)) for place in places]


each_place = pytest.mark.parametrize("place", place_params(PLACES))
HEAVY = pytest.param(1000, marks=pytest.mark.heavy)
each_size = pytest.mark.parametrize("num_tasks", [50, HEAVY])
each_small_size = pytest.mark.parametrize("num_tasks", [20, HEAVY])

Messages = list[AssistantMessage]


@pytest.fixture
def env(place: Place) -> Iterator[ToolUseEnv]:
    name, preset, split = place
    env = ToolUseEnv(name, preset=preset, split=split)
    yield env
    env.close()


def tasks_of(place: Place, num_tasks: int) -> Iterator[Task]:
    name, preset, split = place
    return (load_suite(name).task(f"{split}/{preset}/{index}") for index in range(num_tasks))


def reference(task: Task) -> Messages:
    return [message for turn in task.turns for message in turn.reference]


def play(env: ToolUseEnv, task: Task, texts: Iterator[str]) -> Outcome:
    env.reset(options={"task_id": task.id})
    for text in texts:
        _, _, terminated, truncated, info = env.step(text)
        if terminated or truncated:
            assert info["outcome"] is not None, info
            return info["outcome"]
    raise AssertionError(f"{task.id} is not over after all messages")


def replay(env: ToolUseEnv, task: Task, messages: Messages) -> Outcome:
    return play(env, task, (PARSER.format(message) for message in messages))


def with_call(messages: Messages, number: int, change: Callable[[ToolCall], ToolCall | None]) -> Messages:
    """Change or (with None) drop one call of a solution; a message without calls would end the turn, so it goes."""
    changed, seen = [], 0
    for message in messages:
        calls = []
        for call in message.calls:
            kept = change(call) if seen == number else call
            calls += [] if kept is None else [kept]
            seen += 1
        if calls or not message.calls:
            changed.append(replace(message, calls=tuple(calls)))
    return changed


def effects(env: ToolUseEnv, task: Task) -> list[tuple[bool, str]]:
    """Whether each reference call changes the state, and what it returns."""
    env.reset(options={"task_id": task.id})
    found = []
    for message in reference(task):
        # One call a message, which leaves the outcome alone: only a message without calls ends a turn.
        for call in message.calls:
            before = env._backend.snapshot()
            observation, *_ = env.step(PARSER.format(AssistantMessage(calls=(call,))))
            found.append((env._backend.snapshot() != before, observation["new_messages"][-1]["content"]))
        if not message.calls:
            env.step(PARSER.format(message))
    return found


@each_place
@each_size
def test_the_reference_solves_every_task_and_spoils_none(env: ToolUseEnv, place: Place, num_tasks: int) -> None:
    for task in tasks_of(place, num_tasks):
        before = json.dumps(task.to_json())
        outcome = replay(env, task, reference(task))
        assert outcome.success, (task.id, outcome)
        assert json.dumps(env.task.to_json()) == before, f"the backend changed the state of {task.id}"


@each_place
@each_size
def test_doing_nothing_solves_nothing(env: ToolUseEnv, place: Place, num_tasks: int) -> None:
    for task in tasks_of(place, num_tasks):
        assert not play(env, task, iter([""] * 100)).success, task.id


@each_place
@each_small_size
def test_random_calls_solve_nothing(env: ToolUseEnv, place: Place, num_tasks: int) -> None:
    env.action_space.seed(0)

    def texts(task: Task) -> Iterator[str]:
        for _ in task.turns:
            yield from (env.action_space.sample() for _ in range(NUM_RANDOM_MESSAGES // len(task.turns)))
            yield ""

    solved, tried = Counter[str](), Counter[str]()
    for task in tasks_of(place, num_tasks):
        for _ in range(NUM_RANDOM_EPISODES):
            solved[task.kind] += play(env, task, texts(task)).success
            tried[task.kind] += 1
    assert all(solved[kind] <= MOST_LUCK * tried[kind] for kind in tried), (solved, tried)


@each_place
@each_small_size
def test_a_solution_without_one_of_its_changes_is_none(env: ToolUseEnv, place: Place, num_tasks: int) -> None:
    for task in tasks_of(place, num_tasks):
        for number, (is_change, _) in enumerate(effects(env, task)):
            if is_change:
                outcome = replay(env, task, with_call(reference(task), number, lambda call: None))
                assert outcome.value == 0.0, (task.id, number)


@each_place
@each_small_size
def test_a_change_with_another_argument_is_another_change(env: ToolUseEnv, place: Place, num_tasks: int) -> None:
    tools = env.suite.tools
    pools: dict[tuple[str, str], list[JSON]] = defaultdict(list)
    for task in tasks_of(place, max(num_tasks, 100)):
        for call in task.reference_calls():
            for name, value in call.arguments.items():
                if value not in pools[call.name, name]:
                    pools[call.name, name].append(value)
    rng = np.random.default_rng(0)
    for task in tasks_of(place, num_tasks):
        for number, (is_change, _) in enumerate(effects(env, task)):
            call = task.reference_calls()[number]
            others = [(name, other) for name in call.arguments for other in pools[call.name, name]]
            others = [(name, other) for name, other in others if other != call.arguments[name]]
            if is_change and others:
                name, value = others[int(rng.integers(len(others)))]
                other = ToolCall(call.name, {**call.arguments, name: value})
                assert tools.check(other, list(tools)) is None
                outcome = replay(env, task, with_call(reference(task), number, lambda call, other=other: other))
                assert outcome.value == 0.0, (task.id, call, other)


@each_place
@each_small_size
def test_what_was_not_looked_up_cannot_be_told(env: ToolUseEnv, place: Place, num_tasks: int) -> None:
    for task in tasks_of(place, num_tasks):
        for fact in {fact for turn in task.turns for fact in turn.facts}:
            messages = reference(task)
            suppliers = [i for i, (_, content) in enumerate(effects(env, task)) if contains_word(content, fact.value)]
            assert suppliers, (task.id, fact)
            for number in reversed(suppliers):
                messages = with_call(messages, number, lambda call: None)
            assert replay(env, task, messages).value == 0.0, (task.id, fact)


def fingerprint(task: Task) -> str:
    data: dict[str, Any] = task.to_json()
    return json.dumps([data["state"], [turn["message"] for turn in data["turns"]]], sort_keys=True)


@pytest.mark.parametrize("place", place_params(place for place in PLACES if place[2] == "train"))
@each_size
def test_splits_share_no_task(place: Place, num_tasks: int) -> None:
    name, preset, _ = place
    train, test = ({fingerprint(task) for task in tasks_of((name, preset, split), num_tasks)} for split in SPLITS)
    assert not train & test
