"""Token log-probabilities and the clipped surrogate loss, over the sampled tokens alone."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn
from torch.distributed.tensor import DTensor
from torch.utils.checkpoint import checkpoint
from transformers import DynamicCache

from awpo_env.errors import UsageError

MOST_LOGITS = 2**26
"""Logits that exist at a time, 256 MiB in single precision: a few hundred tokens of a large vocabulary."""

SHORTEST_SHARED = 16
"""Tokens that all rows begin with; for fewer a forward pass of their own does not pay."""


def sampled_logprobs(
    model: nn.Module,
    ids_BT: torch.Tensor,
    is_sampled_BT: torch.Tensor,
    temperature: float,
    most_logits: int = MOST_LOGITS,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return log-probabilities and entropies of the sampled tokens, each of shape (N,) in row-major order.

    Only the positions that predict a sampled token reach the output layer, in chunks of at most `most_logits` logits.
    More than one chunk are not kept for the backward pass but computed again there, one at a time, so that memory
    does not grow with N times V. What all rows begin with, as a rule policy and tools, is forwarded once for all of
    them. Causal attention and padding on the right make an attention mask needless.

    Args:
        model: A Hugging Face causal language model.
        ids_BT: Token ids padded on the right.
        is_sampled_BT: True at tokens that were sampled; never at the first.
        temperature: What logits are divided by, greater than 0; as at sampling time.
        most_logits: Most logits that exist at a time; at least those of one token do.
    """
    predicts_BT = is_sampled_BT[:, 1:]
    hidden_NH, ids_N = _hidden(model, ids_BT[:, :-1], predicts_BT), ids_BT[:, 1:][predicts_BT]
    head = model.get_output_embeddings()
    chunk = max(1, most_logits // model.config.get_text_config().vocab_size)
    if len(ids_N) <= chunk:
        return _score(head, hidden_NH, ids_N, temperature)
    # Nothing is drawn at random in an output layer, so no random state has to be kept for the second time.
    parts = [
        checkpoint(_score, head, hidden_CH, ids_C, temperature, use_reentrant=False, preserve_rng_state=False)
        for hidden_CH, ids_C in zip(hidden_NH.split(chunk), ids_N.split(chunk), strict=True)
    ]
    logprobs, entropies = zip(*parts, strict=True)
    return torch.cat(logprobs), torch.cat(entropies)


def check_output_layer(model: nn.Module) -> None:
    """Refuse a model whose logits are not its output layer's, but scaled or capped: `sampled_logprobs` would be wrong.

    Raises:
        UsageError: It is such a model.
    """
    was_training, ids_BT = model.training, torch.tensor([[0, 1]], device=next(model.parameters()).device)
    model.eval()
    with torch.no_grad():
        hidden_BTH = model.get_decoder()(input_ids=ids_BT, use_cache=False).last_hidden_state
        own_BTV, logits_BTV = model.get_output_embeddings()(hidden_BTH), model(input_ids=ids_BT, use_cache=False).logits
    model.train(was_training)
    if not torch.allclose(own_BTV.float(), logits_BTV.float(), rtol=1e-2, atol=1e-2):
        raise UsageError(
            f"{type(model).__name__} scales or caps its logits behind the output layer, which cannot be trained here; "
            "expected a model that does not, such as those of Llama and Qwen"
        )


def _hidden(model: nn.Module, ids_BT: torch.Tensor, predicts_BT: torch.Tensor) -> torch.Tensor:
    """Return the last hidden states of the positions that predict a sampled token, (N, H)."""
    decoder = model.get_decoder()
    length = _common_length(ids_BT, predicts_BT) if _may_share(model, ids_BT) else 0
    if length < SHORTEST_SHARED:
        return decoder(input_ids=ids_BT, use_cache=False).last_hidden_state[predicts_BT]
    cache = DynamicCache()
    decoder(input_ids=ids_BT[:1, :length], past_key_values=cache, use_cache=True)
    for layer in cache.layers:
        layer.keys = layer.keys.expand(len(ids_BT), -1, -1, -1)
        layer.values = layer.values.expand(len(ids_BT), -1, -1, -1)
    states_BTH = decoder(input_ids=ids_BT[:, length:], past_key_values=cache, use_cache=True).last_hidden_state
    return states_BTH[predicts_BT[:, length:]]


def _common_length(ids_BT: torch.Tensor, predicts_BT: torch.Tensor) -> int:
    """Return how many tokens all rows begin with, before the first whose state is asked for."""
    is_own_T = (ids_BT != ids_BT[:1]).any(dim=0) | predicts_BT.any(dim=0)
    return int(is_own_T.int().argmax()) if bool(is_own_T.any()) else 0


def _may_share(model: nn.Module, ids_BT: torch.Tensor) -> bool:
    """Whether a beginning may be forwarded apart from the rest.

    Not by checkpointed layers, which keep no attention state. Not where weights are shared out (FSDP2, ZeRO-3) and
    every process has to forward as often as the others. Not in double precision, which is for comparing runs: norms
    round to single precision inside, so that gradients summed before and after one differ, and which are depends on
    the batch.
    """
    parameter = next(model.parameters())
    is_checkpointed = any(getattr(module, "gradient_checkpointing", False) for module in model.modules())
    kinds = set(getattr(model.config.get_text_config(), "layer_types", None) or ())
    is_sharded = isinstance(parameter, DTensor) or hasattr(parameter, "ds_id")
    is_plain = kinds == {"full_attention"} and not is_checkpointed and not is_sharded
    return len(ids_BT) > 1 and is_plain and parameter.dtype != torch.float64


def _score(
    head: nn.Module, hidden_NH: torch.Tensor, ids_N: torch.Tensor, temperature: float
) -> tuple[torch.Tensor, torch.Tensor]:
    logits_NV = head(hidden_NH)
    logits_NV = logits_NV.to(torch.promote_types(logits_NV.dtype, torch.float32)) / temperature
    logprobs_NV = torch.log_softmax(logits_NV, dim=-1)
    del logits_NV  # or it would outlive its use by two more tensors of its size
    logprobs_N = logprobs_NV.gather(1, ids_N[:, None])[:, 0]
    with torch.no_grad():  # last, as a second computation ends once the gradient has what it needs
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


def reference_kl(logprobs_N: torch.Tensor, reference_logprobs_N: torch.Tensor) -> torch.Tensor:
    """Return how far the policy has gone from its reference at each token: ``exp(d) - d - 1``, ``d = ref - policy``.

    Its expectation is KL(policy || reference), and it is never negative. Source: the estimator k3 as GRPO has it
    (arXiv 2402.03300), tag ``paper`` of that paper; AWPO's objective has no such term.

    Args:
        logprobs_N: Under the policy being trained.
        reference_logprobs_N: Under the model that the run started from.
    """
    gap_N = reference_logprobs_N - logprobs_N
    return torch.expm1(gap_N) - gap_N
