"""Block hashes: against vectors recorded from vLLM 0.33, and against Python's own encoders."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import prefixsim
from prefixsim.engines.hashing import HashAlgorithm
from tests.golden import cases, read_json

VECTOR_FILES = ["hash_vectors_default_seed.json", "hash_vectors_seed0.json"]
CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "salt": {"salt": "tenant-1"},
    "lora": {"lora": ("my-lora", "/adapters/a")},
    "lora+salt": {"lora": ("my-lora", "/adapters/a"), "salt": "tenant-1"},
    "mm": {"multimodal": [("imghash0", 10, 12), ("imghash1", 24, 20)]},
}


def check_vectors(path: Path) -> None:
    vectors = read_json(path)
    assert vectors
    for vector in vectors:
        known = {"block_size": vector["block_size"], "seed": vector["seed"]}
        args = (vector["tokens"], vector["block_size"], vector["algo"])
        derived = prefixsim.hash_blocks(*args, seed=known["seed"], **CASES[vector["case"]])
        assert [h.hex() for h in derived] == vector["hashes"], vector["case"]
        given_keys = prefixsim.hash_blocks(
            *args, seed=known["seed"], extra_keys=vector["extra_keys"]
        )
        assert given_keys == derived


@pytest.mark.parametrize("name", VECTOR_FILES)
def test_vectors_recorded_from_vllm(data: Path, name: str) -> None:
    check_vectors(data / "vllm" / name)


@pytest.mark.parametrize("path", cases("vllm", "hash_vectors*.json"))
def test_golden_vllm_hash_vectors(path: Path) -> None:
    check_vectors(path)


def distinct(value: Any) -> Any:
    """Copy strings, so that pickle sees separate objects, as it does in vLLM."""
    if isinstance(value, tuple):
        return (value[0], *(distinct(v) for v in value[1:])) if value else value
    if isinstance(value, str):
        return value.encode().decode()
    return bytes(bytearray(value)) if isinstance(value, bytes) else value


token_ids = st.one_of(st.integers(0, 300), st.integers(65_530, 65_540), st.integers(0, 2**32 - 1))
# Python has one object for each string or bytes of up to one character, which pickle would see.
extra_values = st.one_of(
    st.text(st.characters(codec="utf-8"), min_size=2, max_size=300),
    st.integers(-(2**63), 2**63 - 1),
    st.binary(min_size=2, max_size=300),
    st.none(),
)
tags = st.sampled_from(["mm", "lora", "cache_salt"])
extra_keys = st.none() | st.lists(
    st.tuples(tags, extra_values, extra_values), min_size=1, max_size=6
).map(tuple)


@given(
    tokens=st.lists(token_ids, min_size=1, max_size=40),
    block_size=st.integers(1, 9),
    extras=st.lists(extra_keys, min_size=40, max_size=40),
    seed=st.text(st.characters(codec="utf-8"), max_size=20),
)
def test_pickled_hashes_are_those_of_pickle(
    tokens: list[int], block_size: int, extras: list[Any], seed: str
) -> None:
    parent = hashlib.sha256(pickle.dumps(seed, protocol=5)).digest()
    expected = []
    for i in range(len(tokens) // block_size):
        block = tuple(tokens[i * block_size : (i + 1) * block_size])
        extra = extras[i] and tuple((t, distinct(a), distinct(b)) for t, a, b in extras[i])
        parent = hashlib.sha256(pickle.dumps((parent, block, extra), protocol=5)).digest()
        expected.append(parent)
    hashes = prefixsim.hash_blocks(tokens, block_size, "sha256", extra_keys=extras, seed=seed)
    assert hashes == expected


def test_pickles_of_more_than_one_frame() -> None:
    tokens = list(range(70_000, 110_000))
    parent = hashlib.sha256(pickle.dumps("vllm-none-hash", protocol=5)).digest()
    pickled = pickle.dumps((parent, tuple(tokens), None), protocol=5)
    assert pickled.count(b"\x95") > 2
    hashes = prefixsim.hash_blocks(tokens, len(tokens), "sha256")
    assert hashes == [hashlib.sha256(pickled).digest()]


ALGORITHMS: list[HashAlgorithm] = ["xxh3", "sha256_cbor", "sha256", "xxhash_cbor", "xxhash"]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("changed", ["salt", "lora", "multimodal", "extra_keys", "token"])
def test_what_isolates_changes_every_hash_from_there_on(
    algorithm: HashAlgorithm, changed: str
) -> None:
    tokens = list(range(64))
    plain = prefixsim.hash_blocks(tokens, 16, algorithm)
    options: dict[str, Any] = {
        "salt": {"salt": "a"},
        "lora": {"lora": ("name", "path")},
        "multimodal": {"multimodal": [("image", 20, 4)]},
        "extra_keys": {"extra_keys": [None, ("x",), None, None]},
        "token": {},
    }
    if changed == "token":
        tokens[17] = 999
    first = 0 if changed in {"salt", "lora"} else 1
    hashes = prefixsim.hash_blocks(tokens, 16, algorithm, **options[changed])
    assert hashes[:first] == plain[:first]
    assert not set(hashes[first:]) & set(plain)


@pytest.mark.parametrize(
    "tokens",
    [range(40), np.arange(40, dtype=np.uint32), np.arange(40, dtype=np.int16), tuple(range(40))],
)
def test_any_integer_sequence_is_accepted(tokens: Any) -> None:
    assert prefixsim.hash_blocks(tokens) == prefixsim.hash_blocks(list(range(40)))


def test_arrays_with_gaps() -> None:
    every_second = np.arange(80, dtype=np.uint32)[::2]
    assert prefixsim.hash_blocks(every_second) == prefixsim.hash_blocks(every_second.tolist())


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        ([1, -1], "item 1 is -1"),
        ([2**32], "item 0 is 4294967296"),
        ([1.5], "item 0 is 1.5"),
        (["a"], "item 0 is 'a'"),
        (np.array([-3]), "item 0 is -3"),
        (np.array([2**40], dtype=np.uint64), "item 0 is 1099511627776"),
        (np.zeros((2, 2), dtype=np.uint32), "2 dimensions"),
        (np.array([1.0]), "float64"),
        (7, "not a sequence"),
    ],
)
def test_bad_tokens_are_value_errors(tokens: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        prefixsim.hash_blocks(tokens)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"block_size": 0}, "block_size is 0"),
        ({"block_size": -16}, "block_size is -16"),
        ({"algorithm": "md5"}, "choose xxh3"),
        ({"seed": "0"}, "xxh3 has no seed"),
        ({"extra_keys": [("a",)], "salt": "b"}, "one or the other"),
        ({"extra_keys": [(1.5,)]}, "type float"),
        ({"extra_keys": [(2**70,)]}, "64 bits"),
        ({"multimodal": [("b", 9, 1), ("a", 3, 1)]}, "ascending"),
        ({"multimodal": [("b", 2**40, 1)]}, "beyond"),
    ],
)
def test_bad_options_are_value_errors(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        prefixsim.hash_blocks([1, 2, 3], **options)
