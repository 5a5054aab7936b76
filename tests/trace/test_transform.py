"""Traces from traces."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefixsim import InputError, Trace
from prefixsim.formats import read_trace
from prefixsim.trace import Codes, joining, transform

prompts = st.lists(st.lists(st.integers(0, 2), max_size=7), min_size=1, max_size=12)


def blocks(trace: Trace, size: int) -> list[list[tuple[int, ...]]]:
    """For every request: its chain of blocks, each told by all ids up to its end."""
    assert trace.prompts is not None
    rows = [trace.prompts[i].tolist() for i in range(len(trace))]
    return [[tuple(r[: k + size]) for k in range(0, len(r), size)] for r in rows]


KEY = bytes(range(32))


@given(rows=prompts, size=st.integers(1, 4))
def test_anonymized_prompts_share_what_they_shared(rows: list[list[int]], size: int) -> None:
    trace = Trace.from_prompts(rows, session=["alice"] * len(rows))
    hidden = transform.anonymize(trace, block_size=size, key=KEY)
    assert hidden.prompts is not None
    before = [chain for chains in blocks(trace, size) for chain in chains]
    after = hidden.prompts.values.tolist()
    assert len(before) == len(after)
    pairs = dict(zip(before, after, strict=True))
    assert [pairs[chain] for chain in before] == after
    assert len(set(pairs.values())) == len(pairs)
    assert hidden.prompt_len.tolist() == trace.prompt_len.tolist()
    assert hidden.session is not None
    assert "alice" not in hidden.session.names
    again = transform.anonymize(trace, block_size=size, key=KEY)
    other = transform.anonymize(trace, block_size=size, key=KEY[::-1])
    assert again.digest == hidden.digest
    assert not before or other.digest != hidden.digest


def test_anonymizing_a_hashed_trace_regroups_its_ids(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    path.write_text(
        '{"timestamp":0,"input_length":1500,"output_length":1,"hash_ids":[1,2,3]}\n'
        '{"timestamp":1,"input_length":1024,"output_length":1,"hash_ids":[1,2]}\n'
    )
    trace = transform.anonymize(Trace.read(path), block_size=1024, key=KEY)
    assert trace.prompts is not None
    assert trace.prompts.lengths.tolist() == [2, 1]
    assert trace.prompts.values[0] == trace.prompts.values[2]
    trace.write(tmp_path / "a.parquet")
    assert Trace.read(tmp_path / "a.parquet").id_block_size == 1024
    with pytest.raises(InputError, match="must be a multiple of 512"):
        transform.anonymize(Trace.read(path), block_size=16, key=KEY)


@given(rows=prompts, fraction=st.floats(0.01, 1), seed=st.integers(0, 9))
def test_sampling_keeps_trees_whole(rows: list[list[int]], fraction: float, seed: int) -> None:
    trace = Trace.from_prompts(rows)
    kept = transform.sample_trees(trace, fraction, head=2, seed=seed)
    times = set(kept.timestamp.tolist())
    for i, a in enumerate(rows):
        for j, b in enumerate(rows):
            if a[:2] == b[:2]:
                assert (i in times) == (j in times)
    assert len(kept)


def test_sampling_everything_keeps_everything(shared: Path) -> None:
    trace = Trace.read(shared / "data/mooncake/conversation_trace.jsonl.gz")
    salted = transform.add_salt(trace, "tenant")
    assert len(transform.sample_trees(salted, 1.0)) == len(trace)
    with pytest.raises(InputError, match="must be above 0 and at most 1"):
        transform.sample_trees(trace, 0.0)


def test_slices() -> None:
    trace = Trace.from_prompts(
        [[i] for i in range(6)], timestamp=[5, 6, 7, 8, 9, 10], session=list("abcabc")
    )
    assert transform.slice_time(trace, 1, 3).timestamp.tolist() == [6, 7]
    assert transform.slice_time(trace, None, 1).timestamp.tolist() == [5]
    assert transform.slice_requests(trace, -2, None).timestamp.tolist() == [9, 10]
    assert transform.first_sessions(trace, 2).timestamp.tolist() == [5, 6, 8, 9]
    with pytest.raises(InputError, match="no request lies in this time range"):
        transform.slice_time(trace, 100, 200)
    with pytest.raises(InputError, match="has no sessions"):
        transform.first_sessions(Trace.from_prompts([[1]]), 1)


def test_rate() -> None:
    trace = Trace.from_prompts([[1], [2], [3]], timestamp=[10, 12, 16])
    assert transform.scale_rate(trace, 2).timestamp.tolist() == [10, 11, 13]
    for bad in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(InputError, match="must be a number above 0"):
            transform.scale_rate(trace, bad)


def test_merging_by_time_keeps_every_column() -> None:
    one = Trace.from_prompts([[1], [2, 2]], timestamp=[0, 5], session=["s", "t"], salt=["x", None])
    two = Trace.from_prompts([[3], []], timestamp=[1, 5], session=["s", "u"], name="two")
    merged = joining.merge([one, two])
    assert merged.timestamp.tolist() == [0, 1, 5, 5]
    assert merged.prompts is not None
    assert [merged.prompts[i].tolist() for i in range(4)] == [[1], [3], [2, 2], []]
    assert merged.session is not None
    assert [merged.session[i] for i in range(4)] == ["s", "s", "t", "u"]
    assert merged.salt is not None
    assert [merged.salt[i] for i in range(4)] == ["x", "", "", ""]
    lengths = two.replace(prompts=None)
    with pytest.raises(InputError, match="two: holds lengths, memory holds tokens"):
        joining.concat([one, lengths])


def test_salt_isolates_and_nests() -> None:
    trace = Trace.from_prompts([[1], [1]], salt=["a", None])
    salted = transform.add_salt(trace, "f")
    assert salted.salt is not None
    assert [salted.salt[i] for i in range(2)] == ["f/a", "f"]
    plain = transform.add_salt(Trace.from_prompts([[1]]), "f").salt
    assert isinstance(plain, Codes)
    assert plain.names == ["f"]


def test_patterns_and_standard_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(3):
        Trace.from_prompts([[i]], timestamp=[10 - i]).write(tmp_path / f"p{i}.jsonl")
    merged = read_trace(tmp_path / "p*.jsonl")
    assert merged.timestamp.tolist() == [8, 9, 10]
    assert merged.name == "p*.jsonl"
    with pytest.raises(InputError, match="no file fits this pattern"):
        read_trace(tmp_path / "q*.jsonl")
    raw = (tmp_path / "p1.jsonl").read_bytes()
    with io.TextIOWrapper(io.BytesIO(raw)) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        trace = read_trace("-")
    assert trace.name == "stdin"
    assert np.array_equal(trace.timestamp, [9])
