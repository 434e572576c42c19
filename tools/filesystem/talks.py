"""Requests that take more than one turn, or in which something goes wrong on the way."""

from __future__ import annotations

from collections.abc import Iterator

from awpo_tools.rehearsal import listed

from awpo_env.types import ToolCall

from .backend import name_of, parent_of
from .changes import KEYS, call_append, call_copy, call_move, call_remove, read_and_edit
from .scene import Scene, Target, inside, written
from .words import LINES

Acts = Iterator[None]


def missing(scene: Scene) -> Acts:
    """The user leaves out what has to be asked for."""
    return scene.pick((_missing_folder, _missing_value, _missing_line))(scene)


def _missing_folder(scene: Scene) -> Acts:
    source, folder = scene.target(), scene.folder()
    yield
    scene.asks(("Move {} to another folder.", "Please put {} somewhere else."), source.words)
    _ask(scene, "target", "move_path", f"Which folder should {source.name} go to?")
    scene.asks(("Into {}.", "It should go to {}."), folder.words)
    scene.find(source, folder)
    call_move(scene, source, inside(folder, source))


def _missing_value(scene: Scene) -> Acts:
    record, key = scene.record(), scene.pick(KEYS)
    file, new = scene.target(written(record)), scene.new_value(key)
    yield
    scene.asks(("The {} in {} is outdated, change it.", "Please correct the {} in {}."), key, file.words)
    _ask(scene, f"new {key}", "edit_file", f"What is the new {key} for {file.name}?")
    scene.asks(("It is {}.", "Make it {}."), new)
    scene.find(file)
    read_and_edit(scene, file, key, new)


def _missing_line(scene: Scene) -> Acts:
    file, line = scene.target(), scene.pick(LINES)
    yield
    scene.asks(("Add a line to {}.", "Please note something at the end of {}."), file.words)
    _ask(scene, "line", "append_line", f"Which line should I add to {file.name}?")
    scene.asks(("'{}'.", "The line is '{}'."), line)
    scene.find(file)
    call_append(scene, file, line)


def _ask(scene: Scene, what: str, tool: str, question: str) -> None:
    scene.tell(f"The user did not give the {what}, which {tool} needs; I ask, as guessing is forbidden.", question)


def choose(scene: Scene) -> Acts:
    """Two files have the name, so the assistant has to ask which one is meant."""
    file, elsewhere = scene.file(), scene.folder()
    other = Target(scene.put(inside(elsewhere, file), scene.note()), "")
    meant = scene.pick((file, other))
    name = scene.new_name(".txt")
    is_removal = scene.pick((True, False))
    yield
    wish = "Remove {}." if is_removal else "Rename {} to {}."
    scene.asks((wish, "Please do this for me: " + wish[0].lower() + wish[1:]), file.name, name)
    scene.find(file)
    low, high = sorted((file.path, other.path))
    scene.tell(
        f"find_paths gave both {low} and {high}; which one is meant is missing, so I ask.",
        f"Do you mean {low} or {high}?",
    )
    scene.asks(("The one in the folder {}.", "I mean the one in {}."), name_of(parent_of(meant.path)))
    if is_removal:
        call_remove(scene, meant)
    else:
        call_move(scene, meant, f"{parent_of(meant.path)}/{name}")


def follow_up(scene: Scene) -> Acts:
    """Something is done; then the user wants more done with it."""
    return scene.pick((_copy_then_rename, _change_then_change, _make_then_move))(scene)


def _copy_then_rename(scene: Scene) -> Acts:
    source, folder, name = scene.target(), scene.folder(), scene.new_name(".txt")
    yield
    scene.asks(("Copy {} to {}.",), source.words, folder.words)
    scene.find(source, folder)
    copied = Target(inside(folder, source), "")
    call_copy(scene, source, copied.path)
    scene.confirm("copy_path", f"A copy of {source.name} is in {folder.path} now.")
    scene.asks(("Now rename the copy to {}.", "Good. Call the copy {}, please."), name)
    target = f"{folder.path}/{name}"
    scene.call(
        f"The copy is {copied.path} since copy_path, so I call move_path with target {target}.",
        "move_path",
        source=copied.path,
        target=target,
    )
    scene.confirm("move_path", f"The copy is at {target} now.")


def _change_then_change(scene: Scene) -> Acts:
    first, second = scene.shuffled(KEYS)[:2]
    record, new, newer = scene.record(), scene.new_value(first), scene.new_value(second)
    file = scene.target(written(record))
    yield
    scene.asks(("Change the {} in {} to {}.",), first, file.words, new)
    scene.find(file)
    read_and_edit(scene, file, first, new)
    scene.asks(("Now set the {} in it to {}.", "And its {} becomes {}."), second, newer)
    scene.call(
        f"read_file showed '{second}: {record[second]}' in {file.path}, so I call edit_file with '{second}: {newer}'.",
        "edit_file",
        path=file.path,
        old=f"{second}: {record[second]}",
        new=f"{second}: {newer}",
    )
    scene.confirm("edit_file", f"The {second} in {file.name} is {newer} now.")


def _make_then_move(scene: Scene) -> Acts:
    folder, source = scene.folder(), scene.target()
    name = scene.new_folder_name()
    yield
    scene.asks(("Make a folder {} in {}.", "I need a new folder {} inside {}."), name, folder.words)
    scene.find(folder)
    made = Target(f"{folder.path}/{name}", "")
    scene.call(
        f"find_paths gave {folder.path}, so I call make_directory for {made.path}.", "make_directory", path=made.path
    )
    scene.confirm("make_directory", f"The folder {made.path} is there now.")
    scene.asks(("Now move {} into it.", "Good. Put {} there."), source.words)
    scene.find(source)
    call_move(scene, source, inside(made, source))


def late_tool(scene: Scene) -> Acts:
    """No tool does what the user asks for; later there is one."""
    is_removal = scene.pick((True, False))
    tool = "remove_path" if is_removal else "copy_path"
    scene.hidden.add(tool)
    file, folder = scene.target(), scene.folder()
    yield
    if is_removal:
        scene.asks(("Remove {}.", "Please delete {}."), file.words)
        scene.find(file)
    else:
        scene.asks(("Copy {} to {}.", "Please put a copy of {} into {}."), file.words, folder.words)
        scene.find(file, folder)
    scene.call(
        f"find_paths gave {file.path}, but no tool on show does what is asked, so I call decline with no_tool.",
        "decline",
        subject=file.path,
        reason="no_tool",
    )
    scene.tell(
        f"decline recorded no_tool for {file.path}, so I tell the user why.",
        f"I have no tool for that, so {file.path} is as it was.",
    )
    scene.asks(("You have the tool now, please try again.", "There is a tool now. Please do it."), new_tools=(tool,))
    if is_removal:
        call_remove(scene, file)
    else:
        call_copy(scene, file, inside(folder, file))
        scene.confirm("copy_path", f"A copy of {file.name} is at {inside(folder, file)} now.")


def make_room(scene: Scene) -> Acts:
    """The home is full; emptying the trash makes room."""
    source, folder = scene.target(scene.note(6)), scene.folder()
    for _ in range(scene.pick((1, 2))):
        scene.file(scene.trash, scene.note(8))
    scene.allow_only(free_bytes=scene.pick((10, 20, 40)))
    yield
    scene.asks(("Copy {} to {}.", "Please put a copy of {} into {}."), source.words, folder.words)
    scene.find(source, folder)
    target = inside(folder, source)
    call_copy(scene, source, target)
    paths = look_into_trash(scene)
    scene.act(
        f"list_directory shows enough bytes in {listed(paths)} for copy_path, so I call remove_path for each.",
        *(ToolCall("remove_path", {"path": path}) for path in paths),
    )
    scene.call(
        f"The trash is empty, so there is room and I call copy_path again for {source.path} with target {target}.",
        "copy_path",
        source=source.path,
        target=target,
    )
    scene.confirm("copy_path", f"I emptied the trash; a copy of {source.name} is at {target} now.")


def look_into_trash(scene: Scene) -> list[str]:
    """After a copy failed for lack of room, see what emptying the trash would give; return the paths in it."""
    listing = scene.call(
        f"copy_path failed as the quota has too few free bytes; the bytes in {scene.trash} are missing, so I call "
        "list_directory.",
        "list_directory",
        path=scene.trash,
    )
    return [f"{scene.trash}/{each['name']}" for each in listing["entries"]]
