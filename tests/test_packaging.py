"""What is installed: the package list and its data, and a wheel that works alone outside the checkout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

from awpo_env.suites import BUILT_IN

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = {"awpo_agent": "awpo_agent", "awpo_env": "awpo_env", "tools": "awpo_tools"}
MOST_BASE_PACKAGES = 15


def configuration() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def files_on_disk() -> Iterator[tuple[str, Path]]:
    """Yield every file of the packages with the import name of the folder it is in."""
    for folder, import_name in FOLDERS.items():
        for path in sorted((ROOT / folder).rglob("*")):
            is_cache = any(part.startswith((".", "__pycache__")) for part in path.relative_to(ROOT).parts)
            if path.is_file() and not is_cache:
                yield ".".join([import_name, *path.relative_to(ROOT / folder).parts[:-1]]), path


def test_every_package_on_disk_is_listed() -> None:
    listed = configuration()["tool"]["setuptools"]["packages"]
    assert sorted(listed) == sorted({package for package, path in files_on_disk() if path.name == "__init__.py"})


def test_every_data_file_is_in_a_listed_package_and_matches_a_pattern() -> None:
    setuptools = configuration()["tool"]["setuptools"]
    data = [(package, path) for package, path in files_on_disk() if path.suffix != ".py"]
    assert {"tools.json", "policy.md", "py.typed"} <= {path.name for _, path in data}
    assert [path for package, path in data if package not in setuptools["packages"]] == []
    patterns = setuptools["package-data"]["*"]
    assert [path for _, path in data if not any(fnmatch(path.name, pattern) for pattern in patterns)] == []


def test_the_base_install_has_no_learner_dependency() -> None:
    names = " ".join(configuration()["project"]["dependencies"])
    assert not any(name in names for name in ("torch", "transformers", "accelerate", "openai", "yaml"))


def test_built_in_suites_are_registered() -> None:
    registered = configuration()["project"]["entry-points"]["awpo.suites"]
    assert registered == {name: f"awpo_tools.{name}" for name in BUILT_IN}


def run(*command: str | Path, cwd: Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    result = subprocess.run(
        [str(word) for word in command], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert not check or result.returncode == 0, result.stdout + result.stderr
    return result


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel that was built from it."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--outdir", folder, ROOT, cwd=folder)
    return folder


@pytest.fixture(scope="module")
def python(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a fresh virtual environment with the wheel and nothing else."""
    folder = tmp_path_factory.mktemp("fresh")
    run(sys.executable, "-m", "venv", folder, cwd=folder)
    interpreter = folder / "bin" / "python"
    (wheel,) = built.glob("*.whl")
    run(interpreter, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", wheel, cwd=folder)
    return interpreter


@pytest.mark.heavy
def test_wheel_and_sdist_hold_every_file(built: Path) -> None:
    expected = {f"{package.replace('.', '/')}/{path.name}" for package, path in files_on_disk()}
    with zipfile.ZipFile(next(built.glob("*.whl"))) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert names == expected
    assert {name.partition("/")[0] for name in names} == {"awpo_agent", "awpo_env", "awpo_tools"}
    with tarfile.open(next(built.glob("*.tar.gz"))) as sdist:
        unpacked = {name.partition("/")[2] for name in sdist.getnames()}
    assert {str(path.relative_to(ROOT)) for _, path in files_on_disk()} <= unpacked


@pytest.mark.heavy
def test_the_base_install_is_small_and_private(python: Path, tmp_path: Path) -> None:
    listing = run(python, "-m", "pip", "list", "--format=json", cwd=tmp_path).stdout
    installed = {package["name"].lower() for package in json.loads(listing)} - {"pip", "setuptools", "wheel"}
    assert "awpo" in installed and "torch" not in installed
    assert len(installed) <= MOST_BASE_PACKAGES
    assert "No module named 'tools'" in run(python, "-c", "import tools", cwd=tmp_path, check=False).stderr


@pytest.mark.heavy
@pytest.mark.parametrize("suite", BUILT_IN)
def test_an_installed_suite_plays_its_reference(python: Path, tmp_path: Path, suite: str) -> None:
    shown = run(python.parent / "awpo", "env", "play", suite, "--seed", "0", "--oracle", cwd=tmp_path).stdout
    assert "Solved." in shown
    run(python.parent / "awpo", "env", "check", suite, "--episodes", "2", cwd=tmp_path)


@pytest.mark.heavy
def test_the_installed_command_lists_and_explains_what_is_missing(python: Path, tmp_path: Path) -> None:
    assert "awpo/Retail-v0" in run(python.parent / "awpo", "env", "list", cwd=tmp_path).stdout
    for command in ("train", "sft"):
        refused = run(python.parent / "awpo", command, "--help", cwd=tmp_path, check=False)
        assert refused.returncode == 2, refused.stderr
        assert refused.stderr.count("\n") == 1 and "pip install 'awpo[train]'" in refused.stderr
