"""The traces of the routing recordings, made as their README says, and what a recording checks."""

from __future__ import annotations

import gzip
import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from prefixsim import _core
from prefixsim.trace.columns import offsets_of
from tests.golden import golden_root

__all__ = ["BLOCK", "RULES", "Recorded", "read_trace", "run", "spec_of", "text_digest"]

BLOCK = 16


class Recorded:
    """A trace of the recordings: what the caches hold, text where routers see some, and stays.

    Attributes
    ----------
    tokens : list of ndarray
        What caches see.
    texts : list of str or None
    hold : list of int
    keys : list of str or None
    """

    def __init__(
        self,
        hold: list[int],
        texts: list[str] | None = None,
        tokens: list[npt.NDArray[np.uint32]] | None = None,
        keys: list[str] | None = None,
    ) -> None:
        self.hold, self.texts, self.keys = hold, texts, keys
        if tokens is None:
            assert texts is not None
            tokens = [np.frombuffer(t.encode(), np.uint8).astype(np.uint32) for t in texts]
        self.tokens = tokens

    def traffic(self, limit: int, timestamp: npt.NDArray[np.float64] | None) -> _core.FleetTraffic:
        """The first requests (all if ``limit`` is 0), compiled."""
        count = limit or len(self.hold)
        forest, lengths = _forest(self.tokens[:count])
        text: dict[str, Any] = {}
        if self.texts is not None:
            texts = self.texts[:count]
            code_points = [np.frombuffer(t.encode("utf-32-le"), np.uint32) for t in texts]
            data = [np.frombuffer(t.encode(), np.uint8).astype(np.uint32) for t in texts]
            text = {"characters": _forest(code_points), "text_bytes": _forest(data)}
        keys = (self.keys or [""] * len(self.hold))[:count]
        names = list(dict.fromkeys(keys))
        number = {name: i for i, name in enumerate(names)}
        return _core.FleetTraffic(
            forest,
            lengths,
            np.array(self.hold[:count], np.uint32),
            np.zeros(count) if timestamp is None else timestamp,
            np.array([number[key] for key in keys], np.uint32),
            names,
            **text,
        )


def _forest(lists: list[npt.NDArray[np.uint32]]) -> tuple[_core.Forest, npt.NDArray[np.uint32]]:
    lengths = np.array([len(ids) for ids in lists], np.uint32)
    ids = np.concatenate([*lists, np.empty(0, np.uint32)]).astype(np.uint32)
    return _core.compile_forest(offsets_of(lengths), ids, lengths), lengths


def _lines(path: Path) -> list[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def _mooncake() -> list[dict[str, Any]]:
    return _lines(golden_root().parent / "data/mooncake/conversation_trace.jsonl.gz")


@cache
def read_trace(name: str, folder: Path | None = None) -> Recorded:
    """One of the traces of the recordings, those of chats from a folder."""
    if name in ("chat_a", "chat_b", "chat_a_tok", "chat_b_tok"):
        folder = folder or golden_root() / "routing"
        rows = _lines(folder / f"traces/{name.removesuffix('_tok')}.jsonl.gz")
        texts = [row["text"] for row in rows]
        whole = Recorded([row["hold"] for row in rows], texts, keys=[row["key"] for row in rows])
        return Recorded(whole.hold, None, whole.tokens, whole.keys) if "_tok" in name else whole
    if name == "magagent_text":
        return _agents()
    rows = _mooncake()
    hold = [0 if name == "moon_text_h0" else min(32, r["output_length"] // 16) for r in rows]
    if name in ("moon_text", "moon_text_h0"):
        texts = ["".join(f"{h:07x}." for h in row["hash_ids"]) for row in rows]
        return Recorded(hold, texts)
    assert name == "moon_tok", name
    tokens: list[npt.NDArray[np.uint32]] = []
    for row in rows:
        ids = np.array(row["hash_ids"], np.uint32)
        every = (16 * ids[:, None] + np.arange(16, dtype=np.uint32)).ravel().astype(np.uint32)
        rest = row["input_length"] - 512 * (len(ids) - 1)
        tokens.append(every[: 16 * (len(ids) - 1) + -(-rest // 32)])
    return Recorded(hold, None, tokens)


def _agents() -> Recorded:
    rows = _lines(golden_root().parent / "data/lmcache-agent/magagent.jsonl.gz")
    rows.sort(key=lambda row: row["timestamp"])
    hold = [min(16, len(row["output"]) // 200) for row in rows]
    return Recorded(hold, [row["input"] for row in rows])


def _sglang(case: dict[str, Any]) -> dict[str, Any]:
    config = case["config"]
    names = ("cache_threshold", "balance_abs_threshold", "balance_rel_threshold")
    once = config["eviction"] != "off"
    return {
        "rule": "cache_aware",
        **{name: config[name] for name in names},
        "eviction_interval_secs": 60.0 if once else 0.0,
        "max_tree_size": config.get("max_tree_size", 2**26),
    }


def _dynamo(case: dict[str, Any]) -> dict[str, Any]:
    config = case["config"]
    names = ("overlap_score_credit", "overlap_score_credit_decay", "prefill_load_scale",
             "decode_active_request_weight")  # fmt: skip
    return {
        "rule": "dynamo",
        "use_kv_events": case["mode"] == "events",
        **{name: config[name] for name in names},
        "router_temperature": 0.0,
        "router_ttl_secs": float("inf"),
    }


def _llmd(case: dict[str, Any]) -> dict[str, Any]:
    config = case["config"]
    weights = config["weights"]
    names = ("prefix", "queue", "running", "load_aware", "active", "token_load", "session")
    assert set(weights) <= set(names)
    return {
        "rule": "llmd",
        "precise": "precise" in case["policy"],
        **{f"{name}_weight": weights.get(name, 0.0) for name in names},
        "match_length_weight": 0.0,
        "block_tokens": config["block"],
        "index_capacity": config.get("index_capacity", 31_250),
    }


def _aibrix(case: dict[str, Any]) -> dict[str, Any]:
    return {
        "rule": "aibrix",
        "imbalance_abs": case["config"]["imbalance_abs"],
        "stddev_factor": float(case["config"]["stddev_factor"]),
        "block_bytes": case["config"]["block_bytes"],
        "table_blocks": 200_000,
        "ttl_secs": 1200.0,
    }


RULES: dict[str, Any] = {
    "cache_aware": _sglang,
    "manual": lambda case: {
        "rule": "sticky",
        "assignment_mode": case["config"]["assignment_mode"],
        "idle_secs": 14_400.0,
    },
    "consistent_hashing": lambda _: {"rule": "hash_modulo"},
    "round_robin": lambda _: {"rule": "round_robin"},
    "pd: prefill cache_aware, decode round_robin": lambda _: {"rule": "random"},
    "cache_aware as observed: least_loaded": lambda _: {"rule": "least_loaded"},
    "kv": _dynamo,
    "prefixaware": lambda case: {
        "rule": "prefix_aware",
        "prefix_min_match_length": case["config"]["prefix_min_match_length"],
    },
    "session": lambda case: {"rule": "session_ring", "urls": case["config"]["urls"]},
    "AIBrix prefix-cache (local indexer)": _aibrix,
    "llm-d approx-prefix-cache-producer + prefix-cache-scorer": _llmd,
    "llm-d precise-prefix-cache-producer + prefix-cache-scorer": _llmd,
}


def spec_of(case: dict[str, Any]) -> dict[str, Any]:
    """The rule that a recording is of, with its settings, as the core takes it."""
    spec: dict[str, Any] = RULES[case["policy"]](case)
    return spec


def run(case: dict[str, Any], trace: Recorded, spec: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Route a recording's trace; at random ties go on with what was recorded."""
    count = len(case["choice"])
    once = case["config"].get("eviction", "off") != "off"
    timestamp = np.where(np.arange(count) < 400, 0.0, 60.0) if once else None
    settings = {
        "replicas": case["replicas"],
        "capacity": case["fleet"]["capacity_per_replica"],
        "block_size": case["fleet"]["block_size"],
        "seed": 0,
        "ties": "lowest",
        "event_delay": 0,
        "scaling": [],
        "seen": True,
        "index_after": [*range(250, count, 250), count],
        "validate": False,
        "choices": case["choice"],
        **more,
    }
    (done,) = trace.traffic(case["limit"], timestamp).route([spec], settings)
    return done  # type: ignore[return-value]


def text_digest(nodes: list[tuple[int, ...]], texts: list[str]) -> str:
    """The digest of a text index as the recordings have it."""
    children: dict[int, list[int]] = {}
    for number, (parent, *_) in enumerate(nodes[1:], 1):
        children.setdefault(parent, []).append(number)

    def text(number: int) -> str:
        _, request, start, end, *_ = nodes[number]
        return texts[request][start:end]

    lines: list[str] = []
    open_nodes = [(0, 0)]
    while open_nodes:
        number, depth = open_nodes.pop()
        _, _, _, _, tenants, owner = nodes[number]
        held = ",".join(str(w) for w in range(64) if tenants >> w & 1)
        shown = text(number) if number else ""
        lines.append(f"{depth}|{shown}|{held}|{owner}\n")
        below = sorted(children.get(number, []), key=lambda n: text(n)[0], reverse=True)
        open_nodes += [(n, depth + 1) for n in below]
    return hashlib.sha256("".join(lines).encode()).hexdigest()[:16]
