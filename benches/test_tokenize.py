"""Multi-turn prompts to token ids, beside encoding every prompt from its beginning.

Both give the same ids. ``extra_info`` holds unique characters per second; the baseline's work grows
with the square of the number of turns.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from prefixsim.chat import ChatReader, Conversation
from prefixsim.text.templates import multi_turn_prompts, render_none, user_turns
from prefixsim.text.tokenize import ChatTokenizer
from prefixsim.traffic.demo import sample_conversations
from prefixsim.traffic.sessions import SessionEncoder


@pytest.fixture(scope="module")
def tokenizer() -> ChatTokenizer:
    return ChatTokenizer("demo")


@pytest.fixture(scope="module")
def conversations() -> list[Conversation]:
    """Synthetic conversations of at least eight turns."""
    every = ChatReader(sample_conversations(300, seed=11))
    return [c for c in every if len(user_turns(c.messages)) >= 8]


def cut(tokenizer: ChatTokenizer, conversations: list[Conversation]) -> int:
    def refuse(bad: object, _: Conversation) -> None:
        raise AssertionError(bad)

    encoder = SessionEncoder(tokenizer, "none", "whole", refuse)
    sessions = encoder.encode(conversations)
    return sum(len(part) for s in sessions for prompt in s.multi for part in prompt)


def whole(tokenizer: ChatTokenizer, conversations: list[Conversation]) -> int:
    prompts = [p for c in conversations for p, _ in multi_turn_prompts(c.messages, render_none)]
    return int(np.sum([len(ids) for ids in tokenizer.encode(prompts, special=True)]))


@pytest.mark.parametrize("way", [cut, whole])
def test_multi_turn_prompts(
    benchmark: Any,
    tokenizer: ChatTokenizer,
    conversations: list[Conversation],
    way: Callable[..., int],
) -> None:
    tokens = benchmark.pedantic(way, (tokenizer, conversations), rounds=3)
    assert tokens == cut(tokenizer, conversations)
    unique = sum(len(m.text) for c in conversations for m in c.messages)
    benchmark.extra_info["unique_characters_per_s"] = round(unique / benchmark.stats["min"])
    benchmark.extra_info["tokens_per_s"] = round(tokens / benchmark.stats["min"])
