"""Requests about several files at once, which have to be told from their neighbours."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from awpo_tools.rehearsal import listed

from awpo_env.types import ToolCall

from .backend import name_of
from .changes import call_remove
from .scene import Scene, Target, inside, written

Acts = Iterator[None]


def clean_up(scene: Scene) -> Acts:
    """Every file of a folder with some ending is removed, the others stay."""
    folder, suffix = scene.folder(), scene.pick((".tmp", ".bak", ".old"))
    for _ in range(scene.pick((2, 3))):
        scene.file(folder.path, suffix=suffix)
    scene.file(suffix=suffix)
    yield
    scene.asks(("Remove every {} file from {}.", "Please delete all {} files in {}."), suffix, folder.words)
    scene.find(folder)
    paths = find_ending(scene, folder, suffix)
    remove_all(scene, paths, "find_paths")
    scene.confirm("remove_path", f"I removed {listed([name_of(path) for path in paths])}.")


def find_ending(scene: Scene, folder: Target, suffix: str) -> list[str]:
    """Find the files with an ending in a folder that was found."""
    result = scene.call(
        f"find_paths gave {folder.path}; its {suffix} files are missing, so I call find_paths there with *{suffix}.",
        "find_paths",
        directory=folder.path,
        name=f"*{suffix}",
    )
    return [each["path"] for each in result["found"]]


def remove_all(scene: Scene, paths: Sequence[str], tool: str) -> None:
    """Remove several files in one message."""
    scene.act(
        f"{tool} gave {listed(paths)} and the user wants them gone, so I call remove_path for each.",
        *(ToolCall("remove_path", {"path": path}) for path in paths),
    )


def pack(scene: Scene) -> Acts:
    """The files of a folder with some ending go into a new folder in it."""
    folder, suffix, name = scene.folder(), scene.pick((".log", ".csv")), scene.new_folder_name()
    for _ in range(2):
        scene.file(folder.path, suffix=suffix)
    yield
    scene.asks(
        ("Make a folder {0} in {1} and move every {2} file of {1} into it.",),
        name,
        folder.words,
        suffix,
    )
    scene.find(folder)
    paths = find_ending(scene, folder, suffix)
    made = Target(f"{folder.path}/{name}", "")
    scene.call(
        f"find_paths gave {listed([name_of(path) for path in paths])} for move_path; first I call make_directory for "
        f"{made.path}.",
        "make_directory",
        path=made.path,
    )
    move_all(scene, paths, made, "make_directory")


def move_all(scene: Scene, paths: Sequence[str], folder: Target, tool: str) -> None:
    """Move several files into a folder in one message, and tell the user."""
    names = listed([name_of(path) for path in paths])
    scene.act(
        f"{tool} returned what I need: {listed(paths)} go into {folder.path}, so I call move_path for each.",
        *(ToolCall("move_path", {"source": path, "target": inside(folder, Target(path, ""))}) for path in paths),
    )
    scene.confirm("move_path", f"{names} are in {folder.path} now.")


def remove_largest(scene: Scene) -> Acts:
    """The largest file of a folder is removed."""
    folder = scene.folder()
    scene.file(folder.path)
    scene.file(folder.path, scene.note(8))
    yield
    scene.asks(("Remove the largest file of {}.", "Please delete the largest file in {}."), folder.words)
    scene.find(folder)
    listing = scene.call(
        f"find_paths gave {folder.path}; the bytes of its files are missing, so I call list_directory.",
        "list_directory",
        path=folder.path,
    )
    largest = max((each for each in listing["entries"] if "bytes" in each), key=lambda each: each["bytes"])
    path = f"{folder.path}/{largest['name']}"
    scene.call(
        f"list_directory shows {largest['name']} as the largest in {folder.path}, so I call remove_path.",
        "remove_path",
        path=path,
    )
    scene.confirm("remove_path", f"{largest['name']} with {largest['bytes']} bytes is removed from {folder.path}.")


def remove_folder(scene: Scene) -> Acts:
    """A folder is removed with everything in it."""
    folder = scene.folder()
    scene.file(folder.path)
    yield
    scene.asks(("Remove {} with everything in it.", "Please delete {} and all files in it."), folder.words)
    scene.find(folder)
    listing = scene.call(
        f"find_paths gave {folder.path}, which has to be empty before remove_path; I call list_directory.",
        "list_directory",
        path=folder.path,
    )
    remove_all(scene, [f"{folder.path}/{each['name']}" for each in listing["entries"]], "list_directory")
    call_remove(scene, folder)


def replace_everywhere(scene: Scene) -> Acts:
    """A value changes in every file of a folder that has it."""
    folder, old, new = scene.folder(), scene.new_value("phone"), scene.new_value("phone")
    for _ in range(2):
        scene.file(folder.path, written({**scene.record(), "phone": old}))
    scene.file(folder.path, written(scene.record()))
    yield
    scene.asks(
        ("Replace the phone {0} by {1} in every file of {2}.", "The phone {0} is outdated in all of {2}; make it {1}."),
        old,
        new,
        folder.words,
    )
    scene.find(folder)
    matches = search(scene, folder, old)
    paths = [match["path"] for match in matches]
    scene.act(
        f"search_text shows {old} in {listed(paths)}, so I call edit_file with {new} for each.",
        *(ToolCall("edit_file", {"path": path, "old": old, "new": new}) for path in paths),
    )
    scene.confirm("edit_file", f"{listed([name_of(path) for path in paths])} have {new} now.")


def search(scene: Scene, folder: Target, text: str) -> list[dict[str, str]]:
    """Search a text in a folder that was found."""
    result = scene.call(
        f"find_paths gave {folder.path}; the files with '{text}' are missing, so I call search_text there.",
        "search_text",
        directory=folder.path,
        text=text,
    )
    return result["matches"]


def sort_by_content(scene: Scene) -> Acts:
    """The files of a folder that mention a supplier go into another folder."""
    folder, target = scene.folder(), scene.folder()
    record = scene.record()
    for _ in range(2):
        scene.file(folder.path, written({**scene.record(), "supplier": record["supplier"]}))
    scene.file(folder.path, written(scene.record()))
    yield
    supplier = record["supplier"]
    scene.asks(
        ("Move the files of {} that mention {} to {}.", "Every file of {} about {} belongs into {}, move it."),
        folder.words,
        supplier,
        target.words,
    )
    scene.find(folder, target)
    move_all(scene, [match["path"] for match in search(scene, folder, supplier)], target, "search_text")


def collect(scene: Scene) -> Acts:
    """One line of every file of a folder is put together in a new file."""
    folder, name, key = scene.folder(), scene.new_name(".txt"), scene.pick(("phone", "budget", "deadline"))
    for _ in range(2):
        scene.file(folder.path, written(scene.record()))
    yield
    scene.asks(
        ("Write a file {0} into {1} with the {2} lines of all its files, in the order of the file names.",),
        name,
        folder.words,
        key,
    )
    scene.find(folder)
    lines = [match["text"] for match in search(scene, folder, f"{key}:")]
    path = f"{folder.path}/{name}"
    scene.call(
        f"search_text shows {' and '.join(lines)} in the order of the names, so I call write_file for {path}.",
        "write_file",
        path=path,
        text="\n".join(lines),
    )
    scene.confirm("write_file", f"{name} in {folder.path} has {' and '.join(lines)} now.")
