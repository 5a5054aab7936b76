"""Generated workloads: what they share, in which order, and that both forms say the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import prefixsim
from prefixsim import _core
from prefixsim.cli import main
from prefixsim.errors import InputError
from prefixsim.trace import Trace
from prefixsim.traffic.arrivals import Arrivals
from prefixsim.traffic.synthetic import SHAPES
from prefixsim.traffic.synthetic import sessions as module

ALL = sorted(SHAPES)


def small(shape: Any, **options: Any) -> Trace:
    """A workload whose prompts are short enough to be looked at token by token."""
    lengths = {"chat": 700, "rag": 3500, "agent": 4300, "parallel": 400}
    settings = {"requests": 300, "prompt_tokens": lengths[shape], "output_tokens": 15, "seed": 3}
    return prefixsim.generate(shape, **{**settings, **options}).trace()


@pytest.mark.parametrize("block", [16, 512])
@pytest.mark.parametrize("shape", ALL)
def test_equal_hash_ids_mean_equal_prefixes(shape: str, block: int) -> None:
    tokens = small(shape)
    hashes = small(shape, form="hashes", id_block_size=block)
    assert tokens.prompts is not None and hashes.prompts is not None
    assert tokens.prompt_len.tolist() == hashes.prompt_len.tolist()
    assert tokens.timestamp.tolist() == hashes.timestamp.tolist()
    assert hashes.id_block_size == block
    prefix_of: dict[int, bytes] = {}
    id_of: dict[bytes, int] = {}
    for i in range(len(tokens)):
        prompt, ids = tokens.prompts[i], hashes.prompts[i].tolist()
        assert len(ids) == -(-len(prompt) // block)
        for k, number in enumerate(ids):
            prefix = prompt[: (k + 1) * block].tobytes()
            assert prefix_of.setdefault(number, prefix) == prefix
            assert id_of.setdefault(prefix, number) == number
    assert len(id_of) < sum(len(hashes.prompts[i]) for i in range(len(hashes)))  # some are shared


@pytest.mark.parametrize("shape", ["chat", "agent"])
def test_next_turn_begins_with_prompt_and_answer(shape: str) -> None:
    trace = small(shape)
    assert trace.prompts is not None and trace.outputs is not None
    assert trace.session is not None and trace.turn is not None
    before: dict[str, tuple[int, list[int]]] = {}
    followed = 0
    for i in range(len(trace)):
        name, turn, prompt = trace.session[i], int(trace.turn[i]), trace.prompts[i].tolist()
        assert len(prompt) == trace.prompt_len[i]
        assert len(trace.outputs[i]) == trace.output_len[i]
        if turn:
            last, text = before[name]
            assert turn == last + 1
            assert prompt[: len(text)] == text
            assert len(prompt) > len(text)
            followed += 1
        else:
            assert name not in before
        before[name] = (turn, prompt + trace.outputs[i].tolist())
    assert followed > 150


def test_parallel_samples_share_prompt_and_time_but_not_answers() -> None:
    trace = small("parallel", requests=160)
    assert trace.prompts is not None and trace.outputs is not None and trace.session is not None
    for first in range(0, 160, 8):
        group = range(first, first + 8)
        assert len({trace.session[i] for i in group}) == 1
        assert len({trace.timestamp[i] for i in group}) == 1
        assert len({trace.prompts[i].tobytes() for i in group}) == 1
        assert len({trace.outputs[i].tobytes() for i in group}) == 8
    assert trace.turn is not None
    assert trace.turn.tolist() == list(range(8)) * 20


def test_rag_prompts_share_documents_and_use_each_once() -> None:
    source = module.SessionSource(SHAPES["rag"], Arrivals(), None, keep_rate=False)
    rows, _ = next(source.chunks(4000))
    assert rows.documents.shape == (4000, 4)
    ordered = np.sort(rows.documents, axis=1)
    assert (np.diff(ordered, axis=1) > 0).all()
    counts = np.bincount(rows.documents.ravel(), minlength=10_000)
    assert counts[0] > 5 * counts[50] > 0  # popularity falls off


@pytest.mark.parametrize("shape", ALL)
def test_means_are_what_was_asked_for(shape: str) -> None:
    workload = prefixsim.generate(shape, 60_000, form="hashes")  # type: ignore[arg-type]
    prompt = output = 0
    for batch in workload:
        prompt += batch.prompt_tokens
        output += int(batch.output_len.sum())
    figures = SHAPES[shape]
    assert prompt / 60_000 == pytest.approx(figures.prompt_tokens, rel=0.1)
    assert output / 60_000 == pytest.approx(figures.output_tokens, rel=0.03)


def test_chat_has_about_eight_turns_shared_systems_and_interleaved_sessions() -> None:
    trace = prefixsim.generate("chat", 40_000, form="hashes", id_block_size=16).trace()
    assert trace.session is not None and trace.turn is not None and trace.prompts is not None
    sessions = len(trace.session.names)
    assert len(trace) / sessions == pytest.approx(8, rel=0.1)
    assert np.all(np.diff(trace.timestamp) >= 0)
    assert np.count_nonzero(np.diff(trace.session.codes.astype(np.int64))) > 0.95 * len(trace)
    starts = trace.prompts.values[trace.prompts.offsets[:-1].astype(np.int64)]
    assert len(np.unique(starts)) == SHAPES["chat"].system_prompts
    first = trace.timestamp[trace.turn == 0]
    assert np.diff(first).mean() == pytest.approx(0.1, rel=0.05)


@pytest.mark.parametrize("shape", ALL)
def test_seed_decides_and_batches_join(shape: Any) -> None:
    workload = prefixsim.generate(shape, 5000, form="hashes", seed=1)
    digest = workload.trace().digest
    assert digest == workload.trace().digest  # iterating again starts anew
    assert digest == prefixsim.generate(shape, 5000, form="hashes", seed=1).trace().digest
    assert digest != prefixsim.generate(shape, 5000, form="hashes", seed=2).trace().digest
    assert len(workload) == 5000


def test_seed_changes_tokens_of_the_shared_prompts() -> None:
    one, two = (small("chat", seed=seed, requests=1) for seed in (1, 2))
    assert one.prompts is not None and two.prompts is not None
    shorter = min(len(one.prompts[0]), len(two.prompts[0]))
    equal = np.count_nonzero(one.prompts[0][:shorter] == two.prompts[0][:shorter])
    assert equal < 0.05 * shorter


def test_small_chunks_and_batches_give_the_same_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sessions that run across many chunks come out in the order of time, once each."""
    from prefixsim.traffic.synthetic import stream

    monkeypatch.setattr(module, "_CHUNK_REQUESTS", 64)
    monkeypatch.setattr(stream, "_BATCH_REQUESTS", 50)
    monkeypatch.setattr(stream, "_BATCH_IDS", 2000)
    batches = list(prefixsim.generate("chat", 3000, seed=5))
    assert sum(map(len, batches)) == 3000
    times = np.concatenate([b.timestamp for b in batches])
    assert np.all(np.diff(times) >= 0)
    keys = {
        (b.session[i], int(b.turn[i]))
        for b in batches
        if b.session is not None and b.turn is not None
        for i in range(len(b))
    }
    assert len(keys) == 3000
    for batch in batches:
        assert batch.prompts is not None
        assert len(batch) <= 50
        assert len(batch) == 1 or len(batch.prompts.values) <= 2000


def test_arrivals_and_lengths_of_azure(shared: Path) -> None:
    path = shared / "data/azure2023/AzureLLMInferenceTrace_conv.csv.gz"
    measured = Trace.read(path)
    workload = prefixsim.generate("chat", 50_000, arrivals=path, form="hashes", seed=2)
    assert 1 < workload.shape.turns < 8  # its prompts are too short for eight turns
    trace = workload.trace()
    assert trace.turn is not None
    starts = trace.timestamp[trace.turn == 0]
    gaps = np.round(np.diff(starts), 5)
    recorded = np.round(np.diff(measured.timestamp), 5)
    n = min(len(gaps), len(recorded))
    assert np.abs(gaps[:n] - recorded[:n]).max() <= 2e-5
    assert trace.prompt_len.mean() == pytest.approx(measured.prompt_len.mean(), rel=0.1)
    assert trace.output_len.mean() == pytest.approx(measured.output_len.mean(), rel=0.03)
    assert set(np.unique(trace.output_len)) <= set(np.unique(measured.output_len))
    faster = prefixsim.generate("chat", 50_000, arrivals=path, form="hashes", arrival_rate=50)
    rate = faster.trace()
    assert rate.turn is not None
    assert np.diff(rate.timestamp[rate.turn == 0]).mean() == pytest.approx(0.02, rel=0.1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shape": "poem"}, "unknown shape 'poem', choose one of chat, rag, agent, parallel"),
        ({"requests": 0}, "cannot generate 0 requests"),
        ({"form": "text"}, "unknown form 'text'"),
        ({"id_block_size": 0}, "id block size 0"),
        ({"vocabulary": 0}, "vocabulary 0"),
        ({"turns": 0.5}, "turns 0.5 is not usable, give 1 to 1,000,000"),
        ({"prompt_tokens": float("nan")}, "prompt tokens nan"),
        ({"think_time": -1.0}, "think time -1"),
        ({"prompt_tokens": 400}, "too short for 8 turns: give at least"),
        ({"arrival_rate": 0.0}, "arrival rate 0"),
        ({"seed": -1}, "seed -1"),
    ],
)
def test_unusable_settings(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        prefixsim.generate(**options)


def test_expand_refuses_unequal_columns() -> None:
    one = np.ones(1, dtype=np.uint64)
    with pytest.raises(ValueError, match="1 starts and 0 lengths"):
        _core.expand_ids(one, one[:0], hashed=False)


def test_command_writes_mooncake_and_native_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mooncake, native = tmp_path / "m.jsonl", tmp_path / "n.parquet"
    common = ["generate", "chat", "--requests", "500", "--seed", "9"]
    assert main([*common, "--hash-ids", "--output", str(mooncake)]) == 0
    assert "500 requests (multi-turn chat" in capsys.readouterr().out
    first = json.loads(mooncake.read_text().splitlines()[0])
    assert list(first) == ["timestamp", "input_length", "output_length", "hash_ids"]
    read = Trace.read(mooncake)
    assert (read.format, read.kind, read.id_block_size, len(read)) == (
        "mooncake",
        "hashes",
        512,
        500,
    )
    assert main([*common, "--output", str(native), "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    tokens = Trace.read(native)
    assert tokens.digest == prefixsim.generate("chat", 500, seed=9).trace().digest
    assert summary["prompt_tokens"] == tokens.prompt_tokens == summary["ids"]
    assert summary["config"]["seed"] == 9
    assert main([*common, "--hash-ids", "--id-block-size", "64", "--output", str(mooncake)]) == 0
    assert Trace.read(mooncake).id_block_size == 64


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["poem"], "unknown shape 'poem'"),
        (["--requests", "-5"], "cannot generate -5 requests"),
        (["--output", "trace.txt"], "the ending says no trace format"),
        (["--arrivals", "missing.csv"], "missing.csv: no such file"),
        (["--prompt-tokens", "0"], "prompt tokens 0 is not usable"),
    ],
)
def test_command_bad_input(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    args: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["generate", *args]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
