"""Judging while others play: episodes go to the judge as they end, and somebody watches what comes back."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import operator
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

from accelerate.utils import gather_object

from awpo_agent.types import Rollout
from awpo_env.errors import AwpoError
from awpo_env.judges.base import AsyncJudge, Judge
from awpo_env.judges.ledger import Totals
from awpo_env.types import Score, Transcript

_MUCH_MISSING = 0.2  # share of episodes without a score from which on a run is worth a warning
_MEMORY = 0.9  # of the running mean of the correlation: about the last ten steps
_WARM_UP = 10  # steps before that mean is one: a few lucky groups would be a best that nothing comes up to
_FALL = 0.3  # how far the correlation has to fall below its best before it is an alarm

_log = logging.getLogger(__name__)


class JudgeFailure(AwpoError):
    """A score is missing and the settings ask for the run to end then."""


class JudgeDesk:
    """Takes finished episodes to a judge: each at once, or whole groups to a judge that compares.

    Args:
        judge: Whom to ask.
        group_sizes: How many episodes of each group will come, by the group's name.
        threads: Where a judge that is not asynchronous scores; by default those of the event loop.
    """

    def __init__(self, judge: Judge, group_sizes: Mapping[int, int], threads: Executor | None = None) -> None:
        self._judge, self._threads = judge, threads
        self._sizes = group_sizes if getattr(judge, "compares", False) else {}
        self._waiting: dict[int, list[tuple[Transcript, asyncio.Future[Score]]]] = defaultdict(list)

    async def score(self, group: int, transcript: Transcript) -> Score:
        """Return the score of one episode; where the judge compares, once its whole group is there."""
        if group not in self._sizes:
            return (await self._ask([transcript]))[0]
        future = asyncio.get_running_loop().create_future()
        waiting = self._waiting[group]
        waiting.append((transcript, future))
        if len(waiting) == self._sizes[group]:
            try:
                scores = await self._ask([transcript for transcript, _ in waiting])
            except BaseException as error:
                for _, other in waiting:
                    other.cancel() if isinstance(error, asyncio.CancelledError) else other.set_exception(error)
            else:
                for (_, other), score in zip(waiting, scores, strict=True):
                    if not other.done():  # whoever waited for it may have been cancelled
                        other.set_result(score)
        return await future

    async def _ask(self, transcripts: Sequence[Transcript]) -> list[Score]:
        if isinstance(self._judge, AsyncJudge):
            scores = await self._judge.score_async(transcripts)
        else:
            # In a thread, so that a judge that waits for a server holds back nobody's next message.
            loop = asyncio.get_running_loop()
            scores = await loop.run_in_executor(self._threads, self._judge.score, transcripts)
        if len(scores) != len(transcripts):
            name = type(self._judge).__name__
            raise ValueError(f"{name} returned {len(scores)} scores for {len(transcripts)} episodes, expected one each")
        return scores


def refuse_missing(rollouts: Sequence[Rollout]) -> None:
    """Raise JudgeFailure if an episode that ended properly, or its task's own solution, has no score."""
    reasons = Counter(
        next(score.reason for score in (rollout.reasoning, rollout.reference) if score and score.is_missing)
        for rollout in rollouts
        if rollout.outcome is not None
        and any(score and score.is_missing for score in (rollout.reasoning, rollout.reference))
    )
    if reasons:
        reason, count = reasons.most_common(1)[0]
        raise JudgeFailure(
            f"{reasons.total()} of {len(rollouts)} episodes have no judge score, or their task's solution has none, "
            f"{count} of them because {reason!r}; "
            "mend the judge and resume, or set judge_failure to 'outcome_only'"
        )


class JudgeBill:
    """What a judge was asked for and paid, step by step; nothing for a judge that keeps no count.

    Args:
        judge: With `totals` as `LLMJudge` has them, or without.
    """

    def __init__(self, judge: Judge | None) -> None:
        self._judge = judge
        self._before: Totals | None = self._totals()

    def since_last(self, num_processes: int) -> dict[str, float]:
        """Return the metrics since the last call, summed over processes; all of them have to call."""
        before, now = self._before, self._totals()
        if before is None or now is None:
            return {}
        self._before = now
        names = ("requests", "cache_hits", "cost", "latency_s")
        mine = [getattr(now, name) - getattr(before, name) for name in names]
        everyone = gather_object([mine]) if num_processes > 1 else [mine]
        requests, cache_hits, cost, latency = (sum(column) for column in zip(*everyone, strict=True))
        return {
            "judge/requests": float(requests),
            "judge/cache_hits": float(cache_hits),
            "judge/cost": float(cost),
            "judge/latency": latency / requests if requests else 0.0,
        }

    def _totals(self) -> Totals | None:
        totals = getattr(self._judge, "totals", None)
        return None if totals is None else dataclasses.replace(totals)


@dataclass(slots=True)
class JudgeWatch:
    """Warns once when scores go missing, says when they are back, and warns when the judge turns against the outcome.

    The last is what reward hacking looks like from here: inside groups whose outcomes differ, the judge agreed with
    the outcome once and agrees less and less.
    """

    _is_missing: bool = False
    _correlation: float = 0.0
    _num_correlations: int = 0
    _best: float = -1.0
    _has_fallen: bool = False

    def look(self, step: int, metrics: Mapping[str, float]) -> None:
        """Take in the metrics of a step."""
        missing, whose = max(
            (metrics.get("judge/missing_rate", 0.0), "episodes"),
            (metrics.get("judge/reference_missing", 0.0), "tasks' own solutions"),
            key=operator.itemgetter(0),
        )
        if missing > _MUCH_MISSING and not self._is_missing:
            _log.warning(
                "step %d: %.0f %% of the %s have no judge score; judge_failure says what becomes of episodes",
                *(step, 100 * missing, whose),
            )
        elif self._is_missing and missing <= _MUCH_MISSING:
            _log.warning("step %d: the judge is back", step)
        self._is_missing = missing > _MUCH_MISSING
        if (now := metrics.get("judge/outcome_correlation")) is None:
            return
        self._num_correlations += 1
        share = max(1 - _MEMORY, 1 / self._num_correlations)
        self._correlation += share * (now - self._correlation)
        if self._num_correlations >= _WARM_UP:
            self._best = max(self._best, self._correlation)
        has_fallen = self._correlation < self._best - _FALL
        if has_fallen and not self._has_fallen:
            _log.warning(
                "step %d: judge and outcome agree less and less (correlation %.2f, once %.2f); look for episodes the "
                "judge likes and the outcome does not in episodes.jsonl",
                *(step, self._correlation, self._best),
            )
        self._has_fallen = has_fallen
