"""The `awpo` command: names its commands, imports the one that is chosen, and turns mistakes into one sentence."""

from __future__ import annotations

import argparse
import importlib
import itertools
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version

from awpo_env.errors import AwpoError, UsageError, did_you_mean

EXIT_USAGE = 2  # asked for something impossible
_EXIT_FAILED = 1  # ran and failed
_EXIT_INTERRUPTED = 130  # what a shell reports for SIGINT
_EXIT_BROKEN_PIPE = 141  # what a shell reports for SIGPIPE

_EXTRA_OF_MODULE = {
    "torch": "train",
    "transformers": "train",
    "accelerate": "train",
    "safetensors": "train",
    "yaml": "train",
    "rich": "train",
    "scipy": "train",
    "openai": "openai",
    "aiohttp": "judge",
    "tenacity": "judge",
    "httpx": "vllm-client",
    "vllm": "vllm",
    "mpmath": "bfcl",
}


@dataclass(frozen=True, slots=True)
class Command:
    """One command: where it lives and what it is for.

    A module has ``add_arguments(parser)`` and ``run(args) -> int``. One that makes its flags itself, from a
    configuration, has ``main(arguments) -> int`` instead.

    Attributes:
        module: Imported only when the command is chosen.
        summary: One line of help.
        parses_itself: Whether everything behind the command is handed to the module's ``main`` untouched.
    """

    module: str
    summary: str
    parses_itself: bool = False


COMMANDS = {
    "env list": Command("awpo_env.catalogue", "show the environments, their tools, presets and task kinds"),
    "env play": Command("awpo_env.play", "take the assistant's seat in one task and see the outcome"),
    "env check": Command("awpo_env.suite_check", "check a suite: solvable, repeatable, not solved by doing nothing"),
    "env export": Command("awpo_env.demonstrations", "write reference solutions as chat demonstrations"),
    "judge check": Command("awpo_env.judges.check", "measure a judge on 60 labelled episodes"),
    "eval": Command("awpo_agent.evaluate", "measure how often a model solves an environment's tasks"),
    "sft": Command("awpo_agent.sft", "fine-tune a model on demonstrations", parses_itself=True),
    "show": Command("awpo_agent.show", "show one episode of a training run, and what decided its advantage"),
    "tools check": Command("awpo_env.suite_check", "check your own tools, tasks and backend; every finding at once"),
    "tools new": Command("awpo_env.suite_template", "write a small suite of your own that passes the check and trains"),
    "train": Command("awpo_agent.train", "train a model with outcome and reasoning rewards", parses_itself=True),
}
"""Every command by the words that choose it."""

_GROUPS = {
    "env": "environments: list, play, check, export",
    "judge": "judges of reasoning: check",
    "tools": "tools of your own: check, new",
}

_EXAMPLES = """\
examples:
  awpo env list                                   what there is
  awpo env play awpo/Calculator-v0                solve a task yourself
  awpo env check ./my_suite                       is my own tool suite sound?
  awpo train --help                               every training setting

`awpo COMMAND --help` explains one command. Exit status: 0 done, 1 ran and failed, 2 asked for something impossible."""


class _Parser(argparse.ArgumentParser):
    """Argparse whose mistakes are `UsageError`, so that they are reported like every other one."""

    def error(self, message: str) -> None:
        raise UsageError(f"{message}; see `{self.prog} --help`")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status.

    Args:
        arguments: The words after ``awpo``; None takes them from the process.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    return guarded(lambda: _dispatch(words))


def guarded(run: Callable[[], int]) -> int:
    """Return what `run` returns; a user's mistake becomes one sentence on stderr and exit status 2.

    What a run cannot go on without and does not have is one sentence too, and exit status 1. Anything that is neither,
    nor the user's wish to stop, leaves as the traceback it is.
    """
    try:
        status = run()
        sys.stdout.flush()  # a closed pipe shows here, not at interpreter exit
        return status
    except UsageError as error:
        print(f"awpo: {error}", file=sys.stderr)
        return EXIT_USAGE
    except AwpoError as error:
        print(f"awpo: {error}", file=sys.stderr)
        return _EXIT_FAILED
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in _EXTRA_OF_MODULE:
            raise
        install = f"pip install 'awpo[{_EXTRA_OF_MODULE[missing]}]'"
        print(f"awpo: this needs {missing!r}, which is not installed; run: {install}", file=sys.stderr)
        return EXIT_USAGE
    except KeyboardInterrupt:
        print("awpo: interrupted", file=sys.stderr)
        return _EXIT_INTERRUPTED
    except BrokenPipeError:
        # Python flushes stdout once more at exit and would complain about the pipe again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _EXIT_BROKEN_PIPE


def _dispatch(words: list[str]) -> int:
    if not words:
        print(_top_help(), file=sys.stderr)
        return EXIT_USAGE
    if words[0] in ("-h", "--help", "help"):
        print(_top_help())
        return 0
    if words[0] in ("-V", "--version"):
        print(f"awpo {version('awpo')}")
        return 0
    name, rest = _split_command(words)
    if name in _GROUPS:
        print(_group_help(name))
        return 0
    command = COMMANDS[name]
    module = importlib.import_module(command.module)
    if command.parses_itself:
        return module.main(rest)
    return module.run(_parse(name, module.add_arguments, rest))


def _split_command(words: list[str]) -> tuple[str, list[str]]:
    """Return the command (or the group whose help is wanted) and the words behind it."""
    first = words[0]
    if first in COMMANDS:
        return first, words[1:]
    if first not in _GROUPS:
        names = [*_GROUPS, *(name for name in COMMANDS if " " not in name)]
        raise UsageError(f"unknown command {first!r}; expected one of {', '.join(names)}.{did_you_mean(first, names)}")
    members = [name.partition(" ")[2] for name in COMMANDS if name.startswith(f"{first} ")]
    if len(words) > 1 and words[1] in ("-h", "--help"):
        return first, []
    second = words[1] if len(words) > 1 else ""
    if second not in members:
        problem = f"unknown command '{first} {second}'" if second else f"'{first}' needs a command"
        raise UsageError(f"{problem}; expected one of {', '.join(members)}.{did_you_mean(second, members)}")
    return f"{first} {second}", words[2:]


def _parse(name: str, add_arguments: Callable[[argparse.ArgumentParser], None], rest: list[str]) -> argparse.Namespace:
    parser = _Parser(
        prog=f"awpo {name}",
        description=COMMANDS[name].summary,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add_arguments(parser)
    flags = [flag for action in parser._actions for flag in action.option_strings]
    # Before anything is parsed: a flag that is misspelt matters more than one that is missing because of it.
    for word in itertools.takewhile(lambda word: word != "--", rest):
        flag = word.partition("=")[0]
        if flag.startswith("--") and flag not in flags:
            raise UsageError(
                f"awpo {name} does not know {flag!r}; see `awpo {name} --help`.{did_you_mean(flag, flags)}"
            )
    return parser.parse_args(rest)


def _top_help() -> str:
    lines = ["usage: awpo COMMAND ...", "", "Teach language models to use tools.", "", "commands:"]
    lines += _command_lines(list(COMMANDS))
    return "\n".join([*lines, "", _EXAMPLES])


def _group_help(group: str) -> str:
    names = [name for name in COMMANDS if name.startswith(f"{group} ")]
    usage = f"usage: awpo {group} COMMAND ..."
    return "\n".join([usage, "", "commands:", *_command_lines(names), "", f"`awpo {names[0]} --help` explains one."])


def _command_lines(names: list[str]) -> list[str]:
    return [f"  {name:<12}{COMMANDS[name].summary}" for name in names]


if __name__ == "__main__":
    sys.exit(main())
