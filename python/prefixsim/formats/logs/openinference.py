"""OpenInference (Phoenix, Arize): where a span keeps a call; its request is ``input.value``."""

from __future__ import annotations

from collections.abc import Sequence

from prefixsim._json import JsonObject
from prefixsim.formats.logs._bodies import read_answer, read_request
from prefixsim.formats.logs._call import Call
from prefixsim.formats.logs._places import as_object, count, label

__all__ = ["NAMES_SPANS", "is_call", "read"]

NAMES_SPANS = True
"""Whether a call is named by its span, as the answer's id is no field of its own."""


def is_call(attributes: JsonObject, events: Sequence[str]) -> bool:
    """Whether a span is a call of a model."""
    del events
    return attributes.get("openinference.span.kind") == "LLM"


def read(call: Call, attributes: JsonObject, records: Sequence[object]) -> None:
    """Read a call from the attributes of its span."""
    del records
    if label(attributes, ("llm.provider", "llm.system")) == "anthropic":
        call.api = "messages"
    body = as_object(attributes.get("input.value"))
    if body:
        read_request(call, body)
    elif str(attributes.get("input.value", "")).lstrip().startswith("{"):
        call.give_up("truncated")
    call.prompt_tokens = count(attributes, ("llm.token_count.prompt",))
    call.output_tokens = count(attributes, ("llm.token_count.completion",))
    call.cached_tokens = count(attributes, ("llm.token_count.prompt_details.cache_read",))
    call.model = call.model or label(attributes, ("llm.model_name",))
    if call.outcome != "error":
        _read_answer(call, attributes)


def _read_answer(call: Call, attributes: JsonObject) -> None:
    """Read the answer: its body, or the attributes of its messages where the body is not whole."""
    counts = (call.prompt_tokens, call.output_tokens, call.cached_tokens)
    read_answer(call, attributes.get("output.value"))
    call.prompt_tokens, call.output_tokens, call.cached_tokens = counts
    if call.outputs is None:
        texts = _numbered(attributes, "llm.output_messages", "message.content")
        texts = texts or _numbered(attributes, "llm.choices", "completion.text")
        call.outputs = texts or None
        call.output_calls = [] if texts else None


def _numbered(attributes: JsonObject, prefix: str, name: str) -> list[str]:
    texts: list[str] = []
    while isinstance(text := attributes.get(f"{prefix}.{len(texts)}.{name}"), str):
        texts.append(text)
    return texts
