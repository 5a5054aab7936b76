"""Conversations, and the checks that every source format shares."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from prefixsim._json import JsonObject
from prefixsim._printable import encodable

__all__ = [
    "ROLES",
    "BadRowError",
    "Conversation",
    "Message",
    "Role",
    "as_list",
    "as_text",
    "role_of",
]

Role = Literal["user", "assistant", "system", "tool"]
"""Who speaks. Only ``user`` messages become requests; the others are context or answers."""

ROLES: dict[str, Role] = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "assistant": "assistant",
    "system": "system",
    "developer": "system",
    "tool": "tool",
    "function": "tool",
}
"""The role names of all source formats."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation."""

    role: Role
    text: str


@dataclass(frozen=True, slots=True)
class Conversation:
    """One conversation, messages in order.

    Attributes
    ----------
    index : int
        0-based position among the conversations of the file, bad rows not counted.
    id : str
        The source's id, not always unique; empty if there is none.
    messages : tuple of Message
    where : str
        ``file:line``, for messages.
    """

    index: int
    id: str
    messages: tuple[Message, ...]
    where: str = ""


class BadRowError(Exception):
    """A row that cannot be used.

    Parameters
    ----------
    reason : str
        Short name under which such rows are counted.
    message : str
        What is wrong, for the user.
    line : int, optional
        Line (or Parquet row) where it was found, if not the row's own.
    ends_file : bool
        Nothing after this row can be read.
    """

    def __init__(
        self, reason: str, message: str, *, line: int | None = None, ends_file: bool = False
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.line = line
        self.ends_file = ends_file


_JSON_NAMES = {dict: "an object", list: "an array", str: "a string", bool: "a boolean"}


def describe(value: object) -> str:
    """Name the JSON type of a value, for messages."""
    if value is None:
        return "null"
    return _JSON_NAMES.get(type(value), "a number")


def as_list(row: object, field: str) -> Sequence[object]:
    """Return the array in ``row[field]``."""
    if not isinstance(row, dict):
        msg = f"expected an object with the field '{field}', found {describe(row)}"
        raise BadRowError("wrong_schema", msg)
    if field not in row:
        shown = ", ".join(f"'{name}'" for name in list(row)[:6]) or "no fields"
        msg = f"field '{field}' is missing (found {shown})"
        raise BadRowError("wrong_schema", msg)
    value = row[field]
    if not isinstance(value, list):
        msg = f"field '{field}': expected an array of messages, found {describe(value)}"
        raise BadRowError("wrong_schema", msg)
    return value


def as_text(value: object, field: str, repairs: Counter[str]) -> str:
    """Return a string that can be encoded; lone surrogates become U+FFFD and are counted."""
    if not isinstance(value, str):
        msg = f"field '{field}': expected a string, found {describe(value)}"
        raise BadRowError("wrong_schema", msg)
    text = encodable(value)
    if text is not value:
        repairs["messages_with_lone_surrogates"] += 1
    return text


def role_of(value: object, field: str) -> Role:
    """Return the role that a source's name stands for."""
    role = ROLES.get(value) if isinstance(value, str) else None
    if role is None:
        known = ", ".join(ROLES)
        shown = f"'{value}'" if isinstance(value, str) else describe(value)
        msg = f"field '{field}': unknown role {shown}, expected one of {known}"
        raise BadRowError("unknown_role", msg)
    return role


def message_of(value: object, where: str) -> JsonObject:
    """Return the object of one message."""
    if not isinstance(value, dict):
        msg = f"field '{where}': expected an object, found {describe(value)}"
        raise BadRowError("wrong_schema", msg)
    return value
