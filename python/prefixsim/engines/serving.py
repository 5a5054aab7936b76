"""Settings of engines with time: when requests arrive, and what a step costs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from prefixsim._json import JsonObject
from prefixsim.engines.cache_size import read_cache_size
from prefixsim.engines.contract import MOST, EngineSettings
from prefixsim.engines.turns import TurnColumns, turns_of
from prefixsim.errors import SettingError
from prefixsim.hardware.gpus import GPUS, Model
from prefixsim.hardware.kv_bytes import kv_bytes_per_token
from prefixsim.hardware.latency import Fixed, Latency, Linear, Roofline, parse_latency
from prefixsim.settings import setting
from prefixsim.sizes import Size
from prefixsim.trace import Trace

__all__ = ["ServingSettings"]


def _read_arrivals(value: object) -> str:
    """Return ``trace``, ``start``, ``sequential`` or ``closed:K``, checked."""
    kind, colon, number = str(value).partition(":")
    if kind == "closed" and colon:
        if not number.isdecimal() or not 1 <= int(number) <= MOST:
            raise ValueError("give the requests in flight, like closed:16")
        return f"closed:{int(number)}"
    if value not in ("trace", "start", "sequential", "sessions"):
        raise ValueError("choose trace, sessions, start, closed:K or sequential")
    return str(value)


def _read_latency(value: object) -> str | Latency:
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
        as soon as fewer than K are waiting or running. ``sessions``: a turn is sent after the
        answer to the one before, as clients do. ``sequential``: one after the other,
        straight through the cache, without time.
    think_time : float or None
        Seconds that a client waits after an answer: with ``sessions`` before the next turn of the
        session, with ``closed:K`` before its next request. ``None``: with ``sessions`` what the
        trace says (a turn is sent as long after the answer as it was, where the trace knows when
        that came; otherwise at its timestamp, or when the answer is there if that is later); with
        ``closed:K`` none.
    latency : str or Latency
        What a step costs: see :func:`prefixsim.hardware.latency.parse_latency`.
    kv_memory : int, Size or None
        ``num_blocks`` in bytes.
    force : bool
        Allow a size in bytes beyond the memory of the GPU that ``latency`` names.
    """

    arrivals: str = setting(
        "trace",
        help="'trace': by timestamp; 'sessions': a turn after the answer to the one before; "
        "'closed:K': K in flight; 'start': all at once; 'sequential': one after the other, "
        "without time.",
        metavar="HOW",
        read=_read_arrivals,
    )
    think_time: float | None = setting(
        None,
        help="Between an answer and what its client sends next, with 'sessions' and 'closed:K'.",
        metavar="SECONDS",
        unit="seconds",
        least=0,
        shown_default="the trace's; none in closed loops",
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

    force: bool = setting(
        False,
        help="Take a size in bytes that the named GPU does not have.",
        off="--no-force",
    )

    def arrival_mode(self, trace: Trace) -> tuple[str | TurnColumns, int]:
        """Return the kind of arrivals, or whose answers they wait for, and how many are in flight.

        Raises
        ------
        InputError
            If arrivals by session need sessions that the trace does not have.
        """
        kind, _, number = self.arrivals.partition(":")
        if kind == "sessions":
            return turns_of(trace, self.think_time), 0
        if kind == "closed" and self.think_time is not None:
            return turns_of(trace, self.think_time, closed=True), int(number)
        if self.think_time is not None:
            msg = f"think_time: with arrivals {self.arrivals} nobody waits for an answer"
            raise SettingError(msg)
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

    def for_model(self) -> Self:
        """Return the settings with what the model's configuration says of its layers.

        An engine with time follows one kind of layers. A model whose every layer has the same
        sliding window gets that window where the engine has the setting.

        Raises
        ------
        InputError
            If the model has layers of several kinds, or of one that the engine has no rule for, or
            the cache is larger than the memory of the GPU that is named.
        """
        self._check_memory()
        if self.model_config is None:
            return self
        sizes = kv_bytes_per_token(
            self.model_config, dtype=self.kv_cache_dtype, tensor_parallel=self.tensor_parallel
        )
        grows = sizes.grows
        windowed = grows.kind == "sliding_window" and hasattr(self, "sliding_window")
        if len(sizes.shares) > 1:
            layers = " and ".join(str(share) for share in sizes.shares)
            msg = (
                f"model_config {self.model_config}: {layers}, this engine follows one kind. To "
                f"follow the {grows} alone, give bytes_per_token={grows.token_bytes} in its place"
            )
            raise SettingError(msg)
        if grows.kind != "full" and not windowed:
            msg = (
                f"model_config {self.model_config}: {grows}, this engine keeps all tokens. To "
                f"do so all the same, give bytes_per_token={grows.token_bytes} in its place"
            )
            raise SettingError(msg)
        if not windowed or getattr(self, "sliding_window", None) is not None:
            return self
        window: JsonObject = {"sliding_window": grows.span}
        return replace(self, **window)

    def _check_memory(self) -> None:
        """Refuse a size in bytes beyond the memory of the GPU that ``latency`` names."""
        size = self.num_blocks
        if self.force or not isinstance(size, Size) or not isinstance(self.latency, str):
            return
        gpu = GPUS.get(self.latency.lower())
        if gpu is not None and size.in_bytes and (size.amount or 0) > gpu.memory:
            msg = (
                f"num_blocks {size.text}: one {self.latency.lower()} has {gpu.memory / 1e9:,.0f} "
                "GB, for weights and cache together; give less, or turn 'force' on"
            )
            raise SettingError(msg)

    def to_config(self, engine: str) -> JsonObject:
        """Return the settings as the ``config`` of an outcome; latency as its coefficients."""
        config = super().to_config(engine)
        config.pop("kv_memory")
        config.pop("force")
        return {**config, "latency": self.latency_model().describe()}
