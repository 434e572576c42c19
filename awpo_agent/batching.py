"""Rollouts and advantages to padded tensors and micro-batches."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from awpo_agent.types import Rollout, TrainBatch


def make_batch(rollouts: Sequence[Rollout], advantages_B: torch.Tensor, trains_B: torch.Tensor) -> TrainBatch:
    """Return all rollouts as one padded batch; an episode that does not train has no loss tokens.

    Args:
        rollouts: B episodes.
        advantages_B: One advantage each.
        trains_B: False for episodes that carry no loss.
    """
    length = max(len(rollout.ids) for rollout in rollouts)
    shape = (len(rollouts), length)
    ids_BT = torch.zeros(shape, dtype=torch.long)
    is_sampled_BT = torch.zeros(shape, dtype=torch.bool)
    old_logprobs_BT = torch.zeros(shape)
    for row, rollout in enumerate(rollouts):
        used = slice(0, len(rollout.ids))
        ids_BT[row, used] = torch.tensor(rollout.ids)
        is_sampled_BT[row, used] = torch.tensor(rollout.is_sampled)
        old_logprobs_BT[row, used] = torch.tensor(rollout.logprobs)
    is_sampled_BT &= trains_B.cpu()[:, None]
    return TrainBatch(ids_BT, is_sampled_BT, old_logprobs_BT, advantages_B.cpu())


def micro_batches(rollouts: Sequence[Rollout], rows: Sequence[int], size: int) -> list[torch.Tensor]:
    """Split row numbers into micro-batches of `size`, neighbours in length together, so that little is padded.

    Args:
        rollouts: Whose lengths are compared.
        rows: The rows to split; their number is a multiple of `size` or the last part is smaller.
        size: Sequences per forward pass, at least 1.
    """
    by_length = sorted(rows, key=lambda row: (len(rollouts[row].ids), row))
    return [torch.tensor(by_length[start : start + size]) for start in range(0, len(by_length), size)]
