"""What a run will be, before it is one: what runs where, tokens and arithmetic a step, and memory a device needs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedConfig

from awpo_agent.config import AWPOConfig
from awpo_agent.losses import MOST_LOGITS
from awpo_env.errors import UsageError

Sharding = Literal["none", "optimizer", "weights"]
"""What is divided among processes: nothing (DDP), gradients and optimizer (ZeRO-2), or weights too (FSDP2, ZeRO-3)."""

_SINGLE = 4  # bytes of a number in single precision, in which weights and optimizer are kept
_HALF = 2
_ADAMW_STATES = 2
_LOGIT_TENSORS = 3  # log-probabilities, probabilities, and their product or their gradient
_GIB = 2**30


@dataclass(frozen=True, slots=True)
class ModelShape:
    """The sizes of a model that memory and arithmetic follow from.

    Attributes:
        parameters: All of them, tied ones once.
        trained: Those that are trained: all, or those of LoRA adapters.
        outside: Those outside of the layers: embeddings, output layer, last norm.
        layers: Number of layers.
        hidden: Width of the hidden states.
        intermediate: Width inside of a feed-forward part.
        queries: Width of all query heads.
        keys: Width of all key heads, and of all value heads.
        vocabulary: Number of logits.
    """

    parameters: int
    trained: int
    outside: int
    layers: int
    hidden: int
    intermediate: int
    queries: int
    keys: int
    vocabulary: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run will be.

    Attributes:
        shape: Of the policy.
        places: What runs where, by its name.
        episodes: A step, over all processes.
        tokens: Most tokens of a step's episodes.
        updates: Optimizer updates a step.
        training: Bytes that each device needs in an update, by what they are for; estimates.
        sampling: The same while episodes are played.
        rollout_flops: Most floating-point operations of a step's episodes, over all processes, attention left out.
        update_flops: The same of a step's updates.
    """

    shape: ModelShape
    places: Mapping[str, str]
    episodes: int
    tokens: int
    updates: int
    training: Mapping[str, int]
    sampling: Mapping[str, int]
    rollout_flops: float
    update_flops: float


def measure_model(config: PreTrainedConfig, args: AWPOConfig) -> ModelShape:
    """Return the shape of the policy; its layers are laid out without memory for weights."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    text = config.get_text_config()
    head_width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    parameters = sum(parameter.numel() for parameter in model.parameters())
    inside = sum(p.numel() for name, p in model.named_parameters() if ".layers." in name)
    return ModelShape(
        parameters=parameters,
        trained=_adapter_parameters(model, args) if args.lora_r else parameters,
        outside=parameters - inside,
        layers=text.num_hidden_layers,
        hidden=text.hidden_size,
        intermediate=text.intermediate_size,
        queries=text.num_attention_heads * head_width,
        keys=(getattr(text, "num_key_value_heads", None) or text.num_attention_heads) * head_width,
        vocabulary=text.vocab_size,
    )


def _adapter_parameters(model: nn.Module, args: AWPOConfig) -> int:
    linear = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and module is not model.get_output_embeddings()
    ]
    targets = args.lora_target_modules
    chosen = [module for name, module in linear if not targets or name.rpartition(".")[2] in targets]
    return sum(args.lora_r * (module.in_features + module.out_features) for module in chosen)


def read_sharding(environment: Mapping[str, str] = os.environ) -> Sharding:
    """Return what ``accelerate launch`` was told to divide among processes."""
    if environment.get("ACCELERATE_USE_FSDP", "").lower() == "true":
        return "weights"
    if environment.get("ACCELERATE_USE_DEEPSPEED", "").lower() != "true":
        return "none"
    stage = environment.get("ACCELERATE_DEEPSPEED_ZERO_STAGE", "2")
    return {"0": "none", "3": "weights"}.get(stage, "optimizer")


def make_plan(args: AWPOConfig, shape: ModelShape, num_processes: int = 1, sharding: Sharding = "none") -> Plan:
    """Return the plan of a run; every number of it is an upper bound or an estimate, none is measured.

    Args:
        args: Settings, already checked.
        shape: Of the policy.
        num_processes: As many devices train.
        sharding: What they divide among themselves.
    """
    tokens = args.generation_batch_size * args.max_length
    fixed = _fixed_memory(args, shape, num_processes, sharding)
    kept = {name: size for name, size in fixed.items() if name in ("weights", "optimizer", "reference")}
    # Twice as many operations as weights for each token; the backward pass costs two forward passes, and checkpointed
    # layers and a reference one more each.
    passes = ((4 if args.gradient_checkpointing else 3) + bool(args.beta)) * args.num_iterations
    return Plan(
        shape=shape,
        places=_places(args, shape, num_processes, sharding),
        episodes=args.generation_batch_size,
        tokens=tokens,
        updates=args.num_iterations * args.steps_per_generation,
        training=fixed | _update_memory(args, shape),
        sampling=kept | _rollout_memory(args, shape, num_processes),
        rollout_flops=2.0 * shape.parameters * tokens,
        update_flops=2.0 * shape.parameters * tokens * passes,
    )


def _places(args: AWPOConfig, shape: ModelShape, num_processes: int, sharding: Sharding) -> dict[str, str]:
    share = args.generation_batch_size // num_processes
    divided = {"none": "", "optimizer": ", optimizer divided", "weights": ", weights and optimizer divided"}[sharding]
    processes = f"{num_processes} process{'es' if num_processes > 1 else ''}"
    engine = {
        ("transformers", args.vllm_mode): "in the same, from the model in training",
        ("vllm", "colocate"): f"vLLM in the same, {args.vllm_gpu_memory_utilization:.0%} of each device",
        ("vllm", "server"): f"vLLM at {', '.join(args.vllm_server_urls)}",
    }[args.engine, args.vllm_mode]
    pushed = shape.parameters * (_HALF if args.bf16 else _SINGLE) / _GIB
    push = {"weights": f"{pushed:.1f} GiB in a file after each step, one for each machine, read by its servers"}
    return {
        "training": f"{processes}{divided}",
        "sampling": engine,
        **(push if (args.engine, args.vllm_mode) == ("vllm", "server") else {}),
        "episodes": f"{args.num_prompts} tasks x {args.num_generations}, {share} on each process",
        "judge": "none" if args.judge == "none" else f"{args.judge}, beside the episodes",
    }


def _fixed_memory(args: AWPOConfig, shape: ModelShape, num_processes: int, sharding: Sharding) -> dict[str, int]:
    """What is there as long as the run is, and the gradients."""
    over_weights = num_processes if sharding == "weights" else 1
    over_optimizer = 1 if sharding == "none" else num_processes
    # DeepSpeed rounds weights and gradients, and keeps its share of the weights in single precision by the optimizer.
    is_rounded = sharding == "optimizer" and args.bf16
    size, states = (_HALF, _ADAMW_STATES + 1) if is_rounded else (_SINGLE, _ADAMW_STATES)
    memory = {
        "weights": shape.parameters * size // over_weights,
        "gradients": shape.trained * size // over_optimizer,
        "optimizer": shape.trained * _SINGLE * states // over_optimizer,
    }
    if sharding == "weights":
        # Two layers, as the next is fetched while one is at work, and what lies outside of them all the time.
        at_work = shape.outside + 2 * (shape.parameters - shape.outside) // shape.layers
        memory["gathered weights"] = at_work * (_HALF if args.bf16 else _SINGLE)
    elif args.bf16 and not is_rounded:
        memory["weights in bfloat16"] = shape.trained * _HALF
    if args.beta and not args.lora_r:
        memory["reference"] = shape.parameters * _SINGLE
    return memory


def _update_memory(args: AWPOConfig, shape: ModelShape) -> dict[str, int]:
    """What one micro-batch needs, at its longest."""
    tokens = args.per_device_train_batch_size * args.max_length
    if args.per_device_train_tokens:
        tokens = max(args.max_length, min(tokens, args.per_device_train_tokens))
    size = _HALF if args.bf16 else _SINGLE
    # Residual stream and norms stay in single precision; projections and the feed-forward part follow bf16.
    one_layer = 4 * shape.hidden * _SINGLE + (3 * shape.queries + 4 * shape.keys + 4 * shape.intermediate) * size
    kept = (
        shape.hidden * _SINGLE * shape.layers + one_layer if args.gradient_checkpointing else one_layer * shape.layers
    )
    scored = min(tokens, max(1, MOST_LOGITS // shape.vocabulary))
    return {"activations": kept * tokens, "logits": scored * shape.vocabulary * _SINGLE * _LOGIT_TENSORS}


def _rollout_memory(args: AWPOConfig, shape: ModelShape, num_processes: int) -> dict[str, int]:
    if args.engine != "transformers":
        return {}
    rows = args.generation_batch_size // num_processes
    return {"attention state": 2 * shape.layers * shape.keys * args.max_length * rows * _SINGLE}


def describe(plan: Plan) -> str:
    """Return the plan as text for people."""
    shape, updates = plan.shape, f"{plan.updates} update{'s' if plan.updates > 1 else ''}"
    lines = [
        f"{name:<12}{value}"
        for name, value in {
            "policy": f"{shape.parameters:,} parameters, {shape.trained:,} trained",
            **plan.places,
            "a step": f"{plan.episodes} episodes, at most {plan.tokens:,} tokens, {updates}",
            "arithmetic": f"at most {_tera(plan.rollout_flops)} to sample and {_tera(plan.update_flops)} to learn",
        }.items()
    ]
    for title, parts in (("an update", plan.training), ("sampling", plan.sampling)):
        lines.append(f"memory of {title}, each device: about {sum(parts.values()) / _GIB:.1f} GiB")
        lines += [f"  {name:<22}{size / _GIB:8.2f} GiB" for name, size in parts.items()]
    return "\n".join(lines)


def _tera(flops: float) -> str:
    return f"{flops / 1e12:,.1f} TFLOP"


def plan_of(args: AWPOConfig, config: Any, num_processes: int) -> Plan:
    """Return the plan of a run as it was launched.

    Args:
        args: Settings, already checked.
        config: The model's configuration.
        num_processes: Of the launch.

    Raises:
        UsageError: The settings are impossible with the sharding that was asked for.
    """
    sharding = read_sharding()
    if sharding == "weights" and (problems := args.wrong_when_sharded(args.engine == "transformers")):
        raise UsageError("; ".join(problems))
    return make_plan(args, measure_model(config, args), num_processes, sharding)
