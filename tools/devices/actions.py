"""Requests that change devices; now and then one is not ready and has to be made so first."""

from __future__ import annotations

from collections.abc import Iterator

from awpo_tools.rehearsal import listed

from .catalogue import TYPES
from .stage import Stage, spoken
from .steps import change, disarm, open_closed_door, set_level, setting

Acts = Iterator[None]

SWITCHES = (
    ("light", "off", "on", ("Turn on {}.", "Please switch {} on.")),
    ("light", "on", "off", ("Turn off {}.", "Please switch {} off.")),
    ("speaker", "off", "radio", ("Play the radio on {}.", "I want to hear the radio on {}.")),
    ("speaker", "off", "music", ("Play music on {}.", "I want to hear music on {}.")),
    ("speaker", "radio", "off", ("Turn off {}.", "Please switch {} off.")),
    ("vacuum", "docked", "cleaning", ("Let {} start cleaning.", "Please set {} to cleaning.")),
)
"""Type, mode before and after, and how a user says it."""


def switch(stage: Stage) -> Acts:
    """A device gets another mode."""
    type, before, mode, messages = stage.pick(SWITCHES)
    device = stage.device(type, mode=before)
    yield
    stage.asks(messages, spoken(device))
    stage.find(device["room"], device["name"])
    grounds = f"find_devices gave {device['id']} as the {device['name']} and the user's role allows it"
    change(stage, "set_mode", device, mode, grounds)
    stage.confirm("set_mode", f"{spoken(device).capitalize()} ({device['id']}) is set to {mode} now.")


def dim(stage: Stage) -> Acts:
    """A light gets another brightness; it may have to be turned on first."""
    light, level = stage.device("light", mode=stage.pick(("on", "off"))), stage.new_level()
    yield
    stage.asks(("Set {} to {} percent.", "Please put {} at level {}."), spoken(light), level)
    stage.find(light["room"], light["name"])
    set_level(stage, light, level, "on")


def shade(stage: Stage) -> Acts:
    """A blind gets another level."""
    blind, level = stage.device("blind"), stage.new_level()
    yield
    stage.asks(("Set {} to level {}.", "Please put {} at {} percent."), spoken(blind), level)
    stage.find(blind["room"], blind["name"])
    grounds = f"find_devices gave {blind['id']} as the {blind['name']} and a blind has no mode"
    change(stage, "set_level", blind, level, grounds)
    stage.confirm("set_level", f"{spoken(blind).capitalize()} ({blind['id']}) is at {level} now.")


def lock_door(stage: Stage) -> Acts:
    """A door is locked; it may have to be closed first."""
    door = stage.device("door", locked=False, open=stage.has_obstacle())
    yield
    stage.asks(("Lock {}.", "Please lock {}."), spoken(door))
    stage.find(door["room"], door["name"])
    (seen,) = stage.read([door], "whether it is open before set_lock")
    if seen["open"]:
        change(stage, "set_open", door, False, f"get_device shows {door['id']} open and set_lock needs it closed")
    change(stage, "set_lock", door, True, f"{door['id']} is closed and unlocked")
    stage.confirm("set_lock", f"{spoken(door).capitalize()} ({door['id']}) is locked now.")


def bake(stage: Stage) -> Acts:
    """An oven is heated; it may have to be unlocked first."""
    oven, mode = stage.device("oven", locked=stage.has_obstacle()), stage.pick(("bake", "grill"))
    level = 5 * stage.number(20, 46)
    oven["level"] = 240
    yield
    stage.asks(("Heat {} to {} degrees, mode {}.", "Please set {} to {} degrees with {}."), spoken(oven), level, mode)
    stage.find(oven["room"], oven["name"])
    heat_oven(stage, oven, level, mode)


def heat_oven(stage: Stage, oven: dict, level: int, mode: str) -> None:
    """Heat an oven that was found, and tell the user."""
    (seen,) = stage.read([oven], "whether it is locked before set_mode")
    if seen["locked"]:
        change(stage, "set_lock", oven, False, f"get_device shows {oven['id']} locked and set_mode needs it unlocked")
    change(stage, "set_mode", oven, mode, f"{oven['id']} is off and unlocked and set_level needs the mode {mode}")
    change(stage, "set_level", oven, level, f"{oven['id']} is in mode {mode} and the user wants {level} degrees")
    stage.confirm("set_level", f"{spoken(oven).capitalize()} ({oven['id']}) heats to {level} degrees with {mode}.")


def warm(stage: Stage) -> Acts:
    """A room is heated; a window in it may have to be closed first."""
    thermostat, level = stage.device("thermostat"), stage.number(16, 24)
    thermostat["level"] = stage.pick((12, 27))
    window = stage.device("window", thermostat["room"], open=stage.has_obstacle())
    yield
    room = thermostat["room"]
    stage.asks(("Heat the {} to {} degrees.", "I want the {} heated to {} degrees."), room, level)
    found = stage.find(room, "thermostat", "window")
    windows = [device for device in found if device["type"] == "window"]
    _, *seen = stage.read([thermostat, *windows], "whether a window is open before set_mode")
    if any(each["open"] for each in seen):
        change(stage, "set_open", window, False, f"get_device shows {window['id']} open and set_mode needs it closed")
    change(
        stage, "set_mode", thermostat, "heat", f"Every window is closed and set_level needs {thermostat['id']} on heat"
    )
    change(stage, "set_level", thermostat, level, f"{thermostat['id']} is on heat and the user wants {level} degrees")
    stage.confirm("set_level", f"The thermostat {thermostat['id']} heats the {room} to {level} degrees now.")


def wash(stage: Stage) -> Acts:
    """A washer starts a program; it may have to be closed first."""
    washer, mode = stage.device("washer", open=stage.has_obstacle()), stage.pick(TYPES["washer"].modes[1:])
    yield
    stage.asks(("Start {} with the program {}.", "Please run {} with {}."), spoken(washer), mode)
    stage.find(washer["room"], washer["name"])
    (seen,) = stage.read([washer], "whether it is open before set_mode")
    if seen["open"]:
        change(stage, "set_open", washer, False, f"get_device shows {washer['id']} open and set_mode needs it closed")
    change(stage, "set_mode", washer, mode, f"{washer['id']} is closed and off and the user wants {mode}")
    stage.confirm("set_mode", f"{spoken(washer).capitalize()} ({washer['id']}) runs {mode} now.")


def open_door(stage: Stage) -> Acts:
    """A door is opened, for which the alarm has to be disarmed and the door unlocked."""
    door = stage.device("door", locked=True)
    stage.home["alarm"] = stage.pick(("home", "away"))
    yield
    messages = ("Open {}. The code of the alarm is {}.", "Please open {}, the alarm has the code {}.")
    stage.asks(messages, spoken(door), stage.code)
    stage.find(door["room"], door["name"])
    alarm = stage.home["alarm"]
    disarm(stage, stage.code, f"identify shows the alarm set to {alarm} and set_open needs it disarmed")
    open_closed_door(stage, door)


def leave(stage: Stage) -> Acts:
    """The home is closed and the alarm armed."""
    stage.device("window", open=True)
    for is_locked in (False, stage.pick((True, False))):
        stage.device("door", locked=is_locked)
    mode, code = stage.pick(("home", "away")), stage.code
    yield
    stage.asks(("Close everything and set the alarm to {} with the code {}.",), mode, code)
    windows, doors = stage.find_type("window"), stage.find_type("door")
    seen = stage.read([*windows, *doors], "which of them is open or unlocked before set_alarm")
    is_open = [each for each in seen if each["open"]]
    unlocked = [each for each in seen if each["type"] == "door" and not each["locked"]]
    ids = listed([each["id"] for each in is_open])
    stage.act(
        f"get_device shows {ids} open and set_alarm needs them closed, so I call set_open with false.",
        *(setting("set_open", each, False) for each in is_open),
    )
    ids = listed([each["id"] for each in unlocked])
    stage.act(
        f"get_device shows {ids} closed but unlocked and set_alarm needs them locked, so I call set_lock.",
        *(setting("set_lock", each, True) for each in unlocked),
    )
    stage.call(
        f"Everything is closed and locked, so I call set_alarm with {mode} and the code {code}.",
        "set_alarm",
        mode=mode,
        code=code,
    )
    stage.confirm("set_alarm", f"Everything is closed and the alarm is set to {mode}.")


def lights_off(stage: Stage) -> Acts:
    """Every light of a room that is on is turned off."""
    room = stage.roomy("light", 3)
    for mode in ("on", "on", "off"):
        stage.device("light", room, mode=mode)
    yield
    stage.asks(("Turn off every light in the {}.", "Please switch off all lights in the {}."), room)
    lights = [device for device in stage.find(room, "lights") if device["type"] == "light"]
    burning = [each for each in stage.read(lights, "whether set_mode is needed") if each["mode"] == "on"]
    ids = listed([each["id"] for each in burning])
    stage.act(
        f"get_device shows {ids} on and the others off, so I call set_mode with off for each.",
        *(setting("set_mode", each, "off") for each in burning),
    )
    stage.confirm("set_mode", f"I turned off {ids} in the {room}.")
