"""A real vLLM that ran a model: what must be equal, and what a prediction from its log comes to."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest

from prefixsim import Trace
from prefixsim.engines.hashing import hash_blocks, published_hash
from prefixsim.engines.vllm import ENGINE, VllmSettings
from prefixsim.engines.vllm.simulate import Simulation, simulate
from prefixsim.formats import read_trace
from prefixsim.formats.kv_events import parse_message
from prefixsim.formats.recording import KvEvent, Recording
from prefixsim.hardware.latency import Fixed
from prefixsim.live.fit import fit_latency
from prefixsim.text.text_trace import tokenize_trace
from tests.golden import cases, golden_root, read_json

LIVE = golden_root() / "live"
SERVERS = cases("live", "server_*/requests.jsonl.gz")
ENGINES = cases("live", "engine_*/run.json.gz")
SIZE = 32


def rows_of(path: Path) -> list[dict[str, Any]]:
    text = gzip.decompress(path.read_bytes()).decode()
    return [json.loads(line) for line in text.split("\n") if line]


def trace_of(rows: list[dict[str, Any]], timestamp: list[float]) -> Trace:
    salts = [row.get("cache_salt") for row in rows]
    return Trace.from_prompts(
        [row["token_ids"] for row in rows],
        outputs=[row["output_token_ids"] for row in rows],
        timestamp=timestamp,
        session=[row.get("session", "") for row in rows],
        salt=salts if any(salts) else None,
    )


def reported(rows: list[dict[str, Any]]) -> list[int]:
    """Cached tokens that the server reported; absent or null are 0."""
    details = [row["usage"].get("prompt_tokens_details") or {} for row in rows]
    return [found.get("cached_tokens") or 0 for found in details]


def server(**changes: Any) -> VllmSettings:
    """The settings of the servers, in the README's table."""
    known: dict[str, Any] = {
        "version": "0.32",
        "block_size": SIZE,
        "num_blocks": 96,
        "max_num_seqs": 16,
        "max_num_batched_tokens": 2048,
        "max_model_len": 1536,
        # On a CPU, where they were recorded, vLLM turns it off by itself.
        "async_scheduling": False,
    }
    return VllmSettings(**(known | changes))


def hits(run: Simulation) -> list[int]:
    found: list[int] = run.raw["requests"]["hit_tokens"].tolist()
    return found


def batches(folder: Path) -> Iterator[list[Any]]:
    for row in rows_of(folder / "kv_events.jsonl.gz"):
        yield msgpack.unpackb(base64.b64decode(row["payload"]), strict_map_key=False)


def events(folder: Path) -> list[KvEvent]:
    messages = enumerate(batches(folder), 1)
    return [event for line, message in messages for event in parse_message(message, line)]


def engine_run(path: Path) -> tuple[Simulation, dict[str, Any], list[dict[str, Any]]]:
    case, rows = read_json(path), rows_of(path.parent / "requests.jsonl.gz")
    kind = case["mode"].partition(":")[0]
    config = server(
        num_blocks=case["num_gpu_blocks"],
        max_num_seqs=case["max_num_seqs"],
        max_num_batched_tokens=case["max_num_batched_tokens"],
        max_model_len=case["max_model_len"],
        watermark=case.get("watermark", 0.0),
        long_prefill_token_threshold=case.get("long_prefill_token_threshold", 0),
        arrivals=case["mode"] if kind == "closed" else "trace",
        latency=Fixed(case["dt_ms"] / 1000),
    )
    trace = trace_of(rows, [row["arrival_ms"] / 1000 for row in rows])
    run = simulate(trace, config, record_steps=True, record_events=True, record_tables=True)
    return run, case, rows


@pytest.mark.parametrize("path", ENGINES)
def test_golden_live_engine(path: Path) -> None:
    """Requests, steps, and the free queue at the end."""
    run, case, rows = engine_run(path)
    got: Mapping[str, Any] = dict(run.raw["requests"])
    names = ("hit_tokens", "admit_step", "finish_step", "preemptions")
    for name in names:
        assert got[name].tolist() == [row[name] for row in rows], name
    assert run.totals["steps"] == case["steps"]
    steps = run.raw["steps"]
    clock = (steps["clock_ns"] // 1_000_000).tolist()
    columns = [steps[n].tolist() for n in ("requests", "tokens", "running", "waiting", "free")]
    log = [list(row) for row in zip(range(1, len(clock) + 1), clock, *columns, strict=True)]
    assert log == case["step_log"]
    assert run.raw["free_queue"].tolist() == case["free_order"]
    resumed: dict[int, list[list[int]]] = defaultdict(list)
    for request, step, found in run.raw["resumes"]:
        resumed[request].append([step, found])
    assert [resumed[i] for i in range(len(rows))] == [row.get("resumes", []) for row in rows]


def shape(stream: list[list[Any]]) -> list[Any]:
    """Events in order, hashes by the order in which they first came: chains may start at random."""
    numbers: dict[Any, int] = {}

    def number(name: Any) -> int | None:
        return None if name is None else numbers.setdefault(name, len(numbers))

    found: list[Any] = []
    for kind, names, parent, tokens in stream:
        found.append([kind, number(parent), [number(name) for name in names], tokens])
    return found


def flat(event: Any) -> list[Any]:
    """Kind, hashes, parent and tokens of a published event."""
    if isinstance(event, dict):
        tokens, names = event.get("token_ids", []), event["block_hashes"]
        return [event["type"], names, event.get("parent_block_hash"), tokens]
    if event[0] == "BlockStored":
        return [event[0], event[1], event[2], event[3]]
    return [event[0], event[1] if len(event) > 1 else [], None, []]


@pytest.mark.parametrize("path", ENGINES)
def test_golden_live_engine_events(path: Path) -> None:
    """Every event in order, and where chains start at a known hash the hashes too."""
    run, case, _ = engine_run(path)
    known = case["hash_algo"] != "xxhash"
    algorithm = case["hash_algo"] if known else "sha256_cbor"
    got = [flat(event) for batch in run.kv_events(algorithm) for event in batch["events"]]
    want = [flat(event) for batch in batches(path.parent) for event in batch[1]]
    want = [event for event in want if event[0] != "AllBlocksCleared"]
    assert shape(got) == shape(want)
    if known:
        assert got == want


def digest(tokens: list[int]) -> str:
    return hashlib.sha256(",".join(map(str, tokens)).encode()).hexdigest()[:16]


@pytest.mark.parametrize("path", cases("live", "server_steps_*/steps.jsonl.gz"))
def test_golden_live_steps(path: Path) -> None:
    """With the step at which each request came every step, admission and hit is equal."""
    recorded = rows_of(path)
    sent: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows_of(path.parent / "requests.jsonl.gz"):
        sent[digest(row["token_ids"])].append(row)
    added = [row for row in recorded if "add" in row]
    rows = [sent[row["prompt"]].pop(0) for row in added]
    config = server(num_blocks=80, max_num_seqs=12, max_num_batched_tokens=256, latency=Fixed(1.0))
    trace = trace_of(rows, [float(row["add"]) for row in added])
    run = simulate(trace, config, record_steps=True)
    steps = [row for row in recorded if "step" in row]
    log = run.raw["steps"]
    for name in ("requests", "tokens", "running", "waiting", "free"):
        assert log[name].tolist() == [row[name] for row in steps], name
    admitted: dict[int, list[list[Any]]] = defaultdict(list)
    for row, step, found in zip(
        rows, run.raw["requests"]["admit_step"].tolist(), hits(run), strict=True
    ):
        admitted[step].append([digest(row["token_ids"]), found])
    assert [sorted(admitted[row["step"]]) for row in steps] == [
        sorted(row["admitted"]) for row in steps
    ]
    assert hits(run) == reported(rows)


def test_golden_live_sequential() -> None:
    path = LIVE / "server_sequential/requests.jsonl.gz"
    if not path.is_file():
        pytest.skip(f"no recording {path}")
    rows = rows_of(path)
    trace = trace_of(rows, [float(i) for i in range(len(rows))])
    for arrivals in ("sequential", "trace"):
        assert hits(simulate(trace, server(arrivals=arrivals))) == reported(rows)


def test_golden_live_chat(qwen3: str) -> None:
    """A gateway's log: prompts as the server tokenized them, and its hits."""
    path = LIVE / "server_chat/chat.jsonl.gz"
    if not path.is_file():
        pytest.skip(f"no recording {path}")
    rows = rows_of(path)
    trace = tokenize_trace(read_trace(path), qwen3)
    assert trace.prompts is not None
    prompts = [row["server"]["prompt_token_ids"] for row in rows]
    assert [trace.prompts[i].tolist() for i in range(len(trace))] == prompts
    answers = [row["server"]["token_ids"] for row in rows]
    served = Trace.from_prompts(prompts, outputs=answers)
    found = [row["response"]["usage"]["prompt_tokens_details"]["cached_tokens"] for row in rows]
    assert hits(simulate(served, server(arrivals="sequential"))) == found


@pytest.mark.parametrize("path", SERVERS)
def test_golden_live_hashes(path: Path) -> None:
    """Every hash in the events is that of the block of a request."""
    known: set[Any] = set()
    for row in rows_of(path):
        tokens = [*row["token_ids"], *row["output_token_ids"]]
        names = hash_blocks(tokens, SIZE, "sha256", salt=row.get("cache_salt"))
        known |= {published_hash(name) for name in names}
    stored = [e for e in events(path.parent) if e.type == "BlockStored"]
    assert stored
    assert {name for event in stored for name in event.block_hashes} <= known


# In percentage points: from timestamps, and with clients that wait for answers.
BARS = {
    "server_sequential": ("trace", 0.5),
    "server_open": ("trace", 0.5),
    "server_closed8": ("sessions", 1.0),
    "server_open_busy": ("sessions", 1.0),
}


@pytest.mark.parametrize("path", SERVERS)
def test_golden_live_prediction(path: Path) -> None:
    """The hit rate from what a client knows, with a latency fitted to when answers came."""
    if path.parent.name not in BARS:
        pytest.skip("its arrivals are known by step, see test_golden_live_steps")
    arrivals, bar = BARS[path.parent.name]
    rows = rows_of(path)
    start = min(row["sent"] for row in rows)
    answers = np.array([row["done"] - row["sent"] for row in rows])
    trace = trace_of(rows, [row["sent"] - start for row in rows]).replace(answer_s=answers)
    fitted = fit_latency(trace, server(arrivals=arrivals), ENGINE)
    found, said = hits(simulate(trace, fitted)), reported(rows)
    points = 100 * (sum(found) - sum(said)) / trace.prompt_tokens
    assert abs(points) < bar
    assert np.mean(np.array(found) == said) > 0.85


# Requests that are rebuilt from events though no such prompt was sent, at most.
NO_PROMPT = {
    "server_closed8": 14,
    "server_open": 13,
    "server_open_busy": 16,
    "server_sequential": 20,
    "server_steps_closed12": 23,
}


@pytest.mark.parametrize("path", SERVERS)
def test_golden_live_requests_of_events(path: Path) -> None:
    """What is rebuilt from events is, but for a few, a prompt that was sent."""
    trace = Recording(events(path.parent)).trace()
    assert trace.prompts is not None
    rows = rows_of(path)
    sent = Counter(tuple(r["token_ids"][: len(r["token_ids"]) // SIZE * SIZE]) for r in rows)
    rebuilt = Counter(tuple(trace.prompts[i].tolist()) for i in range(len(trace)))
    assert sum((rebuilt - sent).values()) <= NO_PROMPT[path.parent.name]
    assert sum((rebuilt & sent).values()) > 0.6 * len(rows)


def test_golden_live_evictions() -> None:
    """Evictions of cached blocks: how many, and how long the blocks had been there."""
    folder = LIVE / "server_sequential"
    if not folder.is_dir():
        pytest.skip(f"no recording {folder}")
    born: dict[Any, list[float]] = defaultdict(list)
    lives: list[float] = []
    for event in events(folder):
        for name in event.block_hashes:
            assert event.time is not None
            if event.type == "BlockStored":
                born[name].append(event.time)
            else:
                lives.append(event.time - born[name].pop(0))
    assert (len(lives), round(float(np.mean(lives)), 3)) == (445, 5.454)
    rows = rows_of(folder / "requests.jsonl.gz")
    trace = trace_of(rows, [float(i) for i in range(len(rows))])
    assert simulate(trace, server(arrivals="trace")).totals["evictions"] == 445
