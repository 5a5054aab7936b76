"""The small examples of the routers' rules, each through the routers themselves.

Scores that no router shows (llm-d's) are checked in ``rust/fleet/routers/unit_vectors.rs``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import DATA
from tests.golden import golden_root, read_json
from tests.routing.recorded import Recorded

FILES = [DATA / "routing/unit_vectors.json", golden_root() / "routing/unit_vectors.json"]
FILES = [path for path in FILES if path.is_file()]
LONG = 1 << 20  # stays for ever


@pytest.fixture(params=FILES, ids=["project", "golden"][: len(FILES)])
def vectors(request: pytest.FixtureRequest) -> Any:
    path: Path = request.param
    return read_json(path)


def settings(replicas: int, choices: list[int] | None, **more: Any) -> dict[str, Any]:
    return {
        "replicas": replicas, "capacity": None, "block_size": 1, "seed": 0, "ties": "lowest",
        "event_delay": 0, "scaling": [], "seen": True, "index_after": [], "validate": True,
        "choices": choices, **more,
    }  # fmt: skip


def route(trace: Recorded, spec: dict[str, Any], fleet: dict[str, Any]) -> dict[str, Any]:
    (done,) = trace.traffic(0, None).route([spec], fleet)
    return done  # type: ignore[return-value]


def loaded(
    loads: list[int], text: str, heads: dict[int, str] | None = None
) -> tuple[Recorded, list[int]]:
    """Requests that give replicas these loads, then one of ``text``; and their choices.

    ``heads`` are texts that replicas have had before, by requests that end at once.
    """
    first = [(text, 0, w) for w, text in (heads or {}).items()]
    busy = [(f"#{w}.{i}" * 3, LONG, w) for w, load in enumerate(loads) for i in range(load)]
    rows = [*first, *busy, (text, 0, 0)]
    trace = Recorded([hold for _, hold, _ in rows], [text for text, _, _ in rows])
    return trace, [w for _, _, w in rows]


def allowed(done: dict[str, Any], replicas: int) -> list[int]:
    return [w for w in range(replicas) if int(done["allowed"][-1]) >> w & 1]


def test_sglang_hashes(vectors: Any) -> None:
    rows = vectors["sgl_hash_modulo"]
    trace = Recorded([0] * len(rows), ["x"] * len(rows), keys=[row["key"] for row in rows])
    for replicas in (4, 8):
        done = route(trace, {"rule": "hash_modulo"}, settings(replicas, None))
        assert done["replica"].tolist() == [row[f"mod{replicas}"] for row in rows]


def test_production_stack_ring(vectors: Any) -> None:
    ring = vectors["prodstack_ring"]
    keys = list(ring["lookups"])
    trace = Recorded([0] * len(keys), ["x"] * len(keys), keys=keys)
    spec = {"rule": "session_ring", "urls": ring["urls"]}
    done = route(trace, spec, settings(len(ring["urls"]), None))
    assert done["replica"].tolist() == list(ring["lookups"].values())


def test_sglang_imbalance(vectors: Any) -> None:
    for row in vectors["sgl_imbalance"]:
        trace, choices = loaded(row["loads"], "hello")
        spec = {
            "rule": "cache_aware",
            "cache_threshold": 0.3,
            "balance_abs_threshold": row["abs"],
            "balance_rel_threshold": row["rel"],
            "eviction_interval_secs": 0.0,
            "max_tree_size": 1 << 26,
        }
        done = route(trace, spec, settings(2, choices))
        assert bool(done["by_load"][-1]) is row["imbalanced"], row


def test_aibrix_selection(vectors: Any) -> None:
    for row in vectors["aibrix_select"]:
        matched = [int(w) for w in row.get("percent", {})]
        trace, choices = loaded(
            row["loads"], "match me, please", dict.fromkeys(matched, "match me, please")
        )
        spec = {
            "rule": "aibrix", "imbalance_abs": row.get("imbalance_abs", 8), "stddev_factor": 1.0,
            "block_bytes": 4, "table_blocks": 200_000, "ttl_secs": 1200.0,
        }  # fmt: skip
        done = route(trace, spec, settings(4, choices, validate=False))
        assert allowed(done, 4) == row["allowed"], row


def llmd(capacity: int) -> dict[str, Any]:
    weights = ("prefix", "queue", "running", "load_aware", "active", "token_load", "session")
    return {
        "rule": "llmd", "precise": False, **{f"{name}_weight": 1.0 for name in weights},
        "match_length_weight": 0.0, "block_tokens": 64, "index_capacity": capacity,
    }  # fmt: skip


def blocks(ids: list[int]) -> Any:
    """Tokens of router blocks; blocks that stand alone begin a prompt of their own."""
    return np.repeat(np.array(ids, np.uint32), 64)


def test_llmd_index(vectors: Any) -> None:
    for row in vectors["llmd_index"]:
        asked = [[block] for block, _ in row["get"]] if len(row["adds"]) > 1 else [[1, 2, 3]]
        for prompt in asked:
            tokens = [blocks(ids) for ids in (*row["adds"], prompt)]
            done = route(
                Recorded([0] * len(tokens), None, tokens),
                llmd(row["capacity"]),
                settings(1, None),
            )
            matched = int(done["notes"].reshape(len(tokens), -1)[-1, 1])
            holders = dict(row["get"])
            assert matched == sum(holders[block] != [] for block in prompt), row


def test_deciders(vectors: Any) -> None:
    rows = [(row, "isl_bounding") for row in vectors["dynamo_conditional_disagg"]]
    rows += [(row, str(row["non_cached_tokens"])) for row in vectors["llmd_pd_decider"]]
    for row, decider in rows:
        cached = row.get("decode_cached", row.get("cached_tokens"))
        prompt = np.arange(row["prompt"], dtype=np.uint32)
        trace = Recorded([0, 0], None, [prompt[:cached], prompt])
        fleet = settings(1, None)
        rule = {"rule": "round_robin"}
        done = trace.traffic(0, None).disaggregate(rule, rule, fleet, fleet, decider)
        remote = row.get("disaggregate", not row.get("bypass_prefill", False))
        assert done["remote"][-1] is remote, row


def test_dynamo_cost(vectors: Any) -> None:
    """The parts of the cost are what the router shows; the cheaper replica is taken."""
    for row in vectors["dynamo_cost"]:
        prompt = np.arange(row["prompt"], dtype=np.uint32)
        trace = Recorded([LONG, 0], None, [prompt, prompt])
        spec = {
            "rule": "dynamo", "use_kv_events": True, "overlap_score_credit": 1.0,
            "overlap_score_credit_decay": 0.0, "prefill_load_scale": 1.0,
            "decode_active_request_weight": 0.0, "router_temperature": 0.0,
            "router_ttl_secs": 120.0,
        }  # fmt: skip
        done = route(trace, spec, settings(2, [1, 0], block_size=16))
        overlap, prefill, in_use = done["notes"].reshape(2, -1)[-1].reshape(3, 2).tolist()
        assert overlap == row["overlap"]
        uncached = [row["prompt"] - 16 * o for o in overlap]
        assert [p - u for p, u in zip(prefill, uncached, strict=True)] == row["active_prefill"]
        sums = [a + n for a, n in zip(row["active_blocks"], row["new_blocks"], strict=True)]
        assert in_use == sums
        cheapest = row["cost"].index(min(row["cost"]))
        assert allowed(done, 2) == [cheapest]
