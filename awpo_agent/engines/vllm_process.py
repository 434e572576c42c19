"""vLLM inside this process: how one is started, and whose turn it is to compute."""

from __future__ import annotations

import contextlib
import os
import threading
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from transformers import PreTrainedConfig

if TYPE_CHECKING:
    from vllm import LLMEngine

_CPU_BLOCK = 128  # tokens of a block of vLLM's cache on CPUs
_TURN = threading.RLock()


def start_vllm(
    folder: str,
    config: PreTrainedConfig,
    *,
    max_rows: int,
    max_length: int,
    dtype: torch.dtype,
    gpu_memory_utilization: float,
    **arguments: Any,
) -> LLMEngine:
    """Start a vLLM in this process, on its GPU if it has one.

    Args:
        folder: What vLLM reads: a checkpoint folder or a hub name.
        config: The model's configuration.
        max_rows: Most requests that are computed at a time.
        max_length: Longest request and reply together, in tokens.
        dtype: Of the weights.
        gpu_memory_utilization: Share of the GPU's memory for weights and cache, in (0, 1]. On a CPU the cache is as
            large as `max_rows` requests need.
        arguments: More of vLLM's engine arguments.
    """
    settings: dict[str, Any] = {
        "dtype": str(dtype).removeprefix("torch."),
        "max_model_len": max_length,
        "max_num_seqs": max_rows,
        "disable_log_stats": True,
        "use_tqdm_on_load": False,  # a bar for loading a few files hides the bars that matter
        "distributed_executor_backend": "external_launcher" if int(os.environ.get("WORLD_SIZE", 1)) > 1 else "uni",
    }
    if torch.cuda.is_available():
        settings["gpu_memory_utilization"] = gpu_memory_utilization
    else:
        # Where a prompt is prefilled in parts vLLM turns seeded generators back, which those of a CPU cannot.
        settings |= {"enable_chunked_prefill": False, "max_num_batched_tokens": max(2048, max_length)}
        settings |= {"enforce_eager": True, "kv_cache_memory_bytes": _cache_bytes(config, max_rows, max_length, dtype)}
    # In this process: another one could not be handed the weights of this one's module.
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    set_num_threads = torch.set_num_threads
    with computing(), warnings.catch_warnings(action="ignore"):
        from vllm import EngineArgs, LLMEngine

        vllm = LLMEngine.from_engine_args(EngineArgs(model=folder, **settings, **arguments))
    torch.set_num_threads = set_num_threads  # vLLM for CPUs puts one there that does nothing
    return vllm


@contextlib.contextmanager
def computing() -> Iterator[None]:
    """Hold the turn to compute: all vLLMs of a process keep the state of a forward pass in one and the same place.

    On a CPU nothing is compiled: it takes a minute, and a compiler.
    """
    with _TURN:
        if torch.cuda.is_available():
            yield
            return
        with torch.compiler.set_stance("force_eager"):
            yield


def _cache_bytes(config: PreTrainedConfig, max_rows: int, max_length: int, dtype: torch.dtype) -> int:
    """Return how much attention state `max_rows` conversations of `max_length` tokens have, one block more each."""
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    num_heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    token = 2 * config.num_hidden_layers * num_heads * head_dim * dtype.itemsize
    return token * (max_length + _CPU_BLOCK) * max_rows
