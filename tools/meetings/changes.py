"""Kinds of tasks about meetings that exist: move, cancel, add somebody, clear a day, and questions."""

from __future__ import annotations

from awpo_env.types import Fact, ToolCall

from .backend import minutes_between
from .scene import Scene
from .steps import confirm, find, list_day, listed, locate, named, own_event, to_local, to_utc


def move(scene: Scene) -> None:
    """The user's own meeting gets another start."""
    guests = scene.guests(scene.pick((1, 1, 2)))
    event = own_event(scene, guests)
    later = scene.free_start([scene.user, *guests], minutes_between(event["start"], event["end"]))
    by_number = scene.pick((True, False))
    verb = scene.pick(("Move", "Please reschedule"))
    target = named(scene, event, by_number)
    scene.says(f"I am {scene.user['name']}. {verb} {target} to {scene.spoken(later, scene.user)}.")
    tool = locate(scene, event, by_number)
    start, grounds = to_utc(scene, later, scene.user, "move_event")
    scene.act(
        f"{tool} shows the user as organiser of {event['id']} and {grounds}, so I call move_event.",
        ToolCall("move_event", {"event_id": event["id"], "start": start}),
    )
    confirm(scene, "move_event", event["id"], f"'{event['title']}' starts at {start} UTC now.")


def cancel(scene: Scene) -> None:
    """The user's own meeting is cancelled."""
    event = own_event(scene, scene.guests(1))
    by_number = scene.pick((True, False))
    verb = scene.pick(("Cancel", "Please call off"))
    scene.says(f"I am {scene.user['name']}. {verb} {named(scene, event, by_number)}.")
    tool = locate(scene, event, by_number)
    scene.act(
        f"{tool} has the user's handle {scene.user['handle']} as organiser of {event['id']}, so I call cancel_event.",
        ToolCall("cancel_event", {"event_id": event["id"]}),
    )
    confirm(scene, "cancel_event", event["id"], f"'{event['title']}' is cancelled.")


def add_person(scene: Scene) -> None:
    """A colleague joins the user's own meeting."""
    guest, newcomer = scene.guests(2)
    event = own_event(scene, [guest], free=[newcomer])
    by_number = scene.pick((True, False))
    verb = scene.pick(("Add", "Please invite"))
    scene.says(f"I am {scene.user['name']}. {verb} {newcomer['name']} to {named(scene, event, by_number)}.")
    tool = locate(scene, event, by_number, newcomer)
    scene.act(
        f"{tool} shows the user as organiser of {event['id']}, so I call add_attendee with {newcomer['handle']}.",
        ToolCall("add_attendee", {"event_id": event["id"], "person": newcomer["handle"]}),
    )
    confirm(scene, "add_attendee", event["id"], f"{newcomer['name']} takes part in '{event['title']}' now.")


def clear_day(scene: Scene) -> None:
    """The user cancels whatever they organise on a day, and only that."""
    (guest,) = scene.guests(1)
    first = scene.add_event(scene.user, [guest])
    day = scene.day_of(first)
    for organiser, attendee in ((scene.user, guest), (guest, scene.user)):
        start = scene.free_start([scene.user, guest], 30, [day])
        scene.add_event(organiser, [attendee], start, 30)
    scene.says(f"I am {scene.user['name']}. Cancel every meeting that I organise on {day}, but no other.")
    find(scene, scene.user["name"])
    handle = scene.user["handle"]
    events = list_day(scene, day, "the list of meetings")
    numbers = [event["id"] for event in events if event["organiser"] == handle]
    scene.act(
        f"list_events shows {handle} as organiser of {listed(numbers)} only, so I call cancel_event for each.",
        *(ToolCall("cancel_event", {"event_id": number}) for number in numbers),
    )
    confirm(scene, "cancel_event", listed(numbers), f"Your own meetings on {day} are cancelled: {listed(numbers)}.")


def find_event(scene: Scene) -> None:
    """The user asks when a meeting starts, or who organises it."""
    colleague, other = scene.guests(2)
    event = scene.add_event(colleague, [scene.user, other])
    day, title = scene.day_of(event), event["title"]
    asks_start = scene.pick((True, False))
    zone = "in UTC" if scene.is_easy else "by my clock"
    question = f"When does '{title}' on {day} start, {zone}?" if asks_start else f"Who organises '{title}' on {day}?"
    scene.says(f"I am {scene.user['name']}. {question}" + ("" if asks_start else " I need the handle."))
    find(scene, scene.user["name"])
    events = list_day(scene, day, f"the {'start' if asks_start else 'organiser'} of '{title}'")
    if asks_start:
        value, grounds = to_local(scene, event["start"], "list_events")
        shown = [time for each in events for time in (each["start"], each["end"])]
        done = f"'{title}' starts at {value}."
    else:
        value, grounds = colleague["handle"], f"list_events gave {colleague['handle']} as organiser"
        shown = [handle for each in events for handle in (each["organiser"], *each["attendees"])]
        done = f"'{title}' is organised by {value}."
    decoys = tuple(sorted({text for text in shown if text != value}))
    scene.tell(f"{grounds} for '{title}', which the user asked for, so I tell it.", done, Fact(value, decoys))


def find_slot(scene: Scene) -> None:
    """The user asks for the earliest time to meet."""
    (guest,) = scene.guests(1)
    minutes = scene.draw_minutes()
    day = scene.local(scene.free_start([scene.user, guest], minutes), scene.user)[:10]
    zone = "in UTC" if scene.is_easy else "by my clock"
    scene.says(
        f"I am {scene.user['name']}. What is the earliest start on {day} for {minutes} minutes "
        f"with {guest['name']}, {zone}?"
    )
    find(scene, scene.user["name"], guest["name"])
    people = [scene.user["handle"], guest["handle"]]
    (result,) = scene.act(
        f"find_person gave {listed(people)}; I call find_free_slot for {minutes} minutes on {day} with both.",
        ToolCall("find_free_slot", {"people": people, "date": day, "minutes": minutes}),
    )
    starts = [span["start"] for span in result["free"]]
    value, grounds = to_local(scene, starts[0], "find_free_slot")
    decoys = tuple(start for start in starts if start != value)
    done = f"The earliest start for both of you is {value}."
    scene.tell(f"{grounds} for the earliest common span, which answers the user.", done, Fact(value, decoys))
