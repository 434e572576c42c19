"""Requests that cannot or must not be served: each ends in the recorded reason and an unchanged home."""

from __future__ import annotations

from collections.abc import Iterator

from .backend import Device
from .catalogue import LEAST_BATTERY, UNKNOWN_NAMES
from .stage import Stage, spoken
from .talks import try_code

Acts = Iterator[None]

NEVER_POSSIBLE = (
    ("light", "Make {} blink.", "make it blink"),
    ("light", "Set {} to a blue colour.", "change its colour"),
    ("speaker", "Tell me on {} what the news are.", "speak the news"),
    ("vacuum", "Empty the bag of {}.", "empty its bag"),
    ("blind", "Clean {}.", "clean it"),
)
ALARM = "alarm"
"""What is declined when it is about the alarm."""


def refuse(stage: Stage, subject: str, grounds: str, reason: str, told: str) -> None:
    """Decline what is asked about a device, a scene or a name that has no id, and say why."""
    reasoning = f"{grounds}, so I call decline for {subject} with {reason}."
    stage.call(reasoning, "decline", subject=subject, reason=reason)
    stage.tell(
        f"decline recorded {reason} for {subject}; nothing else may change, so I tell the user why.",
        f"I cannot do that: {told}",
    )


def not_allowed(stage: Stage) -> Acts:
    """A child or a guest asks for what only others may do."""
    is_child = stage.pick((True, False))
    stage.user, role = (stage.child, "child") if is_child else (stage.guest, "guest")
    type, messages = stage.pick(
        (
            ("oven", (f"Heat {{}} to {5 * stage.number(20, 46)} degrees with bake.",)),
            ("door", ("Unlock {}.", "Please unlock and open {}.")),
        )
        if is_child
        else (
            ("thermostat", (f"Set {{}} to heat and {stage.number(16, 24)} degrees.",)),
            ("window", ("Open {}.", "Please open {}.")),
            ("washer", ("Start {} with the program quick.", "Run {} with cotton.")),
        )
    )
    device = stage.device(type)
    yield
    stage.asks(messages, spoken(device))
    stage.find(device["room"], device["name"])
    refuse(
        stage,
        device["id"],
        f"identify shows {stage.user} as a {role}, who may not use the {type} {device['id']}",
        "not_allowed",
        f"a {role} may not use {spoken(device)} ({device['id']}).",
    )


def quiet_hours(stage: Stage) -> Acts:
    """It is night, and the device is loud."""
    stage.home["time"] = time = stage.pick((stage.new_time(22, 23), stage.new_time(0, 6)))
    type, messages = stage.pick(
        (
            ("vacuum", ("Let {} start cleaning.", "Please set {} to cleaning.")),
            ("washer", ("Start {} with the program cotton.", "Please run {} with wool.")),
            ("speaker", (f"Play music on {{}} at level {stage.number(40, 100)}.",)),
        )
    )
    device = stage.device(type)
    yield
    stage.asks(messages, spoken(device))
    stage.find(device["room"], device["name"])
    refuse(
        stage,
        device["id"],
        f"identify shows {time}, which is in the quiet hours, and the {type} {device['id']} is too loud",
        "quiet_hours",
        f"it is {time} and {spoken(device)} ({device['id']}) is too loud in the quiet hours.",
    )


def beyond_limit(stage: Stage) -> Acts:
    """The level is beyond what the rules allow."""
    type, levels, message = stage.pick(
        (
            ("thermostat", (*range(25, 31), *range(10, 16)), "Set {} to heat and {} degrees."),
            ("oven", (235, 240, 245, 250), "Heat {} to {} degrees with bake."),
        )
    )
    device, level = stage.device(type), stage.pick(levels)
    yield
    stage.asks((message, "Please do this: " + message[0].lower() + message[1:]), spoken(device), level)
    stage.find(device["room"], device["name"])
    refuse(
        stage,
        device["id"],
        f"The user wants {level} degrees for {device['id']}, which is beyond the limit of the rules for a {type}",
        "beyond_limit",
        f"{level} degrees is beyond the limit of {spoken(device)} ({device['id']}).",
    )


def offline(stage: Stage) -> Acts:
    """The device does not answer."""
    type, messages = stage.pick(
        (
            ("light", ("Turn on {}.", "Please switch {} on.")),
            ("speaker", ("Play the radio on {}.", "I want to hear music on {}.")),
            ("blind", (f"Set {{}} to level {stage.new_level()}.",)),
        )
    )
    device: Device = stage.device(type, online=False)
    yield
    stage.asks(messages, spoken(device))
    stage.find(device["room"], device["name"])
    refuse(
        stage,
        device["id"],
        f"find_devices shows {device['id']}, the {device['name']}, as not online",
        "offline",
        f"{spoken(device)} ({device['id']}) is offline.",
    )


def low_battery(stage: Stage) -> Acts:
    """The vacuum has to charge first."""
    vacuum = stage.device("vacuum", battery=stage.number(3, LEAST_BATTERY - 1))
    yield
    stage.asks(("Let {} start cleaning.", "Please set {} to cleaning."), spoken(vacuum))
    stage.find(vacuum["room"], vacuum["name"])
    (seen,) = stage.read([vacuum], "the battery before set_mode")
    refuse(
        stage,
        vacuum["id"],
        f"get_device shows a battery of {seen['battery']} for {vacuum['id']}, which needs {LEAST_BATTERY}",
        "low_battery",
        f"{spoken(vacuum)} ({vacuum['id']}) has only {seen['battery']} percent.",
    )


def not_found(stage: Stage) -> Acts:
    """There is no such device in the room."""
    name, room = stage.pick(UNKNOWN_NAMES), stage.pick(stage.rooms)
    yield
    stage.asks(("Turn on the {} in the {}.", "Please switch off the {} in the {}."), name, room)
    stage.find(room, name)
    refuse(
        stage,
        name,
        f"find_devices gave no {name} in the {room}",
        "not_found",
        f"there is no {name} in the {room}.",
    )


def no_tool(stage: Stage) -> Acts:
    """No tool does what is asked: none ever does, or the one that does is not on show."""
    type, message, what = stage.pick(NEVER_POSSIBLE)
    if stage.pick((True, False)):
        tool, type, message, what = stage.pick(
            (
                ("set_open", "window", "Open {}.", "open it"),
                ("set_lock", "door", "Unlock {}.", "unlock it"),
                ("add_schedule", "light", "Schedule {} for on at 19:00.", "schedule it"),
            )
        )
        stage.hidden.add(tool)
    device = stage.device(type)
    yield
    stage.asks((message, "Please do this: " + message[0].lower() + message[1:]), spoken(device))
    stage.find(device["room"], device["name"])
    refuse(
        stage,
        device["id"],
        f"find_devices gave {device['id']}, but none of the tools can {what}",
        "no_tool",
        f"I have no tool to {what}: {spoken(device)} ({device['id']}).",
    )


def bad_code(stage: Stage) -> Acts:
    """Both codes the user gives are wrong."""
    first, second = stage.new_code(), stage.new_code()
    stage.home["alarm"] = stage.pick(("home", "away"))
    yield
    try_code(stage, first)
    stage.asks(("Then it is {}.", "Try {}."), second)
    stage.call(
        f"{first} was wrong and the user gave another code, so I call set_alarm with disarmed and {second}.",
        "set_alarm",
        mode="disarmed",
        code=second,
    )
    refuse(
        stage,
        ALARM,
        f"set_alarm failed again: {second} is the wrong code too, and the rules allow two tries",
        "wrong_code",
        f"{second} is the wrong code too, so the alarm stays as it is.",
    )
