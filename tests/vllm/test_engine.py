"""vLLM in process against the learner's own forward passes: values, pushes of weights, draws, ends."""

import asyncio

import pytest
import torch

from awpo_agent.engines import vllm as engine_module
from awpo_agent.engines.base import Sampling
from awpo_agent.engines.vllm import VLLMEngine
from awpo_agent.train import load_policy
from awpo_env.errors import UsageError

MAX_LENGTH = 1536
PROMPT = list(range(20, 320))  # longer than two blocks of the prefix cache


@pytest.fixture(scope="module")
def shared() -> VLLMEngine:
    """One engine for all tests: starting vLLM is what takes long."""
    torch.manual_seed(0)
    return VLLMEngine(load_policy("base")[0], max_rows=32, max_length=MAX_LENGTH)


@pytest.fixture
def engine(shared: VLLMEngine, policy) -> VLLMEngine:
    """The engine, samples from a fresh model."""
    shared.model = policy[0]
    shared.weights_changed()
    return shared


def sampling(episode: int = 0, max_tokens: int = 24, **settings) -> Sampling:
    return Sampling(max_tokens=max_tokens, key=(0, 0, episode), **{"stop_ids": (), **settings})


def ask(engine, *requests):
    async def together():
        return await asyncio.gather(*[engine.generate(prompt, how) for prompt, how in requests])

    return asyncio.run(together())


def gap(model, prompt, completion, temperature=1.0) -> float:
    with torch.no_grad():
        logits_TV = model(input_ids=torch.tensor([[*prompt, *completion.ids]])).logits[0] / temperature
    logprobs_TV = logits_TV.log_softmax(-1)[len(prompt) - 1 : -1]
    wanted_T = logprobs_TV.gather(1, torch.tensor(completion.ids)[:, None])[:, 0]
    return float((wanted_T - torch.tensor(completion.logprobs)).abs().max())


def test_logprobs_of_200_episodes_of_several_turns(engine, policy, play, largest_gap):
    model, chat = policy
    rollouts = play(engine, chat, 200)
    num_turns = [sum(message["role"] == "assistant" for message in r.transcript.messages) for r in rollouts]
    assert sum(turns > 1 for turns in num_turns) > 100
    assert largest_gap(model, rollouts) < 1e-4


def test_logprobs_after_50_pushes(engine, policy, play, largest_gap, disturb):
    model, chat = policy
    for push in range(50):
        disturb(model, seed=push)
        engine.weights_changed()
        (completion,) = ask(engine, (PROMPT, sampling()))  # the same prompt: its cached state would be out of date
        assert gap(model, PROMPT, completion) < 1e-4
    assert largest_gap(model, play(engine, chat, 16, preset="full")) < 1e-4


def test_weights_are_those_of_the_last_push(engine, policy, disturb):
    """No tensor of the module is shared: what an optimizer does in place shows after `weights_changed` alone."""
    model, _ = policy
    before = load_policy("base")[0]
    disturb(model, seed=1, size=0.1)
    (completion,) = ask(engine, (PROMPT, sampling()))
    assert gap(before, PROMPT, completion) < 1e-4 < 1e-2 < gap(model, PROMPT, completion)


def test_a_push_that_breaks_off_is_made_again(engine, policy, monkeypatch, disturb):
    model, _ = policy
    disturb(model, seed=1, size=0.1)

    def half(model):
        weights = list(weights_of(model))
        yield from weights[: len(weights) // 2]
        raise OSError("the connection is gone")

    weights_of = engine_module.plain_weights
    with monkeypatch.context() as patch:
        patch.setattr(engine_module, "plain_weights", half)
        with pytest.raises(OSError, match="the connection is gone"):
            engine.weights_changed()
    (completion,) = ask(engine, (PROMPT, sampling()))
    assert gap(model, PROMPT, completion) < 1e-4


def test_draws_depend_on_key_and_position_and_not_on_the_batch(engine):
    prompts = [PROMPT[: 60 + 10 * index] for index in range(12)]
    together = ask(engine, *[(prompt, sampling(index)) for index, prompt in enumerate(prompts)])
    for index in (0, 5, 11):
        (alone,) = ask(engine, (prompts[index], sampling(index)))
        assert alone.ids == together[index].ids
    same = ask(engine, *[(PROMPT, sampling(index)) for index in range(4)])
    assert len({completion.ids for completion in same}) == 4


def test_filters_and_temperature_are_in_the_logprobs(engine, policy):
    model, _ = policy
    cool, top, greedy = ask(
        engine,
        (PROMPT, sampling(0, temperature=0.5)),
        (PROMPT, sampling(1, 1, top_k=1)),
        (PROMPT, sampling(2, temperature=0.0)),
    )
    assert gap(model, PROMPT, cool, temperature=0.5) < 1e-4
    assert top.logprobs == pytest.approx([0.0], abs=1e-6)
    assert gap(model, PROMPT, greedy) < 1e-4


def test_ends_with_the_first_stop_id_or_at_max_length(engine):
    (free,) = ask(engine, (PROMPT, sampling(0, 20)))
    assert (len(free.ids), free.finish_reason) == (20, "length")
    stop = free.ids[6]
    (stopped,) = ask(engine, (PROMPT, sampling(0, 20, stop_ids=(stop,))))
    assert (stopped.ids, stopped.finish_reason) == (free.ids[: free.ids.index(stop) + 1], "stop")
    long = (PROMPT * 6)[: MAX_LENGTH - 3]
    (cut,) = ask(engine, (long, sampling(0, 20)))
    assert (len(cut.ids), cut.finish_reason) == (3, "length")


def test_requests_that_make_no_sense_are_refused(engine):
    for prompt, how in (([], sampling()), ([5] * MAX_LENGTH, sampling()), (PROMPT, sampling(0, 0))):
        with pytest.raises(UsageError):
            ask(engine, (prompt, how))


def test_weights_may_not_change_while_conversations_are_sampled(engine):
    async def change_meanwhile():
        task = asyncio.create_task(engine.generate(PROMPT, sampling(0, 200)))
        for _ in range(5):
            await asyncio.sleep(0)
        with pytest.raises(UsageError, match="1 conversations were being sampled"):
            engine.weights_changed()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(change_meanwhile())
    engine.weights_changed()  # and nothing of the cancelled one is left
    assert ask(engine, (PROMPT, sampling(0, 5)))[0].ids
