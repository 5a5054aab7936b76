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
from tests.golden import records

SHAREGPT = os.environ.get("PREFIXSIM_SHAREGPT")


def summary(values: Any, weights: Any) -> dict[str, float | None]:
    return _core.weighted_summary(np.asarray(values, np.float64), np.asarray(weights, np.uint64))


def check(forest: Forest, record: dict[str, Any]) -> None:
    block, rule, capacity = record["block"], record["vllm_rule"], record["capacity"]
    lengths = forest.trace.prompt_len
    profile = forest.profile(block)
    run = profile.replay("lru", capacity, last_token_rule=rule)
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


@pytest.fixture(scope="module")
def mooncake(shared: Path) -> dict[bool, Forest]:
    """Forests of the trace without and with its partial blocks."""
    trace = Trace.read(shared / "data/mooncake/conversation_trace.jsonl.gz")
    return {partial: compile(trace, partial_blocks=partial) for partial in (False, True)}


@pytest.mark.parametrize("record", records("reference", "mooncake_conversation.json"))
def test_golden_reference_mooncake(mooncake: dict[bool, Forest], record: dict[str, Any]) -> None:
    check(mooncake[record["partial"] == "keep"], record)


@pytest.fixture(scope="module")
def sharegpt(shared: Path) -> dict[tuple[str, str | None], Forest]:
    """Forests of the first 100 conversations by mode and by how messages are joined."""
    from transformers import AutoTokenizer

    if SHAREGPT is None:
        pytest.skip("PREFIXSIM_SHAREGPT names no fetched ShareGPT file")
    encode = AutoTokenizer.from_pretrained(str(shared / "data/tokenizers/gpt2")).encode
    single: list[list[int]] = []
    multi: dict[str, list[list[int]]] = {"messages": [], "text": []}
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
                    multi["messages"].append(tokens)
                    multi["text"].append(encode("".join(texts)))
    forests: dict[tuple[str, str | None], Forest] = {
        ("multi", join): compile(Trace.from_prompts(prompts)) for join, prompts in multi.items()
    }
    return forests | {("single", None): compile(Trace.from_prompts(single))}


@pytest.mark.parametrize("record", records("reference", "sharegpt_100.json"))
def test_golden_reference_sharegpt(
    sharegpt: dict[tuple[str, str | None], Forest], record: dict[str, Any]
) -> None:
    check(sharegpt[record["mode"], record["join"]], record)
