"""Optimizer updates from a batch of episodes: micro-batches, global token counts, any number of processes alike."""

from __future__ import annotations

import contextlib
import dataclasses
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator, DistributedType
from torch import nn
from torch.distributed.fsdp import MixedPrecisionPolicy
from transformers import get_scheduler

from awpo_agent.advantages import Advantages
from awpo_agent.batching import make_batch, micro_batches
from awpo_agent.config import AWPOConfig
from awpo_agent.importance import importance_weights
from awpo_agent.losses import check_output_layer, clipped_surrogate, reference_kl, sampled_logprobs
from awpo_agent.policy import check_written, prepare_policy, read_policy, write_policy
from awpo_agent.probes import gradient_probe
from awpo_agent.processes import shares_weights
from awpo_agent.reference import Reference
from awpo_agent.types import Rollout, TrainBatch

_STATE_FOLDER = "training_state"


class _Scorer(nn.Module):
    """A model whose forward pass is `sampled_logprobs`; what shares gradients sees forward passes only."""

    def __init__(self, model: nn.Module, temperature: float) -> None:
        super().__init__()
        self.model, self._temperature = model, temperature
        self._no_split_modules = getattr(model, "_no_split_modules", None)  # FSDP wraps these one by one

    def forward(self, ids_BT: torch.Tensor, is_sampled_BT: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return sampled_logprobs(self.model, ids_BT, is_sampled_BT, self._temperature)


class Learner:
    """Owns the policy's optimizer and schedule, and makes the updates of a training step.

    Args:
        model: The policy, trained in place.
        args: Settings, already checked.
        accelerator: Knows the device and the other processes.

    Raises:
        UsageError: The model cannot be trained here, see `check_output_layer`.
    """

    def __init__(self, model: nn.Module, args: AWPOConfig, accelerator: Accelerator) -> None:
        self._args, self._accelerator = args, accelerator
        _configure_sharding(accelerator, args)
        check_output_layer(model)
        policy = prepare_policy(model, args)
        self._reference = Reference(policy, args.temperature, accelerator.device) if args.beta else None
        trained = [weight for weight in policy.parameters() if weight.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=args.learning_rate, weight_decay=args.weight_decay)
        self._scorer, self._optimizer = accelerator.prepare(_Scorer(policy, args.temperature), optimizer)
        self._schedule = get_scheduler(
            args.lr_scheduler_type,
            self._optimizer,
            num_warmup_steps=args.warmup_steps,
            num_training_steps=args.max_steps * args.num_iterations * args.steps_per_generation,
        )
        accelerator.register_for_checkpointing(self._schedule)
        if not shares_weights(accelerator):
            # The checkpoint's own folder has the weights; accelerate need not write them a second time.
            accelerator.register_save_state_pre_hook(lambda models, weights, folder: weights.clear())
            accelerator.register_load_state_pre_hook(lambda models, folder: models.clear())

    @property
    def policy(self) -> nn.Module:
        """The model without what accelerate wraps around it."""
        return self._accelerator.unwrap_model(self._scorer).model

    @property
    def learning_rate(self) -> float:
        """Of the next update."""
        return self._schedule.get_last_lr()[0]

    @property
    def optimizer_kind(self) -> str:
        """How the optimizer's state is kept; only a launch that keeps it alike can read it."""
        kind, deepspeed = self._accelerator.distributed_type, self._accelerator.state.deepspeed_plugin
        if deepspeed is not None:
            precision = "bfloat16" if self._args.bf16 else "single precision"
            return f"ZeRO-{deepspeed.zero_stage} in {precision} on {self._accelerator.num_processes} processes"
        return "FSDP" if kind == DistributedType.FSDP else "whole"

    def save(self, folder: Path) -> None:
        """Write weights, optimizer and schedule into an existing folder; every process calls this."""
        weights = self._accelerator.get_state_dict(self._scorer)
        if self._accelerator.is_main_process:
            plain = {name.removeprefix("model."): tensor for name, tensor in weights.items()}
            write_policy(self.policy, folder, plain)
        self._accelerator.save_state(folder / _STATE_FOLDER)

    def load(self, folder: Path) -> None:
        """Go back to what `save` wrote, at the rates of the settings; every process calls this.

        Raises:
            UsageError: The folder is that of another model, or of other adapters.
        """
        check_written(self.policy, folder)
        if not shares_weights(self._accelerator):
            read_policy(self.policy, folder)
        self._accelerator.load_state(folder / _STATE_FOLDER)
        self._follow_settings()

    def _follow_settings(self) -> None:
        """Take the learning rate and weight decay of the settings; the optimizer has come with those of its file."""
        for group in self._optimizer.param_groups:
            group["weight_decay"] = self._args.weight_decay
            group["initial_lr"] = self._args.learning_rate
            group["lr"] = self._args.learning_rate * self._schedule.lr_lambdas[0](self._schedule.last_epoch)
        self._schedule.base_lrs = [group["initial_lr"] for group in self._optimizer.param_groups]
        self._schedule._last_lr = [group["lr"] for group in self._optimizer.param_groups]

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

    def update(
        self, rollouts: Sequence[Rollout], advantages: Advantages, step: int, importance_mode: str = "none"
    ) -> dict[str, float]:
        """Make all updates of a step and return their metrics over all processes.

        Args:
            rollouts: This process's whole groups.
            advantages: Of all processes' groups.
            step: Decides, with the seed, which groups share an update.
            importance_mode: How an engine that is not the policy itself is corrected for, see `importance_weights`.
        """
        updates = self._args.num_iterations * self._args.steps_per_generation
        own = self._own_groups(rollouts)
        batch = make_batch(
            rollouts, advantages.advantages_PG[own].flatten().float(), advantages.trains_PG[own].flatten()
        )
        figures = {}
        if importance_mode != "none":
            batch, figures = self._corrected(rollouts, batch, importance_mode)
        sums: Counter[str] = Counter()
        for iteration in range(self._args.num_iterations):
            for rows in self._rows_of_updates(step, iteration, own.start, len(rollouts)):
                self._optimize(rollouts, batch, rows, advantages.clip_epsilon, sums)
        grad_norm = sums.pop("grad_norm", 0.0) / updates
        loss = self._total(sums.pop("loss", 0.0)) / updates
        num_tokens = self._total(sums.pop("tokens", 0.0))
        # Where no advantage differs from 0 no token was looked at, and its figures do not exist.
        names = ("clip_ratio", "approx_kl", "logprob_gap", "entropy", *(("kl",) if self._reference else ()))
        means = {name: self._total(sums[name]) / num_tokens for name in names if num_tokens}
        return {"loss": loss, "grad_norm": grad_norm, **means, **figures}

    @torch.no_grad()
    def _corrected(
        self, rollouts: Sequence[Rollout], batch: TrainBatch, mode: str
    ) -> tuple[TrainBatch, dict[str, float]]:
        """Take the policy's log-probabilities in place of the engine's, and weigh the tokens by what lies between."""
        logprobs_BT = torch.zeros(batch.old_logprobs_BT.shape, dtype=torch.float64)
        for rows, counts, _ in self._passes(rollouts, range(len(rollouts))):
            part = batch.rows(rows)
            logprobs_N, _ = self._scorer(*self._to_device(part.ids_BT, part.is_sampled_BT))
            if counts:
                part_BT = torch.zeros(part.is_sampled_BT.shape, dtype=torch.float64)
                part_BT[part.is_sampled_BT] = logprobs_N.double().cpu()
                logprobs_BT[rows, : part_BT.shape[1]] = part_BT
        own = batch.is_sampled_BT
        weights_BT = importance_weights(
            logprobs_BT, batch.old_logprobs_BT, own, mode, self._args.importance_sampling_clip_max
        )
        gap_N = (logprobs_BT - batch.old_logprobs_BT)[own].abs()
        num_tokens = max(self._total(len(gap_N)), 1.0)
        figures = {
            "sampling/sampling_logp_difference/mean": self._total(float(gap_N.sum())) / num_tokens,
            "sampling/sampling_logp_difference/max": self._largest(float(gap_N.max()) if len(gap_N) else 0.0),
            "sampling/importance_sampling_ratio/mean": self._total(float(weights_BT[own].sum())) / num_tokens,
        }
        return dataclasses.replace(batch, old_logprobs_BT=logprobs_BT, weights_BT=weights_BT), figures

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
        """One update, in micro-batches; sequences nothing pulls at are counted but not computed."""
        num_tokens = self._total(float(batch.is_sampled_BT[rows].sum()))
        if num_tokens == 0:
            return
        pulled = [row for row in rows if batch.advantages_B[row] != 0 or self._reference]
        is_last = False
        for part, counts, is_last in self._passes(rollouts, pulled):
            self._accelerator.sync_gradients = is_last  # what DeepSpeed goes by
            with contextlib.nullcontext() if is_last else self._accelerator.no_sync(self._scorer):
                self._backward(batch.rows(part), counts, num_tokens, epsilon, sums)
        if is_last:  # where no process had anything to compute DeepSpeed has no norm, or one of long ago
            norm = self._accelerator.clip_grad_norm_(self._scorer.parameters(), self._args.max_grad_norm)
            sums["grad_norm"] += float(norm)
        self._optimizer.step()
        self._schedule.step()
        self._optimizer.zero_grad(set_to_none=True)

    def _backward(self, batch: TrainBatch, counts: bool, num_tokens: float, epsilon: float, sums: Counter[str]) -> None:
        ids_BT, is_sampled_BT, old_logprobs_BT, advantages_B, weights_BT = self._to_device(
            batch.ids_BT, batch.is_sampled_BT, batch.old_logprobs_BT, batch.advantages_B, batch.weights_BT
        )
        logprobs_N, entropy_N = self._scorer(ids_BT, is_sampled_BT)
        old_logprobs_N = old_logprobs_BT[is_sampled_BT]
        # Weights are not negative, so the smaller of two products stays the smaller.
        advantages_N = (advantages_B[:, None] * weights_BT)[is_sampled_BT]
        loss, parts = clipped_surrogate(logprobs_N, old_logprobs_N, advantages_N, num_tokens, epsilon)
        if self._reference is not None:
            with self._accelerator.autocast():
                reference_N = self._reference.logprobs(self._scorer, ids_BT, is_sampled_BT)
            kl_N = reference_kl(logprobs_N, reference_N)
            loss = loss + self._args.beta * kl_N.sum() / num_tokens
            parts = {**parts, "kl": kl_N.detach().sum()}
        # Gradients are averaged over processes, so each scales its share of the sum up again. Where nothing counts a
        # loss that is not finite must not make its 0 no number.
        share = loss * self._accelerator.num_processes if counts else (logprobs_N * 0.0).sum()
        self._accelerator.backward(share)
        if counts:
            parts = {**parts, "loss": loss.detach(), "entropy": entropy_N.sum(), "tokens": len(logprobs_N)}
            sums.update({name: float(value) for name, value in parts.items()})

    def _passes(self, rollouts: Sequence[Rollout], rows: Sequence[int]) -> Iterator[tuple[torch.Tensor, bool, bool]]:
        """Yield rows of micro-batches, whether they count, and whether they are the last, equally often everywhere.

        A process that has run out of rows goes on with one that does not count, or others would wait for it for ever.
        """
        args = self._args
        parts = micro_batches(rollouts, rows, args.per_device_train_batch_size, args.per_device_train_tokens)
        num_parts = int(self._largest(len(parts)))
        for number in range(num_parts):
            counts = number < len(parts)
            yield parts[number] if counts else torch.tensor([0]), counts, number == num_parts - 1

    def _to_device(self, *tensors: torch.Tensor) -> Iterator[torch.Tensor]:
        return (tensor.to(self._accelerator.device) for tensor in tensors)

    def _total(self, value: float) -> float:
        return float(
            self._accelerator.reduce(torch.tensor(value, dtype=torch.float64, device=self._accelerator.device))
        )

    def _largest(self, value: float) -> float:
        return float(self._accelerator.gather(torch.tensor([value], device=self._accelerator.device)).max())


def _configure_sharding(accelerator: Accelerator, args: AWPOConfig) -> None:
    """Say what accelerate leaves open, or decides to the learner's harm."""
    if (deepspeed := accelerator.state.deepspeed_plugin) is not None:
        # Asked of a data loader where there is one, and clipped at 1 whatever is asked for later.
        deepspeed.deepspeed_config["train_micro_batch_size_per_gpu"] = args.per_device_train_batch_size
        deepspeed.deepspeed_config["gradient_clipping"] = args.max_grad_norm
    elif shares_weights(accelerator) and args.bf16:
        # accelerate rounds outputs too, here log-probabilities, of which 8 bits leave steps of 0.03; and the gradients'
        # sums.
        accelerator.state.fsdp_plugin.mixed_precision_policy = MixedPrecisionPolicy(
            param_dtype=torch.bfloat16, reduce_dtype=torch.float32
        )
