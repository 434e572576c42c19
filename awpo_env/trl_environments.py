"""Tool environments for TRL's GRPOTrainer: an `environment_factory`, and the reward function that belongs to it.

    factory = environment_factory(lambda: gymnasium.make("awpo/Calculator-v0"))
    trainer = GRPOTrainer(..., environment_factory=factory, reward_funcs=[outcome_reward], train_dataset=rows)

TRL runs the tools and ends the conversation at the first message without a call, so tasks with one user turn fit; what
has more of them ends unsolved. It declares tools by type hints: nested parameters reach the model as far as those go,
and calls are validated against the whole schema all the same. TRL itself is not needed here.
"""

from __future__ import annotations

import functools
import inspect
import keyword
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import gymnasium

from awpo_env.env import ToolUseEnv
from awpo_env.errors import UsageError
from awpo_env.execution import observation_text
from awpo_env.schema import ToolSet, error_object
from awpo_env.types import JSON, AssistantMessage, EpisodeStatus, ErrorCode, Message, ToolCall

_SIMPLE = {"string": str, "integer": int, "number": float, "boolean": bool, "object": dict, "null": type(None)}


def environment_factory(make: Callable[[], gymnasium.Env[dict[str, Any], str]]) -> type[TrlEnvironment]:
    """Return what TRL calls an environment factory: a class whose public methods are the tools.

    Every row of the dataset needs a column ``seed`` or ``task_id``, so that the completions of a group play one task,
    and an empty user message as its prompt; policy and request are written into it.

    Args:
        make: Makes one environment, a `ToolUseEnv` in wrappers or not.

    Raises:
        UsageError: The environment is of another kind, or the name of a tool or a parameter is none in Python.
    """
    env = make()
    unwrapped = env.unwrapped
    if not isinstance(unwrapped, ToolUseEnv):
        raise UsageError(f"environment {unwrapped!r} has no tools of ours; expected a ToolUseEnv")
    tools = unwrapped.suite.tools
    env.close()
    methods = {name: _method(name, tools) for name in tools}
    return type("ToolUse", (TrlEnvironment,), {**methods, "_make": staticmethod(make)})


class TrlEnvironment:
    """One environment as TRL wants it; subclasses made by `environment_factory` have the tools."""

    _make: Callable[[], gymnasium.Env[dict[str, Any], str]]

    def __init__(self) -> None:
        self._env = self._make()
        self._info: dict[str, Any] = {}

    def reset(self, **row: Any) -> str:
        """Start the task that a row of the dataset names, and return policy and request.

        Raises:
            UsageError: The row has neither ``seed`` nor ``task_id``.
        """
        seed, task_id = row.get("seed"), row.get("task_id")
        if seed is None and task_id is None:
            raise UsageError(
                "a row of the dataset has neither 'seed' nor 'task_id'; add a column, so that a group plays one task"
            )
        observation, self._info = self._env.reset(seed=seed, options=None if task_id is None else {"task_id": task_id})
        return "\n\n".join(message["content"] for message in observation["messages"])

    def _call(self, name: str, arguments: dict[str, JSON]) -> str:
        if self._info["status"] != EpisodeStatus.RUNNING:
            return observation_text(error_object(ErrorCode.LIMIT, f"the episode is over: {self._info['status']}"))
        text = self._env.unwrapped.parser.format(AssistantMessage(calls=(ToolCall(name, arguments),)))
        observation, _, _, _, self._info = self._env.step(text)
        results = [message["content"] for message in observation["new_messages"] if message["role"] == "tool"]
        return results[-1] if results else observation_text(error_object(ErrorCode.LIMIT, self._info["error"]))

    def _finish(self, completion: Sequence[Message]) -> float | None:
        """End the episode with what was said last, and return its outcome, None if the environment broke."""
        said = completion[-1] if completion else {}
        if (
            self._info["status"] == EpisodeStatus.RUNNING
            and said.get("role") == "assistant"
            and not said.get("tool_calls")
        ):
            *_, self._info = self._env.step(said.get("content") or "")
        if self._info["status"] == EpisodeStatus.RUNNING:
            *_, self._info = self._env.unwrapped.truncate(EpisodeStatus.MAX_TURNS)
        outcome = self._info["outcome"]
        return None if outcome is None else outcome.value


def outcome_reward(
    completions: Sequence[Sequence[Message]], environments: Sequence[TrlEnvironment], **columns: Any
) -> list[float | None]:
    """Return the outcome of every episode, for TRL's `reward_funcs`.

    Args:
        completions: What was said and called in each episode.
        environments: Those of the episodes, in the same order.
        **columns: Further columns of the dataset, of no interest here.

    Returns:
        One outcome each, None where the environment broke, which TRL leaves out.
    """
    return [env._finish(completion) for env, completion in zip(environments, completions, strict=True)]


def _method(name: str, tools: ToolSet) -> Callable[..., str]:
    """Return a method whose signature and docstring say of a tool what type hints can."""
    declaration = tools.declarations[name]["function"]
    properties: Mapping[str, JSON] = declaration["parameters"].get("properties", {})
    required = set(declaration["parameters"].get("required", ()))
    for word in (name, *properties):
        if (
            not word.isidentifier()
            or keyword.iskeyword(word)
            or word in ("self", "reset", "get_reward")
            or word[0] == "_"
        ):
            raise UsageError(f"TRL cannot declare {word!r} of tool {name!r}; expected a public Python name of its own")

    def method(self: TrlEnvironment, **arguments: JSON) -> str:
        return self._call(name, arguments)

    hints = {word: _hint(schema) for word, schema in properties.items()}
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    parameters = [inspect.Parameter("self", kind)]
    for word in sorted(properties, key=lambda word: word not in required):
        default = inspect.Parameter.empty if word in required else None
        parameters.append(inspect.Parameter(word, kind, default=default, annotation=hints[word]))
    described = [f"    {word}: {_described(word, schema)}" for word, schema in properties.items()]
    method.__name__ = method.__qualname__ = name
    method.__doc__ = "\n".join([_line(declaration["description"]), "", *(["Args:", *described] if described else [])])
    method.__annotations__ = {**hints, "return": str}
    method.__signature__ = inspect.Signature(parameters, return_annotation=str)  # type: ignore[attr-defined]
    return method


def _line(text: str) -> str:
    return " ".join(text.split())


def _described(word: str, schema: JSON) -> str:
    return _line(schema.get("description", word) if isinstance(schema, Mapping) else word)


def _hint(schema: JSON) -> Any:
    """Return the type hint that says most of a JSON Schema."""
    if not isinstance(schema, Mapping):
        return Any
    if "enum" in schema and all(isinstance(value, str | int | bool | None) for value in schema["enum"]):
        return Literal[tuple(schema["enum"])]
    kinds = schema.get("type", ())
    hints = [
        list[_hint(schema.get("items", True))] if kind == "array" else _SIMPLE[kind]  # type: ignore[misc]
        for kind in ([kinds] if isinstance(kinds, str) else kinds)
    ]
    return functools.reduce(operator.or_, hints) if hints else Any
