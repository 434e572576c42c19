"""When a request may go out: rates a minute, pauses the server asked for, and a circuit breaker for a broken one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

_LONGEST_PAUSE_S = 3600.0  # a server whose clock is wrong may ask for a year


class ServerDown(Exception):
    """The server cannot be asked in the time there is; the text says why."""


class Rate:
    """Lets amounts pass at an even pace: the next one goes when the one before has used up its time.

    There is no allowance to begin with, as with a bucket, so no minute ever has more than the rate, whenever it
    begins; servers count shorter times than minutes, too. An amount may be larger than what a minute allows.

    Args:
        per_minute: More than 0.
    """

    def __init__(self, per_minute: float) -> None:
        self._seconds_each = 60.0 / per_minute
        self._free_at = 0.0

    async def acquire(self, amount: float) -> None:
        """Wait for one's turn; whoever came first goes first."""
        now = time.monotonic()
        start = max(now, self._free_at)
        self._free_at = start + amount * self._seconds_each
        await asyncio.sleep(start - now)


class Pace:
    """Holds requests back. One for each endpoint, shared by all of its requests, used on one event loop.

    After `breaker_failures` failures in a row nothing is sent for `breaker_pause_s`; then one request tries for all,
    and the others go on when it succeeds. When this has lasted `patience_s`, requests between two tries raise
    `ServerDown` at once, so that an outage costs seconds instead of a time-out for each episode.

    Args:
        requests_per_minute: None is no limit.
        tokens_per_minute: None is no limit.
        breaker_failures: At least 1.
        breaker_pause_s: Seconds between tries while the server fails.
        patience_s: Seconds an outage is waited for.
    """

    def __init__(
        self,
        requests_per_minute: float | None,
        tokens_per_minute: float | None,
        breaker_failures: int,
        breaker_pause_s: float,
        patience_s: float,
    ) -> None:
        self._requests = Rate(requests_per_minute) if requests_per_minute else None
        self._tokens = Rate(tokens_per_minute) if tokens_per_minute else None
        self._breaker_failures = breaker_failures
        self._breaker_pause_s = breaker_pause_s
        self._patience_s = patience_s
        self._num_failures = 0
        self._failing_since = 0.0
        self._resume_at = 0.0
        self._trying = asyncio.Lock()

    @property
    def is_open(self) -> bool:
        """Whether the breaker has opened: the server is taken for broken."""
        return self._num_failures >= self._breaker_failures

    async def limit(self, tokens: int, left_s: float) -> float:
        """Wait for the rates and return the seconds that took.

        Args:
            tokens: About how many the request will cost, prompt and reply.
            left_s: Seconds the caller still has.

        Raises:
            ServerDown: As `turn`, before anything is taken from the rates.
        """
        self.lose_patience(left_s)
        start = time.monotonic()
        if self._requests is not None:
            await self._requests.acquire(1)
        if self._tokens is not None:
            await self._tokens.acquire(tokens)
        return time.monotonic() - start

    @asynccontextmanager
    async def turn(self, left_s: float) -> AsyncIterator[None]:
        """Enter when a request may be sent; leave when its end was told to `succeeded` or `failed`.

        Args:
            left_s: Seconds the caller still has.

        Raises:
            ServerDown: See the class; or the server asked for a longer pause than the caller has time.
        """
        while True:
            self.lose_patience(left_s)
            await self._until_resumed()
            if not self.is_open:
                yield
                return
            async with self._trying:
                # Whoever tried meanwhile may have found the server well, or still broken: then nobody waits again.
                self.lose_patience(left_s)
                await self._until_resumed()
                if self.is_open:
                    yield
                    return

    def lose_patience(self, left_s: float) -> None:
        """Raise if a request that came now would wait for more time than it has, or than an outage is waited for.

        Args:
            left_s: Seconds the caller still has.

        Raises:
            ServerDown: So it is.
        """
        wait_s = self._resume_at - time.monotonic()
        if wait_s > left_s:
            raise ServerDown(f"nothing may be sent for {wait_s:.0f} s")
        if self.is_open and wait_s > 0 and time.monotonic() - self._failing_since > self._patience_s:
            raise ServerDown(f"the server has failed {self._num_failures} times in a row")

    def succeeded(self) -> None:
        """The server answered, whatever it said."""
        self._num_failures = 0

    def failed(self) -> None:
        """The server did not answer, or said that it is broken."""
        now = time.monotonic()
        if self._num_failures == 0:
            self._failing_since = now
        self._num_failures += 1
        if self.is_open:
            self._resume_at = max(self._resume_at, now + self._breaker_pause_s)

    def pause(self, seconds: float) -> None:
        """Send nothing for this long, but at most an hour: the server asked for it."""
        self._resume_at = max(self._resume_at, time.monotonic() + min(seconds, _LONGEST_PAUSE_S))

    async def _until_resumed(self) -> None:
        while (wait := self._resume_at - time.monotonic()) > 0:
            await asyncio.sleep(wait)
