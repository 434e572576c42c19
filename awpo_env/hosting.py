"""Where a backend lives: in place, or in a thread or a process of its own with a time limit on every call."""

from __future__ import annotations

import contextlib
import functools
import inspect
import itertools
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import AbstractContextManager
from typing import Any

from awpo_env.errors import ToolError, UsageError
from awpo_env.execution import BackendCrash, ToolTimeout, goal_state
from awpo_env.schema import ToolSet
from awpo_env.suites import Backend, Suite, load_suite
from awpo_env.types import JSON, Task
from awpo_env.workers import ProcessWorker, ThreadWorker, Worker, WorkerDied

ISOLATIONS = ("thread", "process")

_CHORE_TIMEOUT_S = 60.0  # for building and restoring a backend; a tool's own limit may be far shorter than a start
_MEMORY_MB = 4096

Builder = Callable[[JSON], Backend]
"""Builds the backend of one episode from `Task.state`."""


def backend_builder(
    suite: Suite,
    tool_timeout: float | None = None,
    tool_isolation: str = "thread",
    tool_memory_mb: int | None = None,
) -> Builder:
    """Return what builds the backends of a suite's episodes.

    It is the suite's own class, and calls run in place, when nothing asks for more: a time limit, asynchronous tools, a
    backend that says ``waits = True`` (its tools wait for a network or a disk), or processes.

    Args:
        suite: Whose backends.
        tool_timeout: Most seconds a call may take; None is no limit.
        tool_isolation: ``thread``, or ``process`` for backends that may hang, crash or grow.
        tool_memory_mb: Most MiB of address space of a worker process, 4096 if None.

    Raises:
        UsageError: A value is impossible, or two do not go together.
    """
    if tool_isolation not in ISOLATIONS:
        raise UsageError(f"tool_isolation {tool_isolation!r} is unknown; expected one of {ISOLATIONS}")
    if tool_timeout is not None and not 0 < tool_timeout < float("inf"):
        raise UsageError(f"tool_timeout is {tool_timeout!r}; expected seconds, more than 0")
    if tool_isolation == "process":
        return _ProcessBuilder(suite, tool_timeout, _MEMORY_MB if tool_memory_mb is None else tool_memory_mb)
    if tool_memory_mb is not None:
        raise UsageError(f"tool_memory_mb is {tool_memory_mb}, but threads share memory; set tool_isolation='process'")
    is_waiting = getattr(suite.backend, "waits", False) is True or any(
        inspect.iscoroutinefunction(getattr(suite.backend, name, None)) for name in suite.tools
    )
    return _ThreadBuilder(suite, tool_timeout) if is_waiting or tool_timeout is not None else suite.backend


def built_or_broken(build: Builder, state: JSON) -> Backend:
    """Return the backend of an episode, or one that crashes with every use where it cannot be built.

    So a server that is down ends episodes, one by one and unscored, and not a run.
    """
    try:
        return build(state)
    except Exception as error:
        return _BrokenBackend(f"building the backend raised {type(error).__name__}: {error}")


class _BrokenBackend:
    def __init__(self, problem: str) -> None:
        self.__problem = problem

    def __getattr__(self, name: str) -> Any:
        raise BackendCrash(self.__problem)

    def close(self) -> None:
        """Nothing is held."""


def prepare_goal(build: Builder, task: Task) -> Callable[[], JSON]:
    """Return what returns the state the reference solution reaches.

    In threads of one's own the reference is played while the episode is, so that slow tools are waited for once.
    """
    play = functools.partial(goal_state, build, task)
    is_apart = isinstance(build, _ThreadBuilder) and not hasattr(build, "rehearse")
    return _in_background(play) if is_apart else play


def _in_background(work: Callable[[], JSON]) -> Callable[[], JSON]:
    future: Future[JSON] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except Exception as error:
            future.set_exception(error)

    threading.Thread(target=run, name="awpo-goal", daemon=True).start()
    return future.result


class _ThreadBuilder:
    """Builds backends that live in a thread each."""

    def __init__(self, suite: Suite, timeout_s: float | None) -> None:
        self._suite, self._timeout_s = suite, timeout_s
        if hasattr(suite.backend, "rehearse"):
            self.rehearse: Builder = functools.partial(self._host, suite.backend.rehearse)

    def __call__(self, state: JSON) -> HostedBackend:
        return self._host(self._suite.backend, state)

    def _host(self, build: Builder, state: JSON) -> HostedBackend:
        backend = HostedBackend(ThreadWorker(build), 0, self._suite.tools, state, self._timeout_s)
        backend.snapshot()  # built now, as the next backend behind a server comes before the last one goes
        return backend


class _ProcessBuilder:
    """Builds backends that live in one and the same worker process, which outlives them."""

    def __init__(self, suite: Suite, timeout_s: float | None, memory_mb: int) -> None:
        if timeout_s is None:
            raise UsageError("tool_isolation 'process' needs a tool_timeout: what may crash may also hang; set seconds")
        if memory_mb < 256:
            raise UsageError(f"tool_memory_mb is {memory_mb}; expected at least 256, for Python itself")
        if not _is_loadable(suite):
            raise UsageError(
                f"suite {suite.name!r} cannot be loaded by its name, so no other process can build its backend; "
                "put it into a folder or a package, or use tool_isolation='thread'"
            )
        self._tools, self._timeout_s = suite.tools, timeout_s
        self._worker = ProcessWorker(suite.name, memory_mb)
        self._numbers = itertools.count()

    def __call__(self, state: JSON) -> HostedBackend:
        return HostedBackend(self._worker, next(self._numbers), self._tools, state, self._timeout_s)

    def close(self) -> None:
        """End the worker process; a later backend starts another."""
        self._worker.stop()


def _is_loadable(suite: Suite) -> bool:
    try:
        return load_suite(suite.name).backend is suite.backend
    except UsageError:
        return False


class HostedBackend:
    """Stands in for a backend that lives with a worker: the same tools, snapshots and errors, and a time limit.

    The worker is started with the first use. After a time-out or a crash the backend it had is lost: the next use
    builds another and restores the state after the last call that went well.

    Args:
        worker: Where the backend lives.
        number: The backend's own, among those of the worker.
        tools: The tools it has.
        state: What it is built from.
        timeout_s: Most seconds a call may take; None is no limit.
    """

    # A tool may have any name, so everything private is mangled.

    def __init__(self, worker: Worker, number: int, tools: ToolSet, state: JSON, timeout_s: float | None) -> None:
        self.__worker, self.__number, self.__tools, self.__timeout_s = worker, number, tools, timeout_s
        self.__state = state
        self.__snapshot: JSON = None
        self.__life: int | None = None  # of the worker, in which the backend was built
        self.__has_snapshot = False

    def __getattr__(self, name: str) -> Callable[..., JSON]:
        if name not in self.__tools:
            raise AttributeError(f"there is no tool {name!r}")
        return functools.partial(self.__call, name)

    def transaction(self) -> AbstractContextManager[None]:
        """Return a context that does nothing: the worker undoes a failed call where it happens."""
        return contextlib.nullcontext()

    def snapshot(self) -> JSON:
        """Return the state as it is now."""
        self.__settle()
        self.__snapshot = self.__chore({"do": "snapshot"})["snapshot"]
        return self.__snapshot

    def restore(self, snapshot: JSON) -> None:
        """Go back to a snapshot."""
        self.__settle()
        self.__snapshot = self.__chore({"do": "restore", "snapshot": snapshot})["snapshot"]

    def close(self) -> None:
        """Release the backend; may be called twice. A thread ends with it, a process waits for the next one."""
        if self.__life is not None and self.__worker.life == self.__life and self.__worker.is_running:
            # If that goes wrong the worker has been given up, and the episode is over anyway.
            with contextlib.suppress(BackendCrash):
                self.__ask({"do": "close"}, _CHORE_TIMEOUT_S)
                self.__worker.release()
        self.__life = None

    def __call(self, tool: str, /, **arguments: JSON) -> JSON:
        self.__settle()
        try:
            reply = self.__ask({"do": "call", "tool": tool, "arguments": arguments}, self.__timeout_s)
        except TimeoutError:
            raise ToolTimeout(f"{tool} did not answer within {self.__timeout_s:g} s") from None
        if "refusal" in reply:
            raise ToolError(reply["refusal"])
        self.__snapshot = reply["snapshot"]
        return reply["result"]

    def __settle(self) -> None:
        """Have the backend ready, in the state after the last call that went well."""
        try:
            life = self.__worker.start()
        except WorkerDied as death:
            raise BackendCrash(str(death)) from None
        if life == self.__life:
            return
        reply = self.__chore({"do": "build", "state": self.__state})
        if self.__has_snapshot:
            reply = self.__chore({"do": "restore", "snapshot": self.__snapshot})
        self.__snapshot, self.__has_snapshot, self.__life = reply["snapshot"], True, life

    def __chore(self, request: dict[str, Any]) -> dict[str, Any]:
        try:
            return self.__ask(request, _CHORE_TIMEOUT_S)
        except TimeoutError:
            raise BackendCrash(f"the backend took more than {_CHORE_TIMEOUT_S:g} s to {request['do']}") from None

    def __ask(self, request: dict[str, Any], timeout_s: float | None) -> dict[str, Any]:
        try:
            reply = self.__worker.ask({**request, "backend": self.__number}, timeout_s)
        except WorkerDied as death:
            raise BackendCrash(str(death)) from None
        if "crash" in reply:
            self.__worker.stop()  # nobody knows what a bug has left behind in there
            what = f"tool {request['tool']!r}" if "tool" in request else f"the backend's {request['do']}"
            raise BackendCrash(f"{what} raised {reply['crash']}")
        return reply
