"""Demonstrations for supervised training: reference solutions played through an environment, with mistakes if asked."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from awpo_env.catalogue import make
from awpo_env.env import ToolUseEnv
from awpo_env.errors import UsageError
from awpo_env.schema import says_error
from awpo_env.types import JSON, AssistantMessage, ToolCall, Transcript, UserTurn

_MISTAKES = ("argument", "argument", "argument", "tool", "stop")
"""What a mistaken step does; a wrong argument is the commonest, stopping claims what was never done."""


def demonstrate(env: ToolUseEnv, rng: np.random.Generator, mistake_rate: float) -> dict[str, JSON]:
    """Play the reference solution of the environment's current task and return the episode as a JSON object.

    Every reference message is spoiled with probability `mistake_rate`. Where a tool answers with an error the message
    is said again as it should be; otherwise the demonstrator goes on as if nothing had happened.

    Args:
        env: Already reset.
        rng: Where every mistake comes from.
        mistake_rate: In [0, 1].
    """
    terminated = truncated = False
    first_tools = list(env.transcript.tools)  # what is shown later stands in the conversation
    # Lazily: what a mistake looks like depends on the conversation so far.
    messages = (message for turn in env.task.turns for message in _spoiled_turn(env, turn, rng, mistake_rate))
    for message in messages:
        _, _, terminated, truncated, info = env.step(env.parser.format(message))
        if terminated or truncated:
            break
    transcript = env.transcript
    if not (terminated or truncated):
        raise unfinished_reference(transcript.task.id)
    outcome = info["outcome"]
    return {
        "task_id": transcript.task.id,
        "kind": transcript.task.kind,
        "success": outcome is not None and outcome.success,
        "messages": list(transcript.messages),
        "tools": first_tools,
    }


def unfinished_reference(task_id: str) -> UsageError:
    """What is wrong with a task whose reference was played and whose episode goes on."""
    return UsageError(
        f"the reference of task {task_id!r} stops before the episode ends; expected a last message to the user, "
        "without calls, in every turn"
    )


def solve(env: ToolUseEnv) -> Transcript | None:
    """Play the reference solution of the environment's current task; None if the task has none that succeeds.

    Args:
        env: Already reset.
    """
    for message in (message for turn in env.task.turns for message in turn.reference):
        _, _, terminated, truncated, info = env.step(env.parser.format(message))
        if terminated or truncated:
            return env.transcript if info["outcome"] is not None and info["outcome"].success else None
    return None


def _spoiled_turn(
    env: ToolUseEnv, turn: UserTurn, rng: np.random.Generator, mistake_rate: float
) -> Iterator[AssistantMessage]:
    for message in turn.reference:
        spoiled = message if rng.random() >= mistake_rate else _spoiled(env, turn, message, rng)
        yield spoiled
        if spoiled is not message and _was_refused(env):
            yield message
        if not spoiled.calls:
            return


def _spoiled(env: ToolUseEnv, turn: UserTurn, message: AssistantMessage, rng: np.random.Generator) -> AssistantMessage:
    mistake = _MISTAKES[int(rng.integers(len(_MISTAKES)))] if message.calls else "fact"
    return spoil(env, turn, message, mistake, rng)


def spoil(
    env: ToolUseEnv, turn: UserTurn, message: AssistantMessage, mistake: str, rng: np.random.Generator
) -> AssistantMessage:
    """Return a reference message as a careless assistant would write it here; unchanged where it cannot be spoiled so.

    Args:
        env: In the state the message is meant for.
        turn: The user turn the message belongs to.
        message: The reference message.
        mistake: ``argument``, ``tool`` or ``stop`` of a message with calls, ``fact`` of one without.
        rng: Which argument, tool or fact is wrong.
    """
    if not message.calls:
        return _wrong_fact(turn, message, rng) if mistake == "fact" else message
    if mistake == "argument":
        return _wrong_argument(env, message, rng)
    if mistake == "tool":
        return _wrong_tool(env, message, rng)
    return turn.reference[-1] if mistake == "stop" else message


def _was_refused(env: ToolUseEnv) -> bool:
    last = env.transcript.messages[-1]
    return last["role"] == "tool" and says_error(last["content"])


def _wrong_fact(turn: UserTurn, message: AssistantMessage, rng: np.random.Generator) -> AssistantMessage:
    for fact in turn.facts:
        if fact.decoys:
            decoy = fact.decoys[int(rng.integers(len(fact.decoys)))]
            return replace(
                message,
                content=message.content.replace(fact.value, decoy),
                reasoning=message.reasoning.replace(fact.value, decoy),
            )
    return message


def _wrong_argument(env: ToolUseEnv, message: AssistantMessage, rng: np.random.Generator) -> AssistantMessage:
    call = message.calls[0]
    if not call.arguments:
        return message
    names = list(call.arguments)
    name = names[int(rng.integers(len(names)))]
    right = call.arguments[name]
    candidates = _alternatives(env, call, name)
    if not candidates:
        return message
    wrong = candidates[int(rng.integers(len(candidates)))]
    reasoning = message.reasoning
    if rng.random() < 0.5 and isinstance(right, str):
        reasoning = reasoning.replace(right, str(wrong))
    spoiled = ToolCall(call.name, {**call.arguments, name: wrong})
    return replace(message, reasoning=reasoning, calls=(spoiled, *message.calls[1:]))


def _alternatives(env: ToolUseEnv, call: ToolCall, name: str) -> list[JSON]:
    """Values a careless reader could take for the right one: enum members, or look-alikes from the conversation."""
    right = call.arguments[name]
    if members := _members(env.tools.parameters(call.name).get("properties", {}).get(name)):
        return [value for value in members if value != right]
    if isinstance(right, bool) or not isinstance(right, str | int | float):
        return []
    seen = " ".join(message["content"] for message in env.transcript.messages[1:])
    words = sorted(set(re.findall(r"[\w@.:+-]*\w", seen)))
    alike = [word for word in words if word != str(right) and _shape(word) == _shape(str(right))]
    if not alike:
        alike = [re.sub(r"\d", lambda digit: str((int(digit.group()) + 3) % 10), str(right))]
    values = alike if isinstance(right, str) else [type(right)(word) for word in alike]
    return [value for value in values if value != right]


def _members(schema: JSON) -> Sequence[JSON]:
    """Return what an enum allows; nothing where a schema has none, as one that is missing or a boolean has not."""
    return schema.get("enum", ()) if isinstance(schema, Mapping) else ()


def _shape(word: str) -> str:
    return re.sub(r"[a-z]+", "a", re.sub(r"\d", "9", word))


def _wrong_tool(env: ToolUseEnv, message: AssistantMessage, rng: np.random.Generator) -> AssistantMessage:
    call = message.calls[0]
    others = [
        tool["function"]["name"]
        for tool in env.transcript.tools
        if tool["function"]["name"] != call.name
        and set(tool["function"]["parameters"].get("properties", ())) & set(call.arguments)
    ]
    if not others:
        return message
    name = others[int(rng.integers(len(others)))]
    properties = env.tools.parameters(name)["properties"]
    arguments = {
        key: call.arguments[key] if key in call.arguments else members[int(rng.integers(len(members)))]
        for key, members in zip(properties, map(_members, properties.values()), strict=True)
        if key in call.arguments or members
    }
    return replace(message, calls=(ToolCall(name, arguments), *message.calls[1:]))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags of ``awpo env export``."""
    parser.add_argument("env", help="environment id or suite: awpo/Retail-v0, ./my_suite")
    parser.add_argument("--out", required=True, help="file to write, one JSON object an episode")
    parser.add_argument("--preset", help="the generator's preset; default: the suite's first")
    parser.add_argument("--split", default="train", choices=("train", "test"))
    parser.add_argument("--episodes", type=int, default=100, help="how many episodes (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="draws tasks and mistakes (default %(default)s)")
    parser.add_argument(
        "--mistake-rate", type=float, default=0.0, help="probability that a message of the demonstrator is spoiled"
    )


def run(args: argparse.Namespace) -> int:
    """Write the demonstrations of ``awpo env export``; the file appears whole or not at all."""
    if not 0.0 <= args.mistake_rate <= 1.0:
        raise UsageError(f"--mistake-rate is {args.mistake_rate}; expected a probability in [0, 1]")
    if args.episodes < 1:
        raise UsageError(f"--episodes is {args.episodes}; expected at least 1")
    env = make(args.env, split=args.split, preset=args.preset).unwrapped
    rng = np.random.default_rng([args.seed, 1])
    out = Path(args.out)
    unfinished = out.with_name(out.name + ".part")
    out.parent.mkdir(parents=True, exist_ok=True)
    num_solved = 0
    try:
        with unfinished.open("w", encoding="utf-8") as file:
            for number in range(args.episodes):
                env.reset(seed=args.seed if number == 0 else None)
                episode = demonstrate(env, rng, args.mistake_rate)
                num_solved += episode["success"]
                file.write(json.dumps(episode, ensure_ascii=False) + "\n")
        unfinished.replace(out)
    finally:
        unfinished.unlink(missing_ok=True)
    print(f"wrote {args.episodes} episodes to {out}, {num_solved} of them solve their task", file=sys.stderr)
    return 0
