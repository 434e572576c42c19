"""Requests for information, and changes for which another device has to be asked first."""

from __future__ import annotations

from collections.abc import Iterator

from awpo_env.types import Fact

from .stage import Stage, spoken
from .steps import change, set_level

Acts = Iterator[None]


def reading(stage: Stage) -> Acts:
    """How warm or humid is it in a room?"""
    sensor, key = stage.device("sensor"), stage.pick(("temperature", "humidity"))
    yield
    room = sensor["room"]
    stage.asks(("What is the {} in the {}?", "Tell me the {} in the {}."), key, room)
    stage.find(room, "sensor")
    (seen,) = stage.read([sensor], f"the {key}")
    value = str(seen[key])
    decoys = tuple(str(seen[other]) for other in ("temperature", "humidity") if other != key)
    stage.tell(
        f"get_device shows the {key} {value} for {sensor['id']}, which the user asked for, so I tell it.",
        f"The {key} in the {room} is {value}.",
        Fact(value, decoys),
    )


def status(stage: Stage) -> Acts:
    """At which level is a device, or how full is its battery?"""
    type, key, mode = stage.pick(
        (("speaker", "level", "music"), ("light", "level", "on"), ("vacuum", "battery", "docked"))
    )
    device = stage.device(type, mode=mode)
    yield
    stage.asks(("Which {} does {} have?", "Tell me the {} of {}."), key, spoken(device))
    stage.find(device["room"], device["name"])
    (seen,) = stage.read([device], f"the {key}")
    value = str(seen[key])
    stage.tell(
        f"get_device shows the {key} {value} for {device['id']}, which the user asked for, so I tell it.",
        f"The {key} of {spoken(device)} is {value}.",
        Fact(value),
    )


def match_level(stage: Stage) -> Acts:
    """A device gets the level of another one."""
    one, other = stage.device("light", mode="on"), stage.device("light", mode=stage.pick(("on", "off")))
    yield
    stage.asks(("Make {1} as bright as {0}.", "Set {1} to the level of {0}."), spoken(one), spoken(other))
    stage.find(one["room"], one["name"])
    stage.find(other["room"], other["name"])
    (seen,) = stage.read([one], f"the level for set_level of {other['id']}")
    set_level(stage, other, seen["level"], "on")


def warmest(stage: Stage) -> Acts:
    """The blind in the warmest room moves."""
    rooms, level = stage.shuffled(stage.rooms)[:3], stage.new_level()
    for room in rooms:
        stage.device("sensor", room)
        stage.device("blind", room, "skylight blind")
    yield
    stage.asks(
        (
            "Set the skylight blind in the warmest room to level {}.",
            "Put the skylight blind of the warmest room at {}.",
        ),
        level,
    )
    sensors = stage.find_type("sensor")
    seen = stage.read(sensors, "each temperature")
    best = max(seen, key=lambda each: each["temperature"])
    found = stage.call(
        f"get_device shows {best['temperature']} in the {best['room']} as the highest; the id of the blind there for "
        "set_level is missing, so I call find_devices.",
        "find_devices",
        room=best["room"],
    )
    blind = next(each for each in found["devices"] if each["name"] == "skylight blind")
    change(stage, "set_level", blind, level, f"find_devices gave {blind['id']} in the {best['room']}")
    stage.confirm("set_level", f"The skylight blind {blind['id']} in the {best['room']} is at {level} now.")
