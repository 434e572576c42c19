"""Drawing token ids from logits with given noise: temperature, top-k, top-p, inverse of the distribution function."""

from __future__ import annotations

import numpy as np
import torch


def draw(
    logits_BV: torch.Tensor,
    uniform_B: np.ndarray,
    temperature_B: np.ndarray,
    top_k_B: np.ndarray,
    top_p_B: np.ndarray,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw one id per row.

    Args:
        logits_BV: Unscaled logits.
        uniform_B: One number in [0, 1) per row.
        temperature_B: 0 takes the likeliest id.
        top_k_B: 0 keeps all; ids that tie with the k-th are kept.
        top_p_B: In (0, 1]; applied after temperature and top-k.

    Returns:
        ids_B, and float32 logprobs_B under the distribution each was drawn from (greedy: temperature 1, unfiltered).
    """
    logits_BV = logits_BV.float()
    is_greedy_B = temperature_B == 0
    if is_greedy_B.all():
        ids_B = logits_BV.argmax(-1)
        return ids_B, _logprobs(logits_BV, ids_B)
    if (temperature_B != 1).any():
        scale_B = np.where(is_greedy_B, 1.0, temperature_B)
        logits_BV = logits_BV / _column(scale_B, logits_BV)
    if top_k_B.any():
        logits_BV = _keep_top_k(logits_BV, np.where(is_greedy_B, 0, top_k_B))
    if (top_p_B < 1).any():
        logits_BV = _keep_top_p(logits_BV, np.where(is_greedy_B, 1.0, top_p_B))
    logprobs_BV = logits_BV.log_softmax(-1)
    ids_B = invert(logprobs_BV.exp(), torch.from_numpy(uniform_B).to(logits_BV.device))
    if is_greedy_B.any():
        ids_B = torch.where(torch.from_numpy(is_greedy_B).to(ids_B.device), logits_BV.argmax(-1), ids_B)
    return ids_B, logprobs_BV.gather(-1, ids_B[:, None])[:, 0]


def invert(probs_BV: torch.Tensor, uniform_B: torch.Tensor) -> torch.Tensor:
    """Return for each row the first id at which the distribution function exceeds the row's uniform number.

    An id of probability 0 is never returned, whatever the rounding of the sums.
    """
    cumulative_BV = probs_BV.cumsum(-1, dtype=torch.float64)
    total_B = cumulative_BV[:, -1]
    target_B = torch.minimum(uniform_B * total_B, torch.nextafter(total_B, torch.zeros_like(total_B)))
    ids_B = torch.searchsorted(cumulative_BV, target_B[:, None], right=True)[:, 0]
    # A parallel sum (GPU) need not be monotone, so a step can appear at an id of probability 0.
    is_possible_B = probs_BV.gather(-1, ids_B[:, None])[:, 0] > 0
    return torch.where(is_possible_B, ids_B, probs_BV.argmax(-1))


def _logprobs(logits_BV: torch.Tensor, ids_B: torch.Tensor) -> torch.Tensor:
    return logits_BV.gather(-1, ids_B[:, None])[:, 0] - logits_BV.logsumexp(-1)


def _column(values_B: np.ndarray, like: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(values_B).to(like)[:, None]


def _keep_top_k(logits_BV: torch.Tensor, top_k_B: np.ndarray) -> torch.Tensor:
    vocabulary = logits_BV.shape[-1]
    top_k_B = np.where(top_k_B == 0, vocabulary, np.minimum(top_k_B, vocabulary))
    # Rows that keep everything need no threshold; a wide topk for their sake would be a full sort.
    widest = int(top_k_B[top_k_B < vocabulary].max(initial=1))
    best_BK = logits_BV.topk(widest, dim=-1).values
    index_B1 = torch.from_numpy(np.minimum(top_k_B, widest) - 1).to(logits_BV.device)[:, None]
    keeps_all_B1 = torch.from_numpy(top_k_B == vocabulary).to(logits_BV.device)[:, None]
    return logits_BV.masked_fill((logits_BV < best_BK.gather(-1, index_B1)) & ~keeps_all_B1, -torch.inf)


def _keep_top_p(logits_BV: torch.Tensor, top_p_B: np.ndarray) -> torch.Tensor:
    sorted_BV, order_BV = logits_BV.sort(dim=-1, descending=True, stable=True)
    probs_BV = sorted_BV.softmax(-1)
    # An id stays while the likelier ones have not yet reached top_p; the likeliest therefore always stays.
    before_BV = probs_BV.cumsum(-1, dtype=torch.float64) - probs_BV
    top_p_B1 = torch.from_numpy(top_p_B).to(before_BV)[:, None]
    is_dropped_BV = (before_BV >= top_p_B1) & (top_p_B1 < 1)
    return logits_BV.masked_fill(torch.zeros_like(is_dropped_BV).scatter(-1, order_BV, is_dropped_BV), -torch.inf)
