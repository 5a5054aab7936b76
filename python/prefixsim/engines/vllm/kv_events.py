"""KV events in the form in which vLLM publishes them (``vllm/distributed/kv_events.py``)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, cast

import numpy as np
import numpy.typing as npt

from prefixsim._json import JsonObject
from prefixsim.engines.hashing import HashAlgorithm, hash_blocks, published_hash
from prefixsim.errors import InputError

if TYPE_CHECKING:
    from prefixsim.engines.vllm.simulate import Simulation

__all__ = ["batches", "request_hashes"]


def _tokens(run: Simulation, request: int) -> npt.NDArray[np.uint32]:
    """Return the tokens of a request, prompt and output."""
    trace = run.trace
    assert trace.prompts is not None
    assert trace.outputs is not None
    return np.concatenate([trace.prompts[request], trace.outputs[request]]).astype(np.uint32)


def request_hashes(
    run: Simulation, request: int, algorithm: HashAlgorithm, seed: str | None = None
) -> list[bytes]:
    """Return the hashes of a request's full blocks, outputs included, as the version makes them."""
    salt = None if run.trace.salt is None else run.trace.salt[request]
    tokens, size = _tokens(run, request), run.settings.tokens_per_block
    if salt and not run.settings.rules.tagged_keys:
        return hash_blocks(tokens, size, algorithm, extra_keys=[(salt,)], seed=seed)
    return hash_blocks(tokens, size, algorithm, salt=salt, seed=seed)


class _Hashes:
    """Published hashes of the blocks of a trace, computed request by request when asked for."""

    def __init__(self, run: Simulation, algorithm: str, seed: str | None) -> None:
        if run.trace.kind != "tokens" or run.trace.outputs is None:
            msg = (
                f"{run.trace.name}: KV events carry tokens and their hashes, which need a trace "
                f"of token ids with output tokens"
            )
            raise InputError(msg)
        self.run = run
        self.algorithm = cast("HashAlgorithm", algorithm)
        self.seed = seed
        self.origin_request, self.origin_block = run.workload.origins()
        self.known: dict[int, list[int]] = {}

    def of_request(self, request: int) -> list[int]:
        if request not in self.known:
            hashes = request_hashes(self.run, request, self.algorithm, self.seed)
            self.known[request] = [published_hash(h) for h in hashes]
        return self.known[request]

    def of_key(self, key: int) -> int:
        return self.of_request(int(self.origin_request[key]))[int(self.origin_block[key])]


def batches(run: Simulation, algorithm: str, seed: str | None) -> Iterator[JsonObject]:
    """Yield one batch per step that has events."""
    events = run.raw["events"]
    hashes = _Hashes(run, algorithm, seed)
    clock = run.raw["steps"]["clock_ns"]
    batch: JsonObject = {}
    for i, step in enumerate(events["step"].tolist()):
        if batch and batch["step"] != step:
            yield batch
            batch = {}
        if not batch:
            batch = {"step": step, "events": []}
            if len(clock) >= step:
                batch["ts"] = int(clock[step - 1]) / 1e9
        event = _stored if events["stored"][i] else _removed
        batch["events"].append(event(run, hashes, i))
    if batch:
        yield batch


def _stored(run: Simulation, hashes: _Hashes, i: int) -> JsonObject:
    events, size = run.raw["events"], run.settings.tokens_per_block
    start, end = int(events["offsets"][i]), int(events["offsets"][i + 1])
    blocks = events["blocks"][start:end].tolist()
    request = int(events["subject"][i])
    own, tokens = hashes.of_request(request), _tokens(run, request)
    return {
        "type": "BlockStored",
        "block_hashes": [own[b] for b in blocks],
        "parent_block_hash": own[blocks[0] - 1] if blocks[0] else None,
        "token_ids": [t for b in blocks for t in tokens[b * size : (b + 1) * size].tolist()],
        "block_size": size,
        "lora_id": None,
        "medium": "GPU",
        "lora_name": None,
    }


def _removed(run: Simulation, hashes: _Hashes, i: int) -> JsonObject:
    events = run.raw["events"]
    key = int(events["keys"][int(events["offsets"][i])])
    return {"type": "BlockRemoved", "block_hashes": [hashes.of_key(key)], "medium": "GPU"}
