"""The tree of directories and text files, where no home grows beyond its quota."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from fnmatch import fnmatchcase
from typing import Any

from awpo_env.errors import ToolError, did_you_mean

JSON = Any
Nodes = dict[str, str | None]
"""The text of every file by its path, None for a directory. The root is not listed."""


_MOST_NODES = 2_000  # a copy into itself doubles a tree, and what is outside the homes has no quota


def size(text: str) -> int:
    """Return the bytes a text takes.

    >>> size("na\\u00efve")
    6
    """
    return len(text.encode("utf-8", "surrogatepass"))


def parent_of(path: str) -> str:
    """Return the directory a path is in.

    >>> parent_of("/home/ana/notes.txt"), parent_of("/home")
    ('/home/ana', '/')
    """
    return path.rpartition("/")[0] or "/"


def name_of(path: str) -> str:
    """Return the last part of a path."""
    return path.rpartition("/")[2]


def below(directory: str, path: str) -> bool:
    """Whether `path` is somewhere inside `directory`."""
    return path != directory and path.startswith(directory.rstrip("/") + "/")


class Backend:
    """One tree; ``tools.json`` says what each tool does.

    State: nodes by path, paths of read-only files, bytes allowed by login, and what was declined for which reason.
    A change makes new nodes of the old ones, and they count only once they are found to be possible.
    """

    def __init__(self, state: JSON) -> None:
        self.restore(state)

    def restore(self, snapshot: JSON) -> None:
        """Take over a state as `snapshot` returns it."""
        self._nodes: Nodes = dict(snapshot["nodes"])
        self._read_only = frozenset(snapshot["read_only"])
        self._quotas: dict[str, int] = dict(snapshot["quotas"])
        self._declined = tuple((each["subject"], each["reason"]) for each in snapshot["declined"])

    def snapshot(self) -> JSON:
        """Return the complete state, in the order of the paths."""
        return {
            "nodes": {path: self._nodes[path] for path in sorted(self._nodes)},
            "read_only": sorted(self._read_only),
            "quotas": {login: self._quotas[login] for login in sorted(self._quotas)},
            "declined": [{"subject": subject, "reason": reason} for subject, reason in self._declined],
        }

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Undo what is done inside when an exception leaves the block (the tree is replaced, never changed)."""
        saved = self._nodes, self._declined
        try:
            yield
        except BaseException:
            self._nodes, self._declined = saved
            raise

    def list_directory(self, path: str) -> JSON:
        self._require_directory(path)
        children = (child for child in sorted(self._nodes) if parent_of(child) == path)
        return {"path": path, "entries": [{"name": name_of(child), **self._entry(child)} for child in children]}

    def find_paths(self, directory: str, name: str) -> JSON:
        self._require_directory(directory)
        found = (path for path in sorted(self._nodes) if below(directory, path) and fnmatchcase(name_of(path), name))
        return {"found": [{"path": path, **self._entry(path)} for path in found]}

    def search_text(self, directory: str, text: str) -> JSON:
        self._require_directory(directory)
        matches = [
            {"path": path, "line": number, "text": line}
            for path in self._files_below(directory)
            for number, line in enumerate(self._text(path).split("\n"), start=1)
            if text in line
        ]
        return {"matches": matches}

    def read_file(self, path: str) -> JSON:
        return {"path": path, "text": self._text(path)}

    def disk_usage(self, path: str) -> JSON:
        self._require(path)
        files = self._files_below(path) if self._is_directory(path) else [path]
        return {"path": path, "files": len(files), "bytes": sum(size(self._text(file)) for file in files)}

    def get_quota(self, user: str) -> JSON:
        if user not in self._quotas:
            raise ToolError(f"there is no user {user!r}.{did_you_mean(user, self._quotas)}")
        limit, used = self._quotas[user], _bytes_below(f"/home/{user}", self._nodes)
        return {"user": user, "limit_bytes": limit, "used_bytes": used, "free_bytes": limit - used}

    def write_file(self, path: str, text: str) -> JSON:
        self._require_free(path)
        text = text.removesuffix("\n")  # a newline at the end makes no difference to a reader, so none to the state
        self._change({**self._nodes, path: text})
        return {"written": path, "bytes": size(text)}

    def append_line(self, path: str, line: str) -> JSON:
        text = self._text(path)
        self._require_writable(path)
        added = line.removesuffix("\n")
        self._change({**self._nodes, path: f"{text}\n{added}" if text else added})
        return {"appended_to": path, "bytes": size(self._text(path))}

    def edit_file(self, path: str, old: str, new: str) -> JSON:
        text = self._text(path)
        self._require_writable(path)
        if (count := text.count(old)) != 1:
            raise ToolError(f"the old text stands {count} times in {path}; it must stand there exactly once")
        if old == new:
            raise ToolError("the new text is the old text; nothing would change")
        self._change({**self._nodes, path: text.replace(old, new)})
        return {"edited": path, "bytes": size(self._text(path))}

    def move_path(self, source: str, target: str) -> JSON:
        self._require_copyable(source, target)
        self._require_writable(source)
        moved = self._moved(source, target)
        rest = {path: text for path, text in self._nodes.items() if path != source and not below(source, path)}
        self._change({**rest, **moved})
        return {"moved": source, "to": target}

    def copy_path(self, source: str, target: str) -> JSON:
        self._require_copyable(source, target)
        self._change({**self._nodes, **self._moved(source, target)})
        return {"copied": source, "to": target}

    def remove_path(self, path: str) -> JSON:
        self._require(path)
        self._require_writable(path)
        if any(below(path, other) for other in self._nodes):
            raise ToolError(f"{path} is a directory that is not empty; remove what is in it first")
        self._change({other: text for other, text in self._nodes.items() if other != path})
        return {"removed": path}

    def make_directory(self, path: str) -> JSON:
        self._require_free(path)
        self._change({**self._nodes, path: None})
        return {"made": path}

    def decline(self, subject: str, reason: str) -> JSON:
        self._declined = (*self._declined, (subject, reason))
        return {"declined": reason, "subject": subject}

    def _entry(self, path: str) -> dict[str, JSON]:
        text = self._nodes[path]
        if text is None:
            return {"type": "directory"}
        return {"type": "file", "bytes": size(text), "read_only": path in self._read_only}

    def _is_directory(self, path: str) -> bool:
        return path == "/" or self._nodes.get(path, "") is None

    def _files_below(self, directory: str) -> list[str]:
        return [path for path in sorted(self._nodes) if below(directory, path) and self._nodes[path] is not None]

    def _text(self, path: str) -> str:
        self._require(path)
        text = self._nodes.get(path)
        if text is None:
            raise ToolError(f"{path} is a directory; name a file")
        return text

    def _require(self, path: str) -> None:
        if path != "/" and path not in self._nodes:
            raise ToolError(f"there is no {path}; find_paths finds paths.{did_you_mean(path, self._nodes)}")

    def _require_directory(self, path: str) -> None:
        self._require(path)
        if not self._is_directory(path):
            raise ToolError(f"{path} is a file; name a directory")

    def _require_free(self, path: str) -> None:
        """Raise unless something new can be put at `path`."""
        if path == "/" or path in self._nodes:
            raise ToolError(f"{path} exists already; choose another name")
        self._require_directory(parent_of(path))

    def _require_writable(self, path: str) -> None:
        for locked in sorted(self._read_only):
            if locked == path or below(path, locked):
                raise ToolError(f"{locked} is read-only; it can be read and copied, but not changed")

    def _require_copyable(self, source: str, target: str) -> None:
        self._require(source)
        self._require_free(target)
        if source == "/" or below(source, target):
            raise ToolError(f"{source} cannot be put inside itself")

    def _moved(self, source: str, target: str) -> Nodes:
        inside = {path: text for path, text in self._nodes.items() if path == source or below(source, path)}
        return {target + path[len(source) :]: text for path, text in inside.items()}

    def _change(self, nodes: Nodes) -> None:
        """Let the tree be `nodes`, unless it or a home would then grow beyond its limit."""
        if len(nodes) > max(_MOST_NODES, len(self._nodes)):
            raise ToolError(f"the disk holds {_MOST_NODES} files and directories at most; remove some first")
        for login, limit in self._quotas.items():
            home = f"/home/{login}"
            used, before = _bytes_below(home, nodes), _bytes_below(home, self._nodes)
            if used > limit and used > before:
                raise ToolError(
                    f"the quota of {login} is {limit} bytes: {used - before} more bytes are needed, "
                    f"but {max(0, limit - before)} are free"
                )
        self._nodes = nodes


def _bytes_below(directory: str, nodes: Mapping[str, str | None]) -> int:
    return sum(size(text) for path, text in nodes.items() if text is not None and below(directory, path))
