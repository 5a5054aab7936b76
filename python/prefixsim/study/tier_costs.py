"""What tiers of a surface cost and save: loads, writes, GPU time.

Hits and writes are exact. Times follow from a latency model and the bandwidth of links; where these
are estimates, so are the times.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

import numpy as np

from prefixsim._json import JsonObject
from prefixsim.errors import InputError
from prefixsim.hardware.latency import Latency
from prefixsim.hardware.links import Link
from prefixsim.hardware.load_costs import LoadCost, drive_life_years, prefill_seconds
from prefixsim.study.result import Result
from prefixsim.study.tier_surface import GIB, RULES, Rule, Surface, SurfacePoint
from prefixsim.table import Table, written

__all__ = ["Machine", "TierCost", "cost_table", "tier_costs", "ttft_seconds", "written_blocks"]

_DAY = 86400.0


@dataclass(frozen=True)
class Machine:
    """What computes and what loads.

    Attributes
    ----------
    latency : Latency
        What a step costs.
    links : mapping of str to Link
        How lower tiers are reached, by name.
    drive_writes_per_day : float or None
        For which the maker rates the drives of the tier ``disk``, over five years.
    gpus : int
        That share a model, and its KV heads.
    """

    latency: Latency
    links: Mapping[str, Link] = field(default_factory=dict)
    drive_writes_per_day: float | None = None
    gpus: int = 1

    def prefill_rate(self, tokens: int) -> float:
        """Tokens computed in a second, for a prompt of so many tokens alone."""
        seconds = prefill_seconds(self.latency, 0, max(tokens, 1))
        if seconds <= 0:
            msg = "the latency model says that computing takes no time, so nothing is worth loading"
            raise InputError(msg)
        return max(tokens, 1) / seconds


@dataclass(frozen=True)
class TierCost:
    """One tier of one hierarchy.

    Attributes
    ----------
    tier : str
    rule : {"inclusive", "exclusive"}
    blocks : int
        Its size.
    hit_tokens : int
    saved_gpu_s : float
        GPU-seconds that computing its hits would take.
    next_gib_gpu_s : float
        GPU-seconds that one GiB more of it would save beyond that.
    load_s : float or None
        Seconds that loading its hits takes; ``None`` without a link.
    break_even_bandwidth, bandwidth : float or None
        Bytes/s at which loading is no faster than computing, and those of the link.
    written_bytes : float
        By all requests.
    written_bytes_per_day : float or None
        At the trace's rate; ``None`` if it takes no time.
    drive_life_years : float or None
        Of drives of its size.
    """

    tier: str
    rule: Rule
    blocks: int
    hit_tokens: int
    saved_gpu_s: float
    next_gib_gpu_s: float
    load_s: float | None
    break_even_bandwidth: float | None
    bandwidth: float | None
    written_bytes: float
    written_bytes_per_day: float | None
    drive_life_years: float | None

    def to_dict(self) -> JsonObject:
        """Return the figures; plain values."""
        return asdict(self)


def written_blocks(surface: Surface, point: SurfacePoint, rule: Rule) -> dict[str, int]:
    """Return the blocks written to each tier, HBM included, over the whole trace; exact.

    An inclusive tier takes every block of a path that it has not and has room for. An exclusive one
    takes what the tiers above drop, and what of a path they have no room for.
    """
    curve = surface.curve
    exact = curve.forest.curve(curve.block_size)
    touched = _touched(surface)

    def dropped(capacity: int) -> int:
        if capacity == 0:
            return int(touched.sum())
        evicted = int(exact.evictions(np.array([min(capacity, 2**63 - 1)], np.uint64))[0])
        return evicted + int(np.maximum(touched - capacity, 0).sum())

    def taken(capacity: int) -> int:
        if capacity == 0:
            return 0
        evicted = int(exact.evictions(np.array([min(capacity, 2**63 - 1)], np.uint64))[0])
        return evicted + min(capacity, exact.unique_blocks)

    found, above = {}, 0
    for k, (tier, blocks) in enumerate(point.blocks.items()):
        if k == 0 or rule == "inclusive":
            found[tier] = taken(blocks)
        else:
            found[tier] = dropped(above) if blocks else 0
        above += blocks
    return found


def _touched(surface: Surface) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Full blocks that each request touches."""
    forest, size = surface.curve.forest, surface.curve.block_size
    trace = forest.trace
    tokens = trace.prompt_len.astype(np.int64)
    if forest.outputs and trace.outputs is not None:
        lengths = np.diff(trace.outputs.offsets).astype(np.int64)
        tokens = tokens + np.maximum(lengths - 1, 0)
    return tokens // size


def tier_costs(surface: Surface, machine: Machine, point: SurfacePoint) -> list[TierCost]:
    """Return what each tier of a hierarchy costs and saves, under both rules.

    Raises
    ------
    InputError
        If the bytes of a token are not known, or there is a link to no tier.
    """
    per_token = surface.bytes_per_token
    if per_token is None:
        msg = "times and traffic of tiers need bytes_per_token or model_config"
        raise InputError(msg)
    for tier in machine.links:
        if tier not in surface.tiers[1:]:
            msg = f"links: no lower tier {tier!r} here, there are {', '.join(surface.tiers[1:])}"
            raise InputError(msg)
    trace = surface.curve.forest.trace
    mean = round(trace.prompt_tokens / max(1, len(trace)))
    rate = machine.prefill_rate(mean)
    block_bytes = per_token * surface.curve.block_size
    span = float(trace.timestamp[-1] - trace.timestamp[0]) if len(trace) > 1 else 0.0
    found = []
    for rule in RULES:
        writes = written_blocks(surface, point, rule)
        for tier, blocks in point.blocks.items():
            hits = point.tiers(rule)[tier]
            more = {**point.blocks, tier: blocks + max(1, int(GIB // block_bytes))}
            next_hits = surface.at(**more).hit_tokens(rule) - point.hit_tokens(rule)
            link = machine.links.get(tier)
            cost = None if link is None else LoadCost(link, per_token, rate)
            bytes_written = writes[tier] * block_bytes
            per_day = bytes_written / span * _DAY if span > 0 else None
            rated = machine.drive_writes_per_day if tier == "disk" and blocks else None
            life = None
            if rated is not None and per_day is not None:
                life = drive_life_years(per_day, blocks * block_bytes, rated)
            found.append(
                TierCost(
                    tier, rule, blocks, hits, hits / rate * machine.gpus,
                    next_hits / rate * machine.gpus,
                    None if cost is None else cost.seconds(hits, loads=0),
                    None if cost is None else cost.break_even_bandwidth,
                    None if link is None else link.bandwidth,
                    bytes_written, per_day, life,
                )
            )  # fmt: skip
    return found


def cost_table(surface: Surface, machine: Machine, point: SurfacePoint) -> Table:
    """Return :func:`tier_costs` as a table; estimates are called so."""
    costs = tier_costs(surface, machine, point)
    texts = {t: next((s.text for s in surface.sizes[t] if s.blocks == b), f"{b:,}")
             for t, b in point.blocks.items()}  # fmt: skip
    rows, notes = [], []
    for cost in costs:
        life = cost.drive_life_years
        rows.append(
            [
                {"hbm": "HBM", "dram": "DRAM"}.get(cost.tier, cost.tier),
                texts[cost.tier],
                cost.rule,
                f"{cost.saved_gpu_s:,.0f}",
                f"{cost.next_gib_gpu_s:,.3g}",
                written(cost.load_s, "number"),
                _gigabytes(cost.break_even_bandwidth),
                _gigabytes(cost.bandwidth),
                f"{cost.written_bytes / 1e9:,.0f}",
                "-" if life is None else f"{life:,.2g}",
            ]
        )
        notes.append(_verdict(machine.links.get(cost.tier), cost))
    header = [
        "tier", "size", "rule", "GPU-s saved", "by 1 GiB more", "loading (s)", "break-even (GB/s)",
        "link (GB/s)", "written (GB)", "drive life (years)",
    ]  # fmt: skip
    title = "time and traffic, over the whole trace"
    return Table(f"{title}\n{_basis(surface, machine)}", header, rows, notes, words=3)


def _verdict(link: Link | None, cost: TierCost) -> str:
    """Say what a link is worth, and where its figure is from."""
    if link is None or cost.break_even_bandwidth is None:
        return ""
    times = link.bandwidth / cost.break_even_bandwidth
    said = f"loads {times:.1f}x as fast as computing" if times > 1 else "slower than computing"
    if not link.estimated or link.usual is None or link.peak is None:
        return said
    low, high = (part / 1e9 for part in link.usual)
    return (
        f"{said}; {link.name}: estimate, usual {low:g}-{high:g}, peak {link.peak / 1e9:g} GB/s "
        f"({link.source})"
    )


def _basis(surface: Surface, machine: Machine) -> str:
    trace = surface.curve.forest.trace
    mean = round(trace.prompt_tokens / max(1, len(trace)))
    basis = machine.latency.describe()
    model = str(basis.get("gpu", basis["model"]))
    kind = ", an estimate" if basis.get("estimate") else ""
    return (
        f"prefill {machine.prefill_rate(mean):,.0f} tokens/s at the mean prompt of {mean:,} tokens "
        f"({basis['model']}{'' if model == basis['model'] else f' of {model}'}{kind})"
    )


def _gigabytes(value: float | None) -> str:
    return "-" if value is None else f"{value / 1e9:,.3g}"


def ttft_seconds(
    result: Result, latency: Latency, *, overlap: bool = False, tiers: Sequence[str] | None = None
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Return the seconds to the first token of each request, if it had the GPU for itself.

    Parameters
    ----------
    result : Result
        Of an engine that says what loads take (``load_s``), such as ``tiers``.
    latency : Latency
    overlap : bool, optional
        Layers are computed while later ones are loaded.
    tiers : sequence of str, optional
        Tiers whose hits count; the others' are computed. Default: all. ``("hbm",)``: nothing is
        loaded.

    Returns
    -------
    ndarray of float64, shape (requests,)
    """
    outcome = result.outcome
    hits = outcome.hit_tokens
    loading = outcome.columns.get("load_s", np.zeros(len(hits)))
    if tiers is not None:
        if set(tiers) not in (set(), {"hbm"}):
            msg = f"tiers {', '.join(tiers)}: give none, 'hbm' alone, or leave it out for all"
            raise InputError(msg)
        nothing = np.zeros_like(hits)
        hits = outcome.tier_hit_tokens.get("hbm", hits) if tiers else nothing
        loading = np.zeros(len(hits))
    prompts = result.trace.prompt_len.tolist()
    rows = zip(hits.tolist(), prompts, strict=True)
    computing = np.array([prefill_seconds(latency, hit, prompt) for hit, prompt in rows])
    return np.asarray(np.maximum(loading, computing) if overlap else loading + computing)
