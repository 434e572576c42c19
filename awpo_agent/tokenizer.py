"""A small tokenizer of our own: byte-level BPE with Qwen3-style chat tags, trained on demonstrations."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import resources

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

END_OF_TURN = "<|im_end|>"
PADDING = "<|endoftext|>"
SPECIAL_TAGS = (
    PADDING,
    "<|im_start|>",
    END_OF_TURN,
    "<think>",
    "</think>",
    "<tool_call>",
    "</tool_call>",
    "<tool_response>",
    "</tool_response>",
)
# A word costs one token whether a space or a quotation mark stands before it, and it has to be the *same* token, or a
# small model cannot copy it from prose into JSON. So a word without a space gets one, marked by a control character
# that joins the punctuation before it; decoding takes both out again.
_JOINT = "\x1f "
_WORD_WITHOUT_SPACE = Regex(r"(?<=[^A-Za-z_\s])(?=[A-Za-z_])")
# Words take the space before them, numbers are cut into pairs of digits (all pairs are known, so an unseen number is
# copied in few, telling pieces), and a run of punctuation is one piece, so that the fixed parts of JSON are short. New
# lines stand alone: the template ends its parts with one, and parts encoded apart must equal the whole encoded at once.
_PIECES = Regex(r" ?[A-Za-z_]+|[0-9]{1,2}|\n|[^A-Za-z0-9 \n]+(?: [^A-Za-z0-9 \n]+)*| +")


def train_tokenizer(texts: Iterable[str], vocabulary_size: int) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer with the project's chat template.

    Args:
        texts: What merges are learned from, chat tags left out.
        vocabulary_size: Number of tokens, tags and the 256 bytes included; at least 300.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Replace(_WORD_WITHOUT_SPACE, _JOINT)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(_PIECES, behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Replace(_JOINT, "")])
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size,
        special_tokens=list(SPECIAL_TAGS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END_OF_TURN,
        pad_token=PADDING,
        chat_template=resources.files("awpo_agent").joinpath("chat_template.jinja").read_text(encoding="utf-8"),
        clean_up_tokenization_spaces=False,
    )
