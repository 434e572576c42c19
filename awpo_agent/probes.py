"""What the gradient of a batch is made of: its noise, and whether outcome and judge pull the same way."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch


def gradient_probe(
    parameters: Sequence[torch.Tensor],
    logprob: Callable[[int, int], torch.Tensor],
    advantages_PG: torch.Tensor,
    reasoning_part_PG: torch.Tensor,
    trains_PG: torch.Tensor,
) -> dict[str, float]:
    """Return the terms of the AWPO paper's bound, estimated on one batch; what cannot be estimated is left out.

    With ``Z`` the gradient of an episode's log-probability, ``g = mean A Z``, ``|g|^2`` and the noise ``tr(Sigma)`` are
    estimated without bias, taking whole groups as the independent samples (members share their prompt and baseline):

    * ``probe/grad_cosine``: between the outcome's ``mean A_o Z`` and the judge's ``mean A_r Z``, in [-1, 1];
    * ``probe/noise_scale``: ``tr(Sigma) / |g|^2`` in episodes (McCandlish et al., arXiv 1812.06162): batches much
      smaller than this are mostly noise;
    * ``probe/alignment`` and the same of either part: ``|g|^2 / (E|Z|^2 E[A^2])``, the paper's ``rho^2`` with the
      Fisher matrix left out; at most 1 in expectation, below 0 by chance where it is small.

    Tag: the quantities are ``paper``, leaving out the Fisher matrix and the estimators are ``ours``. Costs a backward
    pass for each training episode, and memory for half a dozen gradients.

    Args:
        parameters: What gradients are taken of.
        logprob: (group, member) -> the sum of log-probabilities of the episode's sampled tokens.
        advantages_PG: As of `Advantages`.
        reasoning_part_PG: As of `Advantages`.
        trains_PG: As of `Advantages`; other episodes are not looked at.
    """
    parts_2PG = torch.stack([advantages_PG - reasoning_part_PG, reasoning_part_PG])
    groups = [group for group in range(len(trains_PG)) if trains_PG[group].any()]
    sums, squares, score_square, num_episodes = 0.0, 0.0, 0.0, 0
    for group in groups:
        mean = 0.0
        members = trains_PG[group].nonzero().flatten().tolist()
        for member in members:
            score = _flat_gradient(logprob(group, member), parameters)
            score_square += float(score.square().sum())
            mean = mean + parts_2PG[:, group, member, None].to(score) * score / len(members)
        squares = squares + _lengths(mean)
        sums = sums + mean
        num_episodes += len(members)
    if len(groups) < 2 or score_square == 0.0:
        return {}
    # |sum|^2 less its diagonal: the products of different groups, whose expectation is |g|^2.
    signals = (_lengths(sums) - squares) / (len(groups) * (len(groups) - 1))
    variances = [float(part[trains_PG].square().mean()) for part in (advantages_PG, *parts_2PG)]
    names = ("probe/alignment", "probe/alignment_outcome", "probe/alignment_reasoning")
    metrics = {
        name: float(signal) / (score_square / num_episodes * variance)
        for name, signal, variance in zip(names, signals, variances, strict=True)
        if variance > 0
    }
    if signals[0] > 0:
        noise = (squares[0] - _lengths(sums)[0] / len(groups)) / (len(groups) - 1)
        metrics["probe/noise_scale"] = float(noise / signals[0]) * num_episodes / len(groups)
    if min(lengths := _lengths(sums)[1:].sqrt()) > 0:
        metrics["probe/grad_cosine"] = float(sums[0] @ sums[1] / lengths.prod())
    return metrics


def _flat_gradient(value: torch.Tensor, parameters: Sequence[torch.Tensor]) -> torch.Tensor:
    # Not backward(): it would add to the gradients of the update, and wake up whoever shares them between processes.
    gradients = torch.autograd.grad(value, parameters, materialize_grads=True)
    return torch.cat(
        [gradient.flatten().to(torch.promote_types(gradient.dtype, torch.float32)) for gradient in gradients]
    )


def _lengths(parts_2D: torch.Tensor) -> torch.Tensor:
    """Squared lengths of the whole, the outcome's part and the judge's."""
    return torch.stack([part_D.square().sum() for part_D in (parts_2D.sum(dim=0), *parts_2D)]).cpu()
