"""What tests of training have in common: settings, what a run leaves behind, and runs in processes of their own."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import torch

SETTINGS = {
    "num_generations": 4,
    "generation_batch_size": 16,
    "max_length": 320,
    "max_turn_length": 10,
    "max_steps": 5,
    "learning_rate": 1e-3,
    "per_device_train_batch_size": 8,
}
TWO = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")
TIMINGS = ("rollout_time", "step_time")


def weights(trainer):
    return {name: tensor.clone() for name, tensor in trainer.policy.state_dict().items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def largest_difference(one, other):
    assert one.keys() == other.keys()
    return max(float((one[name] - other[name]).abs().max()) for name in one)


def metrics(trainer):
    return lines_of(trainer.folder)


def lines_of(folder):
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [{name: value for name, value in line.items() if name not in TIMINGS} for line in lines]


def episodes(trainer):
    return episodes_of(trainer.folder)


def episodes_of(folder):
    return [json.loads(line) for line in (folder / "episodes.jsonl").read_text().splitlines()]


def stop_after(last):
    def stop(step, line):
        if step == last:
            os.kill(os.getpid(), signal.SIGTERM)

    return stop


def start(model_folder, *launcher, name, steps=None, on_cpu=True, **settings):
    folder = model_folder.parent
    settings = {**SETTINGS, "output_dir": str(folder / name), **settings}
    words = [
        str(Path(__file__).parent / "train_script.py"),
        str(model_folder),
        str(folder / (f"{steps}.steps" if steps else "steps")),
        json.dumps(settings),
    ]
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(__file__).parent),
        **({"ACCELERATE_USE_CPU": "1"} if on_cpu else {}),
        "OMP_NUM_THREADS": "1",
    }
    return subprocess.Popen([sys.executable, *launcher, *words], env=environment, stderr=subprocess.PIPE, text=True)
