"""Processes that train together make the update of one, and nobody waits for ever."""

import json
import math
import os
import re
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file
from training_runs import TWO, episodes, episodes_of, largest_difference, lines_of, metrics, same, start, weights
from transformers import AutoModelForCausalLM


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "fails"),
    [
        ({}, False),
        pytest.param({"steps_per_generation": 2, "per_device_train_batch_size": 3}, False, marks=pytest.mark.heavy),
        pytest.param({}, True, marks=pytest.mark.heavy),
    ],
    ids=["one update", "two updates", "all fail"],
)
def test_two_processes_make_the_update_of_one(run, model_folder, tmp_path, settings, fails, failing, monkeypatch):
    # With two updates a batch a process can be without groups of its own; nobody may wait for it.
    if fails:
        monkeypatch.setenv("FAILING", "yes")
    process = start(model_folder, *TWO, name="two", max_steps=3, **settings)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    one = run("one", max_steps=3, dtype=torch.float64, **settings, **(failing if fails else {}))
    assert fails is (metrics(one)[0]["awpo/frac_judge_alone"] > 0.5)
    got = load_file(tmp_path / "two" / "checkpoints" / "checkpoint-3" / "model.safetensors")
    want = {name: tensor for name, tensor in weights(one).items() if name in got}
    assert largest_difference(got, want) < 1e-10
    lines = [json.loads(line) for line in (tmp_path / "two" / "metrics.jsonl").read_text().splitlines()]
    # What the estimator makes of the batch is the same to the last bit, the clip radius included.
    statistics = [{name: line[name] for name in line if name.startswith(("awpo/", "judge/"))} for line in lines]
    assert statistics == [
        {name: line[name] for name in want} for line, want in zip(metrics(one), statistics, strict=True)
    ]
    for line, other in zip(lines, metrics(one), strict=True):
        assert {name: line[name] for name in other} == pytest.approx(other, abs=1e-4)
    two_episodes = (tmp_path / "two" / "episodes.jsonl").read_text().splitlines()
    assert [json.loads(line)["messages"] for line in two_episodes] == [line["messages"] for line in episodes(one)]


@pytest.mark.slow
def test_what_fails_on_one_process_ends_all_with_a_checkpoint(model_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("LOST", "yes")
    process = start(model_folder, *TWO, name="two")
    _, errors = process.communicate(timeout=120)
    assert process.returncode != 0 and "process 1: the server is gone" in errors
    (checkpoint,) = (tmp_path / "two" / "checkpoints").iterdir()
    assert checkpoint.name == "checkpoint-2" and len(lines_of(tmp_path / "two")) == 2


@pytest.mark.heavy
@pytest.mark.parametrize("way", ["long", "broken", "without a token"])
def test_nobody_waits_for_a_process_whose_episodes_are_unlike_the_others(model_folder, tmp_path, way, monkeypatch):
    monkeypatch.setenv("UNEVEN", way)
    process = start(model_folder, *TWO, name="two", max_steps=3, steps_per_generation=2)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    lines = lines_of(tmp_path / "two")
    assert len(lines) == 3 and all(math.isfinite(value) for line in lines for value in line.values())
    one, other = (torch.load(tmp_path / "two" / f"weights-{rank}.pt") for rank in (0, 1))
    assert same(one, other)
    untrained = AutoModelForCausalLM.from_pretrained(model_folder).double().state_dict()
    assert not same(one, untrained)  # the first process's episodes train all the same
    # Groups 2 and 3 are the second process's.
    played = episodes_of(tmp_path / "two")
    usual, others = (
        [episode for episode in played if (episode["group"] >= 2) is is_second] for is_second in (False, True)
    )
    assert len(usual) == len(others) == 3 * 8
    if way == "long":
        num_tokens = [sum(episode["num_tokens"] for episode in part) for part in (usual, others)]
        assert num_tokens[1] > num_tokens[0] + 24 * 30
    else:
        assert not any(episode["trains"] and episode["num_sampled_tokens"] for episode in others)


@pytest.mark.slow
def test_processes_of_one_machine_share_the_weights_that_servers_read(model_folder, tmp_path):
    script = tmp_path / "share.py"
    script.write_text(
        """
import sys
from pathlib import Path
from accelerate import PartialState
from safetensors.torch import load_file
from awpo_agent.engines.base import EngineFailure
from awpo_agent.engines.weights import WeightsFolder
from awpo_agent.train import load_policy

processes = PartialState(cpu=True)
model, _ = load_policy(sys.argv[1])
folder = WeightsFolder(model, Path(sys.argv[2]))
for _ in range(2):
    folder.write()
    assert load_file(folder.path / "model.safetensors")  # on every process, as soon as it has a version
    processes.wait_for_everyone()
Path(f"{sys.argv[2]}-{processes.process_index}").write_text(folder.version)
blocked = WeightsFolder(model, Path(sys.argv[1], "config.json", "weights"))  # no folder can be there
try:
    blocked.write()
except EngineFailure as failure:
    assert blocked.version is None
    Path(f"{sys.argv[2]}-{processes.process_index}").open("a").write(" and " + str(failure))
processes.destroy_process_group()
"""
    )
    environment = {**os.environ, "ACCELERATE_USE_CPU": "1", "OMP_NUM_THREADS": "1"}
    words = [sys.executable, *TWO, str(script), str(model_folder), str(tmp_path / "weights")]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    one, other = ((tmp_path / f"weights-{rank}").read_text() for rank in (0, 1))
    assert one == other and re.search(r"-2 and the weights cannot be written to .*config\.json", one)
    assert [path.name for path in (tmp_path / "weights").iterdir()] == ["2"]
