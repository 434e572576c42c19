"""Asking an OpenAI-compatible server: right replies, whatever the server does on the way, or one reason why not."""

from __future__ import annotations

import asyncio
import email.utils
import json
import math
import os
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type

from awpo_env.errors import UsageError
from awpo_env.judges.ledger import Ledger, Request
from awpo_env.judges.llm_connection import Broken, Connection, Refused
from awpo_env.judges.pacing import Pace, ServerDown
from awpo_env.judges.prompts import repair_request
from awpo_env.judges.replies import InvalidReply, writable
from awpo_env.judges.settings import JudgeSettings, url_problems
from awpo_env.types import JSON, Message

T = TypeVar("T")

_OPENAI = "https://api.openai.com/v1"
_FORMS = ("json_schema", "tool", "text")
_TOOL = "give_verdicts"
_NO_KEY = "none"  # local servers want none
_SHORTEST_SECRET = 8  # characters; a shorter key ("1", "EMPTY") stands for none, and would spoil verdicts
_MAY_PASS = (408, 409, 425, 429)  # and every 5xx
_ABOUT_THE_FORM = (400, 415, 422, 501)  # how servers say that they cannot constrain a reply like this
_CHARS_PER_TOKEN = 4
_USUAL_REPLY_TOKENS = 1024
_LONGEST_REASON = 200
_LONGEST_ECHO = 8_000  # characters of a useless reply that are sent back with the request to repair it


class NoReply(Exception):
    """There is no right reply, and trying was given up; the text says why and holds no secret."""


class _Passing(Exception):
    """This try failed, and the next one may not."""

    def __init__(self, reason: str, retry_after_s: float = 0.0, is_counted: bool = True) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s
        self.is_counted = is_counted


@dataclass(frozen=True, slots=True)
class _Reply:
    """What a model said, and whether it was let finish."""

    text: str
    is_whole: bool

    def read(self, meaning: Callable[[str], T]) -> T:
        """Return what `meaning` makes of it; what was cut off may hold a draft of the verdict, but no verdict."""
        if not self.is_whole:
            raise InvalidReply("it was cut off for its length")
        return meaning(self.text)


@dataclass(slots=True)
class _Budget:
    """The time one judgement may still take, how often it was tried, and what went wrong last."""

    ends_at: float
    num_tries: int = 0
    last: str = "it never got its turn"

    def left_s(self) -> float:
        return self.ends_at - time.monotonic()


class Endpoint:
    """A judge model behind a server. To be used on one event loop.

    Args:
        settings: Whom to ask and how.
        ledger: Where every request is written down.

    Raises:
        UsageError: OpenAI's own endpoint is meant, and there is no key for it; or ``OPENAI_BASE_URL`` is no address.
    """

    def __init__(self, settings: JudgeSettings, ledger: Ledger) -> None:
        self._settings = settings
        self._ledger = ledger
        self._key = os.environ.get(settings.api_key_env, "").strip() or _NO_KEY
        if not self._key.isprintable() or not self._key.isascii():
            raise UsageError(f"the key in {settings.api_key_env} holds characters that no header can; set it again")
        base_url = settings.base_url or os.environ.get("OPENAI_BASE_URL")
        if self._key == _NO_KEY and not base_url:
            raise UsageError(f"there is no key in {settings.api_key_env}; set it, or name another server by base_url")
        if problems := url_problems("OPENAI_BASE_URL", base_url or _OPENAI):
            raise UsageError("; ".join(problems))
        self._connection = Connection(base_url or _OPENAI, self._key)
        self._pace = Pace(
            settings.requests_per_minute,
            settings.tokens_per_minute,
            settings.breaker_failures,
            settings.breaker_pause_s,
            patience_s=settings.total_timeout_s,
        )
        self._places = asyncio.Semaphore(settings.concurrency)
        self._forms = _FORMS if settings.reply_form == "auto" else (settings.reply_form,)
        self._is_form_known = len(self._forms) == 1
        self._rng = random.Random()  # spreads waits over time, never a score

    async def ask(
        self, messages: Sequence[Message], schema: dict[str, JSON], read: Callable[[str], T], num_verdicts: int = 1
    ) -> T:
        """Return what `read` makes of a right reply.

        Args:
            messages: The conversation so far.
            schema: The JSON Schema of the reply.
            read: Turns the text of a reply into its meaning, or raises `InvalidReply`.
            num_verdicts: How many transcripts the reply is about.

        Raises:
            NoReply: The server refused for good, or every try failed.
        """
        async with self._places:
            budget = _Budget(time.monotonic() + self._settings.total_timeout_s)

            def is_over(state: RetryCallState) -> bool:
                # While the server is down somebody has to try for all; that is not held against this judgement, nor is
                # that nobody listens there: a server takes its time to start again.
                budget.num_tries += state.outcome.exception().is_counted and not self._pace.is_open
                return budget.num_tries >= self._settings.max_attempts or budget.left_s() <= state.upcoming_sleep

            retrying = AsyncRetrying(
                retry=retry_if_exception_type(_Passing), stop=is_over, wait=self._wait_s, reraise=True
            )
            try:
                return await retrying(self._try, messages, schema, read, num_verdicts, budget)
            except _Passing as error:
                raise NoReply(str(error)) from None
            except ServerDown as error:
                raise NoReply(f"{error}; last: {budget.last}") from None

    async def close(self) -> None:
        """Close the connections."""
        await self._connection.close()

    async def _try(
        self,
        messages: Sequence[Message],
        schema: dict[str, JSON],
        read: Callable[[str], T],
        num_verdicts: int,
        budget: _Budget,
    ) -> T:
        reply = await self._request(messages, schema, num_verdicts, budget)
        try:
            return reply.read(read)
        except InvalidReply as problem:
            asked_again = {"role": "user", "content": repair_request(str(problem))}
        self._ledger.totals.repairs += 1
        repaired = [*messages, {"role": "assistant", "content": reply.text[:_LONGEST_ECHO]}, asked_again]
        reply = await self._request(repaired, schema, num_verdicts, budget)
        try:
            return reply.read(read)
        except InvalidReply as problem:
            raise _Passing(f"unusable reply: {problem}") from None

    async def _request(
        self, messages: Sequence[Message], schema: dict[str, JSON], num_verdicts: int, budget: _Budget
    ) -> _Reply:
        """Send one request, in the first form the server accepts, and return the reply."""
        size = sum(len(message["content"]) for message in messages) // _CHARS_PER_TOKEN
        size += (self._settings.max_tokens or _USUAL_REPLY_TOKENS) * num_verdicts
        refusal = ""
        for form in self._forms:
            budget.ends_at += await self._pace.limit(size, budget.left_s())
            body = self._body(form, messages, schema, num_verdicts)
            try:
                async with asyncio.timeout(budget.left_s()) as wait, self._pace.turn(budget.left_s()):
                    wait.reschedule(None)  # the turn has come, and sending has a time-out of its own
                    reply = await self._send(body, min(self._settings.timeout_s, budget.left_s()))
            except TimeoutError:
                raise _Passing(f"the time for this judgement is over; last: {budget.last}") from None
            except _Passing as error:
                budget.last = str(error)
                raise
            except Refused as error:
                refusal = self._refusal(error)
                if self._is_form_known or error.status not in _ABOUT_THE_FORM:
                    raise NoReply(refusal) from None
            else:
                self._forms, self._is_form_known = (form,), True
                return reply
        raise NoReply(refusal)

    async def _send(self, body: dict[str, JSON], timeout_s: float) -> _Reply:
        """Send one request and account for it.

        Raises:
            _Passing: The server did not answer, or not now.
            Refused: The server refused for good.
        """
        start, result, usage = time.monotonic(), "cancelled", {}
        try:
            async with asyncio.timeout(timeout_s):
                answer = await self._connection.post(body)
            self._pace.succeeded()
            result = "unreadable"
            reply, usage = _read_body(answer)
            result = "ok"
            is_secret = len(self._key) >= _SHORTEST_SECRET
            return replace(reply, text=self._clean(reply.text)) if is_secret else reply
        except TimeoutError:
            result = "timeout"
            self._pace.failed()
            raise _Passing(f"no reply within {timeout_s:.3g} s") from None
        except Broken as error:
            result = "connection"
            self._pace.failed()
            raise _Passing(f"the connection failed: {error}", is_counted=not error.is_refused) from None
        except Refused as error:
            result = f"HTTP {error.status}"
            raise self._status_error(error) from None
        finally:
            self._ledger.add(self._account(result, time.monotonic() - start, usage))

    def _status_error(self, error: Refused) -> Exception:
        is_broken = error.status >= 500 and error.status not in _ABOUT_THE_FORM
        if is_broken:
            self._pace.failed()
        else:
            self._pace.succeeded()
        if not is_broken and error.status not in _MAY_PASS:
            return error
        wait_s = retry_after_s(error.headers)
        if wait_s > 0:
            self._pace.pause(wait_s)
        return _Passing(self._refusal(error), wait_s)

    def _wait_s(self, state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        asked_for = error.retry_after_s if isinstance(error, _Passing) else 0.0
        most = min(self._settings.max_backoff_s, self._settings.backoff_s * 2.0 ** min(state.attempt_number, 64))
        return max(asked_for, self._rng.uniform(0.0, most))

    def _body(
        self, form: str, messages: Sequence[Message], schema: dict[str, JSON], num_verdicts: int
    ) -> dict[str, JSON]:
        settings = self._settings
        body: dict[str, JSON] = {"model": settings.model, "messages": list(messages)}
        if settings.temperature is not None:
            body["temperature"] = settings.temperature
        if settings.max_tokens is not None:
            body["max_tokens"] = settings.max_tokens * num_verdicts
        if form == "json_schema":
            strict = {"name": _TOOL, "schema": schema, "strict": True}
            body["response_format"] = {"type": "json_schema", "json_schema": strict}
        elif form == "tool":
            function = {"name": _TOOL, "description": "Hand in the verdicts.", "parameters": schema, "strict": True}
            body["tools"] = [{"type": "function", "function": function}]
            body["tool_choice"] = {"type": "function", "function": {"name": _TOOL}}
        return body | dict(settings.request)

    def _account(self, result: str, latency_s: float, usage: dict[str, int]) -> Request:
        prompt, completion = usage.get("prompt_tokens", 0), usage.get("completion_tokens", 0)
        cost = (prompt * self._settings.prompt_price + completion * self._settings.completion_price) / 1e6
        return Request(self._settings.model, result, round(latency_s, 6), prompt, completion, cost)

    def _refusal(self, error: Refused) -> str:
        # Cleaned before it is cut: half a key is a secret, too.
        said = writable(self._clean(" ".join(error.said.split()))[:_LONGEST_REASON])
        return f"HTTP {error.status}: {said}" if said else f"HTTP {error.status}"

    def _clean(self, text: str) -> str:
        """Take the key out of what a server wrote; some quote it in their errors."""
        return text if self._key == _NO_KEY else text.replace(self._key, "[key]")


def _read_body(body: str) -> tuple[_Reply, dict[str, int]]:
    """Return the reply in a chat completion and its token counts.

    Raises:
        _Passing: It is none.
    """
    try:
        data: Any = json.loads(body)
        choice = data["choices"][0]
        message, is_whole = choice["message"], choice.get("finish_reason") != "length"
        calls = message.get("tool_calls")
        text = calls[0]["function"]["arguments"] if calls else message.get("content")
        usage = data.get("usage") or {}
        counts = {
            name: count
            for name in ("prompt_tokens", "completion_tokens")
            if isinstance(count := usage.get(name), int) and count >= 0
        }
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
        raise _Passing("the server's answer is no chat completion") from None
    return _Reply(writable(text) if isinstance(text, str) else "", is_whole), counts


def retry_after_s(headers: Any) -> float:
    """Return the seconds a server asks to wait, from either of its headers; 0 when it does not say."""
    for name, unit_s in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        try:
            seconds = float(headers.get(name, "")) * unit_s
        except ValueError:
            continue
        if math.isfinite(seconds):
            return max(0.0, seconds)
    try:
        date = email.utils.parsedate_to_datetime(headers.get("retry-after", ""))
        return max(0.0, date.timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return 0.0
