"""Records of the learner, from sampled tokens to a training batch, and the legend of shape suffixes.

Suffixes on tensors: P prompts (tasks) in a batch, G rollouts per prompt, B = P * G sequences, T tokens of a sequence,
N sampled tokens of a batch (the only ones that carry loss), V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from awpo_env.types import Outcome, Score, Transcript


@dataclass(frozen=True, slots=True)
class Rollout:
    """One finished episode as tokens and rewards.

    Attributes:
        ids: The whole conversation, prompt first; what was sampled stands here as it was sampled.
        is_sampled: Per id, whether the policy sampled it; the rest came from the template, the user or a tool.
        logprobs: Per id, its log-probability when it was sampled; 0.0 where it was not.
        num_prompt_tokens: Length of the first prompt.
        transcript: The same episode as messages.
        outcome: The verifiable reward, or None when the environment broke: such an episode neither trains nor votes.
        reasoning: The judge's score, possibly missing; None when there is no judge.
        reference: The judge's score of the task's own solution; None where it was not asked for, or there is none.
        info: What the environment reported at the end that is fit for a log (task id, kind, status).
    """

    ids: tuple[int, ...]
    is_sampled: tuple[bool, ...]
    logprobs: tuple[float, ...]
    num_prompt_tokens: int
    transcript: Transcript
    outcome: Outcome | None
    reasoning: Score | None
    reference: Score | None = None
    info: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        assert len(self.ids) == len(self.is_sampled) == len(self.logprobs), "one mark and one log-probability per id"
        assert not any(self.is_sampled[: self.num_prompt_tokens]), "the prompt is never sampled"

    @property
    def num_sampled_tokens(self) -> int:
        """How many ids the policy sampled."""
        return sum(self.is_sampled)


@dataclass(frozen=True, slots=True)
class TrainBatch:
    """Sequences padded on the right, with what the loss needs of every sampled token.

    Attributes:
        ids_BT: Token ids, padding 0. Causal attention never lets padding on the right reach a real token.
        is_sampled_BT: True at tokens that carry loss.
        old_logprobs_BT: Log-probabilities at sampling time, 0 elsewhere.
        advantages_B: One advantage per sequence.
        weights_BT: By what each token's loss is multiplied, see `importance_weights`.
    """

    ids_BT: torch.Tensor
    is_sampled_BT: torch.Tensor
    old_logprobs_BT: torch.Tensor
    advantages_B: torch.Tensor
    weights_BT: torch.Tensor

    def rows(self, indices: torch.Tensor) -> TrainBatch:
        """Return the given sequences, cut to the longest of them."""
        is_sampled_BT = self.is_sampled_BT[indices]
        used_T = is_sampled_BT.any(dim=0).nonzero()
        length = int(used_T[-1]) + 1 if len(used_T) else 2  # one position to predict from is the least a model takes
        return TrainBatch(
            self.ids_BT[indices, :length],
            is_sampled_BT[:, :length],
            self.old_logprobs_BT[indices, :length],
            self.advantages_B[indices],
            self.weights_BT[indices, :length],
        )
