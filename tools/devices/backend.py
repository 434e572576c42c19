"""The home behind the tools: devices refuse what their state does not allow."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from awpo_env.errors import ToolError, did_you_mean

from .catalogue import LEAST_BATTERY, TYPES, DeviceType

JSON = Any
Device = dict[str, JSON]


class Backend:
    """One home; ``tools.json`` says what each tool does.

    State: the home (time, alarm, code), residents, devices, scenes, schedules, the number of the next schedule, and
    what was declined for which reason. Devices are replaced, never changed.
    """

    def __init__(self, state: JSON) -> None:
        self.restore(state)

    def restore(self, snapshot: JSON) -> None:
        """Take over a state as `snapshot` returns it."""
        self._home = dict(snapshot["home"])
        self._residents = [dict(resident) for resident in snapshot["residents"]]
        self._devices: dict[str, Device] = {device["id"]: dict(device) for device in snapshot["devices"]}
        self._scenes = {scene["id"]: _copy_scene(scene) for scene in snapshot["scenes"]}
        self._schedules = {schedule["id"]: dict(schedule) for schedule in snapshot["schedules"]}
        self._next_schedule: int = snapshot["next_schedule"]
        self._declined = tuple((each["subject"], each["reason"]) for each in snapshot["declined"])

    def snapshot(self) -> JSON:
        """Return the complete state; devices and scenes keep their order, schedules are in that of their numbers."""
        return {
            "home": dict(self._home),
            "residents": [dict(resident) for resident in self._residents],
            "devices": [dict(device) for device in self._devices.values()],
            "scenes": [_copy_scene(scene) for scene in self._scenes.values()],
            "schedules": [dict(self._schedules[name]) for name in sorted(self._schedules)],
            "next_schedule": self._next_schedule,
            "declined": [{"subject": subject, "reason": reason} for subject, reason in self._declined],
        }

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Undo what is done inside when an exception leaves the block."""
        saved = dict(self._home), dict(self._devices), dict(self._schedules), self._next_schedule, self._declined
        try:
            yield
        except BaseException:
            self._home, self._devices, self._schedules, self._next_schedule, self._declined = saved
            raise

    # -- look-ups ------------------------------------------------------------------------------------------------

    def identify(self, badge: str) -> JSON:
        for resident in self._residents:
            if resident["badge"] == badge:
                return {**resident, "time": self._home["time"], "alarm": self._home["alarm"]}
        raise ToolError(f"nobody here has the badge {badge!r}; ask the user for it")

    def find_devices(self, room: str | None = None, type: str | None = None) -> JSON:
        keys = ("id", "name", "room", "type", "online")
        found = (
            device
            for device in self._devices.values()
            if room in (None, device["room"]) and type in (None, device["type"])
        )
        return {"devices": [{key: device[key] for key in keys} for device in found]}

    def get_device(self, device_id: str) -> JSON:
        return dict(self._device(device_id))

    def list_scenes(self) -> JSON:
        return {"scenes": [_copy_scene(scene) for scene in self._scenes.values()]}

    def list_schedules(self, device_id: str) -> JSON:
        self._device(device_id)
        found = [dict(self._schedules[name]) for name in sorted(self._schedules)]
        return {"schedules": [schedule for schedule in found if schedule["device_id"] == device_id]}

    # -- actions -------------------------------------------------------------------------------------------------

    def set_mode(self, device_id: str, mode: str) -> JSON:
        device, kind = self._usable(device_id)
        _require_mode(device, mode)
        if device["mode"] == mode:
            raise ToolError(f"{device_id} is in mode {mode} already")
        if mode != kind.modes[0]:
            self._require_startable(device)
        return self._store({**device, "mode": mode})

    def set_level(self, device_id: str, level: int) -> JSON:
        device, kind = self._usable(device_id)
        if kind.levels is None:
            raise ToolError(f"{device_id} is a {device['type']}, which has no level")
        low, high = kind.levels
        if not low <= level <= high:
            raise ToolError(f"the level of {device_id} goes from {low} to {high} {kind.unit}; {level} is beyond")
        if kind.modes and device["mode"] == kind.modes[0]:
            raise ToolError(f"{device_id} is {device['mode']}; set a mode before its level")
        if device["level"] == level:
            raise ToolError(f"{device_id} is at level {level} already")
        return self._store({**device, "level": level})

    def set_lock(self, device_id: str, locked: bool) -> JSON:
        device, kind = self._usable(device_id)
        if not kind.has_lock:
            raise ToolError(f"{device_id} is a {device['type']}, which has no lock")
        if device["locked"] == locked:
            raise ToolError(f"{device_id} is {'locked' if locked else 'unlocked'} already")
        if locked and device.get("open"):
            raise ToolError(f"{device_id} is open; close it before it can be locked")
        return self._store({**device, "locked": locked})

    def set_open(self, device_id: str, is_open: bool) -> JSON:
        device, kind = self._usable(device_id)
        if not kind.has_opening:
            raise ToolError(f"{device_id} is a {device['type']}, which cannot be opened or closed")
        if device["open"] == is_open:
            raise ToolError(f"{device_id} is {'open' if is_open else 'closed'} already")
        if is_open:
            self._require_openable(device)
        return self._store({**device, "open": is_open})

    def set_alarm(self, mode: str, code: str) -> JSON:
        if code != self._home["code"]:
            raise ToolError(f"{code} is the wrong code for the alarm")
        if self._home["alarm"] == mode:
            raise ToolError(f"the alarm is {mode} already")
        if mode != "disarmed":
            for device in self._devices.values():
                if device["type"] in ("door", "window") and device["open"]:
                    raise ToolError(f"{device['id']}, a {device['type']}, is open; close it before the alarm is armed")
                if device["type"] == "door" and not device["locked"]:
                    raise ToolError(f"{device['id']}, a door, is unlocked; lock it before the alarm is armed")
        self._home = {**self._home, "alarm": mode}
        return {"alarm": mode}

    def run_scene(self, scene_id: str) -> JSON:
        if scene_id not in self._scenes:
            raise ToolError(f"there is no scene {scene_id!r}; list_scenes gives the ids")
        scene = self._scenes[scene_id]
        with self.transaction():
            for step in scene["steps"]:
                device = self._device(step["device_id"])
                for setting, change in (("mode", self.set_mode), ("level", self.set_level)):
                    if setting in step and device[setting] != step[setting]:
                        change(step["device_id"], step[setting])
        return {"run": scene_id, "name": scene["name"], "devices": [step["device_id"] for step in scene["steps"]]}

    def add_schedule(self, device_id: str, time: str, mode: str) -> JSON:
        device, _ = self._usable(device_id)
        _require_mode(device, mode)
        for other in self._schedules.values():
            if (other["device_id"], other["time"]) == (device_id, time):
                raise ToolError(f"{other['id']} is for {device_id} at {time} already; remove it first")
        schedule = {"id": f"P{self._next_schedule}", "device_id": device_id, "time": time, "mode": mode}
        self._schedules = {**self._schedules, schedule["id"]: schedule}
        self._next_schedule += 1
        return dict(schedule)

    def remove_schedule(self, schedule_id: str) -> JSON:
        if schedule_id not in self._schedules:
            raise ToolError(f"there is no schedule {schedule_id!r}; list_schedules gives the ids")
        self._schedules = {name: each for name, each in self._schedules.items() if name != schedule_id}
        return {"removed": schedule_id}

    def decline(self, subject: str, reason: str) -> JSON:
        self._declined = (*self._declined, (subject, reason))
        return {"declined": reason, "subject": subject}

    # -- rules ---------------------------------------------------------------------------------------------------

    def _device(self, device_id: str) -> Device:
        if device_id not in self._devices:
            hint = did_you_mean(device_id, self._devices)
            raise ToolError(f"there is no device {device_id!r}; find_devices gives the ids.{hint}")
        return self._devices[device_id]

    def _usable(self, device_id: str) -> tuple[Device, DeviceType]:
        device = self._device(device_id)
        if not device["online"]:
            raise ToolError(f"{device_id} is offline and does not answer")
        return device, TYPES[device["type"]]

    def _require_startable(self, device: Device) -> None:
        """Raise unless a resting device can take up work."""
        name = device["id"]
        if device.get("locked"):
            raise ToolError(f"{name} is locked; unlock it before it can be heated")
        if device["type"] == "washer" and device["mode"] != "off":
            raise ToolError(f"{name} runs the program {device['mode']}; set it to off first")
        if device["type"] == "washer" and device["open"]:
            raise ToolError(f"{name} is open; close it before a program can start")
        if device["type"] == "vacuum" and device["battery"] < LEAST_BATTERY:
            raise ToolError(f"{name} has a battery of {device['battery']} percent and needs {LEAST_BATTERY}")
        if device["type"] == "thermostat":
            for other in self._devices.values():
                if other["type"] == "window" and other["room"] == device["room"] and other["open"]:
                    raise ToolError(f"{other['id']}, a window of the {other['room']}, is open; close it first")

    def _require_openable(self, device: Device) -> None:
        name = device["id"]
        if device["type"] == "washer" and device["mode"] != "off":
            raise ToolError(f"{name} runs the program {device['mode']}; set it to off before it can be opened")
        if device["type"] in ("door", "window") and self._home["alarm"] != "disarmed":
            raise ToolError(f"the alarm is set to {self._home['alarm']}; disarm it before {name} can be opened")
        if device.get("locked"):
            raise ToolError(f"{name} is locked; unlock it before it can be opened")

    def _store(self, device: Device) -> JSON:
        self._devices = {**self._devices, device["id"]: device}
        return dict(device)


def _require_mode(device: Device, mode: str) -> None:
    modes = TYPES[device["type"]].modes
    if mode not in modes:
        known = f"its modes are {', '.join(modes)}" if modes else "it has no modes"
        raise ToolError(f"{device['id']} is a {device['type']}; {known}")


def _copy_scene(scene: JSON) -> JSON:
    return {**scene, "steps": [dict(step) for step in scene["steps"]]}
