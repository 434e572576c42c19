"""The module that is trained: prepared from a model, with adapters or without, and written and read as a folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

from awpo_agent.config import AWPOConfig
from awpo_agent.processes import gathered
from awpo_env.errors import UsageError

_PEFT_PREFIX = "base_model.model."
_ADAPTERS = "adapter_model.safetensors"
_MAY_DIFFER = {"_name_or_path", "architectures", "dtype", "transformers_version"}  # and it is the same model


def prepare_policy(model: nn.Module, args: AWPOConfig) -> nn.Module:
    """Return `model` ready to be trained: in training mode, nothing dropped at random, adapters where asked for.

    Raises:
        UsageError: LoRA is asked for and peft is not installed, or no module has the name that is to get adapters.
    """
    for module in model.modules():
        # Sampling and training have to see the same distribution, so nothing may be dropped at random.
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if hasattr(module, "attention_dropout"):
            module.attention_dropout = 0.0
    if args.gradient_checkpointing:
        # transformers renamed it on the way to 5.23.
        enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
        enable({"use_reentrant": False})
    if args.lora_r:
        model = _with_adapters(model, args)
    return model.train()


def _with_adapters(model: nn.Module, args: AWPOConfig) -> nn.Module:
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError:
        raise UsageError("lora_r needs peft, which is not installed; run: pip install 'awpo[peft]'") from None
    targets = args.lora_target_modules or "all-linear"
    config = LoraConfig(r=args.lora_r, lora_alpha=args.lora_alpha, target_modules=targets, task_type="CAUSAL_LM")
    try:
        return get_peft_model(model, config)
    except ValueError as error:
        raise UsageError(f"lora_target_modules {targets!r} fit no module of the model: {error}") from None


def has_adapters(policy: nn.Module) -> bool:
    """Whether only LoRA adapters of `policy` are trained."""
    return hasattr(policy, "peft_config")


@torch.no_grad()
def plain_weights(policy: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield names and tensors as the model had them before it got adapters, with the adapters merged in.

    This is what another engine has to load so that it samples from `policy`; nothing of `policy` changes. What is
    shared out among processes is gathered, one tensor at a time and in all of them; each is good until the next.
    """
    state, deltas = policy.state_dict(keep_vars=True), {}
    if has_adapters(policy):
        with gathered([tensor for name, tensor in state.items() if ".lora_" in name]):
            deltas = {
                f"{name.removeprefix(_PEFT_PREFIX)}.weight": module.get_delta_weight(adapter)
                for name, module in policy.named_modules()
                if hasattr(module, "get_delta_weight")
                for adapter in module.active_adapters
            }
    for name, tensor in state.items():
        if ".lora_" in name:
            continue
        plain = name.removeprefix(_PEFT_PREFIX).replace(".base_layer.", ".")
        with gathered([tensor]):
            merged = tensor + deltas[plain].to(tensor.dtype) if plain in deltas else tensor.detach()
            yield plain, merged.full_tensor() if hasattr(merged, "full_tensor") else merged


def write_policy(policy: nn.Module, folder: Path, state: dict[str, Any]) -> None:
    """Write a plain Hugging Face folder; of a policy with adapters the adapters alone, as peft writes them.

    Args:
        policy: Says how a folder of its kind looks.
        folder: Exists.
        state: The weights by name; not those of `policy` itself, which may be shared out among processes.
    """
    # Gathered from several processes, tied weights are no longer one, and would be written twice.
    once = {name: tensor for name, tensor in state.items() if name not in _tied(policy)}
    policy.save_pretrained(folder, state_dict=once)


def read_policy(policy: nn.Module, folder: Path) -> None:
    """Load what `write_policy` wrote into a policy of the same kind, see `check_written`."""
    if has_adapters(policy):
        from peft import set_peft_model_state_dict

        set_peft_model_state_dict(policy, load_file(folder / _ADAPTERS))
        return
    # By way of another model: in its folder a model's weights may have other names and shapes than in memory.
    attention = policy.config._attn_implementation
    read = type(policy).from_pretrained(folder, dtype=policy.dtype, attn_implementation=attention)
    policy.load_state_dict(read.state_dict())


def check_written(policy: nn.Module, folder: Path) -> None:
    """Refuse what `write_policy` wrote of a policy of another kind; no weights are read.

    Raises:
        UsageError: It is that of another model, or one of the two has adapters, or others.
    """
    if has_adapters(policy) is not (folder / _ADAPTERS).is_file():
        kinds = ("LoRA adapters alone", "the whole model")
        trained, asked = kinds if not has_adapters(policy) else reversed(kinds)
        raise UsageError(f"{str(folder)!r} has trained {trained}, the settings train {asked}; set lora_r as it was")
    if has_adapters(policy):
        _check_adapters(policy, folder)
        return
    own, written = policy.config.to_dict(), type(policy.config).from_pretrained(folder).to_dict()
    for name in sorted((own.keys() | written.keys()) - _MAY_DIFFER):
        if own.get(name) != written.get(name):
            raise UsageError(
                f"{str(folder)!r} is a checkpoint of another model: its {name} is {written.get(name)!r}, not "
                f"{own.get(name)!r}; set model as it was"
            )


def _check_adapters(policy: nn.Module, folder: Path) -> None:
    from peft import PeftConfig, get_peft_model_state_dict

    with safe_open(folder / _ADAPTERS, framework="pt") as weights:
        found = {name: tuple(weights.get_slice(name).get_shape()) for name in weights.keys()}  # noqa: SIM118
    state = get_peft_model_state_dict(policy, state_dict=policy.state_dict(keep_vars=True))
    # DeepSpeed leaves an empty tensor where a weight is shared out.
    own = {name: tuple(getattr(tensor, "ds_shape", tensor.shape)) for name, tensor in state.items()}
    if strange := sorted(found.keys() ^ own.keys()):
        raise UsageError(
            f"{str(folder)!r} has adapters for other modules: only one of the two has {strange[0]}; set "
            "lora_target_modules as they were"
        )
    if other := [name for name in own if found[name] != own[name]]:
        raise UsageError(
            f"{str(folder)!r} has adapters of another size: {other[0]} is {found[other[0]]}, not {own[other[0]]}; set "
            "model and lora_r as they were"
        )
    written, scale = PeftConfig.from_pretrained(str(folder)).lora_alpha, policy.peft_config["default"].lora_alpha
    if written != scale:
        raise UsageError(f"{str(folder)!r} was trained with lora_alpha {written}, not {scale}; set it as it was")


def _tied(policy: nn.Module) -> set[str]:
    """Names under which a weight appears for another time."""
    return set(policy.all_tied_weights_keys)
