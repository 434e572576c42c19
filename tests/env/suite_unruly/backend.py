"""A key-value store with everything a tool should not do."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from typing import Any

from awpo_env.errors import ToolError

LEAKED: list[bytearray] = []


class Backend:
    def __init__(self, state: Any) -> None:
        if state.get("broken"):
            raise RuntimeError("no such table")
        self._values: dict[str, str] = dict(state.get("values", {}))
        self._thread = threading.get_ident()

    def snapshot(self) -> Any:
        return {"values": dict(sorted(self._values.items()))}

    def restore(self, snapshot: Any) -> None:
        self._values = dict(snapshot["values"])

    def close(self) -> None:
        assert self._thread == threading.get_ident()

    def put(self, key: str, value: str) -> Any:
        """Refuse after having written, so that a failed call has something to undo."""
        self._values[key] = value
        if not value:
            raise ToolError(f"{key} needs a value")
        return {"stored": key}

    def read(self) -> Any:
        return self._values

    def where(self) -> Any:
        return {"pid": os.getpid(), "thread": threading.get_ident(), "is_home": self._thread == threading.get_ident()}

    def hang(self, seconds: float) -> Any:
        self._values["hung"] = "half done"
        time.sleep(seconds)
        return {"slept": seconds}

    async def nap(self, seconds: float) -> Any:
        self._values["napped"] = "half done"
        await asyncio.sleep(seconds)
        return {"napped": seconds}

    def die(self, status: int) -> Any:
        os._exit(status)

    def leave(self) -> Any:
        sys.exit("enough")

    def leak(self, megabytes: int) -> Any:
        LEAKED.append(bytearray(megabytes * 2**20))
        return {"held": sum(map(len, LEAKED)) // 2**20}

    def shout(self, text: str) -> Any:
        print(text)
        os.write(1, text.encode())
        return {"said": text}

    def breed(self) -> Any:
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        return {"pid": child.pid}

    def odd(self, kind: str) -> Any:
        if kind == "deep":
            deep: list[Any] = []
            for _ in range(100_000):
                deep = [deep]
            return deep
        return {"set": {1}, "nan": float("nan"), "surrogate": "\ud800", "null": None}[kind]
