"""Token log-probabilities and the clipped surrogate loss, over the sampled tokens alone."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn


def sampled_logprobs(
    model: nn.Module, ids_BT: torch.Tensor, is_sampled_BT: torch.Tensor, temperature: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return log-probabilities and entropies of the sampled tokens, each of shape (N,) in row-major order.

    Only the positions that predict a sampled token reach the output layer, so nothing of size T times V is made.
    Causal attention and padding on the right make an attention mask needless.

    Args:
        model: A Hugging Face causal language model.
        ids_BT: Token ids padded on the right.
        is_sampled_BT: True at tokens that were sampled; never at the first.
        temperature: What logits are divided by, greater than 0; as at sampling time.
    """
    predicts_BT = is_sampled_BT[:, 1:]
    decoder = model.get_decoder() if hasattr(model, "get_decoder") else model.model
    hidden_BTH = decoder(input_ids=ids_BT[:, :-1], use_cache=False).last_hidden_state
    logits_NV = model.get_output_embeddings()(hidden_BTH[predicts_BT])
    logits_NV = logits_NV.to(torch.promote_types(logits_NV.dtype, torch.float32)) / temperature
    logprobs_NV = torch.log_softmax(logits_NV, dim=-1)
    logprobs_N = logprobs_NV.gather(1, ids_BT[:, 1:][predicts_BT][:, None])[:, 0]
    with torch.no_grad():
        entropy_N = -(logprobs_NV.exp() * logprobs_NV).sum(dim=-1)
    return logprobs_N, entropy_N


def clipped_surrogate(
    logprobs_N: torch.Tensor,
    old_logprobs_N: torch.Tensor,
    advantages_N: torch.Tensor,
    num_tokens: float,
    epsilon: float,
) -> tuple[torch.Tensor, Mapping[str, torch.Tensor]]:
    """Return ``-sum(min(r A, clip(r, 1 - eps, 1 + eps) A)) / num_tokens`` and sums for metrics.

    Source: PPO (arXiv 1707.06347) and GRPO, the form the AWPO paper states: tag ``paper``; dividing by the token count
    of the whole global batch, so that neither micro-batches nor processes change the update: tag ``ours``.

    Args:
        logprobs_N: Under the policy being trained.
        old_logprobs_N: When the tokens were sampled.
        advantages_N: The advantage of each token's episode.
        num_tokens: Loss tokens of the whole batch over all processes, at least 1.
        epsilon: Clip radius, greater than 0.
    """
    ratio_N = torch.exp(logprobs_N - old_logprobs_N)
    plain_N = ratio_N * advantages_N
    clipped_N = ratio_N.clamp(1.0 - epsilon, 1.0 + epsilon) * advantages_N
    loss = -torch.minimum(plain_N, clipped_N).sum() / num_tokens
    with torch.no_grad():
        log_ratio_N = logprobs_N - old_logprobs_N
        sums = {
            "clip_ratio": (clipped_N < plain_N).sum(),
            "approx_kl": (torch.expm1(log_ratio_N) - log_ratio_N).sum(),
            "logprob_gap": log_ratio_N.abs().sum(),
        }
    return loss, sums
