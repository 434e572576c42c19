"""Log-probabilities and the clipped surrogate: against plain forwards, by hand, and blind to what was not sampled."""

import math

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, GraniteConfig, GraniteForCausalLM

from awpo_agent import losses
from awpo_agent.batching import make_batch, micro_batches
from awpo_agent.losses import check_output_layer, clipped_surrogate, reference_kl, sampled_logprobs
from awpo_agent.types import Rollout
from awpo_env.errors import UsageError


@pytest.fixture
def rollouts():
    """Seven episodes of random ids in which the prompt and some later stretches are the environment's."""
    generator = torch.Generator().manual_seed(0)
    made = []
    for length in (9, 14, 5, 30, 14, 22, 7):
        ids = torch.randint(0, 300, (length,), generator=generator)
        is_sampled = torch.rand(length, generator=generator) < 0.5
        is_sampled[:3] = False
        is_sampled[3] = True
        logprobs = torch.where(is_sampled, -5.0 - 2.0 * torch.rand(length, generator=generator), 0.0)
        made.append(
            Rollout(tuple(ids.tolist()), tuple(is_sampled.tolist()), tuple(logprobs.tolist()), 3, None, None, None)
        )
    return made


ADVANTAGES = torch.tensor([1.0, -0.5, 2.0, -1.5, 0.7, 0.3, -0.2])


def surrogate(model, batch, num_tokens, epsilon=0.2):
    logprobs_N, _ = sampled_logprobs(model, batch.ids_BT, batch.is_sampled_BT, 1.0)
    old_N = batch.old_logprobs_BT.to(logprobs_N.dtype)[batch.is_sampled_BT]
    advantages_N = batch.advantages_B.to(logprobs_N.dtype)[:, None].expand_as(batch.is_sampled_BT)[batch.is_sampled_BT]
    return clipped_surrogate(logprobs_N, old_N, advantages_N, num_tokens, epsilon)[0]


def whole_batch(rollouts):
    return make_batch(rollouts, ADVANTAGES, torch.ones(len(rollouts), dtype=torch.bool))


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_logprobs_are_those_of_a_plain_forward(make_model, rollouts, temperature):
    model, batch = make_model(), whole_batch(rollouts)
    logprobs_N, entropy_N = sampled_logprobs(model, batch.ids_BT, batch.is_sampled_BT, temperature)
    want, entropies = [], []
    for rollout in rollouts:
        with torch.no_grad():
            rows = torch.log_softmax(model(torch.tensor([rollout.ids])).logits[0] / temperature, dim=-1)
        for position, sampled in enumerate(rollout.is_sampled):
            if sampled:
                want.append(rows[position - 1, rollout.ids[position]])
                entropies.append(-(rows[position - 1].exp() * rows[position - 1]).sum())
    assert torch.allclose(logprobs_N, torch.stack(want), rtol=0, atol=1e-5)
    assert torch.allclose(entropy_N, torch.stack(entropies), rtol=0, atol=1e-5)
    assert not entropy_N.requires_grad


def test_a_model_with_other_names_for_its_parts_is_scored_as_well():
    sizes = {"vocab_size": 300, "n_positions": 40, "n_embd": 32, "n_layer": 2, "n_head": 2}
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(**sizes, initializer_range=0.2, bos_token_id=0, eos_token_id=0)).eval()
    assert not hasattr(model, "model") and not hasattr(model.config, "layer_types")
    batch = beginning_alike(20)
    logprobs_N, shapes = forwarded(model, batch)
    want_BTV = torch.log_softmax(model(batch.ids_BT).logits[:, :-1], dim=-1)
    want_BT = want_BTV.gather(2, batch.ids_BT[:, 1:, None])[:, :, 0]
    assert torch.allclose(logprobs_N, want_BT[batch.is_sampled_BT[:, 1:]], rtol=0, atol=1e-5)
    assert shapes == [(5, 37)]  # that its layers see everything it does not say, so nothing is forwarded apart


def test_a_model_that_scales_its_logits_is_refused(make_model):
    check_output_layer(make_model())
    sizes = {"vocab_size": 300, "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1}
    heads = {
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "bos_token_id": 0,
        "eos_token_id": 0,
        "pad_token_id": 0,
    }
    model = GraniteForCausalLM(GraniteConfig(**sizes, **heads, initializer_range=0.5, logits_scaling=8.0))
    with pytest.raises(UsageError, match="GraniteForCausalLM scales or caps its logits behind the output layer"):
        check_output_layer(model)
    assert model.training
    check_output_layer(GraniteForCausalLM(GraniteConfig(**sizes, **heads, logits_scaling=1.0)))


def test_half_precision_is_scored_in_single_and_double_in_double(make_model, rollouts):
    batch = whole_batch(rollouts)
    for dtype, want in (
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ):
        model = make_model().to(dtype)
        assert sampled_logprobs(model, batch.ids_BT, batch.is_sampled_BT, 1.0)[0].dtype == want


def head_rows(model):
    """Note how many rows the output layer is given each time."""
    rows = []
    model.get_output_embeddings().register_forward_hook(lambda head, inputs, output: rows.append(len(inputs[0])))
    return rows


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("chunk", [1, 7, 28])
def test_chunks_change_neither_values_nor_gradients(make_model, rollouts, chunk, tied):
    batch, results = whole_batch(rollouts), []
    num_tokens = int(batch.is_sampled_BT.sum())
    for tokens in (num_tokens, chunk):
        model = make_model(**({} if tied else {"initializer_range": 0.1})).double()
        if not tied:
            model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().flip(0))
        rows = head_rows(model)
        most_logits = tokens * model.config.vocab_size
        logprobs_N, entropy_N = sampled_logprobs(model, batch.ids_BT, batch.is_sampled_BT, 0.7, most_logits)
        assert len(rows) == math.ceil(num_tokens / tokens) and sum(rows) == num_tokens
        (logprobs_N * torch.linspace(-1.0, 2.0, num_tokens).double()).sum().backward()
        # In the backward pass each chunk is computed once more, and a single one is not.
        assert len(rows) == (1 if tokens == num_tokens else 2 * math.ceil(num_tokens / tokens))
        assert max(rows) == min(tokens, num_tokens)
        results.append([logprobs_N, entropy_N, *(parameter.grad for parameter in model.parameters())])
    for one, other in zip(*results, strict=True):
        assert torch.allclose(one, other, rtol=0, atol=1e-12)
    assert not results[1][1].requires_grad


def test_chunks_keep_no_logits_for_the_backward_pass(make_model, rollouts):
    model, batch = make_model(), whole_batch(rollouts)
    size = model.config.vocab_size
    num_logits = int(batch.is_sampled_BT.sum()) * size

    def kept_logits(most_logits):
        kept = []
        with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x) or x, lambda x: x):
            sampled_logprobs(model, batch.ids_BT, batch.is_sampled_BT, 1.0, most_logits)
        return [x.numel() for x in kept if x.shape[-1:] == (size,)]

    assert num_logits in kept_logits(num_logits)
    assert kept_logits(num_logits - size) == []


def test_even_a_single_token_may_have_more_logits_than_allowed(make_model, rollouts):
    model, batch = make_model(), whole_batch(rollouts)
    want = sampled_logprobs(model, batch.ids_BT, batch.is_sampled_BT, 1.0)[0]
    got = sampled_logprobs(model, batch.ids_BT, batch.is_sampled_BT, 1.0, most_logits=1)[0]
    assert torch.allclose(got, want, rtol=0, atol=1e-5)


def beginning_alike(length, num_rows=5):
    """Rows of random length whose first `length` tokens are the same; what follows is sampled from the third on."""
    generator = torch.Generator().manual_seed(1)
    start = torch.randint(0, 300, (length,), generator=generator).tolist()
    made = []
    for row in range(num_rows):
        rest = torch.randint(0, 300, (6 + 3 * row,), generator=generator).tolist()
        rest[0] = row  # here they part
        ids, is_sampled = start + rest, [False] * (length + 2) + [True] * (len(rest) - 2)
        made.append(Rollout(tuple(ids), tuple(is_sampled), (0.0,) * len(ids), length + 2, None, None, None))
    return make_batch(made, torch.ones(num_rows), torch.ones(num_rows, dtype=torch.bool))


def forwarded(model, batch):
    """Score a batch; return log-probabilities, and the shape of each pass through the decoder."""
    shapes = []
    note = model.get_decoder().register_forward_pre_hook(
        lambda decoder, args, kwargs: shapes.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    logprobs_N, _ = sampled_logprobs(model, batch.ids_BT, batch.is_sampled_BT, 1.0)
    note.remove()
    return logprobs_N, shapes


def test_a_common_beginning_is_forwarded_once_and_changes_nothing(make_model):
    batch, results = beginning_alike(20), []
    for rows in ([[0, 1, 2, 3, 4]], [[0], [1], [2], [3], [4]]):
        model = make_model()
        parts = [forwarded(model, batch.rows(torch.tensor(part))) for part in rows]
        assert parts[0][1] == ([(1, 20), (5, 37 - 20)] if len(rows) == 1 else [(1, 25)])
        logprobs_N = torch.cat([part[0] for part in parts])
        (logprobs_N * torch.linspace(-1.0, 2.0, len(logprobs_N))).sum().backward()
        results.append([logprobs_N, *(parameter.grad for parameter in model.parameters())])
    for one, other in zip(*results, strict=True):
        assert torch.allclose(one, other, rtol=0, atol=5e-6)
        assert one.abs().max() > 1e-3


def test_a_common_beginning_is_exact_but_for_rounding(make_model, monkeypatch):
    """In double precision all the way: what the model rounds to single precision inside, it does not round here."""
    monkeypatch.setattr(losses, "_may_share", lambda model, ids_BT: len(ids_BT) > 1)
    batch, results = beginning_alike(20), []
    for rows in ([[0, 1, 2, 3, 4]], [[0], [1], [2], [3], [4]]):
        model = make_model().double()
        for name, module in model.named_modules():
            if name.endswith("norm"):
                norm = torch.nn.RMSNorm(module.weight.shape, eps=module.variance_epsilon, dtype=torch.float64)
                model.set_submodule(name, norm)
        logprobs_N = torch.cat([forwarded(model, batch.rows(torch.tensor(part)))[0] for part in rows])
        (logprobs_N * torch.linspace(-1.0, 2.0, len(logprobs_N)).double()).sum().backward()
        results.append([logprobs_N, *(parameter.grad for parameter in model.parameters())])
    for one, other in zip(*results, strict=True):
        assert torch.allclose(one, other, rtol=0, atol=1e-12)


def test_only_what_is_worth_it_and_allowed_is_forwarded_apart(make_model):
    whole = [(5, 34)]
    assert forwarded(make_model(), beginning_alike(15))[1] == [(5, 32)]  # too short
    assert forwarded(make_model(), beginning_alike(16))[1] == [(1, 16), (5, 33 - 16)]
    assert forwarded(make_model(), beginning_alike(16, num_rows=2))[1] == [(1, 16), (2, 8)]
    # A sampled token that all rows have in common is predicted from the state before it, in every row.
    batch = beginning_alike(17)
    batch.is_sampled_BT[:, 16] = True
    assert forwarded(make_model(), batch)[1] == whole
    assert forwarded(make_model(), beginning_alike(17))[1] == [(1, 17), (5, 17)]
    checkpointed = make_model()
    for module in checkpointed.modules():
        if hasattr(module, "gradient_checkpointing"):
            module.gradient_checkpointing = True
    checkpointed.eval()  # or the layers would ask for the function to checkpoint with
    assert forwarded(checkpointed, beginning_alike(17))[1] == whole
    windowed = make_model(layer_types=["sliding_attention"] * 2, sliding_window=8, use_sliding_window=True)
    assert forwarded(windowed, beginning_alike(17))[1] == whole
    assert forwarded(make_model().double(), beginning_alike(17))[1] == whole
    sharded = make_model()  # as ZeRO-3 marks its weights
    next(sharded.parameters()).ds_id = 0
    assert forwarded(sharded, beginning_alike(17))[1] == whole


def test_the_surrogate_by_hand():
    # Ratios 1.5, 1.1, 0.5 with advantages 2, -1, 1 and radius 0.2: min(3, 2.4), min(-1.1, -1.1), min(0.5, 0.8).
    ratios = torch.tensor([1.5, 1.1, 0.5], dtype=torch.float64)
    loss, sums = clipped_surrogate(
        ratios.log() - 0.7,
        torch.full((3,), -0.7, dtype=torch.float64),
        torch.tensor([2.0, -1.0, 1.0]).double(),
        10,
        0.2,
    )
    assert loss.item() == pytest.approx(-(2.4 - 1.1 + 0.5) / 10, abs=1e-12)
    assert sums["clip_ratio"].item() == 1
    logs = [math.log(ratio) for ratio in (1.5, 1.1, 0.5)]
    assert sums["approx_kl"].item() == pytest.approx(0.5 - logs[0] + 0.1 - logs[1] - 0.5 - logs[2], abs=1e-12)
    assert sums["logprob_gap"].item() == pytest.approx(logs[0] + logs[1] - logs[2], abs=1e-12)


@pytest.mark.parametrize(
    ("ratio", "advantage", "is_clipped"),
    [(1.3, 1.0, True), (0.7, 1.0, False), (1.1, 1.0, False), (1.3, -1.0, False), (0.7, -1.0, True), (0.9, -1.0, False)],
)
def test_the_clip_stops_each_sign_on_its_own_side(ratio, advantage, is_clipped):
    logprobs_N = torch.tensor([math.log(ratio)], dtype=torch.float64, requires_grad=True)
    loss, sums = clipped_surrogate(logprobs_N, torch.zeros(1).double(), torch.tensor([advantage]).double(), 4, 0.2)
    loss.backward()
    # d/dlogp of -r A / n is -r A / n; where the clip holds, exactly nothing.
    assert logprobs_N.grad.item() == (0.0 if is_clipped else pytest.approx(-ratio * advantage / 4, abs=1e-12))
    assert sums["clip_ratio"].item() == is_clipped


def test_at_ratio_one_the_gradient_is_the_policy_gradient(make_model, rollouts):
    batch, gradients = whole_batch(rollouts), []
    for kind in ("surrogate", "plain"):
        model = make_model().double()
        logprobs_N, _ = sampled_logprobs(model, batch.ids_BT, batch.is_sampled_BT, 1.0)
        advantages_N = ADVANTAGES.double()[:, None].expand_as(batch.is_sampled_BT)[batch.is_sampled_BT]
        if kind == "surrogate":
            loss, _ = clipped_surrogate(logprobs_N, logprobs_N.detach(), advantages_N, 50, 0.2)
        else:
            loss = -(advantages_N * logprobs_N).sum() / 50
        loss.backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    for one, other in zip(*gradients, strict=True):
        assert torch.allclose(one, other, rtol=0, atol=1e-12)
    assert any(gradient.abs().max() > 1e-3 for gradient in gradients[0])


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-10)])
def test_padding_and_micro_batches_change_nothing(make_model, rollouts, dtype, tolerance):
    batch = whole_batch(rollouts)
    num_tokens = float(batch.is_sampled_BT.sum())

    def gradient(parts):
        model = make_model().to(dtype)
        total = 0.0
        for part in parts:
            loss = surrogate(model, part, num_tokens)
            loss.backward()
            total += loss.item()
        return total, [parameter.grad for parameter in model.parameters()]

    # One at a time there is no padding at all; the whole batch is padded to the longest, and once far beyond it.
    alone = [make_batch([rollouts[row]], ADVANTAGES[[row]], torch.tensor([True])) for row in range(len(rollouts))]
    padded = make_batch(
        [*rollouts, Rollout((0,) * 90, (False,) * 90, (0.0,) * 90, 90, None, None, None)],
        torch.cat([ADVANTAGES, torch.zeros(1)]),
        torch.ones(8, dtype=torch.bool),
    )
    want_loss, want = gradient(alone)
    ways = {size: [batch.rows(part) for part in micro_batches(rollouts, range(7), size)] for size in (1, 2, 3, 7)}
    for parts in [*ways.values(), [batch], [padded]]:
        loss, got = gradient(parts)
        assert loss == pytest.approx(want_loss, abs=tolerance)
        for one, other in zip(got, want, strict=True):
            assert torch.allclose(one, other, rtol=0, atol=tolerance)


def test_only_positions_before_sampled_tokens_get_gradient(make_model, rollouts):
    model, batch = make_model(), whole_batch(rollouts)
    kept = []

    def keep(decoder, inputs, output):
        output.last_hidden_state.retain_grad()
        kept.append(output.last_hidden_state)

    model.get_decoder().register_forward_hook(keep)
    surrogate(model, batch, 10.0, epsilon=100.0).backward()
    gradient_BT = kept[0].grad.abs().amax(dim=-1)
    predicts_BT = batch.is_sampled_BT[:, 1:]
    assert (gradient_BT[~predicts_BT] == 0).all()
    assert (gradient_BT[predicts_BT] > 0).all()


def test_what_was_not_sampled_is_never_read(make_model, rollouts):
    model, batch = make_model(), whole_batch(rollouts)
    want = surrogate(model, batch, 10.0)
    batch.old_logprobs_BT[~batch.is_sampled_BT] = torch.nan
    last_T = batch.is_sampled_BT.float().cumsum(dim=1) == batch.is_sampled_BT.sum(dim=1, keepdim=True)
    batch.ids_BT[last_T & ~batch.is_sampled_BT] = 299  # padding, and what the environment said last
    assert torch.equal(surrogate(model, batch, 10.0), want)
    # The other way round: a sampled token that changes does change the loss.
    row, position = batch.is_sampled_BT.nonzero()[5]
    batch.ids_BT[row, position] += 1
    assert not torch.equal(surrogate(model, batch, 10.0), want)


def test_the_pull_of_a_reference_by_hand():
    policy_N = torch.tensor([0.5, 0.25, 0.8]).log().requires_grad_()
    kl_N = reference_kl(policy_N, torch.tensor([0.5, 0.5, 0.2]).log())
    # ref / policy - log(ref / policy) - 1
    want = [0.0, 2.0 - math.log(2.0) - 1.0, 0.25 + math.log(4.0) - 1.0]
    assert kl_N.tolist() == pytest.approx(want, abs=1e-6)
    (gradient_N,) = torch.autograd.grad(kl_N.sum(), policy_N)
    assert gradient_N.tolist() == pytest.approx([0.0, 1.0 - 2.0, 1.0 - 0.25], abs=1e-6)


def test_its_mean_under_the_policy_is_the_divergence():
    policy_V, reference_V = torch.tensor([0.7, 0.2, 0.1]), torch.tensor([0.2, 0.3, 0.5])
    divergence = float((policy_V * (policy_V / reference_V).log()).sum())
    assert float((policy_V * reference_kl(policy_V.log(), reference_V.log())).sum()) == pytest.approx(divergence)
