"""Requests that change one thing."""

from __future__ import annotations

from collections.abc import Iterator

from awpo_env.types import ToolCall

from .backend import name_of, parent_of
from .scene import SHARED, Record, Scene, Target, inside, written
from .words import LINES

Acts = Iterator[None]

KEYS = ("phone", "budget", "deadline", "room")


def move(scene: Scene) -> Acts:
    """A file goes into another folder."""
    source, folder = scene.target(), scene.folder()
    yield
    scene.asks(("Move {} to {}.", "Please put {} into {}."), source.words, folder.words)
    scene.find(source, folder)
    call_move(scene, source, inside(folder, source))


def call_move(scene: Scene, source: Target, target: str) -> None:
    """Move what was found, and tell the user."""
    scene.call(
        f"find_paths gave {source.path}, so I call move_path with target {target}.",
        "move_path",
        source=source.path,
        target=target,
    )
    scene.confirm("move_path", f"{source.name} is at {target} now.")


def copy(scene: Scene) -> Acts:
    """A copy of a file goes into another folder, now and then a shared one."""
    source, folder = scene.target(), scene.folder(scene.pick(("", SHARED)))
    yield
    scene.asks(("Copy {} to {}.", "Please put a copy of {} into {}."), source.words, folder.words)
    scene.find(source, folder)
    call_copy(scene, source, inside(folder, source))
    scene.confirm("copy_path", f"A copy of {source.name} is at {inside(folder, source)} now.")


def call_copy(scene: Scene, source: Target, target: str) -> None:
    """Copy what was found."""
    scene.call(
        f"find_paths gave {source.path}, so I call copy_path with target {target}.",
        "copy_path",
        source=source.path,
        target=target,
    )


def rename(scene: Scene) -> Acts:
    """A file gets another name and stays where it is."""
    source, name = scene.target(), scene.new_name(".txt")
    yield
    scene.asks(("Rename {} to {}.", "Please give {} the new name {}."), source.words, name)
    scene.find(source)
    call_move(scene, source, source.path.replace(source.name, name))


def remove(scene: Scene) -> Acts:
    """A file is removed."""
    file = scene.target()
    yield
    scene.asks(("Remove {}.", "Please delete {}.", "I do not need {} any more, remove it."), file.words)
    scene.find(file)
    call_remove(scene, file)


def call_remove(scene: Scene, file: Target) -> None:
    """Remove a file that was found, and tell the user."""
    scene.call(
        f"find_paths gave {file.path} for the user's words, so I call remove_path.", "remove_path", path=file.path
    )
    scene.confirm("remove_path", f"{file.path} is removed.")


def change_value(scene: Scene) -> Acts:
    """A value in a file changes."""
    record, key = scene.record(), scene.pick(KEYS)
    file, new = scene.target(written(record)), scene.new_value(key)
    yield
    scene.asks(("Change the {} in {} to {}.", "Please set the {} in {} to {}."), key, file.words, new)
    scene.find(file)
    read_and_edit(scene, file, key, new)


def read_and_edit(scene: Scene, file: Target, key: str, new: str) -> None:
    """Look up the old line of a file that was found, change it and tell the user."""
    result = scene.call(
        f"find_paths gave {file.path}; the old {key} in it is missing, so I call read_file.",
        "read_file",
        path=file.path,
    )
    old = next(line for line in result["text"].split("\n") if line.startswith(f"{key}: "))
    call_edit(scene, file, old, f"{key}: {new}", "read_file")
    scene.confirm("edit_file", f"The {key} in {file.name} is {new} now.")


def call_edit(scene: Scene, file: Target, old: str, new: str, tool: str) -> None:
    """Change a line that `tool` has shown."""
    scene.call(
        f"{tool} shows the line '{old}' in {file.path}, so I call edit_file to make it '{new}'.",
        "edit_file",
        path=file.path,
        old=old,
        new=new,
    )


def add_line(scene: Scene) -> Acts:
    """A line is added at the end of a file."""
    file, line = scene.target(), scene.pick(LINES)
    yield
    scene.asks(("Add the line '{}' to {}.", "Please note '{}' at the end of {}."), line, file.words)
    scene.find(file)
    call_append(scene, file, line)


def call_append(scene: Scene, file: Target, line: str) -> None:
    """Add a line to a file that was found, and tell the user."""
    scene.call(
        f"find_paths gave {file.path}, so I call append_line with '{line}'.",
        "append_line",
        path=file.path,
        line=line,
    )
    scene.confirm("append_line", f"'{line}' is the last line of {file.name} now.")


def create(scene: Scene) -> Acts:
    """A file with one line is written into a folder."""
    folder, name, line = scene.folder(), scene.new_name(".txt"), scene.pick(LINES)
    yield
    messages = ("Write a file {} with the line '{}' into {}.", "Make a file {} that says '{}' in {}.")
    scene.asks(messages, name, line, folder.words)
    scene.find(folder)
    path = f"{folder.path}/{name}"
    scene.call(
        f"find_paths gave {folder.path}, so I call write_file for {path} with '{line}'.",
        "write_file",
        path=path,
        text=line,
    )
    scene.confirm("write_file", f"{name} with '{line}' is in {folder.path} now.")


def replace(scene: Scene) -> Acts:
    """A copy takes the place of a file that may be replaced."""
    source, folder = scene.file(), scene.folder()
    taken = Target(scene.put(inside(folder, source), scene.note()), "")
    yield
    scene.asks(
        (
            "Copy {} from my folder {} to {} and replace the one there.",
            "Replace {0} in {2} by the one in my folder {1}.",
        ),
        source.words,
        name_of(parent_of(source.path)),
        folder.words,
    )
    scene.find(source, folder)
    scene.call(
        f"The user lets me replace {taken.path}, so I call remove_path for it; copy_path to the same name is next.",
        "remove_path",
        path=taken.path,
    )
    call_copy(scene, source, taken.path)
    scene.confirm("copy_path", f"{taken.path} is a copy of {source.path} now.")


def carry_value(scene: Scene) -> Acts:
    """A value of one file is written into another."""
    key = scene.pick(KEYS)
    record, other = scene.record(), scene.record()
    file, origin = scene.target(written(record)), scene.target(written(other))
    yield
    scene.asks(
        ("Set the {} in {} to the one that {} has.", "Copy the {0} of {2} over the one in {1}."),
        key,
        file.words,
        origin.words,
    )
    scene.find(file, origin)
    scene.act(
        f"find_paths gave {file.path} and {origin.path}; both values of {key} are missing, so I call read_file twice.",
        *(ToolCall("read_file", {"path": each.path}) for each in (file, origin)),
    )
    call_edit(scene, file, f"{key}: {record[key]}", f"{key}: {other[key]}", "read_file")
    scene.confirm("edit_file", f"The {key} in {file.name} is {other[key]} now.")


def rename_by_content(scene: Scene) -> Acts:
    """A file is named by the number that stands in it."""
    record: Record = {"invoice": scene.new_value("invoice"), **scene.record()}
    file = scene.target(written(record))
    yield
    scene.asks(
        ("Rename {} to its invoice number, with the ending .txt.", "Give {} its invoice number and .txt as new name."),
        file.words,
    )
    scene.find(file)
    number = record["invoice"]
    scene.call(
        f"find_paths gave {file.path}; the invoice number is missing, so I call read_file.",
        "read_file",
        path=file.path,
    )
    target = file.path.replace(file.name, f"{number}.txt")
    scene.call(
        f"read_file shows invoice {number} in {file.path}, so I call move_path with target {target}.",
        "move_path",
        source=file.path,
        target=target,
    )
    scene.confirm("move_path", f"{file.name} is at {target} now.")
