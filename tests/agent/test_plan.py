"""The plan of a run: models of known size, and memory and arithmetic worked out by hand."""

import dataclasses
import textwrap
from pathlib import Path

import pytest
from transformers import Qwen3Config

from awpo_agent.arguments import parse_config
from awpo_agent.config import AWPOConfig
from awpo_agent.plan import describe, make_plan, measure_model, plan_of, read_sharding
from awpo_agent.train import main
from awpo_env.catalogue import make
from awpo_env.errors import UsageError

RECIPES = Path(__file__).parents[2] / "examples" / "configs"
SMALL = Qwen3Config(  # Qwen3-0.6B
    vocab_size=151936,
    hidden_size=1024,
    num_hidden_layers=28,
    intermediate_size=3072,
    num_attention_heads=16,
    num_key_value_heads=8,
    head_dim=128,
    tie_word_embeddings=True,
)
LARGE = Qwen3Config(  # Qwen3-4B
    vocab_size=151936,
    hidden_size=2560,
    num_hidden_layers=36,
    intermediate_size=9728,
    num_attention_heads=32,
    num_key_value_heads=8,
    head_dim=128,
    tie_word_embeddings=True,
)


def test_parameters_are_counted_to_the_last():
    shape = measure_model(SMALL, AWPOConfig())
    # A layer: q and o 1024 x 2048, k and v 1024 x 1024, three of 1024 x 3072, norms 2 x 1024 + 2 x 128.
    layer = 2 * 2_097_152 + 2 * 1_048_576 + 3 * 3_145_728 + 2_304
    assert shape.parameters == shape.trained == 151_936 * 1024 + 28 * layer + 1024 == 596_049_920
    assert (shape.outside, shape.queries, shape.keys) == (151_936 * 1024 + 1024, 2048, 1024)
    assert measure_model(LARGE, AWPOConfig()).parameters == 4_022_468_096


def test_adapters_are_counted_module_by_module():
    # For each of 28 layers: (in + out) of q, k, v, o, gate, up, down; never the output layer.
    widths = (1024 + 2048) + 2 * (1024 + 1024) + (2048 + 1024) + 3 * (1024 + 3072)
    assert measure_model(SMALL, AWPOConfig(lora_r=16)).trained == 16 * 28 * widths == 10_092_544
    some = AWPOConfig(lora_r=8, lora_target_modules=["q_proj", "v_proj"])
    assert measure_model(SMALL, some).trained == 8 * 28 * (3072 + 2048)
    untied = Qwen3Config(**{**SMALL.to_dict(), "tie_word_embeddings": False})
    assert measure_model(untied, AWPOConfig(lora_r=16)).trained == 10_092_544
    assert measure_model(untied, AWPOConfig()).parameters == 596_049_920 + 151_936 * 1024


def test_one_device_in_single_precision():
    args = AWPOConfig(per_device_train_batch_size=2, max_length=1000, generation_batch_size=32, num_generations=8)
    plan = make_plan(args, measure_model(SMALL, args))
    n = 596_049_920
    # Per token and layer, in numbers: 4 x 1024 for the stream, 3 x 2048 and 4 x 1024 in attention, 4 x 3072 behind it.
    assert plan.training == {
        "weights": 4 * n,
        "gradients": 4 * n,
        "optimizer": 8 * n,
        "activations": 2000 * 28 * 4 * (4096 + 6144 + 4096 + 12288),
        "logits": 441 * 151_936 * 4 * 3,  # 2**26 // 151,936 tokens at a time
    }
    assert plan.sampling == {
        "weights": 4 * n,
        "optimizer": 8 * n,
        "attention state": 32 * 1000 * 28 * 2 * 1024 * 4,
    }
    assert (plan.episodes, plan.tokens, plan.updates) == (32, 32_000, 1)
    assert plan.rollout_flops == 2 * n * 32_000 and plan.update_flops == 6 * n * 32_000


def test_adapters_bfloat16_and_checkpointing():
    args = AWPOConfig(
        lora_r=16,
        bf16=True,
        gradient_checkpointing=True,
        per_device_train_batch_size=4,
        max_length=500,
        num_iterations=2,
    )
    plan = make_plan(args, measure_model(SMALL, args))
    trained = 10_092_544
    assert plan.training["weights"] == 4 * 596_049_920
    assert (plan.training["gradients"], plan.training["optimizer"]) == (4 * trained, 8 * trained)
    assert plan.training["weights in bfloat16"] == 2 * trained
    # The input of each layer, and all of one layer: 4 bytes a number for the stream, 2 for the rest.
    assert plan.training["activations"] == 2000 * (28 * 1024 * 4 + 4096 * 4 + (6144 + 4096 + 12288) * 2)
    assert plan.update_flops == 2 * 4 * plan.rollout_flops


def test_a_limit_of_tokens_holds_but_for_one_long_sequence():
    def activations(**settings):
        args = AWPOConfig(max_length=1000, **settings)
        return make_plan(args, measure_model(SMALL, args)).training["activations"]

    one = activations(per_device_train_batch_size=1)
    assert activations(per_device_train_batch_size=8) == 8 * one
    assert activations(per_device_train_batch_size=8, per_device_train_tokens=3000) == 3 * one
    assert activations(per_device_train_batch_size=8, per_device_train_tokens=300) == one
    assert activations(per_device_train_batch_size=2, per_device_train_tokens=3000) == 2 * one


def test_what_is_divided_among_eight():
    servers = [f"http://10.0.0.{number}:8000" for number in range(8)]
    args = AWPOConfig(bf16=True, engine="vllm", vllm_mode="server", vllm_server_urls=servers, generation_batch_size=64)
    shape = measure_model(LARGE, args)
    n, outside = 4_022_468_096, 151_936 * 2560 + 2560
    whole, partly, all_of_it = (make_plan(args, shape, 8, way) for way in ("none", "optimizer", "weights"))
    assert [whole.training[name] for name in ("weights", "gradients", "optimizer")] == [4 * n, 4 * n, 8 * n]
    assert [partly.training[name] for name in ("weights", "gradients", "optimizer")] == [2 * n, n // 4, 3 * n // 2]
    assert [all_of_it.training[name] for name in ("weights", "gradients", "optimizer")] == [n // 2, n // 2, n]
    assert all_of_it.training["gathered weights"] == 2 * (outside + 2 * (n - outside) // 36)
    assert ["weights in bfloat16" in plan.training for plan in (whole, partly, all_of_it)] == [True, False, False]
    assert whole.training["activations"] == all_of_it.training["activations"]
    assert "attention state" not in whole.sampling  # it is in the servers
    assert "http://10.0.0.7:8000" in describe(whole) and "8 on each process" in describe(whole)
    # The arithmetic is that of all processes together.
    assert whole.rollout_flops == make_plan(args, shape, 1).rollout_flops


def test_a_reference_is_a_model_more_and_adapters_need_none():
    def plan_with(**settings):
        args = AWPOConfig(**settings)
        return make_plan(args, measure_model(SMALL, args))

    without, held, adapted = plan_with(), plan_with(beta=0.1), plan_with(beta=0.1, lora_r=8)
    assert held.training == without.training | {"reference": 4 * 596_049_920}
    assert held.sampling == without.sampling | {"reference": 4 * 596_049_920}
    assert "reference" not in adapted.training
    # Three passes to learn from a token, and one by the reference.
    assert 3 * held.update_flops == 4 * without.update_flops == 3 * adapted.update_flops


def test_what_is_handed_to_servers():
    settings = {"engine": "vllm", "vllm_mode": "server", "vllm_server_urls": ["http://localhost:8000"]}
    places = [
        make_plan(args, measure_model(SMALL, args)).places
        for args in (AWPOConfig(), AWPOConfig(**settings), AWPOConfig(**settings, bf16=True))
    ]
    assert "weights" not in places[0]
    assert places[1]["weights"].startswith("2.2 GiB in a file") and places[2]["weights"].startswith("1.1 GiB in a file")


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({}, "set engine to 'vllm'"),
        ({"awpo_probe_steps": 5}, "awpo_probe_steps needs whole gradients"),
        ({"beta": 0.1}, "beta needs a copy of the whole model"),
    ],
)
def test_a_dry_run_refuses_what_shared_out_weights_cannot_do(monkeypatch, settings, why):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(UsageError, match=why):
        plan_of(AWPOConfig(**settings), SMALL, 2)
    plan_of(AWPOConfig(**settings | {"beta": 0.0, "awpo_probe_steps": 0}, engine="vllm"), SMALL, 2)
    plan_of(AWPOConfig(beta=0.1, lora_r=8, engine="vllm"), SMALL, 2)


@pytest.mark.parametrize(
    ("name", "model", "num_processes", "sharding", "gib"),
    [("qwen3_0.6b_24gb", SMALL, 1, "none", 24 * 0.65), ("qwen3_4b_8x80gb", LARGE, 4, "weights", 80)],
)
def test_the_recipes_can_run_and_say_what_their_plan_says(name, model, num_processes, sharding, gib):
    file = RECIPES / f"{name}.yaml"
    args, _ = parse_config(AWPOConfig, ["--config", str(file)], "awpo train", "")
    args.check(num_processes)
    plan = make_plan(args, measure_model(model, args), num_processes, sharding)
    assert textwrap.indent(describe(plan), "#   ") in file.read_text()
    assert max(sum(plan.training.values()), sum(plan.sampling.values())) < 0.6 * gib * 2**30
    make(args.env, **args.env_kwargs).close()


@pytest.mark.parametrize(
    ("environment", "sharding"),
    [
        ({}, "none"),
        ({"ACCELERATE_USE_FSDP": "true"}, "weights"),
        ({"ACCELERATE_USE_FSDP": "false"}, "none"),
        ({"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_ZERO_STAGE": "0"}, "none"),
        ({"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_ZERO_STAGE": "2"}, "optimizer"),
        ({"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_ZERO_STAGE": "3"}, "weights"),
    ],
)
def test_what_accelerate_was_told_to_divide(environment, sharding):
    assert read_sharding(environment) == sharding


def test_the_description_adds_up():
    plan = make_plan(AWPOConfig(), measure_model(SMALL, AWPOConfig()))
    round_numbers = dataclasses.replace(plan, training={"weights": 2**30, "logits": 2**31}, sampling={"weights": 2**29})
    text = describe(round_numbers)
    assert "596,049,920 parameters" in text and "8 tasks x 8" in text
    assert "about 3.0 GiB" in text and "about 0.5 GiB" in text
    assert "2.00 GiB" in text


def test_a_dry_run_prints_the_settings_and_behind_them_the_plan(capsys):
    assert main(["--dry_run", "--generation_batch_size", "16"]) == 0
    text = capsys.readouterr().out
    settings, _, plan = text.partition("\n# ")
    assert "generation_batch_size: 16" in settings and "#" not in settings
    assert "766,400 parameters" in plan and "2 tasks x 8, 16 on each process" in plan
    assert all(line.startswith("# ") for line in plan.splitlines()[1:])  # so that all of it is a config file still
