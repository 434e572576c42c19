"""Checks that need an accelerator: skipped without one, run by `pytest -m gpu`."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch

BENCH = Path(__file__).parents[2] / "benchmarks" / "bench_gpu.py"


def bench(*words):
    done = subprocess.run([sys.executable, str(BENCH), *words], capture_output=True, text=True, timeout=550)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_model_of_600_million_parameters_trains_in_bfloat16(tmp_path):
    figures = bench("--json", str(tmp_path / "gpu.json"))
    assert figures["parameters"] == pytest.approx(596e6, rel=0.02) and figures["steps"] == 20
    assert all(map(math.isfinite, figures["loss"]))
    assert max(figures["logprob_gap"]) < 0.1  # sampled and trained in the same precision
    assert figures["peak_memory_gib"] < 40


@pytest.mark.heavy
def test_its_arithmetic_at_a_size_for_a_cpu():
    figures = bench("--hidden", "64", "--layers", "2", "--vocabulary", "3000", "--steps", "2", "--episodes", "8")
    assert len(figures["loss"]) == 3 and all(map(math.isfinite, figures["loss"])) and all(figures["loss"])
    assert max(figures["logprob_gap"]) < 0.1  # there is one for each step: each has updated the model
    # What is learnt from was forwarded at least once, less what conversations share.
    rate = figures["episode_tokens_per_second"] * figures["parameters"] / 989e12
    assert 6 * rate < figures["model_flop_utilisation"] < 12 * rate
    assert 0 < figures["rollout_share"] < 1
