"""Kinds of tasks in which the rules forbid what the user asks for, and the right reason has to be given."""

from __future__ import annotations

from awpo_env.types import ToolCall

from .backend import minutes_between, shift
from .bookings import Booking, find_spans, new_booking, request, try_booking
from .scene import Scene
from .steps import find, locate, named

NEVER_ALLOWED_MINUTES = (150, 180, 210, 240)


def refuse(scene: Scene, meeting: str, grounds: str, reason: str, told: str) -> None:
    """Decline what is asked about a meeting (its number, or the title of a new one) and say why."""
    scene.act(
        f"{grounds}, so I call decline for {meeting} with {reason}.",
        ToolCall("decline", {"meeting": meeting, "reason": reason}),
    )
    scene.tell(
        f"decline recorded {reason}; nothing else may change, so I tell the user why.", f"I cannot do that: {told}"
    )


def not_organiser(scene: Scene) -> None:
    """The meeting belongs to somebody else, though the user takes part."""
    organiser, newcomer = scene.guests(2)
    event = scene.add_event(organiser, [scene.user])
    by_number = scene.pick((True, False))
    target = named(scene, event, by_number)
    wish = scene.pick(
        (
            f"Cancel {target}.",
            f"Add {newcomer['name']} to {target}.",
            f"Move {target} to {scene.spoken(scene.free_start([scene.user], 30), scene.user)}.",
        )
    )
    scene.says(f"I am {scene.user['name']}. {wish}")
    tool = locate(scene, event, by_number)
    grounds = f"{tool} shows {organiser['handle']} as organiser of {event['id']}, who is not the user"
    refuse(scene, event["id"], grounds, "not_organiser", f"only {organiser['name']}, the organiser, may change it.")


def too_long(scene: Scene) -> None:
    """More than the rules allow, whoever takes part."""
    booking = new_booking(scene)._replace(minutes=scene.pick(NEVER_ALLOWED_MINUTES))
    scene.says(request(scene, booking))
    grounds = f"The user wants {booking.minutes} minutes, but the rules allow 120 at most"
    refuse(scene, booking.title, grounds, "too_long", "a meeting lasts at most 120 minutes.")


def outside_working_hours(scene: Scene) -> None:
    """The time suits the user, but not somebody far away."""
    user, guest = scene.user, scene.far
    minutes = scene.draw_minutes()
    day = scene.pick(scene.days)
    shared = scene.spans([user, guest], minutes, day)
    starts = scene.starts([user], minutes, day)
    start = scene.pick([each for each in starts if not any(a <= each and shift(each, minutes) <= b for a, b in shared)])
    booking = Booking(scene.title(), [guest], start, minutes, user)
    scene.says(request(scene, booking))
    find(scene, user["name"], guest["name"])
    said, offset, there = scene.local(start, user), user["utc_offset"], guest["utc_offset"]
    hours = f"{guest['working_hours']} at {there}"
    (result,) = scene.act(
        f"{said} at {offset} may be outside {guest['name']}'s hours {hours}, so I call convert_time.",
        ToolCall("convert_time", {"time": said, "from_offset": offset, "to_offset": there}),
    )
    grounds = f"convert_time gave {result['time']} for {guest['name']}, outside working hours {guest['working_hours']}"
    told = f"it would start at {result['time']} for {guest['name']}."
    refuse(scene, booking.title, grounds, "outside_working_hours", told)


def no_free_slot(scene: Scene) -> None:
    """Somebody is busy, and nobody finds a later start that day."""
    booking = new_booking(scene)
    people = [scene.user, *booking.guests]
    day = scene.local(booking.start, scene.user)[:10]
    for start, end in scene.spans(people, booking.minutes, day):
        if end > booking.start:
            start = max(start, booking.start)
            scene.add_event(booking.guests[0], start=start, minutes=minutes_between(start, end))
    scene.says(request(scene, booking))
    try_booking(scene, booking)
    find_spans(scene, booking)
    grounds = f"find_free_slot gave no start after {booking.start} UTC for {booking.minutes} minutes"
    told = "there is no later time on that day at which everybody is free."
    refuse(scene, booking.title, grounds, "no_free_slot", told)


def unknown_person(scene: Scene) -> None:
    """Somebody is not in the calendar."""
    stranger = scene.stranger()
    booking = new_booking(scene)
    scene.says(request(scene, booking, names=stranger))
    find(scene, scene.user["name"], stranger)
    grounds = f"find_person gave nobody for {stranger}, whom the user wants to meet"
    refuse(scene, booking.title, grounds, "unknown_person", f"{stranger} is not in the calendar.")
