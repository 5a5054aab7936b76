"""Readers and writers: round trips, real files, and what is refused."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from prefixsim import InputError, Trace
from prefixsim.formats import format_names, formats, open_writer, read_trace, sniff_format
from prefixsim.trace import Codes, Ragged

KINDS = ("tokens", "hashes", "text", "lengths")
ENDINGS = [".jsonl", ".jsonl.gz", ".jsonl.zst", ".parquet", ".arrow"]


def content(trace: Trace) -> dict[str, Any]:
    """Everything a trace says, in plain Python."""
    out: dict[str, Any] = {
        "timestamp": trace.timestamp.tolist(),
        "prompt_len": trace.prompt_len.tolist(),
        "output_len": trace.output_len.tolist(),
        "kind": trace.kind,
        "id_block_size": trace.id_block_size,
    }
    for name in ("prompts", "outputs"):
        column = getattr(trace, name)
        out[name] = column and [column[i].tolist() for i in range(len(column))]
    for name in ("texts", "output_texts", "request_id", "session", "salt", "category"):
        column = getattr(trace, name)
        out[name] = None if column is None else [column[i] for i in range(len(column))]
    out["turn"] = None if trace.turn is None else trace.turn.tolist()
    return out


@st.composite
def traces(draw: st.DrawFn, kinds: Sequence[str] = KINDS) -> Trace:
    n = draw(st.integers(1, 8))
    rows = st.lists(st.integers(0, 2**32 - 1), max_size=6)
    times = st.floats(0, 1e9, allow_nan=False)
    words = st.lists(st.text(max_size=5), min_size=n, max_size=n)
    kind = draw(st.sampled_from(kinds))
    fields: dict[str, Any] = {
        "timestamp": np.sort(np.array(draw(st.lists(times, min_size=n, max_size=n)))),
        "prompt_len": np.array(
            draw(st.lists(st.integers(0, 99), min_size=n, max_size=n)), np.uint32
        ),
        "output_len": np.array(
            draw(st.lists(st.integers(0, 99), min_size=n, max_size=n)), np.uint32
        ),
    }
    if kind == "tokens":
        fields["prompts"] = Ragged.from_lists(draw(st.lists(rows, min_size=n, max_size=n)))
        fields["prompt_len"] = fields["prompts"].lengths.astype(np.uint32)
        if draw(st.booleans()):
            fields["outputs"] = Ragged.from_lists(draw(st.lists(rows, min_size=n, max_size=n)))
            fields["output_len"] = fields["outputs"].lengths.astype(np.uint32)
    elif kind == "hashes":
        size = fields["id_block_size"] = draw(st.sampled_from([1, 16, 512]))
        ids = st.integers(0, 2**64 - 1)
        fields["prompts"] = Ragged.from_lists(
            [
                draw(st.lists(ids, min_size=-(-int(k) // size), max_size=-(-int(k) // size)))
                for k in fields["prompt_len"]
            ],
            np.uint64,
        )
    elif kind == "text":
        fields["texts"] = draw(words)
        if draw(st.booleans()):
            fields["output_texts"] = draw(words)
    if draw(st.booleans()):
        fields["request_id"] = draw(words)
        fields["session"] = Codes.from_strings(draw(words))
        fields["turn"] = np.array(
            draw(st.lists(st.integers(0, 9), min_size=n, max_size=n)), np.uint32
        )
    if draw(st.booleans()):
        # An empty label and no label are one thing, so a column of none at all does not survive.
        fields["salt"] = Codes.from_strings([*draw(words)[1:], "tenant"])
        fields["category"] = Codes.from_strings(draw(words))
    return Trace(**fields)


@pytest.mark.parametrize("ending", ENDINGS)
@given(trace=traces())
@settings(max_examples=60)
def test_round_trip(trace: Trace, ending: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("trace") / f"t{ending}"
    trace.write(path)
    back = Trace.read(path)
    assert content(back) == content(trace)
    assert back.digest == trace.digest or trace.salt is not None  # names may be in another order


def starting_at_zero(trace: Trace, unit: float) -> npt.NDArray[np.float64]:
    """Times from 0 that are whole numbers of ``1 / unit`` seconds."""
    whole = np.floor(trace.timestamp - trace.timestamp[0])
    return np.asarray(whole + (whole % 997) / unit)


@given(trace=traces(kinds=["hashes"]))
@settings(max_examples=60)
def test_round_trip_mooncake(trace: Trace, tmp_path_factory: pytest.TempPathFactory) -> None:
    """What Mooncake rows hold: lengths, ids of 512 tokens, times in ms."""
    path = tmp_path_factory.mktemp("trace") / "t.jsonl"
    lengths = trace.prompt_len * np.uint32(37)
    counts = -(-lengths.astype(np.int64) // 512)
    trace = Trace(
        timestamp=starting_at_zero(trace, 1e3),
        prompt_len=lengths,
        output_len=trace.output_len,
        prompts=Ragged.from_lists([[2**64 - 1 - i] * n for i, n in enumerate(counts)], np.uint64),
        id_block_size=512,
    )
    trace.write(path, format="mooncake")
    back = Trace.read(path)
    assert (back.format, content(back)) == ("mooncake", content(trace))
    with pytest.raises(InputError, match="the mooncake format holds hash ids of 512 tokens only"):
        trace.replace(id_block_size=16).write(path, format="mooncake")


@given(trace=traces(kinds=["text"]))
@settings(max_examples=60)
def test_round_trip_lmcache(trace: Trace, tmp_path_factory: pytest.TempPathFactory) -> None:
    """What LMCache rows hold: texts, sessions, times in µs."""
    path = tmp_path_factory.mktemp("trace") / "t.jsonl"
    none = np.zeros(len(trace), np.uint32)
    trace = Trace(
        timestamp=starting_at_zero(trace, 1e3),
        prompt_len=none,
        output_len=none,
        texts=trace.texts,
        output_texts=trace.output_texts or [""] * len(trace),
        session=trace.session,
    )
    trace.write(path, format="lmcache")
    back = Trace.read(path)
    assert (back.format, content(back)) == ("lmcache", content(trace))
    with pytest.raises(InputError, match="the lmcache format holds texts, not messages"):
        trace.replace(meta={"texts": "messages"}).write(path, format="lmcache")


@given(trace=traces(kinds=["text"]), parts=st.booleans())
@settings(max_examples=60)
def test_round_trip_openai(
    trace: Trace, parts: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """What request logs hold: messages, all labels but turns, lengths."""
    path = tmp_path_factory.mktemp("trace") / "t.jsonl"
    assert trace.texts is not None
    texts = []
    for text in trace.texts:
        said: Any = [{"type": "text", "text": text}] if parts else text
        request = {"messages": [{"role": "user", "content": said}], "tools": [{"name": text}]}
        texts.append(json.dumps(request, ensure_ascii=False, separators=(",", ":")))
    answers = trace.output_texts
    labels: dict[str, Any] = {
        name: column if column is not None and any(column[i] for i in range(len(trace))) else None
        for name in ("request_id", "session", "category", "salt")
        for column in [getattr(trace, name)]
    }
    trace = Trace(
        timestamp=starting_at_zero(trace, 1e3),
        prompt_len=trace.prompt_len,
        output_len=trace.output_len,
        texts=texts,
        output_texts=answers if answers is not None and any(answers) else None,
        meta={"texts": "messages"},
        **labels,
    )
    trace.write(path, format="openai")
    back = Trace.read(path)
    assert (back.format, content(back)) == ("openai", content(trace))
    back.meta.pop("lost", None)  # what a log does not say of its calls
    assert back.meta == {"texts": "messages", "epoch_s": 0.0}
    with pytest.raises(InputError, match="the openai format holds messages, not text"):
        trace.replace(meta={}).write(path, format="openai")


@pytest.mark.parametrize("name", ["azure", "burstgpt", "bailian", "kv-events"])
def test_formats_that_are_only_read(name: str, tmp_path: Path) -> None:
    writable = "parquet, arrow, mooncake, lmcache, openai, jsonl"
    with pytest.raises(InputError, match=f"the {name} format is only read, write {writable}"):
        Trace.from_prompts([[1]]).write(tmp_path / "t", format=name)


@pytest.mark.parametrize("ending", ENDINGS)
def test_batches_with_other_labels_join(ending: str, tmp_path: Path) -> None:
    batches = [
        Trace.from_prompts([[1], [2, 3]], timestamp=[t, t + 1], session=[f"s{t}", "common"])
        for t in (0, 2, 4)
    ]
    with open_writer(tmp_path / f"t{ending}") as writer:
        for batch in batches:
            writer.write(batch)
    back = Trace.read(tmp_path / f"t{ending}")
    assert back.session is not None
    assert [back.session[i] for i in range(6)] == ["s0", "common", "s2", "common", "s4", "common"]
    assert back.prompts is not None
    assert back.prompts.values.tolist() == [1, 2, 3] * 3


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_failed_write_leaves_nothing(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"t{ending}"
    with pytest.raises(RuntimeError), open_writer(path) as writer:
        writer.write(Trace.from_prompts([[1]]))
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_an_arrow_file_written_at_once_is_not_copied(tmp_path: Path) -> None:
    prompts = [np.arange(5000, dtype=np.uint32)] * 300
    Trace.from_prompts(prompts).write(tmp_path / "t.arrow")
    back = Trace.read(tmp_path / "t.arrow")
    assert back.prompts is not None
    assert not back.prompts.values.flags.owndata
    assert not back.prompts.values.flags.writeable
    assert back.prompts[299].tolist() == list(range(5000))


def test_mooncake(shared: Path) -> None:
    trace = Trace.read(shared / "data/mooncake/conversation_trace.jsonl.gz")
    assert trace.format == "mooncake"
    assert len(trace) == 12031
    assert trace.prompt_tokens == 144793823
    assert int(trace.output_len.sum()) == 4122048
    assert trace.prompts is not None
    assert len(trace.prompts.values) == 288500
    assert len(np.unique(trace.prompts.values)) == 182790
    assert trace.timestamp[-1] == 3536.999


@pytest.mark.parametrize(
    ("name", "counts"), [("magagent", (746, 25, 53, None)), ("taubench", (471, 24, None, 283))]
)
def test_lmcache(shared: Path, name: str, counts: tuple[int, int, int | None, int | None]) -> None:
    requests, sessions, empty_inputs, empty_outputs = counts
    trace = Trace.read(shared / f"data/lmcache-agent/{name}.jsonl.gz")
    assert (trace.format, len(trace), trace.kind) == ("lmcache", requests, "text")
    assert trace.session is not None
    assert len(trace.session.names) == sessions
    assert trace.texts is not None
    assert trace.output_texts is not None
    if empty_inputs is not None:
        assert sum(not text for text in trace.texts) == empty_inputs
    if empty_outputs is not None:
        assert sum(not text for text in trace.output_texts) == empty_outputs
    assert np.all(np.diff(trace.timestamp) >= 0)


def test_azure(shared: Path) -> None:
    trace = Trace.read(shared / "data/azure2023/AzureLLMInferenceTrace_conv.csv.gz")
    assert (trace.format, len(trace), trace.kind) == ("azure", 19366, "lengths")
    assert trace.prompt_tokens == 22361870
    assert int(trace.prompt_len.max()) == 14050
    assert int(trace.output_len.sum()) == 4088665
    assert int(trace.output_len.max()) == 1000
    assert round(trace.timestamp[-1]) == 58 * 60 + 22
    assert trace.timestamp[0] == 0


def test_burstgpt(tmp_path: Path) -> None:
    path = tmp_path / "b.csv"
    head = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
    path.write_text(head + "5,ChatGPT,472,18,490,Conversation log\n45,GPT-4,9,0,9,API log")
    trace = Trace.read(path)
    assert (trace.format, trace.prompt_len.tolist()) == ("burstgpt", [472, 9])
    assert trace.timestamp.tolist() == [5, 45]
    path.write_text(head + "5,ChatGPT,472,18,490,Conversation log\n45,GPT-4,-9,0,9,API log\n")
    with pytest.raises(InputError, match="b.csv:3: Request tokens: '-9' is not a whole number"):
        Trace.read(path)
    for cell in ("", "NULL", "nan"):
        path.write_text(head + f"5,ChatGPT,472,{cell},490,Conversation log\n")
        with pytest.raises(InputError, match=f"b.csv:2: Response tokens: '{cell}' is not a whole"):
            Trace.read(path)
    path.write_text(head + "nan,ChatGPT,472,1,490,Conversation log\n")
    with pytest.raises(InputError, match="b.csv:2: .*imestamp: "):
        Trace.read(path)
    path.write_text(head + "5,ChatGPT,472\n")
    with pytest.raises(InputError, match="b.csv:2: has 3 cells, the header has 6"):
        Trace.read(path)
    path.write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match=r"fields \(a, b\) fit no trace format"):
        Trace.read(path)
    with pytest.raises(InputError, match="b.csv:1: Timestamp: column is missing"):
        read_trace(path, format="burstgpt")


def test_bailian_sessions_follow_parents(tmp_path: Path) -> None:
    path = tmp_path / "b.jsonl"
    rows = [(1, -1, 0.5), (2, 1, 1.5), (3, -1, 2.0), (4, 2, 3.0), (9, 8, 4.0)]
    path.write_text(
        "".join(
            json.dumps(
                {"chat_id": c, "parent_chat_id": p, "timestamp": t, "input_length": 17}
                | {"output_length": 3, "type": "text", "turn": 1, "hash_ids": [c, c + 100]}
            )
            + "\n"
            for c, p, t in rows
        )
    )
    trace = Trace.read(path)
    assert trace.format == "bailian"
    assert trace.id_block_size == 16
    assert trace.session is not None
    assert trace.turn is not None
    assert [trace.session[i] for i in range(5)] == ["1", "1", "3", "1", "8"]
    assert trace.turn.tolist() == [0, 1, 0, 2, 1]


GOOD = '{"timestamp":0,"input_length":600,"output_length":1,"hash_ids":[1,2]}\n'


def test_the_documentation_lists_every_format() -> None:
    page = (Path(__file__).parents[2] / "docs/formats.md").read_text()
    rows = [line.split("|") for line in page.splitlines() if line.startswith("| `")]
    table = {row[1].strip(" `"): row[4].strip() for row in rows[1 : len(format_names()) + 1]}
    assert sorted(table) == sorted(format_names())
    assert {name for name, written in table.items() if written} == {
        found.name for found in formats() if found.open_writer is not None
    }


def test_compression_line_ends_and_bom_do_not_matter(tmp_path: Path) -> None:
    plain = GOOD.encode() * 3
    variants = [
        plain,
        plain.replace(b"\n", b"\r\n"),
        plain[:-1],
        b"\xef\xbb\xbf" + plain,
        gzip.compress(plain),
        zstandard.compress(plain),
        gzip.compress(plain[:10]) + gzip.compress(plain[10:]),
    ]
    read = []
    for i, raw in enumerate(variants):
        path = tmp_path / f"{i}"
        path.write_bytes(raw)
        assert sniff_format(path).name == "mooncake"
        read.append(content(read_trace(path)))
    assert all(one == read[0] for one in read)
