"""A judge model that vLLM runs in this process: what transformers reads in it, and replies that keep to the schema."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from judge_by_heart import KNOWN, assert_known, case
from transformers import AutoModelForCausalLM, AutoTokenizer, GPTNeoConfig

from awpo_agent.engines.base import Sampling
from awpo_agent.engines.vllm import VLLMEngine
from awpo_agent.local_judge import LocalJudge
from awpo_agent.quickstart import CONFIG
from awpo_agent.train import load_policy
from awpo_env.errors import UsageError
from awpo_env.types import Score

STRANGE = range(1000, 1024)


@pytest.fixture(scope="module")
def make_judge(judge_model: Path, rubric: Path) -> Iterator[Callable[..., LocalJudge]]:
    """Builds judges; those that vLLM runs share one, because starting it is what takes long."""
    usual = {"model": str(judge_model), "rubric": str(rubric), "cache_dir": None, "least_mass": 0.0}
    with contextlib.ExitStack() as stack:
        shared = stack.enter_context(LocalJudge(**usual, engine="vllm", max_new_tokens=120))

        def build(**settings: Any) -> LocalJudge:
            settings = {**usual, "max_new_tokens": 120, **settings}
            loaded = shared._model if settings.get("engine", "vllm") == "vllm" else None
            return stack.enter_context(LocalJudge(loaded=loaded, **settings))

        yield build


def values(scores: list[Score]) -> list[float]:
    assert not any(score.is_missing for score in scores), scores
    return [score.value for score in scores]


def test_expected_marks_are_those_that_transformers_reads(make_judge):
    transcripts = [case(number) for number in (*KNOWN, *STRANGE)]
    want = make_judge(engine="transformers", batch_size=1).score(transcripts)
    assert max(values(want)) - min(values(want)) > 0.1, "the model tells them apart, or this test would say little"
    for size in (1, 5):
        got = make_judge(batch_size=size).score(transcripts)
        assert values(got) == pytest.approx(values(want), abs=1e-4)
        assert [score.parts.keys() for score in got] == [score.parts.keys() for score in want]


def test_what_is_written_keeps_to_the_schema(make_judge):
    judge = make_judge(method="generate")
    scores = judge.score([case(number) for number in (*KNOWN, *STRANGE)])
    assert_known(scores[: len(KNOWN)])
    for score in scores[len(KNOWN) :]:
        # Constrained as it is, only the rationale can go wrong: a tiny model may find no end to it.
        assert not score.is_missing or "unusable reply" in score.reason
    of_strange = [score for score in scores[len(KNOWN) :] if not score.is_missing]
    assert len(of_strange) >= 0.9 * len(STRANGE), scores
    free = make_judge(method="generate", engine="transformers").score([case(number) for number in STRANGE])
    assert all(score.is_missing for score in free), "by itself it gives the ids it knows"


def test_replies_are_kept_for_these_weights_alone(make_judge, tmp_path, judge_model):
    cache = {"cache_dir": str(tmp_path / "cache")}
    first = make_judge(**cache)
    scores = first.score([case(number) for number in KNOWN])
    again = make_judge(**cache)
    assert again.score([case(number) for number in KNOWN]) == scores
    assert (again.totals.requests, again.totals.cache_hits) == (0, len(KNOWN))
    digest = again._model.digest()
    with torch.no_grad():
        parameter = again._model._reader.of_model(lambda model: next(iter(model.parameters())))
        parameter[0, 0] += 1.0
        assert again._model.digest() != digest
        parameter[0, 0] -= 1.0


def test_two_judges_that_share_a_model_get_their_own_replies(make_judge):
    transcripts = [case(number) for number in STRANGE]
    one, other = make_judge(batch_size=2), make_judge(batch_size=2).with_seed(1)
    want = values(one.score(transcripts))

    async def both() -> list[list[Score]]:
        return await asyncio.gather(one.score_async(transcripts), other.score_async(transcripts[::-1]))

    first, second = asyncio.run(both())
    assert values(first) == pytest.approx(want, abs=1e-4) and values(second) == pytest.approx(want[::-1], abs=1e-4)
    other.close()


def test_an_engine_of_the_same_process_keeps_its_own_state(make_judge):
    """Both compute at the same time, in two threads: what each gives is what it gives alone."""
    model, _ = load_policy("base")
    engine = VLLMEngine(model, max_rows=8, max_length=256)
    judge = make_judge(batch_size=2)
    transcripts = [case(number) for number in STRANGE]
    want = values(judge.score(transcripts))

    async def both() -> tuple[list[Any], list[Score]]:
        asked = [engine.generate(range(20, 60), Sampling(max_tokens=48, key=(0, 0, n), stop_ids=())) for n in range(8)]
        judged = judge.score_async(transcripts)
        *completions, scores = await asyncio.gather(*asked, judged)
        return completions, scores

    completions, scores = asyncio.run(both())
    assert values(scores) == pytest.approx(want, abs=1e-4)
    for completion in completions:
        ids = torch.tensor([[*range(20, 60), *completion.ids]])
        with torch.no_grad():
            logprobs = model(ids).logits[0].log_softmax(-1)[39:-1]
        wanted = logprobs.gather(1, ids[0, 40:, None])[:, 0]
        assert (wanted - torch.tensor(completion.logprobs)).abs().max() < 1e-4
    engine.close()


def test_what_is_too_long_is_missing_and_what_is_impossible_is_refused(make_judge, judge_model, tmp_path):
    judge = make_judge()
    long = (*case(0).messages, {"role": "assistant", "content": "so it is, " * 2000})
    (score,) = judge.score([case(0, messages=long)])
    assert score.is_missing and score.reason.endswith("tokens, more than the model's 2047")
    with pytest.raises(UsageError, match="device is 'cpu'; the engine 'vllm' takes this process's"):
        LocalJudge(model=str(judge_model), engine="vllm", device="cpu")
    with pytest.raises(UsageError, match=r"gpu_memory_utilization is 2; expected a share.*engine is 'vlm'"):
        LocalJudge(model=str(judge_model), engine="vlm", gpu_memory_utilization=2)
    GPTNeoConfig(num_layers=2, attention_types=[[["global"], 2]]).save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(judge_model).save_pretrained(tmp_path)
    with pytest.raises(UsageError, match="vLLM cannot run"):
        LocalJudge(model=str(tmp_path), engine="vllm", cache_dir=None)


def test_a_run_samples_and_judges_with_vllm(tmp_path):
    model, tokenizer = load_policy("base")
    model.config.update({"max_position_embeddings": 8192, "initializer_range": 0.25})
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(model.config).save_pretrained(tmp_path / "judge")
    tokenizer.save_pretrained(tmp_path / "judge")
    of_transformers, of_vllm = (train(tmp_path, engine) for engine in ("transformers", "vllm"))
    assert [episode["messages"] for episode in of_vllm] == [episode["messages"] for episode in of_transformers]
    scores = [episode["reasoning"]["value"] for episode in of_vllm]
    assert scores == pytest.approx([episode["reasoning"]["value"] for episode in of_transformers], abs=1e-4)
    assert max(scores) - min(scores) > 0.01


def train(folder: Path, judge_engine: str) -> list[dict[str, Any]]:
    """Train for one step with vLLM in process, and return the episodes."""
    judge = folder / f"{judge_engine}.yaml"
    settings = {"kind": "local", "model": str(folder / "judge"), "engine": judge_engine, "least_mass": 0.0}
    judge.write_text(json.dumps({**settings, "cache_dir": None}))
    command = [sys.executable, "-m", "awpo_agent.train", "--config", CONFIG, "--engine", "vllm", "--judge", str(judge)]
    command += ["--output_dir", str(folder / judge_engine), "--generation_batch_size", "16", "--max_steps", "1"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in (folder / judge_engine / "episodes.jsonl").read_text().splitlines()]
