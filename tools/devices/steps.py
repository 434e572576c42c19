"""Steps that requests share: one change of one device, and what the user is told about it."""

from __future__ import annotations

from awpo_env.types import JSON, ToolCall

from .backend import Device
from .stage import Stage, spoken

ARGUMENTS = {"set_mode": "mode", "set_level": "level", "set_lock": "locked", "set_open": "is_open"}
"""What each tool sets."""


def setting(tool: str, device: Device, value: JSON) -> ToolCall:
    """Return the call that sets something of a device."""
    return ToolCall(tool, {"device_id": device["id"], ARGUMENTS[tool]: value})


def change(stage: Stage, tool: str, device: Device, value: JSON, grounds: str) -> None:
    """Set something of a device, for a reason."""
    said = {True: "true", False: "false"}.get(value, value) if isinstance(value, bool) else value
    reasoning = f"{grounds}, so I call {tool} with {said} for {device['id']}."
    stage.act(reasoning, setting(tool, device, value))


def disarm(stage: Stage, code: str, grounds: str) -> JSON:
    """Disarm the alarm with a code; return what came back."""
    reasoning = f"{grounds}, so I call set_alarm with disarmed and the code {code}."
    return stage.call(reasoning, "set_alarm", mode="disarmed", code=code)


def open_closed_door(stage: Stage, door: Device) -> None:
    """Open a door that is found closed while the alarm is disarmed, and tell the user."""
    (seen,) = stage.read([door], "whether it is locked before set_open")
    if seen["locked"]:
        change(stage, "set_lock", door, False, f"get_device shows {door['id']} locked and set_open needs it unlocked")
    change(stage, "set_open", door, True, f"{door['id']} is closed and unlocked now")
    stage.confirm("set_open", f"{spoken(door).capitalize()} ({door['id']}) is open now.")


def set_level(stage: Stage, device: Device, level: int, start_mode: str) -> None:
    """Set the level of a device that was found, starting it if it rests, and tell the user."""
    (seen,) = stage.read([device], "its mode before set_level")
    if seen["mode"] != start_mode:
        grounds = f"get_device shows {device['id']} in mode {seen['mode']} and set_level needs {start_mode}"
        change(stage, "set_mode", device, start_mode, grounds)
    change(
        stage, "set_level", device, level, f"{device['id']} is in mode {start_mode} and the user wants level {level}"
    )
    stage.confirm("set_level", f"{spoken(device).capitalize()} ({device['id']}) is at {level} now.")
