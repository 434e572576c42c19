"""The recipes for the benchmark: both can be run, and the small one is, to its last step."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from awpo_agent.config import AWPOConfig
from awpo_agent.train import main
from awpo_env.bfcl.splits import is_tested
from awpo_env.catalogue import make

RECIPES = Path(__file__).resolve().parents[3] / "examples" / "configs"


@pytest.mark.parametrize("name", ["bfcl_cpu.yaml", "bfcl_qwen3_4b.yaml"])
def test_a_recipe_trains_on_nothing_that_is_tested(name: str) -> None:
    args = AWPOConfig(**yaml.safe_load((RECIPES / name).read_text()))
    env = make(args.env, **args.env_kwargs)
    assert len(env.unwrapped.task_ids) > 100
    assert not any(map(is_tested, env.unwrapped.task_ids))


@pytest.mark.heavy
def test_the_small_recipe_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    assert not main(["--config", str(RECIPES / "bfcl_cpu.yaml"), "--output_dir", str(run)])
    metrics = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in metrics] == [0, 1, 2]
    episodes = [json.loads(line) for line in (run / "episodes.jsonl").read_text().splitlines()]
    assert len(episodes) == 24
    capsys.readouterr()
