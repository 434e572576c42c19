"""Asks a judge about the reasoning of each finished episode, beside the outcome reward."""

from __future__ import annotations

from typing import Any

import gymnasium
from gymnasium.utils import RecordConstructorArgs

from awpo_env.judges.base import Judge
from awpo_env.types import EpisodeStatus


class JudgeReward(gymnasium.Wrapper[dict[str, Any], str, dict[str, Any], str], RecordConstructorArgs):
    """Adds ``info["reasoning"]``, a `Score`, when the episode is over. The reward stays the outcome.

    The two are kept apart because AWPO weighs them against each other; a sum could not be taken apart again. A judge
    that raises is a bug and stops the episode; one that has no score says so with `Score.missing`.

    Args:
        env: A tool environment, wrapped or not; its ``unwrapped.transcript`` is what the judge reads.
        judge: Who scores.
    """

    def __init__(self, env: gymnasium.Env[dict[str, Any], str], judge: Judge) -> None:
        # The judge is kept by reference: a copy would have a cache and a ledger of its own.
        RecordConstructorArgs.__init__(self, _disable_deepcopy=True, judge=judge)
        gymnasium.Wrapper.__init__(self, env)
        self.judge = judge

    def step(self, action: str) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Step the environment; at the end of the episode `info` also has ``reasoning``."""
        return self._judged(*self.env.step(action))

    def truncate(self, status: EpisodeStatus) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """End the running episode from outside; returns what `step` returns."""
        return self._judged(*self.env.get_wrapper_attr("truncate")(status))

    def _judged(
        self, observation: dict[str, Any], reward: float, terminated: bool, truncated: bool, info: dict[str, Any]
    ) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        if terminated or truncated:
            (info["reasoning"],) = self.judge.score([self.unwrapped.transcript])
        return observation, reward, terminated, truncated, info
