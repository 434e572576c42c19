"""The judge that is a model in this process: the prompts and rubrics of `LLMJudge`, without a server."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import json
import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import jinja2
import torch

from awpo_agent.chat import tag_breaker
from awpo_agent.judge_model import JudgeModel, Question, TransformersJudgeModel
from awpo_agent.local_judge_settings import LocalJudgeSettings
from awpo_agent.mark_reading import ExpectedMarks, Reading, WrittenReplies
from awpo_env.errors import UsageError
from awpo_env.judges.base import BROKEN
from awpo_env.judges.cache import ReplyCache
from awpo_env.judges.ledger import Ledger, Request, Totals
from awpo_env.judges.prompts import write_prompt
from awpo_env.judges.replies import InvalidReply
from awpo_env.judges.rubric_file import Rubric
from awpo_env.types import EpisodeStatus, Message, Score, Transcript


@dataclass(frozen=True, slots=True)
class _Ticket:
    """A transcript that waits for the model."""

    question: Question
    key: str
    future: Future[Score]


class LocalJudge:
    """Scores episodes with a model in this process, each transcript alone.

    Every transcript ends as a score the model gave to exactly this transcript, or as `Score.missing` with the reason.
    Whoever waits is judged together, in a thread of the judge's own. May be used from several threads and event loops;
    not across a fork. The model's weights must not change while it judges.

    Args:
        settings: Which model, and how it is read.
        loaded: A model, instead of loading what `settings` name.
        fields: Single settings, instead of or on top of `settings`.

    Raises:
        UsageError: A setting is impossible, there is no such model, it has no chat template with a system message, or
            the rubric is none, or has marks the method cannot tell apart.

    >>> judge = LocalJudge(model="base", cache_dir=None)
    >>> judge.score([])
    []
    """

    def __init__(
        self,
        settings: LocalJudgeSettings | None = None,
        *,
        loaded: JudgeModel | None = None,
        **fields: Any,
    ) -> None:
        if settings is None:
            settings = LocalJudgeSettings.from_json(fields)
        elif fields:
            settings = LocalJudgeSettings.from_json({**dataclasses.asdict(settings), **fields})
        self.settings = settings
        self._rubric = Rubric.load(settings.rubric)
        self._model = loaded or _loaded(settings)
        self._break_tags = tag_breaker(self._model.tokenizer)
        self._reading = self._make_reading()
        self._check_template()
        folder = None if settings.cache_dir is None else Path(settings.cache_dir).expanduser()
        self._ledger = Ledger(folder)
        self._cache = None if folder is None else ReplyCache(folder, int(settings.cache_size_mb * 2**20))
        self._weights = "" if folder is None else self._model.digest()
        self._waiting: deque[_Ticket] = deque()
        self._lock = threading.Lock()
        self._is_closed = False
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="awpo-judge")

    @classmethod
    def load(cls, path: str | Path, **changes: Any) -> LocalJudge:
        """Return the judge a settings file describes.

        Args:
            path: See `LocalJudgeSettings.load`.
            changes: Settings on top of the file's.
        """
        return cls(LocalJudgeSettings.load(path), **changes)

    def with_seed(self, seed: int) -> LocalJudge:
        """Return the same judge with another seed, which asks for everything anew; both share one model."""
        return type(self)(self.settings, loaded=self._model, seed=seed)

    def __enter__(self) -> LocalJudge:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def totals(self) -> Totals:
        """What this judge read and how long it took; a request is one transcript."""
        return self._ledger.totals

    def score(self, transcripts: Sequence[Transcript]) -> list[Score]:
        """See `Judge.score`. Blocks until all are judged; may be called from several threads."""
        self._check_open()
        return [future.result() for future in self._submit(transcripts)]

    async def score_async(self, transcripts: Sequence[Transcript]) -> list[Score]:
        """See `AsyncJudge.score_async`; may be awaited on any event loop."""
        self._check_open()
        futures = await asyncio.get_running_loop().run_in_executor(self._thread, self._submit, transcripts)
        return list(await asyncio.gather(*map(asyncio.wrap_future, futures)))

    def close(self) -> None:
        """Finish what is being judged and close the files; may be called twice."""
        self._is_closed = True
        self._thread.shutdown()
        if self._cache is not None:
            self._cache.close()
        self._ledger.close()

    def _check_open(self) -> None:
        if self._is_closed:
            raise UsageError("the judge is closed; make a new one")

    def _submit(self, transcripts: Sequence[Transcript]) -> list[Future[Score]]:
        """Queue what the model has to read; the futures are in the order of the transcripts."""
        tickets = [self._ticket(transcript) for transcript in transcripts]
        waiting = [ticket for ticket in tickets if isinstance(ticket, _Ticket)]
        with self._lock:
            # Alike in length, so that little of a batch is padding.
            self._waiting.extend(sorted(waiting, key=lambda ticket: ticket.question.num_tokens))
        for _ in range(0, len(waiting), self.settings.batch_size):
            self._thread.submit(self._judge_waiting)
        return [ticket.future if isinstance(ticket, _Ticket) else ticket for ticket in tickets]

    def _ticket(self, transcript: Transcript) -> _Ticket | Future[Score]:
        future: Future[Score] = Future()
        if transcript.status is EpisodeStatus.ENVIRONMENT_ERROR:
            future.set_result(Score.missing(BROKEN))
            return future
        prompt = write_prompt("single", self._rubric, [transcript], sees_reference=self.settings.sees_reference)
        question = self._reading.question(self._encode(prompt.messages), prompt.ids[0])
        if too_long := self._too_long(question):
            with self._lock:
                self.totals.missing += 1
            future.set_result(Score.missing(too_long))
            return future
        return _Ticket(question, self._key(question), future)

    def _too_long(self, question: Question) -> str:
        """Return why a question cannot be asked, if it cannot."""
        most, num_prompt = self.settings.max_prompt_tokens, len(question.prompt)
        if most is not None and num_prompt > most:
            return f"the prompt has {num_prompt} tokens, more than max_prompt_tokens {most}"
        limit = self._model.max_length
        if limit is not None and question.num_tokens > limit:
            return f"prompt and reply need {question.num_tokens} tokens, more than the model's {limit}"
        return ""

    def _encode(self, messages: Sequence[Message]) -> tuple[int, ...]:
        """Return the prompt's tokens; in what a transcript says no tag of the tokenizer is left."""
        *frame, question = messages
        safe = [*frame, {**question, "content": self._break_tags(question["content"])}]
        tokenizer = self._model.tokenizer
        text = tokenizer.apply_chat_template(
            safe, tokenize=False, add_generation_prompt=True, **self.settings.template_options
        )
        return tuple(tokenizer.encode(text, add_special_tokens=False))

    def _key(self, question: Question) -> str:
        """Digest of all a reply depends on: the weights, the method, and every token that is read."""
        settings = self.settings
        method = [settings.method, settings.max_new_tokens if settings.method == "generate" else 0, settings.seed]
        places = [[place.beginning, place.marks] for place in question.places]
        content = ["LocalJudge", self._weights, method, question.prompt, places]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    def _judge_waiting(self) -> None:
        """Judge those who have waited longest, as many as go into a batch."""
        with self._lock:
            batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), self.settings.batch_size))]
        tickets = [ticket for ticket in batch if ticket.future.set_running_or_notify_cancel()]
        try:
            scores = self._scores({ticket.key: ticket.question for ticket in tickets})
        except BaseException as error:  # a bug; it belongs to whoever asked, not to this thread
            for ticket in tickets:
                ticket.future.set_exception(error)
            return
        for ticket in tickets:
            self.totals.missing += scores[ticket.key].is_missing
            ticket.future.set_result(scores[ticket.key])

    def _scores(self, questions: dict[str, Question]) -> dict[str, Score]:
        """Return the scores of distinct questions, from the cache or the model."""
        scores = {key: score for key, question in questions.items() if (score := self._stored(key, question))}
        self.totals.cache_hits += len(scores)
        new = [(key, question) for key, question in questions.items() if key not in scores]
        return scores | (self._ask(new) if new else {})

    def _stored(self, key: str, question: Question) -> Score | None:
        reply = self._cache.get(key) if self._cache is not None else None
        try:
            return None if reply is None else self._reading.score(reply, question)
        except InvalidReply:  # the file was changed by somebody else; ask again
            return None

    def _ask(self, batch: list[tuple[str, Question]]) -> dict[str, Score]:
        """Return the scores the model gives; a batch that does not fit into the device's memory is halved."""
        start = time.monotonic()
        try:
            replies = self._reading.replies([question for _, question in batch])
        except torch.OutOfMemoryError:
            if len(batch) > 1:
                half = len(batch) // 2
                return self._ask(batch[:half]) | self._ask(batch[half:])
            replies = [None]
        latency_s = time.monotonic() - start
        return {
            key: self._accounted(key, question, reply, latency_s)
            for (key, question), reply in zip(batch, replies, strict=True)
        }

    def _accounted(self, key: str, question: Question, reply: str | None, latency_s: float) -> Score:
        """Return the score in one reply; keep the reply if there is one, and write down that it was asked for."""
        result = "ok"
        try:
            if reply is None:
                result = "out of memory"
                return Score.missing(f"no memory is left for a prompt of {len(question.prompt)} tokens")
            score = self._reading.score(reply, question)
        except InvalidReply as problem:
            result = "unreadable"
            return Score.missing(f"the judge gave no verdict: unusable reply: {problem}")
        finally:
            self._ledger.add(Request(self.settings.model, result, round(latency_s, 6), len(question.prompt)))
        if self._cache is not None:
            self._cache.put(key, reply)
        return score

    def _make_reading(self) -> Reading:
        if self.settings.method == "generate":
            return WrittenReplies(self._model, self._rubric, self.settings.max_new_tokens)
        return ExpectedMarks(self._model, self._rubric, self.settings.least_mass)

    def _check_template(self) -> None:
        if not self._model.tokenizer.chat_template:
            raise UsageError(f"the tokenizer of {self.settings.model!r} has no chat template; expected one, set it")
        try:
            self._encode([{"role": "system", "content": "x"}, {"role": "user", "content": "x"}])
        except jinja2.TemplateError as error:
            raise UsageError(
                f"the chat template of {self.settings.model!r} takes no system and user message: {error}; "
                "expected one that does"
            ) from None


def _loaded(settings: LocalJudgeSettings) -> JudgeModel:
    if settings.engine == "vllm":
        from awpo_agent.judge_model_vllm import VLLMJudgeModel

        return VLLMJudgeModel(settings)
    return TransformersJudgeModel.load(settings)
