"""A call: one request of a client as a log knows it, whatever the log."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from prefixsim._json import JsonObject

__all__ = ["Api", "Call", "Outcome"]

Api = Literal["chat", "completions", "responses", "messages"]
"""The interface that was called: OpenAI's chat, completions, responses; Anthropic's messages."""
Outcome = Literal["ok", "error"]


@dataclass(slots=True)
class Call:
    """One call. ``None`` means that the log does not say, which is never the same as 0 or empty.

    Attributes
    ----------
    line : int
        1-based line of the row that says most about it.
    time : float or None
        Seconds since the epoch at which it began.
    id, response_id, session, user, model : str or None
        ``id`` is what the log calls it, ``response_id`` what the server did.
    api : {"chat", "completions", "responses", "messages"} or None
    stream : bool or None
    messages : list of dict or None
        In OpenAI's form, whatever the API.
    prompts : list or None
        Texts, or lists of token ids, of a completion; each is a request of its own.
    prompt_ids : list of list of int or None
        Token ids as the server made them, one list for each prompt.
    rendered : str or None
        Text of the prompt after the chat template, as a server logged it.
    tools : list of dict or None
        In OpenAI's form.
    options : dict
        What else decides the rendered prompt (``chat_template_kwargs``).
    previous : str or None
        Response whose conversation this one goes on.
    history : list of dict or None
        The messages of that conversation, where the log has them.
    outputs : list of str or None
        One text for each choice.
    output_ids : list of list of int or None
    output_calls : list of dict or None
        Calls of tools, in OpenAI's form, over all choices.
    prompt_tokens, output_tokens, cached_tokens : int or None
        As reported; ``prompt_tokens`` with the cached ones.
    outcome : {"ok", "error"} or None
    sequences : int
        Answers that were asked for, each a sequence of the engine with a lookup of its own.
    skips_cache : bool
        It asks for log probabilities of its prompt, which vLLM computes without a lookup.
    salt : str
    duration : float or None
        Seconds from the start to the end of the answer.
    part : int or None
        Which of ``prompts`` it is, where a log has a row for each.
    unusable : bool
        The prompt was cut or redacted: nothing can be said of its prefixes.
    text_cut : bool
        The text was cut, though its token ids were not.
    bad : str
        What is wrong with the row, if it cannot be used.
    file : int
        Which of the files that are read together.
    lost : set of str
        What the source lost of it: keys of the source's losses.
    """

    line: int
    time: float | None = None
    id: str | None = None
    response_id: str | None = None
    session: str | None = None
    user: str | None = None
    model: str | None = None
    api: Api | None = None
    stream: bool | None = None
    messages: list[JsonObject] | None = None
    prompts: list[str | list[int]] | None = None
    prompt_ids: list[list[int]] | None = None
    rendered: str | None = None
    tools: list[JsonObject] | None = None
    options: JsonObject = field(default_factory=dict)
    previous: str | None = None
    history: list[JsonObject] | None = None
    outputs: list[str] | None = None
    output_ids: list[list[int]] | None = None
    output_calls: list[JsonObject] | None = None
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    outcome: Outcome | None = None
    sequences: int = 1
    skips_cache: bool = False
    salt: str = ""
    duration: float | None = None
    part: int | None = None
    unusable: bool = False
    text_cut: bool = False
    bad: str = ""
    file: int = 0
    lost: set[str] = field(default_factory=set)

    @property
    def has_prompt(self) -> bool:
        """Whether a usable prompt is known, not only its length."""
        known = self.messages or self.prompts or self.prompt_ids or self.rendered
        return bool(known) and not self.unusable

    def give_up(self, reason: str) -> None:
        """Give up the prompt, which cannot be used, and say why."""
        self.unusable = True
        self.lost.add(reason)
