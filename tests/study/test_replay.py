"""Replay and its metrics against a block-by-block model in plain Python."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import prefixsim
from prefixsim.engines import engine_names, load
from prefixsim.engines.outcome import Outcome, Weighted
from prefixsim.errors import InputError
from prefixsim.study.metrics import first_measured
from prefixsim.trace import Codes, Ragged, Trace
from tests.oracle.replay import Naive, distribution

pytestmark = pytest.mark.filterwarnings("error")


@st.composite
def traces(draw: st.DrawFn) -> Trace:
    """Few tokens and many repeats of earlier prompts: deep sharing, prefixes, empty prompts."""
    n = draw(st.integers(0, 12))
    prompts: list[list[int]] = []
    for _ in range(n):
        start: list[int] = []
        follow = draw(st.booleans())
        if prompts and follow:
            earlier = prompts[draw(st.integers(0, len(prompts) - 1))]
            start = earlier[: draw(st.integers(0, len(earlier)))]
        more: list[int] = draw(st.lists(st.integers(0, 1), max_size=9))
        prompts.append(start + more)
    times = sorted(draw(st.lists(st.sampled_from([0.0, 0.5, 1.0, 7.25]), min_size=n, max_size=n)))
    label = st.lists(st.sampled_from(["", "a", "b"]), min_size=n, max_size=n)
    trace = Trace.from_prompts(
        prompts,
        timestamp=times,
        session=draw(st.none() | label),
        salt=draw(st.none() | label),
    )
    return trace.replace(category=Codes.from_strings(draw(label)))


@st.composite
def hashed_traces(draw: st.DrawFn) -> Trace:
    """Chained ids of four tokens each, of which the last may stand for fewer."""
    tokens = draw(traces())
    assert tokens.prompts is not None
    chain: dict[Any, int] = {}
    rows = []
    for i in range(len(tokens)):
        prompt = tokens.prompts[i].tolist()
        salt = tokens.salt[i] if tokens.salt else ""
        rows.append(
            [
                chain.setdefault((salt, *prompt[: k + 4]), len(chain))
                for k in range(0, len(prompt), 4)
            ]
        )
    return tokens.replace(prompts=Ragged.from_lists(rows, np.uint64), id_block_size=4)


def check(summary: dict[str, Any], naive: Naive, found: dict[str, Any], start: int) -> None:
    """Every figure of the summary, from the naive replay."""
    trace, b = naive.trace, naive.block_size
    hits = found["hit_blocks"]
    hit_tokens = naive.hit_tokens(hits)
    lengths = [int(n) for n in trace.prompt_len]
    blocks = [len(x) for x in naive.blocks]
    prompt_tokens, hit = sum(lengths[start:]), sum(hit_tokens[start:])
    reused, total = sum(hits[start:]), sum(blocks[start:])
    in_blocks = sum(min(k * b, n) for k, n in zip(blocks[start:], lengths[start:], strict=True))
    counts = naive.block_hit_count(start)
    expected = {
        "requests": len(trace) - start,
        "requests_with_hit": sum(k > 0 for k in hits[start:]),
        "prompt_tokens": prompt_tokens,
        "hit_tokens": hit,
        "computed_tokens": prompt_tokens - hit,
        "token_hit_rate": hit / prompt_tokens if prompt_tokens else 0.0,
        "prefill_saved_share": hit / prompt_tokens if prompt_tokens else 0.0,
        "full_block_hit_rate": hit / in_blocks if in_blocks else 0.0,
        "total_blocks": total,
        "blocks_reused": reused,
        "blocks_allocated": total - reused,
        "unique_blocks": len(counts),
        "block_reuse_rate": reused / total if total else 0.0,
    }
    assert {name: summary[name] for name in expected} == expected
    share = [k / n if n else 0.0 for k, n in zip(hit_tokens, lengths, strict=True)]
    gaps = [(i, j) for i, j in naive.gaps(hits) if i >= start]
    at = trace.timestamp
    for name, values in {
        "sharing_fraction": share[start:],
        "block_hit_count": [float(x) for x in counts],
        "reuse_gap_s": [float(at[i] - at[j]) for i, j in gaps],
        "reuse_gap_requests": [float(i - j) for i, j in gaps],
    }.items():
        assert summary[name] == pytest.approx(distribution(values)), name
    for label in ("category", "salt"):
        check_groups(summary, trace, label, hit_tokens, start)


def check_groups(
    summary: dict[str, Any], trace: Trace, label: str, hit_tokens: list[int], start: int
) -> None:
    codes = getattr(trace, label)
    if codes is None:
        assert f"by_{label}" not in summary
        return
    names = [codes[i] for i in range(len(trace))]
    prompt, hit = Counter[str](), Counter[str]()
    for i in range(start, len(trace)):
        prompt[names[i]] += int(trace.prompt_len[i])
        hit[names[i]] += hit_tokens[i]
    assert {
        k: (v["prompt_tokens"], v["hit_tokens"]) for k, v in summary[f"by_{label}"].items()
    } == {k: (prompt[k], hit[k]) for k in set(names[start:])}


@given(
    trace=traces(),
    block_size=st.integers(1, 5),
    num_blocks=st.none() | st.integers(1, 12),
    last_token_rule=st.booleans(),
    warmup=st.sampled_from([0.0, 0.0, 0.3, 0.75]),
)
@example(Trace.from_prompts([[0] * 8, [0] * 8, [0] * 8]), 4, 1, True, 0.0)
def test_every_figure_equals_the_naive_replay(
    trace: Trace,
    block_size: int,
    num_blocks: int | None,
    last_token_rule: bool,
    warmup: float,
) -> None:
    result = prefixsim.replay(
        trace,
        block_size=block_size,
        num_blocks=num_blocks,
        engine="lru",
        last_token_rule=last_token_rule,
        warmup=warmup,
    )
    naive = Naive(trace, block_size)
    found = naive.replay(num_blocks, last_token_rule)
    start = first_measured(len(trace), warmup)
    assert result.outcome.hit_blocks.tolist() == found["hit_blocks"]
    check(result.summary, naive, found, start)
    late = [i for i, request in enumerate(found["evicted_at"]) if request >= start]
    assert result.summary["evictions"] == len(late)
    if num_blocks is not None:
        for name, values in {
            "cached_block_lifetime_s": found["lifetime"],
            "block_idle_before_evict_s": found["idle"],
        }.items():
            assert result.summary[name] == pytest.approx(distribution([values[i] for i in late]))


@given(trace=hashed_traces(), blocks=st.integers(1, 2), partial=st.booleans())
def test_hashed_traces_equal_the_naive_replay(trace: Trace, blocks: int, partial: bool) -> None:
    block_size = 4 if partial else 4 * blocks
    result = prefixsim.replay(
        trace, block_size=block_size, partial_blocks=partial, last_token_rule=not partial
    )
    naive = Naive(trace, block_size, partial=partial)
    check(result.summary, naive, naive.replay(None, not partial), 0)


@given(trace=traces(), block_size=st.integers(1, 4))
def test_hits_of_the_own_session(trace: Trace, block_size: int) -> None:
    result = prefixsim.replay(trace, block_size=block_size)
    if trace.session is None:
        assert "blocks_reused_same_session" not in result.summary
        return
    naive = Naive(trace, block_size)
    had: dict[str, set[int]] = {}
    own = 0
    for i, (blocks, k) in enumerate(zip(naive.blocks, naive.replay()["hit_blocks"], strict=True)):
        name = trace.session[i]
        own += len(set(blocks[:k]) & had.get(name, set())) if name else 0
        had.setdefault(name, set()).update(blocks)
    assert result.summary["blocks_reused_same_session"] == own
    reused = result.summary["blocks_reused"]
    assert result.summary["blocks_reused_other_session"] == reused - own


@given(trace=traces(), intervals=st.integers(1, 6), warmup=st.sampled_from([0.0, 0.5]))
def test_intervals_add_up(trace: Trace, intervals: int, warmup: float) -> None:
    result = prefixsim.replay(trace, block_size=2, warmup=warmup)
    series = result.metrics.over_time(intervals)
    assert int(series.requests.sum()) == result.summary["requests"]
    assert int(series.prompt_tokens.sum()) == result.summary["prompt_tokens"]
    assert int(series.hit_tokens.sum()) == result.summary["hit_tokens"]
    assert len(series.edges) == len(series.requests) + 1
    assert (np.isnan(series.token_hit_rate) == (series.prompt_tokens == 0)).all()
    assert ((series.edges[1:] - series.edges[:-1]) > 0).all()


def test_over_time_puts_requests_where_they_arrive() -> None:
    trace = Trace.from_prompts([[1, 2], [1, 2, 3], [1, 2, 4, 5]], timestamp=[100.0, 101.0, 104.0])
    series = prefixsim.replay(trace, block_size=2).metrics.over_time(4)
    assert series.edges.tolist() == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert series.requests.tolist() == [1, 1, 0, 1]
    assert series.hit_tokens.tolist() == [0, 2, 0, 2]


@given(trace=traces(), block_size=st.integers(1, 4))
def test_without_caching_nothing_hits(trace: Trace, block_size: int) -> None:
    summary = prefixsim.replay(trace, block_size=block_size, enable_caching=False).summary
    assert summary["hit_tokens"] == summary["blocks_reused"] == 0
    assert summary["computed_tokens"] == summary["prompt_tokens"]
    assert summary["unique_blocks"] == len(Naive(trace, block_size).block_hit_count())


def chats() -> Trace:
    rng = np.random.default_rng(5)
    system = rng.integers(0, 999, 40).tolist()
    prompts, times, session, turn = [], [], [], []
    for c in range(6):
        history, now = list(system), float(c)
        for k in range(4):
            history += rng.integers(0, 999, int(rng.integers(5, 30))).tolist()
            prompts.append(list(history))
            times.append(now)
            session.append(f"chat-{c}")
            turn.append(k)
            now += 1.0 + 10 * rng.random()
    order = np.argsort(times, kind="stable")
    trace = Trace.from_prompts(
        [prompts[i] for i in order],
        timestamp=[times[i] for i in order],
        session=[session[i] for i in order],
        name="chats",
    )
    return trace.replace(turn=np.array(turn, dtype=np.uint32)[order], meta={"seed": 5})


def test_a_forest_is_replayed_like_its_trace() -> None:
    trace = chats()
    forest = prefixsim.compile(trace)
    for block_size in (1, 16):
        again = prefixsim.replay(forest, block_size=block_size)
        assert again.summary == prefixsim.replay(trace, block_size=block_size).summary
    with pytest.raises(InputError, match=r"chats: .*compile"):
        prefixsim.replay(forest, cache_outputs=True)


def test_result_is_json_with_provenance() -> None:
    trace = chats()
    result = prefixsim.replay(trace, warmup=0.25)
    read = json.loads(result.to_json(), parse_constant=pytest.fail)
    assert list(read) == ["trace", "config", "provenance", "summary"]
    assert read["summary"] == result.summary
    assert read["config"]["block_size"] == 16
    assert read["config"]["warmup"] == 0.25
    assert read["provenance"]["digest"] == trace.digest == read["trace"]["digest"]
    assert read["provenance"]["prefixsim"] == prefixsim.__version__
    assert read["provenance"]["seed"] == 5


def test_json_of_an_empty_trace_has_nulls() -> None:
    read = json.loads(
        prefixsim.replay(Trace.from_prompts([])).to_json(), parse_constant=pytest.fail
    )
    assert read["summary"]["requests"] == 0
    assert read["summary"]["token_hit_rate"] == 0.0
    assert read["summary"]["sharing_fraction"] == dict.fromkeys(
        ("mean", "median", "min", "max", "p90", "p99")
    )


def test_request_table() -> None:
    trace = chats()
    result = prefixsim.replay(trace)
    table = result.requests
    assert table.column_names == [
        "request_id", "session", "turn", "timestamp", "prompt_len", "output_len",
        "hit_tokens", "computed_tokens",
    ]  # fmt: skip
    rows = table.to_pylist()
    assert [row["request_id"] for row in rows] == [str(i) for i in range(len(trace))]
    assert trace.session is not None
    assert [row["session"] for row in rows] == [trace.session[i] for i in range(len(trace))]
    assert all(r["hit_tokens"] + r["computed_tokens"] == r["prompt_len"] for r in rows)
    assert result.to_pandas()["hit_tokens"].sum() == result.summary["hit_tokens"]


@pytest.mark.parametrize("form", ["parquet", "csv", "jsonl"])
def test_save(tmp_path: Path, form: Any) -> None:
    result = prefixsim.replay(chats())
    written = result.save(tmp_path / "out", charts=False, table=form)
    assert [p.name for p in written] == ["summary.json", f"requests.{form}"]
    path = str(written[1])
    if form == "parquet":
        table = pq.read_table(path)
    elif form == "csv":
        table = pacsv.read_csv(path)
    else:
        table = pa.Table.from_pylist(
            [json.loads(line) for line in written[1].read_text().splitlines()]
        )
    assert table.column("hit_tokens").to_pylist() == result.outcome.hit_tokens.tolist()
    assert table.column("session").to_pylist() == result.requests.column("session").to_pylist()


def test_notebook_table_names_its_rates() -> None:
    text = prefixsim.replay(chats())._repr_html_()
    assert "hit tokens / prompt tokens" in text
    assert "blocks reused / total blocks" in text


def test_engines_are_listed_when_unknown() -> None:
    with pytest.raises(InputError, match=r"unknown engine 'nope', choose one of ideal"):
        load("nope")
    assert {"ideal", "block-manager"} <= set(engine_names())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"block_size": 0}, r"block_size is 0, it must be at least 1"),
        ({"num_blocks": 0}, r"num_blocks is 0, it must be at least 1"),
        ({"num_blocks": 2**64}, r"num_blocks is 18446744073709551616, it must be at most 4,294"),
        ({"block_size": 2**40}, r"block_size is 1099511627776, it must be at most 4,294"),
        ({"concurrency": 0}, r"concurrency is 0, it must be at least 1"),
        ({"warmup": 1.0}, r"warmup is 1\.0, give a share"),
        ({"warmup": -0.1}, r"warmup is -0\.1, give a share"),
        ({"warmup": float("nan")}, r"warmup is nan, give a share"),
        (
            {"engine": "lru", "concurrency": 2},
            r"'ideal' has no concurrency=2.*block-manager",
        ),
        ({"engine": "lru", "speed": 2}, r"engine 'ideal' has no option 'speed'"),
        ({"cache_outputs": True}, r"chats: no output token ids"),
        ({"partial_blocks": True}, r"chats: partial blocks"),
    ],
)
def test_settings_out_of_range(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        prefixsim.replay(chats(), **options)


def test_block_size_must_fit_hash_ids() -> None:
    trace = Trace.from_prompts([[1, 2]]).replace(
        prompts=Ragged.from_lists([[1, 2]], np.uint64),
        prompt_len=np.array([1024], dtype=np.uint32),
        id_block_size=512,
    )
    assert prefixsim.replay(trace).config["block_size"] == 512
    with pytest.raises(InputError, match=r"multiple of 512 \(512, 1024, 2048\.\.\.\), not 16"):
        prefixsim.replay(trace, block_size=16)


def test_lengths_alone_cannot_be_replayed() -> None:
    trace = Trace.from_prompts([[1, 2]]).replace(prompts=None)
    with pytest.raises(InputError, match="has only lengths"):
        prefixsim.replay(trace)


@given(
    values=st.lists(st.tuples(st.sampled_from([0.0, 0.5, 2.0]), st.integers(1, 5)), max_size=8),
    cut=st.integers(0, 8),
)
def test_weighted_minus(values: list[tuple[float, int]], cut: int) -> None:
    def weighted(items: list[tuple[float, int]]) -> Weighted:
        return Weighted(
            np.array([v for v, _ in items], dtype=np.float64),
            np.array([w for _, w in items], dtype=np.uint64),
        )

    left = weighted(values).minus(weighted(values[:cut]))
    counts: Counter[float] = Counter()
    for value, weight in values[cut:]:
        counts[value] += weight
    assert dict(zip(left.values.tolist(), left.weights.tolist(), strict=True)) == counts


def test_outcome_columns_have_one_length() -> None:
    column = np.zeros(2, dtype=np.uint32)
    with pytest.raises(InputError, match="differ in length"):
        Outcome("x", {}, column, column, column[:1])
    with pytest.raises(InputError, match="differ in length"):
        Outcome("x", {}, column, column, column, columns={"admit_step": column[:1]})


def test_warmup_counts_requests() -> None:
    assert [first_measured(10, w) for w in (0.0, 0.3, 0.25, 0.999)] == [0, 3, 2, 9]


ENGINE_FIGURES = {"cached_block_lifetime_s", "block_idle_before_evict_s"}
