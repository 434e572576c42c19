"""Steps that the references of several kinds share: look up, convert, locate, confirm."""

from __future__ import annotations

from collections.abc import Sequence

from awpo_env.types import JSON, Fact, ToolCall

from .people import UTC
from .scene import Person, Scene

Event = dict[str, JSON]


def listed(items: Sequence[str]) -> str:
    """Return "a", "a and b" or "a, b and c"."""
    return " and ".join([", ".join(items[:-1]), items[-1]] if len(items) > 1 else items)


def find(scene: Scene, *names: str) -> list[JSON]:
    """Look people up by name, all in one message."""
    return scene.act(
        f"The user gives only names, so I call find_person for {listed(names)}; handles and offsets are missing.",
        *(ToolCall("find_person", {"name": name}) for name in names),
    )


def to_utc(scene: Scene, start: str, speaker: Person, tool: str) -> tuple[str, str]:
    """Convert what the user said for `tool`; return the UTC time and who gave it."""
    if scene.is_easy:
        return start, f"the user gave {start} UTC"
    said, offset = scene.local(start, speaker), speaker["utc_offset"]
    (result,) = scene.act(
        f"{said} is by the clock of {speaker['name']} at {offset}; {tool} needs UTC, {UTC}, so I call convert_time.",
        ToolCall("convert_time", {"time": said, "from_offset": offset, "to_offset": UTC}),
    )
    return result["time"], f"convert_time gave {result['time']} UTC"


def to_local(scene: Scene, time: str, tool: str) -> tuple[str, str]:
    """Convert a UTC time that `tool` returned to the user's clock; return it, and who gave it."""
    if scene.is_easy:
        return time, f"{tool} gave {time}"
    offset = scene.user["utc_offset"]
    (result,) = scene.act(
        f"{tool} gave {time} UTC and find_person the user's offset {offset}; I call convert_time for local time.",
        ToolCall("convert_time", {"time": time, "from_offset": UTC, "to_offset": offset}),
    )
    return result["time"], f"convert_time gave {result['time']}"


def list_day(scene: Scene, day: str, wanted: str) -> list[Event]:
    """List the user's meetings of a day, because `wanted` is missing."""
    handle = scene.user["handle"]
    (result,) = scene.act(
        f"find_person gave {handle}; {wanted} is missing, so I call list_events for {day}, which the user named.",
        ToolCall("list_events", {"person": handle, "date": day}),
    )
    return result["events"]


def named(scene: Scene, event: Event, by_number: bool) -> str:
    """Return how the user names a meeting."""
    return f"meeting {event['id']}" if by_number else f"'{event['title']}' on {scene.day_of(event)}"


def locate(scene: Scene, event: Event, by_number: bool, *others: Person) -> str:
    """Find the meeting that the user named, and its organiser; return the tool that showed it."""
    names = [person["name"] for person in (scene.user, *others)]
    if not by_number:
        find(scene, *names)
        list_day(scene, scene.day_of(event), f"the number of '{event['title']}'")
        return "list_events"
    scene.act(
        f"The user names {event['id']}; I call get_event for its organiser and find_person for {listed(names)}.",
        ToolCall("get_event", {"event_id": event["id"]}),
        *(ToolCall("find_person", {"name": name}) for name in names),
    )
    return "get_event"


def own_event(scene: Scene, guests: Sequence[Person], free: Sequence[Person] = ()) -> Event:
    """Set up a meeting of the user at a time when `free` could come too; now and then with a namesake."""
    minutes, title = scene.draw_minutes(), scene.title()
    start = scene.free_start([scene.user, *guests, *free], minutes)
    event = scene.add_event(scene.user, guests, start, minutes, title)
    if scene.pick((True, False, False)):
        day = scene.pick([day for day in scene.days if day != scene.day_of(event)])
        if starts := scene.starts([scene.user, *guests], minutes, day):
            scene.add_event(scene.user, guests, scene.pick(starts), minutes, title)
    return event


def confirm(scene: Scene, tool: str, event_id: str, done: str, *facts: Fact) -> None:
    """Tell the user that something was done."""
    scene.tell(f"{tool} returned {event_id} without an error; nothing is missing, so I tell the user.", done, *facts)
