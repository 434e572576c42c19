"""A model that is shared out among processes learns what a whole one learns; here on CPUs, over gloo."""

import json
import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from training_runs import TWO, largest_difference, lines_of, start
from transformers import AutoModelForCausalLM

needs_deepspeed = pytest.mark.skipif(find_spec("deepspeed") is None, reason="DeepSpeed is not installed")
KINDS = ["fsdp2", pytest.param("zero2", marks=needs_deepspeed), pytest.param("zero3", marks=needs_deepspeed)]
CLOSE = {"fsdp2": 1e-7, "zero2": 1e-4, "zero3": 1e-4}  # norms round to single precision, and DeepSpeed sums in it


@pytest.fixture
def train(model_folder, tmp_path, monkeypatch):
    """Trains on two processes, with the model shared out or whole, and returns the run folder."""

    def run(name, sharded, **settings):
        monkeypatch.setenv("REPLICA", "yes")
        if sharded:
            monkeypatch.setenv("SHARDED", sharded)
        else:
            monkeypatch.delenv("SHARDED", raising=False)
        process = start(model_folder, *TWO, name=name, max_steps=3, engine="vllm", **settings)
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
        return tmp_path / name

    return run


def weights_of(folder, step=3, file="model.safetensors"):
    return load_file(folder / "checkpoints" / f"checkpoint-{step}" / file)


@pytest.mark.heavy
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("settings", "file"),
    [
        # With two updates a batch a process can be without rows of its own.
        ({"num_iterations": 2, "steps_per_generation": 2, "per_device_train_batch_size": 3}, "model.safetensors"),
        ({"lora_r": 4, "beta": 0.1, "learning_rate": 1e-2}, "adapter_model.safetensors"),
        ({"gradient_checkpointing": True, "max_grad_norm": 1e-7}, "model.safetensors"),
    ],
    ids=["two updates", "adapters and a reference", "clipped gradients"],
)
def test_it_makes_the_updates_of_a_whole_one(train, kind, settings, file):
    whole, sharded = train("whole", None, **settings), train("sharded", kind, **settings)
    got, want = weights_of(sharded, file=file), weights_of(whole, file=file)
    assert largest_difference(got, want) < CLOSE[kind]
    for line, other in zip(lines_of(sharded), lines_of(whole), strict=True):
        assert line == pytest.approx(other, abs=1e-5)
    assert (sharded / "episodes.jsonl").read_bytes() == (whole / "episodes.jsonl").read_bytes()


@pytest.mark.heavy
@pytest.mark.parametrize("kind", KINDS)
def test_it_goes_on_as_if_it_had_never_stopped(train, kind):
    whole = train("whole", kind, save_steps=2)
    shutil.copytree(whole, whole.with_name("parts"))
    shutil.rmtree(whole.with_name("parts") / "checkpoints" / "checkpoint-3")
    parts = train("parts", kind, save_steps=2, resume_from_checkpoint="last")
    assert largest_difference(weights_of(parts), weights_of(whole)) == 0.0
    assert lines_of(parts) == lines_of(whole)
    AutoModelForCausalLM.from_pretrained(parts / "checkpoints" / "checkpoint-3")
    state = json.loads((parts / "checkpoints" / "checkpoint-3" / "training_state.json").read_text())
    assert state["optimizer"] == {"fsdp2": "FSDP"}.get(kind, f"ZeRO-{kind[-1]} in single precision on 2 processes")


@pytest.mark.heavy
@pytest.mark.parametrize("kind", KINDS)
def test_mixed_precision_rounds_the_passes_and_not_what_is_learnt_from(train, kind):
    folder = train("rounded", kind, bf16=True, gradient_checkpointing=True)
    for line in lines_of(folder):
        # Rounded to 8 bits, log-probabilities of about -6 would be off by up to 0.016.
        assert 0.0 < line["sampling/sampling_logp_difference/mean"] < 2e-3
    if kind == "fsdp2":
        assert {tensor.dtype for tensor in weights_of(folder).values()} == {torch.float32}


@pytest.mark.heavy
@pytest.mark.parametrize("kind", KINDS)
def test_where_no_episode_teaches_anything_nothing_changes(train, kind, monkeypatch):
    monkeypatch.setenv("FAILING", "yes")  # and this estimator hears no judge
    folder = train("silent", kind, advantage_estimator="grpo", weight_decay=0.0)
    assert [line["grad_norm"] for line in lines_of(folder)] == [0.0, 0.0, 0.0]
    assert largest_difference(weights_of(folder), load_file(folder.parent / "model" / "model.safetensors")) < 1e-7


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
@pytest.mark.parametrize("kind", KINDS)
def test_the_shipped_configurations_train_alike_on_gpus(model_folder, tmp_path, monkeypatch, kind):
    monkeypatch.setenv("REPLICA", "yes")
    for name in ("multi_gpu", kind):
        file = Path(__file__).parents[2] / "examples" / "accelerate" / f"{name}.yaml"
        launcher = ["-m", "accelerate.commands.launch", "--config_file", str(file), "--num_processes", "2"]
        process = start(model_folder, *launcher, name=name, on_cpu=False, max_steps=3, engine="vllm")
        _, errors = process.communicate(timeout=600)
        assert process.returncode == 0, errors
    assert largest_difference(weights_of(tmp_path / kind), weights_of(tmp_path / "multi_gpu")) < CLOSE[kind]
    assert len(lines_of(tmp_path / kind)) == 3
