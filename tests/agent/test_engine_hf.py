"""The transformers engine against plain forward passes: values, reuse of state, batching, counters, errors."""

import asyncio
import itertools
import random

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, Qwen3Config, Qwen3ForCausalLM

from awpo_agent.engines import kv_rows
from awpo_agent.engines.base import Sampling
from awpo_agent.engines.draw import draw, invert
from awpo_agent.engines.hf import TransformersEngine
from awpo_agent.engines.row_table import common_prefix
from awpo_agent.engines.scripted import ScriptedEngine
from awpo_env.errors import UsageError

VOCABULARY = 97
SIZES = dict(
    vocab_size=VOCABULARY,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=4,
    max_position_embeddings=256,
    bos_token_id=None,
    eos_token_id=None,
    pad_token_id=None,
)


def make_model(kind: str = "qwen3"):
    torch.manual_seed(0)
    if kind == "qwen3":
        model = Qwen3ForCausalLM(Qwen3Config(**SIZES, num_key_value_heads=2, head_dim=8))
    elif kind == "qwen3 tied":
        model = Qwen3ForCausalLM(Qwen3Config(**SIZES, num_key_value_heads=4, head_dim=8, tie_word_embeddings=True))
    elif kind == "qwen3 eager":
        model = Qwen3ForCausalLM(Qwen3Config(**SIZES, num_key_value_heads=1, head_dim=8, attn_implementation="eager"))
    else:
        model = LlamaForCausalLM(LlamaConfig(**SIZES, num_key_value_heads=2))
    with torch.no_grad():  # sharper than at initialisation, so that a wrong key or position shows
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.mul_(4)
    return model.eval()


@pytest.fixture(scope="module")
def model():
    return make_model()


def ids_of(number: int, seed: int) -> list[int]:
    return [random.Random(f"{seed} {index}").randrange(VOCABULARY) for index in range(number)]


def sampling(episode: int = 0, max_tokens: int = 8, **settings) -> Sampling:
    return Sampling(max_tokens=max_tokens, key=(0, 0, episode), **{"stop_ids": (), **settings})


def ask(engine, *requests):
    """Let all (prompt, sampling) wait at the same time."""

    async def together():
        return await asyncio.gather(*[engine.generate(prompt, how) for prompt, how in requests])

    return asyncio.run(together())


def sampled_from(start: int, completion) -> list[tuple[int, int, float]]:
    """Return (position, id, logprob) of each token."""
    return list(zip(itertools.count(start), completion.ids, completion.logprobs, strict=False))


async def talk(engine, episode: int, prompt: list[int], turns: int = 3, tool_length: int = 5, **settings):
    """Play a conversation; return its ids and the (position, id, logprob) of every sampled token."""
    rng, ids, sampled = random.Random(episode), list(prompt), []
    for turn in range(turns):
        completion = await engine.generate(ids, sampling(episode, max_tokens=rng.randint(1, 12), **settings))
        sampled += sampled_from(len(ids), completion)
        ids += completion.ids
        ids += ids_of(rng.randint(1, tool_length), seed=1000 * episode + turn)
    return ids, sampled


def talk_all(engine, prompts: list[list[int]], **settings):
    async def together():
        return await asyncio.gather(*[talk(engine, i, prompt, **settings) for i, prompt in enumerate(prompts)])

    return asyncio.run(together())


def plain_logprobs(model, ids: list[int], temperature: float = 1.0) -> torch.Tensor:
    """Log-probabilities for the next token after each position, by one forward pass without any cache."""
    with torch.no_grad():
        return (model(input_ids=torch.tensor([ids])).logits[0] / temperature).log_softmax(-1)


def assert_logprobs_hold(model, ids, sampled, temperature=1.0):
    logprobs_TV = plain_logprobs(model, ids, temperature)
    for position, token, logprob in sampled:
        assert ids[position] == token
        assert logprob == pytest.approx(logprobs_TV[position - 1, token].item(), abs=1e-5)


# ---- values


@pytest.mark.parametrize("kind", ["qwen3", "qwen3 tied", "qwen3 eager", "llama"])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_logprobs_of_several_turns_equal_a_plain_forward(kind, temperature):
    model = make_model(kind)
    prompts = [ids_of(number, seed=number) for number in (1, 2, 9, 30, 31, 32)]
    for ids, sampled in talk_all(TransformersEngine(model), prompts, temperature=temperature):
        assert len(sampled) >= 3
        assert_logprobs_hold(model, ids, sampled, temperature)


def test_greedy_is_what_the_model_generates(model):
    engine = TransformersEngine(model)
    prompts = [ids_of(number, seed=number) for number in (3, 10, 17)]
    completions = ask(engine, *[(p, sampling(i, 20, temperature=0.0)) for i, p in enumerate(prompts)])
    for prompt, completion in zip(prompts, completions, strict=True):
        inputs = torch.tensor([prompt])
        want = model.generate(inputs, attention_mask=torch.ones_like(inputs), do_sample=False, max_new_tokens=20)
        assert completion.ids == tuple(want[0, len(prompt) :].tolist())
        logprobs_TV = plain_logprobs(model, want[0].tolist())
        positions = range(len(prompt), want.shape[1])
        assert completion.logprobs == pytest.approx(
            [logprobs_TV[p - 1, want[0, p]].item() for p in positions], abs=1e-5
        )


def test_draws_do_not_depend_on_the_batch(model):
    prompts = [ids_of(5 + 3 * index, seed=index) for index in range(16)]
    together = talk_all(TransformersEngine(model), prompts)
    for episode in (0, 7, 15):
        ids, sampled = asyncio.run(talk(TransformersEngine(model), episode, prompts[episode]))
        assert ids == together[episode][0]
        got = [logprob for _, _, logprob in together[episode][1]]
        assert got == pytest.approx([logprob for _, _, logprob in sampled], abs=1e-5)


def test_draws_depend_on_key_and_position(model):
    prompt = ids_of(6, seed=1)
    engine = TransformersEngine(model)
    first, again, other = ask(engine, (prompt, sampling(0, 30)), (prompt, sampling(1, 30)), (prompt, sampling(2, 30)))
    assert len({first.ids, again.ids, other.ids}) == 3
    assert ask(TransformersEngine(model), (prompt, sampling(0, 30)))[0].ids == first.ids
    # The noise belongs to the position: the rest of a conversation comes out the same when it is asked for later.
    longer = prompt + list(first.ids[:10])
    assert ask(TransformersEngine(model), (longer, sampling(0, 20)))[0].ids == first.ids[10:]


def test_equal_runs_are_equal_to_the_bit(model):
    prompts = [ids_of(4 + index, seed=index % 3) for index in range(12)]
    assert talk_all(TransformersEngine(model), prompts) == talk_all(TransformersEngine(model), prompts)


def test_filters_keep_what_they_say_and_report_the_filtered_distribution(model):
    prompt = ids_of(6, seed=1)
    plain_V = plain_logprobs(model, prompt)[-1]
    best_two = set(plain_V.topk(2).indices.tolist())
    completions = ask(
        TransformersEngine(model),
        *[(prompt, sampling(episode, 1, top_k=2)) for episode in range(20)],
        *[(prompt, sampling(episode, 1, top_p=1e-6)) for episode in range(20, 30)],
        *[(prompt, sampling(episode, 1)) for episode in range(30, 70)],
    )
    total = plain_V.topk(2).values.logsumexp(-1).item()
    for completion in completions[:20]:
        assert completion.ids[0] in best_two
        assert completion.logprobs[0] == pytest.approx(plain_V[completion.ids[0]].item() - total, abs=1e-5)
    assert {completion.ids[0] for completion in completions[:20]} == best_two
    for completion in completions[20:30]:
        assert completion.ids == (plain_V.argmax().item(),)
        assert completion.logprobs == pytest.approx([0.0], abs=1e-6)
    for completion in completions[30:]:
        assert completion.logprobs[0] == pytest.approx(plain_V[completion.ids[0]].item(), abs=1e-5)
    assert {completion.ids[0] for completion in completions[30:]} - best_two


def test_drawn_frequencies_follow_the_distribution(model):
    prompt, number = ids_of(6, seed=1), 4000
    engine = TransformersEngine(model, max_rows=1000)
    completions = ask(engine, *[(prompt, sampling(episode, 1, temperature=0.5)) for episode in range(number)])
    counts = np.bincount([completion.ids[0] for completion in completions], minlength=VOCABULARY)
    probs = plain_logprobs(model, prompt, 0.5)[-1].exp().double().numpy()
    likely = probs * number >= 5
    expected = np.append(probs[likely], probs[~likely].sum()) * number
    observed = np.append(counts[likely], counts[~likely].sum())
    degrees = len(expected) - 1
    assert ((observed - expected) ** 2 / expected).sum() < degrees + 5 * np.sqrt(2 * degrees)


# ---- ends of completions


def test_ends_with_the_first_stop_id_and_keeps_it(model):
    prompt = ids_of(6, seed=2)
    free = ask(TransformersEngine(model), (prompt, sampling(0, 30)))[0]
    assert free.finish_reason == "length" and len(free.ids) == 30
    stop = free.ids[7]
    cut = free.ids.index(stop) + 1
    stopped = ask(TransformersEngine(model), (prompt, sampling(0, 30, stop_ids=(VOCABULARY + 5, stop))))[0]
    assert (stopped.ids, stopped.finish_reason) == (free.ids[:cut], "stop")
    assert stopped.logprobs == pytest.approx(free.logprobs[:cut], abs=1e-6)
    last = ask(TransformersEngine(model), (prompt, sampling(0, cut, stop_ids=(stop,))))[0]
    assert (last.ids, last.finish_reason) == (free.ids[:cut], "stop")


def test_ends_at_max_length(model):
    engine = TransformersEngine(model, max_length=10)
    completion = ask(engine, (ids_of(7, seed=0), sampling(0, 50)))[0]
    assert (len(completion.ids), completion.finish_reason) == (3, "length")


# ---- what is kept, copied, forwarded


def test_counts_of_two_turns_by_hand(model):
    engine = TransformersEngine(model)
    prompt = ids_of(20, seed=0)
    first = ask(engine, (prompt, sampling(0, 5)))[0]
    # 19 tokens in the prefill, the 20th and the first four sampled ones in decode steps; the fifth is not forwarded yet
    stats = engine.stats
    assert (stats.forward_tokens, stats.padding_tokens, stats.decode_steps, stats.prefill_passes) == (24, 0, 5, 1)
    ask(engine, (prompt + list(first.ids) + ids_of(7, seed=1), sampling(0, 3)))
    # 32 tokens are known before the second turn, 24 of them kept; of the 3 sampled ones the last is not forwarded
    assert (stats.forward_tokens, stats.decode_steps, stats.prefill_passes) == (32 + 2, 8, 2)
    assert (stats.sampled_tokens, stats.reprefilled_tokens, stats.shared_tokens) == (8, 0, 0)


def test_prompts_that_begin_alike_are_forwarded_once(model):
    engine = TransformersEngine(model)
    system, ends = ids_of(30, seed=0), [ids_of(5, seed=1), ids_of(9, seed=2), ids_of(9, seed=3)]
    prompts = [system + end for end in ends for _ in range(4)]
    completions = ask(engine, *[(prompt, sampling(episode, 1)) for episode, prompt in enumerate(prompts)])
    # all prompts but their last tokens: one whole, two from the shared beginning on; then one decode step for each
    assert engine.stats.forward_tokens == 34 + 8 + 8 + 12
    assert engine.stats.shared_tokens == 2 * 30 + 3 * (34 + 38 + 38)
    for prompt, completion in zip(prompts, completions, strict=True):
        want = plain_logprobs(model, prompt)[-1, completion.ids[0]].item()
        assert completion.logprobs[0] == pytest.approx(want, abs=1e-5)


def test_a_late_conversation_copies_from_one_under_way(model):
    engine = TransformersEngine(model)
    prompt = ids_of(40, seed=0)
    ask(engine, (prompt, sampling(0, 3)))
    late = ask(engine, (prompt[:30] + ids_of(4, seed=1), sampling(1, 2)))[0]
    assert engine.stats.shared_tokens == 30
    alone = ask(TransformersEngine(model), (prompt[:30] + ids_of(4, seed=1), sampling(1, 2)))[0]
    assert late.ids == alone.ids and late.logprobs == pytest.approx(alone.logprobs, abs=1e-5)


def test_padding_is_counted_and_similar_lengths_go_together(model):
    engine = TransformersEngine(model)
    ask(engine, *[(ids_of(number + 1, seed=number), sampling(number, 1)) for number in (100, 90, 80, 10)])
    # 100, 90 and 80 in one pass; 10 is less than three quarters of 100 and goes alone
    assert (engine.stats.prefill_passes, engine.stats.padding_tokens) == (2, 30)
    assert engine.stats.forward_tokens == 280 + 4


def test_long_prompts_are_prefilled_in_pieces(model):
    prompt = ids_of(101, seed=0)
    engine = TransformersEngine(model, prefill_tokens=32)
    pieces = ask(engine, (prompt, sampling(0, 4)))[0]
    assert engine.stats.prefill_passes == 4
    whole = ask(TransformersEngine(model), (prompt, sampling(0, 4)))[0]
    assert pieces.ids == whole.ids and pieces.logprobs == pytest.approx(whole.logprobs, abs=1e-5)


def test_few_rows_give_the_same_conversations(model):
    prompts = [ids_of(4 + index, seed=index) for index in range(9)]
    few = TransformersEngine(model, max_rows=2)
    assert [ids for ids, _ in talk_all(few, prompts)] == [
        ids for ids, _ in talk_all(TransformersEngine(model), prompts)
    ]


def test_the_conversation_idle_for_longest_is_evicted(model):
    engine = TransformersEngine(model, max_rows=2)
    prompts = [ids_of(20, seed=seed) for seed in range(3)]
    replies = [ask(engine, (prompt, sampling(episode, 4)))[0] for episode, prompt in enumerate(prompts)]
    histories = [[*prompt, *reply.ids, 1] for prompt, reply in zip(prompts, replies, strict=True)]
    ask(engine, (histories[1], sampling(1, 1)))
    assert engine.stats.reprefilled_tokens == 0
    evicted = ask(engine, (histories[0], sampling(0, 3)))[0]
    assert engine.stats.reprefilled_tokens == 23
    fresh = ask(TransformersEngine(model), (histories[0], sampling(0, 3)))[0]
    assert evicted.ids == fresh.ids and evicted.logprobs == pytest.approx(fresh.logprobs, abs=1e-5)


def test_a_rewritten_history_is_forwarded_again_from_where_it_differs(model):
    engine = TransformersEngine(model)
    prompt = ids_of(20, seed=0)
    ask(engine, (prompt, sampling(0, 5)))
    rewritten = [*prompt[:12], (prompt[12] + 1) % VOCABULARY, *prompt[13:]]
    forwarded = engine.stats.forward_tokens
    again = ask(engine, (rewritten, sampling(0, 5)))[0]
    assert engine.stats.reprefilled_tokens == 19 - 12
    assert engine.stats.forward_tokens - forwarded == 20 - 12 + 4
    fresh = ask(TransformersEngine(model), (rewritten, sampling(0, 5)))[0]
    assert again.ids == fresh.ids and again.logprobs == pytest.approx(fresh.logprobs, abs=1e-5)


def test_a_forgotten_conversation_frees_its_row(model):
    engine = TransformersEngine(model, max_rows=2)
    prompts = [ids_of(20, seed=seed) for seed in range(3)]
    replies = [ask(engine, (prompt, sampling(i, 4)))[0] for i, prompt in enumerate(prompts[:2])]
    engine.forget((0, 0, 1))
    engine.forget((9, 9, 9))
    ask(engine, (prompts[2], sampling(2, 4)))
    ask(engine, ([*prompts[0], *replies[0].ids, 1], sampling(0, 4)))
    assert engine.stats.reprefilled_tokens == 0


def test_changed_weights_drop_everything():
    model = make_model()
    engine = TransformersEngine(model)
    prompt = ids_of(20, seed=0)
    before = ask(engine, (prompt, sampling(0, 5)))[0]
    with torch.no_grad():
        model.lm_head.weight.mul_(1.5)
        model.model.layers[0].mlp.up_proj.weight.add_(0.05)
    engine.weights_changed()
    history = [*prompt, *before.ids, 1]
    after = ask(engine, (history, sampling(0, 5)))[0]
    assert_logprobs_hold(model, [*history, *after.ids], sampled_from(26, after))
    assert engine.stats.reprefilled_tokens == 0


def test_weights_must_not_change_while_sampling(model):
    engine = TransformersEngine(model)

    async def scenario():
        waiter = asyncio.ensure_future(engine.generate(ids_of(5, seed=0), sampling(0, 20)))
        while engine.stats.sampled_tokens < 3:
            await asyncio.sleep(0)
        with pytest.raises(UsageError, match="1 conversations were being sampled"):
            engine.weights_changed()
        return await waiter

    assert len(asyncio.run(scenario()).ids) == 20


# ---- the model is left as it was


def test_training_goes_on_after_sampling():
    model = make_model()
    model.train()
    model.model.layers[1].eval()
    modes = [module.training for module in model.modules()]
    engine = TransformersEngine(model)
    talk_all(engine, [ids_of(5, seed=0), ids_of(6, seed=1)])
    assert [module.training for module in model.modules()] == modes
    loss = model(input_ids=torch.tensor([ids_of(8, seed=3)])).logits.logsumexp(-1).sum()
    loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert not any(buffer.requires_grad or buffer.is_inference() for buffer in engine._batch._cache._buffers())
    assert not any(buffer.is_inference() for buffer in model.buffers())


def test_dropout_is_off_while_sampling():
    model = make_model()
    for layer in model.model.layers:
        layer.self_attn.attention_dropout = 0.5
    model.train()
    prompt = ids_of(30, seed=0)
    completion = ask(TransformersEngine(model), (prompt, sampling(0, 5)))[0]
    model.eval()
    assert_logprobs_hold(model, [*prompt, *completion.ids], sampled_from(30, completion))


# ---- coroutines


def test_a_slow_tool_holds_back_nobody(model):
    engine = TransformersEngine(model)
    release = asyncio.Event()
    order = []

    async def slow():
        await engine.generate(ids_of(5, seed=0), sampling(0, 2))
        await release.wait()
        await engine.generate(ids_of(9, seed=0), sampling(0, 2))
        order.append("slow")

    async def quick():
        await talk(engine, 1, ids_of(5, seed=1), turns=5)
        order.append("quick")
        release.set()

    async def scenario():
        await asyncio.wait_for(asyncio.gather(slow(), quick()), timeout=60)

    asyncio.run(scenario())
    assert order == ["quick", "slow"]


def test_other_coroutines_run_between_steps(model):
    engine = TransformersEngine(model)
    turns = []

    async def scenario():
        waiter = asyncio.ensure_future(engine.generate(ids_of(5, seed=0), sampling(0, 20)))
        while not waiter.done():
            turns.append(engine.stats.sampled_tokens)
            await asyncio.sleep(0)

    asyncio.run(scenario())
    assert set(range(20)) <= set(turns)


def test_waiting_conversations_join_at_half_the_active(model):
    engine = TransformersEngine(model)

    async def scenario():
        first = [asyncio.ensure_future(engine.generate(ids_of(5, seed=i), sampling(i, 20))) for i in range(4)]
        while engine.stats.decode_steps < 3:
            await asyncio.sleep(0)
        late = [asyncio.ensure_future(engine.generate(ids_of(5, seed=9), sampling(9, 2)))]
        while engine.stats.decode_steps < 6:
            await asyncio.sleep(0)
        assert engine.stats.sampled_tokens == 6 * 4
        late.append(asyncio.ensure_future(engine.generate(ids_of(5, seed=8), sampling(8, 2))))
        await asyncio.gather(*late)
        assert not any(waiter.done() for waiter in first)
        await asyncio.gather(*first)

    asyncio.run(scenario())


def test_a_cancelled_waiter_is_dropped_and_may_ask_again(model):
    engine = TransformersEngine(model)
    prompt = ids_of(5, seed=0)

    async def scenario():
        doomed = asyncio.ensure_future(engine.generate(prompt, sampling(0, 200)))
        other = asyncio.ensure_future(engine.generate(ids_of(6, seed=1), sampling(1, 10)))
        while engine.stats.decode_steps < 4:
            await asyncio.sleep(0)
        doomed.cancel()
        again = await engine.generate(prompt, sampling(0, 6))
        await other
        assert doomed.cancelled()
        return again

    again = asyncio.run(scenario())
    assert engine.stats.sampled_tokens == 4 + 10 + 6
    assert again.ids == ask(TransformersEngine(model), (prompt, sampling(0, 6)))[0].ids


@pytest.mark.parametrize("at", ["prefill", "decode"])
def test_an_exception_reaches_every_waiter_and_leaves_the_engine_usable(model, monkeypatch, at):
    engine = TransformersEngine(model, max_rows=2)
    prompts = [ids_of(5 + 3 * index, seed=index) for index in range(3)]

    def fail(*args, **kwargs):
        raise RuntimeError("out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(model.model.layers[1] if at == "prefill" else model.lm_head, "forward", fail)
        model.train()

        async def scenario():
            requests = [engine.generate(prompt, sampling(index)) for index, prompt in enumerate(prompts)]
            return await asyncio.gather(*requests, return_exceptions=True)

        assert [str(error) for error in asyncio.run(scenario())] == ["out of memory"] * 3
    assert model.training
    model.eval()
    again = ask(engine, *[(prompt, sampling(index)) for index, prompt in enumerate(prompts)])
    fresh = ask(TransformersEngine(model), *[(prompt, sampling(index)) for index, prompt in enumerate(prompts)])
    assert [completion.ids for completion in again] == [completion.ids for completion in fresh]


def test_memory_that_ran_out_halfway_leaves_the_engine_usable(model, monkeypatch):
    engine = TransformersEngine(model)
    ask(engine, (ids_of(5, seed=0), sampling(0, 2)))
    more = [(ids_of(5, seed=seed), sampling(seed, 2)) for seed in (1, 2)]
    enlarge, calls = kv_rows._enlarged, []

    def run_out(*args):
        calls.append(args)
        if len(calls) == 3:  # the second layer, after the first has grown
            raise RuntimeError("out of memory")
        return enlarge(*args)

    with monkeypatch.context() as patch:
        patch.setattr(kv_rows, "_enlarged", run_out)
        with pytest.raises(RuntimeError, match="out of memory"):
            ask(engine, *more)
    assert ask(engine, *more) == ask(TransformersEngine(model), *more)


def test_an_interrupted_loop_leaves_the_engine_usable(model):
    engine = TransformersEngine(model)

    async def abandoned():
        task = asyncio.ensure_future(engine.generate(ids_of(5, seed=0), sampling(0, 100)))
        while engine.stats.decode_steps < 3:
            await asyncio.sleep(0)
        assert not task.done()

    asyncio.run(abandoned())
    assert (
        ask(engine, (ids_of(5, seed=0), sampling(0, 3)))[0]
        == ask(TransformersEngine(model), (ids_of(5, seed=0), sampling(0, 3)))[0]
    )


# ---- mistakes of the caller


@pytest.mark.parametrize(
    ("prompt", "how", "words"),
    [
        ([], sampling(), "no tokens"),
        ([1] * 10, sampling(), "10 tokens, expected fewer than max_length=10"),
        ([1], sampling(max_tokens=0), "max_tokens is 0"),
    ],
)
def test_impossible_requests_are_refused(model, prompt, how, words):
    with pytest.raises(UsageError, match=words):
        ask(TransformersEngine(model, max_length=10), (prompt, how))


def test_a_conversation_cannot_be_sampled_twice_at_a_time(model):
    with pytest.raises(UsageError, match="already"):
        ask(TransformersEngine(model), ([1], sampling(0)), ([1, 2], sampling(0)))


@pytest.mark.parametrize("name", ["max_rows", "max_length", "prefill_tokens"])
def test_sizes_below_one_are_refused(model, name):
    with pytest.raises(UsageError, match=f"{name} is 0"):
        TransformersEngine(model, **{name: 0})


def test_conversations_beyond_the_model_s_positions_are_refused(model):
    positions = model.config.max_position_embeddings
    TransformersEngine(model, max_length=positions)
    with pytest.raises(
        UsageError, match=f"max_length is {positions + 1}, but the model has only {positions} positions"
    ):
        TransformersEngine(model, max_length=positions + 1)


def test_sliding_windows_are_refused_unless_conversations_fit():
    config = Qwen3Config(
        **SIZES, num_key_value_heads=2, head_dim=8, use_sliding_window=True, sliding_window=64, max_window_layers=1
    )
    model = Qwen3ForCausalLM(config).eval()
    with pytest.raises(UsageError, match="sliding window of 64"):
        TransformersEngine(model)
    TransformersEngine(model, max_length=64)


def test_attention_without_masks_is_refused():
    model = make_model()
    model.config._attn_implementation = "flash_attention_2"
    with pytest.raises(UsageError, match="attn_implementation='sdpa'"):
        TransformersEngine(model)


# ---- parts


def test_an_impossible_id_is_never_drawn():
    probs_BV = torch.tensor([[0.0, 0.25, 0.0, 0.75, 0.0]]).repeat(6, 1)
    below_one = 1 - 2.0**-53
    uniform_B = torch.tensor([0.0, 0.25 - 2.0**-53, 0.25, 0.5, below_one, 1.0], dtype=torch.float64)
    assert invert(probs_BV, uniform_B).tolist() == [1, 1, 3, 3, 3, 3]


def test_filters_of_different_rows_do_not_mix():
    logits_BV = torch.tensor([[0.1, 0.4, 0.3, 0.2]]).log().repeat(5, 1)
    almost_one = np.full(5, 1 - 2.0**-53)
    ids_B, logprobs_B = draw(
        logits_BV,
        almost_one,
        np.array([1.0, 1.0, 1.0, 0.0, 1.0]),
        np.array([0, 2, 0, 3, 3]),
        np.array([1.0, 1.0, 0.4, 0.1, 0.75]),
    )
    # everything: 3; {1, 2}: 2; 0.4 is reached by {1}; greedy: 1, unfiltered; {1, 2, 3} of which {1, 2} reach 0.75
    assert ids_B.tolist() == [3, 2, 1, 1, 2]
    assert logprobs_B.exp().tolist() == pytest.approx([0.2, 0.3 / 0.7, 1.0, 0.4, 0.3 / 0.7])


def test_common_prefix():
    ids_RT = np.array([[1, 2, 3], [1, 2, 9], [7, 2, 3]])
    assert common_prefix(ids_RT, np.array([1, 2, 3])).tolist() == [3, 2, 0]
    assert common_prefix(ids_RT, np.array([1, 2])).tolist() == [2, 2, 0]
    assert common_prefix(ids_RT, np.array([1, 2, 3, 4])).tolist() == [3, 2, 0]
    assert common_prefix(ids_RT[:, :0], np.array([1])).tolist() == [0, 0, 0]


# ---- scripted engine


def test_scripted_replies_in_order():
    engine = ScriptedEngine([[5, 6, 0, 7], [5, 6], [5, 6, 7]])
    how = sampling(max_tokens=3, stop_ids=(0, 1))
    cut, ended, full = (asyncio.run(engine.generate([2], how)) for _ in range(3))
    assert (cut.ids, cut.finish_reason, cut.logprobs) == ((5, 6, 0), "stop", (0.0, 0.0, 0.0))
    assert (ended.ids, ended.finish_reason) == ((5, 6, 0), "stop")
    assert (full.ids, full.finish_reason) == ((5, 6, 7), "length")
    assert engine.calls == [((2,), how)] * 3
    with pytest.raises(UsageError, match="3 replies and one more was asked for"):
        asyncio.run(engine.generate([2], how))


def test_scripted_replies_from_a_function():
    engine = ScriptedEngine(lambda prompt_ids, how: [len(prompt_ids), how.key[2]])
    assert asyncio.run(engine.generate([4, 4], sampling(7, stop_ids=(0,)))).ids == (2, 7, 0)
    assert asyncio.run(engine.generate([4], sampling(8))).finish_reason == "length"
    engine.weights_changed()
    engine.forget((0, 0, 7))
