"""What kinds of devices there are: their modes, their levels, and what they are called."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DeviceType:
    """What devices of a type can do.

    Attributes:
        names: What such devices are called; several in one room have different names.
        modes: Their modes, the resting one first; empty without modes.
        levels: Least and greatest level, None without levels.
        unit: What the level counts.
        has_lock: Whether they can be locked.
        has_opening: Whether they can be open.
        rooms: Where they stand; empty for anywhere.
    """

    names: tuple[str, ...]
    modes: tuple[str, ...] = ()
    levels: tuple[int, int] | None = None
    unit: str = ""
    has_lock: bool = False
    has_opening: bool = False
    rooms: tuple[str, ...] = ()


WET_ROOMS = ("kitchen", "bathroom", "garage")
DOOR_ROOMS = ("hall", "kitchen", "garage")
TYPES = {
    "light": DeviceType(
        ("floor lamp", "desk lamp", "wall lamp", "reading lamp", "ceiling light"), ("off", "on"), (1, 100), "percent"
    ),
    "blind": DeviceType(("left blind", "right blind", "roller blind"), (), (0, 100), "percent"),
    "speaker": DeviceType(("wall speaker", "small speaker"), ("off", "radio", "music"), (0, 100), "percent"),
    "thermostat": DeviceType(("thermostat",), ("off", "heat", "cool"), (10, 30), "degrees"),
    "oven": DeviceType(("oven",), ("off", "bake", "grill"), (50, 250), "degrees", has_lock=True, rooms=("kitchen",)),
    "washer": DeviceType(("washer",), ("off", "cotton", "wool", "quick"), has_opening=True, rooms=WET_ROOMS),
    "vacuum": DeviceType(("vacuum",), ("docked", "cleaning")),
    "window": DeviceType(("left window", "right window", "roof window"), has_opening=True),
    "door": DeviceType(("front door", "back door", "side door"), has_lock=True, has_opening=True, rooms=DOOR_ROOMS),
    "sensor": DeviceType(("sensor",)),
}
ROOMS = ("kitchen", "hall", "living room", "bedroom", "bathroom", "study", "nursery", "garage")
"""Every home has the first two."""
SCENE_NAMES = ("movie night", "good morning", "dinner", "reading", "party", "siesta", "homework", "fireside")
UNKNOWN_NAMES = ("coffee machine", "fan", "fridge", "printer", "piano", "fountain", "doorbell", "toaster")
"""What nobody has."""

LEAST_BATTERY = 20
"""Percent a vacuum needs to leave its dock."""
