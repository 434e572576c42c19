"""What there is: every environment with its tools, presets and task kinds, and which suite a name means."""

from __future__ import annotations

import argparse
import importlib
import json
import re
import textwrap
from collections.abc import Sequence
from pathlib import Path

import gymnasium

from awpo_env.errors import UsageError, did_you_mean
from awpo_env.registration import BENCHMARK_IDS, ENV_IDS
from awpo_env.suites import Suite, load_suite
from awpo_env.types import JSON

_GENERIC = "any suite of yours: gymnasium.make('awpo/ToolUse-v0', suite='./my_suite')"
_BENCHMARK = "a benchmark over a package or files of others, see docs/bfcl.md and docs/datasets.md"
_GYMNASIUM_ID = re.compile(r"-v\d+$")
_WIDEST_COLUMN = 40


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags of ``awpo env list``."""
    parser.add_argument("--json", action="store_true", help="one JSON array instead of a table")
    parser.epilog = "examples:\n  awpo env list\n  awpo env list --json | python -m json.tool"


def run(args: argparse.Namespace) -> int:
    """Print every environment."""
    entries = [describe(env_id) for env_id in (*ENV_IDS, *BENCHMARK_IDS)]
    if args.json:
        print(json.dumps(entries, indent=2))
        return 0
    rows = [
        [
            str(entry["id"]),
            str(entry["suite"] or "-"),
            str(entry["num_tools"] or "-"),
            ", ".join(entry["presets"]) or "-",
            ", ".join(entry["kinds"]) or "-",
            str(entry["about"]),
        ]
        for entry in entries
    ]
    print(table(["ENVIRONMENT", "SUITE", "TOOLS", "PRESETS", "KINDS OF TASK", "ABOUT"], rows))
    return 0


def describe(env_id: str) -> dict[str, JSON]:
    """Return what `awpo env list` shows of one registered environment."""
    name = gymnasium.spec(env_id).kwargs.get("suite")
    if name is None:
        what = _BENCHMARK if env_id in BENCHMARK_IDS else _GENERIC
        return {"id": env_id, "suite": None, "num_tools": None, "presets": [], "kinds": [], "about": what}
    suite = load_suite(name)
    return {
        "id": env_id,
        "suite": name,
        "num_tools": len(suite.tools),
        "presets": list(suite.presets),
        "kinds": list(suite.kinds),
        "about": about(suite),
    }


def about(suite: Suite) -> str:
    """Return the first line of the suite package's docstring, or nothing for a folder without one."""
    package = importlib.import_module(suite.backend.__module__.rpartition(".")[0])
    return (package.__doc__ or "").strip().partition("\n")[0]


def find_suite(name: str) -> Suite:
    """Load what a person calls an environment: a registered id, or anything `load_suite` takes.

    Raises:
        UsageError: There is no such thing; the sentence says what was expected.
    """
    if name in ENV_IDS:
        suite = gymnasium.spec(name).kwargs.get("suite")
        if suite is None:
            raise UsageError(f"{name} is generic; name the suite itself, for example 'retail' or './my_suite'")
        return load_suite(suite)
    if name.startswith("awpo/") and not Path(name).is_dir():
        hint = did_you_mean(name, ENV_IDS)
        if name in BENCHMARK_IDS:
            raise UsageError(f"{name} is a benchmark and no suite; it can be made, evaluated and trained on")
        raise UsageError(f"unknown environment {name!r}; expected one of {', '.join(ENV_IDS)}.{hint}")
    return load_suite(name)


def make(name: str, **kwargs: JSON) -> gymnasium.Env[dict[str, JSON], str]:
    """Make what a person calls an environment: any registered Gymnasium id, or anything `load_suite` takes.

    Args:
        name: ``awpo/Retail-v0``, ``retail``, ``./my_suite``, ``my_package.tools``.
        kwargs: Passed to `gymnasium.make`.

    Raises:
        UsageError: There is no such environment, or it takes no such argument.
    """
    try:
        if _GYMNASIUM_ID.search(name):
            return gymnasium.make(name, disable_env_checker=True, **kwargs)
        find_suite(name)
        return gymnasium.make("awpo/ToolUse-v0", disable_env_checker=True, suite=name, **kwargs)
    except (gymnasium.error.Error, TypeError) as error:
        raise UsageError(f"environment {name!r} cannot be made: {' '.join(str(error).split())}") from None


def table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return rows as aligned columns; a long cell is wrapped within its column."""
    widths = [min(max(len(cell) for cell in column), _WIDEST_COLUMN) for column in zip(headers, *rows, strict=True)]
    lines: list[str] = []
    for row in [headers, *rows]:
        cells = [textwrap.wrap(cell, width) or [""] for cell, width in zip(row, widths, strict=True)]
        for number in range(max(len(cell) for cell in cells)):
            parts = [cell[number] if number < len(cell) else "" for cell in cells]
            padded = [part.ljust(width) for part, width in zip(parts, widths, strict=True)]
            lines.append("  ".join(padded).rstrip())
    return "\n".join(lines)
