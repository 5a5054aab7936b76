"""Mooncake files whose hash ids stand for other numbers of tokens than 512."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from prefixsim import InputError
from prefixsim.formats import read_trace


def write(path: Path, rows: list[tuple[int, int]]) -> Path:
    """Rows of a prompt's length and its number of ids."""
    lines = [
        {"timestamp": i, "input_length": n, "output_length": 1, "hash_ids": list(range(k))}
        for i, (n, k) in enumerate(rows)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def fits(length: int, ids: int, size: int) -> bool:
    return -(-length // size) == ids


@given(
    size=st.sampled_from([1, 2, 5, 16, 64, 100]),
    lengths=st.lists(st.integers(1, 300), min_size=1, max_size=8),
)
@settings(max_examples=60)
def test_the_size_is_found_as_trying_all_finds_it(
    size: int, lengths: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    rows = [(n, -(-n // size)) for n in lengths]
    path = write(tmp_path_factory.mktemp("sizes") / "t.jsonl", rows)
    possible = [s for s in range(1, 301) if all(fits(n, k, s) for n, k in rows)]
    if all(fits(n, k, 512) for n, k in rows):
        assert read_trace(path).id_block_size == 512
    elif len(possible) == 1:
        assert read_trace(path).id_block_size == size == possible[0]
    else:
        ours = sum(fits(n, k, 512) for n, k in rows)
        assume(2 * ours <= len(rows))
        told = f"each may stand for {possible[0]} to {possible[-1]} tokens; give --id-block-size"
        with pytest.raises(InputError, match=told):
            read_trace(path)
    assert read_trace(path, id_block_size=size).id_block_size == size


def test_long_prompts_tell_their_size(tmp_path: Path) -> None:
    trace = read_trace(write(tmp_path / "t.jsonl", [(32000, 2000), (31, 2), (16, 1)]))
    assert (trace.id_block_size, trace.format) == (16, "mooncake")


def test_a_bad_row_among_many_is_named_or_left_out(tmp_path: Path) -> None:
    path = write(tmp_path / "t.jsonl", [(32000, 2000), (160, 10), (161, 10), (17, 2)])
    with pytest.raises(InputError, match=r"t\.jsonl:3: hash_ids: 10 ids for 161 tokens, expect"):
        read_trace(path)
    trace = read_trace(path, skip_bad_rows=True)
    assert (len(trace), trace.id_block_size) == (3, 16)


def test_contradictions_are_one_line(tmp_path: Path) -> None:
    path = write(tmp_path / "t.jsonl", [(32000, 2000), (32000, 1000), (32000, 500), (64000, 250)])
    with pytest.raises(InputError, match="no size of block fits more than 1 of 4 rows; give --id"):
        read_trace(path)


def test_a_size_that_the_ids_do_not_have_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "t.jsonl", [(1030, 3), (600, 2)])
    with pytest.raises(InputError, match=r"t\.jsonl:1: hash_ids: 3 ids for 1030 tokens"):
        read_trace(path, id_block_size=16)
    other = tmp_path / "tokens.jsonl"
    other.write_text('{"timestamp": 0, "token_ids": [1, 2]}\n')
    with pytest.raises(InputError, match="ids of 16 tokens are asked for, but it has no hash ids"):
        read_trace(other, id_block_size=16)
