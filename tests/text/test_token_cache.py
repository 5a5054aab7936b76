"""Token ids kept from one run to the next: nothing done twice, nothing stale."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import prefixsim
from prefixsim import InputError, Trace, build_traces, replay
from prefixsim.cli import main
from prefixsim.text import text_trace, token_cache
from prefixsim.text.text_trace import tokenize_trace
from prefixsim.text.tokenize import ChatTokenizer, Tokens
from prefixsim.trace import Codes, Ragged
from prefixsim.traffic import build as building

WORDS = ["the", "cat", "sat", "on", "a", "mat", "and", "then", "went", "home", "until", "morning"]


def texts_of(sessions: int, turns: int, seed: int = 5) -> tuple[list[str], list[str]]:
    """Prompts that grow, and their sessions."""
    dice = np.random.default_rng(seed)
    history = [f"Session {s}." for s in range(sessions)]
    texts, names = [], []
    for _ in range(turns):
        for s in range(sessions):
            history[s] += " " + " ".join(dice.choice(WORDS, 40)) + "."
            texts.append(history[s])
            names.append(str(s))
    return texts, names


def make(texts: Sequence[str], names: Sequence[str] | None) -> Trace:
    count = len(texts)
    return Trace(
        timestamp=np.arange(count, dtype=np.float64),
        prompt_len=np.zeros(count, np.uint32),
        output_len=np.zeros(count, np.uint32),
        texts=list(texts),
        output_texts=[f"Answer {i} is {WORDS[i % 12]}." for i in range(count)],
        session=None if names is None else Codes.from_strings(list(names)),
    )


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_trace, "_LEAST_CHARACTERS", 500)
    monkeypatch.setattr(text_trace, "_USUAL_CHARACTERS", 1200)
    monkeypatch.setattr(text_trace, "_MOST_CHARACTERS", 2500)


class Saves:
    """Counts shards that are encoded, and fails at one of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        self.fail_at: int | None = None
        save = token_cache._save

        def counted(path: Path, arrays: Sequence[Tokens]) -> None:
            if self.count == self.fail_at:
                raise KeyboardInterrupt
            save(path, arrays)
            self.count += 1

        monkeypatch.setattr(token_cache, "_save", counted)

    def take(self) -> int:
        count, self.count = self.count, 0
        return count


@pytest.fixture
def saves(monkeypatch: pytest.MonkeyPatch) -> Saves:
    return Saves(monkeypatch)


def rows(column: Ragged | None) -> list[list[int]]:
    assert column is not None
    return [column[i].tolist() for i in range(len(column))]


@pytest.mark.usefixtures("small_shards")
@pytest.mark.parametrize("with_sessions", [True, False])
def test_an_interrupted_run_goes_on_where_it_was(
    with_sessions: bool, saves: Saves, tmp_path: Path
) -> None:
    texts, names = texts_of(20, 4)
    trace = make(texts, names if with_sessions else None)
    plain = tokenize_trace(trace, "demo")
    tokenize_trace(trace, "demo", cache_dir=tmp_path / "all")
    shards = saves.take()
    assert shards > 6
    saves.fail_at = 4
    with pytest.raises(KeyboardInterrupt):
        tokenize_trace(trace, "demo", cache_dir=tmp_path / "cache")
    assert saves.take() == 4
    assert len(list((tmp_path / "cache").rglob("*.tokens"))) == 4
    saves.fail_at = None
    resumed = tokenize_trace(trace, "demo", cache_dir=tmp_path / "cache")
    assert saves.take() == shards - 4
    again = tokenize_trace(trace, "demo", cache_dir=tmp_path / "cache")
    assert saves.take() == 0
    hf = ChatTokenizer("demo").hf
    assert rows(plain.prompts) == [hf(text)["input_ids"] for text in texts]
    for other in (resumed, again):
        assert other.digest == plain.digest
        assert rows(other.outputs) == rows(plain.outputs)
    leftovers = [p for p in (tmp_path / "cache").rglob("*") if p.is_file()]
    assert all(p.suffix == ".tokens" and not p.name.startswith(".") for p in leftovers)


@pytest.mark.usefixtures("small_shards")
def test_only_what_changed_is_done_again(saves: Saves, tmp_path: Path) -> None:
    texts, names = texts_of(30, 3)
    tokenize_trace(make(texts, names), "demo", cache_dir=tmp_path)
    shards = saves.take()
    changed = list(texts)
    changed[40] += " And this is new."
    found = tokenize_trace(make(changed, names), "demo", cache_dir=tmp_path)
    assert 1 <= saves.take() <= 3
    assert found.digest == tokenize_trace(make(changed, names), "demo").digest
    more, more_names = texts_of(2, 3, seed=6)
    names += [f"new {name}" for name in more_names]
    longer = make(texts + more, names)
    found = tokenize_trace(longer, "demo", cache_dir=tmp_path)
    assert 1 <= saves.take() < shards / 2
    assert found.digest == tokenize_trace(longer, "demo").digest


def demo_tokenizer(target: Path) -> Path:
    shutil.copytree(Path(prefixsim.__file__).parent / "text/demo_tokenizer", target)
    return target


def test_tokenizers_are_known_by_content(saves: Saves, tmp_path: Path) -> None:
    trace = make(*texts_of(3, 2))
    first = demo_tokenizer(tmp_path / "first")
    expected = tokenize_trace(trace, str(first), cache_dir=tmp_path / "cache")
    assert saves.take() == 2
    moved = demo_tokenizer(tmp_path / "moved")
    assert tokenize_trace(trace, str(moved), cache_dir=tmp_path / "cache").digest == expected.digest
    assert saves.take() == 0
    spec = json.loads((first / "tokenizer.json").read_text())
    added = dict(spec["added_tokens"][-1], content="morning", special=False, normalized=True)
    added["id"] = 1 + max(added["id"], *spec["model"]["vocab"].values())
    spec["added_tokens"].append(added)
    (first / "tokenizer.json").write_text(json.dumps(spec))
    other = tokenize_trace(trace, str(first), cache_dir=tmp_path / "cache")
    assert saves.take() == 2
    assert other.digest != expected.digest
    assert other.digest == tokenize_trace(trace, str(first)).digest


def test_slow_tokenizers_are_known_by_their_files() -> None:
    class Slow:
        def __init__(self, vocabulary: str) -> None:
            self.vocabulary = vocabulary

        def save_pretrained(self, folder: str) -> None:
            (Path(folder) / "vocab.txt").write_text(self.vocabulary)

    def digest(vocabulary: str) -> str:
        tokenizer = ChatTokenizer("demo")
        tokenizer.hf, tokenizer._fast = Slow(vocabulary), None
        return tokenizer.digest

    assert digest("a b") == digest("a b") != digest("a c")


def test_special_tokens_are_part_of_the_key(saves: Saves, tmp_path: Path) -> None:
    tokenizer = ChatTokenizer("demo", tmp_path)
    tokenizer.encode_shard(["a"])
    tokenizer.encode_shard(["a"], special=True)
    assert saves.take() == 2
    tokenizer.encode_shard(["a", ""])
    tokenizer.encode_shard(["", "a"])
    tokenizer.encode_shard(["a"])
    assert saves.take() == 2
    assert tokenizer.cache is not None
    assert (tokenizer.cache.found, tokenizer.cache.made) == (1, 4)


def test_damaged_entries_are_done_again(saves: Saves, tmp_path: Path) -> None:
    tokenizer = ChatTokenizer("demo", tmp_path)
    texts = ["Hello there.", "", "a"]
    expected = [ids.tolist() for ids in tokenizer.encode(texts)]
    tokenizer.encode_shard(texts)
    (entry,) = tmp_path.rglob("*.tokens")
    good = entry.read_bytes()
    damaged = [good[:at] + bytes([good[at] ^ 64]) + good[at + 1 :] for at in range(len(good))]
    damaged += [good[:at] for at in range(0, len(good), 7)] + [good + b"\0", b"", b"nonsense"]
    saves.take()
    for data in damaged:
        entry.write_bytes(data)
        assert [ids.tolist() for ids in tokenizer.encode_shard(texts)] == expected
        assert entry.read_bytes() == good
    assert saves.take() == len(damaged)


def test_an_entry_of_another_shard_is_not_taken(tmp_path: Path) -> None:
    tokenizer = ChatTokenizer("demo", tmp_path)
    tokenizer.encode_shard(["one", "two"])
    (other,) = tmp_path.rglob("*.tokens")
    three = ["one", "two", "three"]
    assert tokenizer.cache is not None
    place = tokenizer.cache._path(three, "bare")
    place.parent.mkdir(exist_ok=True)
    shutil.copy(other, place)
    assert [x.tolist() for x in tokenizer.encode_shard(three)] == [
        x.tolist() for x in tokenizer.encode(three)
    ]


def test_a_folder_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is not a directory"):
        ChatTokenizer("demo", tmp_path / "file")


def test_prompts_without_sessions_cost_their_unique_text(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    texts, _ = texts_of(3, 60)
    seen: list[str] = []
    encode = ChatTokenizer.encode

    def counted(self: Any, some: Sequence[str], *, special: bool = False) -> list[Tokens]:
        seen.extend(some)
        return encode(self, some, special=special)

    monkeypatch.setattr(ChatTokenizer, "encode", counted)
    trace = make(texts, None).replace(output_texts=None)
    done = tokenize_trace(trace, "demo")
    unique = sum(map(len, texts[-3:]))
    assert sum(map(len, texts)) > 25 * unique
    assert sum(map(len, seen)) < 1.3 * unique
    hf = ChatTokenizer("demo").hf
    assert rows(done.prompts) == [hf(text)["input_ids"] for text in texts]


@pytest.mark.usefixtures("small_shards")
def test_progress(tmp_path: Path) -> None:
    trace = make(*texts_of(20, 2))
    steps: list[tuple[int, int]] = []
    for _ in range(2):
        steps.clear()
        tokenize_trace(trace, "demo", cache_dir=tmp_path, progress=lambda *step: steps.append(step))
        assert steps == sorted(steps)
        assert len(steps) > 3
        assert {total for _, total in steps} == {80}
        assert steps[-1] == (80, 80)


@pytest.mark.parametrize("tokenization", ["whole", "message"])
def test_chat_data_goes_on_where_it_was(
    tokenization: Any, saves: Saves, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(building, "_BATCH_CONVERSATIONS", 5)
    options: dict[str, Any] = {
        "model": "demo",
        "max_conversations": 30,
        "tokenization": tokenization,
    }
    plain = build_traces(**options)
    saves.fail_at = 3
    with pytest.raises(KeyboardInterrupt):
        build_traces(**options, cache_dir=tmp_path, output_dir=tmp_path / "out")
    assert saves.take() == 3
    assert not (tmp_path / "out/trace_summary.json").exists()
    saves.fail_at = None
    resumed = build_traces(**options, cache_dir=tmp_path)
    assert saves.take() == 3
    cached = build_traces(**options, cache_dir=tmp_path)
    assert saves.take() == 0
    for built in (resumed, cached):
        assert built.single.digest == plain.single.digest
        assert built.multi.digest == plain.multi.digest


def test_commands_take_the_folder(
    saves: Saves, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trace, cache = make(*texts_of(4, 3)), tmp_path / "cache"
    trace.write(tmp_path / "t.jsonl")
    options = ["--model", "demo", "--cache-dir", str(cache)]
    path, out = str(tmp_path / "t.jsonl"), str(tmp_path / "out.parquet")
    assert main(["convert", path, out, *options]) == 0
    assert saves.take() == 2
    assert main(["replay", path, *options, "--json"]) == 0
    assert saves.take() == 0
    summary = json.loads(capsys.readouterr().out)["summary"]
    assert summary["hit_tokens"] == replay(Trace.read(out)).summary["hit_tokens"] > 0
    assert replay(trace, model="demo", cache_dir=cache).summary["hit_tokens"] > 0
    assert saves.take() == 0
    sample = ["trace", "--max-conversations", "5", "--skip-visualization"]
    folder = ["--output-dir", str(tmp_path / "traces")]
    assert main([*sample, *folder, *options]) == 0
    assert saves.take() == 1
    assert main([*sample, *folder, *options]) == 0
    assert saves.take() == 0
    capsys.readouterr()
    assert main(["convert", path, out, "--cache-dir", str(cache)]) == 2
    assert "give --model as well" in capsys.readouterr().err
