"""Messages and tools to token ids, append-only: what was sampled is never encoded again."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

from awpo_env.errors import UsageError
from awpo_env.types import Message

_MARK = "DUMMYREPLY"  # what a dummy assistant says, to be found again in rendered text
_DUMMY_CALL = {"id": "call_0", "type": "function", "function": {"name": "tool", "arguments": "{}"}}


def tag_breaker(tokenizer: PreTrainedTokenizerBase) -> Callable[[str], str]:
    """Return a function that breaks up the tokenizer's tags in a text, which then cannot end a turn or open a role."""
    # Some vocabularies add runs of spaces, which are no tags, and a single character that cannot be broken up.
    added = (tag for tag in tokenizer.get_added_vocab() if len(tag.strip()) > 1)
    tags = sorted(added, key=len, reverse=True)
    if not tags:
        return str
    pattern = re.compile("|".join(map(re.escape, tags)))
    return functools.partial(pattern.sub, _broken)


def _broken(tag: re.Match[str]) -> str:
    return f"{tag.group()[0]} {tag.group()[1:]}"


class ChatTokens:
    """Renders a conversation through the tokenizer's chat template, a piece at a time.

    The first prompt is rendered whole. After that only what the environment adds is rendered, as the template's own
    delta behind an assistant message, and appended; so a template that would rewrite history never gets the chance.

    Args:
        tokenizer: With a chat template and an end-of-sequence token that ends an assistant message.
        template_options: Passed to the chat template (``enable_thinking=False``, say).

    Raises:
        UsageError: The tokenizer has no chat template, or no end-of-sequence token, or the template ends assistant
            messages with something else.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, template_options: Mapping[str, Any] | None = None) -> None:
        if not tokenizer.chat_template:
            raise UsageError("the tokenizer has no chat template; expected one that renders tools, set chat_template")
        if tokenizer.eos_token_id is None:
            raise UsageError("the tokenizer has no end-of-sequence token; set eos_token to what ends an assistant turn")
        self.tokenizer = tokenizer
        self.options = dict(template_options or {})
        self.stop_ids = (tokenizer.eos_token_id,)
        self._break_tags = tag_breaker(tokenizer)
        user, reply = {"role": "user", "content": "x"}, {"role": "assistant", "content": _MARK}
        self._text_dialogue = [user, reply]
        self._tool_dialogue = [user, {**reply, "tool_calls": [_DUMMY_CALL]}]
        for dialogue in (self._text_dialogue, self._tool_dialogue):
            self._behind_reply(self._render(dialogue, (), add_generation_prompt=False))

    def prompt(self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]]) -> list[int]:
        """Return the ids of the first prompt, ending where the assistant starts to write."""
        return self._encode(self._render(messages, tools, add_generation_prompt=True))

    def delta(self, messages: Sequence[Message]) -> list[int]:
        """Return the ids that follow an assistant message's end token: `messages`, then the next assistant's start.

        Args:
            messages: What the environment said since: tool results, system notes, the user.
        """
        before = self._tool_dialogue if messages and messages[0]["role"] == "tool" else self._text_dialogue
        return self._encode(self._behind_reply(self._render([*before, *messages], (), add_generation_prompt=True)))

    def assistant(self, text: str) -> list[int]:
        """Return the ids of a written assistant message with its end token, for demonstrations."""
        return [*self._encode(text), self.stop_ids[0]]

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of sampled ids, end token left out, tags kept."""
        kept = ids[:-1] if ids and ids[-1] in self.stop_ids else ids
        return self.tokenizer.decode(list(kept), skip_special_tokens=False, clean_up_tokenization_spaces=False)

    def count(self, text: str) -> int:
        """Return how many tokens a text is."""
        return len(self._encode(text))

    def rewrites_history(self, tools: Sequence[Mapping[str, Any]] = ()) -> str | None:
        """Return what the template changes in an earlier turn once another follows, or None.

        Such templates (many drop the reasoning of earlier turns) are safe here, because nothing is rendered twice, but
        the model then sees more of its own reasoning than the template's authors meant.
        """
        said: list[Message] = [
            {"role": "user", "content": "first"},
            {"role": "assistant", "content": "reply", "reasoning_content": "reason"},
        ]
        before = self._render(said, tools, add_generation_prompt=False)
        after = self._render([*said, {"role": "user", "content": "second"}], tools, add_generation_prompt=False)
        if after.startswith(before):
            return None
        kept = next(i for i, (a, b) in enumerate(zip(before, after, strict=False)) if a != b)
        return f"assistant message 1 changes from {before[kept : kept + 40]!r} to {after[kept : kept + 40]!r}"

    def _behind_reply(self, text: str) -> str:
        """Return what follows the dummy reply's end token; what becomes of the reply itself is of no interest."""
        _, _, behind = text.partition(_MARK)
        _, end, rest = behind.partition(self.tokenizer.eos_token)
        if not end:
            raise UsageError(
                f"the chat template does not end assistant messages with the end-of-sequence token "
                f"{self.tokenizer.eos_token!r}; set eos_token to what does"
            )
        return rest

    def _without_tags(self, message: Message) -> Message:
        """Break up tags in what users and tools say: their text is data and must not end a turn or open a role."""
        if message["role"] not in ("user", "tool"):
            return message
        return {**message, "content": self._break_tags(message["content"])}

    def _render(self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]], **options: Any) -> str:
        return self.tokenizer.apply_chat_template(
            [self._without_tags(message) for message in messages],
            tools=list(tools) or None,
            tokenize=False,
            **self.options,
            **options,
        )

    def _encode(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False)
