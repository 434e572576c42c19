"""The calendar: people with fixed UTC offsets and working hours, and meetings that never overlap for anybody."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

from awpo_env.errors import ToolError, did_you_mean

JSON = Any
Span = tuple[str, str]
"""Start and end in UTC. Times are text, YYYY-MM-DD HH:MM, so that comparing text compares times."""


def shift(time: str, minutes: int) -> str:
    """Return `time` moved by `minutes`.

    >>> shift("2025-03-10 23:30", 330)
    '2025-03-11 05:00'
    """
    try:
        moved = datetime.fromisoformat(time) + timedelta(minutes=minutes)
    except ValueError:
        raise ToolError(f"{time!r} is not in the calendar; write an existing day as YYYY-MM-DD HH:MM") from None
    return moved.isoformat(" ", "minutes")


def offset_minutes(utc_offset: str) -> int:
    """Return how far local time is ahead of UTC.

    >>> offset_minutes("-03:30")
    -210
    """
    minutes = 60 * int(utc_offset[1:3]) + int(utc_offset[4:6])
    return -minutes if utc_offset[0] == "-" else minutes


def minutes_between(start: str, end: str) -> int:
    """Return the minutes from `start` to `end`."""
    return (datetime.fromisoformat(end) - datetime.fromisoformat(start)) // timedelta(minutes=1)


class Backend:
    """One calendar; ``tools.json`` says what each tool does.

    State: people, meetings by number, the next number, and what was declined for which reason. A moved meeting
    remembers where it was, so that no earlier start is forgotten.
    """

    def __init__(self, state: JSON) -> None:
        self.restore(state)

    def restore(self, snapshot: JSON) -> None:
        """Take over a state as `snapshot` returns it."""
        self._people = {person["handle"]: dict(person) for person in snapshot["people"]}
        self._events = {event["id"]: _copy(event) for event in snapshot["events"]}
        self._next_id: int = snapshot["next_id"]
        self._declined = tuple((each["meeting"], each["reason"]) for each in snapshot["declined"])

    def snapshot(self) -> JSON:
        """Return the complete state; people keep their order, meetings are ordered by number."""
        return {
            "people": [dict(person) for person in self._people.values()],
            "events": [_copy(self._events[event_id]) for event_id in sorted(self._events)],
            "next_id": self._next_id,
            "declined": [{"meeting": meeting, "reason": reason} for meeting, reason in self._declined],
        }

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Undo what is done inside when an exception leaves the block (records are replaced, never changed)."""
        saved = dict(self._events), self._next_id, self._declined
        try:
            yield
        except BaseException:
            self._events, self._next_id, self._declined = saved
            raise

    def find_person(self, name: str) -> JSON:
        wanted = name.casefold()
        return {"people": [dict(p) for p in self._people.values() if wanted in p["name"].casefold()]}

    def list_events(self, person: str, date: str) -> JSON:
        midnight = self._utc(person, f"{date} 00:00")
        end = shift(midnight, 24 * 60)
        found = [event for event in self._meetings_of(person) if midnight <= event["start"] < end]
        return {"events": [_copy(event) for event in found]}

    def get_event(self, event_id: str) -> JSON:
        return _copy(self._event(event_id))

    def find_free_slot(self, people: list[str], date: str, minutes: int) -> JSON:
        first, *others = people
        free = [self._working_span(first, date)]
        for person in others:
            # Someone far away may begin the same working day a calendar day earlier or later.
            days = (shift(f"{date} 00:00", 24 * 60 * k)[:10] for k in (-1, 0, 1))
            spans = [self._working_span(person, day) for day in days]
            free = _not_empty((max(a, start), min(b, end)) for a, b in free for start, end in spans)
        for person in people:
            for event in self._meetings_of(person):
                before = [(a, min(b, event["start"])) for a, b in free]
                after = [(max(a, event["end"]), b) for a, b in free]
                free = _not_empty(before + after)
        return {"free": [{"start": a, "end": b} for a, b in sorted(free) if shift(a, minutes) <= b]}

    def convert_time(self, time: str, from_offset: str, to_offset: str) -> JSON:
        return {"time": shift(time, offset_minutes(to_offset) - offset_minutes(from_offset))}

    def create_event(self, title: str, organiser: str, attendees: list[str], start: str, minutes: int) -> JSON:
        if organiser in attendees:
            raise ToolError(f"{organiser} takes part as the organiser; leave the organiser out of attendees")
        event = {
            "id": f"M{self._next_id}",
            "title": title,
            "organiser": organiser,
            "attendees": sorted(set(attendees)),
            "start": shift(start, 0),
            "end": shift(start, minutes),
        }
        self._check_possible(event)
        self._next_id += 1
        return self._store(event)

    def move_event(self, event_id: str, start: str) -> JSON:
        event = self._event(event_id)
        if start == event["start"]:
            raise ToolError(f"{event_id} starts at {start} already; start must be the new time")
        minutes = minutes_between(event["start"], event["end"])
        moved = {**event, "start": shift(start, 0), "end": shift(start, minutes), "moved_from": event["start"]}
        self._check_possible(moved)
        return self._store(moved)

    def cancel_event(self, event_id: str) -> JSON:
        event = self._event(event_id)
        del self._events[event_id]
        return {"cancelled": event_id, "title": event["title"]}

    def add_attendee(self, event_id: str, person: str) -> JSON:
        event = self._event(event_id)
        if person in _participants(event):
            raise ToolError(f"{person} is in {event_id} already; name somebody else")
        larger = {**event, "attendees": sorted([*event["attendees"], person])}
        self._check_possible(larger)
        return self._store(larger)

    def decline(self, meeting: str, reason: str) -> JSON:
        self._declined = (*self._declined, (meeting, reason))
        return {"declined": reason, "meeting": meeting}

    def _person(self, handle: str) -> dict[str, str]:
        if handle not in self._people:
            raise ToolError(
                f"no person has the handle {handle!r}; find_person gives it.{did_you_mean(handle, self._people)}"
            )
        return self._people[handle]

    def _event(self, event_id: str) -> dict[str, JSON]:
        if event_id not in self._events:
            raise ToolError(f"there is no meeting {event_id!r}; list_events gives the ids")
        return self._events[event_id]

    def _utc(self, person: str, local_time: str) -> str:
        return shift(local_time, -offset_minutes(self._person(person)["utc_offset"]))

    def _meetings_of(self, person: str) -> list[dict[str, JSON]]:
        found = [event for event in self._events.values() if person in _participants(event)]
        return sorted(found, key=lambda event: event["start"])

    def _working_span(self, person: str, date: str) -> Span:
        begin, end = self._person(person)["working_hours"].split("-")
        return self._utc(person, f"{date} {begin}"), self._utc(person, f"{date} {end}")

    def _check_possible(self, event: dict[str, JSON]) -> None:
        """Raise unless everybody in `event` works at that time and has no other meeting."""
        start, end = event["start"], event["end"]
        for handle in _participants(event):
            person = self._person(handle)
            local_start = shift(start, offset_minutes(person["utc_offset"]))
            begin, finish = self._working_span(handle, local_start[:10])
            if start < begin or end > finish:
                raise ToolError(f"{handle} works from {begin} to {finish} UTC that day; {start} to {end} is outside")
            for other in self._meetings_of(handle):
                if other["id"] != event["id"] and start < other["end"] and other["start"] < end:
                    span = f"{other['start']} to {other['end']} UTC"
                    raise ToolError(f"{handle} is busy: {other['id']} {other['title']!r} is from {span}")

    def _store(self, event: dict[str, JSON]) -> JSON:
        self._events[event["id"]] = event
        return _copy(event)


def _not_empty(spans: Iterable[Span]) -> list[Span]:
    return [(start, end) for start, end in spans if start < end]


def _participants(event: dict[str, JSON]) -> list[str]:
    return [event["organiser"], *event["attendees"]]


def _copy(event: dict[str, JSON]) -> dict[str, JSON]:
    return {**event, "attendees": list(event["attendees"])}
