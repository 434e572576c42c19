"""One task in the making: a calendar is set up, then the reference is played on it, so that it can only copy."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date, timedelta
from typing import Any, TypeVar

import numpy as np

from awpo_env.errors import ToolError
from awpo_env.types import JSON, AssistantMessage, Fact, Task, ToolCall, UserTurn

from .backend import Backend, Span, minutes_between, offset_minutes, shift
from .people import (
    DEPARTMENTS,
    FIRST_NAMES,
    FORMS,
    LAST_NAMES,
    OFFSETS,
    TOPICS,
    UTC,
    WORKING_HOURS,
    is_test_name,
)

Person = dict[str, str]
Item = TypeVar("Item")

FIRST_MONDAY = date(2025, 1, 6)
LENGTHS = (30, 45, 60, 90)
NEAR_MINUTES = 180  # colleagues this close share at least an hour of every working day
FAR_MINUTES = 540
GRID_MINUTES = 30


class NoRoomError(Exception):
    """The calendar drawn for a task has no room for what the task needs; draw another one."""


class Scene:
    """People and meetings of one task, then its turns.

    First `add_event` sets the stage. From the first `says` on the calendar is the task's state, and `act` plays the
    assistant's calls on it: what one call returns is there for the next to copy.

    Attributes:
        user: Who is served.
        colleagues: People who share working time with the user.
        far: Somebody who hardly does; None in easy scenes.
        days: Three working days in a row.
        is_easy: Everybody lives at UTC, so nothing has to be converted.
    """

    def __init__(self, rng: np.random.Generator, split: str, is_easy: bool) -> None:
        self.rng = rng
        self.is_easy = is_easy
        self.turns: list[UserTurn] = []
        self._titles = iter(self.shuffled([f"{topic} {form}" for topic in TOPICS for form in FORMS]))
        self._numbers = iter(self.shuffled(range(200, 900)))
        self._state: JSON = None
        self._message = ""
        self._reference: list[AssistantMessage] = []
        monday = FIRST_MONDAY + timedelta(weeks=int(rng.integers(100)), days=int(rng.integers(3)))
        self.days = [(monday + timedelta(days=k)).isoformat() for k in range(3)]
        self._names = iter(self._names_of(split))
        self._cast()
        people = self.shuffled([self.user, *self.colleagues, *([self.far] if self.far else [])])
        self.backend = Backend({"people": people, "events": [], "next_id": 0, "declined": []})
        for _ in range(3 if is_easy else 4):
            organiser, *attendees = self.shuffled([self.user, *self.colleagues])[: self.pick((2, 2, 3))]
            self.add_event(organiser, attendees)

    # Setting the stage

    def pick(self, items: Sequence[Item]) -> Item:
        """Return one of `items`."""
        return items[int(self.rng.integers(len(items)))]

    def shuffled(self, items: Iterable[Item]) -> list[Item]:
        """Return `items` in random order."""
        items = list(items)
        return [items[i] for i in self.rng.permutation(len(items))]

    def guests(self, count: int) -> list[Person]:
        """Return colleagues to meet."""
        return self.shuffled(self.colleagues)[:count]

    def title(self) -> str:
        """Return a title that no other meeting of the task has."""
        return next(self._titles)

    def stranger(self) -> str:
        """Return the full name of somebody who is not in the calendar."""
        return " ".join(next(self._names))

    def draw_minutes(self, longest: int = LENGTHS[-1]) -> int:
        """Return a length that the rules allow."""
        return self.pick([minutes for minutes in LENGTHS if minutes <= longest])

    def spans(self, people: Sequence[Person], minutes: int, day: str) -> list[Span]:
        """Return the UTC spans in which all `people` can meet on the local `day` of the first."""
        found = self.backend.find_free_slot([person["handle"] for person in people], day, minutes)["free"]
        return [(span["start"], span["end"]) for span in found]

    def starts(self, people: Sequence[Person], minutes: int, day: str) -> list[str]:
        """Return starts in UTC on the half hour of a span, earliest first."""
        return [
            shift(start, later)
            for start, end in self.spans(people, minutes, day)
            for later in range(0, minutes_between(start, end) - minutes + 1, GRID_MINUTES)
        ]

    def free_start(self, people: Sequence[Person], minutes: int, days: Sequence[str] = (), spare: int = 0) -> str:
        """Return a start in UTC at which all `people` can meet, with another at least `spare` minutes later that day.

        Raises:
            NoRoomError: The calendar is too full.
        """
        for day in self.shuffled(days or self.days):
            starts = self.starts(people, minutes, day)
            if possible := [start for start in starts if minutes_between(start, starts[-1]) >= spare]:
                return self.pick(possible)
        raise NoRoomError(f"no free start for {people} on {self.days}")

    def add_event(
        self, organiser: Person, attendees: Sequence[Person] = (), start: str = "", minutes: int = 0, title: str = ""
    ) -> dict[str, JSON]:
        """Put a meeting into the calendar under a random number; what is left out is drawn."""
        minutes = minutes or self.draw_minutes()
        start = start or self.free_start([organiser, *attendees], minutes)
        self.backend.restore({**self.backend.snapshot(), "next_id": next(self._numbers)})
        handles = [person["handle"] for person in attendees]
        return self.backend.create_event(title or self.title(), organiser["handle"], handles, start, minutes)

    # Playing the reference

    def says(self, message: str) -> None:
        """Open a user turn; the first one fixes the task's state."""
        if self._state is None:
            self._state = self.backend.snapshot()
            self._state["next_id"] = 1 + max(int(event["id"][1:]) for event in self._state["events"])
            self.backend.restore(self._state)
        self._message, self._reference = message, []

    def act(self, reasoning: str, *calls: ToolCall) -> list[Any]:
        """Let the assistant make `calls` in one message, and return what it reads back."""
        self._reference.append(AssistantMessage(reasoning, calls=calls))
        return [self._run(call) for call in calls]

    def tell(self, reasoning: str, content: str, *facts: Fact) -> None:
        """Close the turn with what the user is told."""
        reference = (*self._reference, AssistantMessage(reasoning, content))
        self.turns.append(UserTurn(self._message, reference, facts))

    def task(self, task_id: str, kind: str) -> Task:
        """Return the finished task."""
        return Task(id=task_id, kind=kind, state=self._state, turns=tuple(self.turns))

    def local(self, time: str, person: Person) -> str:
        """Return a UTC time as the clock of `person` shows it."""
        return shift(time, offset_minutes(person["utc_offset"]))

    def day_of(self, event: dict[str, JSON]) -> str:
        """Return the user's local day of a meeting."""
        return self.local(event["start"], self.user)[:10]

    def spoken(self, time: str, speaker: Person) -> str:
        """Return a UTC time as the user would say it, by the clock of `speaker`."""
        zone = "UTC" if self.is_easy else "my time" if speaker is self.user else f"{speaker['name']}'s time"
        return f"{self.local(time, speaker)} {zone}"

    def _run(self, call: ToolCall) -> JSON:
        try:
            return getattr(self.backend, call.name)(**call.arguments)
        except ToolError as error:
            return {"error": error.message}

    def _names_of(self, split: str) -> list[tuple[str, str]]:
        """Return every name of the split in random order."""
        pairs = [
            (first, last)
            for i, first in enumerate(FIRST_NAMES)
            for j, last in enumerate(LAST_NAMES)
            if is_test_name(i, j) == (split == "test")
        ]
        return self.shuffled(pairs)

    def _cast(self) -> None:
        """Draw the user, two to four colleagues nearby and somebody far away."""
        offset = UTC if self.is_easy else self.pick(OFFSETS)
        self.user = self._person(offset)
        side = self.pick((-1, 1))  # colleagues live to one side, or two of them would be twice as far apart
        near = [other for other in OFFSETS if 0 <= side * _ahead(other, offset) <= NEAR_MINUTES]
        num_colleagues = self.pick((2, 3) if self.is_easy else (2, 3, 4))
        self.colleagues = [self._person(UTC if self.is_easy else self.pick(near)) for _ in range(num_colleagues)]
        far = [other for other in OFFSETS if FAR_MINUTES <= abs(_ahead(other, offset)) <= 24 * 60 - FAR_MINUTES]
        self.far = None if self.is_easy else self._person(self.pick(far))

    def _person(self, offset: str) -> Person:
        first, last = next(self._names)
        return {
            "handle": f"{first}.{last}@{self.pick(DEPARTMENTS)}".lower(),
            "name": f"{first} {last}",
            "utc_offset": offset,
            "working_hours": self.pick(WORKING_HOURS),
        }


def _ahead(one: str, other: str) -> int:
    """Return by how many minutes the clock at offset `one` is ahead of the clock at `other`."""
    return offset_minutes(one) - offset_minutes(other)
