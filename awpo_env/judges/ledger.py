"""What judging cost: one line a request, and the sums of this process."""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from awpo_env.errors import UsageError

_FILE = "ledger.jsonl"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Request:
    """One request to a judge model, as the ledger keeps it.

    Attributes:
        model: Who was asked.
        result: ``ok``, or what went wrong in a few words: ``HTTP 429``, ``timeout``.
        latency_s: From sending to the whole reply.
        prompt_tokens: As the server counted; 0 when it did not say.
        completion_tokens: The same for the reply.
        cost: In the currency of the prices.
    """

    model: str
    result: str
    latency_s: float
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float = 0.0


@dataclass(slots=True)
class Totals:
    """Sums over what one process asked for.

    Attributes:
        requests: Sent, whatever became of them.
        cache_hits: Replies that needed no request.
        repairs: Requests that asked for a better reply to the same question.
        prompt_tokens: As the server counted.
        completion_tokens: As the server counted.
        cost: In the currency of the prices.
        latency_s: Sum over the requests.
        failures: Requests without an answer, by kind.
        missing: Transcripts that ended without a score.
    """

    requests: int = 0
    cache_hits: int = 0
    repairs: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float = 0.0
    latency_s: float = 0.0
    failures: Counter[str] = field(default_factory=Counter)
    missing: int = 0


class Ledger:
    """Writes down every request; several processes may share a folder.

    Args:
        folder: Where ``ledger.jsonl`` is appended to; None keeps only the sums.

    Raises:
        UsageError: The folder cannot be used.

    Attributes:
        totals: The sums so far.
    """

    def __init__(self, folder: str | Path | None = None) -> None:
        self.totals = Totals()
        self._lock = threading.Lock()
        self._file = None
        if folder is not None:
            path = Path(folder) / _FILE
            try:
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            except OSError as error:
                raise UsageError(f"cannot write {str(path)!r}: {error.strerror}; name another cache_dir") from None

    def add(self, request: Request) -> None:
        """Count a request and write its line."""
        with self._lock:
            totals = self.totals
            totals.requests += 1
            totals.prompt_tokens += request.prompt_tokens
            totals.completion_tokens += request.completion_tokens
            totals.cost += request.cost
            totals.latency_s += request.latency_s
            if request.result != "ok":
                totals.failures[request.result] += 1
            if self._file is not None:
                # One write of one line in append mode: lines of several processes do not mix.
                line = {"time": time.time(), **{name: getattr(request, name) for name in request.__slots__}}
                try:
                    os.write(self._file, (json.dumps(line) + "\n").encode())
                except OSError as error:  # a full disk is no reason to lose the reply
                    _log.warning("cannot write %s: %s; requests are counted in memory only", _FILE, error)
                    self._close()

    def close(self) -> None:
        """Close the file; may be called twice."""
        with self._lock:
            self._close()

    def _close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None
