"""What another engine has to load so that it samples from the module that is trained."""

from __future__ import annotations

import shutil
import uuid
from pathlib import Path

import torch
from accelerate.utils import broadcast_object_list, gather_object
from safetensors.torch import save_file
from torch import nn

from awpo_agent.engines.base import EngineFailure
from awpo_agent.policy import plain_weights
from awpo_agent.processes import join_processes


class WeightsFolder:
    """Keeps the newest weights of a module as a file, under a version that no other run and no earlier weights have.

    A file rather than the module is what servers are given: it does not change while one of them reads it, and a
    server that starts anew in the middle of an update gets what the others have.

    Processes of one machine share a folder: all of them gather what is shared out, and the first of them writes.

    Args:
        model: Whose weights.
        folder: Created, and emptied of what an earlier run left there. Servers see it under the same path.
        dtype: In which servers take them; by default as the module has them.
    """

    def __init__(self, model: nn.Module, folder: Path, dtype: torch.dtype | None = None) -> None:
        self._model, self._dtype = model, dtype
        self._folder = folder.resolve()
        self._processes = join_processes()
        (self._run,) = broadcast_object_list([uuid.uuid4().hex[:12]])
        self._num_versions = 0

    @property
    def version(self) -> str | None:
        """Name of the newest weights; None before any were written."""
        return f"{self._run}-{self._num_versions}" if self._num_versions else None

    @property
    def path(self) -> Path:
        """Folder of the newest weights."""
        return self._folder / str(self._num_versions)

    def write(self) -> None:
        """Write the module's weights as the next version, and delete the one before; all processes call this.

        Raises:
            EngineFailure: They cannot be written, for example because the disk is full; the version stays what it was,
                in all processes.
        """
        writes = self._processes.is_local_main_process
        weights = {name: self._on_file(tensor) for name, tensor in plain_weights(self._model) if writes}
        before, following = self.path, self._folder / str(self._num_versions + 1)
        failure = None
        if writes:
            try:
                shutil.rmtree(following if self._num_versions else self._folder, ignore_errors=True)
                following.mkdir(parents=True)
                save_file(_apart(weights), following / "model.safetensors", metadata={"format": "pt"})
            except OSError as error:
                failure = f"the weights cannot be written to {str(following)!r} ({error}); make room, and resume"
        failures = gather_object([failure]) if self._processes.num_processes > 1 else [failure]
        if any(failures):
            raise EngineFailure(next(filter(None, failures)))
        self._num_versions += 1
        if writes:
            shutil.rmtree(before, ignore_errors=True)

    def _on_file(self, tensor: torch.Tensor) -> torch.Tensor:
        """Take a weight off its device as soon as it is gathered, so that no device has to hold all of them."""
        dtype = self._dtype if tensor.is_floating_point() else None
        return tensor.detach().to("cpu", dtype or tensor.dtype).contiguous()

    def remove(self) -> None:
        """Delete the folder."""
        if self._processes.is_local_main_process:
            shutil.rmtree(self._folder, ignore_errors=True)


def _apart(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Copy what shares its memory with an earlier entry, which a file cannot hold.

    Tied weights are written under both names all the same: vLLM may keep a packed copy of each.
    """
    seen: set[int] = set()
    apart = {}
    for name, tensor in weights.items():
        apart[name] = tensor.clone() if tensor.data_ptr() in seen else tensor
        seen.add(tensor.data_ptr())
    return apart
