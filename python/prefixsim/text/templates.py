"""How messages become a prompt."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

from prefixsim._json import JsonObject
from prefixsim.chat.model import BadRowError, Message
from prefixsim.errors import InputError
from prefixsim.text.pretrained import Tokenizer

__all__ = [
    "Render",
    "Template",
    "answer",
    "is_bare_prompt",
    "message_renderer",
    "multi_turn_prompts",
    "renderer",
    "user_turns",
]

Template = Literal["none", "role", "chat"]
"""``none``: texts joined with nothing between; ``role``: lines ``User: ...`` and
``Assistant: ...``; ``chat``: the tokenizer's chat template."""

Render = Callable[[Sequence[Message]], str]
"""Turns messages, of which the last is a user's, into the prompt for the answer."""

_LABELS = {"user": "User", "assistant": "Assistant", "system": "System", "tool": "Tool"}


def render_none(messages: Sequence[Message]) -> str:
    """Join the texts."""
    return "".join(m.text for m in messages)


def role_line(message: Message) -> str:
    """Return one message as ``Label: text`` and a line end."""
    return f"{_LABELS[message.role]}: {message.text}\n"


ROLE_CUE = "Assistant:"
"""What a prompt of the ``role`` template ends with."""


def render_role(messages: Sequence[Message]) -> str:
    """Write one labelled paragraph per message, and the label of the answer."""
    return "".join(role_line(m) for m in messages) + ROLE_CUE


def _render_chat(tokenizer: Tokenizer) -> Render:
    def render(messages: Sequence[Message]) -> str:
        rows = [{"role": m.role, "content": m.text} for m in messages]
        try:
            text = tokenizer.apply_chat_template(rows, tokenize=False, add_generation_prompt=True)
        except Exception as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            msg = f"the tokenizer's chat template refuses it ({reason}); use --template role"
            raise BadRowError("refused_by_template", msg) from None
        assert isinstance(text, str)
        return text

    return render


def renderer(template: Template, tokenizer: Tokenizer | None = None) -> Render:
    r"""Return the function that renders prompts.

    Parameters
    ----------
    template : {"none", "role", "chat"}
    tokenizer : transformers tokenizer, optional
        Needed by ``chat``.

    Raises
    ------
    InputError
        If the tokenizer has no chat template, or there is no such template.

    Examples
    --------
    >>> renderer("role")([Message("user", "Hi")])
    'User: Hi\nAssistant:'
    """
    if template == "none":
        return render_none
    if template == "role":
        return render_role
    if template != "chat":
        msg = f"unknown template '{template}', choose one of none, role, chat"
        raise InputError(msg)
    if tokenizer is None or not getattr(tokenizer, "chat_template", None):
        msg = "the tokenizer has no chat template, use --template role or none"
        raise InputError(msg)
    return _render_chat(tokenizer)


def message_renderer(tokenizer: Tokenizer, name: str) -> Callable[[str], str]:
    """Return the function that renders the JSON of a logged request with a chat template.

    The JSON object has ``messages`` and, optionally, ``tools`` and ``chat_template_kwargs``; or a
    ``prompt``, which is returned as it is. As in vLLM (``entrypoints/chat_utils.py``), text parts
    are joined with line ends, arguments of tool calls are parsed, and missing content is empty.
    Parts that are no text are left out.

    Raises
    ------
    InputError
        If the tokenizer has no chat template. The function returned raises ``ValueError`` for
        messages that the template refuses.
    """
    if not getattr(tokenizer, "chat_template", None):
        msg = (
            f"the prompts are messages and the tokenizer '{name}' has no chat template, "
            "use --model with that of the model that was served"
        )
        raise InputError(msg)

    def render(text: str) -> str:
        try:
            request = json.loads(text)
            if "messages" not in request:
                return str(request["prompt"])
            options: JsonObject = request.get("chat_template_kwargs") or {}
            rendered = tokenizer.apply_chat_template(
                [_plain_message(m) for m in request["messages"]],
                tools=request.get("tools"),
                tokenize=False,
                **{"add_generation_prompt": True, **options},
            )
        except Exception as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            msg = f"messages: the tokenizer's chat template refuses them ({reason})"
            raise ValueError(msg) from None
        assert isinstance(rendered, str)
        return rendered

    return render


def is_bare_prompt(text: str) -> bool:
    """Whether the JSON of a logged request is a text that no chat template was applied to."""
    if '"prompt":' not in text[:16]:
        return False
    request = json.loads(text)
    return "messages" not in request and not request.get("rendered")


def _plain_message(message: JsonObject) -> JsonObject:
    content = message.get("content")
    if isinstance(content, list):
        texts = (part if isinstance(part, str) else part.get("text") for part in content)
        content = "\n".join(text for text in texts if text is not None)
    plain = {**message, "content": content or ""}
    if isinstance(plain.get("tool_calls"), list):
        plain["tool_calls"] = [_plain_call(call) for call in plain["tool_calls"]]
    return plain


def _plain_call(call: object) -> object:
    if not isinstance(call, dict):
        return call
    function = call.get("function")
    if not isinstance(function, dict) or not isinstance(function.get("arguments"), str):
        return call
    arguments: str = function["arguments"]
    try:
        parsed = json.loads(arguments) if arguments else {}
    except ValueError:  # what a model wrote need not be JSON
        return call
    return {**call, "function": {**function, "arguments": parsed}}


def user_turns(messages: Sequence[Message]) -> list[int]:
    """Return the positions of the user's messages; each is one request."""
    return [i for i, m in enumerate(messages) if m.role == "user"]


def answer(messages: Sequence[Message], at: int) -> str | None:
    """Return the assistant's messages that directly follow position ``at``, joined."""
    end = at + 1
    while end < len(messages) and messages[end].role == "assistant":
        end += 1
    return None if end == at + 1 else "".join(m.text for m in messages[at + 1 : end])


def multi_turn_prompts(
    messages: Sequence[Message], render: Render
) -> Iterator[tuple[str, Sequence[Message]]]:
    """Yield the prompt of each turn, with the whole history, and the messages new in it."""
    seen = 0
    for at in user_turns(messages):
        yield render(messages[: at + 1]), messages[seen : at + 1]
        seen = at + 1
