"""Looks after backends inside a worker, a thread or a process, and does what it is asked with them.

`main` is the worker process: one line of JSON for every request and answer, over an inherited socket, so that nothing a
backend prints can pass for an answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import json
import os
import resource
import select
import socket
import threading
from collections.abc import Callable
from typing import Any

from awpo_env.errors import ToolError
from awpo_env.execution import transaction
from awpo_env.suites import Backend, load_suite
from awpo_env.types import JSON

_LONGEST_ERROR = 500  # characters of an exception's text


class Attendant:
    """Builds backends and answers requests about them; asynchronous tools are awaited.

    Args:
        build: Builds a backend from a task's state.
    """

    def __init__(self, build: Callable[[JSON], Backend]) -> None:
        self._build = build
        self._backends: dict[int, Backend] = {}

    async def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Do what is asked and return ``snapshot`` (and ``result``) of what went well, ``refusal`` or ``crash``."""
        try:
            return await self._do(**request)
        except ToolError as error:
            return {"refusal": error.message}
        except (asyncio.CancelledError, KeyboardInterrupt):
            raise
        except BaseException as error:  # a tool may even call sys.exit()
            return {"crash": f"{type(error).__name__}: {error}"[:_LONGEST_ERROR]}

    async def close(self) -> None:
        """Release every backend."""
        while self._backends:
            await self._do("close", next(iter(self._backends)))

    async def _do(self, do: str, backend: int, **details: Any) -> dict[str, Any]:
        if do == "build":
            self._backends[backend] = self._build(details["state"])
        kept = self._backends[backend]
        if do == "close":
            del self._backends[backend]
            if hasattr(kept, "close"):
                await _settled(kept.close())
            return {}
        if do == "restore":
            kept.restore(details["snapshot"])
        if do != "call":
            return {"snapshot": kept.snapshot()}
        with transaction(kept):
            result = await _settled(getattr(kept, details["tool"])(**details["arguments"]))
            return {"result": result, "snapshot": kept.snapshot()}


async def _settled(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value


def serve(channel: socket.socket, attendant: Attendant) -> None:
    """Answer the requests that come over a socket until its other end is closed, which ends the process."""
    threading.Thread(target=_end_with_parent, args=(channel,), daemon=True).start()
    with asyncio.Runner() as runner, channel.makefile("r", encoding="utf-8", newline="\n") as requests:
        for request in requests:
            channel.sendall(_line(runner.run(attendant.answer(json.loads(request)))))


def _end_with_parent(channel: socket.socket) -> None:
    """End this process as soon as nobody is left to answer to, even while a tool is stuck."""
    hang_up = select.poll()
    hang_up.register(channel, 0)  # whatever is asked for, the end of the other side is told
    hang_up.poll()
    os._exit(0)


def _line(reply: dict[str, Any]) -> bytes:
    try:
        return json.dumps(reply, allow_nan=False).encode() + b"\n"
    except (TypeError, ValueError, RecursionError) as error:
        return json.dumps({"crash": f"{type(error).__name__}: no JSON value: {error}"}).encode() + b"\n"


def main(arguments: list[str]) -> None:
    """Serve one suite.

    Args:
        arguments: Number of the socket, most MiB of address space, name of the suite.
    """
    channel = socket.socket(fileno=int(arguments[0]))
    most_bytes = int(arguments[1]) * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (most_bytes, most_bytes))
    attendant = Attendant(load_suite(arguments[2]).backend)
    channel.sendall(_line({}))
    with contextlib.suppress(ConnectionError):  # whoever asked is gone
        serve(channel, attendant)
