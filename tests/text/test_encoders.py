"""The quicker encoder: used only where its ids are those of the reference."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import prefixsim
from prefixsim.errors import InputError
from prefixsim.text import encoders
from prefixsim.text.encoders import PROBES, SWITCH, Encoder, Tokens
from prefixsim.text.pretrained import load_tokenizer
from prefixsim.traffic.demo import sample_conversations

pytest.importorskip("fastokens", reason="there is no fastokens for this machine")

LONG = ["word " * 50_000, "x"]
Encode = Callable[[Sequence[str]], list[Tokens]]


def encoder(name: str = "demo", *, quick: bool = True) -> Encoder:
    return Encoder(load_tokenizer(name), name, quick=quick)


def same(found: Sequence[Tokens], expected: Sequence[Tokens]) -> bool:
    return len(found) == len(expected) and all(map(np.array_equal, found, expected))


@pytest.fixture(scope="module")
def ready() -> Encoder:
    """Return an encoder that has begun to use fastokens."""
    found = encoder()
    found.encode(LONG)
    assert found.used.startswith("fastokens ")
    return found


@pytest.mark.parametrize("name", ["demo", "gpt2", "opt"])
def test_ids_are_those_of_the_reference(name: str, request: pytest.FixtureRequest) -> None:
    if name != "demo":
        name = str(request.getfixturevalue("shared") / "data/tokenizers" / name)
    found = encoder(name)
    found.encode(LONG)
    assert found.used.startswith("fastokens ") and found.note is None
    chars = random.Random(0)
    texts = ["".join(chr(chars.randrange(1, 0x3000)) for _ in range(60)) for _ in range(500)]
    texts += [*PROBES, *LONG, " ".join(PROBES)]
    assert same(found.encode(texts), found.reference(texts))


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=8))
def test_any_text_gives_the_ids_of_the_reference(ready: Encoder, texts: list[str]) -> None:
    assert same(ready.encode(texts), ready.reference(texts))


def test_little_text_and_other_kinds_are_left_to_the_reference() -> None:
    little = encoder()
    little.encode(["a few words"])
    other = encoder(quick=False)
    other.encode(LONG)
    for found in (little, other):
        assert found.used.startswith("tokenizers ") and found.note is None


def wrong_for(marked: str) -> Callable[[str], Encode]:
    """Return what builds an encoder that is right but for one text."""
    right = encoders._build

    def build(spec: str) -> Encode:
        encode = right(spec)

        def wrong(texts: Sequence[str]) -> list[Tokens]:
            return [t[:-1] if x == marked else t for x, t in zip(texts, encode(texts), strict=True)]

        return wrong

    return build


@pytest.mark.parametrize("marked", [PROBES[3], PROBES[-1], "x of the data"])
def test_other_ids_are_never_used(
    marked: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(encoders, "_build", wrong_for(marked))
    found = encoder()
    texts = ["x of the data", *LONG]
    for _ in range(2):
        assert same(found.encode(texts), found.reference(texts))
    assert found.used.startswith("tokenizers ")
    assert found.note is not None and "it gives other token ids" in found.note
    assert [r.message for r in caplog.records] == [f"prefixsim: {found.note}"]  # once


def test_a_difference_that_shows_late_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoders, "_build", wrong_for("late"))
    found = encoder()
    found.encode(LONG)
    with pytest.raises(InputError, match=rf"other token ids than tokenizers; set {SWITCH}=0"):
        found.encode(["late"])


@pytest.mark.parametrize("when", ["built", "asked", "later"])
def test_a_failure_falls_back(when: str, monkeypatch: pytest.MonkeyPatch) -> None:
    right = encoders._build
    calls = 0

    def build(spec: str) -> Encode:
        if when == "built":
            raise RuntimeError("cannot")
        encode = right(spec)

        def fails(texts: Sequence[str]) -> list[Tokens]:
            nonlocal calls
            calls += 1
            if when == "asked" or calls > 2:
                raise RuntimeError("cannot")
            return encode(texts)

        return fails

    monkeypatch.setattr(encoders, "_build", build)
    found = encoder()
    for _ in range(3):
        assert same(found.encode(LONG), found.reference(LONG))
    assert found.note is not None and "it failed (RuntimeError)" in found.note


def test_traces_are_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = list(sample_conversations(300, seed=1))
    made = {}
    for switch, package in (("1", "fastokens"), ("0", "tokenizers")):
        monkeypatch.setenv(SWITCH, switch)
        folder = tmp_path / package
        built = prefixsim.build_traces(
            rows, model="demo", output_dir=folder, max_conversations=None
        )
        provenance = built.summary["provenance"]
        assert provenance.pop("encoder").split()[0] == package
        files = {p.name: p.read_bytes() for p in folder.iterdir() if p.suffix == ".jsonl"}
        made[package] = files, built.summary
    assert len(made["fastokens"][0]) == 2
    assert made["fastokens"] == made["tokenizers"]
