"""Settings of ``engine="vllm"``, under vLLM's own names."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from prefixsim._json import JsonObject
from prefixsim.engines.serving import ServingSettings
from prefixsim.errors import InputError
from prefixsim.hardware.gpus import GPUS
from prefixsim.settings import setting

__all__ = ["FROM_VERSION", "VERSIONS", "FromVersion", "Rules", "VllmSettings", "rules_of"]


class FromVersion(Enum):
    """The type of :data:`FROM_VERSION`."""

    FROM_VERSION = "version"

    def __str__(self) -> str:
        return self.value


FROM_VERSION = FromVersion.FROM_VERSION
"""A switch is as in the version that is simulated."""


@dataclass(frozen=True)
class Rules:
    """What a range of versions of vLLM does that others do not.

    Attributes
    ----------
    first, last : str
        The range; ``last`` without a patch includes all of its patches.
    uncached_first : bool or str
        Released blocks without a hash go to the front of the free queue: always, never, or where
        caching is on (``"with caching"``) or the group has a sliding window (``"with a window"``).
    reserve_full_isl : bool
        A request is admitted only if all its known tokens fit.
    stats_at_lookup : bool
        Statistics count every lookup, not every admission.
    retention_interval : int or None
        Default of the setting of that name.
    window_cap : bool
        With a sliding window, ``reserve_full_isl`` asks for no more blocks than are held at once.
    lone_threshold : bool
        ``long_prefill_token_threshold`` limits a request that is alone too.
    pass_over : bool
        Without chunked prefill, a request over the step's budget is passed over, and those passed
        over return to the queue in reversed order.
    stats_preempted_apart : bool
        Statistics count lookups of preempted requests apart.
    tagged_keys : bool
        A salt enters the hash of the first block as ``("cache_salt", salt)``, not bare.
    has_watermark, has_adaptive_threshold : bool
        Whether there are such settings.
    stops_on_tight_windows : bool
        With a sliding window, the server stops when its pool is nearly full.
    """

    first: str
    last: str
    uncached_first: bool | str = True
    reserve_full_isl: bool = True
    stats_at_lookup: bool = False
    retention_interval: int | None = 0
    window_cap: bool = True
    lone_threshold: bool = False
    pass_over: bool = False
    stats_preempted_apart: bool = True
    tagged_keys: bool = True
    has_watermark: bool = True
    has_adaptive_threshold: bool = True
    stops_on_tight_windows: bool = False

    def includes(self, version: str) -> bool:
        """Whether a version is in the range."""
        number, last = _number(version), _number(self.last)
        end = last if self.last.count(".") > 1 else (*last[:2], _ANY_PATCH)
        return _number(self.first) <= number <= end


_ANY_PATCH = 10**9

_CHANGES: tuple[tuple[str, str, JsonObject], ...] = (
    ("0.31", "0.33", {}),
    (
        "0.29",
        "0.30",
        {"lone_threshold": True, "has_adaptive_threshold": False, "tagged_keys": False},
    ),
    ("0.28", "0.28", {"retention_interval": None}),
    ("0.27", "0.27", {"uncached_first": "with caching"}),
    ("0.24", "0.26", {"uncached_first": True, "stats_at_lookup": True}),
    ("0.23", "0.23", {"uncached_first": "with a window", "has_watermark": False}),
    ("0.20.2", "0.22", {"uncached_first": False}),
    ("0.20.0", "0.20.1", {"stops_on_tight_windows": True}),
    ("0.19", "0.19", {"stops_on_tight_windows": False, "window_cap": False}),
    ("0.14", "0.18", {"reserve_full_isl": False}),
    ("0.12", "0.13", {}),  # asynchronous scheduling is off by default; it is not simulated
    ("0.11.1", "0.11", {"pass_over": True}),
    ("0.11.0", "0.11.0", {"stats_preempted_apart": False}),
)
"""The ranges, newest first. A change holds for its range and all older ones, until it is changed
again."""


def _ranges() -> tuple[Rules, ...]:
    changes: JsonObject = {}
    ranges = []
    for first, last, change in _CHANGES:
        changes |= change
        ranges.append(Rules(first, last, **changes))
    return tuple(ranges)


def _number(version: str) -> tuple[int, ...]:
    """Return the three numbers of a version; one without a patch is the first of its minor."""
    parts = version.split(".")
    if not (2 <= len(parts) <= 3 and all(part.isascii() and part.isdigit() for part in parts)):
        raise ValueError(version)
    return (*map(int, parts), 0)[:3]


VERSIONS: tuple[Rules, ...] = _ranges()
"""Rules by range of versions, newest first; each is tested against recordings of its wheels."""


def rules_of(version: str) -> Rules:
    """Return the rules of a version of vLLM.

    Raises
    ------
    ValueError
        If no range includes it.

    Examples
    --------
    >>> rules_of("0.22.1").uncached_first
    False
    """
    try:
        return next(rules for rules in VERSIONS if rules.includes(version))
    except (ValueError, StopIteration):
        newest, oldest = VERSIONS[0].last, VERSIONS[-1].first
        problem = f"not a simulated version of vLLM, give one from {oldest} to {newest}"
        raise ValueError(problem) from None


def _read_version(value: object) -> str:
    """Return a version that is simulated."""
    version = str(value)
    rules_of(version)
    return version


# Requests at once and tokens per step of a server by default.
_UNKNOWN_GPU = (256, 8192)
_SMALL = (256, 2048)
_LARGE = (1024, 8192)
_LARGE_GPU = 70 * 2**30  # bytes


def _read_retention(value: object) -> int | FromVersion | None:
    """Return what ``retention_interval`` stands for."""
    if value is None or value == "all":
        return None
    if isinstance(value, FromVersion) or value == FROM_VERSION.value:
        return FROM_VERSION
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    if isinstance(value, str) and value.isdecimal():
        return int(value)
    raise ValueError("give a whole number, 'all', or 'version'")


@dataclass(frozen=True)
class VllmSettings(ServingSettings):
    """Settings of ``engine="vllm"``; names and defaults are vLLM's where it has them.

    Attributes
    ----------
    num_blocks : int or None
        ``num_gpu_blocks``, the null block included. ``None``: no limit.
    version : str
        A release in one of the ranges of :data:`VERSIONS`, whose rules hold; one without a patch
        is the first of its minor version. Also defaults of the four switches below.
    max_num_seqs : int or None
        Requests running at once.
    max_num_batched_tokens : int or None
        Tokens per step.
    enable_chunked_prefill : bool
    long_prefill_token_threshold : int
        Tokens of one request per step while there are others; 0: no limit.
    long_prefill_token_threshold_adaptive : bool
    watermark : float
        Share of the blocks that an admission beside running requests has to leave free.
    max_model_len : int or None
    sliding_window : int or None
        Attention window, if all layers have one.
    uncached_first : bool or None
        Uncached blocks go to the front of the free queue; off: to the back, like all others.
    reserve_full_isl : bool or None
        A request is admitted only if all its known tokens fit.
    stats_at_lookup : bool or None
        Statistics count every lookup, not every admission.
    retention_interval : int, None or FROM_VERSION
        Which blocks of a sliding window are cached: 0 the end of prompts, ``None`` all.
    """

    version: str = setting(
        "0.33",
        help="Rules of this vLLM version, 0.11.0 to 0.33.",
        flag=("--vllm-version", "--version"),
        metavar="V",
        read=_read_version,
    )
    max_num_seqs: int | None = setting(
        None,
        help="Requests running at once.",
        unit="requests",
        least=1,
        shown_default="256; a server's on the GPU that --latency names",
    )
    max_num_batched_tokens: int | None = setting(
        None,
        help="Tokens per step.",
        unit="tokens",
        least=1,
        shown_default="8192; a server's on the GPU that --latency names",
    )
    max_model_len: int | None = setting(
        None, help="Tokens of a request at most.", unit="tokens", least=1, shown_default="no limit"
    )
    enable_chunked_prefill: bool = setting(
        True,
        help="Prefill a prompt over several steps.",
        flag=("--chunked-prefill", "--enable-chunked-prefill"),
    )
    long_prefill_token_threshold: int = setting(
        0,
        help="Tokens of one request per step while there are others; 0: no limit.",
        unit="tokens",
        least=0,
    )
    long_prefill_token_threshold_adaptive: bool = setting(
        False, help="Raise that threshold to an equal share of the step's tokens."
    )
    watermark: float = setting(
        0.0, help="Share of blocks an admission leaves free.", least=0, below=1, metavar="SHARE"
    )
    sliding_window: int | None = setting(
        None,
        help="Attention window of a model whose layers all have one.",
        unit="tokens",
        least=1,
        shown_default="none",
    )
    uncached_first: bool | None = setting(
        None,
        help="Uncached blocks are the next to be taken when they are freed.",
        shown_default="as the version does",
    )
    reserve_full_isl: bool | None = setting(
        None,
        help="Admit a request only if all its known tokens fit.",
        shown_default="as the version does",
    )
    stats_at_lookup: bool | None = setting(
        None,
        help="Count every lookup in the statistics, not every admission.",
        shown_default="as the version does",
    )
    retention_interval: int | FromVersion | None = setting(
        FROM_VERSION,
        help="Which blocks of a sliding window are cached: 0 the end of prompts, 'all' all.",
        metavar="N",
        read=_read_retention,
        shown_default="as the version does",
    )

    def __post_init__(self) -> None:
        try:
            rules = self.rules
        except ValueError as error:
            msg = f"vllm version {self.version!r}: {error}"
            raise InputError(msg) from None
        if self.watermark and not rules.has_watermark:
            msg = f"watermark: vLLM {self.version} has none, it came with 0.24; leave it out"
            raise InputError(msg)
        if self.long_prefill_token_threshold_adaptive and not rules.has_adaptive_threshold:
            msg = (
                f"long_prefill_token_threshold_adaptive: vLLM {self.version} has no such setting, "
                f"it came with 0.31; leave it out"
            )
            raise InputError(msg)
        if self.sliding_window is not None and rules.stops_on_tight_windows:
            msg = (
                f"sliding_window: vLLM {self.version} stops with an error when the blocks of a "
                f"sliding window get tight, which is not simulated; give version 0.20.2"
            )
            raise InputError(msg)

    @property
    def rules(self) -> Rules:
        """Rules of the version."""
        return rules_of(self.version)

    def batch_limits(self) -> tuple[int, int]:
        """Return requests running at once and tokens per step: as given, else a server's default.

        Those of ``vllm serve`` depend on the GPU (``EngineArgs.get_batch_defaults``): 1,024 and
        8,192 on 70 GiB or more except an A100, else 256 and 2,048. Where ``latency`` names no GPU
        they are 256 and 8,192.
        """
        seqs, tokens = _UNKNOWN_GPU
        name = self.latency.lower() if isinstance(self.latency, str) else ""
        if name in GPUS:
            large = GPUS[name].memory >= _LARGE_GPU and not name.startswith("a100")
            seqs, tokens = _LARGE if large else _SMALL
        return self.max_num_seqs or seqs, self.max_num_batched_tokens or tokens

    def switches(self) -> JsonObject:
        """Return the version's switches with those that are set here."""
        chosen: JsonObject = {}
        for name in ("uncached_first", "reserve_full_isl", "stats_at_lookup"):
            own = getattr(self, name)
            chosen[name] = getattr(self.rules, name) if own is None else own
        chosen["retention_interval"] = (
            self.rules.retention_interval
            if self.retention_interval is FROM_VERSION
            else self.retention_interval
        )
        return chosen

    def to_config(self, engine: str) -> JsonObject:
        """Return the settings as the ``config`` of an outcome, the switches as they are."""
        seqs, tokens = self.batch_limits()
        limits = {"max_num_seqs": seqs, "max_num_batched_tokens": tokens}
        return {**super().to_config(engine), **limits, **self.switches()}
