"""What `accelerate launch` may ask for here: the shipped configs, resolved by the real launcher or refused."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from accelerate import PartialState
from accelerate.commands.config.config_args import load_config_from_file

from awpo_agent.processes import join_processes
from awpo_env.errors import UsageError

CONFIGS = Path(__file__).parents[2] / "examples" / "accelerate"


@pytest.mark.parametrize(
    ("name", "kind", "num_processes"),
    [
        ("cpu", "NO", 1),
        ("multi_cpu", "MULTI_GPU", 2),
        ("single_gpu", "NO", 1),
        ("multi_gpu", "MULTI_GPU", 8),
        ("fsdp2", "FSDP", 8),
        ("zero2", "DEEPSPEED", 8),
        ("zero3", "DEEPSPEED", 8),
    ],
)
def test_accelerate_reads_every_config(name, kind, num_processes):
    config = load_config_from_file(str(CONFIGS / f"{name}.yaml"))
    assert (config.distributed_type.value, config.num_processes) == (kind, num_processes)
    if kind == "FSDP":
        assert config.fsdp_config["fsdp_version"] == 2
    if kind == "DEEPSPEED":
        assert config.deepspeed_config["zero_stage"] == int(name[-1])


def test_sharding_that_cannot_be_had_is_refused(monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    monkeypatch.setattr(PartialState(), "device", type("Device", (), {"type": "cpu"}))
    with pytest.raises(UsageError, match=r"asks for FSDP.*multi_cpu\.yaml"):
        join_processes()
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    monkeypatch.setattr("awpo_agent.processes.is_deepspeed_available", lambda: False)
    with pytest.raises(UsageError, match="DeepSpeed, which is not installed"):
        join_processes()


def test_a_mac_trains_on_its_cores(monkeypatch):
    made = []
    monkeypatch.setattr("torch.accelerator.current_accelerator", lambda check_available: torch.device("mps"))
    monkeypatch.setattr("awpo_agent.processes.PartialState", lambda cpu=False: made.append(cpu) or PartialState())
    join_processes()
    monkeypatch.setattr("torch.accelerator.current_accelerator", lambda check_available: torch.device("cuda"))
    join_processes()
    assert made == [True, False]


def test_processes_that_do_not_find_each_other_are_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("ACCELERATE_USE_CPU", "1")
    with pytest.raises(UsageError, match="2 processes were launched, but accelerate has joined 1"):
        join_processes()  # as the tests before have made a state of one process


def launch(name, *words):
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(CONFIGS / f"{name}.yaml")]
    command += ["--num_processes", "2", "-m", "awpo_agent.train", "--dry_run", *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


@pytest.mark.heavy
def test_a_dry_run_of_two_processes_prints_one_plan():
    done = launch("multi_cpu", "--max_steps", "77")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("max_steps: 77") == 1


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("name", "words", "why"),
    [
        ("multi_cpu", ["--generation_batch_size", "8"], "cannot be shared out among 2 processes"),
        ("fsdp2", [], "which shards a model over accelerators, and this machine has none"),
    ],
)
def test_what_cannot_be_had_is_refused_in_a_sentence(name, words, why):
    done = launch(name, *words)
    assert done.returncode != 0
    ours = [line for line in done.stderr.splitlines() if line.startswith("awpo: ")]
    assert ours and all(why in line for line in ours)
    assert "awpo_agent/train.py" not in done.stderr  # the launcher's own traceback follows, none of ours
