"""Counts and sizes as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefixsim.errors import InputError
from prefixsim.sizes import parse_bytes, parse_count, parse_size


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("5000", 5000),
        ("5_000", 5000),
        (" 20k ", 20_000),
        ("20K", 20_000),
        ("1.5M", 1_500_000),
        ("3g", 3 * 10**9),
        ("inf", None),
        ("Infinity", None),
        (12, 12),
    ],
)
def test_counts(text: str | int, count: int | None) -> None:
    assert parse_count(text) == count
    size = parse_size(text)
    assert (size.amount, size.in_bytes, size.blocks(16)) == (count, False, count)


@pytest.mark.parametrize(
    "text", ["", "0", "-3", "1.5", "0.0001k", "many", "nan", "1e3", "20 kg", "_1", "9" * 30, "40GB"]
)
def test_what_is_no_count(text: str) -> None:
    with pytest.raises(InputError, match="write it like 5000, 20k, 3M or inf"):
        parse_count(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("40GB", 40 * 10**9),
        ("40 GiB", 40 * 2**30),
        ("1.5kb", 1500),
        ("0.5KiB", 512),
        ("7B", 7),
        ("2TiB", 2**41),
    ],
)
def test_bytes(text: str, size: int) -> None:
    assert parse_bytes(text) == size
    assert (parse_size(text).amount, parse_size(text).in_bytes) == (size, True)


def test_bytes_without_the_b_are_bytes_where_only_bytes_are_meant() -> None:
    assert (parse_bytes("40G"), parse_bytes("40Gi"), parse_bytes(123)) == (
        40 * 10**9,
        40 * 2**30,
        123,
    )


@pytest.mark.parametrize("text", ["", "0", "0.1", "inf", "GB", "40XB", "-1GB", "4 0GB"])
def test_what_is_no_number_of_bytes(text: str) -> None:
    with pytest.raises(InputError, match="write it like 40GB or 40GiB"):
        parse_bytes(text)


@pytest.mark.parametrize("text", ["", "lots", "0", "0GB", "40Gi", "1.5"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(InputError, match="is no size: give blocks like 5000"):
        parse_size(text)


def test_blocks_of_a_size_in_bytes() -> None:
    size = parse_size("40GB")
    assert size.blocks(16, 131_072) == 40 * 10**9 // (16 * 131_072)
    with pytest.raises(InputError, match="40GB: a size in bytes needs the bytes of a token"):
        size.blocks(16)
    with pytest.raises(InputError, match="1kB: less than one block of 16 tokens"):
        parse_size("1kB").blocks(16, 131_072)


@given(st.integers(1, 2**63 - 1))
def test_every_plain_number_is_itself(number: int) -> None:
    assert parse_count(str(number)) == parse_bytes(str(number)) == number
