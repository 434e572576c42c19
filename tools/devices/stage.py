"""The stage of a devices task: a home with residents, rooms and devices, and the look-ups requests begin with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from awpo_tools.people import people_of
from awpo_tools.rehearsal import Rehearsal, listed

from awpo_env.types import JSON, ToolCall

from .backend import Backend, Device
from .catalogue import LEAST_BATTERY, ROOMS, SCENE_NAMES, TYPES

FILLERS = ("light", "blind", "speaker", "window")
"""Types of the devices that no request is about; none of them stands in the way of one."""


@dataclass(frozen=True, slots=True)
class Difficulty:
    """How hard a stage is.

    Attributes:
        num_rooms: Rooms of the home, 2 to 8.
        devices_per_room: Devices in each room beside those a request is about, at most 4.
        num_scenes: Scenes beside those a request is about, at most 4.
        obstacle_share: How often a device is not ready for what it should do, in [0, 1].
    """

    num_rooms: int
    devices_per_room: int
    num_scenes: int
    obstacle_share: float


class Stage(Rehearsal):
    """One home, in the making and then in use.

    Attributes:
        adult, child, guest: Full names of the residents.
        user: Who is served.
        badges: The badge of every resident.
        rooms: The rooms.
        code: The code of the alarm.
        home: Time, alarm and code.
    """

    def __init__(self, rng: np.random.Generator, split: str, difficulty: Difficulty) -> None:
        people = [" ".join(person) for person in people_of(split)]
        super().__init__(rng, Backend, {}, self._introductions)
        self._difficulty = difficulty
        self.code = self.new_code()
        self.rooms = [*ROOMS[:2], *self.shuffled(ROOMS[2:])][: difficulty.num_rooms]
        self.home = {"time": self.new_time(8, 21), "alarm": "disarmed", "code": self.code}
        self.badges = {name: self.unused(lambda: f"B{self.number(100, 999)}") for name in self.shuffled(people)[:3]}
        self.adult, self.child, self.guest = self.badges
        self.user = self.adult
        roles = ((self.adult, "adult"), (self.child, "child"), (self.guest, "guest"))
        self.state |= {
            "home": self.home,
            "residents": [
                {"badge": self.badges[name], "name": name, "role": role} for name, role in self.shuffled(roles)
            ],
            "devices": [],
            "scenes": [],
            "schedules": [],
            "next_schedule": self.number(100, 800),
            "declined": [],
        }
        self._is_identified = False
        self._levels: set[int] = set()
        self._looked: dict[str, list[Device]] = {}
        for room in self.rooms:
            for type in self.shuffled(FILLERS)[: difficulty.devices_per_room]:
                self.device(type, room)
        for _ in range(difficulty.num_scenes):
            self.scene([self.device("light", mode="on"), self.device("speaker")])

    # Setting the stage

    def number(self, low: int, high: int) -> int:
        """Return a whole number from `low` to `high`."""
        return int(self.rng.integers(low, high + 1))

    def new_time(self, first_hour: int, last_hour: int) -> str:
        """Return a time of day that is used nowhere else in this task."""
        return self.unused(lambda: f"{self.number(first_hour, last_hour):02}:{5 * self.number(0, 11):02}")

    def new_code(self) -> str:
        """Return four digits that are used nowhere else in this task."""
        return self.unused(lambda: str(self.number(1000, 9999)))

    def new_level(self, low: int = 20, high: int = 95) -> int:
        """Return a level from `low` to `high`, one that no device in this task has while there is one."""
        level = self.pick([level for level in range(low, high + 1) if level not in self._levels] or [low])
        self._levels.add(level)
        return level

    def has_obstacle(self) -> bool:
        """Whether a device is to be found not ready."""
        return bool(self.rng.random() < self._difficulty.obstacle_share)

    def device(self, type: str, room: str = "", name: str = "", **settings: JSON) -> Device:
        """Put a device on the stage, in some room unless `room` says where; what `settings` leave out is drawn."""
        called, place = self.pick(self._places(type, room, name))
        device: Device = {"id": self.unused(lambda: f"D{self.number(100, 999)}"), "name": called, "room": place}
        device |= {"type": type, "online": True, **self._settings(type), **settings}
        self.state["devices"].append(device)
        return device

    def roomy(self, type: str, count: int) -> str:
        """Return a room with names left for so many more devices of a type."""
        rooms = [room for _, room in self._places(type)]
        return self.pick([room for room in self.rooms if rooms.count(room) >= count])

    def _places(self, type: str, room: str = "", name: str = "") -> list[tuple[str, str]]:
        """Return the names and rooms that are left for a device of a type."""
        taken = {(device["name"], device["room"]) for device in self.state["devices"]}
        return [
            (called, place)
            for called in ([name] if name else TYPES[type].names)
            for place in ([room] if room else self.rooms)
            if (called, place) not in taken and place in (TYPES[type].rooms or self.rooms)
        ]

    def _settings(self, type: str) -> dict[str, JSON]:
        """Return settings in which a device rests and stands in nobody's way."""
        kind, settings = TYPES[type], {}
        if kind.modes:
            settings["mode"] = kind.modes[0]
        if kind.levels:
            settings["level"] = self.new_level(*kind.levels)
        if kind.has_lock:
            settings["locked"] = True
        if kind.has_opening:
            settings["open"] = False
        if type == "vacuum":
            settings["battery"] = self.number(LEAST_BATTERY, 100)
        if type == "sensor":
            temperature = self.unused(lambda: f"{self.number(15, 27)}.{self.number(1, 9)}")
            settings |= {"temperature": float(temperature), "humidity": self.new_level(30, 70)}
        return settings

    def scene(self, devices: Sequence[Device]) -> dict[str, JSON]:
        """Put a scene on the stage that changes some devices with modes and levels."""
        steps = []
        for device in devices:
            modes, (low, high) = TYPES[device["type"]].modes, TYPES[device["type"]].levels
            step = {"device_id": device["id"], "mode": self.pick(modes[1:])} if modes else {"device_id": device["id"]}
            steps.append({**step, "level": self.pick([x for x in range(low, high) if x != device["level"]])})
        scene = {"id": self.unused(lambda: f"S{self.number(10, 99)}"), "name": "", "steps": steps}
        scene["name"] = self.unused(lambda: self.pick(SCENE_NAMES))
        self.state["scenes"].append(scene)
        return scene

    def schedule(self, device: Device, mode: str) -> dict[str, JSON]:
        """Put a schedule on the stage."""
        schedule = {"id": f"P{self.state['next_schedule']}", "device_id": device["id"]}
        schedule |= {"time": self.new_time(6, 22), "mode": mode}
        self.state["next_schedule"] += 1
        self.state["schedules"].append(schedule)
        return schedule

    def _introductions(self) -> tuple[str, ...]:
        badge = self.badges[self.user]
        return f"I am {self.user}, badge {badge}.", f"This is {self.user} with badge {badge}."

    # Playing the reference

    def find(self, room: str, *wanted: str) -> list[Device]:
        """Find the devices of a room the user named, unless that was done, after who is speaking."""
        return self._look(f"the id of the {listed(wanted)} in the {room}", "room", room)

    def find_type(self, type: str) -> list[Device]:
        """Find every device of a type; see `find`."""
        return self._look(f"the list of every {type}", "type", type)

    def identify(self, wanted: str) -> None:
        """See who is speaking, and the time and the alarm, unless that was done."""
        if not self._is_identified:
            self._look_up(wanted)

    def _look(self, what: str, by: str, value: str) -> list[Device]:
        if value not in self._looked:
            self._looked[value] = self._look_up(what, ToolCall("find_devices", {by: value}))["devices"]
        return self._looked[value]

    def _look_up(self, what: str, *calls: ToolCall) -> JSON:
        """Make calls for what is missing, after who is speaking; return what came back last."""
        missing = f"{what} is missing"
        if not self._is_identified:
            self._is_identified = True
            badge = self.badges[self.user]
            missing = f"The role behind {badge} and {what} are missing"
            calls = (ToolCall("identify", {"badge": badge}), *calls)
        names = listed([call.name for call in calls])
        return self.act(f"{missing[0].upper()}{missing[1:]}, so I call {names}.", *calls)[-1]

    def read(self, devices: Sequence[Device], wanted: str) -> list[Device]:
        """Read devices that were found, all in one message."""
        ids = listed([device["id"] for device in devices])
        return self.act(
            f"find_devices gave {ids}; {wanted} is missing, so I call get_device.",
            *(ToolCall("get_device", {"device_id": device["id"]}) for device in devices),
        )


def spoken(device: Device) -> str:
    """Return how the user names a device."""
    return f"the {device['name']} in the {device['room']}"
