"""Estimators for rewards in rows, as other trainers keep them: any order, any group sizes, NaN for what is missing."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import torch

from awpo_agent.advantages.base import Estimator
from awpo_agent.advantages.switches import DEFAULTS, AWPOSwitches


def estimate_rows(
    estimator: Estimator,
    groups: Sequence[Hashable] | torch.Tensor,
    outcome_B: torch.Tensor,
    reasoning_B: torch.Tensor,
    *,
    outcome_range: tuple[float, float] = (0.0, 1.0),
    epsilon: float = 0.2,
    reference_B: torch.Tensor | None = None,
    switches: AWPOSwitches = DEFAULTS,
) -> tuple[torch.Tensor, float]:
    """Return one advantage for each row, 0 where a row does not train, and the clip radius of the batch.

    Args:
        estimator: Any of `ESTIMATORS`.
        groups: What tells the prompt of each row: ids, or numbers, or a tensor of them.
        outcome_B: Outcome rewards; NaN where there is none.
        reasoning_B: Judge scores in [0, 1]; NaN where there is none.
        outcome_range: Least and greatest attainable outcome.
        epsilon: The clip radius the schedule starts from.
        reference_B: The judge's score of the solution of each row's task, NaN where there is none; equal in a group.
        switches: See `AWPOSwitches`.

    Raises:
        ValueError: Lengths differ or are 0, or a reward is impossible.
    """
    if isinstance(groups, torch.Tensor):
        groups = groups.tolist()
    if not len(groups) == len(outcome_B) == len(reasoning_B) > 0:
        sizes = f"{len(groups)} groups, {len(outcome_B)} outcomes and {len(reasoning_B)} judge scores"
        raise ValueError(f"there are {sizes}, expected one of each for every row, and a row")
    dtype = torch.promote_types(torch.promote_types(outcome_B.dtype, reasoning_B.dtype), torch.float32)
    outcome_B, reasoning_B = outcome_B.to(dtype), reasoning_B.to(dtype)
    rows_of: dict[Hashable, list[int]] = {}
    for row, group in enumerate(groups):
        rows_of.setdefault(group, []).append(row)
    size = max(map(len, rows_of.values()))
    # Places of groups smaller than the largest are invalid, and what is invalid is never read.
    places_PG = torch.tensor([rows + [-1] * (size - len(rows)) for rows in rows_of.values()], device=outcome_B.device)
    is_row_PG = places_PG >= 0
    outcome_PG, reasoning_PG = outcome_B[places_PG], reasoning_B[places_PG]
    got = estimator(
        outcome_PG,
        outcome_PG.new_tensor([outcome_range]),
        is_row_PG & ~outcome_PG.isnan(),
        reasoning_PG,
        is_row_PG & ~reasoning_PG.isnan(),
        epsilon=epsilon,
        reference_P=None if reference_B is None else reference_B[places_PG[:, 0]],
        switches=switches,
    )
    advantages_B = torch.zeros_like(outcome_B)
    advantages_B[places_PG[is_row_PG]] = got.advantages_PG[is_row_PG]
    return advantages_B, got.clip_epsilon
