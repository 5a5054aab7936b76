"""Messages of every API in OpenAI's form: what a chat template is given.

A message is ``{"role", "content", "tool_calls", "tool_call_id"}``. Contents may be texts or parts;
parts differ by API (OpenAI, Anthropic, Bedrock's Converse, Gemini, OpenTelemetry), and the table
below says which is what.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from typing import cast

from prefixsim._json import JsonObject
from prefixsim.formats._rows import BadFieldError

__all__ = [
    "content_text",
    "has_images",
    "images_in",
    "messages_of",
    "system_message",
    "tool_call",
    "tools_of",
]

_TEXT_TYPES = {"text", "input_text", "output_text", "refusal"}
_IMAGES = ("image_url", "image", "input_image", "inlineData", "inline_data", "fileData", "blob",
           "uri", "video", "document", "input_audio", "file", "audio_url", "video_url")  # fmt: skip
_MARKS = ("cachePoint", "cache_control", "guardContent")
_ROLES = {"model": "assistant", "ai": "assistant", "human": "user"}


def tool_call(name: object, arguments: object, call_id: object = None) -> JsonObject:
    """Return a call of a tool in OpenAI's form."""
    if not isinstance(arguments, str):
        arguments = json.dumps({} if arguments is None else arguments, ensure_ascii=False)
    call: JsonObject = {"type": "function", "function": {"name": name, "arguments": arguments}}
    return call if call_id is None else {"id": call_id, **call}


def _result(content: object, call_id: object) -> JsonObject:
    if not isinstance(content, str):
        content = content_text(content)
    message = {"role": "tool", "content": content}
    return message if call_id is None else {**message, "tool_call_id": call_id}


def _json_text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


# Parts that are calls of tools, and results, by the key or type that marks them.
_CALLS: dict[str, Callable[[JsonObject], JsonObject]] = {
    "tool_use": lambda p: tool_call(p.get("name"), p.get("input"), p.get("id")),
    "tool_call": lambda p: tool_call(p.get("name"), p.get("arguments"), p.get("id")),
    "function_call": lambda p: tool_call(p.get("name"), p.get("arguments"), p.get("call_id")),
    "toolUse": lambda p: tool_call(
        p["toolUse"].get("name"), p["toolUse"].get("input"), p["toolUse"].get("toolUseId")
    ),
    "functionCall": lambda p: tool_call(
        p["functionCall"].get("name"), p["functionCall"].get("args")
    ),
}
_RESULTS: dict[str, Callable[[JsonObject], JsonObject]] = {
    "tool_result": lambda p: _result(p.get("content"), p.get("tool_use_id")),
    "tool_call_response": lambda p: _result(p.get("response", p.get("result")), p.get("id")),
    "function_call_output": lambda p: _result(p.get("output"), p.get("call_id")),
    "toolResult": lambda p: _result(
        p["toolResult"].get("content"), p["toolResult"].get("toolUseId")
    ),
    "functionResponse": lambda p: _result(
        _json_text(p["functionResponse"].get("response")), p["functionResponse"].get("name")
    ),
}


def _kind(part: JsonObject) -> str | None:
    """Return the type of a part, named or told by its only key."""
    kind = part.get("type")
    if isinstance(kind, str):
        return kind
    return next((key for key in (*_CALLS, *_RESULTS) if isinstance(part.get(key), dict)), None)


def _part_text(part: object) -> str | None:
    """Return the text of a part, if it is one of text."""
    if isinstance(part, str):
        return part
    if not isinstance(part, dict):
        return None
    kind = part.get("type")
    if kind is None or kind in _TEXT_TYPES:
        text = part.get("text", part.get("content", part.get("refusal")))
        return text if isinstance(text, str) else None
    return None


def content_text(content: object) -> str:
    r"""Return the texts of a content, joined by line ends.

    >>> content_text([{"type": "text", "text": "a"}, {"type": "image"}, "b"])
    'a\nb'
    """
    if isinstance(content, str):
        return content
    if isinstance(content, dict):
        content = content.get("parts", [content])
    if not isinstance(content, list):
        return ""
    return "\n".join(text for text in map(_part_text, content) if text is not None)


def system_message(content: object, role: str = "system") -> list[JsonObject]:
    """Return the message of a system prompt that stands beside the messages, if there is any."""
    if isinstance(content, dict):
        content = content.get("parts", [content])
    if isinstance(content, str):
        return [{"role": role, "content": content}] if content else []
    if not isinstance(content, list):
        return []
    parts = _plain_parts(content)
    return [{"role": role, "content": parts}] if parts else []


def _plain_parts(parts: Sequence[object]) -> list[object]:
    """Return parts without marks of caching, texts in OpenAI's form, others as they are."""
    plain: list[object] = []
    for part in parts:
        text = _part_text(part)
        if text is not None:
            plain.append(part if isinstance(part, str) else {"type": "text", "text": text})
        elif isinstance(part, dict) and not any(mark in part for mark in _MARKS):
            plain.append(part)
    return plain


def messages_of(values: object, where: str = "messages") -> list[JsonObject]:
    """Return messages in OpenAI's form.

    Raises
    ------
    BadFieldError
        For the first thing that is no message.
    """
    if not isinstance(values, list) or not values:
        raise BadFieldError(where, "expected an array of messages")
    messages: list[JsonObject] = []
    for i, value in enumerate(values):
        messages += _message(value, f"{where}[{i}]")
    return messages


def _message(value: object, where: str) -> list[JsonObject]:
    if not isinstance(value, dict):
        raise BadFieldError(where, "expected an object with role and content")
    kind = value.get("type")
    if kind in _CALLS:
        return [{"role": "assistant", "content": "", "tool_calls": [_CALLS[kind](value)]}]
    if kind in _RESULTS:
        return [_RESULTS[kind](value)]
    if kind == "reasoning":
        return []
    role = value.get("role")
    if not isinstance(role, str):
        raise BadFieldError(f"{where}.role", "expected a string")
    content = value.get("content", value.get("parts"))
    if isinstance(content, list):
        return _of_parts({**value, "role": _ROLES.get(role, role)}, content, where)
    if content is not None and not isinstance(content, str):
        raise BadFieldError(f"{where}.content", "expected a string or an array of parts")
    return [{**value, "role": _ROLES.get(role, role)}]


def _of_parts(value: JsonObject, parts: list[object], where: str) -> list[JsonObject]:
    """Return the message of some parts, after those of the tool results among them."""
    calls, results, rest = [], [], []
    for k, part in enumerate(parts):
        _check_part(part, f"{where}.content[{k}]")
        if not isinstance(part, dict):
            rest.append(part)
        elif (kind := _kind(part)) in _CALLS:
            calls.append(_CALLS[kind](part))
        elif kind in _RESULTS:
            results.append(_RESULTS[kind](part))
        else:
            rest.append(part)
    message = {key: v for key, v in value.items() if key not in ("content", "parts")}
    plain = _plain_parts(rest)
    if calls:
        message |= {"content": content_text(plain), "tool_calls": calls}
    elif plain or not results:
        message["content"] = plain
    else:
        return results
    return [*results, message]


def _check_part(part: object, where: str) -> None:
    if isinstance(part, str):
        return
    if not isinstance(part, dict):
        raise BadFieldError(where, "expected an object or a string")
    if not isinstance(part.get("text", ""), str):
        raise BadFieldError(f"{where}.text", "expected a string")


def images_in(message: JsonObject) -> int:
    """Return how many parts of a message are pictures, sound or files."""
    content = message.get("content")
    if not isinstance(content, list):
        return 0
    return sum(
        isinstance(part, dict) and (part.get("type") in _IMAGES or any(k in part for k in _IMAGES))
        for part in content
    )


def has_images(messages: Sequence[JsonObject]) -> bool:
    """Whether any part of the messages is a picture, sound or a file."""
    return any(images_in(message) for message in messages)


def tools_of(value: object) -> list[JsonObject]:
    """Return definitions of tools in OpenAI's form."""
    if isinstance(value, dict):  # Converse
        value = value.get("tools")
    tools: list[JsonObject] = []
    for tool in value if isinstance(value, list) else []:
        if not isinstance(tool, dict):
            continue
        declared = tool.get("functionDeclarations", tool.get("function_declarations", [tool]))
        tools.extend(map(_tool, cast("Iterable[JsonObject]", declared)))
    return tools


def _tool(tool: JsonObject) -> JsonObject:
    if not tool.keys() & {"toolSpec", "input_schema", "parameters", "inputSchema", "description"}:
        return tool
    spec = tool.get("toolSpec", tool)
    schema = spec.get("input_schema", spec.get("parameters", spec.get("inputSchema")))
    if isinstance(schema, dict) and "json" in schema:
        schema = schema["json"]
    function = {"name": spec.get("name"), "description": spec.get("description")}
    if schema is not None:
        function["parameters"] = schema
    return {"type": "function", "function": {k: v for k, v in function.items() if v is not None}}
