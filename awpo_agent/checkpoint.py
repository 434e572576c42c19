"""Folders that appear whole or not at all, and the training state that makes a run resumable."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn
from transformers import PreTrainedTokenizerBase

from awpo_env.errors import UsageError

_STATE_FILE = "training_state.pt"


def write_folder(folder: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary folder beside `folder`, then put it in place in one step.

    Args:
        folder: Where it ends up; an older folder of that name is replaced.
        write: Writes everything into the folder it is given.

    Raises:
        OSError: Writing failed, for example because the disk is full; `folder` is as it was before.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    retired = folder.with_name(f".{folder.name}.{os.getpid()}.old")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    try:
        write(unfinished)
        if folder.exists():
            folder.rename(retired)
        unfinished.rename(folder)
    except BaseException:
        if retired.exists() and not folder.exists():
            retired.rename(folder)
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    shutil.rmtree(retired, ignore_errors=True)


def save_checkpoint(
    folder: Path, model: nn.Module, tokenizer: PreTrainedTokenizerBase, training_state: dict[str, Any]
) -> None:
    """Write a plain Hugging Face folder with the training state beside the weights."""

    def write(unfinished: Path) -> None:
        model.save_pretrained(unfinished)
        tokenizer.save_pretrained(unfinished)
        torch.save(training_state, unfinished / _STATE_FILE)

    write_folder(folder, write)


def load_training_state(folder: Path, model: nn.Module) -> dict[str, Any]:
    """Load a checkpoint's weights into `model` and return its training state.

    Raises:
        UsageError: The folder is no checkpoint of a training run.
    """
    if not (folder / _STATE_FILE).is_file():
        raise UsageError(f"{str(folder)!r} is no checkpoint of a training run; expected a folder with {_STATE_FILE}")
    model.load_state_dict(load_file(folder / "model.safetensors"), strict=False)
    model.tie_weights()
    return torch.load(folder / _STATE_FILE, weights_only=True)


def newest_checkpoint(folder: Path) -> Path:
    """Return the checkpoint of the highest step in `folder`.

    Raises:
        UsageError: There is none.
    """
    found = _checkpoints(folder)
    if not found:
        raise UsageError(f"there is no checkpoint in {str(folder)!r}; start without resume_from_checkpoint")
    return found[-1]


def set_aside(folder: Path) -> None:
    """Rename ``checkpoints`` of an earlier run to ``checkpoints.old``, in place of what an earlier one left there."""
    if folder.exists():
        old = folder.with_name(folder.name + ".old")
        shutil.rmtree(old, ignore_errors=True)
        folder.rename(old)


def prune(folder: Path, keep: int) -> None:
    """Delete all but the newest `keep` checkpoints."""
    for old in _checkpoints(folder)[:-keep]:
        shutil.rmtree(old)


def _checkpoints(folder: Path) -> list[Path]:
    found = [path for path in folder.glob("checkpoint-*") if path.name.removeprefix("checkpoint-").isdecimal()]
    return sorted(found, key=lambda path: int(path.name.removeprefix("checkpoint-")))
