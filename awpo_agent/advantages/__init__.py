"""Advantage estimators as pure functions over groups of rewards; needs torch and nothing else.

AWPO (arXiv 2512.19126) fuses a verifiable outcome reward with a judge's reasoning reward. The paper's theory is public,
the exact equations of its gate, difficulty weight and clip schedule are not; every formula here carries one of three
tags: ``paper``, ``reconstructed`` (the paper names the thing, the equation is ours), ``ours``. ``docs/algorithm.md``
lists them all.
"""

from __future__ import annotations

from collections.abc import Mapping

from awpo_agent.advantages.base import Advantages, Estimator
from awpo_agent.advantages.baselines import dr_grpo, gdpo, grpo, mixed, papo, rloo
from awpo_agent.advantages.fusion import awpo
from awpo_agent.advantages.parts import CLIPS, DIFFICULTIES, GATES, SCALES
from awpo_agent.advantages.rows import estimate_rows
from awpo_agent.advantages.stages import Stage, count_begun, staged
from awpo_agent.advantages.switches import (
    ALL_OFF,
    ALL_RIGHT_RULES,
    ALL_WRONG_RULES,
    CHOICES,
    NOT_NEGATIVE,
    POSITIVE,
    AWPOSwitches,
)

ESTIMATORS: Mapping[str, Estimator] = {
    "grpo": grpo,
    "dr_grpo": dr_grpo,
    "rloo": rloo,
    "gdpo": gdpo,
    "mixed": mixed,
    "papo": papo,
    "awpo": awpo,
}
"""Estimators by the name a configuration gives."""

HEARS_JUDGE = frozenset({"gdpo", "mixed", "papo", "awpo"})
"""Estimators that are pointless without a judge."""

__all__ = [
    "ALL_OFF",
    "ALL_RIGHT_RULES",
    "ALL_WRONG_RULES",
    "CHOICES",
    "CLIPS",
    "DIFFICULTIES",
    "ESTIMATORS",
    "GATES",
    "HEARS_JUDGE",
    "NOT_NEGATIVE",
    "POSITIVE",
    "SCALES",
    "AWPOSwitches",
    "Advantages",
    "Estimator",
    "Stage",
    "awpo",
    "count_begun",
    "dr_grpo",
    "estimate_rows",
    "gdpo",
    "grpo",
    "mixed",
    "papo",
    "rloo",
    "staged",
]
