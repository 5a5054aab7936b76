"""Conversations to the requests they make: prompts and answers, encoded in batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain

import numpy as np

from prefixsim.chat import Conversation, Message
from prefixsim.chat.model import BadRowError
from prefixsim.errors import InputError
from prefixsim.text.templates import (
    ROLE_CUE,
    Template,
    answer,
    multi_turn_prompts,
    renderer,
    role_line,
    user_turns,
)
from prefixsim.text.tokenize import (
    ChatTokenizer,
    Spans,
    Tokenization,
    Tokens,
    body,
    join,
    split,
    split_levels,
)

__all__ = ["Session", "SessionEncoder", "TextSession"]

_CHECKED_SESSIONS = 8
_CHECKED_CHARACTERS = 400_000


@dataclass(slots=True)
class Session:
    """The requests of one conversation, as arrays of tokens to be joined.

    Attributes
    ----------
    conversation : Conversation
    single, multi : list of list of ndarray
        Prompt of each turn, alone and with its history.
    outputs : list of ndarray or None
        Answer of each turn.
    """

    conversation: Conversation
    single: list[list[Tokens]]
    multi: list[list[Tokens]]
    outputs: list[Tokens | None]


@dataclass(slots=True)
class TextSession:
    """The requests of one conversation, as text."""

    conversation: Conversation
    single: list[str]
    multi: list[str]
    outputs: list[str | None]


@dataclass(slots=True)
class _Plan:
    conversation: Conversation
    single: list[Spans] = field(default_factory=list)
    multi: list[list[Spans]] = field(default_factory=list)
    outputs: list[Spans | None] = field(default_factory=list)


class SessionEncoder:
    """Renders and encodes conversations.

    Parameters
    ----------
    tokenizer : ChatTokenizer or None
        ``None`` keeps text.
    template : {"none", "role", "chat"}
    tokenization : {"whole", "message"}
    reject : callable
        Called with a conversation that cannot be rendered, and why; raises, or returns to have the
        conversation left out.

    Attributes
    ----------
    method : str
        How prompts are encoded, for the summary.
    """

    def __init__(
        self,
        tokenizer: ChatTokenizer | None,
        template: Template,
        tokenization: Tokenization,
        reject: Callable[[BadRowError, Conversation], None],
    ) -> None:
        if tokenization not in ("whole", "message"):
            msg = f"unknown tokenization '{tokenization}', choose one of whole, message"
            raise InputError(msg)
        if tokenization == "message" and template == "chat":
            msg = "a chat template renders a conversation as a whole: use --tokenization whole"
            raise InputError(msg)
        self._tokenizer = tokenizer
        self._template = template
        self._by_message = tokenization == "message"
        self._render = renderer(template, tokenizer.hf if tokenizer else None)
        self._reject = reject
        self._special = template != "chat"  # a chat template writes its special tokens itself
        self._unchecked = _CHECKED_SESSIONS
        self._refusal = None if tokenizer is None else tokenizer.refusal
        if self._by_message and tokenizer is not None and not tokenizer.splits_special:
            msg = f"{tokenizer.name}: {tokenizer.refusal}; use --tokenization whole"
            raise InputError(msg)

    @property
    def used(self) -> str | None:
        """The package that encodes, and its version; None for text."""
        return None if self._tokenizer is None else self._tokenizer.encoder.used

    @property
    def method(self) -> str:
        """How prompts are encoded."""
        if self._tokenizer is None:
            return "none: text is kept"
        if self._by_message:
            return "every message by itself"
        if self._refusal is None:
            return "whole prompts, cut at stable places so that shared text is encoded once"
        return f"whole prompts, one by one, because {self._refusal}"

    def texts(self, conversations: Sequence[Conversation]) -> Iterator[TextSession]:
        """Render conversations without encoding them."""
        for conversation in conversations:
            messages = conversation.messages
            turns = user_turns(messages)
            try:
                single = [self._render([messages[at]]) for at in turns]
                multi = [text for text, _ in multi_turn_prompts(messages, self._render)]
            except BadRowError as bad:
                self._reject(bad, conversation)
                continue
            yield TextSession(conversation, single, multi, [answer(messages, at) for at in turns])

    def encode(self, conversations: Sequence[Conversation]) -> Iterator[Session]:
        """Render and encode conversations in one batch."""
        plans = []
        for conversation in conversations:
            try:
                plans.append(self._plan(conversation))
            except BadRowError as bad:
                self._reject(bad, conversation)
        sessions = self._encode_plans(plans)
        if self._unchecked and not self._by_message and self._refusal is None:
            reason = self._check(sessions)
            if reason is not None:
                self._refusal = reason
                sessions = self._encode_plans([self._plan(p.conversation) for p in plans])
        yield from sessions

    def _plan(self, conversation: Conversation) -> _Plan:
        messages = conversation.messages
        plan = _Plan(conversation)
        if self._by_message:
            self._plan_messages(plan, messages)
        elif self._refusal is None:
            self._plan_cuts(plan, messages)
        else:
            self._plan_whole(plan, messages)
        return plan

    def _plan_messages(self, plan: _Plan, messages: Sequence[Message]) -> None:
        labelled = self._template == "role"
        lines = [role_line(m) if labelled else m.text for m in messages]
        cue = [ROLE_CUE] if labelled else []
        for at in user_turns(messages):
            plan.single.append([lines[at], *cue])
            plan.multi.append([[*lines[: at + 1], *cue]])
            text = answer(messages, at)
            plan.outputs.append(None if text is None else [text])

    def _plan_cuts(self, plan: _Plan, messages: Sequence[Message]) -> None:
        contents = {m.text: body(m.text) for m in messages if len(m.text) >= 64}

        def shared(new: Sequence[Message]) -> list[str]:
            return [b for m in new if (b := contents.get(m.text)) is not None]

        prompts = multi_turn_prompts(messages, self._render)
        plan.multi = list(split_levels((text, shared(new)) for text, new in prompts))
        for at in user_turns(messages):
            alone = self._render([messages[at]])
            plan.single.append(split(alone, contents=shared([messages[at]])))
            text = answer(messages, at)
            following = messages[at + 1 : at + 2]
            plan.outputs.append(None if text is None else split(text, contents=shared(following)))

    def _plan_whole(self, plan: _Plan, messages: Sequence[Message]) -> None:
        plan.multi = [[[text]] for text, _ in multi_turn_prompts(messages, self._render)]
        for at in user_turns(messages):
            plan.single.append([self._render([messages[at]])])
            text = answer(messages, at)
            plan.outputs.append(None if text is None else [text])

    def _encode_plans(self, plans: Sequence[_Plan]) -> list[Session]:
        assert self._tokenizer is not None
        prompts = [p for plan in plans for p in (*plan.single, *chain(*plan.multi))]
        answers = [spans for plan in plans for spans in plan.outputs if spans is not None]
        prefix, suffix = self._tokenizer.prefix, self._tokenizer.suffix
        if self._by_message or self._refusal is None:
            every = chain.from_iterable((*prompts, *answers))
            encoded = answered = self._tokenizer.encode_spans(every)
            if not self._special:
                prefix = suffix = prefix[:0]
        else:
            whole = list(dict.fromkeys(spans[0] for spans in prompts))
            ids = self._tokenizer.encode_shard(whole, special=self._special)
            encoded = dict(zip(whole, ids, strict=True))
            answered = self._tokenizer.encode_spans(span for spans in answers for span in spans)
            prefix = suffix = prefix[:0]
        none = prefix[:0]
        return [
            Session(
                plan.conversation,
                [join(spans, encoded, prefix, suffix) for spans in plan.single],
                _join_levels(plan.multi, encoded, prefix, suffix),
                [None if p is None else _flat(join(p, answered, none, none)) for p in plan.outputs],
            )
            for plan in plans
        ]

    def _check(self, sessions: Sequence[Session]) -> str | None:
        """Compare the first conversations of a run with encoding every prompt whole."""
        assert self._tokenizer is not None
        for session in sessions:
            messages = session.conversation.messages
            size = sum(len(m.text) for m in messages) * len(session.multi)
            if not self._unchecked or len(session.multi) < 2 or size > _CHECKED_CHARACTERS:
                continue
            self._unchecked -= 1
            texts = [text for text, _ in multi_turn_prompts(messages, self._render)]
            expected = self._tokenizer.encode(texts, special=self._special)
            for parts, tokens in zip(session.multi, expected, strict=True):
                if not np.array_equal(_flat(parts), tokens):
                    return f"cut text gives other tokens ({session.conversation.where})"
        return None


def _join_levels(
    prompts: list[list[Spans]], encoded: dict[str, Tokens], prefix: Tokens, suffix: Tokens
) -> list[list[Tokens]]:
    """Return the arrays of prompts whose shared parts are joined once."""
    done: dict[int, Tokens] = {}
    found = []
    for levels in prompts:
        parts = [prefix] if len(prefix) else []
        for spans in levels[:-1]:
            if id(spans) not in done:
                done[id(spans)] = _flat([encoded[span] for span in spans])
            parts.append(done[id(spans)])
        parts += [encoded[span] for span in levels[-1]]
        if len(suffix):
            parts.append(suffix)
        found.append(parts)
    return found


def _flat(parts: list[Tokens]) -> Tokens:
    return np.concatenate(parts) if parts else np.empty(0, dtype=np.uint32)
