"""What the README promises of the quickstart, run for real; minutes long."""

import json
import os
import subprocess
import sys
from importlib import resources

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

CONFIG = str(resources.files("awpo_agent").joinpath("quickstart.yaml"))
ENVIRONMENT = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}  # as `make quickstart` does


def run(*words):
    command = [sys.executable, *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, timeout=1800, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def steps_of(folder):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if not name.endswith("_time")} for line in lines]


@pytest.mark.heavy
def test_the_quickstart_makes_the_model_better_and_its_checkpoint_keeps_what_was_learned(tmp_path):
    run("-m", "awpo_agent.quickstart", "--output_dir", tmp_path / "run")
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    before, after = summary["before"]["temperature 1"], summary["after"]["temperature 1"]
    assert 0.05 <= before["value"] <= 0.40
    assert after["value"] >= before["value"] + 0.30 and after["low"] > before["high"]
    assert summary["after"]["greedy"]["high"] >= summary["before"]["greedy"]["value"]

    (checkpoint,) = (tmp_path / "run" / "checkpoints").glob("checkpoint-*")
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    model = AutoModelForCausalLM.from_pretrained(checkpoint)
    with torch.no_grad():
        assert model(**tokenizer("Hello", return_tensors="pt")).logits.isfinite().all()
    report = tmp_path / "report.json"
    words = ("--preset", "quickstart", "--episodes", "256", "--seed", "1", "--json", report)
    run("-m", "awpo_agent", "eval", "--env", "awpo/Retail-v0", "--policy", f"hf:{checkpoint}", *words)
    assert json.loads(report.read_text())["success"] == pytest.approx(after)


@pytest.mark.heavy
def test_accelerate_launch_gives_the_same_run(tmp_path):
    few = ("--config", CONFIG, "--max_steps", "2", "--generation_batch_size", "16", "--logging_steps", "1")
    run("-m", "awpo_agent", "train", *few, "--output_dir", tmp_path / "plain")
    launch = ("-m", "accelerate.commands.launch", "--num_processes", "1", "--cpu", "--num_cpu_threads_per_process", "1")
    run(*launch, "-m", "awpo_agent.train", *few, "--output_dir", tmp_path / "launched")
    assert steps_of(tmp_path / "plain") == steps_of(tmp_path / "launched")
    assert any(step["grad_norm"] > 0 for step in steps_of(tmp_path / "plain"))


def test_a_dry_run_trains_nothing(tmp_path):
    shown = run("-m", "awpo_agent.quickstart", "--dry_run", "--output_dir", tmp_path / "run")
    assert "model: base" in shown and "1/3" not in shown and not (tmp_path / "run").exists()
