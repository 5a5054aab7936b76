"""Chat data to traces: what the rows say, in which order, and what the summary counts."""

from __future__ import annotations

import functools
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import prefixsim
from prefixsim.chat import ChatReader
from prefixsim.errors import InputError
from prefixsim.text.templates import renderer, user_turns
from prefixsim.text.text_trace import tokenize_trace
from prefixsim.text.tokenize import ChatTokenizer
from prefixsim.trace import Trace
from prefixsim.traffic.demo import sample_conversations
from tests.golden import golden_root, read_json


def build(data: Any = None, **options: Any) -> prefixsim.BuiltTraces:
    return prefixsim.build_traces(data, **{"model": "demo", **options})


def row(*messages: tuple[str, str], name: str = "c") -> dict[str, Any]:
    return {"id": name, "conversations": [{"from": r, "value": t} for r, t in messages]}


IRREGULAR = [
    row(),
    row(("gpt", "Only me.")),
    row(("gpt", "Welcome!"), ("human", "Hi"), ("gpt", "Hello"), ("gpt", "again"), ("human", "")),
    row(("system", "Be brief."), ("human", "One"), ("human", "Two"), ("gpt", "Three")),
]


@functools.cache
def demo() -> ChatTokenizer:
    return ChatTokenizer("demo")


def tokens(text: str) -> list[int]:
    ids: list[int] = demo().hf(text)["input_ids"]
    return ids


def by_id(trace: Trace) -> dict[str, int]:
    assert trace.request_id is not None
    return {name: i for i, name in enumerate(trace.request_id)}


def test_irregular_conversations_are_kept_and_counted() -> None:
    built = build(IRREGULAR)
    assert built.multi.prompts is not None and built.single.prompts is not None
    assert built.multi.outputs is not None
    rows = by_id(built.multi)
    expected = {
        "2:c:0": ("Hi", "Welcome!Hi", "Helloagain"),
        "2:c:1": ("", "Welcome!HiHelloagain", ""),
        "3:c:0": ("One", "Be brief.One", ""),
        "3:c:1": ("Two", "Be brief.OneTwo", "Three"),
    }
    assert sorted(rows) == sorted(expected)
    for name, (single, multi, output) in expected.items():
        i = rows[name]
        assert built.single.prompts[i].tolist() == tokens(single)
        assert built.multi.prompts[i].tolist() == tokens(multi)
        assert built.multi.outputs[i].tolist() == tokens(output)
        assert built.multi.output_len[i] == len(tokens(output))
    data = built.summary["data"]
    assert data["conversations_read"] == 4
    assert data["conversations_used"] == 2
    assert data["dropped"] == {
        "conversations_without_messages": 1,
        "conversations_without_user_turn": 1,
    }
    assert data["kept"] == {
        "conversations_that_begin_with_assistant": 1,
        "turns_without_answer": 2,
        "empty_user_messages": 1,
        "system_messages": 1,
        "tool_messages": 0,
    }


@pytest.mark.parametrize("template", ["none", "role", "chat"])
def test_multi_turn_extends_the_turn_before(template: Any) -> None:
    built = build(max_conversations=40, template=template)
    trace = built.multi
    assert trace.prompts is not None and trace.session is not None and trace.turn is not None
    conversations = list(ChatReader(sample_conversations(40)))
    render = renderer(template, demo().hf)
    at = {(trace.session[i], int(trace.turn[i])): i for i in range(len(trace))}
    assert len(at) == len(trace) == sum(len(user_turns(c.messages)) for c in conversations)
    for c in conversations:
        for k, end in enumerate(user_turns(c.messages)):
            i = at[f"{c.index}:{c.id}", k]
            whole = tokens(render(c.messages[: end + 1]))
            assert trace.prompts[i].tolist() == whole
            assert trace.prompt_len[i] == len(whole)
            if k:
                assert trace.timestamp[i] >= trace.timestamp[at[f"{c.index}:{c.id}", k - 1]]


def test_rows_are_in_the_order_of_time_and_traces_match_row_by_row() -> None:
    built = build(max_conversations=200, arrival_rate=50.0)
    assert np.all(np.diff(built.multi.timestamp) >= 0)
    assert built.single.timestamp.tolist() == built.multi.timestamp.tolist()
    assert list(built.single.request_id or []) == list(built.multi.request_id or [])
    assert built.multi.session is not None
    changes = np.count_nonzero(np.diff(built.multi.session.codes.astype(np.int64)))
    assert changes > 400  # sessions interleave
    alone = build(max_conversations=200, sequential=True).multi
    assert alone.session is not None
    assert np.count_nonzero(np.diff(alone.session.codes.astype(np.int64))) == 199


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_files_say_what_memory_says(tmp_path: Path, ending: Any) -> None:
    built = build(max_conversations=30, output_dir=tmp_path / "new", output_format=ending)
    memory = build(max_conversations=30)
    for name in ("single", "multi"):
        kept, read = getattr(memory, name), getattr(built, name)
        assert read.digest == kept.digest
        assert list(read.request_id) == list(kept.request_id)
        assert read.turn.tolist() == kept.turn.tolist()
    summary = json.loads((tmp_path / "new/trace_summary.json").read_text())
    assert summary == built.summary
    multi = summary["traces"]["multi_turn"]
    assert multi["file"] == f"multi_turn_trace.{ending}"
    assert multi["requests"] == len(memory.multi)
    assert multi["prompt_tokens"] == memory.multi.prompt_tokens
    lengths = memory.multi.prompt_len
    assert multi["prompt_len"] == {
        "mean": pytest.approx(lengths.mean()),
        "median": np.median(lengths),
        "min": lengths.min(),
        "max": lengths.max(),
        "p90": pytest.approx(np.percentile(lengths, 90)),
        "p99": pytest.approx(np.percentile(lengths, 99)),
    }
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == sorted(
        ["trace_summary.json", f"multi_turn_trace.{ending}", f"single_turn_trace.{ending}"]
    )


def infinite_hits(trace: Trace, block: int) -> int:
    """Blocks found in a cache that forgets nothing, request by request."""
    seen: set[bytes] = set()
    hits = 0
    for i in range(len(trace)):
        assert trace.prompts is not None
        ids = trace.prompts[i]
        chains = [ids[: (k + 1) * block].tobytes() for k in range(len(ids) // block)]
        found = 0
        while found < min(len(chains), max(0, len(ids) - 1) // block) and chains[found] in seen:
            found += 1
        hits += found
        seen.update(chains)
    return hits


def test_sharing_ceiling_is_an_infinite_cache() -> None:
    built = build(max_conversations=60, block_size=8)
    for trace, kind in ((built.single, "single_turn"), (built.multi, "multi_turn")):
        ceiling = built.summary["traces"][kind]["sharing_ceiling"]
        assert ceiling["blocks_reused"] == infinite_hits(trace, 8)
        assert ceiling["total_blocks"] == int((trace.prompt_len // 8).sum())
    assert ceiling["token_hit_rate"] > 0.5


def test_text_trace_tokenizes_to_the_token_trace() -> None:
    kept = build(max_conversations=25, text=True, model="./not-needed", sequential=True)
    assert kept.multi.kind == "text"
    assert kept.summary["traces"]["multi_turn"]["prompt_len_characters"]["max"] > 0
    made = build(max_conversations=25, sequential=True)
    for text, token in ((kept.single, made.single), (kept.multi, made.multi)):
        done = tokenize_trace(text, "demo")
        assert done.prompts is not None and token.prompts is not None
        assert done.outputs is not None and token.outputs is not None
        assert done.prompts.values.tolist() == token.prompts.values.tolist()
        assert done.prompts.offsets.tolist() == token.prompts.offsets.tolist()
        assert done.outputs.values.tolist() == token.outputs.values.tolist()
        assert done.output_len.tolist() == token.output_len.tolist()


def test_memory_holds_only_sessions_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reader is never far ahead of what is written."""
    from prefixsim.traffic import build as module
    from prefixsim.traffic import trace_writers

    monkeypatch.setattr(module, "_BATCH_CONVERSATIONS", 10)
    read = written = ahead = 0
    flushed = trace_writers.BatchWriter.flush

    def rows() -> Any:
        nonlocal read, ahead
        for made in sample_conversations(2000, seed=3):
            read += 1
            ahead = max(ahead, read - written)
            yield made

    def flush(sink: Any) -> None:
        nonlocal written
        written = max([written, *(turn.conversation for turn, *_ in sink._turns)])
        flushed(sink)

    monkeypatch.setattr(trace_writers.BatchWriter, "flush", flush)
    monkeypatch.setattr(trace_writers, "_FLUSH_REQUESTS", 20)
    build(rows(), max_conversations=None, text=True, think_time=1.0)
    assert read == 2000
    assert ahead <= 60


def test_nothing_to_use() -> None:
    with pytest.raises(
        InputError, match=r"no conversation has a user message \(2 conversations read"
    ):
        build(IRREGULAR[:2])


def test_chat_template_that_refuses_a_conversation(monkeypatch: pytest.MonkeyPatch) -> None:
    from prefixsim.text import pretrained, tokenize

    load = pretrained.load_tokenizer

    def strict(model: str) -> Any:
        tokenizer = load(model)
        tokenizer.chat_template = (
            "{% if messages[0]['role'] == 'assistant' %}{{ raise_exception('no') }}{% endif %}"
            "{% for m in messages %}{{ m['content'] }}{% endfor %}"
        )
        return tokenizer

    monkeypatch.setattr(tokenize, "load_tokenizer", strict)
    with pytest.raises(InputError, match="row 3: the tokenizer's chat template refuses it"):
        build(IRREGULAR, template="chat")
    built = build(IRREGULAR, template="chat", skip_bad_rows=True)
    assert built.summary["data"]["bad_rows"] == {"refused_by_template": 1}
    assert len(built.multi) == 2


SHAREGPT = os.environ.get("PREFIXSIM_SHAREGPT")


@pytest.mark.skipif(SHAREGPT is None, reason="PREFIXSIM_SHAREGPT names no fetched ShareGPT file")
@pytest.mark.parametrize(("tokenization", "join"), [("whole", "text"), ("message", "messages")])
def test_first_hundred_sharegpt_conversations(shared: Path, tokenization: Any, join: str) -> None:
    path = golden_root() / "reference" / "sharegpt_100.json"
    if not path.is_file():
        pytest.skip(f"no recording {path}")
    golden = read_json(path)["results"]
    assert SHAREGPT is not None
    built = build(
        SHAREGPT,
        model=str(shared / "data/tokenizers/gpt2"),
        max_conversations=100,
        tokenization=tokenization,
        sequential=True,
    )
    for record in golden:
        if record["percent"] is not None or not record["vllm_rule"]:
            continue
        if record["mode"] == "multi" and record["join"] != join:
            continue
        trace = built.multi if record["mode"] == "multi" else built.single
        profile = prefixsim.compile(trace).profile(record["block"])
        hits = profile.replay("lru")["hit_blocks"]
        assert len(trace) == record["requests"]
        assert trace.prompt_tokens == record["prompt_tokens"]
        assert int(profile.full_blocks.sum()) == record["total_blocks"]
        assert profile.unique_blocks == record["unique_blocks"]
        assert int(hits.sum()) == record["hit_blocks"]
        share = hits * record["block"] / np.maximum(1, trace.prompt_len)
        assert share.mean() == pytest.approx(record["sharing"]["mean"], abs=1e-9)
        assert np.median(share) == pytest.approx(record["sharing"]["median"], abs=1e-9)


def test_first_turns_alone_make_the_single_turn_trace(tmp_path: Path) -> None:
    every = build(max_conversations=30)
    first = build(max_conversations=30, turns="first", output_dir=tmp_path)
    assert first.summary["config"]["turns"] == "first"
    assert every.summary["config"]["turns"] == "every"
    assert first.single.turn is not None and every.single.turn is not None
    kept = np.flatnonzero(every.single.turn == 0)
    assert 0 < len(kept) < len(every.single)
    assert first.single.digest == every.single.take(kept).digest
    assert first.multi.digest == every.multi.digest
    counts = [first.summary["traces"][kind]["requests"] for kind in ("single_turn", "multi_turn")]
    assert counts == [30, len(every.multi)]


def test_turns_are_checked() -> None:
    with pytest.raises(InputError, match="unknown turns 'last', choose one of every, first"):
        build(turns="last")
