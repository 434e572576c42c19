"""Success rates with 95 % intervals: Wilson for one try a task, bootstrap over tasks for several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb

import numpy as np
from scipy import stats

_CONFIDENCE = 0.95
_RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean with its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:6.1%} [{self.low:.1%}, {self.high:.1%}]"


def success_rate(num_successes: int, num_episodes: int) -> Estimate:
    """Return a share of independent episodes with its Wilson interval.

    Args:
        num_successes: Between 0 and `num_episodes`.
        num_episodes: At least 1.
    """
    interval = stats.binomtest(num_successes, num_episodes).proportion_ci(_CONFIDENCE, method="wilson")
    return Estimate(num_successes / num_episodes, float(interval.low), float(interval.high))


def mean_rate(rates: Sequence[float]) -> Estimate:
    """Return the mean of success rates of tasks; tries at one task are alike, so it is tasks that are drawn anew.

    Args:
        rates: In [0, 1], one for each task, at least one.
    """
    return _over_tasks(rates)


def pass_at_k(successes: Sequence[int], num_tries: int, k: int) -> Estimate:
    """Return the chance that at least one of k tries at a task succeeds, ``1 - C(n - c, k) / C(n, k)`` over tasks.

    Args:
        successes: c per task.
        num_tries: n, tries per task.
        k: Between 1 and n.
    """
    return _over_tasks([1.0 - comb(num_tries - count, k) / comb(num_tries, k) for count in successes])


def pass_hat_k(successes: Sequence[int], num_tries: int, k: int) -> Estimate:
    """Return the chance that all of k tries at a task succeed, ``C(c, k) / C(n, k)`` over tasks, tau-bench's pass^k."""
    return _over_tasks([comb(count, k) / comb(num_tries, k) for count in successes])


def _over_tasks(values: Sequence[float]) -> Estimate:
    values = np.asarray(values)
    if np.ptp(values) == 0:
        # Drawing them anew shows no spread; as if each were a success or not they have the most there can be.
        mean = float(values[0])
        wilson = success_rate(round(mean * len(values)), len(values))
        return Estimate(mean, min(mean, wilson.low), max(mean, wilson.high))
    interval = stats.bootstrap(
        (values,),
        np.mean,
        confidence_level=_CONFIDENCE,
        n_resamples=_RESAMPLES,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return Estimate(float(values.mean()), float(interval.low), float(interval.high))
