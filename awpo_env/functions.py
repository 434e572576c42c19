"""Suites of plain Python functions: hints and docstring become the declaration, arguments become what was hinted."""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from awpo_env.docstrings import read_docstring
from awpo_env.errors import SuiteError, ToolError
from awpo_env.hints import Hint, plain, read_hint
from awpo_env.schema import ToolSet
from awpo_env.suites import Suite, TaskGenerator, make_suite
from awpo_env.types import JSON, Task

STATE = "state"
"""Name of the parameter that receives the episode's state; the model does not see it."""

_BY_KEYWORD = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def suite_from_functions(
    functions: Iterable[Callable[..., Any]],
    *,
    name: str,
    tasks: Iterable[Task] = (),
    generator: TaskGenerator | None = None,
    policy: str = "",
) -> Suite:
    """Return a suite whose tools are Python functions, asynchronous ones included.

    A function's name, docstring and type hints declare it (see `declare`). A parameter called ``state`` receives the
    episode's state, a JSON value made from `Task.state` that the function changes in place; a call that fails leaves it
    as it was. A function raises `ToolError` for what the model did wrong.

    Args:
        functions: The tools.
        name: What the suite is called.
        tasks: Fixed tasks.
        generator: Further tasks without end.
        policy: Domain rules the agent is told.

    Raises:
        SuiteError: A function cannot be declared, or tools and tasks are inconsistent.
    """
    tools = [_FunctionTool(function) for function in functions]
    declarations = ToolSet(tool.declaration for tool in tools)
    builder = FunctionTools({tool.name: tool for tool in tools})
    return make_suite(name, declarations, builder, policy=policy, tasks=tasks, generator=generator)


def declare(function: Callable[..., Any]) -> dict[str, JSON]:
    """Return the declaration of a function, in canonical form.

    * The description is the docstring before its first section; descriptions of arguments come from the section
      ``Args:`` (Google), from ``:param name:`` (reST), or from the hint, ``Annotated[int, "Days from today."]``.
    * A hint becomes a schema: see `awpo_env.hints.read_hint`. Without a default an argument is required.

    Raises:
        SuiteError: There is no docstring, a hint is missing or says nothing in JSON, or a parameter cannot be given by
            name.
    """
    return _FunctionTool(function).declaration


class _FunctionTool:
    """A function, its declaration, and how JSON arguments become Python ones."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.name = getattr(function, "__name__", repr(function))
        self.is_async = inspect.iscoroutinefunction(function)
        try:
            hints = inspect.get_annotations(function, eval_str=True)
        except NameError as error:
            raise SuiteError(f"function {self.name!r}: a type hint cannot be resolved: {error}") from None
        described = read_docstring(inspect.getdoc(function) or "")
        if not described.summary:
            raise SuiteError(
                f"function {self.name!r} has no docstring; a model chooses tools by it, so write one sentence"
            )
        self.takes_state = False
        self._hints: dict[str, Hint] = {}
        properties: dict[str, JSON] = {}
        required: list[str] = []
        definitions: dict[str, JSON] = {}
        for parameter in inspect.signature(function).parameters.values():
            if parameter.name == STATE:
                self.takes_state = True
                continue
            hint = self._hint(parameter, hints)
            self._hints[parameter.name] = hint
            for title, definition in hint.definitions.items():
                if definitions.setdefault(title, definition) != definition:
                    raise SuiteError(f"function {self.name!r}: two different classes are called {title!r}; rename one")
            schema = dict(hint.schema)
            if parameter.name in described.arguments:
                schema.setdefault("description", described.arguments[parameter.name])
            if parameter.default is parameter.empty:
                required.append(parameter.name)
            elif (default := hint.default(parameter.default)) is not None:
                schema["default"] = default
            properties[parameter.name] = schema
        parameters = {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
        if definitions:
            parameters["$defs"] = definitions
        self.declaration = {
            "type": "function",
            "function": {"name": self.name, "description": described.summary, "parameters": parameters},
        }

    def _hint(self, parameter: inspect.Parameter, hints: Mapping[str, Any]) -> Hint:
        where = f"function {self.name!r}: parameter {parameter.name!r}"
        if parameter.kind not in _BY_KEYWORD:
            raise SuiteError(f"{where} cannot be given by name; expected a parameter without '*' and before no '/'")
        if parameter.name not in hints:
            raise SuiteError(f"{where} has no type hint; write what it takes, for example {parameter.name}: str")
        try:
            return read_hint(hints[parameter.name])
        except TypeError as error:
            raise SuiteError(f"{where}: {error}") from None

    def bind(self, arguments: Mapping[str, JSON], state: JSON) -> Callable[[], Any]:
        """Return the call of the function with Python arguments.

        Raises:
            ToolError: A value does not become what was hinted: a class of the user's refuses it.
        """
        values = {STATE: state} if self.takes_state else {}
        for name, value in arguments.items():
            try:
                values[name] = self._hints[name].read(value)
            except ValueError as error:
                raise ToolError(f"{name}: {error}") from error
        return functools.partial(self.function, **values)


class FunctionTools:
    """Builds the backend of an episode from functions.

    Args:
        tools: The functions by name.
    """

    def __init__(self, tools: Mapping[str, _FunctionTool]) -> None:
        self.tools = tools
        self.waits = any(tool.is_async for tool in tools.values())

    def __call__(self, state: JSON) -> FunctionBackend:
        """Return a backend that starts at `state`."""
        return FunctionBackend(self.tools, state)


class FunctionBackend:
    """The state of one episode, and functions bound to it."""

    # A tool may have nearly any name, so everything private is mangled.

    def __init__(self, tools: Mapping[str, _FunctionTool], state: JSON) -> None:
        self.__tools, self.__state = tools, copy.deepcopy(state)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("_FunctionBackend__") or name not in self.__tools:
            raise AttributeError(f"there is no tool {name!r}")
        return functools.partial(_run, self.__tools[name], self.__state)

    def snapshot(self) -> JSON:
        """Return a copy of the state."""
        return copy.deepcopy(self.__state)

    def restore(self, snapshot: JSON) -> None:
        """Go back to a snapshot."""
        self.__state = copy.deepcopy(snapshot)


def _run(tool: _FunctionTool, state: JSON, /, **arguments: JSON) -> Any:
    call = tool.bind(arguments, state)
    return _awaited(call) if tool.is_async else plain(call())


async def _awaited(call: Callable[[], Any]) -> JSON:
    return plain(await call())
