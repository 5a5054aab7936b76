"""ShareGPT: ``{"id": ..., "conversations": [{"from": role, "value": text}, ...]}``."""

from __future__ import annotations

from collections import Counter

from prefixsim._json import JsonObject
from prefixsim.chat import openai
from prefixsim.chat.model import ROLES, BadRowError, Message, as_list, as_text, message_of, role_of

__all__ = ["FIELD", "messages"]

FIELD = "conversations"


def messages(row: object, repairs: Counter[str]) -> tuple[Message, ...]:
    """Return the messages of one row; files that name the parts role/content are read as well."""
    return tuple(
        _usual(value) or _message(message_of(value, f"{FIELD}[{i}]"), f"{FIELD}[{i}]", repairs)
        for i, value in enumerate(as_list(row, FIELD))
    )


def _usual(value: object) -> Message | None:
    """Return a message with which nothing can be wrong, without having named its place."""
    if isinstance(value, dict):
        sender, text = value.get("from"), value.get("value")
        if isinstance(sender, str) and isinstance(text, str) and sender in ROLES and text.isascii():
            return Message(ROLES[sender], text)
    return None


def _message(value: JsonObject, where: str, repairs: Counter[str]) -> Message:
    if "from" not in value and "role" in value:
        return openai.message(value, where, repairs)
    for field in ("from", "value"):
        if field not in value:
            msg = f"field '{where}.{field}' is missing"
            raise BadRowError("wrong_schema", msg)
    role = role_of(value["from"], f"{where}.from")
    return Message(role, as_text(value["value"], f"{where}.value", repairs))
