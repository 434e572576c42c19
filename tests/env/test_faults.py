"""Faults: drawn from the seed and nothing else, each as often as asked for, and in the way of a real API."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from typing import Any

import gymnasium
import pytest
from gymnasium.utils.env_checker import check_env

from awpo_env.env import ToolUseEnv
from awpo_env.errors import UsageError
from awpo_env.suites import Suite
from awpo_env.wrappers.faults import FaultInjection, Faults

Call = Callable[..., str]
NUM_CALLS = 400
TOLERANCE = 0.08  # more than three standard deviations of a share of NUM_CALLS


@pytest.fixture
def faulty(notes: Suite) -> Iterator[Callable[..., FaultInjection]]:
    """Builds faulty environments of the notes suite that allow for many calls."""
    made: list[FaultInjection] = []

    def build(suite: Suite = notes, settings: dict[str, Any] | None = None, **faults: Any) -> FaultInjection:
        limits = {"max_turns": 10_000, "max_tool_calls": 10_000}
        made.append(FaultInjection(ToolUseEnv(suite, limits=limits, **(settings or {})), faults))
        made[-1].reset(seed=5, options={"task_id": "clean"})
        return made[-1]

    yield build
    for env in made:
        env.close()


def results(step: Any) -> list[Any]:
    return [json.loads(message["content"]) for message in step[0]["new_messages"] if message["role"] == "tool"]


def many(env: FaultInjection, text: str) -> list[Any]:
    return results(env.step(text * NUM_CALLS))


def with_list(notes: Suite) -> Suite:
    """The notes suite with a list of ten notes, each with three tags in order."""

    def list_notes(self: Any) -> Any:
        return {"notes": [{"id": number, "tags": [1, 2, 3]} for number in range(10)], "total": 10}

    return dataclasses.replace(notes, backend=type("Backend", (notes.backend,), {"list_notes": list_notes}))


@pytest.mark.parametrize(("fault", "start"), [("rate_limit", "429 Too Many"), ("outage", "503 Service")])
def test_a_refused_call_is_not_run_and_as_frequent_as_asked_for(
    faulty: Any, call: Call, fault: str, start: str
) -> None:
    env = faulty(**{fault: 0.25})
    refused = [answer["error"] for answer in many(env, call("get_note", note_id="N1")) if "error" in answer]
    assert abs(len(refused) / NUM_CALLS - 0.25) < TOLERANCE
    assert all(error["code"] == "tool_error" and error["message"].startswith(start) for error in refused)
    assert env.step("Go on.")[4]["faults"] == {fault: len(refused)}
    env = faulty(**{fault: 1.0})
    before = env.unwrapped._backend.snapshot()
    env.step("It is 1234.")  # now delete_note is on show
    assert "error" in results(env.step(call("delete_note", note_id="N2")))[0]
    assert env.unwrapped._backend.snapshot() == before


def test_partial_results_have_half_of_every_list(faulty: Any, call: Call, notes: Suite) -> None:
    half = {"notes": [{"id": number, "tags": [1, 2]} for number in range(5)], "total": 10}
    assert results(faulty(with_list(notes), truncate=1.0).step(call("list_notes"))) == [half]
    answers = many(faulty(with_list(notes), truncate=0.5), call("list_notes"))
    assert abs(answers.count(half) / NUM_CALLS - 0.5) < TOLERANCE


def test_reordered_results_hold_the_same(faulty: Any, call: Call, notes: Suite) -> None:
    answers = many(faulty(with_list(notes), reorder=1.0), call("list_notes"))
    assert len({json.dumps(answer) for answer in answers}) > 0.9 * NUM_CALLS
    for answer in answers:
        assert [note["id"] for note in sorted(answer["notes"], key=lambda note: note["id"])] == list(range(10))
        assert all(sorted(note["tags"]) == [1, 2, 3] for note in answer["notes"])


def test_what_was_not_changed_is_not_counted(faulty: Any, call: Call) -> None:
    env = faulty(truncate=1.0, reorder=1.0)
    env.reset(options={"task_id": "ask"})
    assert env.step(call("get_note", note_id="N1"))[4]["faults"] == {}


def test_a_parameter_is_renamed_from_its_turn_on(faulty: Any, call: Call) -> None:
    env = faulty(rename_from_turn=2)
    note = results(env.step(call("get_note", note_id="N1")))[0]
    step = env.step(call("get_note", note_id="N1"))
    error = results(step)[0]["error"]
    assert (error["code"], step[4]["faults"]) == ("invalid_arguments", {"rename": 1})
    assert "noteId" in json.dumps(error)
    assert "noteId" not in json.dumps(step[0]["tools"])  # the declarations are out of date
    assert results(env.step(call("get_note", noteId="N1"))) == [note]
    assert results(env.step(call("list_notes"))) != []
    env.reset(seed=5, options={"task_id": "clean"})
    assert results(env.step(call("get_note", note_id="N1"))) == [note]


def test_mistakes_no_api_hears_of_stay_what_they_are(faulty: Any, call: Call) -> None:
    env = faulty(rate_limit=1.0, outage=1.0, truncate=1.0, rename_from_turn=1)
    malformed, unknown = results(env.step("<tool_call>?</tool_call>" + call("nope")))
    assert (malformed["error"]["code"], unknown["error"]["code"]) == ("malformed_json", "unknown_tool")


def test_latency_counts_towards_the_time_limit(faulty: Any, call: Call) -> None:
    env = faulty(settings={"tool_timeout": 0.01}, latency_s=(5.0, 6.0))
    step = env.step(call("list_notes"))
    late = {"error": {"code": "timeout", "message": "list_notes did not answer within 0.01 s"}}
    assert (results(step), step[4]["faults"]) == ([late], {"timeout": 1})
    assert env.step(call("list_notes"))[4]["status"] == "environment_error"


def test_waiting_is_announced(faulty: Any) -> None:
    assert faulty(rate_limit=0.5).get_wrapper_attr("answers_at_once")
    assert not faulty(latency_s=(0.0, 0.001)).get_wrapper_attr("answers_at_once")
    assert not faulty(settings={"tool_timeout": 1.0}).get_wrapper_attr("answers_at_once")


# -- seeds -------------------------------------------------------------------------------------------------------------

MIXED = {"rate_limit": 0.2, "outage": 0.2, "truncate": 0.3, "reorder": 0.3, "rename_from_turn": 4}


def record(env: FaultInjection, call: Call, seed: int | None) -> str:
    steps: list[Any] = [env.reset(seed=seed, options={"task_id": "ask"})]
    steps += [env.step(call("list_notes") + call("get_note", note_id="N1")) for _ in range(12)]
    return json.dumps([steps, env.step("It is 4711.")], default=dataclasses.asdict)


def test_equal_seeds_give_byte_equal_faults_whatever_came_before(faulty: Any, call: Call) -> None:
    first, second = faulty(**MIXED), faulty(**MIXED)
    expected = [record(first, call, seed) for seed in range(4)]
    assert len(set(expected)) == 4
    assert [record(second, call, seed) for seed in reversed(range(4))] == expected[::-1]
    unseeded = [record(first, call, None) for _ in range(3)]  # goes on after seed 3, without repeating itself
    assert len({*unseeded, expected[3]}) == 4
    record(second, call, 3)
    assert [record(second, call, None) for _ in range(3)] == unseeded


def test_faults_do_not_change_which_tasks_are_drawn(notes: Suite) -> None:
    plain, faulty = ToolUseEnv("calculator"), FaultInjection(ToolUseEnv("calculator"), MIXED)
    draws = [
        [env.reset(seed=3 if number == 0 else None)[1]["task_id"] for number in range(5)] for env in (plain, faulty)
    ]
    assert draws[0] == draws[1]


def test_what_a_call_meets_depends_on_its_number_alone(faulty: Any, call: Call) -> None:
    def refused(text: str) -> list[bool]:
        env = faulty(rate_limit=0.5)
        env.step(text)
        return ["429" in json.dumps(results(env.step(call("list_notes")))) for _ in range(40)]

    assert refused(call("list_notes")) == refused(call("get_note", note_id="N9")) == refused("<tool_call>")
    assert len(set(refused(call("list_notes")))) == 2


def test_no_faults_change_nothing(notes: Suite, call: Call) -> None:
    plain, faulty = ToolUseEnv(notes), FaultInjection(ToolUseEnv(notes), Faults())

    def steps(env: gymnasium.Env[Any, Any]) -> str:
        played = [env.reset(seed=1), env.step(call("list_notes")), env.step(call("nope")), env.step("4711")]
        for step in played:
            step[-1].pop("faults", None)
        return json.dumps(played, default=dataclasses.asdict)

    assert steps(plain) == steps(faulty)
    with pytest.warns(UserWarning, match="different from the unwrapped version"):
        check_env(FaultInjection(ToolUseEnv(notes), MIXED), skip_render_check=True)


@pytest.mark.parametrize(
    ("faults", "problem"),
    [
        ({"rate_limit": 1.5}, "rate_limit is 1.5; expected a share"),
        ({"truncate": -0.1}, "truncate is -0.1"),
        ({"latency_s": (2.0, 1.0)}, "expected least and most seconds"),
        ({"rename_from_turn": -1}, "rename_from_turn is -1"),
        ({"rate_limits": 0.5}, "unknown fault 'rate_limits'.*Did you mean 'rate_limit'"),
    ],
)
def test_impossible_faults_are_refused(notes: Suite, faults: dict[str, Any], problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        FaultInjection(ToolUseEnv(notes), faults)
