"""Settings of a judge model in process: one dataclass, checked as a whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from awpo_env.errors import UsageError
from awpo_env.judges.settings_file import FileSettings, number_problems
from awpo_env.types import JSON

Method = Literal["expected", "generate"]
Engine = Literal["transformers", "vllm"]
DType = Literal["auto", "float32", "bfloat16", "float16"]


@dataclass(frozen=True, slots=True)
class LocalJudgeSettings(FileSettings):
    """Which model a `LocalJudge` holds, and how it is read.

    Attributes:
        model: A checkpoint folder, a run folder, a hub name, or ``base``.
        engine: What runs the model: ``transformers``, or ``vllm``, which holds what ``generate`` writes to the schema
            of a verdict.
        method: ``expected``: each mark is the mean over the marks, weighed with the probabilities the model gives them
            at their place in the reply; always the same, and fit for small models. ``generate``: the model writes its
            reply, greedily, with a rationale; a reply without a verdict is a missing score.
        sees_reference: Whether the task's reference calls are shown. The outcome never is.
        rubric: A rubric file; None is the one for tool use that ships. With ``expected`` every mark has to begin with
            another token, which whole numbers up to 9 do everywhere.
        device: ``cpu``, ``cuda``, ``cuda:1``, ``mps``; None is this process's accelerator, or the CPU without one, and
            with the engine ``vllm`` all there is to choose.
        dtype: Of the weights; ``auto`` is what the checkpoint holds.
        gpu_memory_utilization: Share of the GPU's memory that ``vllm`` takes, in (0, 1].
        batch_size: Most transcripts in one batch. With 1 and ``transformers``, a score is the same to the last bit
            whoever else is judged; otherwise to rounding.
        least_mass: With ``expected``, the least share of its probability that the model has to give to marks where a
            mark belongs. Below it the model does not answer what it was asked, and the score is missing.
        max_new_tokens: Longest reply of ``generate``.
        max_prompt_tokens: A longer prompt is not read; its score is missing. None is the model's limit.
        template_options: Passed to the chat template.
        seed: Part of what a cached reply is found by: another seed asks again.
        cache_dir: Replies and the ledger are kept here; None keeps none.
        cache_size_mb: The oldest replies go when there are more.

    Raises:
        UsageError: Something is out of range; all problems in one sentence.
    """

    model: str
    engine: Engine = "transformers"
    method: Method = "expected"
    sees_reference: bool = True
    rubric: str | None = None
    device: str | None = None
    dtype: DType = "auto"
    gpu_memory_utilization: float = 0.3
    batch_size: int = 8
    least_mass: float = 0.5
    max_new_tokens: int = 1024
    max_prompt_tokens: int | None = None
    template_options: Mapping[str, JSON] = field(default_factory=lambda: {"enable_thinking": False})
    seed: int = 0
    cache_dir: str | None = "~/.cache/awpo/judge"
    cache_size_mb: float = 1024.0

    def __post_init__(self) -> None:
        if problems := _problems(self):
            raise UsageError(f"judge settings: {'; '.join(problems)}")


_NUMBERS: dict[str, tuple[float, bool]] = {  # least value, and whether it has to be whole
    "gpu_memory_utilization": (1e-3, False),
    "batch_size": (1, True),
    "least_mass": (0, False),
    "max_new_tokens": (1, True),
    "max_prompt_tokens": (1, True),
    "seed": (0, True),
    "cache_size_mb": (1e-3, False),
}


def _problems(settings: LocalJudgeSettings) -> list[str]:
    problems = number_problems(settings, _NUMBERS, may_be_none=("max_prompt_tokens",))
    for name in ("least_mass", "gpu_memory_utilization"):
        if isinstance(share := getattr(settings, name), int | float) and share > 1:
            problems.append(f"{name} is {share!r}; expected a share of at most 1")
    for name, allowed in (("engine", get_args(Engine)), ("method", get_args(Method)), ("dtype", get_args(DType))):
        if getattr(settings, name) not in allowed:
            problems.append(f"{name} is {getattr(settings, name)!r}; expected one of {', '.join(allowed)}")
    if not isinstance(settings.model, str) or not settings.model:
        problems.append(f"model is {settings.model!r}; expected a folder or a name")
    for name in ("rubric", "device", "cache_dir"):
        if not isinstance(getattr(settings, name), str | None):
            problems.append(f"{name} is {getattr(settings, name)!r}; expected a text or nothing")
    if settings.engine == "vllm" and settings.device is not None:
        problems.append(f"device is {settings.device!r}; the engine 'vllm' takes this process's, so leave it out")
    if not isinstance(settings.sees_reference, bool):
        problems.append(f"sees_reference is {settings.sees_reference!r}; expected true or false")
    if not isinstance(settings.template_options, Mapping):
        problems.append(f"template_options is {settings.template_options!r}; expected names and values")
    return problems
