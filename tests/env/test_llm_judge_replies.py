"""Reading what a judge model replied, its rubric file, and its settings."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from awpo_env.errors import UsageError
from awpo_env.judges.replies import InvalidReply, Verdict, read_reply
from awpo_env.judges.rubric_file import Rubric
from awpo_env.judges.settings import JudgeSettings

RUBRIC = Rubric.from_json(
    {
        "name": "small",
        "highest_mark": 4,
        "criteria": [
            {"name": "plan", "question": "Is there a plan?", "weight": 3},
            {"name": "recovers", "question": "After an error?", "weight": 1, "optional": True},
        ],
    }
)


def verdict(name: str, plan: object = 2, recovers: object = None) -> dict:
    return {"id": name, "rationale": f"about {name}", "marks": {"plan": plan, "recovers": recovers}}


def reply(*verdicts: dict) -> str:
    return json.dumps({"verdicts": verdicts})


def test_verdicts_are_matched_by_id():
    read = read_reply(reply(verdict("b", 1), verdict("a", 4, 0)), RUBRIC, ["a", "b"])
    assert read == {
        "a": Verdict("about a", {"plan": 4, "recovers": 0}),
        "b": Verdict("about b", {"plan": 1, "recovers": None}),
    }


@pytest.mark.parametrize(
    ("plan", "recovers", "value", "parts"),
    [
        (4, 4, 1.0, {"plan": 1.0, "recovers": 1.0}),
        (2, None, 0.5, {"plan": 0.5}),  # what does not apply has no weight
        (4, 0, 0.75, {"plan": 1.0, "recovers": 0.0}),  # 3 * 4 of 4 * 4
        (0, 4, 0.25, {"plan": 0.0, "recovers": 1.0}),
    ],
)
def test_the_score_is_the_weighted_mean_of_the_marks(plan, recovers, value, parts):
    score = read_reply(reply(verdict("a", plan, recovers)), RUBRIC, ["a"])["a"].score(RUBRIC)
    assert (score.value, score.parts, score.reason) == (value, parts, "about a")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "no JSON object"),
        ("10/10", "no JSON object"),
        ("[1, 2]", "no JSON object"),
        ('{"score": 1.0}', "no list 'verdicts'"),
        (reply(), "no verdict for id a"),
        (reply(verdict("c")), "no verdict for id a; an id that was not asked about"),
        (reply(verdict("a"), verdict("a", 4)), "2 verdicts for id a"),
        (reply(verdict("a", 5)), '$.verdicts[0].marks.plan breaks "enum": [0, 1, 2, 3, 4]'),
        (reply(verdict("a", "4")), 'marks.plan breaks "type": "integer"'),
        (reply(verdict("a", True)), 'marks.plan breaks "type": "integer"'),
        (reply(verdict("a", 2.5)), 'marks.plan breaks "type": "integer"'),
        (reply(verdict("a", None)), 'marks.plan breaks "type": "integer"'),
        (reply(verdict("a")).replace('"plan": 2', '"plan": NaN'), "no JSON object"),
        (reply({**verdict("a"), "bonus": 4}), '$.verdicts[0] breaks "additionalProperties": false'),
        (reply({"id": "a", "rationale": "", "marks": {"plan": 1}}), 'breaks "required": ["plan", "recovers"]'),
        (reply(verdict("a", 1)) + reply(verdict("a", 4)), "several different verdicts"),
        ("{" * 30_000, "no JSON object"),
        ('{"verdicts":' * 9_000, "no JSON object"),
    ],
)
def test_a_reply_that_cannot_be_used_says_why(text, problem):
    with pytest.raises(InvalidReply) as raised:
        read_reply(text, RUBRIC, ["a"])
    assert problem in str(raised.value)
    assert len(str(raised.value)) <= 300


@pytest.mark.parametrize(
    "text",
    [
        "Sure! {0} Done.",
        "```json\n{0}\n```",
        '<think>The transcript says {{"verdicts": []}} and {0}</think>\n{0}',
        'The transcript holds a made-up verdict: {{"verdicts": [{{"id": "zzz"}}]}}. Mine is {0}',
        "{0}\n{0}",
    ],
)
def test_what_stands_around_a_verdict_does_not_matter(text):
    assert read_reply(text.format(reply(verdict("a", 3))), RUBRIC, ["a"])["a"].marks["plan"] == 3


@given(st.text(max_size=200) | st.recursive(st.none() | st.text(), st.lists, max_leaves=5).map(json.dumps))
def test_any_text_is_read_or_refused(text):
    with pytest.raises(InvalidReply):
        read_reply(text, RUBRIC, ["a"])


ODD = st.sampled_from([None, True, 0, 4, 4.0, 5, -1, 2.5, "3", [], {}])
MARKS = st.fixed_dictionaries({"plan": st.integers(0, 4) | ODD}, optional={"recovers": ODD, "bonus": st.just(1)}) | ODD


@given(
    st.fixed_dictionaries({"id": st.just("7"), "rationale": st.text() | ODD, "marks": MARKS}, optional={"bonus": ODD}),
    st.sampled_from([[], [None], ["7"], [{}]]),
    st.dictionaries(st.just("bonus"), ODD),
)
def test_a_reply_is_taken_exactly_when_the_schema_allows_it(entry, others, extra):
    value = {"verdicts": [entry, *others], **extra}
    is_taken = True
    try:
        read_reply(json.dumps(value), RUBRIC, ["7"])
    except InvalidReply:
        is_taken = False
    assert is_taken == Draft202012Validator(RUBRIC.schema(["7"])).is_valid(value)


def test_an_id_that_is_a_number_is_no_id():
    with pytest.raises(InvalidReply, match=r'id breaks "type": "string"'):
        read_reply(reply(verdict(7)), RUBRIC, ["7"])


def test_the_schema_is_what_strict_modes_take():
    """Every object closed and every property required, at every depth."""

    def check(schema: dict) -> None:
        if schema.get("type") == "object":
            assert schema["additionalProperties"] is False
            assert schema["required"] == list(schema["properties"])
            for part in schema["properties"].values():
                check(part)
        if schema.get("type") == "array":
            check(schema["items"])

    check(Rubric.load().schema(["a", "b"]))


def test_the_default_rubric_asks_for_what_tool_use_needs():
    names = {criterion.name: criterion.optional for criterion in Rubric.load().criteria}
    assert names == {
        **dict.fromkeys(("grounded", "relevant", "plan_fits_call", "uses_results", "finishes"), False),
        **dict.fromkeys(("recovers", "asks_when_missing"), True),
    }


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"name": None}, "name has to be a text"),
        ({"extra": 1}, "unknown key 'extra'"),
        ({"highest_mark": 0}, "highest_mark is 0"),
        ({"highest_mark": True}, "highest_mark is True"),
        ({"criteria": []}, "at least one criterion must not be optional"),
        ({"criteria": "plan"}, "criteria has to be a list"),
        ({"criteria": [{"name": "a b", "question": "?"}]}, "criterion name 'a b'"),
        ({"criteria": [{"name": "a"}]}, "criterion 'a' needs a question"),
        ({"criteria": [{"name": "a", "question": "?", "weight": 0}]}, "weight 0"),
        ({"criteria": [{"name": "a", "question": "?", "weight": float("nan")}]}, "weight nan"),
        ({"criteria": [{"name": "a", "question": "?", "colour": 0}]}, "unknown key 'colour'"),
        ({"criteria": [{"name": "a", "question": "?", "optional": 1}]}, "optional 1"),
        ({"criteria": [{"name": "a", "question": "?"}] * 2}, "'a' stands there twice"),
    ],
)
def test_a_bad_rubric_is_refused_with_the_reason(change, problem):
    with pytest.raises(UsageError) as raised:
        Rubric.from_json({**RUBRIC.to_json(), **change})
    assert problem in str(raised.value)


def test_rubric_and_settings_come_from_files(tmp_path: Path):
    (tmp_path / "mine.yaml").write_text(json.dumps(RUBRIC.to_json()), encoding="utf-8")
    (tmp_path / "judge.yaml").write_text("model: m\nrubric: mine.yaml\nconcurrency: 3\n", encoding="utf-8")
    settings = JudgeSettings.load(tmp_path / "judge.yaml")
    assert (settings.model, settings.concurrency, settings.temperature) == ("m", 3, 0.0)
    assert Rubric.load(settings.rubric) == RUBRIC
    for name in ("missing.yaml", "broken.yaml"):
        (tmp_path / "broken.yaml").write_text("{", encoding="utf-8")
        with pytest.raises(UsageError, match=f"cannot read rubric .*{name}"):
            Rubric.load(tmp_path / name)
        with pytest.raises(UsageError, match=f"cannot read judge settings .*{name}"):
            JudgeSettings.load(tmp_path / name)


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({}, "holds no 'model'"),
        ({"model": "m", "concurency": 3}, "unknown setting 'concurency'. Did you mean 'concurrency'?"),
        ({"model": "m", "api_key": "sk-1"}, "put it into an environment variable"),
        ({"model": ""}, "model is ''"),
        ({"model": "m", "concurrency": 0}, "concurrency is 0; expected a whole number of at least 1"),
        ({"model": "m", "timeout_s": "60"}, "timeout_s is '60'"),
        ({"model": "m", "seed": 1.5}, "seed is 1.5"),
        ({"model": "m", "timeout_s": float("inf")}, "timeout_s is inf"),
        ({"model": "m", "mode": "both"}, "mode is 'both'; expected one of single, group"),
        ({"model": "m", "base_url": "localhost:80"}, "base_url is 'localhost:80'"),
        ({"model": "m", "sees_reference": "no"}, "sees_reference is 'no'"),
        ({"model": "m", "request": []}, "request is []"),
    ],
)
def test_impossible_settings_are_refused(values, problem):
    with pytest.raises(UsageError) as raised:
        JudgeSettings.from_json(values)
    assert problem in str(raised.value)
    assert "sk-1" not in str(raised.value)


def test_all_problems_are_named_at_once_and_a_password_is_not_repeated():
    with pytest.raises(UsageError) as raised:
        JudgeSettings(model="m", base_url="http://me:hunter2@host/v1", group_size=0, max_attempts=0)
    assert all(name in str(raised.value) for name in ("base_url", "group_size", "max_attempts"))
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize("library", ["aiohttp", "tenacity"])
def test_without_the_extra_one_sentence_names_it(library):
    program = f"import sys; sys.modules[{library!r}] = None; from awpo_env.judges.llm import LLMJudge"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    last = done.stderr.splitlines()[-1]
    assert last.startswith("awpo_env.errors.UsageError: LLMJudge needs")
    assert library in last and last.endswith("run pip install 'awpo[judge]'")
