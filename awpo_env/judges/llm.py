"""The judge that asks a language model: any OpenAI-compatible server, cached, retried, and never wrong by silence."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import json
import math
import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from awpo_env.errors import UsageError
from awpo_env.judges.background import BackgroundLoop
from awpo_env.judges.base import BROKEN
from awpo_env.judges.cache import ReplyCache
from awpo_env.judges.ledger import Ledger, Totals
from awpo_env.judges.prompts import Prompt, render_task, render_transcript, write_prompt
from awpo_env.judges.replies import InvalidReply, Verdict, read_reply
from awpo_env.judges.rubric_file import Rubric
from awpo_env.judges.settings import JudgeSettings
from awpo_env.types import EpisodeStatus, Score, Transcript

try:
    from awpo_env.judges.llm_endpoint import Endpoint, NoReply
except ModuleNotFoundError as error:
    if error.name not in ("aiohttp", "tenacity"):
        raise
    raise UsageError(f"LLMJudge needs {error.name!r}, which is not installed; run pip install 'awpo[judge]'") from None


class LLMJudge:
    """Scores episodes by asking a language model to mark them along a rubric.

    Every transcript ends as a score the model gave to exactly this transcript, or as `Score.missing` with the reason;
    nothing that goes wrong becomes a number. Replies are kept on disk as they arrive and not asked for again. The judge
    may be used from several threads and event loops at once, and they share its limits; it may be pickled and forked,
    and then each process has connections and limits of its own, but one cache.

    Args:
        settings: Whom to ask and how.
        fields: Single settings, instead of or on top of `settings`.

    Raises:
        UsageError: A setting is impossible, the rubric is none, or there is no key for OpenAI's own endpoint.

    >>> judge = LLMJudge(model="Qwen/Qwen3-32B", base_url="http://localhost:8000/v1", cache_dir=None)
    >>> judge.score([])
    []
    """

    def __init__(self, settings: JudgeSettings | None = None, **fields: Any) -> None:
        if settings is None:
            settings = JudgeSettings.from_json(fields)
        elif fields:
            settings = JudgeSettings.from_json({**dataclasses.asdict(settings), **fields})
        self.settings = settings
        self.rubric = Rubric.load(settings.rubric)
        self._lock = threading.Lock()
        self._session = _Session(settings, self.rubric)
        self._inherited: list[_Session] = []

    @classmethod
    def load(cls, path: str | Path, **changes: Any) -> LLMJudge:
        """Return the judge a settings file describes.

        Args:
            path: See `JudgeSettings.load`.
            changes: Settings on top of the file's.
        """
        return cls(JudgeSettings.load(path), **changes)

    def with_seed(self, seed: int) -> LLMJudge:
        """Return the same judge with another seed, which asks for everything anew."""
        return type(self)(self.settings, seed=seed)

    def __reduce__(self) -> tuple[type[LLMJudge], tuple[JudgeSettings]]:
        return type(self), (self.settings,)

    def __enter__(self) -> LLMJudge:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def compares(self) -> bool:
        """Whether it judges episodes of one task side by side, and so has to have them all at once."""
        return self.settings.mode == "group"

    @property
    def totals(self) -> Totals:
        """What this judge asked for and paid, in this process."""
        return self._session.ledger.totals

    def score(self, transcripts: Sequence[Transcript]) -> list[Score]:
        """See `Judge.score`. Blocks until all are judged; may be called from several threads."""
        session = self._own_session()
        future = session.background.submit(session.score(list(transcripts)))
        try:
            return future.result()
        finally:
            future.cancel()

    async def score_async(self, transcripts: Sequence[Transcript]) -> list[Score]:
        """See `AsyncJudge.score_async`; may be awaited on any event loop."""
        session = self._own_session()
        return await asyncio.wrap_future(session.background.submit(session.score(list(transcripts))))

    def close(self) -> None:
        """Close connections and files; what is still being judged is cancelled. May be called twice."""
        if self._session.process == os.getpid() and not self._session.is_closed:
            self._session.close()

    def _own_session(self) -> _Session:
        """Return the session of this process; a forked one makes its own and never touches the parent's files."""
        with self._lock:
            if self._session.process != os.getpid():
                self._inherited.append(self._session)  # not even closed by the garbage collector
                self._session = _Session(self.settings, self.rubric)
            elif self._session.is_closed:
                raise UsageError("the judge is closed; make a new one")
            return self._session


class _Session:
    """What a judge needs in one process: connections, files, and who waits for what."""

    def __init__(self, settings: JudgeSettings, rubric: Rubric) -> None:
        self.process = os.getpid()
        self.is_closed = False
        self._settings = settings
        self._rubric = rubric
        folder = None if settings.cache_dir is None else Path(settings.cache_dir).expanduser()
        self.ledger = Ledger(folder)
        self._cache = None if folder is None else ReplyCache(folder, int(settings.cache_size_mb * 2**20))
        self._endpoint = Endpoint(settings, self.ledger)
        self._asked: dict[str, asyncio.Task[dict[str, Verdict]]] = {}
        self._identity = _identity(settings, rubric)
        # Prompts are written when their turn comes: the first request does not wait for the last prompt. Some turns
        # come early, so that a place at the server that becomes free does not wait for a prompt, either.
        self._turns = asyncio.Semaphore(settings.concurrency + math.ceil(settings.concurrency / 2))
        self.background = BackgroundLoop(at_end=self._endpoint.close)

    def close(self) -> None:
        self.is_closed = True
        self.background.close()
        if self._cache is not None:
            self._cache.close()
        self.ledger.close()

    async def score(self, transcripts: Sequence[Transcript]) -> list[Score]:
        scores = [Score.missing(BROKEN)] * len(transcripts)
        panels = list(self._panels(transcripts))
        judged = await asyncio.gather(
            *(self._judge_in_turn([transcripts[index] for index in panel]) for panel in panels)
        )
        for panel, results in zip(panels, judged, strict=True):
            for index, result in zip(panel, results, strict=True):
                scores[index] = result
        return scores

    def _panels(self, transcripts: Sequence[Transcript]) -> Iterator[list[int]]:
        """Yield the indices of those that are judged together: each alone, or groups of the same task."""
        sound = [i for i, entry in enumerate(transcripts) if entry.status is not EpisodeStatus.ENVIRONMENT_ERROR]
        if self._settings.mode == "single":
            yield from ([index] for index in sound)
            return
        groups: dict[tuple[str, ...], list[int]] = {}
        for index in sound:
            task = (transcripts[index].task.id, *render_task(transcripts[index], self._settings.sees_reference))
            groups.setdefault(task, []).append(index)
        for group in groups.values():
            # Sorted by content, so that who is compared with whom does not depend on the order of the episodes.
            group.sort(key=lambda index: hashlib.sha256(render_transcript(transcripts[index]).encode()).digest())
            num_panels = math.ceil(len(group) / self._settings.group_size)
            yield from (group[i::num_panels] for i in range(num_panels))

    async def _judge_in_turn(self, transcripts: Sequence[Transcript]) -> list[Score]:
        async with self._turns:
            return await self._judge(transcripts)

    async def _judge(self, transcripts: Sequence[Transcript]) -> list[Score]:
        """Return the scores of transcripts that share a prompt."""
        settings = self._settings
        prompt = write_prompt(
            settings.mode, self._rubric, transcripts, sees_reference=settings.sees_reference, seed=settings.seed
        )
        num_chars = sum(len(message["content"]) for message in prompt.messages)
        if num_chars > settings.max_prompt_chars:
            reason = f"the prompt has {num_chars} characters, more than max_prompt_chars {settings.max_prompt_chars}"
            return self._missing(reason, len(transcripts))
        try:
            verdicts = await self._verdicts(prompt)
        except NoReply as error:
            return self._missing(f"the judge gave no verdict: {error}", len(transcripts))
        return [verdicts[name].score(self._rubric) for name in prompt.ids]

    def _missing(self, reason: str, count: int) -> list[Score]:
        self.ledger.totals.missing += count
        return [Score.missing(reason)] * count

    async def _verdicts(self, prompt: Prompt) -> dict[str, Verdict]:
        """Return the verdicts from the cache, from a request that is already under way, or from a new one."""
        ids = list(dict.fromkeys(prompt.ids))
        key = self._key(prompt)
        stored = self._cache.get(key) if self._cache is not None else None
        if stored is not None:
            try:
                verdicts = read_reply(stored, self._rubric, ids)
            except InvalidReply:  # the file was changed by somebody else; ask again
                pass
            else:
                self.ledger.totals.cache_hits += 1
                return verdicts
        if key not in self._asked:
            task = asyncio.get_running_loop().create_task(self._ask(key, prompt, ids))
            self._asked[key] = task
            task.add_done_callback(lambda task: self._forget(key, task))
        # Shielded: the reply is paid for, so it is kept even if this caller stops waiting.
        return await asyncio.shield(self._asked[key])

    def _forget(self, key: str, task: asyncio.Task[dict[str, Verdict]]) -> None:
        del self._asked[key]
        if not task.cancelled():
            task.exception()  # whoever still waits gets it; without this line, nobody waiting would be a warning

    async def _ask(self, key: str, prompt: Prompt, ids: Sequence[str]) -> dict[str, Verdict]:
        """Return the verdicts of a reply that can be read, and keep it."""

        def read(text: str) -> tuple[str, dict[str, Verdict]]:
            return text, read_reply(text, self._rubric, ids)

        schema = self._rubric.schema(ids)
        reply, verdicts = await self._endpoint.ask(prompt.messages, schema, read, len(ids))
        if self._cache is not None:
            self._cache.put(key, reply)
        return verdicts

    def _key(self, prompt: Prompt) -> str:
        """Digest of all a reply depends on: the whole prompt, the model, how it is asked."""
        digests = [hashlib.sha256(message["content"].encode("utf-8", "surrogatepass")) for message in prompt.messages]
        return hashlib.sha256(b"".join([self._identity, *(digest.digest() for digest in digests)])).hexdigest()


def _identity(settings: JudgeSettings, rubric: Rubric) -> bytes:
    """Digest of what tells two judges apart. The address is no part of it: a server that moved is the same judge."""
    content = [
        *("LLMJudge", settings.model, settings.mode, settings.seed, settings.temperature, settings.max_tokens),
        *(dict(settings.request), rubric.to_json()),
    ]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).digest()
