"""Every record of the reference numbers, which a model that shares no code with this computed."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from prefixsim import Trace, _core
from prefixsim.forest import Forest, compile  # noqa: A004

SHAREGPT = os.environ.get("PREFIXSIM_SHAREGPT")


def records(shared: Path, name: str) -> list[dict[str, Any]]:
    text = (shared / "golden/reference" / name).read_text()
    found: list[dict[str, Any]] = json.loads(text)["results"]
    return found


def summary(values: Any, weights: Any) -> dict[str, float | None]:
    return _core.weighted_summary(np.asarray(values, np.float64), np.asarray(weights, np.uint64))


def check(forest: Forest, record: dict[str, Any]) -> None:
    block, rule, capacity = record["block"], record["vllm_rule"], record["capacity"]
    lengths = forest.trace.prompt_len
    profile = forest.profile(block)
    run = profile.lru(capacity, last_token_rule=rule)
    hits, full = run["hit_blocks"], profile.full_blocks
    tokens = np.minimum(hits.astype(np.uint64) * np.uint64(block), lengths)
    counts, blocks = profile.hit_counts(hits)
    reused = counts > 0
    request, previous, weights = profile.gaps(hits)
    integers = {
        "requests": len(lengths),
        "prompt_tokens": int(lengths.sum(dtype=np.uint64)),
        "total_blocks": int(full.sum()),
        "unique_blocks": profile.unique_blocks,
        "hit_blocks": int(hits.sum()),
        "hit_tokens": int(tokens.sum()),
        "requests_with_hit": int((hits > 0).sum()),
        "evictions": run["evictions"],
        "reused_blocks": int(blocks[reused].sum()),
    }
    assert integers == {name: record[name] for name in integers}
    sharing = tokens / np.maximum(1, lengths)
    times = forest.trace.timestamp
    rates = {
        "block_hit_rate": {"": hits.sum() / full.sum()},
        "token_hit_rate": {"": tokens.sum() / lengths.sum(dtype=np.uint64)},
        "sharing": summary(sharing, np.ones(len(sharing))),
        "sharing_blocks": summary(hits / np.maximum(1, full), np.ones(len(full))),
        "hits_per_block": summary(counts, blocks),
        "hits_per_reused_block": summary(counts[reused], blocks[reused]),
        "gap_requests": summary(request - previous, weights),
        "gap_time": summary((times[request] - times[previous]) * 1000, weights),
    }
    for name, found in rates.items():
        expected = record[name]
        if expected is None:
            continue
        wanted = expected if isinstance(expected, dict) else {"": expected}
        for statistic, value in wanted.items():
            assert found[statistic] == pytest.approx(value, abs=1e-8), (name, statistic)
    if record.get("partial") != "keep":
        curve = forest.curve(block)
        at = np.array([profile.unique_blocks if capacity is None else capacity], np.uint64)
        assert curve.hit_blocks(at, last_token_rule=rule).tolist() == [record["hit_blocks"]]
        assert curve.evictions(at).tolist() == [record["evictions"]]


def test_every_mooncake_record(shared: Path) -> None:
    trace = Trace.read(shared / "data/mooncake/conversation_trace.jsonl.gz")
    forests = {partial: compile(trace, partial_blocks=partial) for partial in (False, True)}
    seen = records(shared, "mooncake_conversation.json")
    assert len(seen) == 30
    for record in seen:
        check(forests[record["partial"] == "keep"], record)


@pytest.mark.skipif(SHAREGPT is None, reason="PREFIXSIM_SHAREGPT names no fetched ShareGPT file")
@pytest.mark.parametrize("join", ["text", "messages"])
def test_every_sharegpt_record(shared: Path, join: str) -> None:
    from transformers import AutoTokenizer  # noqa: PLC0415

    assert SHAREGPT is not None
    encode = AutoTokenizer.from_pretrained(str(shared / "data/tokenizers/gpt2")).encode
    single, multi = [], []
    with Path(SHAREGPT).open(encoding="utf-8") as lines:
        for _, line in zip(range(100), lines, strict=False):
            texts: list[str] = []
            tokens: list[int] = []
            for message in json.loads(line)["conversations"]:
                texts.append(message["value"])
                ids = encode(texts[-1])
                tokens = [*tokens, *ids]
                if message["from"] in {"human", "user"}:
                    single.append(ids)
                    multi.append(tokens if join == "messages" else encode("".join(texts)))
    forests = {
        "single": compile(Trace.from_prompts(single)),
        "multi": compile(Trace.from_prompts(multi)),
    }
    seen = 0
    for record in records(shared, "sharegpt_100.json"):
        if record["join"] in {None, join}:
            check(forests[record["mode"]], record)
            seen += 1
    assert seen > 100
