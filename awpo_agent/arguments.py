"""One YAML file plus flags that override it, parsed into a config dataclass by jsonargparse."""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Sequence
from typing import TypeVar

import yaml
from jsonargparse import ArgumentError, ArgumentParser

from awpo_env.errors import UsageError, did_you_mean

Config = TypeVar("Config")


def parse_config(
    config_class: type[Config], argv: Sequence[str], program: str, description: str
) -> tuple[Config, bool]:
    """Parse ``--config FILE`` and ``--field value`` flags; later ones override earlier ones.

    Args:
        config_class: A dataclass whose docstring documents every field; ``--help`` shows it.
        argv: The arguments, program name left out.
        program: Shown in the usage line.
        description: First paragraph of the help.

    Returns:
        The config, and whether ``--dry_run`` asks only to show it.

    Raises:
        UsageError: An unknown key or an impossible value, in one sentence.
    """
    parser = ArgumentParser(prog=program, description=description, exit_on_error=False, allow_abbrev=False)
    parser.add_argument("--config", action="config", help="YAML file with any of the fields below")
    parser.add_argument("--dry_run", action="store_true", help="print the resolved configuration and stop")
    parser.add_class_arguments(config_class, None)
    try:
        values = vars(parser.instantiate(parser.parse_args(list(argv))))
    except ArgumentError as error:
        raise UsageError(_one_sentence(error, config_class)) from None
    values.pop("config")
    is_dry_run = values.pop("dry_run")
    return config_class(**values), is_dry_run


def to_yaml(config: object) -> str:
    """Return a config dataclass as YAML that `parse_config` reads back."""
    return yaml.safe_dump(dataclasses.asdict(config), sort_keys=False, allow_unicode=True)


def show(config: object) -> None:
    """Print the resolved configuration."""
    sys.stdout.write(to_yaml(config))


def _one_sentence(error: ArgumentError, config_class: type) -> str:
    text = re.sub(r"^Problem with given \w+ config '[^']*':\s*", "", " ".join(str(error).split()))
    unknown = re.search(r"(?:unrecognized arguments: --|Option '|Key ')([\w.]+)", text)
    if unknown:
        names = [field.name for field in dataclasses.fields(config_class)]
        text = f"unknown setting {unknown.group(1)!r}.{did_you_mean(unknown.group(1), names)}"
        return text + " --help lists all of them."
    return text.removeprefix("error: ")
