"""Salts of several keys: different keys never share a cache."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefixsim import Trace
from prefixsim.cli import main
from prefixsim.formats import read_trace
from prefixsim.trace.joining import merge
from prefixsim.trace.salts import salt_name
from prefixsim.trace.transform import add_salt

KEYS = st.lists(
    st.none()
    | st.text(st.sampled_from("a/%=2F\ud800\udfff"), max_size=4)
    | st.integers(0, 3)
    | st.lists(st.text(st.sampled_from('a",/'), max_size=2), max_size=2),
    max_size=3,
)


def trimmed(keys: list[Any]) -> list[Any]:
    """Without trailing keys that say nothing, and without the difference of none and empty."""
    keys = ["" if key is None else key for key in keys]
    while keys and keys[-1] == "":
        keys.pop()
    return keys


@given(KEYS, KEYS)
def test_one_name_for_one_tuple(a: list[Any], b: list[Any]) -> None:
    assert (salt_name(*a) == salt_name(*b)) == (trimmed(a) == trimmed(b))
    salt_name(*a).encode()


def salts(trace: Trace) -> list[str]:
    assert trace.salt is not None
    return [trace.salt[i] for i in range(len(trace))]


def test_model_and_salt_of_a_request_log(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    rows = [("a", "b/c"), ("a/b", "c"), ("a", "b/c"), ("a/b/c", None)]
    path.write_text(
        "".join(
            json.dumps(
                {
                    "ts": i,
                    "model": model,
                    "cache_salt": salt,
                    "messages": [{"role": "user", "content": "hello " * 40}],
                }
            )
            + "\n"
            for i, (model, salt) in enumerate(rows)
        )
    )
    found = salts(read_trace(path))
    assert len(set(found)) == 3
    assert found[0] == found[2]


def kv_event(number: int, lora: Any, keys: Any, lora_id: Any = None) -> dict[str, Any]:
    return {
        "ts": 10.0 * number,
        "type": "BlockStored",
        "block_hashes": [number],
        "parent_block_hash": None,
        "token_ids": [1, 2, 3, 4],
        "block_size": 4,
        "lora_id": lora_id,
        "lora_name": lora,
        "extra_keys": None if keys is None else [keys],
    }


def test_adapter_and_salt_of_kv_events(tmp_path: Path) -> None:
    kinds: list[tuple[Any, Any]] = [
        ("a/b", None),
        ("a", ["b"]),
        (None, ["a/b"]),
        ("a", None),
        (None, ["a"]),
        (None, ["a", "b"]),
        ("a", ["a", "a"]),
        (None, [["h", 0]]),
        (None, ['["h", 0]']),
        (None, None),
    ]
    path = tmp_path / "events.jsonl"
    events = [kv_event(i, *kind) for i, kind in enumerate(kinds)]
    # The same said in other words: the adapter once more in the keys, the salt with its name.
    events += [kv_event(20, "a", ["a", "b"]), kv_event(21, None, [["cache_salt", "a"]])]
    path.write_text("".join(json.dumps(event) + "\n" for event in events))
    found = salts(read_trace(path))
    assert len(set(found[: len(kinds)])) == len(kinds)
    assert found[len(kinds) :] == [found[1], found[4]]


def test_salt_nests_without_merging() -> None:
    one = Trace.from_prompts([[1, 2]])
    inner = Trace.from_prompts([[1, 2]], salt=["b"])
    merged = merge([add_salt(one, "a/b"), add_salt(inner, "a"), add_salt(one, "a")])
    assert len(set(salts(merged))) == 3


@pytest.mark.parametrize("second", ["y/t.jsonl", "x/t.jsonl"])
def test_each_input_its_own_salt_whatever_its_name(second: str, tmp_path: Path) -> None:
    for name in ("x", "y"):
        (tmp_path / name).mkdir()
        Trace.from_prompts([[1] * 32]).write(tmp_path / name / "t.jsonl")
    out = tmp_path / "out.jsonl"
    inputs = [str(tmp_path / "x/t.jsonl"), str(tmp_path / second)]
    assert main(["convert", "--salt", "file", *inputs, str(out)]) == 0
    assert len(set(salts(read_trace(out)))) == 2
