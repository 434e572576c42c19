"""Numbers of a step for people and trackers: pure functions of rollouts and advantages."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch

from awpo_agent.advantages import Advantages
from awpo_agent.types import Rollout
from awpo_env.schema import says_error
from awpo_env.types import JSON

_NO_SIGNAL = 1e-9


def rollout_metrics(rollouts: Sequence[Rollout], num_generations: int) -> dict[str, float]:
    """Return what the episodes of a step were like; TRL's names where the meaning is the same.

    Args:
        rollouts: Whole groups, one after the other.
        num_generations: Rollouts per group.
    """
    scored = [rollout.outcome for rollout in rollouts if rollout.outcome is not None]
    asked = [rollout.reasoning for rollout in rollouts if rollout.reasoning and rollout.outcome]
    judged = [score.value for score in asked if not score.is_missing]
    solutions = [rollout.reference for rollout in rollouts[::num_generations] if rollout.reference]
    lengths = [rollout.num_sampled_tokens for rollout in rollouts]
    calls, failures = _tool_calls(rollouts)
    statuses = Counter(str(rollout.transcript.status) for rollout in rollouts)
    metrics = {
        "num_tokens": float(sum(len(rollout.ids) for rollout in rollouts)),
        "completions/mean_length": float(np.mean(lengths)),
        "completions/max_length": float(max(lengths)),
        "tools/call_frequency": calls / len(rollouts),
        "tools/failure_frequency": failures / max(calls, 1),
        **{f"env/stop/{status}": count / len(rollouts) for status, count in sorted(statuses.items())},
    }
    if scored:
        values = np.array([outcome.value for outcome in scored])
        metrics["reward"] = float(values.mean())
        metrics["reward_std"] = float(values.std())
        metrics["success_rate"] = float(np.mean([outcome.success for outcome in scored]))
        metrics["frac_reward_zero_std"] = _share_without_spread(rollouts, num_generations)
    if judged:
        metrics["judge/mean"] = float(np.mean(judged))
        metrics["judge/std"] = float(np.std(judged))
        if (correlation := _judge_outcome_correlation(rollouts, num_generations)) is not None:
            metrics["judge/outcome_correlation"] = correlation
    if (beaten := _reference_beaten(rollouts, num_generations)) is not None:
        metrics["judge/reference_beaten"] = beaten
    if asked:
        metrics["judge/missing_rate"] = 1.0 - len(judged) / len(asked)
    if solutions:
        metrics["judge/reference_missing"] = float(np.mean([score.is_missing for score in solutions]))
    return metrics


def advantage_metrics(advantages: Advantages) -> dict[str, float]:
    """Return what the estimator made of a step.

    ``awpo/variance`` is ``V = E[A^2]`` over the episodes that train, with the parts of outcome and judge (twice their
    mean product is what is missing to the sum); ``awpo/frac_judge_alone`` the share of groups that the outcome leaves
    without any advantage and the judge does not.
    """
    trained = advantages.trains_PG & (advantages.advantages_PG != 0)
    outcome_part_PG = advantages.advantages_PG - advantages.reasoning_part_PG
    num_training = advantages.trains_PG.sum().clamp_min(1)
    variance, of_outcome, of_reasoning = (
        float(part.square().sum() / num_training)
        for part in (advantages.advantages_PG, outcome_part_PG, advantages.reasoning_part_PG)
    )
    # Parts are sums of floats: what outcome and judge leave of each other's rounding is no signal.
    judge_alone_P = trained.any(dim=1) & (outcome_part_PG.abs() <= _NO_SIGNAL).all(dim=1)
    return {
        "awpo/gate_mean": float(advantages.gate_P.mean()),
        "awpo/difficulty_mean": float(advantages.difficulty_P.mean()),
        "awpo/clip_eps": advantages.clip_epsilon,
        "awpo/frac_with_signal": float(trained.any(dim=1).double().mean()),
        "awpo/frac_judge_alone": float(judge_alone_P.double().mean()),
        "awpo/advantage_std": float(advantages.advantages_PG.std()),
        "awpo/variance": variance,
        "awpo/variance_outcome": of_outcome,
        "awpo/variance_reasoning": of_reasoning,
    }


def episode_record(rollout: Rollout, step: int, group: int, advantages: Advantages, member: int) -> dict[str, JSON]:
    """Return one line of ``episodes.jsonl``: the conversation and everything that decided its advantage.

    Args:
        group: Row of the group in `advantages`.
        member: Column of the episode in `advantages`.
    """
    outcome, reasoning = rollout.outcome, rollout.reasoning
    return {
        "step": step,
        "group": group,
        **rollout.info,
        "messages": list(rollout.transcript.messages),
        "num_tokens": len(rollout.ids),
        "num_sampled_tokens": rollout.num_sampled_tokens,
        "outcome": None
        if outcome is None
        else {"value": outcome.value, "success": outcome.success, **outcome.components},
        "reasoning": None
        if reasoning is None
        else {"value": reasoning.value, "reason": reasoning.reason, "parts": dict(reasoning.parts)},
        "reference": None if rollout.reference is None else rollout.reference.value,
        "gate": float(advantages.gate_P[group]),
        "difficulty": float(advantages.difficulty_P[group]),
        "advantage": float(advantages.advantages_PG[group, member]),
        "trains": bool(advantages.trains_PG[group, member]),
    }


def reward_tensors(
    rollouts: Sequence[Rollout], num_generations: int, masks_unjudged: bool = False
) -> dict[str, torch.Tensor]:
    """Return the arguments every estimator takes, in float64.

    A place without a value holds 0 and is marked invalid; estimators never read it.

    Args:
        rollouts: Whole groups, one after the other.
        num_generations: Rollouts per group.
        masks_unjudged: Leave episodes out altogether whose judge score is missing.
    """
    is_left_out = [masks_unjudged and bool(rollout.reasoning and rollout.reasoning.is_missing) for rollout in rollouts]
    outcomes = [None if out else rollout.outcome for rollout, out in zip(rollouts, is_left_out, strict=True)]
    scores = [rollout.reasoning.value if rollout.reasoning is not None else None for rollout in rollouts]
    shape = (-1, num_generations)
    outcome_valid_PG = torch.tensor([outcome is not None for outcome in outcomes]).reshape(shape)
    range_PG2 = torch.tensor(
        [(outcome.low, outcome.high) if outcome else (0.0, 0.0) for outcome in outcomes], dtype=torch.float64
    ).reshape(*shape, 2)
    first_valid_P = outcome_valid_PG.int().argmax(dim=1)
    range_P2 = range_PG2[torch.arange(len(range_PG2)), first_valid_P]
    range_P2[~outcome_valid_PG.any(dim=1)] = torch.tensor([0.0, 1.0], dtype=torch.float64)
    # Episodes of a group share their task, and its solution.
    solutions = [rollout.reference.value if rollout.reference is not None else None for rollout in rollouts]
    return {
        "outcome_PG": torch.tensor([o.value if o else 0.0 for o in outcomes], dtype=torch.float64).reshape(shape),
        "outcome_range_P2": range_P2,
        "outcome_valid_PG": outcome_valid_PG,
        "reasoning_PG": torch.tensor([s or 0.0 for s in scores], dtype=torch.float64).reshape(shape),
        "reasoning_valid_PG": torch.tensor([score is not None for score in scores]).reshape(shape),
        "reference_P": torch.tensor(
            [math.nan if score is None else score for score in solutions[::num_generations]], dtype=torch.float64
        ),
    }


def _share_without_spread(rollouts: Sequence[Rollout], num_generations: int) -> float:
    groups = [rollouts[start : start + num_generations] for start in range(0, len(rollouts), num_generations)]
    values = [[rollout.outcome.value for rollout in group if rollout.outcome is not None] for group in groups]
    return float(np.mean([not group or max(group) - min(group) <= 1e-6 for group in values]))


def _judge_outcome_correlation(rollouts: Sequence[Rollout], num_generations: int) -> float | None:
    """Pearson's, of deviations from the group's means: only these reach an advantage. None where either is constant."""
    deviations = []
    for start in range(0, len(rollouts), num_generations):
        pairs = [
            (rollout.outcome.value, rollout.reasoning.value)
            for rollout in rollouts[start : start + num_generations]
            if rollout.outcome is not None and rollout.reasoning is not None and not rollout.reasoning.is_missing
        ]
        if pairs:
            deviations.append(np.array(pairs) - np.mean(pairs, axis=0))
    if not deviations:
        return None
    outcome, judge = np.concatenate(deviations).T
    lengths = np.linalg.norm(outcome), np.linalg.norm(judge)
    return float(outcome @ judge / np.prod(lengths)) if min(lengths) > _NO_SIGNAL else None


def _reference_beaten(rollouts: Sequence[Rollout], num_generations: int) -> float | None:
    """Share of groups in which the judge puts a failure above the task's own solution; None where it scored none."""
    beaten = []
    for start in range(0, len(rollouts), num_generations):
        group = rollouts[start : start + num_generations]
        if group[0].reference is None or group[0].reference.is_missing:
            continue
        failed = [rollout.reasoning for rollout in group if rollout.outcome and not rollout.outcome.success]
        scores = [score.value for score in failed if score is not None and not score.is_missing]
        beaten.append(max(scores, default=0.0) > group[0].reference.value)
    return float(np.mean(beaten)) if beaten else None


def _tool_calls(rollouts: Sequence[Rollout]) -> tuple[int, int]:
    results = [
        message["content"]
        for rollout in rollouts
        for message in rollout.transcript.messages
        if message["role"] == "tool"
    ]
    return len(results), sum(map(says_error, results))
