"""Traces as people meet them at a prompt: from other tables, in slices, shown, pickled."""

from __future__ import annotations

import pickle
from concurrent.futures import ProcessPoolExecutor
from datetime import datetime, timedelta
from multiprocessing import get_context
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import prefixsim
from prefixsim.errors import InputError
from prefixsim.trace import Codes, Trace

PROMPTS = [[1, 2, 3, 4], [1, 2, 3, 4, 5], [9], [1, 2, 7, 8]]
ROWS: dict[str, Any] = {
    "token_ids": PROMPTS,
    "timestamp": [0.0, 1.5, 2.0, 7.0],
    "output_len": [3, 0, 1, 2],
    "session": ["a", "a", None, "b"],
    "turn": [0, 1, 0, 0],
    "salt": [None, None, "x", None],
    "request_id": ["p", "q", "r", "s"],
}


@pytest.fixture
def trace() -> Trace:
    return Trace.from_arrow(pa.table(ROWS), name="small")


def same(left: Trace, right: Trace) -> None:
    assert left.digest == right.digest
    assert left.name == right.name
    for row in range(len(left)):
        one, other = vars(left[row]), vars(right[row])
        for name, value in one.items():
            if isinstance(value, np.ndarray):
                assert value.tolist() == other[name].tolist(), name
            else:
                assert value == other[name], name


def test_from_arrow(trace: Trace) -> None:
    assert trace.kind == "tokens"
    assert trace.prompts is not None
    assert [trace.prompts[i].tolist() for i in range(4)] == PROMPTS
    assert trace.timestamp.tolist() == ROWS["timestamp"]
    assert [trace[i].session for i in range(4)] == ROWS["session"]
    assert [trace[i].salt for i in range(4)] == ROWS["salt"]


@pytest.mark.parametrize("rows", [ROWS, {"token_ids": PROMPTS}])
def test_every_library_gives_the_same_trace(rows: dict[str, Any]) -> None:
    wanted = Trace.from_arrow(pa.table(rows))
    frame, polars = pd.DataFrame(rows), pl.DataFrame(rows)
    same(Trace.from_pandas(frame), wanted)
    same(Trace.from_polars(polars), wanted)
    same(Trace.from_polars(polars.lazy()), wanted)
    for source in (polars, wanted, pa.table(rows).to_batches()[0], pa.table(rows).to_reader()):
        same(Trace.from_arrow(source), wanted)


def test_a_trace_is_a_table_for_other_libraries(trace: Trace) -> None:
    frame = pl.DataFrame(trace)
    assert frame["token_ids"].to_list() == PROMPTS
    same(Trace.from_polars(frame, name="small"), trace)
    assert pa.table(trace).equals(trace.to_arrow())


def test_times_of_any_kind_become_seconds() -> None:
    start = datetime(2024, 5, 1, 12)
    times = [start + timedelta(seconds=s) for s in (0, 0.25, 60)]
    prompts = PROMPTS[:3]
    for unit in ("s", "ms", "us", "ns"):
        column = pa.array(times[:1] + times[2:], pa.timestamp("us")).cast(pa.timestamp(unit))
        trace = Trace.from_arrow(pa.table({"timestamp": column, "token_ids": prompts[:2]}))
        assert trace.timestamp.tolist() == [0.0, 60.0]
        assert trace.meta["epoch_s"] == pytest.approx(1714564800)
    frame = pd.DataFrame({"timestamp": times, "token_ids": prompts})
    assert Trace.from_pandas(frame).timestamp.tolist() == [0.0, 0.25, 60.0]
    later = pa.array([timedelta(seconds=2), timedelta(seconds=3)])
    trace = Trace.from_arrow(pa.table({"timestamp": later, "token_ids": prompts[:2]}))
    assert trace.timestamp.tolist() == [2.0, 3.0]


def test_missing_labels_are_none_whatever_their_type() -> None:
    frame = pd.DataFrame(
        {"token_ids": PROMPTS, "session": [1.0, float("nan"), 2.0, 2.0], "salt": [1, 2, 3, 3]}
    )
    trace = Trace.from_pandas(frame)
    assert [trace[i].session for i in range(4)] == ["1", None, "2", "2"]
    assert [trace[i].salt for i in range(4)] == ["1", "2", "3", "3"]


def test_hash_ids_stand_for_blocks() -> None:
    rows = pa.table({"hash_ids": [[1, 2], [1, 2, 3]]})
    trace = Trace.from_arrow(rows, id_block_size=512)
    assert (trace.kind, trace.prompt_len.tolist()) == ("hashes", [1024, 1536])
    assert prefixsim.replay(trace).outcome.hit_tokens.tolist() == [0, 1024]


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        ({"prompt": ["x"]}, "columns (prompt) tell no prompts: token_ids, hash_ids, text"),
        ({"token_ids": [[1], None]}, "token_ids: has empty cells"),
        ({"token_ids": ["x"]}, "token_ids: is string, expected lists of whole numbers"),
        ({"token_ids": [[-1]]}, "token_ids: "),
        ({"token_ids": [[1], [2]], "timestamp": [2.0, 1.0]}, "row 1: timestamp: earlier"),
        ({"token_ids": [[1]], "timestamp": [float("nan")]}, "timestamp: nan s is no time"),
        ({"token_ids": [[1]], "timestamp": pa.array([None], pa.timestamp("s"))}, "empty cells"),
        ({"token_ids": [[1]], "turn": [None]}, "turn: "),
    ],
)
def test_what_is_no_trace(rows: dict[str, Any], problem: str) -> None:
    with pytest.raises(InputError) as caught:
        Trace.from_arrow(pa.table(rows), name="rows")
    assert str(caught.value).startswith("rows: ")
    assert problem in str(caught.value)


def test_what_gives_no_arrow_columns() -> None:
    with pytest.raises(InputError, match="list gives no Arrow columns"):
        Trace.from_arrow([1, 2])


def test_rows_out_of_order_are_sorted_if_asked() -> None:
    rows = pa.table({"token_ids": [[1], [2]], "timestamp": [2.0, 1.0]})
    assert Trace.from_arrow(rows, sort=True).timestamp.tolist() == [1.0, 2.0]


def test_from_texts() -> None:
    texts = ["Once upon a time", "Once upon a time, there"]
    trace = Trace.from_texts(texts, session=["a", "a"], output_texts=["x", "y"], output_len=[1, 1])
    assert (trace.kind, [trace[i].text for i in range(2)]) == ("text", texts)
    assert trace[1].output_text == "y"
    with pytest.raises(InputError, match="row 0: timestamp"):
        Trace.from_texts(["x"], timestamp=[float("inf")])


def test_requests_and_slices(trace: Trace) -> None:
    third = trace[2]
    assert (third.row, third.request_id, third.prompt_len, third.salt) == (2, "r", 1, "x")
    assert (third.session, third.turn, third.text) == (None, 0, None)
    assert repr(trace[1]) == (
        "<Request q at 1.500 s: 5 prompt tokens, 0 output tokens, session a, turn 1>"
    )
    assert trace[-1].request_id == "s"
    assert [request.request_id for request in trace] == ["p", "q", "r", "s"]  # type: ignore[attr-defined]
    assert [trace[1:3][i].request_id for i in range(2)] == ["q", "r"]
    assert len(trace[::2]) == 2
    assert len(trace[10:]) == 0
    for row in (4, -5):
        with pytest.raises(IndexError):
            trace[row]
    with pytest.raises(InputError, match="goes back in time"):
        trace[::-1]


def test_shown_in_a_notebook(trace: Trace) -> None:
    shown = trace.replace(name="<b>")._repr_html_()
    assert "&lt;b&gt;" in shown
    assert "prompt tokens" in shown
    assert "prompt tokens" not in Trace.from_texts(["x"])._repr_html_()
    assert "span" not in Trace.from_texts([])._repr_html_()


def hits(result: prefixsim.Result) -> tuple[list[int], dict[str, Any], int]:
    again = result.again(block_size=1).outcome.hit_tokens
    return again.tolist(), result.summary, result.metrics.window.unique_blocks


def test_pickles_are_equal(trace: Trace) -> None:
    same(pickle.loads(pickle.dumps(trace)), trace)
    forest = prefixsim.compile(trace)
    copy = pickle.loads(pickle.dumps(forest))
    assert copy.stats == forest.stats
    assert copy.profile(2).replay("lru", 3) is not None
    assert copy.unique_blocks(2) == forest.unique_blocks(2)
    for warmup in (0.0, 0.5):
        result = prefixsim.replay(trace, block_size=2, num_blocks=8, warmup=warmup)
        assert hits(pickle.loads(pickle.dumps(result))) == hits(result)
        result.waterfall()
        result.requests  # noqa: B018 - a cached table is pickled too
        assert pickle.loads(pickle.dumps(result)).to_dict() == result.to_dict()
    curves = prefixsim.curve(trace, block_size=[1, 2], policy=["lru", "clairvoyant"])
    assert pickle.loads(pickle.dumps(curves)).to_dict() == curves.to_dict()
    assert pickle.loads(pickle.dumps(curves[0])).to_dict() == curves[0].to_dict()


def test_pickles_cross_processes(trace: Trace) -> None:
    result = prefixsim.replay(trace, block_size=2, num_blocks=8, warmup=0.25)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        assert pool.submit(hits, result).result() == hits(result)
        back = pool.submit(prefixsim.replay, trace, block_size=2).result()
    assert back.to_dict() == prefixsim.replay(trace, block_size=2).to_dict()


def test_what_decides_a_replay_decides_the_digest() -> None:
    prompts, names = [[1] * 20, [1] * 20], ["a", "b"]
    same = Trace.from_prompts(prompts, session=names)
    assert same.digest == Trace.from_prompts(prompts, session=["x", "y"]).digest
    codes = Codes.from_strings
    traces = [
        Trace.from_prompts(prompts),
        same,
        *(Trace.from_prompts(prompts, salt=s) for s in (names, ["a\0b", "a\0b"], ["a", "a\0b"])),
        *(
            Trace.from_prompts(prompts, salt=s)
            for s in (["a\0", "b"], ["a", "\0b"], ["\ud800", ""])
        ),
        Trace.from_prompts(prompts).replace(category=codes(names)),
        Trace.from_prompts(prompts, salt=names).replace(category=codes(names)),
        *(Trace.from_prompts(prompts, output_len=n) for n in ([1, 0], [0, 1])),
        Trace.from_prompts(prompts, timestamp=[0, 7]),
        Trace.from_prompts(prompts, outputs=[[1], [2]]),
        Trace.from_prompts(prompts, outputs=[[1, 2], []]),
        Trace.from_prompts([prompts[0], [1] * 19 + [2]]),
    ]
    assert len({trace.digest for trace in traces}) == len(traces)


@given(st.lists(st.lists(st.text("\0a", max_size=3), min_size=2, max_size=2), max_size=2))
def test_texts_are_told_apart(pairs: list[list[str]]) -> None:
    zeros = np.zeros(2, dtype=np.uint32)
    digests = {
        Trace(timestamp=np.zeros(2), prompt_len=zeros, output_len=zeros, texts=texts).digest
        for texts in pairs
    }
    assert len(digests) == len({tuple(texts) for texts in pairs})
