"""What checking a call costs next to `jsonschema.validate` and a whole step, and which schemas other trainers keep."""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

import jsonschema

from awpo_env.env import ToolUseEnv
from awpo_env.schema import ToolSet
from awpo_env.types import ToolCall

# name, schema of one argument, a value that fits, the Python hint that comes nearest
CASES: list[tuple[str, Any, Any, Any]] = [
    ("string", {"type": "string"}, "W1", str),
    ("integer", {"type": "integer"}, 3, int),
    ("boolean", {"type": "boolean"}, True, bool),
    ("enum of strings", {"type": "string", "enum": ["red", "green"]}, "red", Literal["red", "green"]),
    ("enum of integers", {"type": "integer", "enum": [1, 2]}, 2, Literal[1, 2]),
    ("const", {"const": "fixed"}, "fixed", Literal["fixed"]),
    ("bounds", {"type": "integer", "minimum": 1, "maximum": 9}, 4, Annotated[int, "from 1 to 9"]),
    ("exclusive bounds", {"type": "number", "exclusiveMinimum": 0}, 0.5, float),
    ("pattern", {"type": "string", "pattern": "^W[0-9]{4}$"}, "W1234", str),
    ("length", {"type": "string", "minLength": 2, "maxLength": 8}, "abc", str),
    ("list", {"type": "array", "items": {"type": "string"}}, ["a", "b"], list[str]),
    (
        "list of bounded length",
        {"type": "array", "items": {"type": "integer"}, "minItems": 1, "uniqueItems": True},
        [1],
        list[int],
    ),
    ("nullable", {"type": ["string", "null"]}, None, str | None),
    ("anyOf", {"anyOf": [{"type": "string"}, {"type": "integer"}]}, 3, str | int),
    ("oneOf", {"oneOf": [{"type": "string"}, {"type": "integer"}]}, 3, str | int),
    (
        "object",
        {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        {"city": "Oslo"},
        dict,
    ),
    (
        "closed object",
        {"type": "object", "properties": {"x": {"type": "number"}}, "additionalProperties": False},
        {"x": 1},
        dict,
    ),
    ("map", {"type": "object", "additionalProperties": {"type": "integer"}}, {"a": 1}, dict[str, int]),
    ("reference", {"$ref": "#/$defs/id"}, "N1", str),
    (
        "list of objects",
        {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"item": {"type": "string", "pattern": "^I[0-9]+$"}, "count": {"type": "integer"}},
                "required": ["item"],
                "additionalProperties": False,
            },
        },
        [{"item": "I1", "count": 2}, {"item": "I22"}],
        list[dict],
    ),
]


def declare(schema: Any) -> dict[str, Any]:
    """Return a tool with one argument of this schema."""
    parameters = {
        "type": "object",
        "properties": {"value": schema},
        "required": ["value"],
        "additionalProperties": False,
        "$defs": {"id": {"type": "string", "maxLength": 9}},
    }
    return {"type": "function", "function": {"name": "f", "description": "d", "parameters": parameters}}


def microseconds(do: Callable[[], Any], rounds: int, least_s: float = 0.02) -> float:
    """Return the median over rounds of the CPU time of one run."""
    number = 1
    while True:
        start = time.process_time()
        for _ in range(number):
            do()
        if time.process_time() - start > least_s:
            break
        number *= 4
    figures = []
    for _ in range(rounds):
        start = time.process_time()
        for _ in range(number):
            do()
        figures.append((time.process_time() - start) / number * 1e6)
    return statistics.median(figures)


def keywords(schema: Any) -> set[str]:
    """Return every keyword of a schema with where it stands."""
    if isinstance(schema, list):
        return {f"/{index}{each}" for index, item in enumerate(schema) for each in keywords(item)}
    if not isinstance(schema, dict):
        return set()
    found = set()
    for name, part in schema.items():
        found |= {f"/{name}"} | {f"/{name}{each}" for each in keywords(part)}
    return found


def kept_by_verl(schema: dict[str, Any]) -> str:
    """Say what verl makes of it.

    Read from `verl/tools/schemas.py` of the public repository (commit 2066bae): a property has a `type` that is one
    string, a description, and an `enum` of strings; its model ignores everything else.
    """
    enum = schema.get("enum", [])
    if not isinstance(schema.get("type"), str) or not all(isinstance(each, str) for each in enum):
        return "refused"
    return "dropped" if set(schema) - {"type", "description", "enum"} else "kept"


def kept_by_trl(schema: dict[str, Any], hint: Any) -> str:
    """Say what becomes of it in TRL, which takes no schema but a function and has transformers read the hints."""
    try:
        from transformers.utils import get_json_schema
    except ImportError:
        return "-"

    def f(value: Any) -> None:
        """D.

        Args:
            value: V.
        """

    f.__annotations__["value"] = hint
    try:
        read = get_json_schema(f)["function"]["parameters"]["properties"]["value"]
    except Exception:
        return "refused"
    read.pop("description", None)
    if read == schema:
        return "kept"
    return "dropped" if keywords(schema) - keywords(read) else "changed"


def compare(rounds: int) -> list[dict[str, Any]]:
    """Return one row a schema: our time, that of `jsonschema.validate`, and what the others keep."""
    rows = []
    for name, schema, value, hint in CASES:
        declaration = declare(schema)
        tools, call = ToolSet([declaration]), ToolCall("f", {"value": value})
        assert tools.check(call, ["f"]) is None, name
        ours = microseconds(lambda tools=tools, call=call: tools.check(call, ("f",)), rounds)
        parameters = declaration["function"]["parameters"]
        theirs = microseconds(lambda call=call, schema=parameters: jsonschema.validate(call.arguments, schema), rounds)
        row = {"schema": name, "us": ours, "jsonschema.validate us": theirs, "times": theirs / ours}
        rows.append({**row, "TRL": kept_by_trl(schema, hint), "verl": kept_by_verl(schema)})
    return rows


def share_of_a_step(rounds: int, num_tasks: int = 40) -> tuple[float, float]:
    """Return the time of a retail step and of its checks, in microseconds of CPU, both on reference solutions."""
    env = ToolUseEnv("retail")
    tasks = [env.suite.task(f"train/{env.suite.presets[0]}/{index}") for index in range(num_tasks)]
    texts = [[env.parser.format(m) for turn in task.turns for m in turn.reference] for task in tasks]
    on_show = list(env.suite.tools)
    calls = [call for task in tasks for call in task.reference_calls()]
    num_steps = sum(map(len, texts))

    def play() -> None:
        for task, actions in zip(tasks, texts, strict=True):
            env.reset(options={"task_id": task.id})
            for action in actions:
                env.step(action)

    def check() -> None:
        for call in calls:
            env.suite.tools.check(call, on_show)

    step, checks = microseconds(play, rounds) / num_steps, microseconds(check, rounds) / num_steps
    env.close()
    return step, checks


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="rounds the median is taken of (default 7)")
    parser.add_argument("--json", action="store_true", help="print JSON only")
    args = parser.parse_args(argv)
    rows, (step, checks) = compare(args.rounds), share_of_a_step(args.rounds)
    slowest = min(row["times"] for row in rows)
    if args.json:
        print(json.dumps({"schemas": rows, "step_us": step, "checks_us": checks, "share": checks / step}, indent=1))
        return 0
    print(f"{'schema':<24}{'us':>8}{'validate us':>13}{'times':>7}  {'TRL':<9}verl")
    for row in rows:
        figures = f"{row['us']:>8.2f}{row['jsonschema.validate us']:>13.0f}{row['times']:>7.0f}"
        print(f"{row['schema']:<24}{figures}  {row['TRL']:<9}{row['verl']}")
    print(f"least advantage over jsonschema.validate: {slowest:.0f} times (wanted: 20)")
    print(f"checks of a retail step: {checks:.1f} of {step:.0f} us, {checks / step:.1%} (wanted: at most a third)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
