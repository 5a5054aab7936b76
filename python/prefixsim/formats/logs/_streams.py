"""Answers that were streamed: server-sent events, or lists of chunks, joined to one answer."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable

from prefixsim._json import JsonObject

__all__ = ["events_of", "joined"]


def events_of(text: str) -> list[JsonObject]:
    """Return the JSON objects of a text of server-sent events, without what was cut."""
    found = []
    for line in text.split("\n"):
        if line.startswith("data:"):
            try:
                value = json.loads(line[5:])
            except (ValueError, RecursionError):
                continue
            if isinstance(value, dict):
                found.append(value)
    return found


def joined(answer: object) -> object:
    """Return the answer that a stream adds up to; anything that is no stream as it is."""
    if isinstance(answer, str):
        if not answer.lstrip().startswith(("data:", "event:")):
            return answer
        answer = events_of(answer)
    if not isinstance(answer, list):
        return answer
    chunks = [chunk for chunk in answer if isinstance(chunk, dict)]
    if not chunks:
        return {}
    for reads, join in _DIALECTS:
        if any(reads(chunk) for chunk in chunks):
            return join(chunks)
    return chunks[-1]


def _openai(chunks: Iterable[JsonObject]) -> JsonObject:
    answer: JsonObject = {}
    choices: dict[int, JsonObject] = {}
    for chunk in chunks:
        answer |= {k: chunk[k] for k in ("id", "model", "usage", "created") if chunk.get(k)}
        for choice in chunk.get("choices") or ():
            whole = choices.setdefault(choice.get("index", 0), {"text": "", "calls": {}})
            delta = choice.get("delta")
            if isinstance(delta, dict):
                whole["chat"] = True
                whole["text"] += delta.get("content") or ""
                for call in delta.get("tool_calls") or ():
                    _add_call(whole["calls"], call)
            else:
                whole["text"] += choice.get("text") or ""
    answer["choices"] = [_choice(choices[index]) for index in sorted(choices)]
    return answer


def _add_call(calls: dict[int, JsonObject], delta: JsonObject) -> None:
    call = calls.setdefault(delta.get("index", 0), {"name": "", "arguments": ""})
    function = delta.get("function") or {}
    call["name"] += function.get("name") or ""
    call["arguments"] += function.get("arguments") or ""


def _choice(whole: JsonObject) -> JsonObject:
    if not whole.get("chat"):
        return {"text": whole["text"]}
    calls = [{"type": "function", "function": whole["calls"][i]} for i in sorted(whole["calls"])]
    message: JsonObject = {"role": "assistant", "content": whole["text"]}
    return {"message": {**message, "tool_calls": calls} if calls else message}


def _anthropic(chunks: Iterable[JsonObject]) -> JsonObject:
    answer: JsonObject = {}
    blocks: dict[int, JsonObject] = {}
    for chunk in chunks:
        kind = chunk.get("type")
        if kind == "message_start":
            answer = {**chunk.get("message", {}), "content": []}
        elif kind == "content_block_start":
            blocks[chunk.get("index", 0)] = {**chunk.get("content_block", {}), "json": ""}
        elif kind == "content_block_delta":
            block = blocks.setdefault(chunk.get("index", 0), {"type": "text", "json": ""})
            delta = chunk.get("delta", {})
            if delta.get("type") == "text_delta":
                block["text"] = block.get("text", "") + delta.get("text", "")
            block["json"] += delta.get("partial_json", "")
        elif kind == "message_delta":
            said = {k: v for k, v in (chunk.get("usage") or {}).items() if v is not None}
            answer["usage"] = {**(answer.get("usage") or {}), **said}
    answer["content"] = [_block(blocks[index]) for index in sorted(blocks)]
    return answer


def _block(block: JsonObject) -> JsonObject:
    written = block.pop("json")
    if block.get("type") == "tool_use" and written:
        try:
            block["input"] = json.loads(written)
        except ValueError:
            block["input"] = written
    return block


def _responses(chunks: Iterable[JsonObject]) -> JsonObject:
    whole = [c["response"] for c in chunks if isinstance(c.get("response"), dict)]
    answer: JsonObject = whole[-1]
    return answer


def _gemini(chunks: Iterable[JsonObject]) -> JsonObject:
    answer: JsonObject = {}
    parts: list[object] = []
    for chunk in chunks:
        answer |= {k: v for k, v in chunk.items() if k != "candidates"}
        for candidate in chunk.get("candidates") or ():
            parts += (candidate.get("content") or {}).get("parts") or ()
    text = "".join(
        p["text"] for p in parts if isinstance(p, dict) and isinstance(p.get("text"), str)
    )
    rest = [p for p in parts if not (isinstance(p, dict) and "text" in p)]
    answer["candidates"] = [{"content": {"role": "model", "parts": [{"text": text}, *rest]}}]
    return answer


def _converse(chunks: Iterable[JsonObject]) -> JsonObject:
    answer: JsonObject = {}
    blocks: dict[int, JsonObject] = {}
    for chunk in chunks:
        start, delta = chunk.get("contentBlockStart"), chunk.get("contentBlockDelta")
        if isinstance(start, dict):
            tool = (start.get("start") or {}).get("toolUse")
            blocks[start.get("contentBlockIndex", 0)] = {"tool": tool, "text": "", "json": ""}
        if isinstance(delta, dict):
            empty = {"tool": None, "text": "", "json": ""}
            block = blocks.setdefault(delta.get("contentBlockIndex", 0), empty)
            said = delta.get("delta") or {}
            block["text"] += said.get("text") or ""
            block["json"] += (said.get("toolUse") or {}).get("input") or ""
        metadata = chunk.get("metadata")
        if isinstance(metadata, dict):
            answer["usage"] = metadata.get("usage")
    content = []
    for index in sorted(blocks):
        block = blocks[index]
        tool, text = block["tool"], block["text"]
        call = {"toolUse": {**(tool or {}), "input": block["json"]}}
        content.append({"text": text} if tool is None else call)
    answer["output"] = {"message": {"role": "assistant", "content": content}}
    return answer


# What marks a chunk of each API, and how its chunks join.
_DIALECTS: tuple[
    tuple[Callable[[JsonObject], bool], Callable[[Iterable[JsonObject]], JsonObject]], ...
] = (
    (lambda c: "choices" in c, _openai),
    (lambda c: isinstance(c.get("response"), dict), _responses),
    (lambda c: c.get("type") in ("message_start", "content_block_delta"), _anthropic),
    (lambda c: "candidates" in c, _gemini),
    (lambda c: "contentBlockDelta" in c or "messageStart" in c, _converse),
)
