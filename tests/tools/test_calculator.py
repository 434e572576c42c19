"""The calculator suite: arithmetic, errors, and tasks that only its own calls can answer."""

import json
import re

import pytest

from awpo_env.errors import ToolError, UsageError
from awpo_env.suites import load_suite

SUITE = load_suite("calculator")
SPLITS = ("train", "test")
NUM_TASKS = 200


def tasks(split):
    return [SUITE.generate(split, index, "full") for index in range(NUM_TASKS)]


def run(call):
    assert SUITE.tools.check(call, tuple(SUITE.tools)) is None
    return getattr(SUITE.backend({}), call.name)(**call.arguments)["result"]


def is_word(text, word):
    return re.search(rf"(?<![\w.]){re.escape(word)}(?!\w|\.\d)", text) is not None


@pytest.mark.parametrize(
    ("tool", "a", "b", "text"),
    [
        ("add", 12, 30, "42"),
        ("add", 0.1, 0.2, "0.3"),
        ("subtract", 5, 8, "-3"),
        ("multiply", 22.5, 4, "90"),
        ("multiply", -5.5, 0, "0"),
        ("divide", 45, 2, "22.5"),
        ("divide", 10, 3, "3.33"),
        ("divide", 84, 2, "42"),
    ],
)
def test_result_is_rounded_and_whole_numbers_have_no_point(tool, a, b, text):
    assert json.dumps(getattr(SUITE.backend({}), tool)(a=a, b=b)) == f'{{"result": {text}}}'


@pytest.mark.parametrize("b", [0, 0.0])
def test_division_by_zero_is_the_models_mistake(b):
    with pytest.raises(ToolError, match="divide by 0"):
        SUITE.backend({}).divide(a=1, b=b)


@pytest.mark.parametrize(
    ("tool", "a", "b"),
    [("multiply", 10**12, 10), ("multiply", -(10**12), 10), ("divide", 1, 1e-300), ("add", float("nan"), 1)],
)
def test_result_out_of_range_is_the_models_mistake(tool, a, b):
    with pytest.raises(ToolError, match="must lie between"):
        getattr(SUITE.backend({}), tool)(a=a, b=b)


def test_there_is_no_state():
    backend = SUITE.backend({})
    backend.add(1, 2)
    backend.restore(backend.snapshot())
    assert backend.snapshot() == {}


@pytest.mark.parametrize("split", SPLITS)
def test_reference_tells_what_the_last_call_returned(split):
    for task in tasks(split):
        earlier = []
        for turn in task.turns:
            *working, last = turn.reference
            earlier += [run(call) for message in working for call in message.calls]
            (fact,) = turn.facts
            assert json.dumps(earlier[-1]) == fact.value
            assert not last.calls and is_word(last.content, fact.value)
            assert fact.decoys == tuple(json.dumps(result) for result in earlier[:-1])
            assert not any(is_word(last.content, decoy) for decoy in fact.decoys)


@pytest.mark.parametrize("split", SPLITS)
def test_every_operand_was_said_or_returned(split):
    for task in tasks(split):
        known = []
        for turn in task.turns:
            known += re.findall(r"\d+", turn.message)
            for call in (call for message in turn.reference for call in message.calls):
                assert {json.dumps(value) for value in call.arguments.values()} <= set(known), task.id
                known.append(json.dumps(run(call)))


@pytest.mark.parametrize("split", SPLITS)
def test_answers_stand_nowhere_but_in_their_own_result(split):
    for task in tasks(split):
        results = [json.dumps(run(call)) for call in task.reference_calls()]
        said = [number for turn in task.turns for number in re.findall(r"\d+", turn.message)]
        for result in results:
            assert sum(result in number for number in (*said, *results)) == 1, task.id


@pytest.mark.parametrize("split", SPLITS)
def test_another_operand_gives_another_result(split):
    for call in (call for task in tasks(split) for call in task.reference_calls()):
        result = run(call)
        for name in ("a", "b"):
            changed = {**call.arguments, name: call.arguments[name] + 1}
            assert getattr(SUITE.backend({}), call.name)(**changed)["result"] != result


def test_kinds_have_the_calls_their_names_promise():
    counts = {task.kind: [len(turn.reference) - 1 for turn in task.turns] for task in tasks("train")}
    assert counts == {"one_step": [1], "two_step": [2], "three_step": [3], "follow_up": [1, 1]}
    assert set(counts) == set(SUITE.kinds)


def test_all_operations_and_fractions_occur():
    calls = [call for task in tasks("train") for call in task.reference_calls()]
    assert {call.name for call in calls} == set(SUITE.tools)
    assert any(isinstance(run(call), float) for call in calls)


def test_reasoning_is_one_line_that_names_the_tool_and_its_values():
    for message in (message for task in tasks("train") for turn in task.turns for message in turn.reference):
        assert 8 <= len(message.reasoning.split()) <= 25 and "\n" not in message.reasoning
        for call in message.calls:
            assert all(str(word) in message.reasoning for word in (call.name, *call.arguments.values()))


def test_splits_share_numbers_but_no_first_operands():
    first = {split: {tuple(task.reference_calls()[0].arguments.values()) for task in tasks(split)} for split in SPLITS}
    assert not first["train"] & first["test"]
    assert all((a + 3 * b) % 5 == 0 for a, b in first["test"])
    assert all((a + 3 * b) % 5 for a, b in first["train"])
    second = {split: {b for _, b in first[split]} for split in SPLITS}
    assert len(second["train"] & second["test"]) > 40


def test_equal_arguments_give_equal_tasks_and_others_do_not():
    def text(split, index):
        return json.dumps(SUITE.generate(split, index, "full").to_json())

    assert [text("train", index) for index in range(50)] == [text("train", index) for index in range(50)]
    assert len({text("train", index).partition(",")[2] for index in range(50)}) == 50
    assert SUITE.generate("test", 10**9, "full").id == "test/full/1000000000"


@pytest.mark.parametrize(("split", "preset"), [("dev", "full"), ("train", "hard")])
def test_unknown_split_or_preset_is_refused(split, preset):
    with pytest.raises(UsageError, match="no calculator tasks"):
        SUITE.generate(split, 0, preset)
