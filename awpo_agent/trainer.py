"""The training loop: it orders the calls, everything else happens elsewhere."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import gymnasium
import numpy as np
from accelerate import Accelerator
from accelerate.utils import GradientAccumulationPlugin, gather_object, set_seed
from torch import nn
from transformers import PreTrainedTokenizerBase

from awpo_agent.advantages import ESTIMATORS, Advantages, Estimator, count_begun, staged
from awpo_agent.arguments import to_yaml
from awpo_agent.chat import ChatTokens
from awpo_agent.checkpoint import newest_checkpoint, prune, read_state, save_checkpoint, set_aside, set_aside_newer
from awpo_agent.config import AWPOConfig
from awpo_agent.engines.base import Engine, EngineFailure
from awpo_agent.engines.hf import TransformersEngine
from awpo_agent.interruption import Interruption
from awpo_agent.judging import JudgeBill, JudgeWatch, refuse_missing
from awpo_agent.learner import Learner
from awpo_agent.metrics import advantage_metrics, episode_record, reward_tensors, rollout_metrics
from awpo_agent.processes import join_processes, shares_weights
from awpo_agent.rollout import EnvironmentPool, EpisodeKey, RolloutLimits, collect
from awpo_agent.tracking import RunRecorder
from awpo_agent.types import Rollout
from awpo_env.errors import AwpoError, UsageError
from awpo_env.judges.base import Judge

_LAST_TASK_SEED = 2**31 - 1

T = TypeVar("T")


class Callback(Protocol):
    """Called on the main process after every step."""

    def __call__(self, step: int, metrics: Mapping[str, float]) -> None: ...


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
        join_processes()
        self.accelerator = Accelerator(
            # Said here, or what the launcher's configuration says would hold against the settings.
            mixed_precision="bf16" if args.bf16 else "no",
            gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),
            log_with=args.report_to or None,
            project_dir=args.output_dir,
        )
        args.check(self.accelerator.num_processes)
        set_seed(args.seed)
        self.args = args
        self.chat = ChatTokens(processing_class, args.template_options)
        self.environments = EnvironmentPool(environments)
        self.judge = judge
        self._judge_bill, self._judge_watch = JudgeBill(judge), JudgeWatch()
        if estimator is not None and args.awpo_stages:
            raise UsageError("awpo_stages change the estimator that the settings name; leave them out with your own")
        self._own_estimator = estimator
        self._callbacks, self._on_episode = callbacks, on_episode
        samples_itself = engine is None or isinstance(engine, TransformersEngine)
        if shares_weights(self.accelerator) and (problems := args.wrong_when_sharded(samples_itself)):
            raise UsageError("; ".join(problems))
        self.learner = Learner(model, args, self.accelerator)
        self.engine = engine or TransformersEngine(
            self.policy,
            max_rows=args.generation_batch_size,
            max_length=args.max_length,
            autocast=self.accelerator.autocast,
        )
        self.step = 0
        self._stages_begun = 0
        self._begin_stages({})
        self._saved_step: int | None = None
        self._interruption = Interruption()

    @property
    def policy(self) -> nn.Module:
        """The model without what accelerate wraps around it."""
        return self.learner.policy

    @property
    def folder(self) -> Path:
        """The run folder."""
        return Path(self.args.output_dir)

    def train(self) -> None:
        """Train to `args.max_steps`, writing records and checkpoints.

        SIGTERM ends the run with a checkpoint: a step whose episodes are being played is dropped, one that is being
        learnt from is finished.
        """
        is_main = self.accelerator.is_main_process
        with contextlib.ExitStack() as stack:
            self._interruption = Interruption()
            stack.enter_context(self._interruption.on_sigterm())
            self._resume()
            recorder = stack.enter_context(contextlib.closing(RunRecorder(self.folder, self.step))) if is_main else None
            self._saved_step = self._clear_the_way()
            if is_main:
                (self.folder / "config.yaml").write_text(to_yaml(self.args), encoding="utf-8")
            if self.args.report_to:
                self.accelerator.init_trackers("awpo", config={"config": to_yaml(self.args)})
                for tracker in self.accelerator.trackers:  # `end_training` would part the processes, too
                    stack.callback(tracker.finish)
            stack.enter_context(contextlib.closing(self.environments))
            self._all_or_none(self._renew_weights)
            self._train_steps(recorder)

    def _train_steps(self, recorder: RunRecorder | None) -> None:
        try:
            while self.step < self.args.max_steps and not self._stops():
                self._train_step(recorder)
                if self.args.save_steps and self.step % self.args.save_steps == 0:
                    self.save()
        except AwpoError:  # raised between two updates, so the state is that of a whole step
            self.save()
            raise
        self.save()

    def save(self) -> Path:
        """Write ``checkpoints/checkpoint-<step>``: a Hugging Face folder and the training state, whole or not."""
        folder = self.folder / "checkpoints" / f"checkpoint-{self.step}"
        if self._saved_step != self.step:
            state = {"step": self.step, "stages_begun": self._stages_begun, "optimizer": self.learner.optimizer_kind}
            save_checkpoint(folder, self._write_parts, state)
            if self.accelerator.is_main_process:
                prune(folder.parent, self.args.save_total_limit)
        self._saved_step = self.step
        self.accelerator.wait_for_everyone()
        return folder

    def _write_parts(self, folder: Path) -> None:
        self.learner.save(folder)
        if self.accelerator.is_main_process:
            self.chat.tokenizer.save_pretrained(folder)

    def _train_step(self, recorder: RunRecorder | None) -> None:
        started = time.perf_counter()
        rollouts = self._all_or_none(self._collect)
        collected = time.perf_counter()
        if self._stops():
            return
        advantages, all_rollouts = self._estimate(rollouts)
        size = self.args.num_generations
        figures = {**rollout_metrics(all_rollouts, size), **advantage_metrics(advantages)}
        figures |= self._judge_bill.since_last(self.accelerator.num_processes)
        if self.args.awpo_stages:
            figures["awpo/stage"] = float(self._stages_begun)
        if self._probes(recorder):
            figures |= self.learner.probe(rollouts, advantages)
        # An engine that samples from the very module needs no correction.
        is_own_sample = isinstance(self.engine, TransformersEngine)
        mode = "none" if is_own_sample else self.args.importance_sampling_mode
        metrics = self.learner.update(rollouts, advantages, self.step, mode)
        self.step += 1
        self._begin_stages(figures)
        if recorder is not None:
            self._judge_watch.look(self.step - 1, figures)
            metrics |= {
                "step": self.step - 1,
                **figures,
                "learning_rate": self.learner.learning_rate,
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
        self._all_or_none(self._renew_weights)  # last: a push that fails leaves a whole step behind

    def _all_or_none(self, work: Callable[[], T]) -> T:
        """Do what may fail on one process alone; then all fail, or they would wait for that one for ever."""
        result, failure = None, None
        try:
            result = work()
        except AwpoError as error:
            failure = error
        told = [None if failure is None else str(failure)]
        if self.accelerator.num_processes > 1:
            told = gather_object(told)
        if failure is not None:
            raise failure
        for number, text in enumerate(told):
            if text is not None:
                raise EngineFailure(f"process {number}: {text}")
        return result

    def _probes(self, recorder: RunRecorder | None) -> bool:
        """Whether this process looks at its gradients in this step; one is enough."""
        return recorder is not None and self.args.awpo_probe_steps > 0 and self.step % self.args.awpo_probe_steps == 0

    def _begin_stages(self, figures: Mapping[str, float]) -> None:
        """Begin the stages that are due in the step to come; `figures` are those of the step before."""
        stages = self.args.awpo_stages
        self._stages_begun = count_begun(stages, self._stages_begun, self.step, figures)
        switches = staged(self.args.switches, stages, self._stages_begun)
        named = functools.partial(ESTIMATORS[self.args.advantage_estimator], switches=switches)
        self.estimator: Estimator = self._own_estimator or named

    def _collect(self) -> list[Rollout]:
        """Play this process's share of whole groups; which process plays a group does not change its episodes.

        Returns none if they are broken off, which is asked for on some process then.
        """
        seeds = np.random.default_rng([self.args.seed, self.step]).integers(_LAST_TASK_SEED, size=self.args.num_prompts)
        share = self.args.generation_batch_size // self.accelerator.num_processes
        first = share * self.accelerator.process_index
        keys = [
            EpisodeKey(self.args.seed, self.step, episode, int(seeds[episode // self.args.num_generations]))
            for episode in range(first, first + share)
        ]
        limits = RolloutLimits(self.args.max_length, self.args.max_turn_length, self.args.temperature)
        try:
            return collect(
                *(self.environments, self.engine, self.chat, keys, limits, self.judge),
                on_end=self._on_episode,
                tool_concurrency=self.args.tool_concurrency,
                judges_references=self.args.judges_references,
                interruption=self._interruption,
            )
        except asyncio.CancelledError:
            if not self._interruption.is_asked:
                raise
            return []

    def _estimate(self, rollouts: list[Rollout]) -> tuple[Advantages, list[Rollout]]:
        """Estimate over the episodes of all processes, so that every process knows the whole batch's clip radius."""
        everyone = gather_object(rollouts) if self.accelerator.num_processes > 1 else rollouts
        if self.args.judge_failure == "raise":
            refuse_missing(everyone)
        rewards = reward_tensors(everyone, self.args.num_generations, self.args.judge_failure == "mask")
        return self.estimator(**rewards, epsilon=self.args.epsilon), everyone

    def _resume(self) -> None:
        wanted = self.args.resume_from_checkpoint
        if wanted is None:
            return
        folder = newest_checkpoint(self.folder / "checkpoints") if wanted == "last" else Path(wanted)
        state = read_state(folder)
        if state["optimizer"] != self.learner.optimizer_kind:
            raise UsageError(
                f"the optimizer of {str(folder)!r} was kept {state['optimizer']!r}, this launch keeps it "
                f"{self.learner.optimizer_kind!r}; launch as it was, or start a run "
                f"with model: {folder} in another output_dir"
            )
        self.learner.load(folder)
        self.step = state["step"]
        self._stages_begun = state["stages_begun"]
        self._begin_stages({})

    def _clear_the_way(self) -> int | None:
        """Set checkpoints aside that would pass for this run's, and return of which step there is one."""
        folder, resumes = self.folder / "checkpoints", self.args.resume_from_checkpoint is not None
        has_own = resumes and (folder / f"checkpoint-{self.step}").is_dir()
        if self.accelerator.is_main_process:
            if resumes:
                set_aside_newer(folder, self.step)
            else:
                set_aside(folder)
        self.accelerator.wait_for_everyone()
        return self.step if has_own else None

    def _renew_weights(self) -> None:
        """Give an engine that has weights of its own, or keeps attention state, those of now; all processes at once."""
        if hasattr(self.engine, "weights_changed"):
            self.engine.weights_changed()

    def _stops(self) -> bool:
        """Whether any process was asked to stop; all have to leave the loop after the same step."""
        asked = self._interruption.is_asked
        return any(gather_object([asked])) if self.accelerator.num_processes > 1 else asked
