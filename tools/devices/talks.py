"""Requests that take more than one turn: something has to be asked for, or the user wants more."""

from __future__ import annotations

from collections.abc import Iterator

from awpo_tools.rehearsal import listed

from .actions import heat_oven
from .plans import call_add, call_scene, see_scenes
from .stage import Stage, spoken
from .steps import change, disarm, open_closed_door, set_level

Acts = Iterator[None]


def missing(stage: Stage) -> Acts:
    """The user leaves out what has to be asked for."""
    return stage.pick((_missing_level, _missing_time, _missing_degrees))(stage)


def _missing_level(stage: Stage) -> Acts:
    light, level = stage.device("light", mode=stage.pick(("on", "off"))), stage.new_level()
    yield
    stage.asks(("Change the brightness of {}.", "Please set {} to another level."), spoken(light))
    _ask(stage, "level", "set_level", f"Which level should {spoken(light)} have?")
    stage.asks(("Level {}.", "It should be at {} percent."), level)
    stage.find(light["room"], light["name"])
    set_level(stage, light, level, "on")


def _missing_time(stage: Stage) -> Acts:
    light, time = stage.device("light"), stage.new_time(16, 21)
    yield
    stage.asks(("Schedule {} to go on.", "Please add a schedule that turns {} on."), spoken(light))
    _ask(stage, "time", "add_schedule", f"At which time should {spoken(light)} go on?")
    stage.asks(("At {}.", "Every day at {}."), time)
    stage.find(light["room"], light["name"])
    call_add(stage, light, "on", time, f"find_devices gave {light['id']} as the {light['name']}")


def _missing_degrees(stage: Stage) -> Acts:
    oven, level, mode = stage.device("oven", level=240), 5 * stage.number(20, 46), stage.pick(("bake", "grill"))
    yield
    stage.asks(("Heat {} with {}.", "Please set {} to {}, I want to cook."), spoken(oven), mode)
    _ask(stage, "level in degrees", "set_level", f"To how many degrees should I heat {spoken(oven)}?")
    stage.asks(("To {} degrees.", "{} degrees, please."), level)
    stage.find(oven["room"], oven["name"])
    heat_oven(stage, oven, level, mode)


def _ask(stage: Stage, what: str, tool: str, question: str) -> None:
    stage.tell(f"The user did not give the {what}, which {tool} needs; I ask, as guessing is forbidden.", question)


def ask_code(stage: Stage) -> Acts:
    """A door is to be opened while the alarm is armed, and the user did not give the code."""
    door = stage.device("door", locked=stage.pick((True, False)))
    stage.home["alarm"] = alarm = stage.pick(("home", "away"))
    yield
    stage.asks(("Open {}.", "Please open {} for me."), spoken(door))
    stage.find(door["room"], door["name"])
    stage.tell(
        f"identify shows the alarm set to {alarm}; its code is missing, which set_alarm needs, so I ask.",
        f"The alarm is set to {alarm}. What is its code?",
    )
    stage.asks(("The code is {}.", "It is {}."), stage.code)
    disarm(stage, stage.code, f"The user gave the code, and set_open of {door['id']} needs the alarm disarmed")
    open_closed_door(stage, door)


def wrong_code(stage: Stage) -> Acts:
    """The first code is wrong, the second one right."""
    wrong = stage.new_code()
    stage.home["alarm"] = stage.pick(("home", "away"))
    yield
    try_code(stage, wrong)
    stage.asks(("Sorry, it is {}.", "I mixed it up, the code is {}."), stage.code)
    disarm(stage, stage.code, f"{wrong} was wrong and the user gave another code")
    stage.confirm("set_alarm", "The alarm is disarmed now.")


def try_code(stage: Stage, wrong: str) -> None:
    """Try a code that is wrong, and ask for another one."""
    stage.asks(("Disarm the alarm, the code is {}.", "Please turn the alarm off. Its code is {}."), wrong)
    stage.identify("the state of the alarm for set_alarm")
    disarm(stage, wrong, f"identify shows the alarm set to {stage.home['alarm']} and the user gave {wrong}")
    stage.tell(
        f"set_alarm failed: {wrong} is the wrong code for the alarm, so I ask once more for the code.",
        f"{wrong} is the wrong code. What is the right one?",
    )


def choose(stage: Stage) -> Acts:
    """Several lights fit the user's words, so the assistant has to ask which one is meant."""
    room = stage.roomy("light", 2)
    meant, _ = (stage.device("light", room, mode="off") for _ in range(2))
    is_level, level = stage.pick((True, False)), stage.new_level()
    yield
    if is_level:
        stage.asks(("Set the light in the {} to {} percent.",), room, level)
    else:
        stage.asks(("Turn on the light in the {}.", "Please switch on the light in the {}."), room)
    lights = [device for device in stage.find(room, "light") if device["type"] == "light"]
    names = listed([device["name"] for device in lights])
    stage.tell(
        f"find_devices gave several lights in the {room}: {names}; which one set_mode is for is missing, so I ask.",
        f"There are several lights in the {room}: {names}. Which one do you mean?",
    )
    stage.asks(("The {}.", "I mean the {}."), meant["name"])
    if is_level:
        set_level(stage, meant, level, "on")
    else:
        change(stage, "set_mode", meant, "on", f"find_devices gave {meant['id']} as the {meant['name']}")
        stage.confirm("set_mode", f"{spoken(meant).capitalize()} ({meant['id']}) is on now.")


def follow_up(stage: Stage) -> Acts:
    """Something is done; then the user wants more done with the same device."""
    return stage.pick((_on_then_level, _two_schedules))(stage)


def _on_then_level(stage: Stage) -> Acts:
    type, mode = stage.pick((("light", "on"), ("speaker", "radio"), ("speaker", "music")))
    device, level = stage.device(type), stage.new_level()
    yield
    stage.asks(("Set {} to {}.", "Please put {} into the mode {}."), spoken(device), mode)
    stage.find(device["room"], device["name"])
    change(stage, "set_mode", device, mode, f"find_devices gave {device['id']} as the {device['name']}")
    stage.confirm("set_mode", f"{spoken(device).capitalize()} ({device['id']}) is set to {mode} now.")
    stage.asks(("Now set it to level {}.", "Good. Make that level {}, please."), level)
    change(stage, "set_level", device, level, f"{device['id']} is on {mode} since set_mode")
    stage.confirm("set_level", f"{spoken(device).capitalize()} ({device['id']}) is at {level} now.")


def _two_schedules(stage: Stage) -> Acts:
    light, start, end = stage.device("light"), stage.new_time(16, 18), stage.new_time(19, 21)
    yield
    stage.asks(("Schedule {} to go on at {}.", "Please schedule {} for on at {}."), spoken(light), start)
    stage.find(light["room"], light["name"])
    call_add(stage, light, "on", start, f"find_devices gave {light['id']} as the {light['name']}")
    stage.asks(("And off again at {}.", "Now the same light for off at {}."), end)
    call_add(stage, light, "off", end, f"{light['id']} goes on at {start} since the last add_schedule")


def late_tool(stage: Stage) -> Acts:
    """No tool does what the user asks for; later there is one."""
    stage.hidden.add("run_scene")
    scene = stage.scene([stage.device("light", mode="on"), stage.device("speaker")])
    yield
    stage.asks(("Run the scene '{}'.", "Please start the scene '{}'."), scene["name"])
    see_scenes(stage, scene)
    stage.call(
        f"list_scenes gave {scene['id']}, but no tool on show runs a scene, so I call decline with no_tool.",
        "decline",
        subject=scene["id"],
        reason="no_tool",
    )
    stage.tell(
        f"decline recorded no_tool for {scene['id']}, so I tell the user why.",
        f"I have no tool to run the scene '{scene['name']}' ({scene['id']}).",
    )
    stage.asks(
        ("You have the tool now, please try again.", "There is a tool now. Please do it."), new_tools=("run_scene",)
    )
    call_scene(stage, scene, f"run_scene is on show now and list_scenes gave {scene['id']}")
    stage.confirm("run_scene", f"The scene '{scene['name']}' ({scene['id']}) is on.")
