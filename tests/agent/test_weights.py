"""Weights for another engine: the names of a checkpoint, adapters merged in, one version at a time."""

import errno

import pytest
import torch
from safetensors.torch import load_file

from awpo_agent.config import AWPOConfig
from awpo_agent.engines.base import EngineFailure
from awpo_agent.engines.weights import WeightsFolder
from awpo_agent.policy import prepare_policy


def logits(model):
    with torch.no_grad():
        return model.eval()(input_ids=torch.arange(5, 25)[None]).logits


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # peft's own
@pytest.mark.parametrize("lora_r", [0, 4])
def test_a_model_with_these_weights_is_the_policy(make_model, tmp_path, lora_r):
    if lora_r:
        pytest.importorskip("peft")
    model = make_model(0)
    names = set(model.state_dict())
    # The engine was given the module before the learner put adapters into it.
    folder = WeightsFolder(model, tmp_path / "weights")
    policy = prepare_policy(model, AWPOConfig(lora_r=lora_r))
    with torch.no_grad():
        for parameter in policy.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))
    folder.write()
    weights = load_file(folder.path / "model.safetensors")
    assert set(weights) == names, "tied weights too, under both names"
    other = make_model(1)
    other.load_state_dict(weights)
    torch.testing.assert_close(logits(other), logits(policy), atol=1e-5, rtol=0)


def test_weights_are_handed_over_in_the_precision_they_are_taken_in(make_model, tmp_path):
    model = make_model(0)
    folder = WeightsFolder(model, tmp_path / "weights", torch.bfloat16)
    folder.write()
    file = folder.path / "model.safetensors"
    weights = load_file(file)
    assert {tensor.dtype for tensor in weights.values()} == {torch.bfloat16}
    assert all(torch.equal(tensor, model.state_dict()[name].bfloat16()) for name, tensor in weights.items())
    assert model.dtype == torch.float32
    assert file.stat().st_size < 2.1 * sum(tensor.numel() for tensor in model.state_dict().values())


def test_every_write_is_a_version_of_its_own_and_the_newest_alone_is_kept(make_model, tmp_path):
    model = make_model(0)
    folders = [WeightsFolder(model, tmp_path / name) for name in ("one", "two")]
    assert folders[0].version is None
    versions = []
    for _ in range(2):
        for folder in folders:
            folder.write()
            versions.append(folder.version)
    assert len(set(versions)) == 4
    assert [path.name for path in (tmp_path / "one").iterdir()] == [folders[0].path.name]
    folders[0].remove()
    assert not (tmp_path / "one").exists()


def test_a_file_does_not_change_with_the_model(make_model, tmp_path):
    model = make_model(0)
    folder = WeightsFolder(model, tmp_path / "weights")
    folder.write()
    before = load_file(folder.path / "model.safetensors")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    for name, tensor in load_file(folder.path / "model.safetensors").items():
        assert torch.equal(tensor, before[name])


def test_weights_that_cannot_be_written_leave_those_before(make_model, tmp_path, monkeypatch):
    folder = WeightsFolder(make_model(0), tmp_path / "weights")
    folder.write()
    version, path = folder.version, folder.path

    def fail(tensors, file, metadata):
        file.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("awpo_agent.engines.weights.save_file", fail)
        with pytest.raises(EngineFailure, match=r"weights/2' \(.*No space.*make room, and resume"):
            folder.write()
    assert (folder.version, folder.path) == (version, path)
    assert load_file(path / "model.safetensors")
    folder.write()
    assert folder.version != version and [found.name for found in (tmp_path / "weights").iterdir()] == ["2"]
