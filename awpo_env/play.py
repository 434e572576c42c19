"""A person takes the assistant's seat: one task, calls written by hand, and the outcome at the end."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from awpo_env.catalogue import find_suite
from awpo_env.env import ToolUseEnv
from awpo_env.errors import did_you_mean
from awpo_env.outcomes import MALFORMED
from awpo_env.schema import says_error
from awpo_env.typed_lines import COMMAND_NAMES, HELP, Command, Misread, parse_line
from awpo_env.types import JSON, AssistantMessage, Message, Task, ToolCall

_STYLES = {"user": "\x1b[36m", "tool": "\x1b[33m", "system": "\x1b[2m", "error": "\x1b[31m", "good": "\x1b[32m"}
_RESET = "\x1b[0m"
_LARGEST_SHOWN_BOUND = 1_000_000  # beyond it a bound guards the backend and tells a person nothing


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags of ``awpo env play``."""
    parser.add_argument("env", help="an id (awpo/Retail-v0), a suite (retail, my_package.x) or a folder (./suite)")
    parser.add_argument("--preset", help="difficulty of generated tasks; the suite's first by default")
    parser.add_argument("--split", default="train", help="train (default) or test")
    parser.add_argument("--task", metavar="ID", help="play this task instead of a random one")
    parser.add_argument("--seed", type=int, help="draw the same random task again")
    parser.add_argument("--oracle", action="store_true", help="watch the reference solution instead of playing")
    parser.epilog = (
        "examples:\n"
        "  awpo env play awpo/Calculator-v0\n"
        "  awpo env play travel --preset hard --seed 3\n"
        "  awpo env play travel --task test/easy/7 --oracle\n\n"
        f"{HELP}\n\nExit status: 0 solved or left with /quit, 1 not solved."
    )


def run(args: argparse.Namespace) -> int:
    """Play one episode on the terminal."""
    env = ToolUseEnv(find_suite(args.env), split=args.split, preset=args.preset)
    env.reset(seed=args.seed, options={"task_id": args.task} if args.task else None)
    screen = Screen(print, is_coloured=sys.stdout.isatty())
    if args.oracle:
        return watch(env, screen)
    if sys.stdin.isatty():
        import readline  # noqa: F401 - importing it gives input() line editing and history
    return play(env, _read_line, screen)


def _read_line() -> str | None:
    try:
        return input("> ")
    except EOFError:
        return None


class Screen:
    """Writes paragraphs, coloured where that is possible.

    Args:
        write: Takes one paragraph.
        is_coloured: Whether escape sequences may be used.
    """

    def __init__(self, write: Callable[[str], None], is_coloured: bool = False) -> None:
        self._write = write
        self._is_coloured = is_coloured

    def show(self, text: str, style: str = "") -> None:
        """Write `text` in the style of a role, or plainly."""
        is_styled = self._is_coloured and style in _STYLES
        self._write(f"{_STYLES[style]}{text}{_RESET}" if is_styled else text)

    def show_messages(self, messages: Sequence[Message]) -> None:
        """Write what came back: tool results, the user's next message, newly shown tools."""
        for message in messages:
            if message["role"] != "assistant":
                self.show(*render_message(message))


def play(env: ToolUseEnv, read_line: Callable[[], str | None], screen: Screen) -> int:
    """Play the task `env` was reset to, and return the exit status.

    Args:
        env: A freshly reset environment.
        read_line: Returns the next typed line, or None when there is no more.
        screen: Where everything is shown.
    """
    _show_opening(env, screen)
    screen.show("\nType a call such as  name argument=value , a message to the user, or /help.")
    while (line := read_line()) is not None:
        try:
            typed = parse_line(line, _available(env))
        except Misread as problem:
            screen.show(f"? {problem}", "error")
            continue
        if typed is None:
            continue
        if isinstance(typed, Command):
            if typed.name == "quit":
                return 0
            screen.show(answer_command(typed, env))
            continue
        observation, _, terminated, truncated, info = env.step(env.parser.format(typed))
        screen.show_messages(observation["new_messages"])
        if terminated or truncated:
            return _show_end(env.task, info, screen)
    screen.show(f"\nThe input ended before the task {env.task.id} did.", "error")
    return 1


def watch(env: ToolUseEnv, screen: Screen) -> int:
    """Let the reference solution play the task `env` was reset to, and return the exit status."""
    _show_opening(env, screen)
    for turn in env.task.turns:
        for message in turn.reference:
            if message.reasoning:
                screen.show(f"({message.reasoning})", "system")
            screen.show("\n".join(render_step(message)))
            observation, _, terminated, truncated, info = env.step(env.parser.format(message))
            screen.show_messages(observation["new_messages"])
            if terminated or truncated:
                return _show_end(env.task, info, screen, with_reference=False)
    screen.show("The reference solution stops before the task is over.", "error")
    return 1


def _available(env: ToolUseEnv) -> dict[str, JSON]:
    functions = [declaration["function"] for declaration in env.transcript.tools]
    return {function["name"]: function["parameters"] for function in functions}


def answer_command(command: Command, env: ToolUseEnv) -> str:
    """Return what a command other than ``/quit`` shows."""
    if command.name == "help":
        return HELP
    if command.name == "tools":
        return _explain_tools(command.argument, [declaration["function"] for declaration in env.transcript.tools])
    if command.name == "hint":
        hint = render_step(next_reference_step(env.task, env.transcript.messages))
        return "\n".join(hint) or "There is no reference solution for this message."
    known = ", ".join(f"/{name}" for name in COMMAND_NAMES)
    return f"There is no /{command.name}; there are {known}.{did_you_mean(command.name, COMMAND_NAMES)}"


def _explain_tools(name: str, functions: Sequence[Mapping[str, Any]]) -> str:
    if not name:
        return "\n".join(f"  {signature(function)}\n      {function['description']}" for function in functions)
    names = [function["name"] for function in functions]
    if name not in names:
        return f"There is no tool {name!r}.{did_you_mean(name, names)}"
    return json.dumps(functions[names.index(name)], indent=2, ensure_ascii=False)


def next_reference_step(task: Task, messages: Sequence[Message]) -> AssistantMessage:
    """Return the first reference message of the current user turn with a call that was not made yet.

    When all are made it is the turn's last message: what to tell the user.
    """
    starts = [index for index, message in enumerate(messages) if message["role"] == "user"]
    made = [
        ToolCall(call["function"]["name"], json.loads(call["function"]["arguments"]))
        for message in messages[starts[-1] :]
        for call in message.get("tool_calls", ())
        if call["function"]["name"] != MALFORMED
    ]
    reference = task.turns[len(starts) - 1].reference or (AssistantMessage(),)
    for step in reference:
        for call in step.calls:
            if call not in made:
                return step
            made.remove(call)  # a reference may need the same call twice
    return reference[-1]


def _show_opening(env: ToolUseEnv, screen: Screen) -> None:
    screen.show(f"Task {env.task.id} ({env.task.kind})")
    screen.show_messages(env.transcript.messages[:1])
    screen.show("\nTools:\n" + _explain_tools("", [tool["function"] for tool in env.transcript.tools]) + "\n")
    screen.show_messages(env.transcript.messages[1:])


def _show_end(task: Task, info: Mapping[str, Any], screen: Screen, with_reference: bool = True) -> int:
    outcome = info["outcome"]
    if outcome is None:
        screen.show(f"\nThe environment broke: {info.get('error', info['status'])}", "error")
        return 1
    parts = ", ".join(f"{name} {value:g}" for name, value in outcome.components.items())
    verdict = "Solved." if outcome.success else "Not solved."
    reward = f"reward {outcome.value:g} of {outcome.low:g}..{outcome.high:g} ({parts})"
    screen.show(f"\n{verdict} Status {info['status']}, {reward}.", "good" if outcome.success else "error")
    if with_reference:
        lines = [line for turn in task.turns for step in turn.reference for line in render_step(step)]
        screen.show("The reference solution:\n" + "\n".join(f"  {line}" for line in lines))
    return 0 if outcome.success else 1


def signature(function: Mapping[str, Any]) -> str:
    """Return a tool's arguments on one line; a question mark stands behind optional ones.

    >>> signature({"name": "add", "parameters": {"properties": {"a": {"type": "integer"}}, "required": ["a"]}})
    'add(a: integer)'
    """
    return f"{function['name']}({_arguments(function['parameters'])})"


def _arguments(schema: Mapping[str, JSON]) -> str:
    required = schema.get("required", ())
    return ", ".join(
        f"{name}{'' if name in required else '?'}: {type_label(part)}"
        for name, part in schema.get("properties", {}).items()
    )


def type_label(schema: Mapping[str, JSON] | bool) -> str:
    """Return what values a JSON Schema allows, shortly: ``"open" | "closed"``, ``integer 1..10``, ``string[]``."""
    if isinstance(schema, bool):
        return "any" if schema else "nothing"
    if "enum" in schema or "const" in schema:
        return " | ".join(json.dumps(value, ensure_ascii=False) for value in schema.get("enum", [schema.get("const")]))
    for keyword in ("anyOf", "oneOf"):
        if keyword in schema:
            return " | ".join(type_label(branch) for branch in schema[keyword])
    kinds = schema.get("type", "any")
    if not isinstance(kinds, str):
        return " | ".join(type_label({**schema, "type": kind}) for kind in kinds)
    if kinds == "array":
        item = type_label(schema.get("items", {}))
        return f"({item})[]" if " " in item else f"{item}[]"
    if kinds == "object" and schema.get("properties"):
        return "{" + _arguments(schema) + "}"
    bounds = [schema.get(keyword) for keyword in ("minimum", "maximum")]
    low, high = ("" if bound is None or abs(bound) > _LARGEST_SHOWN_BOUND else bound for bound in bounds)
    return kinds if low == high == "" else f"{kinds} {low}..{high}"


def render_step(message: AssistantMessage) -> list[str]:
    """Return the lines a person would type for `message`."""
    lines = [f"{call.name} {json.dumps(call.arguments, ensure_ascii=False)}" for call in message.calls]
    return [*lines, message.content] if message.content or not lines else lines


def render_message(message: Message) -> tuple[str, str]:
    """Return a message's text for the screen and the style to show it in."""
    if message["role"] != "tool":
        return f"[{message['role']}] {message['content']}", message["role"]
    style = "error" if says_error(message["content"]) else "tool"
    return f"[{message['name']}] {message['content']}", style
