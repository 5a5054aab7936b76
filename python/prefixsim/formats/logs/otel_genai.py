"""GenAI semantic conventions and OpenLLMetry: where spans and log records keep a call.

Content is in attributes of the span (``gen_ai.input.messages``, or flat ``gen_ai.prompt.N.*``), in
one log record with the same attributes, or in one record for each message
(``gen_ai.user.message``, ``gen_ai.choice``).
"""

from __future__ import annotations

from collections.abc import Sequence

from prefixsim._json import JsonObject
from prefixsim.formats._rows import BadFieldError
from prefixsim.formats.logs._call import Call
from prefixsim.formats.logs._messages import (
    content_text,
    messages_of,
    system_message,
    tool_call,
    tools_of,
)
from prefixsim.formats.logs._places import count, first, label, opened

__all__ = ["NAMES_SPANS", "is_call", "read"]

NAMES_SPANS = False
"""Whether a call is named by its span, as the answer's id is a field of its own."""

Record = tuple[str, JsonObject, object]

_CALLS = {"chat", "text_completion", "generate_content", "completion", "rerank"}
# OpenLLMetry's scopes; their spans say whether a call streamed, by an attribute or by none.
_OPENLLMETRY = (
    "opentelemetry.instrumentation.openai.v1",
    "opentelemetry.instrumentation.anthropic",
)
_SAID = ("system", "developer", "user", "assistant", "tool")
_INPUT = (
    "gen_ai.usage.input_tokens",
    "gen_ai.usage.prompt_tokens",
)
_OUTPUT = ("gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens")
_CACHED = ("gen_ai.usage.cache_read.input_tokens", "gen_ai.usage.cache_read_input_tokens")


def is_call(attributes: JsonObject, events: Sequence[str]) -> bool:
    """Whether a span, or the log records beside none, is a call of a model."""
    operation = first(attributes, ("gen_ai.operation.name", "llm.request.type"))[1]
    if operation is not None:
        return operation in _CALLS
    return "gen_ai.request.model" in attributes or any(e.startswith("gen_ai.") for e in events)


def read(call: Call, attributes: JsonObject, records: Sequence[Record]) -> None:
    """Read a call from the attributes of its span and its log records."""
    details = [a for name, a, _ in records if name == "gen_ai.client.inference.operation.details"]
    for more in details:
        attributes = {**more, **attributes}
    _read_names(call, attributes)
    if any(f"gen_ai.{which}.messages" in attributes for which in ("input", "output")):
        _read_messages(call, attributes)
    elif any(key.startswith("gen_ai.prompt.") for key in attributes):
        _read_flat(call, attributes)
    elif events := [(name, body) for name, _, body in records if isinstance(body, dict)]:
        _read_events(call, events)
    elif "gen_ai.tool.definitions" in attributes:
        call.tools = tools_of(opened(attributes["gen_ai.tool.definitions"]))
    if call.api == "completions" and call.messages:
        call.prompts = [content_text(m.get("content")) for m in call.messages]
        call.messages = None
    if call.outcome == "error":
        call.outputs = call.output_calls = None


def _read_names(call: Call, attributes: JsonObject) -> None:
    provider = str(first(attributes, ("gen_ai.provider.name", "gen_ai.system"))[1] or "").lower()
    operation = first(attributes, ("gen_ai.operation.name", "llm.request.type"))[1]
    api = attributes.get("openai.api.type")
    if provider == "anthropic":
        call.api = "messages"
    elif operation in ("text_completion", "completion"):
        call.api = "completions"
    elif api == "responses" or str(attributes.get("gen_ai.response.id", "")).startswith("resp_"):
        call.api = "responses"
    else:
        call.api = "chat"
    streams = first(attributes, ("gen_ai.is_streaming", "llm.is_streaming"))[1]
    says = "llm.request.type" in attributes or attributes.get("otel.scope.name") in _OPENLLMETRY
    call.stream = bool(streams) if says else None
    call.id = label(attributes, ("gen_ai.response.id",))
    call.model = label(attributes, ("gen_ai.request.model", "gen_ai.response.model"))
    call.prompt_tokens = count(attributes, _INPUT)
    call.output_tokens = count(attributes, _OUTPUT)
    call.cached_tokens = count(attributes, _CACHED)
    choices = attributes.get("gen_ai.request.choice.count")
    call.sequences = int(choices) if isinstance(choices, int) and choices > 0 else 1
    previous = attributes.get("openai.request.previous_response_id")
    call.previous = previous if isinstance(previous, str) else None


def _whole(attributes: JsonObject, name: str) -> object:
    """Return the value of an attribute of JSON; one that was cut is none."""
    value = opened(attributes.get(name))
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        raise BadFieldError(name, "cut JSON")
    return value


def _read_messages(call: Call, attributes: JsonObject) -> None:
    try:
        system = _whole(attributes, "gen_ai.system_instructions")
        values = _whole(attributes, "gen_ai.input.messages")
    except BadFieldError:
        call.give_up("truncated")
        return
    if values:
        call.messages = [*system_message(system), *messages_of(values, "gen_ai.input.messages")]
    if values or "gen_ai.tool.definitions" in attributes:
        call.tools = tools_of(opened(attributes.get("gen_ai.tool.definitions")))
    answers = opened(attributes.get("gen_ai.output.messages"))
    if isinstance(answers, list):
        _read_answers(call, messages_of(answers, "gen_ai.output.messages") if answers else [])


def _read_answers(call: Call, answers: Sequence[JsonObject]) -> None:
    call.outputs = [content_text(answer.get("content")) for answer in answers]
    call.output_calls = [made for answer in answers for made in answer.get("tool_calls", ())]


def _read_events(call: Call, events: Sequence[tuple[str, JsonObject]]) -> None:
    """Read one log record for each message."""
    messages: list[JsonObject] = []
    answers: dict[int, JsonObject] = {}
    for name, body in events:
        role = name.removeprefix("gen_ai.").removesuffix(".message")
        if role in _SAID:
            message = {"role": body.get("role", role), "content": body.get("content")}
            if body.get("tool_calls"):
                message["tool_calls"] = body["tool_calls"]
            messages.append(message)
        elif name == "gen_ai.choice":
            message = body.get("message") or {}
            answers[body.get("index", 0)] = {"role": "assistant", "content": "", **message}
    call.messages = messages_of(messages, "gen_ai.*.message") if messages else None
    if answers:
        _read_answers(call, [answers[index] for index in sorted(answers)])


def _nested(attributes: JsonObject, prefix: str) -> list[JsonObject]:
    """Return the objects that flat attributes ``prefix.N.a.M.b`` stand for, in order of N."""
    found: dict[int, JsonObject] = {}
    for key, value in attributes.items():
        if key.startswith(prefix + "."):
            number, _, name = key[len(prefix) + 1 :].partition(".")
            if number.isdecimal():
                found.setdefault(int(number), {})[name] = value
    return [found[number] for number in sorted(found)]


def _flat_message(fields: JsonObject) -> JsonObject:
    content = opened(fields.get("content"))
    parts = isinstance(content, list) and all(isinstance(p, dict) for p in content)
    message: JsonObject = {
        "role": fields.get("role", "user"),
        "content": content if parts else fields.get("content", ""),
    }
    calls = [
        tool_call(each.get("name"), each.get("arguments"), each.get("id"))
        for each in _nested(fields, "tool_calls")
    ]
    return {**message, "tool_calls": calls} if calls else message


def _read_flat(call: Call, attributes: JsonObject) -> None:
    """Read the flat attributes of older versions of OpenLLMetry."""
    prompts = _nested(attributes, "gen_ai.prompt")
    if call.api == "completions":
        call.prompts = [str(p.get("user", p.get("content", ""))) for p in prompts]
    else:
        call.messages = messages_of([_flat_message(p) for p in prompts], "gen_ai.prompt")
    functions = _nested(attributes, "llm.request.functions")
    for function in functions:
        function["parameters"] = opened(function.get("parameters"))
    call.tools = tools_of(functions)
    answers = [
        _flat_message({"role": "assistant", **c}) for c in _nested(attributes, "gen_ai.completion")
    ]
    _read_answers(call, messages_of(answers, "gen_ai.completion") if answers else [])
