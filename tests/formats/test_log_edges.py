"""Edges of request logs that the recordings do not have."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from prefixsim import InputError, Trace
from prefixsim.formats import read_trace
from prefixsim.formats._rows import BadFieldError
from prefixsim.formats.logs import Call
from prefixsim.formats.logs._messages import _check_part
from prefixsim.formats.logs._streams import _anthropic, events_of
from prefixsim.formats.logs._traces import ERRORS, NO_PROMPT, trace_of_calls
from prefixsim.formats.logs.langfuse import _fill
from prefixsim.formats.logs.openinference import _read_answer
from prefixsim.formats.logs.sglang import _CUT, _MOST, _is_cut
from prefixsim.formats.logs.vllm import _seconds
from prefixsim.formats.openai_log import _check_writable


def written(path: Path, *rows: object, stamp: str = "") -> Path:
    path.write_text("".join(f"{stamp}{json.dumps(row)}\n" for row in rows))
    return path


def sglang_log(path: Path, output_ids: object) -> Path:
    asked = {"event": "request.received", "rid": "a", "timestamp": "2026-01-01T00:00:00"}
    meta = {"prompt_tokens": 3, "completion_tokens": 2, "cached_tokens": 0}
    return written(
        path,
        asked | {"obj": {"input_ids": [1, 2, 3]}},
        asked
        | {"event": "request.finished", "obj": {"input_ids": [1, 2, 3]}}
        | {"out": {"text": "x", "output_ids": output_ids, "meta_info": meta}},
        stamp="[2026-01-01 00:00:00] ",
    )


def test_sglang_tells_ids_of_outputs(tmp_path: Path) -> None:
    trace = read_trace(sglang_log(tmp_path / "a.jsonl", [7, 8]), format="sglang-log")
    assert trace.outputs is not None
    assert trace.outputs[0].tolist() == [7, 8]
    trace = read_trace(sglang_log(tmp_path / "b.jsonl", [7, "8"]), format="sglang-log")
    assert trace.outputs is None


def test_counts_end_at_32_bits(tmp_path: Path) -> None:
    def row(tokens: int) -> dict[str, object]:
        messages = [{"role": "user", "content": "hi"}]
        return {"ts": 1, "messages": messages, "usage": {"completion_tokens": tokens}}

    trace = read_trace(written(tmp_path / "a.jsonl", row(2**32 - 1)), format="openai")
    assert trace.output_len.tolist() == [2**32 - 1]
    with pytest.raises(InputError, match="completion_tokens"):
        read_trace(written(tmp_path / "b.jsonl", row(2**32)), format="openai")


def test_blocks_of_a_stream_that_have_no_index() -> None:
    answer = _anthropic(
        [
            {"type": "message_start", "message": {"id": "m"}},
            {"type": "content_block_start", "content_block": {"type": "tool_use", "name": "f"}},
            {"type": "content_block_delta", "delta": {"partial_json": '{"a": 1}'}},
        ]
    )
    assert answer["content"] == [{"type": "tool_use", "name": "f", "input": {"a": 1}}]


def test_late_messages_cannot_be_written() -> None:
    zeros = np.zeros(2, dtype=np.uint32)
    trace = Trace(
        timestamp=np.array([0.0, 2e11]),
        prompt_len=zeros,
        output_len=zeros,
        texts=['{"messages": []}'] * 2,
        meta={"texts": "messages"},
    )
    assert "would be read as milliseconds" in str(_check_writable(trace))
    assert _check_writable(trace.take([0])) is None


def test_times_of_vllm_with_a_year_and_without() -> None:
    changed = datetime(2026, 5, 1, tzinfo=UTC)
    told = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC).timestamp()
    assert _seconds("2026-01-02 03:04:05,250", changed) == told + 0.25
    assert _seconds("01-02 03:04:05", changed) == told
    assert _seconds("06-02 03:04:05", changed) < told  # of the year before


def test_what_sglang_cuts_is_cut_in_the_middle() -> None:
    half = _MOST // 2
    assert _is_cut("a" * half + _CUT + "b" * (_MOST - half))
    assert not _is_cut("a" * (half - 1) + _CUT + "b" * (_MOST - half + 1))
    assert not _is_cut("a" * half + _CUT + "b" * (_MOST - half + 1))


@pytest.mark.parametrize(("asked", "sequences"), [(3, 3), (1, 1), (0, 1), (-2, 1), ("3", 1)])
def test_langfuse_tells_how_many_answers_were_asked_for(asked: object, sequences: int) -> None:
    call = Call(line=1)
    _fill({"modelParameters": {"n": asked}, "level": "ERROR"}, {}, call)
    assert call.sequences == sequences


def test_calls_without_prompts_are_counted() -> None:
    calls = [Call(line=i, time=float(i), outcome="ok", rendered="hi") for i in range(3)]
    calls += [Call(line=i, time=float(i), outcome="ok") for i in range(3, 7)]
    calls += [Call(line=7, time=7.0, outcome="error", rendered="hi")]
    trace = trace_of_calls(calls, {}, name="log").trace
    assert len(trace) == 3
    assert trace.meta["rows_skipped"] == {ERRORS: 1, NO_PROMPT: 4}


def test_answers_among_the_choices_of_a_span() -> None:
    call = Call(line=1)
    _read_answer(call, {"llm.choices.0.completion.text": "a", "llm.choices.1.completion.text": "b"})
    assert call.outputs == ["a", "b"]
    call = Call(line=1)
    _read_answer(call, {})
    assert call.outputs is None


def test_a_damaged_event_of_a_stream_is_passed_over() -> None:
    assert events_of('data: {"a": 1}\ndata: {"b\ndata: {"c": 2}\n') == [{"a": 1}, {"c": 2}]


def test_parts_of_messages_are_texts_or_objects() -> None:
    _check_part("text", "here")
    _check_part({"type": "text", "text": "hi"}, "here")
    with pytest.raises(BadFieldError, match="expected an object or a string"):
        _check_part(7, "here")
