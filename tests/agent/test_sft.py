"""Supervised training: demonstrations as the ids a rollout records, equal runs, and the command from scratch."""

import asyncio
import json

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from awpo_agent import sft
from awpo_agent.cli import main
from awpo_agent.engines.scripted import ScriptedEngine
from awpo_agent.rollout import EpisodeKey, RolloutLimits, run_episode
from awpo_agent.sft import SFTConfig, encode_episode, train
from awpo_env.demonstrations import demonstrate
from awpo_env.env import ToolUseEnv
from awpo_env.errors import UsageError
from awpo_env.suites import BUILT_IN

TINY = {
    "vocabulary_size": 320,
    "hidden_size": 32,
    "num_layers": 1,
    "num_heads": 2,
    "intermediate_size": 32,
    "max_length": 800,
    "steps": 5,
    "batch_size": 4,
    "window_steps": 2,
    "warmup_steps": 2,
    "all_tokens_steps": 4,
}


@pytest.fixture(scope="module")
def demos(tmp_path_factory):
    path = tmp_path_factory.mktemp("demos") / "demos.jsonl"
    words = ["awpo/Calculator-v0", "--out", str(path), "--episodes", "30", "--mistake-rate", "0.2"]
    assert main(["env", "export", *words]) == 0
    return path


@pytest.mark.parametrize("suite", BUILT_IN)
@pytest.mark.parametrize("mistake_rate", [0.0, 0.5])
@pytest.mark.parametrize("max_turns", [1, 30])
def test_a_demonstration_is_what_a_rollout_of_its_words_records(chat, suite, mistake_rate, max_turns):
    rng = np.random.default_rng(0)
    for seed in range(8):
        env = ToolUseEnv(suite, limits={"max_turns": max_turns})
        env.reset(seed=seed)
        written, step = [], env.step

        def keep(text, written=written, step=step):
            written.append(text)
            return step(text)

        env.step = keep
        episode = demonstrate(env, rng, mistake_rate)
        del env.step
        if env.transcript.status == "running":  # a mistake ended a turn early, and the words went out
            continue
        engine = ScriptedEngine([chat.assistant(text) for text in written])
        key = EpisodeKey(0, 0, 0, seed)
        rollout = asyncio.run(run_episode(env, engine, chat, key, RolloutLimits(100_000, 10_000)))
        assert rollout.transcript.messages == tuple(episode["messages"])
        # The tools of the first prompt are those on show at the start, as the environment declares them.
        example = encode_episode(chat, episode)
        assert example.ids == list(rollout.ids)
        assert example.carries_loss == list(rollout.is_sampled)


def test_two_runs_are_equal_byte_for_byte(tmp_path, demos):
    for name in ("a", "b", "c"):
        train(SFTConfig([str(demos)], str(tmp_path / name), **TINY, seed=int(name == "c")))
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("a", "b", "c")]
    assert weights[0] == weights[1] != weights[2]


def test_the_command_makes_a_model_from_scratch(tmp_path, demos, capsys):
    out = tmp_path / "model"
    flags = [f"--{name}={json.dumps(value)}" for name, value in TINY.items()]
    assert main(["sft", "--data", json.dumps([str(demos)]), "--output_dir", str(out), *flags]) == 0
    assert "30 demonstrations" in capsys.readouterr().err
    model, tokenizer = AutoModelForCausalLM.from_pretrained(out), AutoTokenizer.from_pretrained(out)
    assert (model.config.hidden_size, model.config.num_hidden_layers) == (32, 1)
    assert model.config.vocab_size == len(tokenizer) == 320
    again = tmp_path / "again"
    assert (
        main(["sft", "--data", json.dumps([str(demos)]), "--output_dir", str(again), "--model", str(out), *flags]) == 0
    )
    assert (again / "model.safetensors").read_bytes() != (out / "model.safetensors").read_bytes()


def test_the_model_that_ships_can_be_tuned_by_its_name(tmp_path, demos, capsys):
    words = ["sft", "--data", json.dumps([str(demos)]), "--output_dir", str(tmp_path / "model")]
    assert main([*words, "--model", "base", "--steps", "1", "--batch_size", "2", "--window_steps", "0"]) == 0
    assert "766,400 parameters" in capsys.readouterr().err
    assert main([*words, "--model", "./nowhere"]) == 2
    assert "model folder './nowhere' does not exist" in capsys.readouterr().err


def test_training_lowers_the_loss(tmp_path, demos, monkeypatch):
    losses, backward = [], sft._backward
    monkeypatch.setattr(
        sft, "_backward", lambda *args, **kwargs: losses.append(backward(*args, **kwargs)) or losses[-1]
    )
    train(SFTConfig([str(demos)], str(tmp_path / "model"), **{**TINY, "steps": 25, "window_steps": 0}))
    assert losses[-1] < 0.8 * losses[0]


def test_the_loss_is_the_mean_over_all_tokens_however_it_is_split(make_model, monkeypatch):
    generator = torch.Generator().manual_seed(0)
    sequences = [torch.randint(0, 300, (n,), generator=generator).tolist() for n in (5, 12, 3, 8, 8)]
    examples = [sft.Example(ids, [True] * len(ids)) for ids in sequences]
    model = make_model().double()
    plain = [
        torch.nn.functional.cross_entropy(
            model(torch.tensor([ids[:-1]])).logits[0], torch.tensor(ids[1:]), reduction="sum"
        )
        for ids in sequences
    ]
    want = sum(plain) / sum(len(ids) - 1 for ids in sequences)
    want.backward()
    gradients = [parameter.grad.clone() for parameter in model.parameters()]
    for rows in (1, 2, 100):
        monkeypatch.setattr(sft, "_ROWS", rows)
        model.zero_grad()
        assert sft._backward(model, examples, on_all_tokens=False) == pytest.approx(want.item(), abs=1e-12)
        for got, gradient in zip(model.parameters(), gradients, strict=True):
            assert torch.allclose(got.grad, gradient, rtol=0, atol=1e-12)


def test_mistakes_are_told(tmp_path, demos, capsys):
    with pytest.raises(UsageError, match="does not exist; write one with 'awpo env export'"):
        train(SFTConfig(["nowhere.jsonl"], str(tmp_path / "model"), **TINY))
    with pytest.raises(UsageError, match="no demonstration fits into max_length 10"):
        train(SFTConfig([str(demos)], str(tmp_path / "model"), **{**TINY, "max_length": 10}))
    assert not (tmp_path / "model").exists()
    assert main(["sft", "--data", "[x]", "--output_dir", "y", "--step", "3"]) == 2
    assert "Did you mean 'steps'?" in capsys.readouterr().err


HELLO = {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]}


def write(path, *lines):
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
    return str(path)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("{", r"demos.jsonl:3 is no JSON \(Expecting"),
        ("[]", "demos.jsonl:3 has no list 'messages'"),
        ({"messages": HELLO["messages"][:1]}, "demos.jsonl:3 has no message of an assistant"),
    ],
)
def test_a_line_that_is_no_demonstration_is_named(tmp_path, line, problem):
    data = write(tmp_path / "demos.jsonl", HELLO, "", line)
    with pytest.raises(UsageError, match=problem):
        train(SFTConfig([data], str(tmp_path / "model"), **TINY))


def test_a_single_demonstration_is_enough(tmp_path):
    train(SFTConfig([write(tmp_path / "demos.jsonl", HELLO, "", HELLO, "")], str(tmp_path / "model"), **TINY))
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "model").config.hidden_size == 32


def test_calls_without_words_and_messages_in_a_row_are_read(chat):
    call = {"id": "call_0", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
    user, done = {"role": "user", "content": "hi"}, {"role": "assistant", "content": "done"}
    silent = {"role": "assistant", "content": None, "tool_calls": [call], "reasoning_content": None}
    episode = {"messages": [user, silent, done, {**done, "tool_calls": None}], "tools": []}
    example = encode_episode(chat, episode)
    says = '<tool_call>{"name": "f", "arguments": {"a": 1}}</tool_call>'
    said = [chat.assistant(text) for text in (says, "done", "done")]
    start = chat.delta([])
    assert example.ids == [*chat.prompt([user], []), *said[0], *start, *said[1], *start, *said[2]]
    assert sum(example.carries_loss) == sum(map(len, said))
