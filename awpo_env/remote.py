"""Tools behind a connection: the backend of one episode, and how its server is reset, or that it is not."""

from __future__ import annotations

import contextlib
import copy
import functools
import os
import re
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from awpo_env.errors import SuiteError, ToolError, UsageError, did_you_mean
from awpo_env.shapes import function_names
from awpo_env.suites import RESERVED_NAMES
from awpo_env.types import JSON


def shown_address(address: str) -> str:
    """Return an address as it may stand in a message: user, password and query hold secrets now and then.

    >>> shown_address("https://user:password@host/api.json?key=secret")
    'https://host/api.json'
    """
    return re.sub(r"^(\w+://)?[^/]*@", r"\1", re.sub(r"[?#].*", "", address, flags=re.DOTALL))


def shown_error(error: BaseException) -> str:
    """Return what an error says, with the addresses in it as `shown_address` has them."""
    return re.sub(r"\w+://[^\s'\"]+", lambda address: shown_address(address.group()), str(error))


@dataclass(frozen=True, slots=True)
class Reset:
    """How a server gets back to where an episode starts; None in place of it declares that it does not.

    The tools named here are not shown to the model. Without `snapshot` nobody knows the server's state: what is
    compared instead is which calls were made of tools that may change something, and with what arguments.

    Attributes:
        restore: Tool that takes a state (`Task.state`, or what `snapshot` returned) and makes it the server's own.
        snapshot: Tool without arguments that returns the whole state.
        restart: Whether every episode has a server process of its own, just started.

    Raises:
        UsageError: Nothing is said.
    """

    restore: str = ""
    snapshot: str = ""
    restart: bool = False

    def __post_init__(self) -> None:
        if not (self.restore or self.snapshot or self.restart):
            raise UsageError("Reset() says nothing; name 'restore', 'snapshot' or 'restart', or write reset=None")


class Connection(Protocol):
    """One conversation with a server."""

    def call(self, name: str, arguments: dict[str, JSON]) -> JSON:
        """Call a tool by the server's own name for it.

        Raises:
            ToolError: The server says that the call was wrong.
            Exception: Anything else is wrong with the server.
        """
        ...

    def begin(self) -> None:
        """Forget what an earlier episode has left on this side of the connection."""
        ...

    def close(self) -> None:
        """End the conversation; may be called twice."""
        ...


@dataclass(frozen=True, slots=True)
class RemoteTool:
    """A tool as its server declares it.

    Attributes:
        name: The server's name for it.
        description: What it does.
        parameters: JSON Schema of its arguments.
        is_read_only: Whether the server promises that a call changes nothing.
    """

    name: str
    description: str
    parameters: dict[str, JSON]
    is_read_only: bool = False


class RemoteTools:
    """Builds the backend of an episode on a server. Connections are kept while any backend is open, then all closed.

    Args:
        suite: Name of the suite, for messages.
        connect: Opens a connection.
        offered: Every tool of the server.
        reset: How the server gets back to where an episode starts.
        state_argument: Name of the argument in which the `restore` tool takes a state.
        is_shared: Whether all connections reach one and the same state. Then only the episode that set it last may go
            on; an earlier one breaks off as an environment error rather than meet a stranger's state.

    Raises:
        SuiteError: A tool named by `reset` does not exist, or nothing is left for the model.
    """

    waits = True  # for a network or another process, so its calls are better made in a thread

    def __init__(
        self,
        suite: str,
        connect: Callable[[], Connection],
        offered: Iterable[RemoteTool],
        reset: Reset | None,
        *,
        state_argument: str,
        is_shared: bool,
    ) -> None:
        by_name = {tool.name: tool for tool in offered}
        hidden = {reset.restore, reset.snapshot} - {""} if reset else set()
        for name in sorted(hidden - by_name.keys()):
            raise SuiteError(f"suite {suite!r} has no tool {name!r} to reset with.{did_you_mean(name, by_name)}")
        functions = function_names([name for name in by_name if name not in hidden], RESERVED_NAMES)
        if not functions:
            raise SuiteError(
                f"suite {suite!r} has no tools for the model; expected at least one beside {sorted(hidden)}"
            )
        self.reset = reset
        self.tools = {function: by_name[name] for name, function in functions.items()}
        self.state_argument = state_argument
        self.is_shared = is_shared and reset is not None and bool(reset.restore)
        self.owner = 0
        self._connect = connect
        self._idle: list[Connection] = []
        self._num_open = 0
        self._lock = threading.RLock()  # a backend that is garbage collected gives its connection back from anywhere
        self._process_id = os.getpid()

    def __call__(self, state: JSON) -> RemoteBackend:
        """Return the backend of an episode that starts at `state`, on a connection nobody else uses."""
        return RemoteBackend(self, self.take(), state)

    def rehearse(self, state: JSON) -> RemoteBackend:
        """Return a backend to play a reference solution on. Without a `snapshot` tool it does not touch the server."""
        return RemoteBackend(self, self.take() if self.reset and self.reset.snapshot else None, state)

    def __getstate__(self) -> dict[str, Any]:
        # Connections stay with the process that opened them.
        return {**self.__dict__, "_idle": [], "_num_open": 0, "_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.RLock())

    @property
    def declarations(self) -> list[dict[str, JSON]]:
        """The tools the model is shown, in canonical form."""
        return [
            {
                "type": "function",
                "function": {"name": function, "description": tool.description, "parameters": tool.parameters},
            }
            for function, tool in self.tools.items()
        ]

    @property
    def is_resettable(self) -> bool:
        """Whether every episode starts from its task's state."""
        return self.reset is not None or all(tool.is_read_only for tool in self.tools.values())

    def take(self) -> Connection:
        """Return a connection nobody else uses."""
        with self._lock:
            if self._process_id != os.getpid():  # after a fork they are the parent's
                self._idle, self._num_open, self._process_id = [], 0, os.getpid()
            self._num_open += 1
            kept = self._idle.pop() if self._idle else None
        if kept is not None:
            kept.begin()
            return kept
        try:
            return self._connect()
        except BaseException:
            with self._lock:
                self._num_open -= 1
            raise

    def give(self, connection: Connection, is_sound: bool) -> None:
        """Take a connection back. With the last one, and where servers are restarted, connections are closed."""
        with self._lock:
            self._num_open -= 1
            is_kept = is_sound and not (self.reset and self.reset.restart)
            closing: list[Connection] = []
            (self._idle if is_kept else closing).append(connection)
            if not self._num_open:
                closing += self._idle
                self._idle = []
        for connection in closing:
            connection.close()


class RemoteBackend:
    """The state of one episode on a server, as far as it can be known. Built by `RemoteTools`.

    Args:
        builder: The tools and how they are reset.
        connection: The server; None only takes down the calls.
        state: Where the episode starts.
    """

    # Names of tools begin with a letter and are none of `RESERVED_NAMES`, so no attribute here hides one.

    def __init__(self, builder: RemoteTools, connection: Connection | None, state: JSON) -> None:
        self._builder, self._connection = builder, connection
        self._reset = builder.reset
        self._changes: list[JSON] = []
        self._is_sound = True
        self._ownership = 0
        # A backend nobody closed, because a call of it never came back, must not keep its server for ever.
        self._abandon = weakref.finalize(self, builder.give, connection, False) if connection is not None else None
        if connection is not None and self._reset and self._reset.restore:
            self._ownership = builder.owner = builder.owner + 1
            try:
                self._set_state(state)
            except BaseException:
                self.close()
                raise

    def __getattr__(self, name: str) -> Callable[..., JSON]:
        if name.startswith("_") or name not in self._builder.tools:
            raise AttributeError(f"there is no tool {name!r}")
        return functools.partial(self._run, self._builder.tools[name])

    def _run(self, tool: RemoteTool, /, **arguments: JSON) -> JSON:
        result = self._call(tool.name, arguments) if self._connection is not None else None
        if not tool.is_read_only:
            self._changes.append({"tool": tool.name, "arguments": {**_defaults(tool), **copy.deepcopy(arguments)}})
        return result

    def _call(self, name: str, arguments: dict[str, JSON]) -> JSON:
        assert self._connection is not None, "closed, or a rehearsal"
        if self._builder.is_shared and self._builder.owner != self._ownership:
            raise RuntimeError("another episode has set the server's state since; play one episode at a time on it")
        try:
            return self._connection.call(name, arguments)
        except ToolError:
            raise
        except BaseException:
            self._is_sound = False
            raise

    def _set_state(self, state: JSON) -> None:
        assert self._reset is not None
        try:
            self._call(self._reset.restore, {self._builder.state_argument: state})
        except ToolError as error:
            raise RuntimeError(f"tool {self._reset.restore!r} refused the task's state: {error}") from error

    def snapshot(self) -> JSON:
        """Return the server's state, or the calls that may have changed it where that is all there is to know."""
        if self._reset and self._reset.snapshot and self._connection is not None:
            try:
                return self._call(self._reset.snapshot, {})
            except ToolError as error:
                raise RuntimeError(f"tool {self._reset.snapshot!r} refused to return the state: {error}") from error
        return copy.deepcopy(self._changes)

    def restore(self, snapshot: JSON) -> None:
        """Go back to what `snapshot` returned.

        Raises:
            RuntimeError: The server started anew and has no tool to get there.
        """
        if self._reset is None:
            self._changes = copy.deepcopy(snapshot)
        elif self._reset.restore and self._reset.snapshot:
            self._set_state(snapshot)
        elif snapshot != self.snapshot():
            raise RuntimeError("the server cannot go back to an earlier state; name a 'restore' and a 'snapshot' tool")

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Undo a refused call on a server that has tools for it; elsewhere a refused call is left to the server."""
        can_undo = self._connection is not None and self._reset and self._reset.restore and self._reset.snapshot
        before = self.snapshot() if can_undo else None
        try:
            yield
        except ToolError:
            if can_undo:
                self.restore(before)
            raise

    def close(self) -> None:
        """Hand the connection back; may be called twice."""
        connection, self._connection = self._connection, None
        if self._abandon is not None and self._abandon.detach():
            self._builder.give(connection, self._is_sound)


def _defaults(tool: RemoteTool) -> dict[str, JSON]:
    properties = tool.parameters.get("properties", {})
    return {name: part["default"] for name, part in properties.items() if isinstance(part, dict) and "default" in part}
