"""A judge model that is tiny and knows six transcripts by heart, so that right scores are known.

Of any other it says something, which counts for whether a score is a valid one and belongs to its transcript.
"""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from awpo_env.judges.prompts import write_prompt
from awpo_env.judges.rubric_file import Rubric
from awpo_env.types import Score

case = runpy.run_path(str(Path(__file__).parents[1] / "env" / "conftest.py"))["case_transcript"]

RUBRIC = """
name: short
highest_mark: 4
criteria:
  - {name: grounded, weight: 2, question: "Is it true?"}
  - {name: brief, weight: 1, question: "Is it short?"}
"""
NAMES = ("grounded", "brief")
KNOWN = range(6)
MARKS = [(number % 5, (3 * number + 1) % 5) for number in KNOWN]
TAGS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def right_score(number: int) -> Score:
    grounded, brief = MARKS[number]
    parts = {"grounded": grounded / 4, "brief": brief / 4}
    return Score((2 * grounded + brief) / 12, f"case {number}", parts)


def assert_known(scores: list[Score]) -> None:
    for number, score in zip(KNOWN, scores, strict=True):
        assert score.reason == f"case {number}", score
        assert score.parts == right_score(number).parts
        assert score.value == pytest.approx(right_score(number).value)


def save_judge(rubric: Path, folder: Path) -> None:
    """Train a model on the right replies to the known transcripts until it knows them, and save it."""
    prompts = [write_prompt("single", Rubric.load(rubric), [case(number)]) for number in KNOWN]
    replies = []
    for number, prompt in enumerate(prompts):
        marks = dict(zip(NAMES, MARKS[number], strict=True))
        verdict = {"id": prompt.ids[0], "rationale": f"case {number}", "marks": marks}
        replies.append(json.dumps({"verdicts": [verdict]}))
    tokenizer = train_plain_tokenizer([*replies, *(m["content"] for p in prompts for m in p.messages)])
    asked = [
        tokenizer.apply_chat_template(list(prompt.messages), tokenize=False, add_generation_prompt=True)
        for prompt in prompts
    ]
    learn_by_heart(tokenizer, asked, replies).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def train_plain_tokenizer(texts: list[str]) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=1000, special_tokens=list(TAGS), initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>", chat_template=TEMPLATE
    )


def learn_by_heart(tokenizer: PreTrainedTokenizerFast, asked: list[str], replies: list[str]) -> Qwen3ForCausalLM:
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=32,
        intermediate_size=128,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(0)
    model = Qwen3ForCausalLM(config)
    rows = [
        (tokenizer.encode(a), [*tokenizer.encode(r), tokenizer.eos_token_id])
        for a, r in zip(asked, replies, strict=True)
    ]
    length = max(len(prompt) + len(reply) for prompt, reply in rows)
    ids_BT, labels_BT = torch.full((len(rows), length), tokenizer.pad_token_id), torch.full((len(rows), length), -100)
    for row, (prompt, reply) in enumerate(rows):
        ids_BT[row, : len(prompt) + len(reply)] = torch.tensor(prompt + reply)
        labels_BT[row, len(prompt) : len(prompt) + len(reply)] = torch.tensor(reply)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(500):
        loss = model(ids_BT, labels=labels_BT).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if loss.item() < 0.02:
            return model
    pytest.fail(f"the model did not learn its replies by heart, its loss is {loss.item():.3f}")
