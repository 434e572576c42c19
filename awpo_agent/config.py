"""Settings of a training run: one dataclass, documented on the field, checked as a whole."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from awpo_agent.advantages import CHOICES, ESTIMATORS, HEARS_JUDGE, NOT_NEGATIVE, POSITIVE, AWPOSwitches, Stage
from awpo_agent.engines.factory import engine_problems
from awpo_agent.importance import IMPORTANCE_MODES
from awpo_env.errors import UsageError, did_you_mean

_SWITCHES = AWPOSwitches()
_SCHEDULES = (
    "constant",
    "constant_with_warmup",
    "linear",
    "cosine",
    "cosine_with_restarts",
    "polynomial",
    "inverse_sqrt",
)
_STAGE_METRICS = (
    "reward",
    "success_rate",
    "frac_reward_zero_std",
    "judge/mean",
    "judge/missing_rate",
    "judge/outcome_correlation",
    "awpo/frac_with_signal",
    "awpo/frac_judge_alone",
    "awpo/gate_mean",
)


@dataclass(frozen=True)
class AWPOConfig:
    """Settings of a training run. Names are those of TRL's GRPOConfig where the meaning is the same.

    Attributes:
        model: A Hugging Face checkpoint folder or name; ``base`` is the model that ships with this package.
        env: Environment to train in: a Gymnasium id, or a suite such as ``./my_suite``.
        env_kwargs: Passed to `gymnasium.make` (``preset``, ``outcome``, ``limits``, ...).
        output_dir: The run folder: config.yaml, metrics.jsonl, episodes.jsonl, checkpoints.
        seed: Draws tasks and sampling noise; equal seeds give equal runs.
        template_options: Passed to the chat template (``enable_thinking: false``, say).
        num_generations: Rollouts per task, G; at least 2.
        generation_batch_size: Episodes per step over all processes, P * G.
        max_length: Most tokens of a conversation; the episode is cut off there.
        max_turn_length: Most tokens of one assistant message.
        temperature: Sampling temperature, greater than 0; the loss divides logits by it too.
        engine: ``transformers`` samples from the model in training, ``vllm`` with vLLM (docs/vllm.md).
        vllm_mode: ``colocate``: in the trainer's own processes; ``server``: in those of ``vllm serve``.
        vllm_server_urls: Where servers listen, ``http://host:port``; each process takes its share.
        vllm_server_logs: Files the servers' outputs go to, in the same order; their ends are quoted in errors.
        vllm_server_timeout: Seconds to wait for a server when none is there.
        vllm_request_timeout: Seconds that one assistant message, or one push of weights, may take a server.
        vllm_gpu_memory_utilization: Share of a GPU's memory that vLLM takes under ``colocate``.
        max_steps: Training steps; each plays one batch of episodes.
        learning_rate: Peak of the schedule.
        lr_scheduler_type: A schedule of transformers (``constant_with_warmup``, ``cosine``, ``linear``, ...).
        warmup_steps: Optimizer steps of the warm-up.
        weight_decay: AdamW's.
        max_grad_norm: Gradients are scaled down to this norm.
        per_device_train_batch_size: Sequences per forward and backward pass on one device; does not change the update.
        per_device_train_tokens: Most tokens of such a pass, padding included; 0 sets no limit. A longer sequence goes
            alone.
        bf16: Forward passes in bfloat16; weights and optimizer stay as they were loaded.
        gradient_checkpointing: Compute activations again in the backward pass instead of keeping them.
        lora_r: Rank of LoRA adapters, which are then all that is trained (needs ``pip install awpo[peft]``); 0 trains
            the whole model.
        lora_alpha: Adapters are scaled by ``lora_alpha / lora_r``.
        lora_target_modules: Modules that get adapters; by default all linear ones but the output layer.
        num_iterations: Passes over each batch of episodes.
        steps_per_generation: Optimizer updates per pass; a batch is split by whole groups.
        epsilon: Clip radius of the probability ratio.
        beta: Weight of the KL term that holds the policy by the model it started from; 0 leaves it out, as AWPO does.
            Costs a copy of the model, or nothing under LoRA, and a forward pass more.
        importance_sampling_mode: How a batch is corrected for an engine whose probabilities are not quite the model's:
            ``token_truncate``, ``token_mask``, ``sequence_truncate``, ``sequence_mask``, or ``none`` to take them as
            they are. The transformers engine samples from the model itself; there nothing is corrected.
        importance_sampling_clip_max: Ratios above are cut to it, or masked.
        advantage_estimator: ``awpo``, ``grpo``, ``dr_grpo``, ``rloo``, ``gdpo``, ``mixed`` or ``papo``.
        awpo_gate: ``std_ratio_mix``, ``std_ratio_reason``, ``hard`` or ``none``.
        awpo_coefficient: Size of the reasoning reward beside an outcome on [0, 1]; also for gdpo, mixed and papo.
        awpo_outcome_weight: What outcomes are multiplied by, 0 or more; also for gdpo, mixed and papo.
        awpo_reasoning_floor: Judge scores of a group that spread less say nothing.
        awpo_reasoning_scale: ``group_std``, or ``fixed``: small disagreements of the judge stay small pushes.
        awpo_reasoning_unit: Judge points that make an advantage of 1 under ``fixed``.
        awpo_all_right: ``reason``, ``outcome_only`` or ``skip`` for groups whose outcomes are all the best attainable.
        awpo_all_wrong: The same for groups whose outcomes are all the least attainable, or ``blame``: the judge holds
            back who fell shorter of the others and of the task's own solution, and encourages none.
        awpo_judge_check: When the judge is heard in these: ``reference``, if it puts no episode of the group above the
            task's own solution, which is then judged too; or ``none``, always.
        awpo_difficulty: ``interval``, ``smooth`` or ``none``.
        awpo_difficulty_low: Lower end of medium difficulty, a mean outcome on [0, 1].
        awpo_difficulty_high: Upper end of medium difficulty.
        awpo_difficulty_boost: Weight of groups of medium difficulty.
        awpo_clip: ``tighten``, ``fixed`` or ``widen``.
        awpo_clip_strength: How far the clip radius follows the reliance on reasoning.
        awpo_stages: Stages of reward integration, in order: each begins at ``from_step``, or once ``metric`` is
            ``at_least`` or ``at_most`` so much, and sets ``outcome_weight``, ``coefficient`` or ``gate`` from then on.
        awpo_probe_steps: Gradient noise and the angle between outcome and judge every so many steps, of the groups of
            the first process, which takes two of them; 0 is never.
        judge: ``rubric`` (deterministic, offline), ``none``, or the YAML file of a judge model (docs/judges.md).
        judge_failure: An episode without a judge score trains on its outcome alone (``outcome_only``), not at all
            (``mask``), or ends the run (``raise``).
        judge_sees_reference: Whether the judge may look at the task's reference solution. It never sees the outcome.
        tool_concurrency: Most episodes of a process that wait for slow tools at the same time; their time limits and
            isolation are `env_kwargs` (``tool_timeout``, ``tool_isolation``).
        logging_steps: A line of the table every so many steps.
        save_steps: A checkpoint every so many steps; 0 saves at the end only.
        save_total_limit: Newest checkpoints kept.
        report_to: Trackers of accelerate (``tensorboard``, ``wandb``, ``trackio``).
        resume_from_checkpoint: A checkpoint folder, or ``last`` for the newest of `output_dir`.
    """

    model: str = "base"
    env: str = "awpo/Retail-v0"
    env_kwargs: dict[str, Any] = field(default_factory=dict)
    output_dir: str = "runs/awpo"
    seed: int = 0
    template_options: dict[str, Any] = field(default_factory=dict)
    num_generations: int = 8
    generation_batch_size: int = 64
    max_length: int = 2048
    max_turn_length: int = 256
    temperature: float = 1.0
    engine: str = "transformers"
    vllm_mode: str = "colocate"
    vllm_server_urls: list[str] = field(default_factory=list)
    vllm_server_logs: list[str] = field(default_factory=list)
    vllm_server_timeout: float = 240.0
    vllm_request_timeout: float = 600.0
    vllm_gpu_memory_utilization: float = 0.3
    max_steps: int = 100
    learning_rate: float = 1e-6
    lr_scheduler_type: str = "constant_with_warmup"
    warmup_steps: int = 0
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    per_device_train_batch_size: int = 8
    per_device_train_tokens: int = 0
    bf16: bool = False
    gradient_checkpointing: bool = False
    lora_r: int = 0
    lora_alpha: int = 32
    lora_target_modules: list[str] = field(default_factory=list)
    num_iterations: int = 1
    steps_per_generation: int = 1
    epsilon: float = 0.2
    beta: float = 0.0
    importance_sampling_mode: str = "token_truncate"
    importance_sampling_clip_max: float = 3.0
    advantage_estimator: str = "awpo"
    awpo_gate: str = _SWITCHES.gate
    awpo_coefficient: float = _SWITCHES.coefficient
    awpo_outcome_weight: float = _SWITCHES.outcome_weight
    awpo_reasoning_floor: float = _SWITCHES.reasoning_floor
    awpo_reasoning_scale: str = _SWITCHES.reasoning_scale
    awpo_reasoning_unit: float = _SWITCHES.reasoning_unit
    awpo_all_right: str = _SWITCHES.all_right
    awpo_all_wrong: str = _SWITCHES.all_wrong
    awpo_judge_check: str = _SWITCHES.judge_check
    awpo_difficulty: str = _SWITCHES.difficulty
    awpo_difficulty_low: float = _SWITCHES.difficulty_low
    awpo_difficulty_high: float = _SWITCHES.difficulty_high
    awpo_difficulty_boost: float = _SWITCHES.difficulty_boost
    awpo_clip: str = _SWITCHES.clip
    awpo_clip_strength: float = _SWITCHES.clip_strength
    awpo_stages: list[Stage] = field(default_factory=list)
    awpo_probe_steps: int = 0
    judge: str = "rubric"
    judge_failure: Literal["outcome_only", "mask", "raise"] = "outcome_only"
    judge_sees_reference: bool = True
    tool_concurrency: int = 64
    logging_steps: int = 1
    save_steps: int = 0
    save_total_limit: int = 2
    report_to: list[str] = field(default_factory=list)
    resume_from_checkpoint: str | None = None

    @property
    def num_prompts(self) -> int:
        """Tasks per step, P."""
        return self.generation_batch_size // self.num_generations

    @property
    def switches(self) -> AWPOSwitches:
        """AWPO's parts as the estimator takes them."""
        return AWPOSwitches(**{name: getattr(self, f"awpo_{name}") for name in AWPOSwitches.__slots__})

    @property
    def judges_references(self) -> bool:
        """Whether the judge is shown each task's own solution beside the episodes."""
        gates = {self.awpo_gate, *(stage.gate for stage in self.awpo_stages if stage.gate is not None)}
        hears = self.advantage_estimator == "awpo" and self.judge != "none"
        return hears and any(replace(self.switches, gate=gate).checks_judge for gate in gates)

    def check(self, num_processes: int = 1) -> None:
        """Raise one UsageError that lists every impossible setting and combination.

        Args:
            num_processes: Whole groups are shared out among so many processes.
        """
        problems = [
            *self._wrong_numbers(),
            *self._wrong_names(),
            *self._wrong_parts(),
            *self._wrong_shares(num_processes),
            *engine_problems(self, num_processes),
        ]
        if problems:
            raise UsageError("; ".join(problems))

    def wrong_when_sharded(self, samples_itself: bool) -> list[str]:
        """Return what is impossible where no process has a whole model, one sentence each.

        Args:
            samples_itself: Whether tokens are sampled from the model in training.
        """
        problems = []
        if samples_itself:
            problems.append("weights that are shared out leave no process a model to sample from; set engine to 'vllm'")
        if self.awpo_probe_steps:
            problems.append("awpo_probe_steps needs whole gradients, which are shared out; set it to 0")
        if self.beta and not self.lora_r:
            problems.append("beta needs a copy of the whole model, which sharing is to avoid; set beta to 0, or lora_r")
        return problems

    def _wrong_numbers(self) -> list[str]:
        at_least_one = ("generation_batch_size", "max_length", "max_turn_length", "max_steps", "logging_steps")
        at_least_one += ("per_device_train_batch_size", "num_iterations", "steps_per_generation", "save_total_limit")
        at_least_one += ("tool_concurrency",)
        positive = ("temperature", "learning_rate", "max_grad_norm", "epsilon")
        positive += ("lora_alpha", "importance_sampling_clip_max")
        positive += ("vllm_server_timeout", "vllm_request_timeout", *(f"awpo_{name}" for name in POSITIVE))
        not_negative = ("warmup_steps", "weight_decay", "save_steps", "seed", "beta")
        not_negative += ("awpo_probe_steps", "lora_r", "per_device_train_tokens")
        not_negative += tuple(f"awpo_{name}" for name in NOT_NEGATIVE)
        problems = [
            f"{name} is {getattr(self, name)}, expected at least 1" for name in at_least_one if getattr(self, name) < 1
        ]
        problems += [
            f"{name} is {getattr(self, name)}, expected a finite number above 0"
            for name in positive
            if not 0 < getattr(self, name) < math.inf
        ]
        problems += [
            f"{name} is {getattr(self, name)}, expected a finite number, not negative"
            for name in not_negative
            if not 0 <= getattr(self, name) < math.inf
        ]
        return problems

    def _wrong_names(self) -> list[str]:
        known = {
            "advantage_estimator": ESTIMATORS,
            **{f"awpo_{name}": names for name, names in CHOICES.items()},
            "lr_scheduler_type": _SCHEDULES,
            "importance_sampling_mode": IMPORTANCE_MODES,
        }
        return [
            f"{name} is {value!r}, expected one of {sorted(names)}{did_you_mean(value, names)}"
            for name, names in known.items()
            if (value := getattr(self, name)) not in names
        ]

    def _wrong_parts(self) -> list[str]:
        problems = []
        if not 0.0 <= self.awpo_difficulty_low <= self.awpo_difficulty_high <= 1.0:
            problems.append(
                f"awpo_difficulty_low {self.awpo_difficulty_low} and awpo_difficulty_high {self.awpo_difficulty_high}, "
                "expected 0 <= low <= high <= 1"
            )
        if Path(self.model).is_dir() and Path(self.model).resolve().is_relative_to(Path(self.output_dir).resolve()):
            problems.append(
                f"model {self.model!r} lies in output_dir, where a run sets older checkpoints aside; choose another "
                "output_dir, or resume_from_checkpoint"
            )
        problems += [problem for stage in self.awpo_stages for problem in stage.problems()]
        problems += [
            f"a stage watches {stage.metric!r}, expected one of {sorted(_STAGE_METRICS)}"
            f"{did_you_mean(stage.metric, _STAGE_METRICS)}"
            for stage in self.awpo_stages
            if stage.metric is not None and stage.metric not in _STAGE_METRICS
        ]
        gates = {self.awpo_gate, *(stage.gate for stage in self.awpo_stages)} - {None, "none"}
        if self.judge == "none" and self.advantage_estimator == "awpo" and gates:
            problems.append("awpo_gate needs a judge; set judge to 'rubric', or awpo_gate to 'none'")
        elif self.judge == "none" and self.advantage_estimator in HEARS_JUDGE - {"awpo"}:
            problems.append(f"advantage_estimator {self.advantage_estimator!r} needs a judge; set judge to 'rubric'")
        return problems

    def _wrong_shares(self, num_processes: int) -> list[str]:
        problems = []
        if self.num_generations < 2:
            problems.append(
                f"num_generations is {self.num_generations}, expected at least 2: a group of one has no spread"
            )
            return problems
        groups, rest = divmod(self.generation_batch_size, self.num_generations)
        if rest:
            problems.append(
                f"generation_batch_size {self.generation_batch_size} is not divisible by "
                f"num_generations {self.num_generations}; try {max(groups, 1) * self.num_generations}"
            )
            return problems
        if groups % num_processes:
            problems.append(
                f"{groups} groups (generation_batch_size / num_generations) cannot be shared out among "
                f"{num_processes} processes; choose a multiple of {num_processes * self.num_generations} episodes"
            )
        if self.steps_per_generation > 0 and groups % self.steps_per_generation:
            problems.append(
                f"{groups} groups cannot be split into steps_per_generation = {self.steps_per_generation} equal parts"
            )
        return problems
