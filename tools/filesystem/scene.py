"""The stage of a filesystem task: a home full of folders, and the look-ups every request begins with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from awpo_tools.people import people_of
from awpo_tools.rehearsal import Rehearsal, listed

from awpo_env.types import JSON, ToolCall

from .backend import Backend, below, name_of, parent_of, size
from .words import COMPANIES, FOLDERS, FORMS, LINES, TOPICS

SHARED = "/shared"
QUOTAS = (20_000, 30_000, 40_000)

Record = dict[str, str]
"""Values by key, as a file of ``key: value`` lines holds them."""


@dataclass(frozen=True, slots=True)
class Difficulty:
    """How hard a stage is.

    Attributes:
        num_folders: Folders of the home beside those a request is about.
        files_per_folder: Files in each folder beside those a request is about.
        nested_share: How often a folder lies inside another one, in [0, 1].
        namesake_share: How often a file that the user names has a namesake in another folder, in [0, 1].
    """

    num_folders: int
    files_per_folder: int
    nested_share: float
    namesake_share: float


class Target(NamedTuple):
    """Something the user speaks of: its path, and how the user names it."""

    path: str
    words: str

    @property
    def name(self) -> str:
        """Its own name."""
        return name_of(self.path)


class Scene(Rehearsal):
    """The home of one user, in the making and then in use.

    Attributes:
        login: Who is served.
        home: The user's home.
        other_home: The home of somebody else.
        trash: What may be emptied when the home is full.
    """

    def __init__(self, rng: np.random.Generator, split: str, difficulty: Difficulty) -> None:
        state: dict[str, JSON] = {"nodes": {}, "read_only": [], "quotas": {}, "declined": []}
        super().__init__(rng, Backend, state, self._introductions)
        self._difficulty = difficulty
        self.login, other = (f"{first}.{last}".lower() for first, last in self.shuffled(people_of(split))[:2])
        self.home, self.other_home = f"/home/{self.login}", f"/home/{other}"
        self.trash = f"{self.home}/trash"
        self.nodes: dict[str, str | None] = self.state["nodes"]
        self.nodes.update(dict.fromkeys(("/home", self.home, self.other_home, self.trash, SHARED)))
        self.state["quotas"] = {self.login: self.pick(QUOTAS), other: self.pick(QUOTAS)}
        self._folders: list[str] = []
        for _ in range(difficulty.num_folders):
            self._folders.append(self.folder().path)
        for directory in (self.trash, self.other_home):
            self.file(directory)

    # Setting the stage

    def folder(self, parent: str = "") -> Target:
        """Put a folder with a new name and some files on the stage, somewhere in the home unless `parent` says where.

        No other request puts anything into it. Folders of the shared directory are said to be shared ones.
        """
        is_nested = bool(self._folders) and self.rng.random() < self._difficulty.nested_share
        parent = parent or (self.pick(self._folders) if is_nested else self.home)
        path = self.put(f"{parent}/{self.new_folder_name()}")
        for _ in range(self._difficulty.files_per_folder):
            self.file(path)
        return Target(path, f"{'my' if below(self.home, path) else 'the shared'} folder {name_of(path)}")

    def file(self, directory: str = "", text: str = "", suffix: str = ".txt") -> Target:
        """Put a file with a new name on the stage, in a folder no request is about unless `directory` says where."""
        path = f"{directory or self.pick(self._folders)}/{self.new_name(suffix)}"
        return Target(self.put(path, text or self.note()), name_of(path))

    def target(self, text: str = "") -> Target:
        """Put a file on the stage, now and then with a namesake, so that the user has to say the folder too."""
        file = self.file(text=text)
        if self.rng.random() >= self._difficulty.namesake_share:
            return file
        elsewhere = [folder for folder in self._folders if folder != parent_of(file.path)]
        self.put(f"{self.pick(elsewhere)}/{file.name}", self.note())
        return Target(file.path, f"{file.name} in my folder {name_of(parent_of(file.path))}")

    def put(self, path: str, text: str | None = None) -> str:
        """Put a file, or a directory without text, on the stage and return its path."""
        self.nodes[path] = text
        return path

    def new_name(self, suffix: str = "") -> str:
        """Return a name that nothing in this task has."""
        return self.unused(lambda: f"{self.pick(TOPICS)}-{self.pick(FORMS)}-{self._number(10, 100)}{suffix}")

    def new_folder_name(self) -> str:
        """Return a name that no folder has."""
        return self.unused(lambda: f"{self.pick(FOLDERS)}-{self._number(2015, 2027)}")

    def note(self, num_lines: int = 0) -> str:
        """Return a text that no other file of the task has, of one to four lines unless `num_lines` says more."""
        return self.unused(lambda: "\n".join(self.shuffled(LINES)[: num_lines or self._number(1, 5)]))

    def record(self) -> Record:
        """Draw values that no other record has."""
        return {
            "supplier": self.unused(lambda: f"{self.pick(TOPICS).title()} {self.pick(COMPANIES)}"),
            "phone": self.new_value("phone"),
            "budget": self.new_value("budget"),
            "deadline": self.new_value("deadline"),
            "room": self.new_value("room"),
        }

    def new_value(self, key: str) -> str:
        """Return a new value for a key of a record."""
        draws = {
            "phone": lambda: f"555-0{self._number(100, 1000)}",
            "budget": lambda: str(10 * self._number(100, 1000)),
            "deadline": lambda: f"2026-{self._number(1, 13):02}-{self._number(1, 29):02}",
            "room": lambda: f"{self.pick('ABCDEF')}{self._number(100, 500)}",
            "invoice": lambda: f"INV-{self._number(1000, 10_000)}",
        }
        return self.unused(draws[key])

    def allow_only(self, free_bytes: int) -> None:
        """Let the user's home, as it is on the stage, have so many free bytes."""
        used = sum(size(text) for path, text in self.nodes.items() if text is not None and below(self.home, path))
        self.state["quotas"][self.login] = used + free_bytes

    def _introductions(self) -> tuple[str, ...]:
        return f"I am {self.login}.", f"This is {self.login}.", f"My login is {self.login}."

    def _number(self, low: int, high: int) -> int:
        return int(self.rng.integers(low, high))

    # Playing the reference

    def find(self, *targets: Target) -> list[JSON]:
        """Find what the user named, all in one message; return what was found for each."""
        roots = [next(root for root in (self.home, self.other_home, SHARED) if below(root, t.path)) for t in targets]
        names = listed([target.name for target in targets])
        return self.act(
            f"The user gives only names, so I call find_paths for {names} in {listed(sorted(set(roots)))}; "
            "the full paths are missing.",
            *(
                ToolCall("find_paths", {"directory": root, "name": target.name})
                for root, target in zip(roots, targets, strict=True)
            ),
        )


def inside(folder: Target, file: Target) -> str:
    """Return the path of a file once it is in a folder."""
    return f"{folder.path}/{file.name}"


def written(record: Mapping[str, str]) -> str:
    """Return the text of a record's file."""
    return "\n".join(f"{key}: {value}" for key, value in record.items())
