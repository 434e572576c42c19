"""The retail suite keeps its promises: replayable references, enforced policy, honest tasks."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import awpo_tools.retail
import pytest
from awpo_tools.retail import catalogue, quickstart
from awpo_tools.retail.backend import Backend
from awpo_tools.retail.tasks import KINDS, PRESETS, generate

from awpo_env.errors import ToolError, UsageError
from awpo_env.outcomes import contains_word
from awpo_env.schema import ToolSet
from awpo_env.types import JSON, Task, ToolCall

FOLDER = Path(awpo_tools.retail.__file__).parent
TOOLS = ToolSet(json.loads((FOLDER / "tools.json").read_text(encoding="utf-8")))
POLICY = (FOLDER / "policy.md").read_text(encoding="utf-8")
SPLITS = ("train", "test")
NUM_TASKS = 200


def tasks_of(preset: str, split: str = "train", num_tasks: int = NUM_TASKS) -> Iterator[Task]:
    return (generate(split, index, preset) for index in range(num_tasks))


def run(backend: Backend, call: ToolCall) -> JSON:
    with backend.transaction():
        return getattr(backend, call.name)(**call.arguments)


def attempt(backend: Backend, task: Task, call: ToolCall) -> JSON:
    """Run a reference call; only the look-up that tasks of the kind `recover` start with may fail."""
    try:
        return run(backend, call)
    except ToolError as error:
        assert (task.kind, call) == ("recover", task.reference_calls()[0])
        return error.message


def end_state(task: Task, calls: list[ToolCall] | tuple[ToolCall, ...]) -> JSON:
    """The final snapshot after some calls, failing ones included."""
    backend = Backend(task.state)
    for call in calls:
        try:
            run(backend, call)
        except ToolError:
            continue
    snapshot = backend.snapshot()
    backend.close()
    return snapshot


def available_tools(task: Task, turn: int) -> list[str]:
    later = {name for following in task.turns for name in following.new_tools}
    now = [name for shown in task.turns[: turn + 1] for name in shown.new_tools]
    return [name for name in task.tools if name not in later] + now


# -- references ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("split", SPLITS)
def test_references_replay_and_tell_every_fact(split: str, preset: str) -> None:
    for task in tasks_of(preset, split):
        backend, seen = Backend(task.state), ""
        for number, turn in enumerate(task.turns):
            for message in turn.reference:
                for call in message.calls:
                    assert TOOLS.check(call, available_tools(task, number)) is None, (task.id, call)
                    seen += json.dumps(attempt(backend, task, call))
            told = turn.reference[-1].content
            for fact in turn.facts:
                assert contains_word(seen, fact.value), (task.id, fact)
                assert contains_word(told, fact.value), (task.id, fact)
                assert not any(contains_word(told, decoy) for decoy in fact.decoys), (task.id, fact)
                assert not contains_word(turn.message, fact.value), (task.id, fact)
        backend.close()


@pytest.mark.parametrize("preset", PRESETS)
def test_messages_have_the_promised_shape(preset: str) -> None:
    for task in tasks_of(preset):
        for turn in task.turns:
            *acting, last = turn.reference
            assert last.content and not last.calls
            for message in acting:
                assert message.calls and not message.content
                assert all(call.name in message.reasoning for call in message.calls), message
            for message in turn.reference:
                assert 7 <= len(message.reasoning.split()) <= 26, message.reasoning
                assert "\n" not in message.reasoning


@pytest.mark.parametrize("preset", PRESETS)
def test_doing_nothing_is_never_success(preset: str) -> None:
    for task in tasks_of(preset):
        has_facts = any(turn.facts for turn in task.turns)
        assert has_facts or end_state(task, task.reference_calls()) != end_state(task, ()), task.id


def _grounds(task: Task) -> Iterator[tuple[ToolCall, str]]:
    """Every reference call with all that could be read before it."""
    backend, known = Backend(task.state), task.policy or POLICY
    for turn in task.turns:
        known += "\n" + turn.message
        for message in turn.reference:
            yield from ((call, known) for call in message.calls)
            known += "\n".join(json.dumps(attempt(backend, task, call)) for call in message.calls)
    backend.close()


@pytest.mark.parametrize("preset", PRESETS)
def test_every_argument_is_grounded(preset: str) -> None:
    for task in tasks_of(preset):
        for call, known in _grounds(task):
            for name, value in call.arguments.items():
                schema = TOOLS.parameters(call.name)["properties"][name]
                if "enum" not in schema and schema["type"] != "boolean":
                    assert value in known and contains_word(known, value), (task.id, call)


def _other_values(task: Task, call: ToolCall, name: str) -> list[JSON]:
    """Valid values of an argument other than the right one: of the schema, and of this shop."""
    schema = TOOLS.parameters(call.name)["properties"][name]
    if schema["type"] == "boolean":
        return [not call.arguments[name]]
    values = schema.get("enum") or schema["examples"] + [
        value
        for rows in task.state.values()
        for row in rows
        for value in row.values()
        if isinstance(value, str) and re.search(schema["pattern"], value)
    ]
    return sorted(set(values) - {call.arguments[name]})


@pytest.mark.parametrize("preset", PRESETS)
def test_every_action_and_every_argument_matters(preset: str) -> None:
    for task in tasks_of(preset, num_tasks=60):
        calls = task.reference_calls()
        goal, start = end_state(task, calls), end_state(task, ())
        for position, call in enumerate(calls):
            if end_state(task, [call]) == start:
                continue  # a look-up
            before, after = calls[:position], calls[position + 1 :]
            assert end_state(task, (*before, *after)) != goal, (task.id, call)
            for name in call.arguments:
                for value in _other_values(task, call, name):
                    changed = ToolCall(call.name, {**call.arguments, name: value})
                    assert end_state(task, (*before, changed, *after)) != goal, (task.id, changed)


# -- the generator ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("split", SPLITS)
def test_generate_is_a_pure_function(split: str, preset: str) -> None:
    first = [json.dumps(task.to_json()) for task in tasks_of(preset, split, 40)]
    assert first == [json.dumps(task.to_json()) for task in tasks_of(preset, split, 40)]
    assert len(set(first)) == 40
    for text in first:
        assert json.dumps(Task.from_json(json.loads(text)).to_json()) == text


def _people(task: Task) -> set[tuple[str, str]]:
    return {(row["first_name"], row["last_name"]) for row in task.state["customers"]}


@pytest.mark.parametrize("preset", PRESETS)
def test_splits_share_no_person_and_no_task_but_every_word(preset: str) -> None:
    people, fingerprints, words = {}, {}, {}
    for split in SPLITS:
        tasks = list(tasks_of(preset, split, 1200))
        people[split] = {person for task in tasks for person in _people(task)}
        openings = [json.dumps([task.state, [turn.message for turn in task.turns]]) for task in tasks]
        fingerprints[split] = set(openings) | {task.turns[0].message for task in tasks}
        words[split] = set(re.findall("[A-Za-z]+", " ".join(task.turns[0].message for task in tasks)))
    assert not people["train"] & people["test"]
    assert not fingerprints["train"] & fingerprints["test"]
    assert words["train"] == words["test"]


def test_people_are_split_three_to_one_and_every_name_is_in_both() -> None:
    train, test = (set(catalogue.people(split)) for split in SPLITS)
    assert len(train) == 3 * len(test) == 432
    for position in (0, 1):
        assert {person[position] for person in train} == {person[position] for person in test}


@pytest.mark.parametrize("preset", PRESETS)
def test_kinds_come_in_equal_shares(preset: str) -> None:
    kinds = [task.kind for task in tasks_of(preset)]
    shares = {kind: kinds.count(kind) for kind in kinds}
    assert set(kinds) <= set(KINDS)
    assert max(shares.values()) - min(shares.values()) <= 1


@pytest.mark.parametrize(
    ("split", "index", "preset"), [("dev", 0, "quickstart"), ("train", -1, "quickstart"), ("train", 0, "x")]
)
def test_impossible_tasks_are_refused(split: str, index: int, preset: str) -> None:
    with pytest.raises(UsageError):
        generate(split, index, preset)


def test_generate_reaches_any_index() -> None:
    assert generate("train", 10**15, "quickstart").id == f"train/quickstart/{10**15}"


# -- the quickstart preset -------------------------------------------------------------------------------------------


def test_quickstart_is_small() -> None:
    assert len(quickstart.POLICY.split()) <= 45
    assert len(quickstart.TOOLS) == 6
    sizes = []
    for task in tasks_of("quickstart"):
        backend, parts = Backend(task.state), []
        orders = task.state["orders"]
        assert 2 <= len(orders) <= 3
        assert all(
            sum(item["order_id"] == order["order_id"] for item in task.state["items"]) in (1, 2) for order in orders
        )
        for turn in task.turns:
            assert len(turn.message.split()) <= 20
            assert len(turn.reference[-1].content.split()) < 12
            parts.append(turn.message)
            for message in turn.reference:
                parts += [message.reasoning, message.content]
                for call in message.calls:
                    parts += [json.dumps({"name": call.name, "arguments": call.arguments}, separators=(",", ":"))]
                    parts += [json.dumps(run(backend, call), separators=(",", ":"))]
        backend.close()
        sizes.append(len(re.findall(r"\w+|[^\w\s]+", " ".join(parts))))
    assert sum(sizes) / len(sizes) <= 200
    assert max(sizes) <= 270


def test_quickstart_status_must_be_looked_up() -> None:
    asked = [task for task in tasks_of("quickstart") if task.kind == "order_status"]
    for task in asked:
        (fact,) = task.turns[0].facts
        statuses = [order["status"] for order in task.state["orders"]]
        assert statuses.count(fact.value) == 1
        assert set(fact.decoys) == set(statuses) - {fact.value}
    assert {task.turns[0].facts[0].value for task in asked} == set(catalogue.STATUSES)


def test_quickstart_asks_for_the_missing_street() -> None:
    address = [task for task in tasks_of("quickstart") if task.kind == "address"]
    asking = [task for task in address if len(task.turns) == 2]
    assert 0.3 < len(asking) / len(address) < 0.7
    for task in asking:
        first, second = task.turns
        assert first.reference[-1].content.endswith("?")
        assert not any(call.name == "change_address" for message in first.reference for call in message.calls)
        assert second.reference[0].calls[0].arguments["street"] in second.message
