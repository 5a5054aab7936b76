"""Load or compute: what it takes to bring KV blocks up, beside computing them anew.

With k KV bytes of a token, bandwidth B, latency L of a load, and a prefill rate r in tokens/s:

* loading p tokens takes ``L + p k / B``, computing them ``p / r``;
* loading is faster from ``L / (1 / r - k / B)`` tokens on, and never if ``k / B >= 1 / r``;
* the break-even bandwidth is ``k r``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from prefixsim.errors import InputError
from prefixsim.hardware.latency import COEFFICIENTS, Fixed, Latency, Linear
from prefixsim.hardware.links import Link

__all__ = [
    "LoadCost",
    "drive_life_years",
    "prefill_seconds",
    "time_to_first_token",
]

_CHUNK = 8192  # tokens of a step, vLLM's default
_ROUNDING = 1e-12  # of times that are quotients


def prefill_seconds(latency: Latency, start: int, end: int, *, chunk: int = _CHUNK) -> float:
    """Return the seconds that a GPU takes to compute tokens ``start`` to ``end`` of a prompt.

    Steps of at most ``chunk`` tokens, with nothing else in them.

    Examples
    --------
    >>> from prefixsim.hardware.latency import Linear
    >>> prefill_seconds(Linear({"base": 0.01, "prefill_tokens": 1e-5}), 0, 10_000)
    0.12
    """
    if not 0 <= start <= end:
        msg = f"tokens {start} to {end} of a prompt: give a start and an end behind it"
        raise InputError(msg)
    nanoseconds = 0.0
    while start < end:
        tokens = min(chunk, end - start)
        nanoseconds += _step(latency, start, tokens)
        start += tokens
    return nanoseconds / 1e9


def _step(latency: Latency, computed: int, tokens: int) -> float:
    """Nanoseconds of one step; as ``rust/serving/latency.rs``."""
    if isinstance(latency, Fixed):
        return float(latency.settings())
    work = {
        "base": 1,
        "prefill_tokens": tokens,
        "prefill_pairs": tokens * computed + tokens * (tokens + 1) // 2,
        "prefill_context": computed + tokens,
    }

    def linear(coefficients: Sequence[float]) -> float:
        named = zip(COEFFICIENTS, coefficients, strict=True)
        return sum(work.get(name, 0) * coefficient for name, coefficient in named)

    if isinstance(latency, Linear):
        return float(round(linear(latency.settings())))
    overhead, compute, memory = latency.settings()
    return float(round(overhead + max(linear(compute), linear(memory))))


@dataclass(frozen=True)
class LoadCost:
    """Loading over one link beside computing.

    Attributes
    ----------
    link : Link
    bytes_per_token : float
        KV bytes of a token, per GPU.
    prefill_rate : float
        Tokens that the GPU computes in a second.

    Examples
    --------
    >>> from prefixsim.hardware.links import read_link
    >>> cost = LoadCost(read_link("5GB"), bytes_per_token=131_072, prefill_rate=20_000)
    >>> cost.break_even_bandwidth / 1e9, round(cost.times_faster, 2), cost.break_even_tokens
    (2.62144, 1.91, 0.0)
    """

    link: Link
    bytes_per_token: float
    prefill_rate: float

    def seconds(self, tokens: float, *, loads: int = 1) -> float:
        """Return the seconds that loading takes, in so many loads."""
        return loads * self.link.latency + tokens * self.bytes_per_token / self.link.bandwidth

    @property
    def break_even_bandwidth(self) -> float:
        """Bytes/s at which a long load takes as long as computing."""
        return self.bytes_per_token * self.prefill_rate

    @property
    def times_faster(self) -> float:
        """The link's bandwidth over the break-even bandwidth; below 1, loading loses."""
        return self.link.bandwidth / self.break_even_bandwidth

    @property
    def break_even_tokens(self) -> float | None:
        """Tokens from which on loading is faster; ``None``: never."""
        computing = 1 / self.prefill_rate
        gained = computing - self.bytes_per_token / self.link.bandwidth
        # As fast but for rounding is not faster.
        return None if gained <= _ROUNDING * computing else self.link.latency / gained


def time_to_first_token(
    latency: Latency, prompt: int, on_gpu: int, loaded: int, load_seconds: float, *, overlap: bool
) -> float:
    """Return the seconds to the first token of a request that has the GPU for itself.

    Parameters
    ----------
    latency : Latency
    prompt, on_gpu, loaded : int
        Tokens of the prompt; of these in HBM, and behind those in a lower tier.
    load_seconds : float
        What loading takes.
    overlap : bool
        Layers are computed while later ones are loaded, so that the longer of the two counts; else
        computing begins when all is there.

    Examples
    --------
    >>> from prefixsim.hardware.latency import Linear
    >>> latency = Linear({"prefill_tokens": 1e-4})
    >>> [time_to_first_token(latency, 3000, 500, 1500, 0.2, overlap=o) for o in (False, True)]
    [0.30000000000000004, 0.2]
    """
    computing = prefill_seconds(latency, min(on_gpu + loaded, prompt), prompt)
    return max(load_seconds, computing) if overlap else load_seconds + computing


def drive_life_years(
    bytes_per_day: float, capacity: float, writes_per_day: float, *, warranty_years: float = 5.0
) -> float:
    """Return the years after which a drive has been written as often as its maker rates it for.

    Parameters
    ----------
    bytes_per_day : float
        What is written to it.
    capacity : float
        In bytes.
    writes_per_day : float
        Drive writes per day (DWPD), over the warranty.
    warranty_years : float, optional

    Examples
    --------
    >>> drive_life_years(2e12, capacity=4e12, writes_per_day=1)
    10.0
    """
    if bytes_per_day <= 0:
        return float("inf")
    return writes_per_day * capacity * warranty_years / bytes_per_day
