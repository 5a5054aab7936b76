"""Settings of ``engine="vllm"``, under vLLM's own names."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

from prefixsim.engines.serving import ServingSettings
from prefixsim.errors import InputError
from prefixsim.settings import setting

__all__ = ["FROM_VERSION", "VERSIONS", "FromVersion", "VllmSettings"]


class FromVersion(Enum):
    """The type of :data:`FROM_VERSION`."""

    FROM_VERSION = "version"

    def __str__(self) -> str:
        return self.value


FROM_VERSION = FromVersion.FROM_VERSION
"""A switch is as in the version that is simulated."""

VERSIONS: dict[str, dict[str, Any]] = {
    "0.33": {
        "uncached_first": True,
        "reserve_full_isl": True,
        "stats_at_lookup": False,
        "retention_interval": 0,
    },
    "0.11": {
        "uncached_first": False,
        "reserve_full_isl": False,
        "stats_at_lookup": True,
        "retention_interval": None,
    },
}
"""Switches by version. 0.33 is tested against recordings; 0.11 is 0.33 with these differences."""


def _read_retention(value: Any) -> int | FromVersion | None:
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
        One of :data:`VERSIONS`: defaults of the four switches below.
    max_num_seqs : int
        Requests running at once.
    max_num_batched_tokens : int
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
        help="Rules of this vLLM version.",
        flag=("--vllm-version", "--version"),
        choices=tuple(VERSIONS),
        metavar="V",
    )
    max_num_seqs: int = setting(256, help="Requests running at once.", unit="requests", least=1)
    max_num_batched_tokens: int = setting(8192, help="Tokens per step.", unit="tokens", least=1)
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
        if self.version not in VERSIONS:
            msg = f"vllm version {self.version!r}: choose one of {', '.join(VERSIONS)}"
            raise InputError(msg)

    def switches(self) -> dict[str, Any]:
        """Return the version's switches with those that are set here."""
        chosen = dict(VERSIONS[self.version])
        for name in ("uncached_first", "reserve_full_isl", "stats_at_lookup"):
            if getattr(self, name) is not None:
                chosen[name] = getattr(self, name)
        if self.retention_interval is not FROM_VERSION:
            chosen["retention_interval"] = self.retention_interval
        return chosen

    def to_config(self, engine: str) -> dict[str, Any]:
        """Return the settings as the ``config`` of an outcome, the switches as they are."""
        return {**super().to_config(engine), **self.switches()}
