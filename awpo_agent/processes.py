"""What `accelerate launch` asks for, checked against what this machine has."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence

import torch
from accelerate import Accelerator, DistributedType, PartialState
from accelerate.utils import is_deepspeed_available, parse_flag_from_env

from awpo_env.errors import UsageError


def join_processes() -> PartialState:
    """Join the processes that were launched together.

    Returns:
        How many there are, and which is this one.

    Raises:
        UsageError: The launcher asks for sharding that cannot be had here; accelerate would go on without it.
    """
    wants_deepspeed = parse_flag_from_env("ACCELERATE_USE_DEEPSPEED")
    if wants_deepspeed and not is_deepspeed_available():
        raise UsageError("the accelerate config asks for DeepSpeed, which is not installed; run: pip install deepspeed")
    num_launched = int(os.environ.get("WORLD_SIZE", "1"))
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    # A Mac's graphics have no double precision, which gradients are summed in. And without the word for it accelerate
    # takes each process on a CPU for a run of its own.
    on_cpu = parse_flag_from_env("ACCELERATE_USE_CPU") or accelerator is None or accelerator.type == "mps"
    state = PartialState(cpu=True) if on_cpu else PartialState()
    if state.num_processes != num_launched:
        raise UsageError(
            f"{num_launched} processes were launched, but accelerate has joined {state.num_processes}; make no "
            "PartialState or Accelerator of your own before the trainer"
        )
    wants_fsdp = parse_flag_from_env("ACCELERATE_USE_FSDP")
    if (wants_deepspeed or wants_fsdp) and state.device.type == "cpu":
        raise UsageError(
            f"the accelerate config asks for {'DeepSpeed' if wants_deepspeed else 'FSDP'}, which shards a model over "
            "accelerators, and this machine has none; launch with examples/accelerate/multi_cpu.yaml here"
        )
    return state


def shares_weights(accelerator: Accelerator) -> bool:
    """Whether the weights are shared out (FSDP, ZeRO-3): no process has a model that can be used as one."""
    deepspeed = accelerator.state.deepspeed_plugin
    return accelerator.distributed_type == DistributedType.FSDP or (deepspeed is not None and deepspeed.zero_stage == 3)


@contextlib.contextmanager
def gathered(weights: Sequence[torch.Tensor]) -> Iterator[None]:
    """Make weights whole that DeepSpeed shares out, in every process at once; others are left as they are."""
    shared = [weight for weight in weights if hasattr(weight, "ds_id")]
    if not shared:
        yield
        return
    from deepspeed.runtime.zero import GatheredParameters

    with GatheredParameters(shared):
        yield
