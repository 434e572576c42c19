"""Requests about scenes and schedules."""

from __future__ import annotations

from collections.abc import Iterator

from awpo_env.types import JSON

from .backend import Device
from .stage import Stage, spoken
from .steps import change

Acts = Iterator[None]

MODES = {"light": ("on", "off"), "speaker": ("radio", "music", "off"), "vacuum": ("cleaning", "docked")}
"""What is scheduled."""


def run_scene(stage: Stage) -> Acts:
    """A scene is run."""
    scene = _new_scene(stage)
    yield
    stage.asks(("Run the scene '{}'.", "Please start the scene '{}'."), scene["name"])
    see_scenes(stage, scene)
    call_scene(stage, scene, f"list_scenes gave {scene['id']} for '{scene['name']}'")
    stage.confirm("run_scene", f"The scene '{scene['name']}' ({scene['id']}) is on.")


def _new_scene(stage: Stage) -> dict[str, JSON]:
    return stage.scene([stage.device("light", mode="on"), stage.device("speaker")])


def see_scenes(stage: Stage, scene: dict[str, JSON]) -> None:
    """See who is speaking and list the scenes."""
    stage.identify(f"the id of '{scene['name']}' for run_scene")
    stage.call(
        f"The id of the scene '{scene['name']}' is missing, so I call list_scenes before run_scene.", "list_scenes"
    )


def call_scene(stage: Stage, scene: dict[str, JSON], grounds: str) -> JSON:
    """Run a scene that was found; return what came back."""
    return stage.call(f"{grounds}, so I call run_scene with {scene['id']}.", "run_scene", scene_id=scene["id"])


def scene_blocked(stage: Stage) -> Acts:
    """A scene fails as something stands in its way; that is put right and the scene run again."""
    thermostat = stage.device("thermostat")
    room = thermostat["room"]
    window = stage.device("window", room, open=True)
    scene = stage.scene([stage.device("speaker"), thermostat])
    scene["steps"][1] |= {"mode": "heat", "level": stage.pick((19, 20, 21, 22))}
    thermostat["level"] = 16
    yield
    stage.asks(("Run the scene '{}'.", "Please start the scene '{}'."), scene["name"])
    see_scenes(stage, scene)
    failed = call_scene(stage, scene, f"list_scenes gave {scene['id']} for '{scene['name']}'")
    assert window["id"] in failed["error"]
    grounds = f"run_scene failed as the window {window['id']} of the {room} is open and has to be closed first"
    change(stage, "set_open", window, False, grounds)
    call_scene(stage, scene, f"The window {window['id']} is closed now, so nothing blocks {scene['id']}")
    stage.confirm(
        "run_scene", f"I closed the window {window['id']}; the scene '{scene['name']}' ({scene['id']}) is on."
    )


def add_schedule(stage: Stage) -> Acts:
    """A device is to change its mode at some time."""
    device, mode, time = _plan(stage)
    yield
    stage.asks(("Schedule {} for {} at {}.", "Please schedule {} to go to {} at {}."), spoken(device), mode, time)
    stage.find(device["room"], device["name"])
    call_add(stage, device, mode, time, f"find_devices gave {device['id']} as the {device['name']}")


def _plan(stage: Stage) -> tuple[Device, str, str]:
    type = stage.pick(tuple(MODES))
    return stage.device(type), stage.pick(MODES[type]), stage.new_time(6, 21)


def call_add(stage: Stage, device: Device, mode: str, time: str, grounds: str) -> JSON:
    """Add a schedule for a device that was found, and tell the user; return it."""
    schedule = stage.call(
        f"{grounds}, so I call add_schedule with {mode} at {time} for {device['id']}.",
        "add_schedule",
        device_id=device["id"],
        time=time,
        mode=mode,
    )
    done = f"{spoken(device).capitalize()} goes to {mode} at {time}, schedule {schedule['id']}."
    stage.confirm("add_schedule", done)
    return schedule


def remove_schedule(stage: Stage) -> Acts:
    """One of the schedules of a device is removed."""
    device, mode, _ = _plan(stage)
    schedule, _ = stage.schedule(device, mode), stage.schedule(device, mode)
    yield
    stage.asks(
        ("Remove the {} schedule of {}.", "Please cancel the schedule at {} of {}."), schedule["time"], spoken(device)
    )
    stage.find(device["room"], device["name"])
    see_schedules(stage, device, f"the id of the one at {schedule['time']} for remove_schedule")
    call_remove(stage, schedule)
    stage.confirm("remove_schedule", f"The schedule {schedule['id']} at {schedule['time']} is removed.")


def see_schedules(stage: Stage, device: Device, wanted: str) -> None:
    """List the schedules of a device that was found."""
    stage.call(
        f"find_devices gave {device['id']}; {wanted} is missing, so I call list_schedules.",
        "list_schedules",
        device_id=device["id"],
    )


def call_remove(stage: Stage, schedule: dict[str, JSON]) -> None:
    """Remove a schedule that was found."""
    stage.call(
        f"list_schedules gave {schedule['id']} at {schedule['time']}, so I call remove_schedule.",
        "remove_schedule",
        schedule_id=schedule["id"],
    )


def move_schedule(stage: Stage) -> Acts:
    """A schedule gets another time."""
    device, mode, time = _plan(stage)
    schedule, _ = stage.schedule(device, mode), stage.schedule(device, mode)
    yield
    messages = ("Move the {} schedule of {} to {}.", "The schedule at {} of {} should be at {} instead.")
    stage.asks(messages, schedule["time"], spoken(device), time)
    stage.find(device["room"], device["name"])
    see_schedules(stage, device, f"the one at {schedule['time']} for remove_schedule and add_schedule")
    call_remove(stage, schedule)
    call_add(stage, device, mode, time, f"{schedule['id']} with {mode} is removed")


def same_time(stage: Stage) -> Acts:
    """A device is scheduled for when another one is."""
    (one, one_mode, _), (other, mode, _) = _plan(stage), _plan(stage)
    schedule = stage.schedule(one, one_mode)
    yield
    messages = ("Schedule {} for {} at the time {} has.", "Please schedule {} to go to {} when {} has its schedule.")
    stage.asks(messages, spoken(other), mode, spoken(one))
    stage.find(one["room"], one["name"])
    stage.find(other["room"], other["name"])
    see_schedules(stage, one, f"its time for add_schedule of {other['id']}")
    call_add(stage, other, mode, schedule["time"], f"list_schedules gave {schedule['time']} for {one['id']}")
