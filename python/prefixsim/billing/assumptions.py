"""What a bill takes as given: the rules, the prices, and what no provider publishes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from prefixsim.billing.charge import Charge
from prefixsim.billing.rules import rules_date
from prefixsim.trace import Trace

__all__ = ["assumed"]

_FIRST = 256  # tokens by which OpenAI routes


def assumed(charge: Charge, blocks_known: bool) -> list[str]:
    """Return what a charge rests on, a line each.

    Parameters
    ----------
    charge : Charge
    blocks_known : bool
        Whether content blocks were counted.
    """
    rules, trace, prices = charge.provider, charge.trace, charge.prices
    told = [f"rules: {rules.source}, {rules_date()}; one cache for each {rules.isolation} (salt)"]
    told.append(f"prices: {prices.source}, {prices.date}, $ per million tokens")
    told += rules.assumed
    if rules.name in ("openai", "azure"):
        told.append(_busiest(trace))
    if rules.breakpoints and not blocks_known:
        told.append(
            f"content blocks are not known: entries are found however far back, not only "
            f"{rules.look_back} blocks (block_start counts them)"
        )
    if rules.rule == "units" and trace.outputs is None:
        told.append("outputs are not known: no unit ends at one")
    if trace.kind == "hashes":
        told.append(
            f"prompts are known in blocks of {trace.id_block_size:,} tokens: what they share is "
            "rounded down to whole blocks, an entry that ends within one is taken to end before it"
        )
    if prices.bands[0].read is None:
        told.append(f"no price of reads for {prices.model}: priced as input")
    if rules.rule == "stored" and prices.bands[0].storage is None:
        told.append("no price of storage: left out, give storage = ... in --prices")
    if charge.writes_apart and rules.rule == "prefix":
        told.append("whatever is cached anew is charged as written")
    if not bool(trace.output_len.any()):
        told.append("no outputs in the trace: only prompts are billed")
    return told


def _busiest(trace: Trace) -> str:
    """Say how many requests a minute the busiest prefix gets."""
    key = _first_tokens(trace)
    time = trace.timestamp - (trace.timestamp[0] if len(trace) else 0.0)
    order = np.argsort(key, kind="stable")
    at = key[order] * (float(time[-1] if len(time) else 0.0) + 120.0) + time[order]
    count = np.arange(len(at)) - np.searchsorted(at, at - 60.0, side="right") + 1
    most = int(count.max(initial=0))
    share = float((count > 15).mean()) if len(count) else 0.0
    return (
        f"the busiest prefix gets {most:,} requests in a minute; {share:.1%} of the requests come "
        "after 15 others of theirs in a minute, where some would miss"
    ).replace("%", " %")


def _first_tokens(trace: Trace) -> npt.NDArray[np.int64]:
    """Return a code for what each prompt begins with, under its salt."""
    prompts = trace.prompts
    assert prompts is not None
    ids = max(1, _FIRST // trace.id_block_size)
    codes: dict[tuple[int, bytes], int] = {}
    salts = trace.salt.codes if trace.salt is not None else np.zeros(len(trace), np.uint32)
    rows = range(len(trace))
    keys = ((int(salts[row]), prompts[row][:ids].tobytes()) for row in rows)
    return np.fromiter((codes.setdefault(key, len(codes)) for key in keys), np.int64, len(trace))
