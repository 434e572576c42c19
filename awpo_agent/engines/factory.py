"""The engine that a run's settings name, and what is impossible about them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from accelerate import PartialState
from torch import nn

if TYPE_CHECKING:
    from awpo_agent.config import AWPOConfig
    from awpo_agent.engines.vllm import VLLMEngine
    from awpo_agent.engines.vllm_server import VLLMServerEngine


def make_engine(config: AWPOConfig, model: nn.Module) -> VLLMEngine | VLLMServerEngine | None:
    """Return an engine that samples from `model`, or None where the trainer does so itself.

    Every process has its own; of several servers, those that are its share.

    Raises:
        UsageError: A setting is impossible.
    """
    if config.engine == "transformers":
        return None
    if config.vllm_mode == "colocate":
        from awpo_agent.engines.vllm import VLLMEngine

        return VLLMEngine(
            model,
            max_rows=config.generation_batch_size,
            max_length=config.max_length,
            dtype=torch.bfloat16 if config.bf16 else None,
            gpu_memory_utilization=config.vllm_gpu_memory_utilization,
        )
    from awpo_agent.engines.vllm_server import VLLMServerEngine

    processes = PartialState()
    share = slice(processes.process_index, None, processes.num_processes)
    machine = processes.process_index - processes.local_process_index  # the first process on it
    return VLLMServerEngine(
        model,
        config.vllm_server_urls[share],
        Path(config.output_dir) / f"vllm_weights_{machine}",
        max_length=config.max_length,
        dtype=torch.bfloat16 if config.bf16 else None,
        server_timeout_s=config.vllm_server_timeout,
        request_timeout_s=config.vllm_request_timeout,
        logs=[Path(log) for log in config.vllm_server_logs[share]],
    )


def engine_problems(config: AWPOConfig, num_processes: int) -> list[str]:
    """Return what is impossible about the engine's settings, one sentence each."""
    urls, logs = config.vllm_server_urls, config.vllm_server_logs
    problems = []
    if config.engine not in ("transformers", "vllm"):
        problems.append(f"engine is {config.engine!r}, expected 'transformers' or 'vllm'")
    if config.vllm_mode not in ("colocate", "server"):
        problems.append(f"vllm_mode is {config.vllm_mode!r}, expected 'colocate' or 'server'")
    if not 0 < config.vllm_gpu_memory_utilization <= 1:
        problems.append(
            f"vllm_gpu_memory_utilization is {config.vllm_gpu_memory_utilization}, expected a share above 0, at most 1"
        )
    problems += [
        f"vllm_server_urls has {url!r}, expected http://host:port"
        for url in urls
        if not url.startswith(("http://", "https://"))
    ]
    asks_servers = config.engine == "vllm" and config.vllm_mode == "server"
    if asks_servers and len(urls) < num_processes:
        problems.append(
            f"vllm_server_urls has {len(urls)} addresses for {num_processes} processes, expected at least one each; "
            "start more with 'vllm serve'"
        )
    if urls and not asks_servers:
        problems.append("vllm_server_urls are given and not asked; set engine to 'vllm' and vllm_mode to 'server'")
    if len(set(urls)) < len(urls):
        problems.append("vllm_server_urls names a server twice; each is one process's alone")
    if logs and len(logs) != len(urls):
        problems.append(f"vllm_server_logs has {len(logs)} files for {len(urls)} servers, expected one each or none")
    return problems
