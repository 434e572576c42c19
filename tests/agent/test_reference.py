"""What holds a policy by the model it started from: the term of the loss, and who computes it."""

import dataclasses

import pytest
import torch
from training_runs import metrics, same, weights

from awpo_agent.advantages import grpo
from awpo_agent.config import AWPOConfig
from awpo_agent.losses import sampled_logprobs
from awpo_agent.policy import prepare_policy
from awpo_agent.reference import Reference

LORA = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")  # peft 0.21 asks for it
EITHER = pytest.mark.parametrize("lora_r", [0, pytest.param(4, marks=LORA)])


@EITHER
def test_the_reference_stays_what_the_policy_was(make_model, lora_r):
    torch.manual_seed(0)
    policy = prepare_policy(make_model(0), AWPOConfig(lora_r=lora_r))
    reference = Reference(policy, 0.7, torch.device("cpu"))
    ids_BT, is_sampled_BT = torch.randint(5, 200, (3, 20)), torch.zeros(3, 20, dtype=torch.bool)
    is_sampled_BT[:, 12:] = True

    def score(ids_BT, is_sampled_BT):
        return sampled_logprobs(policy, ids_BT, is_sampled_BT, 0.7)

    before_N = score(ids_BT, is_sampled_BT)[0].detach()
    with torch.no_grad():
        for parameter in policy.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05 * torch.randn_like(parameter))
    assert not torch.allclose(score(ids_BT, is_sampled_BT)[0], before_N, atol=1e-3)
    got_N = reference.logprobs(score, ids_BT, is_sampled_BT)
    assert torch.equal(got_N, before_N) and not got_N.requires_grad


@EITHER
def test_it_holds_the_policy_back_and_a_resumed_run_has_the_same(run, lora_r):
    settings = {"lora_r": lora_r, "learning_rate": 1e-2, "num_iterations": 2}
    free, held = run("free", **settings, beta=1e-12), run("held", **settings, beta=50.0)
    assert metrics(held)[-1]["kl"] < 0.5 * metrics(free)[-1]["kl"]
    assert "kl" not in metrics(run("without", **settings, max_steps=1))[0]
    run("parts", **settings, beta=50.0, max_steps=2)
    parts = run("parts", **settings, beta=50.0, resume_from_checkpoint="last")
    assert same(weights(parts), weights(held)) and metrics(parts) == metrics(held)


def test_it_pulls_where_no_advantage_does(run):
    num_calls = 0

    def first_step_alone(**arguments):
        nonlocal num_calls
        num_calls += 1
        advantages = grpo(**arguments)
        still = torch.zeros_like(advantages.advantages_PG)
        return advantages if num_calls == 1 else dataclasses.replace(advantages, advantages_PG=still)

    lines = metrics(run(learning_rate=1e-2, beta=0.25, estimator=first_step_alone))
    assert lines[0]["kl"] == pytest.approx(0.0, abs=1e-9)  # it starts where its reference is
    for line in lines[1:]:
        assert line["kl"] > 1e-3 and line["grad_norm"] > 1e-3
        assert line["loss"] == pytest.approx(0.25 * line["kl"], rel=1e-5)
