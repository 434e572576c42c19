"""Conversations as ids: piece by piece they are what the template renders as a whole."""

import copy
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from awpo_agent.chat import ChatTokens
from awpo_agent.train import load_policy
from awpo_env.errors import UsageError
from awpo_env.parsing import get_parser
from awpo_env.types import AssistantMessage, ToolCall

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": name,
            "description": "",
            "parameters": {
                "type": "object",
                "properties": {"a": {"type": "number"}, "unit": {"type": "string", "enum": ["m", "ft"]}},
                "required": ["a"],
            },
        },
    }
    for name in ("add", "negate")
]


def assistant(content="", reasoning="", *calls):
    message = {"role": "assistant", "content": content}
    if reasoning:
        message["reasoning_content"] = reasoning
    if calls:
        message["tool_calls"] = [
            {"id": f"call_{i}", "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}
            for i, (name, arguments) in enumerate(calls)
        ]
    return message


def text_of(message):
    calls = [call["function"] for call in message.get("tool_calls", ())]
    parsed = tuple(ToolCall(call["name"], json.loads(call["arguments"])) for call in calls)
    return get_parser("hermes").format(
        AssistantMessage(message.get("reasoning_content", ""), message["content"], parsed)
    )


def tool(content):
    return {"role": "tool", "tool_call_id": "call_0", "name": "add", "content": content}


def said(role, content):
    return {"role": role, "content": content}


CONVERSATIONS = {
    "plain": [said("system", "Be brief."), said("user", "Hello."), assistant("Hi.")],
    "no system": [said("user", "Hello."), assistant("Hi."), said("user", "Bye."), assistant("Bye.")],
    "one result": [
        said("system", "Be brief."),
        said("user", "Add 1 and 2."),
        assistant("", "I add.", ("add", {"a": 1, "b": 2})),
        tool('{"result": 3}'),
        assistant("It is 3."),
    ],
    "several results in a row": [
        said("system", "Be brief."),
        said("user", "Add 1 and 2, and negate 4."),
        assistant("Both at once.", "Two calls.", ("add", {"a": 1, "b": 2}), ("negate", {"a": 4})),
        tool('{"result": 3}'),
        tool('{"error": {"code": "tool_error", "message": "no"}}'),
        assistant("", "Again.", ("negate", {"a": 4})),
        tool('{"result": -4}'),
        assistant("They are 3 and -4."),
    ],
    "system message in the middle": [
        said("system", "Be brief."),
        said("user", "Hello."),
        assistant("Hi."),
        said("system", "New tools:\n{}"),
        said("user", "Negate 4."),
        assistant("", "", ("negate", {"a": 4})),
        tool('{"result": -4}'),
        assistant("Done."),
        said("user", "Thanks."),
        assistant("Welcome."),
    ],
}


def pieces(chat, messages, tools):
    """Ids of a conversation as a rollout puts them together."""
    starts = [number for number, message in enumerate(messages) if message["role"] == "assistant"]
    ids = chat.prompt(messages[: starts[0]], tools)
    for start, end in zip(starts, [*starts[1:], len(messages)], strict=True):
        ids += chat.assistant(text_of(messages[start]))
        if end < len(messages):
            ids += chat.delta(messages[start + 1 : end])
    return ids


def whole(chat, messages, tools):
    text = chat.tokenizer.apply_chat_template(messages, tools=tools or None, tokenize=False, **chat.options)
    return text.removesuffix("\n")  # what stands behind the last end token is nobody's


@pytest.mark.parametrize("name", CONVERSATIONS)
@pytest.mark.parametrize("tools", [TOOLS, []])
def test_pieces_are_the_encoding_of_the_whole(chat, name, tools):
    messages = CONVERSATIONS[name]
    want = chat.tokenizer.encode(whole(chat, messages, tools), add_special_tokens=False)
    assert pieces(chat, messages, tools) == want


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.lists(st.text(max_size=20), min_size=3, max_size=3))
def test_pieces_decode_to_the_whole_whatever_is_said(chat, texts):
    messages = [
        said("system", texts[0]),
        said("user", texts[1]),
        assistant("ok"),
        said("user", texts[2]),
        assistant("x"),
    ]
    got = chat.tokenizer.decode(pieces(chat, messages, TOOLS), skip_special_tokens=False)
    assert got == whole(chat, messages, TOOLS)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.text())
def test_an_assistant_message_decodes_to_itself(chat, text):
    ids = chat.assistant(text)
    assert chat.decode(ids) == text and chat.decode(ids[:-1]) == text
    assert ids[-1] == chat.stop_ids[0]


def test_tags_survive_decoding(chat):
    text = '<think>x</think><tool_call>{"name": "add", "arguments": {}}</tool_call>'
    assert chat.decode(chat.assistant(text)) == text
    assert chat.decode([]) == ""


def test_tools_by_hand(chat):
    text = chat.tokenizer.decode(chat.prompt([said("system", "Be brief."), said("user", "Hi.")], TOOLS))
    assert text == (
        "<|im_start|>system\nBe brief.\n<tools>\nadd(a, unit?: m|ft)\nnegate(a, unit?: m|ft)\n</tools><|im_end|>\n"
        "<|im_start|>user\nHi.<|im_end|>\n<|im_start|>assistant\n"
    )


# ---- other templates

QWEN3_LIKE = """\
{%- set last = namespace(user=-1) -%}
{%- for message in messages %}{% if message.role == 'user' %}{% set last.user = loop.index0 %}{% endif %}{% endfor -%}
{%- for message in messages -%}
    {%- if message.role == 'assistant' -%}
        {{- '<|im_start|>assistant\\n' -}}
        {%- if loop.index0 > last.user and (loop.last or message.reasoning_content) -%}
            {{- '<think>\\n' ~ (message.reasoning_content or '') ~ '\\n</think>\\n\\n' -}}
        {%- endif -%}
        {{- message.content -}}
        {%- for call in message.tool_calls or [] -%}
            {{- '\\n<tool_call>' ~ call.function.name ~ '</tool_call>' -}}
        {%- endfor -%}
        {{- '<|im_end|>\\n' -}}
    {%- elif message.role == 'tool' -%}
        {{- '<|im_start|>user\\n<tool_response>' ~ message.content ~ '</tool_response><|im_end|>\\n' -}}
    {%- else -%}
        {{- '<|im_start|>' ~ message.role ~ '\\n' ~ message.content ~ '<|im_end|>\\n' -}}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif -%}
"""


def with_template(tokenizer, template, eos_token=None):
    other = copy.deepcopy(tokenizer)
    other.chat_template = template
    if eos_token is not None:
        other.eos_token = eos_token
    return other


def test_a_template_that_rewrites_history_is_named(tokenizer, chat):
    assert chat.rewrites_history(TOOLS) is None
    found = ChatTokens(with_template(tokenizer, QWEN3_LIKE)).rewrites_history()
    assert found is not None
    assert found.startswith("assistant message 1 ") and "<think>" in found and "reply" in found


def test_a_template_that_rewrites_history_is_safe_all_the_same(tokenizer):
    chat = ChatTokens(with_template(tokenizer, QWEN3_LIKE))
    after_text = chat.tokenizer.decode(chat.delta([said("user", "And now?")]))
    assert after_text == "\n<|im_start|>user\nAnd now?<|im_end|>\n<|im_start|>assistant\n"
    after_call = chat.tokenizer.decode(chat.delta([tool("3"), tool("4")]))
    results = "".join(f"<|im_start|>user\n<tool_response>{n}</tool_response><|im_end|>\n" for n in (3, 4))
    assert after_call == "\n" + results + "<|im_start|>assistant\n"


def test_a_tokenizer_without_template_or_end_is_refused(tokenizer):
    with pytest.raises(UsageError, match="no chat template"):
        ChatTokens(with_template(tokenizer, None))
    endless = copy.deepcopy(tokenizer)
    endless.eos_token = None
    with pytest.raises(UsageError, match="no end-of-sequence token"):
        ChatTokens(endless)


def test_an_end_token_that_ends_no_message_is_refused(tokenizer):
    # As base checkpoints have it: the template ends messages with <|im_end|>, the tokenizer ends texts with another.
    with pytest.raises(UsageError, match=r"does not end assistant messages.*'<\|endoftext\|>'; set eos_token"):
        ChatTokens(with_template(tokenizer, tokenizer.chat_template, eos_token="<|endoftext|>"))


def test_a_tool_without_arguments_is_shown():
    chat = ChatTokens(load_policy("base")[1])
    bare = {"type": "function", "function": {"name": "stop", "description": "Stop.", "parameters": {"type": "object"}}}
    assert "\nstop()\n" in chat.decode(chat.prompt([{"role": "user", "content": "hi"}], [bare]))
