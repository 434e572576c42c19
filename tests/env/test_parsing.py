"""Text of a model becomes reasoning, content and calls, and any text becomes something."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from awpo_env.errors import UsageError
from awpo_env.parsing import HermesParser, encodable, get_parser, loads_strict
from awpo_env.types import AssistantMessage, MalformedCall, ToolCall

PARSER = HermesParser()
GOOD = '<tool_call>{"name": "f", "arguments": {"x": 1}}</tool_call>'
F1 = ToolCall("f", {"x": 1})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", AssistantMessage()),
        (" hello \n", AssistantMessage("", "hello")),
        (GOOD, AssistantMessage(calls=(F1,))),
        (f"a{GOOD}b{GOOD}c", AssistantMessage("", "abc", (F1, F1))),
        (f"<think> why </think>so{GOOD}", AssistantMessage("why", "so", (F1,))),
        (f"why </think>so{GOOD}", AssistantMessage("why", "so", (F1,))),
        (f"so <think>why</think>{GOOD}", AssistantMessage("why", "so", (F1,))),
        (f"<think>{GOOD}</think>no", AssistantMessage(GOOD, "no")),
        (f"<think>never closed {GOOD}", AssistantMessage(f"never closed {GOOD}", "")),
        (f"{GOOD}<think>late</think>", AssistantMessage("", "<think>late</think>", (F1,))),
        ('<tool_call>\n{"name": "f"}\n</tool_call>', AssistantMessage(calls=(ToolCall("f", {}),))),
        ("hm</tool_call>", AssistantMessage("", "hm</tool_call>")),
        ("\u4f60\u597d \U0001f600", AssistantMessage("", "\u4f60\u597d \U0001f600")),
        (
            '<tool_call>{"name": "f", "arguments": {"x": "<think>"}}</tool_call>',
            AssistantMessage(calls=(ToolCall("f", {"x": "<think>"}),)),
        ),
    ],
)
def test_text_is_taken_apart(text: str, message: AssistantMessage) -> None:
    assert PARSER.parse(text) == message


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ("", "Expecting value at character 0"),
        ('{"name": "f", "arguments": {"x": 1}', "Expecting ',' delimiter at character 35"),
        ('{"name": "f"} {}', "Extra data at character 14"),
        ("[]", 'a call is {"name": "...", "arguments": {...}}'),
        ('{"arguments": {}}', 'a call is {"name": "...", "arguments": {...}}'),
        ('{"name": 3}', 'a call is {"name": "...", "arguments": {...}}'),
        ('{"name": "f", "arguments": "{}"}', '"arguments" must be an object'),
        ('{"name": "f", "arguments": null}', '"arguments" must be an object'),
        ('{"name": "f", "parameters": {}}', "unexpected key 'parameters' beside name and arguments"),
        ('{"name": "f", "name": "g"}', "duplicate key"),
        ('{"name": "f", "arguments": {"x": NaN}}', "NaN is not JSON"),
        ('{"name": "f", "arguments": {"x": -Infinity}}', "-Infinity is not JSON"),
        ('{"name": "f", "arguments": {"x": 1e999}}', "number out of range"),
        ('{"name": "f", "arguments": {"x": 9223372036854775808}}', "number out of range"),
        ('{"name": "f", "arguments": {"x": %s}}' % ("9" * 50_000), "number out of range"),
        ('{"name": "f", "arguments": {"x": "\\ud800"}}', "lone surrogate in text"),
        ('{"name": "f", "arguments": {"x": "\ud800"}}', "lone surrogate in text"),
        ("[" * 50_000, "nested too deeply"),
        ('{"name": "f", "arguments": ' + '{"x":' * 40 + "1" + "}" * 41, "nested too deeply"),
        ('{"name": "f", "arguments": {"x": "%s"}}' % ("y" * 100_000), "at most 100000 are read"),
    ],
)
def test_what_was_meant_as_a_call_says_what_is_wrong_with_it(body: str, problem: str) -> None:
    (call,) = PARSER.parse(f"<tool_call>{body}</tool_call>").calls
    assert isinstance(call, MalformedCall)
    assert call.text == body
    assert problem in call.problem


def test_one_bad_call_does_not_spoil_its_neighbours() -> None:
    calls = PARSER.parse(f"{GOOD}<tool_call>oops</tool_call>{GOOD}<tool_call>").calls
    assert [type(call) for call in calls] == [ToolCall, MalformedCall, ToolCall, MalformedCall]
    assert calls[3] == MalformedCall("", "<tool_call> is never closed")


def test_the_largest_integers_are_read() -> None:
    assert loads_strict("[9223372036854775807, -9223372036854775808]") == [2**63 - 1, -(2**63)]


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(), children, max_size=3),
    max_leaves=8,
)
tags = st.sampled_from(["<think>", "</think>", "<tool_call>", "</tool_call>", "<", "\\u003c"])
calls = st.builds(ToolCall, st.text(), st.dictionaries(st.text() | tags, json_values | tags, max_size=4))
plain = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="<")).map(str.strip)


@settings(max_examples=200, deadline=None)
@given(st.builds(AssistantMessage, plain, plain, st.lists(calls, max_size=3).map(tuple)))
def test_what_is_formatted_is_parsed_back(message: AssistantMessage) -> None:
    parsed = PARSER.parse(PARSER.format(message))
    assert parsed == message
    assert [repr(call) for call in parsed.calls] == [repr(call) for call in message.calls]


@settings(max_examples=300, deadline=None)
@given(st.lists(tags | st.text() | st.just(GOOD) | st.just("\ud800"), max_size=8).map("".join))
def test_any_text_is_parsed(text: str) -> None:
    message = PARSER.parse(text)
    for call in message.calls:
        if isinstance(call, ToolCall):
            json.dumps(call.arguments, ensure_ascii=False).encode("utf-8")


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(categories=["Cs", "Ll", "So"])))
def test_encodable_text_can_be_stored_and_loses_only_lone_surrogates(text: str) -> None:
    stored = encodable(text).encode("utf-8").decode("utf-8")
    assert encodable(stored) == stored
    if "\ufffd" not in stored:
        assert stored.encode("utf-16") == text.encode("utf-16", "surrogatepass")


def test_surrogates_are_replaced_one_by_one_and_pairs_joined() -> None:
    assert encodable("a\ud83d\ude00b\ud800c\udc00") == "a\U0001f600b\ufffdc\ufffd"


@pytest.mark.parametrize("text", ["<tool_call></tool_call>" * 40_000, "<tool_call>" * 90_000, "<think>" * 100_000])
def test_time_grows_with_length_and_not_with_its_square(text: str) -> None:
    start = time.process_time()
    PARSER.parse(text)
    assert time.process_time() - start < 2.0


def test_an_unknown_parser_is_refused_with_a_suggestion() -> None:
    with pytest.raises(UsageError, match="Did you mean 'hermes'"):
        get_parser("hermse")


def test_parsers_format_what_a_model_would_write() -> None:
    message = AssistantMessage("why", "so", (F1, MalformedCall("oops", "bad")))
    expected: Any = f"<think>why</think>so{GOOD}<tool_call>oops</tool_call>"
    assert PARSER.format(message) == expected
