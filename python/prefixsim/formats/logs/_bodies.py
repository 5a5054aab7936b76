"""Bodies of requests and answers, whatever the API: OpenAI's, Anthropic's, Bedrock's, Gemini's."""

from __future__ import annotations

import json

from prefixsim._json import JsonObject
from prefixsim.formats._rows import BadFieldError
from prefixsim.formats.logs._call import Api, Call
from prefixsim.formats.logs._messages import content_text, messages_of, system_message, tools_of
from prefixsim.formats.logs._places import as_object, count, first, label, opened
from prefixsim.formats.logs._streams import joined

__all__ = [
    "answer_text",
    "api_of",
    "prompts_of",
    "read_answer",
    "read_input",
    "read_request",
    "read_usage",
]

# Paths of the counts in a usage object; the parts of the prompt are added up, as Anthropic and
# Bedrock count what was read from and written to the cache apart.
_OUTPUT = ("completion_tokens", "output_tokens", "outputTokens", "candidatesTokenCount")
_CACHED = (
    "prompt_tokens_details/cached_tokens",
    "input_tokens_details/cached_tokens",
    "cache_read_input_tokens",
    "cacheReadInputTokens",
    "cachedContentTokenCount",
    "prompt_cache_hit_tokens",
)
_WHOLE = ("prompt_tokens", "promptTokenCount")
_PARTS = (
    ("input_tokens", "inputTokens"),
    ("cache_read_input_tokens", "cacheReadInputTokens"),
    ("cache_creation_input_tokens", "cacheWriteInputTokens"),
)
_API_OF_URL: tuple[tuple[str, Api], ...] = (
    ("/chat/completions", "chat"),
    ("/completions", "completions"),
    ("/responses", "responses"),
    ("/messages", "messages"),
)


def api_of(body: JsonObject, url: str | None = None) -> Api:
    """Return the API that a body was sent to."""
    for end, api in _API_OF_URL:
        if url and end in url:
            return api
    if "messages" not in body:
        if "contents" in body:
            return "chat"
        return "completions" if "prompt" in body and "input" not in body else "responses"
    anthropic = {"system", "anthropic_version", "inferenceConfig", "toolConfig"}
    return "messages" if anthropic & body.keys() or _has_blocks(body["messages"]) else "chat"


def _has_blocks(messages: object) -> bool:
    """Whether a content is made of Anthropic's or Bedrock's blocks."""
    every = messages if isinstance(messages, list) else []
    contents = [m.get("content") for m in every if isinstance(m, dict)]
    parts = [p for c in contents if isinstance(c, list) for p in c if isinstance(p, dict)]
    return any("type" not in p or p["type"] in ("tool_use", "tool_result") for p in parts)


def read_request(call: Call, body: JsonObject, url: str | None = None) -> None:
    """Read the body of a request into a call.

    Raises
    ------
    BadFieldError
        If it holds no prompt, or one that cannot be read.
    """
    call.api = call.api or api_of(body, url)
    tools = body.get("tools", body.get("toolConfig"))
    if tools is not None and not isinstance(tools, list | dict):
        raise BadFieldError("tools", "expected an array")
    if isinstance(body.get("tools"), dict):
        raise BadFieldError("tools", "expected an array")
    call.tools = tools_of(tools)
    options = body.get("chat_template_kwargs")
    if options is not None and not isinstance(options, dict):
        raise BadFieldError("chat_template_kwargs", "expected an object")
    if options:
        call.options = {"chat_template_kwargs": options}
    _read_prompt(call, body)
    call.user = call.user or label(body, ("user", "metadata/user_id"))
    call.model = call.model or label(body, ("model",))
    if call.stream is None:
        call.stream = bool(body.get("stream", False))
    call.salt = call.salt or label(body, ("cache_salt",)) or ""
    number = body.get("n")
    call.sequences = number if isinstance(number, int) and number > 0 else 1
    # vLLM: a request for the log probabilities of its prompt computes all of it.
    wanted = body.get("prompt_logprobs") is not None
    call.skips_cache = wanted or bool(body.get("echo") and body.get("logprobs") is not None)


def _read_prompt(call: Call, body: JsonObject) -> None:
    if "messages" in body:
        call.messages = [*system_message(body.get("system")), *messages_of(body["messages"])]
    elif "contents" in body:
        system = body.get("systemInstruction", body.get("system_instruction"))
        call.messages = [*system_message(system), *messages_of(body["contents"], "contents")]
    elif body.get("rendered") is True and isinstance(body.get("prompt"), str):
        call.rendered = body["prompt"]
    elif "prompt" in body:
        call.prompts = prompts_of(body["prompt"])
    elif "input" in body:
        read_input(call, body["input"], body.get("instructions"))
        previous = body.get("previous_response_id")
        call.previous = previous if isinstance(previous, str) else None
    else:
        raise BadFieldError("messages", "missing")


def read_input(call: Call, value: object, instructions: object = None) -> None:
    """Read the input of the Responses API: a text, or messages and other items."""
    call.api = "responses"
    if isinstance(value, str):
        value = [{"role": "user", "content": value}]
    system = instructions if isinstance(instructions, str) else None
    call.messages = [*system_message(system), *messages_of(value, "input")]


def prompts_of(value: object) -> list[str | list[int]]:
    """Return the prompts of a completion: a text, token ids, or a list of either."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, list) and value:
        if all(type(v) is int and 0 <= v < 2**32 for v in value):
            return [value]
        if all(isinstance(v, str) or _is_ids(v) for v in value):
            return value
    raise BadFieldError("prompt", "expected a text, token ids, or an array of them")


def _is_ids(value: object) -> bool:
    return isinstance(value, list) and all(type(v) is int and 0 <= v < 2**32 for v in value)


def read_answer(call: Call, answer: object) -> None:
    """Read the body of an answer into a call: texts, calls of tools, counts, its id."""
    answer = joined(opened(answer))
    if not isinstance(answer, dict):
        return
    call.response_id = label(answer, ("id", "responseId"))
    call.id = call.id or call.response_id
    call.model = call.model or label(answer, ("model", "modelVersion"))
    error = answer.get("error")
    if error and not any(key in answer for key in ("choices", "output", "content", "candidates")):
        call.outcome = "error"
        return
    outputs, calls = _outputs(answer)
    if outputs:
        call.outputs, call.output_calls = outputs, calls
    usage = as_object(answer.get("usage") or answer.get("usageMetadata"))
    read_usage(call, usage)


def _outputs(answer: JsonObject) -> tuple[list[str], list[JsonObject]]:
    """Return one text for each choice, and the calls of tools over all of them."""
    texts: list[str] = []
    calls: list[JsonObject] = []
    choices = answer.get("choices")
    if isinstance(choices, list) and choices:
        for choice in choices:
            if not isinstance(choice, dict):
                continue
            message = choice.get("message")
            if isinstance(message, dict):
                _add(_checked(message), texts, calls)
            elif isinstance(choice.get("text"), str):
                texts.append(choice["text"])
        return texts, calls
    contents = _contents(answer)
    for content in contents:
        _add({"role": "assistant", "content": content}, texts, calls)
    return texts, calls


def _contents(answer: JsonObject) -> list[object]:
    """Return the contents of the choices of an answer that has no ``choices``."""
    if isinstance(answer.get("candidates"), list):  # Gemini
        found = [first(c, ("content/parts",))[1] for c in answer["candidates"]]
        return [parts if parts is not None else [] for parts in found]
    output = answer.get("output")
    if isinstance(output, dict):  # Converse
        return [first(output, ("message/content",))[1] or []]
    if isinstance(output, list):  # Responses
        parts: list[object] = []
        for item in output:
            if isinstance(item, dict):
                content = item.get("content")
                parts += (
                    content if isinstance(content, list) and item.get("type") != "reasoning" else []
                )
                parts += [item] if item.get("type") == "function_call" else []
        return [parts]
    if isinstance(answer.get("content"), list | str) and answer.get("role") == "assistant":
        return [answer["content"]]
    return []


def _checked(message: JsonObject) -> JsonObject:
    content = message.get("content")
    if content is not None and not isinstance(content, str | list):
        raise BadFieldError("response.choices[0].message.content", "expected a string")
    return {"role": "assistant", **message}


def _add(message: JsonObject, texts: list[str], calls: list[JsonObject]) -> None:
    for each in messages_of([message], "answer"):
        texts.append(content_text(each.get("content")))
        made = each.get("tool_calls")
        calls += made if isinstance(made, list) else []


def read_usage(call: Call, usage: JsonObject, where: str = "usage") -> None:
    """Read what an answer says of its tokens; absent is unknown."""
    inside = {where: usage}
    whole = count(inside, tuple(f"{where}/{path}" for path in _WHOLE))
    if whole is None:
        whole = _added(usage)
    call.prompt_tokens = whole if call.prompt_tokens is None else call.prompt_tokens
    if call.output_tokens is None:
        call.output_tokens = count(inside, tuple(f"{where}/{path}" for path in _OUTPUT))
    if call.cached_tokens is None:
        call.cached_tokens = count(inside, tuple(f"{where}/{path}" for path in _CACHED))


def _added(usage: JsonObject) -> int | None:
    """Add up the parts of a prompt; OpenAI's Responses say them already added."""
    fresh = count(usage, _PARTS[0])
    if fresh is None or "input_tokens_details" in usage:
        return fresh
    return fresh + sum(count(usage, paths) or 0 for paths in _PARTS[1:])


def answer_text(call: Call, choice: int = 0) -> str:
    """Return the text of a choice; calls of tools as the JSON that models write."""
    texts = [call.outputs[choice]] if call.outputs and choice < len(call.outputs) else []
    if choice == 0:
        texts += map(_call_text, call.output_calls or [])
    return "\n".join(text for text in texts if text)


def _call_text(call: JsonObject) -> str:
    function = call.get("function")
    if not isinstance(function, dict):
        return ""
    name = json.dumps(function.get("name"), ensure_ascii=False)
    arguments = function.get("arguments")
    if not isinstance(arguments, str):
        arguments = json.dumps(arguments, ensure_ascii=False)
    return f'{{"name": {name}, "arguments": {arguments}}}'
