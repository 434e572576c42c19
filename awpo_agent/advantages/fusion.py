"""AWPO: outcome and reasoning fused in the advantage, by a gate, a difficulty weight and an adaptive clip."""

from __future__ import annotations

import torch

from awpo_agent.advantages.base import Advantages
from awpo_agent.advantages.groups import GroupRewards, normalised, read_rewards
from awpo_agent.advantages.parts import (
    CLIPS,
    DIFFICULTIES,
    GATES,
    SCALES,
    is_right,
    is_wrong,
    mean_outcome,
    ranks_reference_first,
    read_signal,
)
from awpo_agent.advantages.switches import DEFAULTS, AWPOSwitches


def awpo(
    outcome_PG: torch.Tensor,
    outcome_range_P2: torch.Tensor,
    outcome_valid_PG: torch.Tensor,
    reasoning_PG: torch.Tensor,
    reasoning_valid_PG: torch.Tensor,
    *,
    epsilon: float,
    reference_P: torch.Tensor | None = None,
    switches: AWPOSwitches = DEFAULTS,
) -> Advantages:
    """AWPO: ``A = D * ((1 - w) A_outcome + w A_reasoning)`` with gate w, difficulty weight D and an adaptive clip.

    `A_reasoning` is that of the mix ``weight o + lambda q`` under the gate ``std_ratio_mix``, else that of the judge's
    scores alone. In a group where all fail it is heard only if it passes the check, and then it only blames, for how an
    episode falls short of the others and of the task's own solution, which counts as one of them: the advantage is
    ``min(0, A)``. See `Estimator` for the arguments; reads all switches.

    Source: arXiv 2512.19126 for the three parts and their purpose (``paper``); their equations are ``reconstructed``,
    saturation rules, the check, scale and floor are ``ours``.
    """
    rewards = read_rewards(outcome_PG, outcome_range_P2, outcome_valid_PG, reasoning_PG, reasoning_valid_PG)
    is_mix = switches.gate == "std_ratio_mix"
    is_right_P, is_wrong_P = is_right(rewards), is_wrong(rewards)
    skips_P, joining_P = _skipped_and_joining(rewards, reference_P, switches)
    signal = read_signal(rewards, joining_P, switches)
    is_deaf_P = (is_right_P & (switches.all_right == "outcome_only")) | (
        is_wrong_P & (switches.all_wrong == "outcome_only")
    )
    gate_P, reliance_P = GATES[switches.gate](signal)
    gate_P = torch.where(skips_P | is_deaf_P, 0.0, gate_P)
    # A member without a judge score has reasoning term 0, so what is left for it is its outcome; the mix holds that.
    weight_PG = gate_P[:, None] * (torch.ones_like(rewards.votes_PG) if is_mix else rewards.votes_PG)
    reasoning_scale_P, mixed_scale_P = SCALES[switches.reasoning_scale](signal, switches)
    outcome_part_PG = (1.0 - weight_PG) * normalised(switches.outcome_weight * rewards.outcome_PG, rewards.valid_PG)
    if is_mix:
        outcome_part_PG = outcome_part_PG + weight_PG * signal.outcome_deviation_PG / mixed_scale_P[:, None]
        judge_PG = switches.coefficient * signal.reasoning_deviation_PG / mixed_scale_P[:, None]
    else:
        judge_PG = signal.reasoning_deviation_PG / reasoning_scale_P[:, None]
    reasoning_part_PG = weight_PG * judge_PG
    if switches.all_wrong == "blame":
        reasoning_part_PG = torch.where(is_wrong_P[:, None], reasoning_part_PG.clamp_max(0.0), reasoning_part_PG)
    difficulty_P = DIFFICULTIES[switches.difficulty](mean_outcome(rewards), switches)
    trains_PG = rewards.valid_PG & ~skips_P[:, None]
    speaks_P = (signal.outcome_spread_P > 0) | ((signal.reasoning_spread_P > 0) & ~is_deaf_P)
    in_loss_P = trains_PG.any(dim=1) & speaks_P
    reliance = float(reliance_P[in_loss_P].mean()) if bool(in_loss_P.any()) else 0.0
    weight_P1 = difficulty_P[:, None]
    return Advantages(
        advantages_PG=torch.where(trains_PG, weight_P1 * (outcome_part_PG + reasoning_part_PG), 0.0),
        reasoning_part_PG=torch.where(trains_PG, weight_P1 * reasoning_part_PG, 0.0),
        trains_PG=trains_PG,
        clip_epsilon=CLIPS[switches.clip](epsilon, reliance, switches),
        gate_P=gate_P,
        difficulty_P=difficulty_P,
    )


def _skipped_and_joining(
    rewards: GroupRewards, reference_P: torch.Tensor | None, switches: AWPOSwitches
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return which groups are left out, and the score of the task's solution where it counts as one of the group."""
    is_right_P, is_wrong_P = is_right(rewards), is_wrong(rewards)
    skips_P = (is_right_P & (switches.all_right == "skip")) | (is_wrong_P & (switches.all_wrong == "skip"))
    joining_P = torch.full_like(rewards.reasoning_PG[:, 0], torch.nan)
    if switches.checks_judge:
        passes_P = ranks_reference_first(rewards, reference_P)
        skips_P = skips_P | (is_wrong_P & ~passes_P)
        if switches.all_wrong == "blame" and reference_P is not None:
            joining_P = torch.where(is_wrong_P & passes_P, reference_P.to(joining_P), joining_P)
    return skips_P, joining_P
