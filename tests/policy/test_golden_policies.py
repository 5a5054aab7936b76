"""Every policy on flat traces, bit for bit as recorded.

Where every prompt is one block, a prefix tree is a flat cache of objects of one size. The
recordings are of libcachesim 0.3.5; a policy of which they know the rule must give the same hits,
request by request. Recordings of a package that never admits anything are left out.
"""

from __future__ import annotations

import base64
import functools
import gzip
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from _pytest.mark.structures import ParameterSet

import prefixsim as ps
from prefixsim import _core
from tests.golden import golden_root, read_json

FAMILY = "policies"

PACKAGE = {
    "LRU": "lru",
    "FIFO": "fifo",
    "LFU": "lfu",
    "LFUCpp": "lfu",
    "GDSF": "gdsf:refuse=true",
    "SLRU": "slru:segments=4:protected=0:room=true",
    "SLRU-2": "slru:segments=2:protected=0:room=true",
    "SLRU-1:4": "slru:segments=2:protected=0.8:room=true",
    "TwoQ": "2q",
    "ARC": "arc",
    "ARCv0": "arc",
    "S3FIFO": "s3fifo:fill=true",
    "S3FIFO-t1": "s3fifo:fill=true:threshold=1",
    "S3FIFO-25": "s3fifo:small=0.25:ghost=0.5:threshold=1:fill=true",
    "S3FIFOv0": "s3fifo",
    "QDLP": "s3fifo:threshold=1:strict=true",
    "Sieve": "sieve",
    "Clock": "clock",
    "Clock-2": "clock:bits=2",
    "Clock2QPlus": "s3fifo:threshold=1:most=1:grace=0.5:fill=true",
    "LRU-2": "lru-k:fifo=true",
    "LRU-3": "lru-k:k=3:fifo=true",
    "MQ": "mq:lifetime=10000",
    "MQ-short": "mq:queues=4:lifetime=200:ghost=1",
    "Belady": "clairvoyant",
}
"""Our name for each policy of which the recordings know the rule, with the package's departures."""


@dataclass(frozen=True)
class Recorded:
    """One policy on one trace at one capacity."""

    trace: str
    run: dict[str, Any]


def recorded() -> Iterator[ParameterSet]:
    folder = golden_root() / FAMILY
    if not (folder / "policies.json").is_file():
        yield pytest.param(
            None, marks=pytest.mark.skip(reason=f"no recordings {folder}"), id="absent"
        )
        return
    known = {
        k for k, v in read_json(folder / "policies.json")["policies"].items() if v["rule_known"]
    }
    for path in sorted(folder.glob("bits/*.json.gz")):
        content = read_json(path)
        for run in content["runs"]:
            if run["policy"] not in known or "error" in run or run.get("degenerate"):
                continue
            name = f"{content['trace']}-{run['policy']}-{run['capacity']}"
            yield pytest.param(Recorded(content["trace"], run), id=name)


def mooncake(recipe: str) -> npt.NDArray[np.uint32]:
    """The ids of a trace that is not stored but made, by the text that says how."""
    path = golden_root().parent / "data" / "mooncake" / "conversation_trace.jsonl.gz"
    with gzip.open(path) as lines:
        rows = [json.loads(line)["hash_ids"] for line in lines]
    if recipe.startswith("all hash_ids"):
        ids = [id_ for row in rows for id_ in row]
    else:
        ids = [row[1] for row in rows if len(row) > 1]
    return np.array(ids, dtype=np.uint32) + 1


@functools.lru_cache(maxsize=1)
def profile_of(name: str) -> _core.Profile:
    folder = golden_root() / FAMILY
    facts = read_json(folder / "traces.json")[name]
    if "file" in facts:
        ids = np.frombuffer(gzip.decompress((folder / facts["file"]).read_bytes()), "<u4")
    else:
        ids = mooncake(facts["recipe"])
    assert hashlib.sha256(ids.astype("<u4").tobytes()).hexdigest() == facts["sha256"]
    return ps.compile(ps.Trace.from_prompts(list(ids.reshape(-1, 1)))).profile(1)


@pytest.mark.parametrize("case", list(recorded()))
def test_golden_policies(case: Recorded) -> None:
    run = case.run
    found = profile_of(case.trace).replay(
        PACKAGE[run["policy"]], run["capacity"], last_token_rule=False
    )
    bits = found["hit_blocks"].astype(bool)
    if "bits" in run:
        whole = np.unpackbits(np.frombuffer(base64.b64decode(run["bits"]), np.uint8))[: len(bits)]
        different = np.flatnonzero(bits != whole.astype(bool))
        assert different.tolist()[:5] == [], "requests that differ first"
    else:
        head = np.unpackbits(np.frombuffer(base64.b64decode(run["head"]), np.uint8))[:2000]
        assert np.flatnonzero(bits[:2000] != head.astype(bool)).tolist()[:5] == []
        per_thousand = np.add.reduceat(bits.astype(int), np.arange(0, len(bits), 1000))
        assert np.flatnonzero(per_thousand != run["per1000"]).tolist()[:1] == []
    assert int(bits.sum()) == run["hits"]
    assert hashlib.sha256(np.packbits(bits).tobytes()).hexdigest() == run["sha256"]
