"""The big property: no text a model could write ever breaks an environment or leaves a trace of a failed call."""

from __future__ import annotations

import json
import random
import string
from collections.abc import Callable
from typing import Any

import gymnasium
import pytest

from awpo_env import ENV_IDS
from awpo_env.env import ToolUseEnv

NUM_TEXTS = 20_000
BUILT_IN_IDS = tuple(env_id for env_id in ENV_IDS if env_id != "awpo/ToolUse-v0")
TAGS = ("<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_call", "</", "\n")
HOSTILE = (
    *(
        "' OR 1=1 --",
        "x'); DROP TABLE orders; --",
        "%s%n{0}{self}",
        "__class__",
        "../../etc/passwd",
        "\x00",
        "\ufeff",
        "",
    ),
    *("\u202e", "NaN", "null", "0" * 300, "\U0001f600", "e\u0301", None, True, -1, 0, 1e308, 2**62, 1.0, -0.0, [], {}),
    *([["x"]], {"a": {"b": []}}, {"__proto__": 1}, "'", '"', "`", "1; --", "A" * 5000, ["x"] * 500),
)
NAMES = (
    "__init__",
    "__class__",
    "snapshot",
    "restore",
    "close",
    "transaction",
    "_execute",
    "eval",
    "malformed_call",
    "",
)
NUMBERS = (
    "NaN",
    "Infinity",
    "-Infinity",
    "1e999",
    "9" * 10_000,
    "0x1F",
    "01",
    "1e400",
    "-",
    "9223372036854775808",
    "1E+2",
)
LETTERS = string.ascii_letters + string.punctuation + " \n\t\x00\x7f\u00e9\u4f60\u2028\ud800\udc00\U0001f600"


def noise(env: ToolUseEnv, rng: random.Random) -> str:
    return "".join(rng.choices(LETTERS, k=rng.randrange(60)))


def tagged(env: ToolUseEnv, rng: random.Random) -> str:
    return "".join(rng.choice((rng.choice(TAGS), noise(env, rng), env.action_space.sample())) for _ in range(6))


def cut(env: ToolUseEnv, rng: random.Random) -> str:
    text = env.action_space.sample()
    start, end = sorted(rng.randrange(len(text) + 1) for _ in range(2))
    return rng.choice((text[:end], text[:start] + text[end:], text[:start] + rng.choice(LETTERS) + text[start:]))


def mutated(env: ToolUseEnv, rng: random.Random) -> str:
    call = read(env.action_space.sample())
    arguments = call["arguments"]
    for name in list(arguments) or ["x"]:
        match rng.randrange(4):
            case 0:
                arguments[name] = rng.choice(HOSTILE)
            case 1:
                arguments.pop(name, None)
            case 2:
                arguments[str(rng.choice(HOSTILE))] = rng.choice(HOSTILE)
    if rng.random() < 0.1:
        call["name"] = rng.choice(NAMES)
    if rng.random() < 0.05:
        call["arguments"] = rng.choice(HOSTILE)
    return f"<tool_call>{json.dumps(call, ensure_ascii=rng.random() < 0.5)}</tool_call>"


def renumbered(env: ToolUseEnv, rng: random.Random) -> str:
    call = read(env.action_space.sample())
    pairs = [f"{json.dumps(name)}: {rng.choice(NUMBERS)}" for name in [*call["arguments"], "x"]]
    pairs += pairs[: rng.randrange(2)]
    return f'<tool_call>{{"name": {json.dumps(call["name"])}, "arguments": {{{", ".join(pairs)}}}}}</tool_call>'


def several(env: ToolUseEnv, rng: random.Random) -> str:
    return "".join(rng.choice((mutated, cut, renumbered))(env, rng) for _ in range(rng.randrange(1, 5)))


def read(text: str) -> dict[str, Any]:
    return json.loads(text.removeprefix("<tool_call>").removesuffix("</tool_call>"))


def huge() -> list[str]:
    name = '<tool_call>{"name": "get_order", "arguments": '
    return [
        *("x" * 10**6, "\ud800" * 10**6, "<tool_call>" * 90_000, "</think>" * 100_000, "<think>" * 100_000),
        *("<tool_call></tool_call>" * 5_000, "<tool_call>" + "[" * 10**5, "<tool_call>" + "[" * 10**5 + "</tool_call>"),
        *(
            name + '{"a":' * 10**5 + "1" + "}" * 10**5 + "}</tool_call>",
            name + "[" * 10**5 + "]" * 10**5 + "}</tool_call>",
        ),
        *(
            name + '{"order_id": ' + digits + "}}</tool_call>"
            for digits in ("9" * 10**6, "0." + "3" * 10**6, "1e" + "9" * 10**6)
        ),
        *(
            name + '{"order_id": "' + letter * 10**6 + '"}}</tool_call>'
            for letter in ("x", "\\u0041", "'", "\U0001f600")
        ),
        *(name + '{"order_id": "' + letter * 90_000 + '"}}</tool_call>' for letter in ("x", "'")),
        '<tool_call>{"name": "' + "get_order" * 10_000 + '"}</tool_call>',
        name + "{" + ", ".join(f'"k{index}": {index}' for index in range(7_000)) + "}}</tool_call>",
        name + '{"order_id": [' + "1, " * 30_000 + "1]}}</tool_call>",
    ]


WRITERS: tuple[Callable[[ToolUseEnv, random.Random], str], ...] = (
    noise,
    tagged,
    cut,
    mutated,
    mutated,
    renumbered,
    several,
)


def assert_survives(env: gymnasium.Env[dict[str, Any], str], text: str) -> bool:
    """Step once; whether the episode goes on."""
    core: ToolUseEnv = env.unwrapped  # type: ignore[assignment]
    before = core._backend.snapshot()
    observation, _, terminated, truncated, info = env.step(text)
    assert info["status"] != "environment_error", (text[:300], info["error"])
    answers = [message for message in observation["new_messages"] if message["role"] == "tool"]
    if all(message["content"].startswith('{"error"') for message in answers):
        assert core._backend.snapshot() == before, text[:300]
    json.dumps(observation["new_messages"], ensure_ascii=False).encode("utf-8")
    return not (terminated or truncated)


@pytest.mark.slow
@pytest.mark.parametrize("env_id", BUILT_IN_IDS)
def test_any_text_is_survived(env_id: str) -> None:
    rng = random.Random(0)
    env = gymnasium.make(env_id, limits={"max_parse_errors": 5})
    env.action_space.seed(0)
    is_running = False
    for number in range(-(-NUM_TEXTS // len(BUILT_IN_IDS))):
        if not is_running:
            env.reset(seed=number)
        is_running = assert_survives(env, rng.choice(WRITERS)(env.unwrapped, rng))
    env.close()


@pytest.mark.slow
@pytest.mark.parametrize("env_id", BUILT_IN_IDS)
def test_huge_texts_are_survived(env_id: str) -> None:
    env = gymnasium.make(env_id)
    for text in huge():
        env.reset(seed=0)
        assert_survives(env, text)
    env.close()
