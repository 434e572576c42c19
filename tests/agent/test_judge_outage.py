"""Training with a judge model behind a real server that goes away in the middle and comes back."""

import json
import logging
import runpy
from pathlib import Path

import pytest

from awpo_agent.config import AWPOConfig
from awpo_agent.trainer import AWPOTrainer
from awpo_env.judges.llm import LLMJudge

FaultServer = runpy.run_path(str(Path(__file__).parents[1] / "env" / "conftest.py"))["FaultServer"]
KEY = "sk-do-not-tell-0815"


@pytest.fixture
def train(tmp_path, make_model, tokenizer, verdict_env, monkeypatch):
    """Trains for six steps, the judge's server being down in steps 3 and 4, and returns the trainer."""
    monkeypatch.setenv("OUTAGE_KEY", KEY)
    servers = [FaultServer(key=KEY)]

    def on_step(step, metrics):
        if step == 2:
            servers[-1].kill()
        elif step == 4:
            servers.append(FaultServer(key=KEY, port=servers[0].port))

    def run(**settings):
        judge = LLMJudge(
            model="judge",
            base_url=servers[0].url,
            api_key_env="OUTAGE_KEY",
            cache_dir=str(tmp_path / "cache"),
            max_attempts=2,
            backoff_s=0.01,
            breaker_failures=3,
            breaker_pause_s=0.05,
            total_timeout_s=8.0,
        )
        args = AWPOConfig(
            output_dir=str(tmp_path / "run"),
            num_generations=4,
            generation_batch_size=16,
            max_length=320,
            max_turn_length=10,
            max_steps=6,
            learning_rate=1e-3,
            per_device_train_batch_size=8,
            **settings,
        )
        with judge:
            trainer = AWPOTrainer(
                make_model(), args, verdict_env, processing_class=tokenizer, judge=judge, callbacks=[on_step]
            )
            trainer.train()
        return trainer

    yield run
    for server in servers:
        if server.is_alive:
            server.kill()


@pytest.mark.slow
def test_a_run_outlives_its_judges_server_on_outcome_alone_says_so_once_and_recovers(train, tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    trainer = train()
    lines = [json.loads(line) for line in (trainer.folder / "metrics.jsonl").read_text().splitlines()]
    rates = [line["judge/missing_rate"] for line in lines]
    # In the fifth step one request finds out that the server is back, and those that come before its turn do not wait.
    assert rates[:4] == [0.0, 0.0, 1.0, 1.0] and rates[4] < 1.0 and rates[5] == 0.0
    assert [line["awpo/variance_reasoning"] > 0 for line in lines] == [True, True, False, False, True, True]
    assert all(line["grad_norm"] > 0 for line in lines)
    told = [record.getMessage() for record in caplog.records if record.name == "awpo_agent.judging"]
    gone, back = told
    assert gone.startswith("step 2: 100 % of the episodes have no judge score") and back.endswith("the judge is back")
    episodes = [json.loads(line) for line in (trainer.folder / "episodes.jsonl").read_text().splitlines()]
    assert len(episodes) == 96
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 5 and not [path for path in files if KEY.encode() in path.read_bytes()]
    assert KEY not in caplog.text
