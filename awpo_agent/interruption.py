"""A wish to end before the work is done: SIGTERM asks for it, episodes under way heed it."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from collections.abc import Awaitable, Iterator
from typing import TypeVar

T = TypeVar("T")


class Interruption:
    """Somebody may ask at any moment, a signal handler for one; once asked for it holds.

    Attributes:
        is_asked: Whether it was.
    """

    def __init__(self) -> None:
        self.is_asked = False
        self._running: tuple[asyncio.AbstractEventLoop, asyncio.Task[object]] | None = None

    def ask(self) -> None:
        """Ask for it, and cancel what `unless_asked` waits for."""
        self.is_asked = True
        if self._running is not None:
            loop, task = self._running
            loop.call_soon_threadsafe(task.cancel)

    async def unless_asked(self, work: Awaitable[T]) -> T:
        """Await `work`.

        Raises:
            asyncio.CancelledError: It was asked for, before or meanwhile.
        """
        task = asyncio.ensure_future(work)
        self._running = asyncio.get_running_loop(), task
        try:
            if self.is_asked:
                task.cancel()
            return await task
        finally:
            self._running = None

    @contextlib.contextmanager
    def on_sigterm(self) -> Iterator[None]:
        """Have SIGTERM ask for it; in another thread than the main one, where signals cannot be had, nothing does."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.signal(signal.SIGTERM, lambda number, frame: self.ask())
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before if before is not None else signal.SIG_DFL)
