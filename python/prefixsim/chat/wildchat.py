"""WildChat and LMSYS-Chat: a column ``conversation`` of role/content messages, as Parquet."""

from __future__ import annotations

from collections import Counter

from prefixsim.chat import openai
from prefixsim.chat.model import Message, as_list, message_of

__all__ = ["FIELD", "messages"]

FIELD = "conversation"


def messages(row: object, repairs: Counter[str]) -> tuple[Message, ...]:
    """Return the messages of one row."""
    return tuple(
        openai.message(message_of(value, f"{FIELD}[{i}]"), f"{FIELD}[{i}]", repairs)
        for i, value in enumerate(as_list(row, FIELD))
    )
