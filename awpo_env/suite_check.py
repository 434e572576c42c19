"""Whether a tool suite is sound: solvable, repeatable, and not solved by doing nothing or by chance."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from awpo_env.catalogue import find_suite, table
from awpo_env.errors import UsageError
from awpo_env.folder_check import check_folder
from awpo_env.soundness import LAWS, compare_splits
from awpo_env.suites import SPLITS, Suite

_LEAST_COMPARED_TASKS = 200  # a split, when looking for tasks that stand in both


@dataclass(frozen=True, slots=True)
class Check:
    """One question about a suite and its answer.

    Attributes:
        name: What was asked.
        where: Split and preset, or empty for the whole suite.
        detail: What was measured, in a few words.
        findings: Everything that is wrong; empty when the check passed.
    """

    name: str
    where: str
    detail: str
    findings: tuple[str, ...] = ()

    @property
    def is_passed(self) -> bool:
        """Whether nothing is wrong."""
        return not self.findings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags of ``awpo env check`` and ``awpo tools check``."""
    parser.add_argument("suite", metavar="ENV_OR_SUITE", help="an id (awpo/Retail-v0), a suite (retail) or a folder")
    parser.add_argument("--episodes", type=int, default=20, help="tasks tried in each split and preset (default 20)")
    parser.add_argument("--preset", help="only this preset; all by default")
    parser.add_argument("--split", help="only this split (train or test); both by default")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.epilog = (
        "examples:\n"
        "  awpo env check awpo/Retail-v0\n"
        "  awpo tools check ./my_suite --episodes 200\n"
        "  awpo tools check my_package.weather --json\n\n"
        "Exit status: 0 every check passed, 1 one failed (each finding is printed), 2 there is no such suite."
    )


def run(args: argparse.Namespace) -> int:
    """Check a suite and print what was found."""
    name, checks = _check_all(args)
    is_passed = all(check.is_passed for check in checks)
    if args.json:
        results = [{**asdict(check), "passed": check.is_passed} for check in checks]
        print(json.dumps({"suite": name, "passed": is_passed, "checks": results}, indent=2))
        return 0 if is_passed else 1
    rows = [[check.name, check.where, "pass" if check.is_passed else "FAIL", check.detail] for check in checks]
    findings = [f"{check.name}: {finding}" for check in checks for finding in _merged(check.findings)]
    num_failed = sum(not check.is_passed for check in checks)
    verdict = "all checks passed" if is_passed else f"{num_failed} of {len(checks)} checks failed"
    print("\n".join([table(["CHECK", "WHERE", "RESULT", "MEASURED"], rows), *findings, f"\n{name}: {verdict}"]))
    return 0 if is_passed else 1


def _check_all(args: argparse.Namespace) -> tuple[str, list[Check]]:
    """Return the suite's name and every check; of a folder that cannot be loaded, what is wrong with each file."""
    try:
        suite = find_suite(args.suite)
    except Exception as error:
        folder = Path(args.suite)
        if not folder.is_dir():
            raise
        files = check_folder(folder.resolve())
        if not any(files.values()):
            files["all files"] = [str(error)]
        return args.suite, [Check(file, "", "as written", tuple(found)) for file, found in files.items()]
    return suite.name, list(check_suite(suite, args.episodes, split=args.split, preset=args.preset))


def _merged(findings: Iterable[str]) -> list[str]:
    """Return findings with the same problem as one line that names the first task and counts the others."""
    tasks_of: dict[str, list[str]] = {}
    for finding in findings:
        task_id, _, problem = finding.partition(": ")
        tasks_of.setdefault(problem, []).append(task_id)
    return [
        f"{tasks[0]}{f' and {len(tasks) - 1} more' if len(tasks) > 1 else ''}: {problem}".removesuffix(": ")
        for problem, tasks in tasks_of.items()
    ]


def check_suite(
    suite: Suite, num_tasks: int = 20, split: str | None = None, preset: str | None = None
) -> Iterator[Check]:
    """Yield every check of `suite`, one after the other.

    A task stands in both splits when its state, messages, reference and facts are equal, whatever its id.

    Args:
        suite: A loaded suite.
        num_tasks: Tasks tried in each split and preset, at least 1.
        split: Only this split.
        preset: Only this preset.

    Raises:
        UsageError: There is no such split or preset, or `num_tasks` is below 1.
    """
    if not suite.is_resettable:
        raise UsageError(
            f"suite {suite.name!r} does not reset, and a check would leave random calls on its server; "
            "check it on a server that resets"
        )
    if num_tasks < 1:
        raise UsageError(f"{num_tasks} episodes were asked for; expected at least 1")
    for where, task_ids in _places(suite, num_tasks, split, preset):
        for name, examine in LAWS.items():
            detail, findings = examine(suite, task_ids)
            yield Check(name, where, detail, tuple(findings))
    if suite.generate is not None and split is None:
        for where in [preset] if preset else suite.presets:
            detail, findings = compare_splits(suite, where, max(num_tasks, _LEAST_COMPARED_TASKS))
            yield Check("train and test differ", where, detail, tuple(findings))


def _places(suite: Suite, num_tasks: int, split: str | None, preset: str | None) -> Iterator[tuple[str, Sequence[str]]]:
    """Yield where tasks are, with ids of the first of them: fixed ones, then every split and preset of a generator."""
    if split is not None:
        suite.check_split(split)
    if preset is not None:
        suite.check(split or SPLITS[0], preset)
    elif fixed := list(suite.tasks if split is None else suite.fixed_ids(split)):
        yield "tasks.jsonl", fixed[:num_tasks]
    elif suite.generate is None:  # nothing was looked at, which must not read as nothing was found
        raise UsageError(f"suite {suite.name!r} has no tasks in split {split!r}; expected at least one to check")
    if suite.generate is not None:
        for each_split in [split] if split else SPLITS:
            for each_preset in [preset] if preset else suite.presets:
                where = f"{each_split}/{each_preset}"
                yield where, [f"{where}/{index}" for index in range(num_tasks)]
