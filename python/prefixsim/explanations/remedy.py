"""What would recover the losses: each remedy is a replay with one thing changed.

Nothing here is an estimate. Remedies of different classes overlap, so their gains do not add up.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from prefixsim._json import JsonObject
from prefixsim.engines import choose
from prefixsim.explanations.losses import Losses, usable_blocks

__all__ = ["Remedy", "remedies"]

_SHARES = (0.5, 0.9, 1.0)
_FINE = 64
_APART = 512
"""Tokens: of the finest hashes that are tried, and between states that are kept."""


@dataclass(frozen=True)
class Remedy:
    """A change, and the hit tokens a replay with it has.

    Attributes
    ----------
    classes : tuple of str
        What it works against.
    change : str
        In words.
    settings : dict
        What is different from the replay that is explained.
    hit_tokens : int
        Of the requests that count.
    gained_tokens : int
        More hit tokens than before; below 0 if the change does harm.
    """

    classes: tuple[str, ...]
    change: str
    settings: JsonObject
    hit_tokens: int
    gained_tokens: int

    def to_dict(self) -> JsonObject:
        """Return the figures under their machine-readable names."""
        return {
            "classes": list(self.classes),
            "change": self.change,
            "settings": self.settings,
            "hit_tokens": self.hit_tokens,
            "gained_tokens": self.gained_tokens,
        }


def remedies(losses: Losses) -> list[Remedy]:
    """Replay with what could recover each class that lost something."""
    lost = {name for name, tokens in losses.totals.items() if tokens and name != "hit"}
    trials = _Trials(losses)
    tried: list[Remedy] = []
    if "cold" in lost and _outputs_left_out(losses):
        tried.append(trials.run(("cold",), "cache the outputs too", {"cache_outputs": True}))
    if "isolated" in lost:
        tried.append(trials.run(("isolated",), "share between salts", {"salt": None}))
    if losses.result.config.get("kv_groups"):
        tried += _of_groups(losses, trials, lost)
    else:
        if lost & {"rounding", "last_token"}:
            tried += _block_sizes(losses, trials)
        if lost & {"in_flight", "preempted"}:
            tried.append(trials.in_order(("in_flight", "preempted")))
    if lost & {"window", "state"}:
        tried += _retentions(losses, trials)
    if "speculative_drop" in lost:
        change = "hashes that look ahead"
        tried.append(trials.run(("speculative_drop",), change, {"eagle_hits": "lookahead"}))
    if "evicted" in lost:
        tried += _capacities(losses, trials)
    if "evicted" in lost and losses.splits_evicted:
        policy = losses.evicted_policy
        hit = losses.totals["hit"] + policy
        tried.append(
            Remedy(("evicted",), "the best possible policy", {"policy": "clairvoyant"}, hit, policy)
        )
    return tried


def _outputs_left_out(losses: Losses) -> bool:
    trace = losses.trace
    return (
        trace.kind == "tokens"
        and trace.outputs is not None
        and not losses.result.config["cache_outputs"]
    )


class _Trials:
    """Replays of one trace with one thing changed at a time."""

    def __init__(self, losses: Losses) -> None:
        self._result = losses.result
        self._before = losses.totals["hit"]
        self._start = losses.start

    def run(self, classes: tuple[str, ...], change: str, settings: JsonObject) -> Remedy:
        trace = self._result.trace
        if "salt" in settings:
            again = self._result.again(trace.replace(salt=None))
        else:
            again = self._result.again(trace if "cache_outputs" in settings else None, **settings)
        hits = again.outcome.hit_tokens[self._start :]
        total = int(hits.sum(dtype=np.uint64))
        return Remedy(classes, change, settings, total, total - self._before)

    def in_order(self, classes: tuple[str, ...]) -> Remedy:
        """One request after the other, in the ideal cache of the same capacity."""
        config, metrics = self._result.config, self._result.metrics
        replayed = metrics.profile.replay(
            "lru", usable_blocks(self._result), last_token_rule=config["last_token_rule"]
        )
        blocks = replayed["hit_blocks"][self._start :].astype(np.uint64)
        reached = np.minimum(blocks * np.uint64(metrics.block_size), metrics.prompt_len)
        total = int(reached.sum(dtype=np.uint64))
        ideal = choose(None, {}).name  # what an unbounded cache is replayed with
        change = f"one request after the other (engine {ideal})"
        return Remedy(classes, change, {"engine": ideal}, total, total - self._before)


def _block_sizes(losses: Losses, trials: _Trials) -> list[Remedy]:
    """Smaller blocks, the cache as large in tokens as before."""
    config, unit = losses.result.config, losses.trace.id_block_size
    size: int = config["block_size"]
    if config["partial_blocks"]:
        return []
    cheap = losses.result.engine.capabilities.on_segments
    sizes = [b for b in (size // 2, size // 4, unit) if b >= unit and b < size and b % unit == 0]
    # Token-sized blocks are costly for engines that go block by block.
    sizes = [b for b in dict.fromkeys(sizes) if cheap or b * 4 >= size]
    tried = []
    for b in sizes:
        blocks = config["num_blocks"]
        settings = {"block_size": b}
        if blocks is not None:
            counts = {name: config[name] for name in losses.result.settings.counted_in_blocks}
            settings |= {n: count * size // b for n, count in counts.items() if count}
        tried.append(
            trials.run(
                ("rounding", "last_token"), f"blocks of {b} token{'s' if b > 1 else ''}", settings
            )
        )
    return tried


def _of_groups(losses: Losses, trials: _Trials, lost: set[str]) -> list[Remedy]:
    """Finer hashes for models with states, and one request at a time."""
    config, unit = losses.result.config, losses.trace.id_block_size
    groups, size = config["kv_groups"], config["hash_block_size"]
    tried = []
    against = lost & {"alignment", "state", "rounding", "last_token"}
    local = any(kind in groups for kind in ("sliding_window", "chunked_local"))
    if against and "mamba" in groups and "," in groups and not local:
        finest = next((u for u in range(_FINE, 0, -1) if size % u == 0 and u % unit == 0), 0)
        units = [u for u in (size // 2, finest) if 0 < u < size and size % u == 0 and u % unit == 0]
        for u in dict.fromkeys(units):
            change = f"hits that may end every {u} tokens"
            settings = {"prefix_match_unit": u}
            tried.append(trials.run(("alignment", "state", "rounding"), change, settings))
    if config["eagle_hits"] and config["prefix_match_unit"] and "state" in lost:
        settings = {"mamba_shared_prefix_checkpoint": True}
        tried.append(trials.run(("state",), "states kept where prefixes part", settings))
    if lost & {"in_flight", "preempted"}:
        one = {"max_num_seqs": 1}
        tried.append(trials.run(("in_flight", "preempted"), "one request at a time", one))
    return tried


def _retentions(losses: Losses, trials: _Trials) -> list[Remedy]:
    """More blocks of windows and more states kept: those every so many tokens, and all."""
    config = losses.result.config
    now = config["retention_interval"]
    if now is None:
        return []
    unit: int = config.get("scheduler_block_size") or config["block_size"]
    every = unit * -(-_APART // unit)
    tried = []
    if now == 0 and every > unit:
        change = f"blocks and states kept every {every:,} tokens"
        tried.append(trials.run(("window", "state"), change, {"retention_interval": every}))
    change = "all blocks and states kept"
    tried.append(trials.run(("window", "state"), change, {"retention_interval": None}))
    return tried


def _capacities(losses: Losses, trials: _Trials) -> list[Remedy]:
    """More blocks: those that bring back half, 90 % and all of the evicted, for the ideal cache."""
    result, config = losses.result, losses.result.config
    blocks: int | None = config["num_blocks"]
    if blocks is None:
        return []
    metrics = result.metrics
    if result.settings.follows_lru_curve:
        curve = metrics.forest.curve(metrics.block_size)
        rule = config["last_token_rule"]
        now = int(result.outcome.hit_blocks.sum(dtype=np.uint64))
        gap = curve.ceiling(last_token_rule=rule) - now
        targets = [now + int(np.ceil(gap * share)) for share in _SHARES]
        wanted = [curve.capacity_for(t, last_token_rule=rule) for t in targets]
    else:
        wanted = [blocks * factor for factor in (2, 4, 8)]
    tried = []
    for capacity in dict.fromkeys(c for c in wanted if c is not None and c > blocks):
        change = f"{capacity:,} blocks ({capacity / blocks:.3g} times as many)"
        tried.append(trials.run(("evicted",), change, {"num_blocks": capacity}))
    return tried
