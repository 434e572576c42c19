"""Who may import whom, read from the syntax trees; and that importing the environments stays light and silent."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
HEAVY = ("torch", "transformers", "accelerate", "vllm", "safetensors", "awpo_agent")

LAZY = ("openai", "aiohttp", "tenacity", "mcp", "httpx", "pydantic", "pyarrow")


def modules(*packages: str) -> list[str]:
    return sorted(str(path.relative_to(ROOT)) for package in packages for path in (ROOT / package).rglob("*.py"))


def imports(module: str) -> Iterator[str]:
    """Yield the full name of everything a module imports, at any depth of its code; relative imports resolved."""
    package = list(Path(module).parent.parts)
    for node in ast.walk(ast.parse((ROOT / module).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            prefix = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{prefix}.{alias.name}" for alias in node.names)


def uses(module: str, *names: str) -> list[str]:
    return sorted({name for name in imports(module) for wanted in names if f"{name}.".startswith(f"{wanted}.")})


def test_there_is_something_to_check() -> None:
    assert "awpo_env/env.py" in modules("awpo_env")
    assert "awpo_env.errors.UsageError" in imports("awpo_env/env.py")
    assert uses("awpo_env/env.py", "awpo_env.errors") and not uses("awpo_env/env.py", "awpo_env.error")


@pytest.mark.parametrize("module", modules("awpo_env"))
def test_environments_need_no_model_and_no_network(module: str) -> None:
    assert not uses(module, *HEAVY)
    assert not uses(module, "awpo_tools", "tools"), "suites are loaded by name, so built-in ones have no privilege"
    if not fnmatch(module, "awpo_env/judges/llm*.py"):
        assert not uses(module, "openai", "aiohttp", "tenacity", "requests", "urllib.request")
    if module not in ("awpo_env/mcp_tools.py", "awpo_env/openapi_tools.py"):
        assert not uses(module, "mcp", "httpx", "httpx2")


@pytest.mark.parametrize("module", modules("awpo_agent"))
def test_vllm_stays_in_its_engine(module: str) -> None:
    if not fnmatch(module, "awpo_agent/engines/vllm*.py"):
        assert not uses(module, "vllm")


@pytest.mark.parametrize("module", modules("tools"))
def test_tools_need_next_to_nothing(module: str) -> None:
    own = ("awpo_tools", "tools", "awpo_env.errors", "awpo_env.types", "numpy")
    others = [
        name
        for name in imports(module)
        if name.split(".")[0] not in sys.stdlib_module_names
        and not any(f"{name}.".startswith(f"{mine}.") for mine in own)
    ]
    assert not others


def test_importing_the_environments_is_silent_and_loads_no_model_library() -> None:
    code = (
        "import sys, awpo_env, awpo_env.env, awpo_env.suites; "
        f"sys.exit(' '.join({{*{(*HEAVY, *LAZY)!r}}} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
