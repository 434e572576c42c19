"""The training loop: it orders the calls, everything else happens elsewhere."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import gymnasium
import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object, set_seed
from torch import nn
from transformers import PreTrainedTokenizerBase, get_scheduler

from awpo_agent.advantages import ESTIMATORS, Advantages, Estimator
from awpo_agent.arguments import to_yaml
from awpo_agent.batching import make_batch, micro_batches
from awpo_agent.chat import ChatTokens
from awpo_agent.checkpoint import load_training_state, newest_checkpoint, prune, save_checkpoint
from awpo_agent.config import AWPOConfig
from awpo_agent.engines.base import Engine
from awpo_agent.engines.hf import TransformersEngine
from awpo_agent.losses import clipped_surrogate, sampled_logprobs
from awpo_agent.metrics import advantage_metrics, episode_record, reward_tensors, rollout_metrics
from awpo_agent.rollout import EnvironmentPool, EpisodeKey, RolloutLimits, collect
from awpo_agent.tracking import RunRecorder
from awpo_agent.types import Rollout, TrainBatch
from awpo_env.judges.base import Judge

_LAST_TASK_SEED = 2**31 - 1


class Callback(Protocol):
    """Called on the main process after every step."""

    def __call__(self, step: int, metrics: Mapping[str, float]) -> None: ...


class _Scorer(nn.Module):
    """A model whose forward pass is `sampled_logprobs`: what wraps modules to share gradients sees only forward passes."""

    def __init__(self, model: nn.Module, temperature: float) -> None:
        super().__init__()
        self.model, self._temperature = model, temperature

    def forward(self, ids_BT: torch.Tensor, is_sampled_BT: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return sampled_logprobs(self.model, ids_BT, is_sampled_BT, self._temperature)


class AWPOTrainer:
    """Trains a causal language model on tool-use environments.

    Args:
        model: The policy, a Hugging Face causal language model; it is trained in place.
        args: Settings; checked here against the number of processes.
        environments: Makes one environment; as many are made as episodes run at the same time.
        judge: Scores the reasoning of each episode, or None.
        engine: Where sampled tokens come from; by default the model itself.
        processing_class: The tokenizer, with a chat template.
        callbacks: Called with (step, metrics) on the main process.
        estimator: Replaces the one `args` names; any function with the signature of `Estimator`.
        on_episode: Called as each episode ends, for progress bars.

    Raises:
        UsageError: The settings are impossible, all problems in one message.
    """

    def __init__(
        self,
        model: nn.Module,
        args: AWPOConfig,
        environments: Callable[[], gymnasium.Env[dict[str, Any], str]],
        *,
        processing_class: PreTrainedTokenizerBase,
        judge: Judge | None = None,
        engine: Engine | None = None,
        callbacks: Sequence[Callback] = (),
        estimator: Estimator | None = None,
        on_episode: Callable[[Rollout], None] | None = None,
    ) -> None:
        self.accelerator = Accelerator(log_with=args.report_to or None, project_dir=args.output_dir)
        args.check(self.accelerator.num_processes)
        set_seed(args.seed)
        self.args = args
        self.chat = ChatTokens(processing_class, args.template_options)
        self.environments = EnvironmentPool(environments)
        self.judge = judge
        self.estimator = estimator or _named_estimator(args)
        self._callbacks, self._on_episode = callbacks, on_episode
        for module in model.modules():
            # Sampling and training have to see the same distribution, so nothing may be dropped at random.
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        optimizer = torch.optim.AdamW(model.parameters(), lr=args.learning_rate, weight_decay=args.weight_decay)
        self.model, self.optimizer = self.accelerator.prepare(_Scorer(model, args.temperature), optimizer)
        self.scheduler = get_scheduler(
            args.lr_scheduler_type,
            self.optimizer,
            num_warmup_steps=args.warmup_steps,
            num_training_steps=args.max_steps * args.num_iterations * args.steps_per_generation,
        )
        self.engine = engine or TransformersEngine(
            self.policy, max_rows=args.generation_batch_size, max_length=args.max_length
        )
        self.step = 0
        self._should_stop = False

    @property
    def policy(self) -> nn.Module:
        """The model without what accelerate wraps around it."""
        return self.accelerator.unwrap_model(self.model).model

    @property
    def folder(self) -> Path:
        """The run folder."""
        return Path(self.args.output_dir)

    def train(self) -> None:
        """Train to `args.max_steps`, writing records and checkpoints; SIGTERM ends the run after the current step."""
        self._resume()
        is_main = self.accelerator.is_main_process
        recorder = RunRecorder(self.folder, self.step) if is_main else None
        if is_main:
            (self.folder / "config.yaml").write_text(to_yaml(self.args), encoding="utf-8")
        if self.args.report_to:
            self.accelerator.init_trackers("awpo", config={"config": to_yaml(self.args)})
        with _sigterm(self._ask_to_stop), contextlib.closing(self.environments):
            while self.step < self.args.max_steps and not self._stops():
                self._train_step(recorder)
                if self.args.save_steps and self.step % self.args.save_steps == 0:
                    self.save()
        self.save()
        if recorder is not None:
            recorder.close()
        if self.args.report_to:
            self.accelerator.end_training()

    def save(self) -> Path:
        """Write ``checkpoints/checkpoint-<step>``, a Hugging Face folder plus the training state; whole or not at all."""
        folder = self.folder / "checkpoints" / f"checkpoint-{self.step}"
        if self.accelerator.is_main_process and not folder.exists():
            save_checkpoint(folder, self.policy, self.chat.tokenizer, self._training_state())
            prune(folder.parent, self.args.save_total_limit)
        self.accelerator.wait_for_everyone()
        return folder

    def _train_step(self, recorder: RunRecorder | None) -> None:
        started = time.perf_counter()
        rollouts = self._collect()
        collected = time.perf_counter()
        advantages, all_rollouts = self._estimate(rollouts)
        metrics = self._update(rollouts, advantages)
        self.step += 1
        if recorder is not None:
            size = self.args.num_generations
            metrics |= {
                "step": self.step - 1,
                **rollout_metrics(all_rollouts, size),
                **advantage_metrics(advantages),
                "learning_rate": self.scheduler.get_last_lr()[0],
                "rollout_time": collected - started,
                "step_time": time.perf_counter() - started,
            }
            episodes = (
                episode_record(rollout, self.step - 1, number // size, advantages, number % size)
                for number, rollout in enumerate(all_rollouts)
            )
            recorder.write(metrics, episodes)
            self.accelerator.log(metrics, step=self.step)
            for callback in self._callbacks:
                callback(self.step, metrics)

    def _collect(self) -> list[Rollout]:
        """Play this process's share of whole groups; which process plays a group does not change its episodes."""
        seeds = np.random.default_rng([self.args.seed, self.step]).integers(_LAST_TASK_SEED, size=self.args.num_prompts)
        share = self.args.generation_batch_size // self.accelerator.num_processes
        first = share * self.accelerator.process_index
        keys = [
            EpisodeKey(self.args.seed, self.step, episode, int(seeds[episode // self.args.num_generations]))
            for episode in range(first, first + share)
        ]
        limits = RolloutLimits(self.args.max_length, self.args.max_turn_length, self.args.temperature)
        return collect(self.environments, self.engine, self.chat, keys, limits, self.judge, self._on_episode)

    def _estimate(self, rollouts: list[Rollout]) -> tuple[Advantages, list[Rollout]]:
        """Estimate over the episodes of all processes, so that every process knows the whole batch's clip radius."""
        everyone = gather_object(rollouts) if self.accelerator.num_processes > 1 else rollouts
        rewards = reward_tensors(everyone, self.args.num_generations)
        return self.estimator(**rewards, epsilon=self.args.epsilon), everyone

    def _update(self, rollouts: Sequence[Rollout], advantages: Advantages) -> dict[str, float]:
        first_group = len(rollouts) // self.args.num_generations * self.accelerator.process_index
        own = slice(first_group, first_group + len(rollouts) // self.args.num_generations)
        batch = make_batch(
            rollouts,
            advantages.advantages_PG[own].flatten().float(),
            advantages.trains_PG[own].flatten(),
        )
        sums: dict[str, float] = {}
        for iteration in range(self.args.num_iterations):
            for rows in self._update_rows(iteration, first_group, len(rollouts)):
                self._optimize(rollouts, batch, rows, advantages.clip_epsilon, sums)
        if hasattr(self.engine, "weights_changed"):
            self.engine.weights_changed()
        num_tokens = max(sums.pop("tokens", 0.0), 1.0)
        grad_norm = sums.pop("grad_norm", 0.0) / (self.args.num_iterations * self.args.steps_per_generation)
        return {name: total / num_tokens for name, total in sums.items()} | {"grad_norm": grad_norm}

    def _update_rows(self, iteration: int, first_group: int, num_rows: int) -> Iterator[list[int]]:
        """Yield the rows of this process for each optimizer update; groups are dealt out over the whole batch."""
        size = self.args.num_generations
        order = np.random.default_rng([self.args.seed, self.step, iteration]).permutation(self.args.num_prompts)
        own = range(first_group, first_group + num_rows // size)
        for groups in np.split(order, self.args.steps_per_generation):
            yield [(group - first_group) * size + member for group in groups if group in own for member in range(size)]

    def _optimize(
        self,
        rollouts: Sequence[Rollout],
        batch: TrainBatch,
        rows: Sequence[int],
        epsilon: float,
        sums: dict[str, float],
    ) -> None:
        """One optimizer update, in micro-batches; sequences without advantage are counted but not computed."""
        num_tokens = self._total(float(batch.is_sampled_BT[rows].sum()))
        if num_tokens == 0:
            return
        has_signal = [row for row in rows if batch.advantages_B[row] != 0]
        parts = micro_batches(rollouts, has_signal, self.args.per_device_train_batch_size)
        # Every process runs the same number of backward passes, or those that still wait for gradients hang.
        num_parts = int(self._largest(len(parts)))
        for number in range(num_parts):
            is_last = number == num_parts - 1
            rows_of_part = parts[number] if number < len(parts) else torch.tensor([0])
            with contextlib.nullcontext() if is_last else self.accelerator.no_sync(self.model):
                self._backward(batch.rows(rows_of_part), number < len(parts), num_tokens, epsilon, sums)
        sums["grad_norm"] = sums.get("grad_norm", 0.0) + float(
            self.accelerator.clip_grad_norm_(self.model.parameters(), self.args.max_grad_norm)
        )
        self.optimizer.step()
        self.scheduler.step()
        self.optimizer.zero_grad(set_to_none=True)

    def _backward(
        self, batch: TrainBatch, counts: bool, num_tokens: float, epsilon: float, sums: dict[str, float]
    ) -> None:
        device = self.accelerator.device
        ids_BT, is_sampled_BT = batch.ids_BT.to(device), batch.is_sampled_BT.to(device)
        logprobs_N, entropy_N = self.model(ids_BT, is_sampled_BT)
        old_logprobs_N = batch.old_logprobs_BT.to(device)[is_sampled_BT]
        advantages_N = batch.advantages_B.to(device)[:, None].expand_as(is_sampled_BT)[is_sampled_BT]
        loss, parts = clipped_surrogate(logprobs_N, old_logprobs_N, advantages_N, num_tokens, epsilon)
        # Gradients are averaged over processes, so each scales its share of the sum up again.
        self.accelerator.backward(loss * self.accelerator.num_processes if counts else loss * 0.0)
        if counts:
            for name, value in {**parts, "entropy": entropy_N.sum(), "tokens": len(logprobs_N)}.items():
                sums[name] = sums.get(name, 0.0) + float(value)
            sums["loss"] = sums.get("loss", 0.0) + loss.item() * len(logprobs_N)

    def _total(self, value: float) -> float:
        return float(self.accelerator.reduce(torch.tensor(value, dtype=torch.float64, device=self.accelerator.device)))

    def _largest(self, value: int) -> float:
        return float(self.accelerator.gather(torch.tensor([value], device=self.accelerator.device)).max())

    def _training_state(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
        }

    def _resume(self) -> None:
        wanted = self.args.resume_from_checkpoint
        if wanted is None:
            return
        folder = newest_checkpoint(self.folder / "checkpoints") if wanted == "last" else Path(wanted)
        state = load_training_state(folder, self.policy)
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        self.step = state["step"]
        if hasattr(self.engine, "weights_changed"):
            self.engine.weights_changed()

    def _ask_to_stop(self) -> None:
        self._should_stop = True

    def _stops(self) -> bool:
        """Whether any process was asked to stop; all have to leave the loop after the same step."""
        return self._largest(int(self._should_stop)) > 0 if self.accelerator.num_processes > 1 else self._should_stop


def _named_estimator(args: AWPOConfig) -> Estimator:
    estimator = ESTIMATORS[args.advantage_estimator]
    if args.advantage_estimator != "awpo":
        return estimator

    def awpo_with_switches(*tensors: torch.Tensor, **arguments: Any) -> Advantages:
        return estimator(*tensors, **arguments, switches=args.switches)

    return awpo_with_switches


@contextlib.contextmanager
def _sigterm(stop: Callable[[], None]) -> Iterator[None]:
    try:
        before = signal.signal(signal.SIGTERM, lambda number, frame: stop())
    except ValueError:  # not in the main thread, where signals cannot be had
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
