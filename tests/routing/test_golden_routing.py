"""Routing of the golden recordings: real routers' decisions, and what they did to the caches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.conftest import DATA
from tests.golden import cases, read_json
from tests.routing.recorded import Recorded, read_trace, run, spec_of, text_digest


@pytest.mark.parametrize("path", cases("routing", "cases/*.json.gz"))
def test_golden_routing(path: Path) -> None:
    case = read_json(path)
    trace = read_trace(case["trace"])
    done = run(case, trace, spec_of(case))
    check(case, trace, done)


@pytest.mark.parametrize(
    "path", sorted((DATA / "routing/cases").iterdir()), ids=lambda p: p.name.split(".")[0]
)
def test_recorded_routing_inside_the_project(path: Path) -> None:
    case = read_json(path)
    trace = read_trace(case["trace"], DATA / "routing")
    done = run(case, trace, spec_of(case))
    check(case, trace, done)
    _tamper(case, 500)
    with pytest.raises(AssertionError):
        check(case, trace, run(case, trace, spec_of(case)))


def _tamper(case: dict[str, Any], at: int) -> None:
    """Let another replica have been chosen where there was no tie."""
    ties = {**case.get("derived", {}).get("ties", {}), **case.get("candidates", {})}
    while str(at) in ties:
        at += 1
    case["choice"][at] = (case["choice"][at] + 1) % case["replicas"]


def check(case: dict[str, Any], trace: Recorded, done: dict[str, Any]) -> None:
    """Compare everything that a recording says with what was simulated."""
    _check_decisions(case, done)
    _check_fleet(case, done)
    notes = done["notes"].reshape(len(case["choice"]), -1)
    derived = case.get("derived", {})
    if "branch" in derived:
        branches = "".join("LMN"[int(branch)] for branch in notes[:, 0])
        assert branches == "".join(derived["branch"])
        matched = [None if b == "L" else int(m) for b, m in zip(branches, notes[:, 1], strict=True)]
        assert matched == derived["matched_chars"]
        assert trace.texts is not None
        after = [*range(250, len(branches), 250), len(branches)]
        found = [
            [count, text_digest(nodes, trace.texts), sizes]
            for count, (nodes, sizes) in zip(after, done["indices"], strict=True)
        ]
        assert found == derived["index_digests"]
    if "matched_chars" in case:
        assert notes[:, 0].tolist() == case["matched_chars"]
    if "overlap_blocks" in case:
        _check_dynamo(case, notes)
    if "seen" in case:
        _check_seen(case, notes)


def _check_decisions(case: dict[str, Any], done: dict[str, Any]) -> None:
    replicas = case["replicas"]
    sets = {int(i): s for i, s in case.get("derived", {}).get("ties", {}).items()}
    sets |= {int(i): s for i, s in case.get("candidates", {}).items()}
    free = case["policy"] in ("manual", "pd: prefill cache_aware, decode round_robin")
    for i, (mask, choice) in enumerate(zip(done["allowed"].tolist(), case["choice"], strict=True)):
        allowed = [w for w in range(replicas) if mask >> w & 1]
        if i in sets:
            assert allowed == sorted(sets[i]), i
        elif free:  # ties are not recorded
            assert choice in allowed, i
        else:
            assert allowed == [choice], i


def _check_fleet(case: dict[str, Any], done: dict[str, Any]) -> None:
    fleet = case["fleet"]
    hits, best = done["hit_tokens"], done["best_hit_tokens"]
    if "hit_blocks" in fleet:
        assert (hits // fleet["block_size"]).tolist() == fleet["hit_blocks"]
    requests, computed = done["requests"], done["computed_tokens"]
    found = {
        "hit_tokens": int(hits.sum()),
        "best_replica_hit_tokens": int(best.sum()),
        "regret_tokens": int((best - hits).sum()),
        "regret_requests": int((best > hits).sum()),
        "requests_per_replica": requests,
        "computed_tokens_per_replica": computed,
        "peak_in_flight": done["peak_in_flight"],
        "evictions": done["evictions"],
        "duplicate_blocks": done["cached_blocks"] - done["distinct_blocks"],
        "imbalance_requests": round(max(requests) * len(requests) / sum(requests), 9),
        "imbalance_tokens": round(max(computed) * len(computed) / sum(computed), 9),
    }
    assert found == {name: fleet[name] for name in found}
    assert sum(done["regret_tokens_by_cause"].values()) == fleet["regret_tokens"]
    assert sum(done["regret_requests_by_cause"].values()) == fleet["regret_requests"]


def _check_dynamo(case: dict[str, Any], notes: Any) -> None:
    r = case["replicas"]
    assert notes[:, :r].tolist() == case["overlap_blocks"]
    assert notes[:, r : 2 * r].tolist() == case["potential_prefill_tokens_by_replica"]
    assert notes[:, 2 * r :].tolist() == case["potential_decode_blocks_by_replica"]


def _check_seen(case: dict[str, Any], notes: Any) -> None:
    r = case["replicas"]
    if case["policy"].startswith("AIBrix"):
        for i, ((branch, percents), note) in enumerate(zip(case["seen"], notes, strict=True)):
            found = "I" if note[1] else "MSN"[int(note[0])]
            shown = [[w, int(note[2 + w])] for w in range(r) if note[2 + w] >= 0]
            assert (found, shown) == (branch, percents), i
        return
    blocks, matched, scores = notes[:, 0], notes[:, 1 : r + 1], notes[:, r + 1 :]
    for i, (matches, count, totals) in enumerate(case["seen"]):
        assert (matched[i].tolist(), blocks[i]) == (matches, count), i
        assert scores[i].round(9).tolist() == totals, i
