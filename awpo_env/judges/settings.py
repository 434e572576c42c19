"""Settings of a judge model behind a server: one dataclass, checked as a whole."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args
from urllib.parse import urlsplit

from awpo_env.errors import UsageError
from awpo_env.judges.settings_file import FileSettings, number_problems
from awpo_env.types import JSON

ReplyForm = Literal["auto", "json_schema", "tool", "text"]
Mode = Literal["single", "group"]


@dataclass(frozen=True, slots=True)
class JudgeSettings(FileSettings):
    """How an `LLMJudge` asks, whom, and how often.

    Attributes:
        model: Its name at the endpoint. A cached reply is found by it, so two models need two names.
        base_url: An OpenAI-compatible endpoint; None is OpenAI's own, or ``OPENAI_BASE_URL``.
        api_key_env: The environment variable that holds the key. The key itself never stands in settings.
        mode: ``single`` judges each transcript alone, ``group`` those of the same task side by side.
        group_size: Most transcripts in one prompt of mode ``group``.
        sees_reference: Whether the task's reference calls are shown. The outcome never is.
        rubric: A rubric file; None is the one for tool use that ships.
        seed: Draws the order of a group. Another seed asks again.
        reply_form: How the server is made to reply in the right form: ``json_schema``, ``tool`` (a strict call),
            ``text`` (asked for in words), or ``auto``: the first of these it accepts.
        temperature: None leaves it to the server.
        max_tokens: Longest reply, for each transcript in the prompt; None leaves it to the server.
        request: Further fields of the request, as the endpoint names them (``reasoning_effort``, ``seed``).
        concurrency: Most requests at the same time.
        requests_per_minute: None is no limit.
        tokens_per_minute: None is no limit; prompts are estimated at 4 characters a token.
        timeout_s: Of one request, until its last byte.
        total_timeout_s: Of one judgement with everything that is tried for it; waiting for a free place and for the
            rates above does not count.
        max_attempts: Most tries of one judgement; a try may ask once for a repair. A refused connection is no try: the
            total time is waited for the server to come back.
        backoff_s: The wait before try n + 1 is drawn from 0 to ``backoff_s * 2**n``, or what the server asks for.
        max_backoff_s: The longest such wait.
        breaker_failures: Failures in a row after which the server is taken for broken.
        breaker_pause_s: Seconds between tries while it is.
        max_prompt_chars: A longer prompt is not sent; its score is missing.
        cache_dir: Replies and the ledger are kept here; None keeps none.
        cache_size_mb: The oldest replies go when there are more.
        prompt_price: For a million tokens, in any currency; the ledger's costs are in it.
        completion_price: The same for replies.

    Raises:
        UsageError: Something is out of range; all problems in one sentence.
    """

    model: str
    base_url: str | None = None
    api_key_env: str = "OPENAI_API_KEY"
    mode: Mode = "single"
    group_size: int = 8
    sees_reference: bool = True
    rubric: str | None = None
    seed: int = 0
    reply_form: ReplyForm = "auto"
    temperature: float | None = 0.0
    max_tokens: int | None = 1024
    request: Mapping[str, JSON] = field(default_factory=dict)
    concurrency: int = 32
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    timeout_s: float = 60.0
    total_timeout_s: float = 300.0
    max_attempts: int = 6
    backoff_s: float = 0.5
    max_backoff_s: float = 20.0
    breaker_failures: int = 10
    breaker_pause_s: float = 5.0
    max_prompt_chars: int = 200_000
    cache_dir: str | None = "~/.cache/awpo/judge"
    cache_size_mb: float = 1024.0
    prompt_price: float = 0.0
    completion_price: float = 0.0

    def __post_init__(self) -> None:
        if problems := _problems(self):
            raise UsageError(f"judge settings: {'; '.join(problems)}")


_NUMBERS: dict[str, tuple[float, bool]] = {  # least value, and whether it has to be whole
    "group_size": (1, True),
    "seed": (0, True),
    "temperature": (0, False),
    "max_tokens": (1, True),
    "concurrency": (1, True),
    "requests_per_minute": (1e-6, False),
    "tokens_per_minute": (1e-6, False),
    "timeout_s": (1e-3, False),
    "total_timeout_s": (1e-3, False),
    "max_attempts": (1, True),
    "backoff_s": (0, False),
    "max_backoff_s": (0, False),
    "breaker_failures": (1, True),
    "breaker_pause_s": (0, False),
    "max_prompt_chars": (1, True),
    "cache_size_mb": (1e-3, False),
    "prompt_price": (0, False),
    "completion_price": (0, False),
}
_MAY_BE_NONE = ("temperature", "max_tokens", "requests_per_minute", "tokens_per_minute")


def _problems(settings: JudgeSettings) -> list[str]:
    problems = number_problems(settings, _NUMBERS, _MAY_BE_NONE)
    for name, allowed in (("mode", get_args(Mode)), ("reply_form", get_args(ReplyForm))):
        if getattr(settings, name) not in allowed:
            problems.append(f"{name} is {getattr(settings, name)!r}; expected one of {', '.join(allowed)}")
    if not isinstance(settings.model, str) or not settings.model:
        problems.append(f"model is {settings.model!r}; expected a name")
    if not isinstance(settings.api_key_env, str) or not settings.api_key_env.isidentifier():
        # Not shown: it may be the key itself.
        problems.append("api_key_env is no name of an environment variable; the key itself belongs into that variable")
    for name in ("base_url", "rubric", "cache_dir"):
        if not isinstance(getattr(settings, name), str | None):
            problems.append(f"{name} is {getattr(settings, name)!r}; expected a text or nothing")
    if not isinstance(settings.sees_reference, bool):
        problems.append(f"sees_reference is {settings.sees_reference!r}; expected true or false")
    if not isinstance(settings.request, Mapping):
        problems.append(f"request is {settings.request!r}; expected fields and values")
    else:
        try:
            json.dumps(dict(settings.request))
        except (TypeError, ValueError) as error:
            problems.append(f"request cannot be written as JSON: {error}; put quotes around dates")
    return problems + (url_problems("base_url", settings.base_url) if isinstance(settings.base_url, str) else [])


def url_problems(name: str, url: str) -> list[str]:
    """Return what is wrong with the address of a server, in words that show no secret.

    Args:
        name: Where it was given.
        url: What was given.
    """
    if "@" in url or "?" in url:  # not shown, whether it is an address or not
        return [f"{name} holds a user, a password or a query; put the key into the variable api_key_env names"]
    try:
        parts = urlsplit(url)
    except ValueError as error:
        return [f"{name} is {url!r}: {error}; expected for example 'http://localhost:8000/v1'"]
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return [f"{name} is {url!r}; expected for example 'http://localhost:8000/v1'"]
    return []
