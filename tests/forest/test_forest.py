from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import prefixsim
from prefixsim.errors import InputError
from prefixsim.forest import Forest, compile, load_or_compile  # noqa: A004
from prefixsim.trace import Ragged, Trace
from tests.oracle import forest as oracle
from tests.strategies import Small, small_traces


def block_sizes(small: Small) -> range:
    return range(1, max((len(p) for p in small.prompts), default=0) + 2)


@given(small_traces(), st.booleans(), st.booleans())
def test_every_block_size_equals_the_oracle(small: Small, outputs: bool, sessions: bool) -> None:
    forest = compile(small.trace(sessions=sessions), outputs=outputs)
    forest._core.validate()
    for b in block_sizes(small):
        requests = oracle.requests_of(
            small.prompts,
            b,
            salts=small.salts,
            outputs=small.outputs if outputs else None,
            last_token_rule=False,
        )
        profile = forest.profile(b)
        profile.validate()
        run = oracle.lru(requests, None)
        assert profile.full_blocks.tolist() == [r.full for r in requests]
        assert profile.reusable_blocks.tolist() == run.hits
        distinct = {block for r in requests for block in r.blocks}
        assert profile.unique_blocks == len(distinct) == forest.unique_blocks(b)
        counts = zip(*(a.tolist() for a in profile.block_hit_counts()), strict=True)
        assert dict(counts) == oracle.counts(requests, [r.full for r in requests])


@given(small_traces(), st.data())
def test_hash_ids_equal_tokens_of_their_blocks(small: Small, data: st.DataObject) -> None:
    """A trace of chained hash ids is the token trace seen at multiples of the id's block size."""
    unit = data.draw(st.integers(1, 4))
    ids: dict[tuple[object, ...], int] = {}
    lists = []
    for prompt, salt in zip(small.prompts, small.salts, strict=True):
        ends = [*range(unit, len(prompt) + 1, unit)]
        if len(prompt) % unit:
            ends.append(len(prompt))
        lists.append([ids.setdefault((salt, *prompt[:e]), len(ids) << 40) for e in ends])
    tokens = small.trace()
    hashed = tokens.replace(
        prompts=Ragged.from_lists(lists, np.uint64), id_block_size=unit, outputs=None, salt=None
    )
    forests = compile(tokens), compile(hashed)
    for b in range(unit, 13, unit):
        a, c = (forest.profile(b) for forest in forests)
        assert a.full_blocks.tolist() == c.full_blocks.tolist()
        assert a.unique_blocks == c.unique_blocks
        for rule in (True, False):
            for capacity in (1, 3, None):
                expected = a.replay("lru", capacity, last_token_rule=rule)
                got = c.replay("lru", capacity, last_token_rule=rule)
                assert got["hit_blocks"].tolist() == expected["hit_blocks"].tolist()
                assert got["evictions"] == expected["evictions"]
    kept = compile(hashed, partial_blocks=True)
    profile = kept.profile(unit)
    assert profile.full_blocks.tolist() == [len(x) for x in lists]
    assert profile.unique_blocks == len(ids)
    if unit > 1:
        with pytest.raises(InputError, match="with partial blocks kept"):
            kept.profile(2 * unit)


@given(small_traces(), st.booleans())
def test_a_saved_forest_is_the_same(
    tmp_path_factory: pytest.TempPathFactory, small: Small, outputs: bool
) -> None:
    trace = small.trace()
    forest = compile(trace, outputs=outputs)
    path = tmp_path_factory.mktemp("forest") / "x.arrow"
    forest.save(path)
    loaded = Forest.load(path, trace)
    assert loaded.stats == forest.stats
    assert loaded.outputs == forest.outputs
    parts = forest._core.parts()
    for name, column in loaded._core.parts().items():
        assert column.tolist() == parts[name].tolist()


@given(small_traces())
def test_session_hits_are_those_the_session_had_seen(small: Small) -> None:
    for outputs in (False, True):
        forest = compile(small.trace(), outputs=outputs)
        for b in (1, 2, 3):
            requests = oracle.requests_of(
                small.prompts, b, salts=small.salts, outputs=small.outputs if outputs else None
            )
            hits = oracle.lru(requests, 5).hits
            got = forest.session_hits(np.asarray(hits, np.uint32), b)
            assert got.tolist() == oracle.session_hits(requests, small.sessions, hits)


@given(small_traces())
def test_top_prefixes_are_the_maximal_shared_ones(small: Small) -> None:
    table = compile(small.trace()).top_prefixes(1000).to_pylist()
    keys = [(s, *p) for s, p in zip(small.salts, small.prompts, strict=True)]
    shared: dict[tuple[object, ...], list[int]] = {}
    for i, key in enumerate(keys):
        for end in range(2, len(key) + 1):
            shared.setdefault(key[:end], []).append(i)
    maximal = [
        (len(key) - 1, len(users), users[0])
        for key, users in shared.items()
        if len(users) > 1
        and not any(k[:-1] == key and len(u) == len(users) for k, u in shared.items())
    ]
    got = [(r["tokens"], r["requests"], r["request"]) for r in table]
    assert sorted(got) == sorted(maximal)
    saved = [r["saved_tokens"] for r in table]
    assert saved == sorted(saved, reverse=True)
    assert saved == [tokens * (users - 1) for tokens, users, _ in got]
    assert compile(small.trace()).top_prefixes(2).to_pylist() == table[:2]


@given(small_traces(), st.sampled_from([0.5, 1.0, 3.0, 100.0]))
def test_working_set_counts_distinct_blocks_per_window(small: Small, window: float) -> None:
    table = compile(small.trace()).working_set(2, window).to_pylist()
    requests = oracle.requests_of(small.prompts, 2, salts=small.salts)
    first = small.times[0] if small.times else 0.0
    expected: list[set[object]] = [set() for _ in table]
    for request, time in zip(requests, small.times, strict=True):
        expected[int((time - first) // window)].update(request.blocks)
    assert [row["unique_blocks"] for row in table] == [len(x) for x in expected]
    assert sum(row["requests"] for row in table) == len(small.prompts)


def test_deep_conversations_make_few_nodes_and_one_heavy_path() -> None:
    text = list(range(1000, 2000))
    prompts = [text[: 2 * turn] for turn in range(1, 501)]
    forest = compile(Trace.from_prompts(prompts))
    stats = forest.stats
    assert (stats.nodes, stats.heavy_paths, stats.depth, stats.height) == (501, 1, 1000, 500)
    assert forest.profile(1).reuse_intervals == 499
    assert prefixsim.Trace is Trace


def test_prefixes_can_be_decoded() -> None:
    forest = compile(Trace.from_prompts([[7], [1, 2, 3], [1, 2, 4], [1, 2, 3, 5]]))
    row = forest.top_prefixes(1).to_pylist()[0]
    assert row == {"tokens": 2, "requests": 3, "saved_tokens": 4, "request": 1}
    assert forest.prefix_ids(row["request"], row["tokens"]).tolist() == [1, 2]


def test_a_forest_of_another_trace_is_refused(tmp_path: Path) -> None:
    one, two = Trace.from_prompts([[1, 2]]), Trace.from_prompts([[1, 3]], name="two")
    compile(one).save(tmp_path / "f.arrow")
    with pytest.raises(InputError, match="forest of another trace, compile two again"):
        Forest.load(tmp_path / "f.arrow", two)


def test_files_that_are_no_forest_are_refused(tmp_path: Path) -> None:
    trace = Trace.from_prompts([[1]])
    with pytest.raises(InputError, match="no such file"):
        Forest.load(tmp_path / "none", trace)
    (tmp_path / "text").write_text("hello")
    with pytest.raises(InputError, match="not a forest file"):
        Forest.load(tmp_path / "text", trace)


def test_cache_dir_keeps_forests_by_digest(tmp_path: Path) -> None:
    trace = Trace.from_prompts([[1, 2], [1, 2, 3]])
    first = load_or_compile(trace, tmp_path)
    (file,) = tmp_path.iterdir()
    assert trace.digest in file.name
    before = file.stat().st_mtime_ns
    assert load_or_compile(trace, tmp_path).stats == first.stats
    assert file.stat().st_mtime_ns == before
    file.write_bytes(b"broken")
    assert load_or_compile(trace, tmp_path).stats == first.stats
    assert Forest.load(file, trace).stats == first.stats


def test_unusable_traces_are_refused() -> None:
    trace = Trace.from_prompts([[1, 2]])
    with pytest.raises(InputError, match="no output token ids"):
        compile(trace, outputs=True)
    with pytest.raises(InputError, match="hash ids only"):
        compile(trace, partial_blocks=True)
    with pytest.raises(InputError, match="prompt lengths only"):
        compile(trace.replace(prompts=None))
    with pytest.raises(InputError, match="multiples of 1 only"):
        compile(trace).profile(0)
    with pytest.raises(InputError, match="no session column"):
        compile(trace).session_hits(np.zeros(1, np.uint32), 1)
    broken = Ragged(np.array([0, 9], np.uint64), np.zeros(2, np.uint32))
    with pytest.raises(InputError, match="offsets: the last is 9, but there are 2 values"):
        compile(trace.replace(prompts=broken))
