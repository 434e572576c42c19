"""Kinds of tasks in which a meeting is booked."""

from __future__ import annotations

from typing import NamedTuple

from awpo_env.types import JSON, Fact, ToolCall

from .scene import Person, Scene
from .steps import Event, confirm, find, listed, to_utc


class Booking(NamedTuple):
    """A meeting the user wants; its start, in UTC, is said by the clock of `speaker`."""

    title: str
    guests: list[Person]
    start: str
    minutes: int
    speaker: Person


def new_booking(scene: Scene, longest: int = 90, has_later_start: bool = False) -> Booking:
    """Draw a meeting that can be booked."""
    guests = scene.guests(scene.pick((1, 1, 2)))
    minutes = scene.draw_minutes(longest)
    start = scene.free_start([scene.user, *guests], minutes, spare=minutes if has_later_start else 0)
    return Booking(scene.title(), guests, start, minutes, scene.pick([scene.user, scene.user, guests[0]]))


def request(scene: Scene, booking: Booking, omit: str = "", names: str = "") -> str:
    """Return the user's words for a booking, without its "start" or "minutes" if one is to be left out."""
    names = names or listed([guest["name"] for guest in booking.guests])
    verb = scene.pick(("Book", "Schedule", "Please set up"))
    when = "" if omit == "start" else f" at {scene.spoken(booking.start, booking.speaker)}"
    length = "" if omit == "minutes" else f" for {booking.minutes} minutes"
    return f"I am {scene.user['name']}. {verb} '{booking.title}' with {names}{when}{length}."


def try_booking(scene: Scene, booking: Booking) -> JSON:
    """Look up, convert and create; return the meeting, or the error."""
    find(scene, scene.user["name"], *(guest["name"] for guest in booking.guests))
    start, grounds = to_utc(scene, booking.start, booking.speaker, "create_event")
    return create_at(scene, booking, start, f"{grounds} and the user wants {booking.minutes} minutes")


def create_at(scene: Scene, booking: Booking, start: str, grounds: str) -> JSON:
    """Create the meeting at `start`; return it, or the error."""
    guests = [guest["handle"] for guest in booking.guests]
    arguments = {
        "title": booking.title,
        "organiser": scene.user["handle"],
        "attendees": guests,
        "start": start,
        "minutes": booking.minutes,
    }
    reasoning = f"{grounds}, so I call create_event for '{booking.title}' with {listed(guests)}."
    return scene.act(reasoning, ToolCall("create_event", arguments))[0]


def find_spans(scene: Scene, booking: Booking) -> list[JSON]:
    """Look for another time after the first guest turned out to be busy."""
    people = [person["handle"] for person in (scene.user, *booking.guests)]
    day = scene.local(booking.start, scene.user)[:10]
    (result,) = scene.act(
        f"create_event failed because {people[1]} is busy; I call find_free_slot for a later start on {day}.",
        ToolCall("find_free_slot", {"people": people, "date": day, "minutes": booking.minutes}),
    )
    return result["free"]


def book(scene: Scene, booking: Booking) -> Event:
    """Serve a booking that works at once."""
    event = try_booking(scene, booking)
    done = f"'{event['title']}' is booked as {event['id']} for {event['start']} UTC."
    confirm(scene, "create_event", event["id"], done)
    return event


def create(scene: Scene) -> None:
    """Everything is said and everybody is free."""
    booking = new_booking(scene)
    scene.says(request(scene, booking))
    book(scene, booking)


def missing(scene: Scene) -> None:
    """The start or the length has to be asked for."""
    booking = new_booking(scene)
    omitted, question, answer = scene.pick(
        (
            ("start", "When should it start, and by whose clock?", "It should start at {start}."),
            ("minutes", "How many minutes should it last?", "Make it {minutes} minutes."),
        )
    )
    scene.says(request(scene, booking, omit=omitted))
    scene.tell(f"The user did not give {omitted}, which create_event needs; I ask, as guessing is forbidden.", question)
    scene.says(answer.format(start=scene.spoken(booking.start, booking.speaker), minutes=booking.minutes))
    book(scene, booking)


def conflict(scene: Scene) -> None:
    """Somebody is busy, but free later that day."""
    booking = new_booking(scene, longest=60, has_later_start=True)
    scene.add_event(booking.guests[0], start=booking.start, minutes=booking.minutes)
    scene.says(request(scene, booking))
    try_booking(scene, booking)
    starts = [span["start"] for span in find_spans(scene, booking)]
    start = next(start for start in starts if start > booking.start)
    event = create_at(scene, booking, start, f"find_free_slot gave {start} as first start after {booking.start}")
    done = f"{booking.guests[0]['name']} is busy then; '{event['title']}' is booked for {start} UTC."
    decoys = tuple(other for other in starts if other != start)
    confirm(scene, "create_event", event["id"], done, Fact(start, decoys))


def follow_up(scene: Scene) -> None:
    """A meeting is booked; then the user wants it with one more person, at another time, or not at all."""
    guest, third = scene.guests(2)
    minutes = scene.draw_minutes()
    everybody = [scene.user, guest, third]
    start = scene.free_start(everybody, minutes)
    booking = Booking(scene.title(), [guest], start, minutes, scene.user)
    change = scene.pick((_then_add, _then_move))
    day = scene.local(start, scene.user)[:10]
    later = scene.free_start(everybody, minutes, [other for other in scene.days if other != day])
    scene.says(request(scene, booking))
    event = book(scene, booking)
    change(scene, event, third, later)


def _then_add(scene: Scene, event: Event, third: Person, later: str) -> None:
    scene.says(
        scene.pick(("Please add {} to it as well.", "I forgot {}, who should be there too.")).format(third["name"])
    )
    find(scene, third["name"])
    scene.act(
        f"create_event returned {event['id']} and find_person {third['handle']}, so I call add_attendee with both.",
        ToolCall("add_attendee", {"event_id": event["id"], "person": third["handle"]}),
    )
    confirm(scene, "add_attendee", event["id"], f"{third['name']} takes part in '{event['title']}' now.")


def _then_move(scene: Scene, event: Event, third: Person, later: str) -> None:
    scene.says(f"Sorry, make that {scene.spoken(later, scene.user)} instead.")
    start, grounds = to_utc(scene, later, scene.user, "move_event")
    scene.act(
        f"create_event returned {event['id']} and {grounds}, so I call move_event with both.",
        ToolCall("move_event", {"event_id": event["id"], "start": start}),
    )
    confirm(scene, "move_event", event["id"], f"'{event['title']}' starts at {start} UTC now.")
