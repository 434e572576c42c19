"""Optimizer updates from a batch of episodes: micro-batches, global token counts, any number of processes alike."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn
from transformers import get_scheduler

from awpo_agent.advantages import Advantages
from awpo_agent.batching import make_batch, micro_batches
from awpo_agent.config import AWPOConfig
from awpo_agent.losses import clipped_surrogate, sampled_logprobs
from awpo_agent.probes import gradient_probe
from awpo_agent.types import Rollout, TrainBatch


class _Scorer(nn.Module):
    """A model whose forward pass is `sampled_logprobs`; what shares gradients sees forward passes only."""

    def __init__(self, model: nn.Module, temperature: float) -> None:
        super().__init__()
        self.model, self._temperature = model, temperature

    def forward(self, ids_BT: torch.Tensor, is_sampled_BT: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return sampled_logprobs(self.model, ids_BT, is_sampled_BT, self._temperature)


class Learner:
    """Owns the policy's optimizer and schedule, and makes the updates of a training step.

    Args:
        model: The policy, trained in place.
        args: Settings, already checked.
        accelerator: Knows the device and the other processes.
    """

    def __init__(self, model: nn.Module, args: AWPOConfig, accelerator: Accelerator) -> None:
        self._args, self._accelerator = args, accelerator
        for module in model.modules():
            # Sampling and training have to see the same distribution, so nothing may be dropped at random.
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        optimizer = torch.optim.AdamW(model.parameters(), lr=args.learning_rate, weight_decay=args.weight_decay)
        self._scorer, self._optimizer = accelerator.prepare(_Scorer(model, args.temperature), optimizer)
        self._schedule = get_scheduler(
            args.lr_scheduler_type,
            self._optimizer,
            num_warmup_steps=args.warmup_steps,
            num_training_steps=args.max_steps * args.num_iterations * args.steps_per_generation,
        )

    @property
    def policy(self) -> nn.Module:
        """The model without what accelerate wraps around it."""
        return self._accelerator.unwrap_model(self._scorer).model

    @property
    def learning_rate(self) -> float:
        """Of the next update."""
        return self._schedule.get_last_lr()[0]

    def state_dict(self) -> dict[str, Any]:
        """Return the optimizer and the schedule, without the weights."""
        return {"optimizer": self._optimizer.state_dict(), "schedule": self._schedule.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to `state_dict`."""
        self._optimizer.load_state_dict(state["optimizer"])
        self._schedule.load_state_dict(state["schedule"])

    def probe(self, rollouts: Sequence[Rollout], advantages: Advantages) -> dict[str, float]:
        """Return `gradient_probe` of this process's groups, to be called before `update`; nothing changes by it.

        Args:
            rollouts: This process's whole groups.
            advantages: Of all processes' groups.
        """
        own = self._own_groups(rollouts)
        size, trains_PG = self._args.num_generations, advantages.trains_PG[own]
        batch = make_batch(rollouts, torch.zeros(len(rollouts)), trains_PG.flatten())

        def logprob(group: int, member: int) -> torch.Tensor:
            episode = batch.rows(torch.tensor([group * size + member]))
            device = self._accelerator.device
            ids_BT, is_sampled_BT = episode.ids_BT.to(device), episode.is_sampled_BT.to(device)
            return sampled_logprobs(self.policy, ids_BT, is_sampled_BT, self._args.temperature)[0].sum()

        parameters = [parameter for parameter in self.policy.parameters() if parameter.requires_grad]
        parts = advantages.advantages_PG[own], advantages.reasoning_part_PG[own]
        return gradient_probe(parameters, logprob, *parts, trains_PG)

    def update(self, rollouts: Sequence[Rollout], advantages: Advantages, step: int) -> dict[str, float]:
        """Make all updates of a step and return their metrics over all processes.

        Args:
            rollouts: This process's whole groups.
            advantages: Of all processes' groups.
            step: Decides, with the seed, which groups share an update.
        """
        updates = self._args.num_iterations * self._args.steps_per_generation
        own = self._own_groups(rollouts)
        batch = make_batch(
            rollouts, advantages.advantages_PG[own].flatten().float(), advantages.trains_PG[own].flatten()
        )
        sums: Counter[str] = Counter()
        for iteration in range(self._args.num_iterations):
            for rows in self._rows_of_updates(step, iteration, own.start, len(rollouts)):
                self._optimize(rollouts, batch, rows, advantages.clip_epsilon, sums)
        grad_norm = sums.pop("grad_norm", 0.0) / updates
        loss = self._total(sums.pop("loss", 0.0)) / updates
        num_tokens = max(self._total(sums.pop("tokens", 0.0)), 1.0)
        means = {
            name: self._total(sums[name]) / num_tokens for name in ("clip_ratio", "approx_kl", "logprob_gap", "entropy")
        }
        return {"loss": loss, "grad_norm": grad_norm, **means}

    def _own_groups(self, rollouts: Sequence[Rollout]) -> slice:
        """Which groups of all processes' are this process's."""
        num_groups = len(rollouts) // self._args.num_generations
        return slice(num_groups * self._accelerator.process_index, num_groups * (self._accelerator.process_index + 1))

    def _rows_of_updates(self, step: int, iteration: int, first_group: int, num_rows: int) -> Iterator[list[int]]:
        """Yield the rows of this process for each update; groups are dealt out over the batch of all processes."""
        size = self._args.num_generations
        order = np.random.default_rng([self._args.seed, step, iteration]).permutation(self._args.num_prompts)
        own = range(first_group, first_group + num_rows // size)
        for groups in np.split(order, self._args.steps_per_generation):
            yield [(group - first_group) * size + member for group in groups if group in own for member in range(size)]

    def _optimize(
        self,
        rollouts: Sequence[Rollout],
        batch: TrainBatch,
        rows: Sequence[int],
        epsilon: float,
        sums: Counter[str],
    ) -> None:
        """One update, in micro-batches; sequences without advantage are counted but not computed."""
        num_tokens = self._total(float(batch.is_sampled_BT[rows].sum()))
        if num_tokens == 0:
            return
        has_signal = [row for row in rows if batch.advantages_B[row] != 0]
        parts = micro_batches(rollouts, has_signal, self._args.per_device_train_batch_size)
        # Every process runs the same number of backward passes, or those that still wait for gradients hang.
        num_parts = int(self._largest(len(parts)))
        for number in range(num_parts):
            is_last = number == num_parts - 1
            rows_of_part = parts[number] if number < len(parts) else torch.tensor([0])
            with contextlib.nullcontext() if is_last else self._accelerator.no_sync(self._scorer):
                self._backward(batch.rows(rows_of_part), number < len(parts), num_tokens, epsilon, sums)
        sums["grad_norm"] += float(
            self._accelerator.clip_grad_norm_(self._scorer.parameters(), self._args.max_grad_norm)
        )
        self._optimizer.step()
        self._schedule.step()
        self._optimizer.zero_grad(set_to_none=True)

    def _backward(self, batch: TrainBatch, counts: bool, num_tokens: float, epsilon: float, sums: Counter[str]) -> None:
        device = self._accelerator.device
        ids_BT, is_sampled_BT = batch.ids_BT.to(device), batch.is_sampled_BT.to(device)
        logprobs_N, entropy_N = self._scorer(ids_BT, is_sampled_BT)
        old_logprobs_N = batch.old_logprobs_BT.to(device)[is_sampled_BT]
        advantages_N = batch.advantages_B.to(device)[:, None].expand_as(is_sampled_BT)[is_sampled_BT]
        loss, parts = clipped_surrogate(logprobs_N, old_logprobs_N, advantages_N, num_tokens, epsilon)
        # Gradients are averaged over processes, so each scales its share of the sum up again.
        self._accelerator.backward(loss * self._accelerator.num_processes if counts else loss * 0.0)
        if counts:
            parts = {**parts, "loss": loss.detach(), "entropy": entropy_N.sum(), "tokens": len(logprobs_N)}
            sums.update({name: float(value) for name, value in parts.items()})

    def _total(self, value: float) -> float:
        return float(
            self._accelerator.reduce(torch.tensor(value, dtype=torch.float64, device=self._accelerator.device))
        )

    def _largest(self, value: int) -> float:
        return float(self._accelerator.gather(torch.tensor([value], device=self._accelerator.device)).max())
