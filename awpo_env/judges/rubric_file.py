"""What a judge model is asked for: criteria with weights from a file, the form of its reply, and marks to a score."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path

from awpo_env.errors import UsageError
from awpo_env.types import JSON

DEFAULT_RUBRIC = "rubric-tool-use-v1.yaml"
_NAME = re.compile(r"[a-z][a-z0-9_]{0,40}")
_MOST_MARKS = 100


@dataclass(frozen=True, slots=True)
class Criterion:
    """One thing a judge marks.

    Attributes:
        name: Its key in the reply and in `Score.parts`.
        question: What the judge is asked.
        weight: Its share in the score, above 0.
        optional: Whether it may not apply; a judge then gives no mark, and the weight falls away.
    """

    name: str
    question: str
    weight: float = 1.0
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Rubric:
    """Criteria, and the scale they are marked on.

    Attributes:
        name: What it is called, for people.
        highest_mark: Marks are whole numbers from 0 to this.
        marks: What the numbers mean.
        criteria: At least one of them not optional.
    """

    name: str
    highest_mark: int
    marks: str
    criteria: tuple[Criterion, ...]

    @classmethod
    def load(cls, path: str | Path | None = None) -> Rubric:
        """Read a rubric file (YAML); None is the one that ships, for tool use.

        Raises:
            UsageError: The file is missing or is not a rubric.
        """
        import yaml

        source = files("awpo_env.data") / DEFAULT_RUBRIC if path is None else Path(path)
        try:
            data = yaml.safe_load(source.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise UsageError(f"cannot read rubric {str(path)!r}: {error}; expected a YAML file") from error
        return cls.from_json(data, str(path or DEFAULT_RUBRIC))

    @classmethod
    def from_json(cls, data: JSON, where: str = "rubric") -> Rubric:
        """Build a rubric from what its file holds.

        Raises:
            UsageError: Something is missing, unknown or out of range; all problems in one sentence.
        """
        if problems := _problems(data):
            raise UsageError(f"{where} is no rubric: {'; '.join(problems)}")
        return cls(
            name=data["name"],
            highest_mark=data.get("highest_mark", 4),
            marks=data.get("marks", ""),
            criteria=tuple(
                Criterion(entry["name"], entry["question"], float(entry.get("weight", 1)), entry.get("optional", False))
                for entry in data["criteria"]
            ),
        )

    def value(self, marks: Mapping[str, int | None]) -> float:
        """Return the weighted mean of the marks that were given, in [0, 1]. Source: ours."""
        given = [(criterion.weight, marks[criterion.name]) for criterion in self.criteria]
        total = sum(weight for weight, mark in given if mark is not None)
        return sum(weight * mark for weight, mark in given if mark is not None) / (self.highest_mark * total)

    def parts(self, marks: Mapping[str, int | None]) -> dict[str, float]:
        """Return each mark that was given as a number in [0, 1]."""
        return {name: mark / self.highest_mark for name, mark in marks.items() if mark is not None}

    def schema(self, ids: Sequence[str]) -> dict[str, JSON]:
        """Return the JSON Schema of a reply about these transcripts; every property required, as strict modes ask."""
        marks = {
            criterion.name: {
                "type": ["integer", "null"] if criterion.optional else "integer",
                "enum": [*range(self.highest_mark + 1), *([None] if criterion.optional else [])],
            }
            for criterion in self.criteria
        }
        verdict = _object(
            {"id": {"type": "string", "enum": list(ids)}, "rationale": {"type": "string"}, "marks": _object(marks)}
        )
        return _object({"verdicts": {"type": "array", "items": verdict, "minItems": len(ids), "maxItems": len(ids)}})

    def criteria_text(self) -> str:
        """Return the criteria as a list for the prompt."""
        return "\n".join(f"- {criterion.name}: {criterion.question.strip()}" for criterion in self.criteria)

    def form_text(self) -> str:
        """Return what a reply looks like, for the prompt."""
        marks = {
            criterion.name: f"0..{self.highest_mark}{' or null' if criterion.optional else ''}"
            for criterion in self.criteria
        }
        return json.dumps({"verdicts": [{"id": "...", "rationale": "...", "marks": marks}]})

    def to_json(self) -> dict[str, JSON]:
        """Return a JSON object from which `from_json` rebuilds an equal rubric."""
        return asdict(self)


def _object(properties: dict[str, JSON]) -> dict[str, JSON]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _problems(data: JSON) -> list[str]:
    if not isinstance(data, dict):
        return ["expected name, highest_mark, marks and criteria"]
    problems = [f"unknown key {key!r}" for key in data if key not in ("name", "highest_mark", "marks", "criteria")]
    if not isinstance(data.get("name"), str):
        problems.append("name has to be a text")
    if not isinstance(data.get("marks", ""), str):
        problems.append("marks has to be a text")
    highest = data.get("highest_mark", 4)
    if not isinstance(highest, int) or isinstance(highest, bool) or not 1 <= highest <= _MOST_MARKS:
        problems.append(f"highest_mark is {highest!r}; expected a whole number from 1 to {_MOST_MARKS}")
    criteria = data.get("criteria")
    if not isinstance(criteria, list | tuple) or not all(isinstance(entry, dict) for entry in criteria):
        return [*problems, "criteria has to be a list of objects with name, question, weight and optional"]
    for entry in criteria:
        problems += _criterion_problems(entry)
    names = [entry.get("name") for entry in criteria]
    problems += [f"criterion {name!r} stands there twice" for name in {*names} if names.count(name) > 1]
    if all(entry.get("optional", False) for entry in criteria):
        problems.append("at least one criterion must not be optional")
    return problems


def _criterion_problems(entry: Mapping[str, JSON]) -> list[str]:
    name, weight = entry.get("name"), entry.get("weight", 1)
    problems = [
        f"criterion {name!r} has an unknown key {key!r}"
        for key in entry
        if key not in ("name", "question", "weight", "optional")
    ]
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        problems.append(f"criterion name {name!r} has to be lower case letters, digits and _")
    if not isinstance(entry.get("question"), str):
        problems.append(f"criterion {name!r} needs a question")
    if not isinstance(weight, int | float) or isinstance(weight, bool) or not 0 < weight < float("inf"):
        problems.append(f"criterion {name!r} has weight {weight!r}; expected a number above 0")
    if not isinstance(entry.get("optional", False), bool):
        problems.append(f"criterion {name!r} has optional {entry['optional']!r}; expected true or false")
    return problems
