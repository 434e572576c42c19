"""Sharding by processes on CPUs, which accelerate has to be talked into: it shards over accelerators alone."""

import copy
import os

from accelerate import PartialState
from accelerate.utils import DistributedType

from awpo_agent import trainer
from awpo_agent.engines.hf import TransformersEngine
from awpo_agent.policy import plain_weights


class ReplicaEngine:
    """Samples from a model of its own that is given the policy's weights, as vLLM is.

    Args:
        model: The policy, before it is shared out.
        max_length: Longest conversation in tokens.
    """

    def __init__(self, model, max_length):
        self._trained, self._own = model, copy.deepcopy(model)
        self._engine = TransformersEngine(self._own, max_rows=64, max_length=max_length)
        self._has_weights = False

    async def generate(self, prompt_ids, sampling):
        assert self._has_weights, "the trainer gives weights to an engine before it asks for tokens"
        return await self._engine.generate(prompt_ids, sampling)

    def weights_changed(self):
        self._own.load_state_dict({name: tensor.clone() for name, tensor in plain_weights(self._trained)})
        self._engine.weights_changed()
        self._has_weights = True


def shard_on_cpu(kind):
    """Let the processes of this launch share out a model: as ``fsdp2``, ``zero2`` and ``zero3`` of examples/ do."""
    PartialState(cpu=True)
    if kind == "fsdp2":
        os.environ |= {
            "ACCELERATE_USE_FSDP": "true",
            "FSDP_VERSION": "2",
            "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
            "FSDP_RESHARD_AFTER_FORWARD": "true",
            "FSDP_CPU_RAM_EFFICIENT_LOADING": "false",
            "FSDP_STATE_DICT_TYPE": "SHARDED_STATE_DICT",
        }
        PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU
    else:
        import deepspeed

        os.environ |= {
            "ACCELERATE_USE_DEEPSPEED": "true",
            "ACCELERATE_DEEPSPEED_ZERO_STAGE": kind.removeprefix("zero"),
            "ACCELERATE_DEEPSPEED_ZERO3_SAVE_16BIT_MODEL": "true",
        }
        del os.environ["ACCELERATE_USE_CPU"]
        deepspeed.init_distributed("gloo")
        PartialState._shared_state["distributed_type"] = DistributedType.DEEPSPEED
    trainer.join_processes = PartialState  # it would refuse, as users are better off with multi_cpu
