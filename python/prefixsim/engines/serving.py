"""Settings of engines with time: when requests arrive, and what a step costs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefixsim.engines.cache_size import read_cache_size
from prefixsim.engines.contract import MOST, EngineSettings
from prefixsim.hardware.gpus import Model
from prefixsim.hardware.latency import Fixed, Latency, Linear, Roofline, parse_latency
from prefixsim.settings import setting
from prefixsim.sizes import Size

__all__ = ["ServingSettings"]


def _read_arrivals(value: Any) -> str:
    """Return ``trace``, ``start``, ``sequential`` or ``closed:K``, checked."""
    kind, colon, number = str(value).partition(":")
    if kind == "closed" and colon:
        if not number.isdecimal() or not 1 <= int(number) <= MOST:
            raise ValueError("give the requests in flight, like closed:16")
        return f"closed:{int(number)}"
    if value not in ("trace", "start", "sequential"):
        raise ValueError("choose trace, start, closed:K or sequential")
    return str(value)


def _read_latency(value: Any) -> str | Latency:
    """Return text, or a latency model as it is."""
    if not isinstance(value, str | Fixed | Linear | Roofline):
        raise ValueError("give text like 20ms, or a model of prefixsim.hardware.latency")
    return value


@dataclass(frozen=True)
class ServingSettings(EngineSettings):
    """Settings of engines with time.

    Attributes
    ----------
    arrivals : str
        ``trace``: by timestamp. ``start``: all before the first step. ``closed:K``: the next one
        as soon as fewer than K are waiting or running. ``sequential``: one after the other,
        straight through the cache, without time.
    latency : str or Latency
        What a step costs: see :func:`prefixsim.hardware.latency.parse_latency`.
    """

    arrivals: str = setting(
        "trace",
        help="'trace': by timestamp; 'closed:K': K in flight; 'start': all at once; "
        "'sequential': one after the other, without time.",
        metavar="HOW",
        read=_read_arrivals,
    )
    latency: str | Latency = setting(
        "20ms",
        help="What a step costs: a time, a .json of coefficients, a .csv of measured steps, or a "
        "GPU's name (needs --model-config).",
        metavar="MODEL",
        read=_read_latency,
    )
    kv_memory: int | Size | None = setting(
        None,
        help="Size of the cache in bytes, like 40GB; the same as --num-blocks 40GB.",
        metavar="SIZE",
        read=read_cache_size,
    )

    def arrival_mode(self) -> tuple[str, int]:
        """Return the kind of arrivals and how many requests are in flight."""
        kind, _, number = self.arrivals.partition(":")
        return kind, int(number or 1)

    def latency_model(self) -> Latency:
        """Return what a step costs.

        Raises
        ------
        InputError
            If the text names no model of latency, or a GPU without ``model_config``.
        """
        if not isinstance(self.latency, str):
            return self.latency
        path: Path | None = self.model_config
        model = None if path is None else Model.read(path)
        return parse_latency(self.latency, model, self.tensor_parallel)

    def to_config(self, engine: str) -> dict[str, Any]:
        """Return the settings as the ``config`` of an outcome; latency as its coefficients."""
        config = super().to_config(engine)
        config.pop("kv_memory")
        return {**config, "latency": self.latency_model().describe()}
