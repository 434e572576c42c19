"""A thread or a process that answers requests one after the other, and can be given up when it does not."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Protocol

from awpo_env.attendant import Attendant
from awpo_env.suites import Backend
from awpo_env.types import JSON

_START_TIMEOUT_S = 60.0
_LONGEST_REPLY = 64 * 2**20  # bytes; more is no answer but a flood


class WorkerDied(Exception):
    """A worker process ended by itself, or spoke nonsense; the message says how."""


class Worker(Protocol):
    """Where backends live.

    Attributes:
        life: Counts the starts; with each, all backends of the one before are gone.
    """

    life: int

    @property
    def is_running(self) -> bool:
        """Whether the life it was last in goes on."""
        ...

    def start(self) -> int:
        """Start if it is not running, and return which life it is in.

        Raises:
            WorkerDied: It ended since it was asked last, or does not start.
        """
        ...

    def ask(self, request: dict[str, Any], timeout_s: float | None) -> dict[str, Any]:
        """Return the answer to a request, see `Attendant.answer`.

        Raises:
            TimeoutError: There was none in time; the worker has been given up.
            WorkerDied: There will be none.
        """
        ...

    def release(self) -> None:
        """Take note that a backend was closed."""
        ...

    def stop(self) -> None:
        """Give up everything in it; may be called twice."""
        ...


class ThreadWorker:
    """Runs the backend of one episode in a daemon thread with an event loop of its own.

    A thread cannot be killed. One that is given up in the middle of a call ends when the call does, and an asynchronous
    call is cancelled.

    Args:
        build: Builds the backend.
    """

    def __init__(self, build: Callable[[JSON], Backend]) -> None:
        self.life = 0
        self._build = build
        self._lane: _Lane | None = None

    @property
    def is_running(self) -> bool:
        """Whether there is a thread."""
        return self._lane is not None

    def start(self) -> int:
        """Start if it is not running, and return which life it is in."""
        if self._lane is None:
            self._lane, self.life = _Lane(Attendant(self._build)), self.life + 1
            # The thread outlives its worker's last user otherwise.
            weakref.finalize(self, self._lane.give_up)
        return self.life

    def ask(self, request: dict[str, Any], timeout_s: float | None) -> dict[str, Any]:
        """Return the answer to a request."""
        assert self._lane is not None, "not started"
        try:
            return self._lane.submit(request).result(timeout_s)
        except TimeoutError:
            self.stop()
            raise

    def release(self) -> None:
        """End the thread: it has one backend, and that was closed."""
        self.stop()

    def stop(self) -> None:
        """Give up the thread; may be called twice."""
        if self._lane is not None:
            self._lane.give_up()
            self._lane = None


class _Lane:
    """A thread, what it is asked to do, and the call it is in."""

    def __init__(self, attendant: Attendant) -> None:
        self._requests: queue.SimpleQueue[tuple[dict[str, Any], Future[dict[str, Any]]] | None] = queue.SimpleQueue()
        self._runner = asyncio.Runner()
        self._task: asyncio.Task[Any] | None = None
        threading.Thread(target=self._run, args=(attendant,), name="awpo-tools", daemon=True).start()

    def submit(self, request: dict[str, Any]) -> Future[dict[str, Any]]:
        future: Future[dict[str, Any]] = Future()
        self._requests.put((request, future))
        return future

    def give_up(self) -> None:
        self._requests.put(None)
        with contextlib.suppress(RuntimeError):  # it has ended, and its loop is closed
            self._runner.get_loop().call_soon_threadsafe(self._cancel)

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def _run(self, attendant: Attendant) -> None:
        with self._runner as runner:
            while (item := self._requests.get()) is not None:
                request, future = item
                try:
                    answer = runner.run(self._answer(attendant, request))
                except BaseException as error:  # the tool's own; a call that was given up has nobody waiting for it
                    answer = {"crash": f"{type(error).__name__}: {error}"}
                future.set_result(answer)
            # Nobody is left to be told what goes wrong here.
            with contextlib.suppress(Exception):
                runner.run(attendant.close())

    async def _answer(self, attendant: Attendant, request: dict[str, Any]) -> dict[str, Any]:
        self._task = asyncio.current_task()
        try:
            return await attendant.answer(request)
        finally:
            self._task = None


class ProcessWorker:
    """Runs backends in a Python process of its own, started with the first use and killed when it is given up.

    Requests and answers are JSON; nothing that comes from the process is unpickled or evaluated. It has the rights of
    this one: this is protection against hanging, crashing and growing, not against malice.

    Args:
        suite: Name under which the process loads the suite.
        memory_mb: Most MiB of its address space.
    """

    def __init__(self, suite: str, memory_mb: int) -> None:
        self.life = 0
        self._suite, self._memory_mb = suite, memory_mb
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: socket.socket | None = None

    @property
    def is_running(self) -> bool:
        """Whether there is a process that has not ended."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> int:
        """Start if it is not running, and return which life it is in.

        Raises:
            WorkerDied: It ended since it was asked last, or does not start.
        """
        if self._process is None:
            self._spawn()
        elif not self.is_running:
            raise self._death()
        return self.life

    def ask(self, request: dict[str, Any], timeout_s: float | None) -> dict[str, Any]:
        """Return the answer to a request.

        Raises:
            TimeoutError: There was none in time; the process has been killed.
            WorkerDied: There will be none.
        """
        assert self._channel is not None, "not started"
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        try:
            self._channel.settimeout(timeout_s)
            self._channel.sendall(json.dumps(request).encode() + b"\n")
            return self._receive(deadline)
        except TimeoutError:
            self.stop()
            raise
        except (OSError, ValueError, RecursionError):
            raise self._death() from None

    def release(self) -> None:
        """Keep the process: the next episode's backend will live in it."""

    def stop(self) -> None:
        """Kill the process and what it has started; may be called twice."""
        if self._process is not None and self._channel is not None:
            _end(self._process, self._channel)
        self._process = self._channel = None

    def _spawn(self) -> None:
        self._channel, inherited = socket.socketpair()
        words = [json.dumps(sys.path), str(inherited.fileno()), str(self._memory_mb), self._suite]
        with inherited:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _PROGRAM, *words],
                stdin=subprocess.DEVNULL,
                stdout=2,  # what a backend prints goes where warnings go
                env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
                pass_fds=[inherited.fileno()],
                start_new_session=True,  # so that its own children can be killed with it
            )
        self.life += 1
        weakref.finalize(self, _end, self._process, self._channel)
        try:
            self._receive(time.monotonic() + _START_TIMEOUT_S)
        except TimeoutError:
            self.stop()
            raise WorkerDied(f"the tools' process did not start within {_START_TIMEOUT_S:g} s") from None
        except (OSError, ValueError):
            raise self._death() from None

    def _receive(self, deadline: float | None) -> dict[str, Any]:
        assert self._channel is not None
        received = bytearray()
        while not received.endswith(b"\n"):
            if deadline is not None:
                self._channel.settimeout(max(deadline - time.monotonic(), 1e-3))
            part = self._channel.recv(2**16)
            if not part or len(received) > _LONGEST_REPLY:
                raise ConnectionError("closed" if not part else "flooded")
            received += part
        reply = json.loads(received)
        if not isinstance(reply, dict):
            raise ValueError("no answer")
        return reply

    def _death(self) -> WorkerDied:
        """Return how the process ended, once it has."""
        assert self._process is not None
        process = self._process
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(1.0)  # a process that is ending closes its socket before it has a status
        status = process.returncode
        self.stop()
        if status is None:
            return WorkerDied("the tools' process broke off or gave no answer, and was killed")
        how = f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
        return WorkerDied(f"the tools' process ended with {how}")


_PROGRAM = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from awpo_env.attendant import main; main(sys.argv[2:])"
)


def _end(process: subprocess.Popen[bytes], channel: socket.socket) -> None:
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    channel.close()
