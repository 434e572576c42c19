"""Requests for information: every answer stands in a tool result, next to plausible wrong ones."""

from __future__ import annotations

from collections.abc import Iterator

from awpo_env.types import Fact

from .backend import parent_of
from .changes import KEYS, call_copy
from .scene import SHARED, Record, Scene, inside, written

Acts = Iterator[None]


def read_value(scene: Scene) -> Acts:
    """What stands in a file?"""
    record, key = scene.record(), scene.pick(KEYS)
    file = scene.target(written(record))
    yield
    scene.asks(
        ("What is the {} in {}?", "Which {} does {} give?", "Tell me the {} that stands in {}."), key, file.words
    )
    scene.find(file)
    read_and_tell(scene, file.path, record, key, "find_paths")


def read_and_tell(scene: Scene, path: str, record: Record, key: str, tool: str) -> None:
    """Read the file that `tool` gave and tell one of its values."""
    scene.call(
        f"{tool} gave {path}; the {key} in it is missing, so I call read_file.",
        "read_file",
        path=path,
    )
    value = record[key]
    scene.tell(
        f"read_file shows the {key} {value} in {path}, which the user asked for, so I tell it.",
        f"The {key} is {value}.",
        Fact(value, tuple(record[other] for other in KEYS if other != key)),
    )


def search_value(scene: Scene) -> Acts:
    """What stands in the file that mentions something?"""
    record, other, key = scene.record(), scene.record(), scene.pick(KEYS)
    file, supplier = scene.file(text=written(record)), record["supplier"]
    scene.file(parent_of(file.path), written(other))
    yield
    scene.asks(
        ("I look for the {} in the one of my files that mentions {}.", "Which {} stands in my file about {}?"),
        key,
        supplier,
    )
    scene.call(
        f"The file that mentions {supplier} is missing, so I call search_text in {scene.home}.",
        "search_text",
        directory=scene.home,
        text=supplier,
    )
    read_and_tell(scene, file.path, record, key, "search_text")


def folder_size(scene: Scene) -> Acts:
    """How large is a folder?"""
    folder = scene.folder(scene.pick(("", SHARED)))
    scene.file(folder.path)
    yield
    scene.asks(("How many bytes do the files in {} take?", "What is the size of {} in bytes?"), folder.words)
    scene.find(folder)
    usage = scene.call(
        f"find_paths gave {folder.path}; its bytes are missing, so I call disk_usage.",
        "disk_usage",
        path=folder.path,
    )
    total = str(usage["bytes"])
    scene.tell(
        f"disk_usage shows {total} bytes in {folder.path}, which the user asked for, so I tell it.",
        f"The files in {folder.path} take {total} bytes.",
        Fact(total),
    )


def copy_and_ask(scene: Scene) -> Acts:
    """A copy is made; then the user wants to know how much may still be written."""
    source, folder = scene.target(), scene.folder()
    yield
    scene.asks(("Copy {} to {}. How many bytes are free in my home then?",), source.words, folder.words)
    scene.find(source, folder)
    call_copy(scene, source, inside(folder, source))
    quota = scene.call(
        f"The copy of {source.name} is made; the free bytes of {scene.login} are missing, so I call get_quota.",
        "get_quota",
        user=scene.login,
    )
    free = str(quota["free_bytes"])
    scene.tell(
        f"get_quota shows {free} free bytes for {scene.login} after the copy, so I tell the user.",
        f"{source.name} is copied to {folder.path}; {free} bytes are free.",
        Fact(free, (str(quota["limit_bytes"]), str(quota["used_bytes"]))),
    )
