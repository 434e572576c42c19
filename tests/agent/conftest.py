"""Shared by the tests of the learner: a tiny tokenizer, tiny random models, and episodes whose rewards vary."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from training_runs import SETTINGS
from training_world import FailingEnv, FairJudge, VerdictEnv, VerdictJudge
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from awpo_agent.chat import ChatTokens
from awpo_agent.config import AWPOConfig
from awpo_agent.tokenizer import train_tokenizer
from awpo_agent.trainer import AWPOTrainer
from awpo_env.suites import load_suite


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    """Knows the calculator's prompt well and everything else byte by byte."""
    suite = load_suite("calculator")
    texts = [
        suite.policy,
        "calculator add subtract multiply divide result",
        *map(json.dumps, suite.tools.declarations.values()),
    ]
    for index in range(40):
        for turn in suite.task(f"train/full/{index}").turns:
            texts += [turn.message, *(message.content + message.reasoning for message in turn.reference)]
    return train_tokenizer(texts, 420)


@pytest.fixture(scope="session")
def chat(tokenizer: PreTrainedTokenizerFast) -> ChatTokens:
    return ChatTokens(tokenizer)


@pytest.fixture(scope="session")
def make_model(tokenizer: PreTrainedTokenizerFast) -> Callable[..., Qwen3ForCausalLM]:
    """Builds equal models from equal seeds."""

    def build(seed: int = 0, **settings: Any) -> Qwen3ForCausalLM:
        config = Qwen3Config(
            vocab_size=len(tokenizer),
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=2,
            head_dim=16,
            intermediate_size=64,
            max_position_embeddings=1024,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            attn_implementation="sdpa",
            **settings,
        )
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return Qwen3ForCausalLM(config)

    return build


@pytest.fixture
def verdict_env() -> type[VerdictEnv]:
    return VerdictEnv


@pytest.fixture
def failing() -> dict[str, Any]:
    """A world in which only the tasks' own solutions succeed, and a judge who sees it."""
    return {"env": FailingEnv, "judge": FairJudge()}


@pytest.fixture
def verdict_judge() -> VerdictJudge:
    return VerdictJudge()


@pytest.fixture
def run(
    tmp_path: Path, make_model: Any, tokenizer: Any, verdict_env: Any, verdict_judge: Any
) -> Callable[..., AWPOTrainer]:
    """Trains a model of seed 0, by default for 5 steps, and returns the trainer."""

    def train(
        name: str = "run",
        *,
        env: Any = verdict_env,
        judge: Any = verdict_judge,
        model: Any = None,
        dtype: Any = torch.float32,
        **settings: Any,
    ) -> AWPOTrainer:
        others = {name: settings.pop(name) for name in ("estimator", "callbacks", "engine") if name in settings}
        args = AWPOConfig(**{**SETTINGS, "output_dir": str(tmp_path / name), **settings})
        model = model or make_model().to(dtype)
        trainer = AWPOTrainer(model, args, env, processing_class=tokenizer, judge=judge, **others)
        trainer.train()
        return trainer

    return train


@pytest.fixture
def model_folder(tmp_path: Path, make_model: Any, tokenizer: Any) -> Path:
    make_model().save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    return tmp_path / "model"
