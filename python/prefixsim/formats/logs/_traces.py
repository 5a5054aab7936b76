"""Calls to a trace: one request for each sequence of the engine, in order of time."""

from __future__ import annotations

import base64
import binascii
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from prefixsim._json import JsonObject
from prefixsim._printable import encodable
from prefixsim.errors import InputError
from prefixsim.formats.logs._bodies import answer_text
from prefixsim.formats.logs._call import Call
from prefixsim.formats.logs._messages import has_images
from prefixsim.trace import Codes, Ragged, Strings, Trace
from prefixsim.trace.salts import salt_name

__all__ = ["MESSAGES", "LogTrace", "trace_of_calls"]

MESSAGES = "messages"
"""``meta["texts"]`` of a trace whose texts are the JSON of messages."""

ERRORS = "calls without an answer (errors)"
NO_PROMPT = "calls whose prompt the log does not hold"
ONLY_IDS = "calls known by token ids alone, among calls known by text"
# What can be lost of any call, and what the loss means.
_EFFECTS = {
    "prompt": "no prompt in the log",
    "truncated": "prompt cut by the logger",
    "redacted": "prompt redacted by the logger",
    "previous": "goes on a response that is not in the log",
    "images": "images are no text: the prompt is shorter than on the server",
    "cached_tokens": "cached tokens not reported",
    "usage": "tokens not reported",
    "session": "no session",
    "end": "the time is that of the end, not of the arrival",
    "second": "times in whole seconds: order within a second is the file's",
    "time": "no arrival times: all arrive at once",
    "skips_cache": "log probabilities of the prompt: computed without a lookup",
    "error": "no answer (an error): left out",
    "prompts": "only the first of several prompts is in the log",
}


class LogTrace(NamedTuple):
    """A trace made of calls.

    Attributes
    ----------
    trace : Trace
    calls : list of Call
        In order of time.
    rows : list of int
        For each request of the trace, which of ``calls`` it belongs to.
    """

    trace: Trace
    calls: list[Call]
    rows: list[int]


class _Request(NamedTuple):
    call: Call
    at: int
    choice: int
    prompt: JsonObject | None
    ids: Sequence[int] | None


def trace_of_calls(
    calls: Sequence[Call], losses: Mapping[str, str], *, name: str, epoch: bool = True
) -> LogTrace:
    """Make a trace of calls.

    Parameters
    ----------
    calls : sequence of Call
    losses : mapping of str to str
        For what a source may lose, the setting of the logger that keeps it.
    name : str
        For messages.
    epoch : bool, optional
        Whether times are since the epoch; they count from the first call then.

    Raises
    ------
    InputError
        If no call can become a request.
    """
    ordered = sorted(calls, key=lambda call: call.time or 0.0)
    resolve_previous(ordered)
    answered = [call for call in ordered if call.outcome != "error"]
    usable = [call for call in answered if call.has_prompt]
    left_out = {ERRORS: len(ordered) - len(answered)}
    if usable:
        left_out[NO_PROMPT] = len(answered) - len(usable)
    kept = usable or [c for c in answered if c.prompt_tokens is not None]
    if not kept:
        reason = "no call has an answer" if not answered else "no call has a prompt or its length"
        advice = next((losses[k] for k in ("prompt", "truncated") if k in losses), "")
        msg = f"{name}: {reason}" + (f"; {advice} keeps prompts" if advice and answered else "")
        raise InputError(msg)
    _note_losses(ordered)
    place = {id(call): i for i, call in enumerate(ordered)}
    requests = [
        _Request(call, place[id(call)], choice, prompt, ids)
        for call in kept
        for prompt, ids in (_prompts(call) if usable else [(None, None)])
        for choice in range(max(call.sequences, 1))
    ]
    if usable and not all(r.ids is not None for r in requests):
        texts = [r for r in requests if r.prompt is not None]
        left_out[ONLY_IDS] = len(requests) - len(texts)
        requests = texts
    trace = _columns(requests, epoch=epoch)
    skipped = {reason: count for reason, count in left_out.items() if count}
    meta = {**trace.meta, **({"rows_skipped": skipped} if skipped else {})}
    if lost := _lost(ordered, losses):
        meta["lost"] = lost
    return LogTrace(trace.replace(meta=meta, name=name), ordered, [r.at for r in requests])


def resolve_previous(calls: Sequence[Call]) -> None:
    """Find the conversation of calls that name a response instead of sending it again."""
    known = {name: call for call in calls for name in (*_names(call.id), *_names(call.response_id))}
    for call in calls:
        if call.previous is None or call.messages is None:
            continue
        before = next((known[name] for name in _names(call.previous) if name in known), None)
        if before is None or before is call or before.messages is None or before.unusable:
            call.give_up("previous")
            continue
        said = [m for m in before.messages if m.get("role") != "system"]
        answer = {"role": "assistant", "content": answer_text(before)}
        call.history = [*(before.history or ()), *said, answer]
        call.session = call.session or before.session


def _names(name: str | None) -> list[str]:
    """Return an id, and the id that LiteLLM packed into it, if it did."""
    if name is None:
        return []
    packed = name.removeprefix("resp_")
    try:
        inner = base64.b64decode(packed + "=" * (-len(packed) % 4), validate=True).decode()
    except (binascii.Error, ValueError):
        return [name]
    return [name, *(inner.rsplit("response_id:", 1)[1:])]


def _prompts(call: Call) -> Iterator[tuple[JsonObject | None, Sequence[int] | None]]:
    """Yield the prompts of a call, each as JSON for a template or as text, and its token ids."""
    ids = call.prompt_ids or []
    if call.text_cut:
        yield None, ids[0]
    elif call.messages:
        yield _message_text(call), ids[0] if ids else None
    elif call.prompts:
        for k, prompt in enumerate(call.prompts):
            if call.part is not None and k != call.part:
                continue
            known = ids[0 if call.part is not None else k] if ids else None
            yield ({"prompt": prompt}, known) if isinstance(prompt, str) else (None, prompt)
    elif call.rendered is not None:
        yield {"prompt": call.rendered, "rendered": True}, ids[0] if ids else None
    else:
        yield None, ids[0] if ids else None


def _message_text(call: Call) -> JsonObject:
    messages = call.messages or []
    if call.history:
        system = [m for m in messages if m.get("role") == "system"]
        new = [m for m in messages if m.get("role") != "system"]
        messages = [*system, *call.history, *new]
    prompt: JsonObject = {"messages": messages}
    if call.tools:
        prompt["tools"] = call.tools
    return {**prompt, **call.options}


def _json(value: object) -> str:
    return encodable(json.dumps(value, ensure_ascii=False, separators=(",", ":")))


def _columns(requests: Sequence[_Request], *, epoch: bool) -> Trace:
    calls = [r.call for r in requests]
    time = np.array([c.time or 0.0 for c in calls])
    start = float(time.min()) if epoch and all(c.time is not None for c in calls) else None
    changes = _content(requests)
    lengths = changes.pop("prompt_len")
    ids = [c.id or "" for c in calls]
    took = np.array([max(c.duration or 0.0, 0.0) for c in calls])
    salts = list(_salts(calls, requests))
    meta = {**changes.pop("meta"), **({} if start is None else {"epoch_s": start})}
    return Trace(
        timestamp=time - (start or 0.0),
        prompt_len=np.array(lengths, dtype=np.uint32),
        request_id=Strings.from_list(ids) if any(ids) else None,
        answer_s=took if took.any() else None,
        session=_labels([c.session or "" for c in calls]),
        salt=_labels(salts),
        category=_labels([c.user or "" for c in calls]),
        meta=meta,
        **changes,
    )


def _content(requests: Sequence[_Request]) -> JsonObject:
    """Return the columns of prompts and outputs: token ids if all are known, else texts."""
    reported = [_reported(r) for r in requests]
    lengths = [prompt for prompt, _ in reported]
    output_len = np.array([output for _, output in reported], dtype=np.uint32)
    if all(r.ids is not None for r in requests):
        prompts = Ragged.from_lists([r.ids for r in requests])
        return {"prompts": prompts, "prompt_len": prompts.lengths, "meta": {}} | _outputs(
            requests, output_len
        )
    meta: JsonObject = {}
    texts = None
    contents = [r.prompt for r in requests if r.prompt is not None]
    if len(contents) == len(requests):
        plain = all(content.keys() == {"prompt"} for content in contents)
        texts = Strings.from_list(
            [encodable(content["prompt"]) if plain else _json(content) for content in contents]
        )
        meta = {} if plain else {"texts": MESSAGES}
    answers = [encodable(answer_text(r.call, r.choice)) for r in requests]
    keep = texts is not None and any(answers)
    return {
        "texts": texts,
        "prompt_len": lengths,
        "output_len": output_len,
        "output_texts": Strings.from_list(answers) if keep else None,
        "meta": meta,
    }


def _outputs(requests: Sequence[_Request], output_len: object) -> JsonObject:
    """Return the columns of outputs as token ids, if the ids of all are known."""
    ids = [
        r.call.output_ids[r.choice]
        if r.call.output_ids is not None and r.choice < len(r.call.output_ids)
        else None
        for r in requests
    ]
    if any(i is None for i in ids):
        return {"output_len": output_len}
    outputs = Ragged.from_lists(ids)
    return {"outputs": outputs, "output_len": outputs.lengths.astype(np.uint32)}


def _reported(request: _Request) -> tuple[int, int]:
    """Return the lengths that were reported, shared out over prompts and choices."""
    call = request.call
    prompts = len(call.prompts) if call.prompts and call.part is None else 1
    return (
        (call.prompt_tokens or 0) // prompts,
        (call.output_tokens or 0) // (prompts * max(call.sequences, 1)),
    )


def _labels(values: Sequence[str]) -> Codes | None:
    return Codes.from_strings(values) if any(values) else None


def _salts(calls: Sequence[Call], requests: Sequence[_Request]) -> Iterator[str]:
    """Isolate models from each other, if there are several, and calls that look nothing up."""
    several = len({call.model for call in calls}) > 1
    for row, (call, request) in enumerate(zip(calls, requests, strict=True)):
        salt = salt_name(call.model or "", call.salt) if several else call.salt
        if call.skips_cache:
            salt = salt_name(salt, f"no lookup {request.at}.{row}")
        yield salt


def _note_losses(calls: Sequence[Call]) -> None:
    for call in calls:
        if call.outcome == "error":
            call.lost.add("error")
            continue
        if not call.has_prompt and not call.unusable:
            call.lost.add("prompt")
        if call.messages and has_images(call.messages):
            call.lost.add("images")
        if call.session is None:
            call.lost.add("session")
        if call.prompt_tokens is None and call.prompt_ids is None:
            call.lost.add("usage")
        if call.cached_tokens is None:
            call.lost.add("cached_tokens")
        if call.skips_cache:
            call.lost.add("skips_cache")
        if call.time is None:
            call.lost.add("time")


def _lost(calls: Sequence[Call], losses: Mapping[str, str]) -> list[JsonObject]:
    """Return what was lost, of how many calls, and the setting that keeps it."""
    counts = Counter(reason for call in calls for reason in call.lost)
    return [
        {
            "what": _EFFECTS.get(reason, reason),
            "calls": counts[reason],
            "keep": losses.get(reason, ""),
        }
        for reason in (*_EFFECTS, *(r for r in counts if r not in _EFFECTS))
        if counts[reason]
    ]
