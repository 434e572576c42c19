"""Requests that cannot or must not be served: each ends in the recorded reason and an unchanged tree."""

from __future__ import annotations

from collections.abc import Iterator

from .backend import name_of, parent_of
from .changes import call_copy
from .scene import Scene, Target, inside
from .talks import look_into_trash
from .words import LINES

Acts = Iterator[None]

NEVER_POSSIBLE = (
    ("Print {}.", "print"),
    ("Send {} to my phone.", "send"),
    ("Compress {} to a zip file.", "compress"),
    ("Protect {} with a password.", "protect"),
    ("Translate {} into French.", "translate"),
)


def refuse(scene: Scene, subject: str, grounds: str, reason: str, told: str) -> None:
    """Decline what is asked about a path, or about a name that has none, and say why."""
    scene.call(f"{grounds}, so I call decline for {subject} with {reason}.", "decline", subject=subject, reason=reason)
    scene.tell(
        f"decline recorded {reason} for {subject}; nothing else may change, so I tell the user why.",
        f"I cannot do that: {told}",
    )


def _wish(scene: Scene, file: str) -> str:
    """Return some change of a file that the user may want."""
    return scene.pick(
        (
            f"Remove {file}.",
            f"Please delete {file}.",
            f"Rename {file} to {scene.new_name('.txt')}.",
            f"Add the line '{scene.pick(LINES)}' to {file}.",
        )
    )


def not_owner(scene: Scene) -> Acts:
    """The file is in the home of somebody else."""
    file = scene.file(scene.other_home)
    owner = name_of(scene.other_home)
    wish = _wish(scene, f"{file.name} in the home of {owner}")
    yield
    scene.asks((wish,))
    scene.find(file)
    refuse(
        scene,
        file.path,
        f"find_paths gave {file.path}, which is in the home of {owner}",
        "not_owner",
        f"{file.path} belongs to {owner}.",
    )


def read_only(scene: Scene) -> Acts:
    """The file is read-only."""
    file = scene.target()
    scene.state["read_only"].append(file.path)
    wish = _wish(scene, file.words)
    yield
    scene.asks((wish,))
    scene.find(file)
    refuse(
        scene,
        file.path,
        f"find_paths shows {file.path} as read_only, which the rules forbid to change",
        "read_only",
        f"{file.path} is read-only.",
    )


def name_taken(scene: Scene) -> Acts:
    """Something else has the name already."""
    source, folder = scene.file(), scene.folder()
    taken = scene.put(inside(folder, source), scene.note())
    origin = name_of(parent_of(source.path))
    yield
    scene.asks(
        ("Move {} from my folder {} to {}.", "Copy {} from my folder {} to {}."), source.name, origin, folder.words
    )
    scene.find(source, folder)
    refuse(
        scene,
        source.path,
        f"find_paths gave {taken} too, so the name is taken in {folder.path}",
        "name_taken",
        f"there is a {source.name} in {folder.path} already.",
    )


def over_quota(scene: Scene) -> Acts:
    """The home is full, and the trash is too small to help."""
    source, folder = scene.target(scene.note(15)), scene.folder()
    scene.allow_only(free_bytes=scene.pick((10, 20, 40)))
    yield
    scene.asks(("Copy {} to {}.", "Please put a copy of {} into {}."), source.words, folder.words)
    scene.find(source, folder)
    call_copy(scene, source, inside(folder, source))
    look_into_trash(scene)
    refuse(
        scene,
        source.path,
        f"list_directory shows too few bytes in {scene.trash} to make room",
        "over_quota",
        f"the quota has no room for a copy of {source.name}.",
    )


def not_found(scene: Scene) -> Acts:
    """Nothing in the home has the name."""
    file = Target(f"{scene.home}/{scene.new_name('.txt')}", "")
    wish = _wish(scene, f"my file {file.name}")
    yield
    scene.asks((wish,))
    scene.find(file)
    refuse(
        scene,
        file.name,
        f"find_paths gave nothing for {file.name} in {scene.home}",
        "not_found",
        f"there is no {file.name} in {scene.home}.",
    )


def no_tool(scene: Scene) -> Acts:
    """No tool does what is asked: none ever does, or the one that does is not on show."""
    file = scene.target()
    message, verb = scene.pick(NEVER_POSSIBLE)
    if scene.pick((True, False)):
        scene.hidden.add("remove_path")
        message, verb = scene.pick(("Remove {}.", "Please delete {}.")), "remove"
    yield
    scene.asks((message,), file.words)
    scene.find(file)
    refuse(
        scene,
        file.path,
        f"find_paths gave {file.path}, but none of the tools can {verb} it",
        "no_tool",
        f"I have no tool to {verb} {file.path}.",
    )
