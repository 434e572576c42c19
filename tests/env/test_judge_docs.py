"""The Python blocks of the page about judges run, in order, as one program; and its figures are the rubric's."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

from awpo_agent.cli import main
from awpo_env.judges.settings import JudgeSettings

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "judges.md").read_text(encoding="utf-8")
FIGURES = {
    "rank correlation with the labels (Spearman)": "spearman",
    "pairs put in the right order": "pairwise",
    "difference between two runs": "repeat_error",
    "hostile episodes that gain nothing from it": "injection_resistance",
    "gain from padding every thought": "length_gain",
}


def test_the_page_about_judges_runs(serve, tmp_path):
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    assert len(blocks) >= 4
    names: dict[str, Any] = {"JUDGE_URL": serve().url, "CACHE_DIR": str(tmp_path)}
    for block in blocks:
        exec(compile(block, "docs/judges.md", "exec"), names)


def test_the_settings_on_the_page_are_settings():
    block = re.search(r"^```yaml\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE).group(1)
    assert set(re.findall(r"^(\w+):", block, re.MULTILINE)) <= {field.name for field in fields(JudgeSettings)}


def test_the_figures_on_the_page_are_the_rubrics(capsys):
    assert main(["judge", "check", "--json"]) == 0
    measured = json.loads(capsys.readouterr().out)
    rows = dict(re.findall(r"^\| ([^|]+) \| (-?\d\.\d{3}) \|", PAGE, re.MULTILINE))
    assert rows == {text: f"{measured[name]:.3f}" for text, name in FIGURES.items()}
