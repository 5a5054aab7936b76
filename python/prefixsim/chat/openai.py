"""OpenAI style: ``{"messages": [{"role": role, "content": text or parts}, ...]}``."""

from __future__ import annotations

from collections import Counter

from prefixsim._json import JsonObject
from prefixsim.chat.model import (
    BadRowError,
    Message,
    as_list,
    as_text,
    describe,
    message_of,
    role_of,
)

__all__ = ["FIELD", "message", "messages"]

FIELD = "messages"


def messages(row: object, repairs: Counter[str]) -> tuple[Message, ...]:
    """Return the messages of one row."""
    return tuple(
        message(message_of(value, f"{FIELD}[{i}]"), f"{FIELD}[{i}]", repairs)
        for i, value in enumerate(as_list(row, FIELD))
    )


def message(value: JsonObject, where: str, repairs: Counter[str]) -> Message:
    """Return one role/content message, found at the field ``where``."""
    for field in ("role", "content"):
        if field not in value and not (field == "content" and "tool_calls" in value):
            msg = f"field '{where}.{field}' is missing"
            raise BadRowError("wrong_schema", msg)
    role = role_of(value["role"], f"{where}.role")
    return Message(role, _content(value.get("content"), role, f"{where}.content", repairs))


def _content(content: object, role: str, where: str, repairs: Counter[str]) -> str:
    if content is None and role == "assistant":  # a turn that only calls tools
        repairs["assistant_messages_without_content"] += 1
        return ""
    if not isinstance(content, list):
        return as_text(content, where, repairs)
    texts = []
    for i, part in enumerate(content):
        if isinstance(part, str):
            texts.append(as_text(part, f"{where}[{i}]", repairs))
        elif not isinstance(part, dict):
            msg = f"field '{where}[{i}]': expected a content part, found {describe(part)}"
            raise BadRowError("wrong_schema", msg)
        elif "text" in part:
            texts.append(as_text(part["text"], f"{where}[{i}].text", repairs))
        else:  # images, audio: nothing a text tokenizer could read
            repairs["content_parts_without_text"] += 1
    return "".join(texts)
