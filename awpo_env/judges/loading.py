"""A judge by the name a person gives it: ``rubric``, or the settings file of a judge model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from awpo_env.errors import UsageError
from awpo_env.judges.base import Judge
from awpo_env.judges.rubric import RubricJudge

RUBRIC = "rubric"


def load_judge(name: str, **changes: Any) -> Judge:
    """Return the offline rubric, or a judge model as a YAML file of `JudgeSettings` describes it.

    Args:
        name: ``rubric``, or the path of a settings file.
        changes: Settings on top of the file's; the rubric has only ``sees_reference``.

    Raises:
        UsageError: There is no such judge, or the file is wrong.
    """
    if name == RUBRIC:
        return RubricJudge(sees_reference=changes.get("sees_reference", True))
    if Path(name).suffix not in (".yaml", ".yml"):
        raise UsageError(f"unknown judge {name!r}; expected {RUBRIC!r} or a settings file such as judge.yaml")
    from awpo_env.judges.llm import LLMJudge
    from awpo_env.judges.settings import JudgeSettings

    return LLMJudge(JudgeSettings.load(name), **changes)
