"""What a step of the engine costs: fixed, given, fitted from measured steps, or a roofline."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from prefixsim._files import open_bytes
from prefixsim._json import JsonObject
from prefixsim.errors import InputError
from prefixsim.hardware.gpus import GPUS, Model

__all__ = ["COEFFICIENTS", "Fixed", "Latency", "Linear", "Roofline", "parse_latency"]

_LONGEST_S = 1e19  # far beyond what a step takes; neither infinite nor no number

COEFFICIENTS = (
    "base",
    "prefill_tokens",
    "prefill_pairs",
    "prefill_context",
    "decodes",
    "decode_context",
)
"""What the cost of a step is linear in; see ``docs/vllm.md``."""

CoreLatency: TypeAlias = int | Sequence[float] | tuple[float, Sequence[float], Sequence[float]]
"""What the core takes: nanoseconds of a step; six coefficients; overhead, compute and memory."""

_NS = 1e9
_FIXED = re.compile(r"([0-9.]+)\s*(ns|us|ms|s)")
_SECONDS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0}


@dataclass(frozen=True)
class Fixed:
    """Every step takes ``seconds``."""

    seconds: float

    def settings(self) -> int:
        """Return what the core takes: nanoseconds."""
        if not np.isfinite(self.seconds) or not 0 <= self.seconds < 1e9:
            msg = f"latency of {self.seconds} s per step: give a time from 0 to 10^9 s"
            raise InputError(msg)
        return round(self.seconds * _NS)

    def describe(self) -> JsonObject:
        """Return plain values for provenance."""
        return {"model": "fixed", "seconds": self.seconds}


@dataclass(frozen=True)
class Linear:
    """A step takes the sum of coefficients times its work.

    Attributes
    ----------
    coefficients : mapping of str to float
        Seconds per unit of each of :data:`COEFFICIENTS`; those left out are 0.
    source : dict
        Where they came from.
    """

    coefficients: Mapping[str, float]
    source: Mapping[str, object] | None = None

    def settings(self) -> list[float]:
        """Return what the core takes: nanoseconds in the order of :data:`COEFFICIENTS`."""
        return _in_ns(self.coefficients)

    def describe(self) -> JsonObject:
        """Return plain values for provenance."""
        return {"model": "linear", **dict(self.coefficients), **(self.source or {})}

    @classmethod
    def read(cls, path: str | Path) -> Linear:
        """Read coefficients in seconds from a JSON object.

        Raises
        ------
        InputError
            If the file is missing, not JSON, or has other keys than :data:`COEFFICIENTS`.
        """
        path = Path(path)
        try:
            coefficients = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            msg = f"{path}: no such file"
            raise InputError(msg) from None
        except RecursionError:
            msg = f"{path}: not JSON that can be read, nested too deeply"
            raise InputError(msg) from None
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            msg = f"{path}: not JSON: {error}"
            raise InputError(msg) from None
        if (
            not isinstance(coefficients, dict)
            or not coefficients
            or set(coefficients) - set(COEFFICIENTS)
        ):
            msg = f"{path}: give an object with some of {', '.join(COEFFICIENTS)}, in seconds"
            raise InputError(msg)
        for name, value in coefficients.items():
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not number or not abs(value) <= _LONGEST_S:
                msg = f"{path}: {name} is {value!r}, give a number of seconds"
                raise InputError(msg)
        return cls(coefficients, {"file": path.name})

    @classmethod
    def fit(cls, path: str | Path) -> Linear:
        """Fit coefficients that are not negative to a CSV of measured steps.

        The column ``seconds`` is what each step took; each other column must be one of
        :data:`COEFFICIENTS` (``base`` is always fitted).

        Raises
        ------
        InputError
            If the file is missing, has no usable columns, or fewer rows than coefficients.
        """
        path = Path(path)
        with open_bytes(path) as file:
            lines = file.read().decode("utf-8", "replace").splitlines()
        header = [name.strip() for name in lines[0].split(",")] if lines else []
        names = [name for name in header if name in COEFFICIENTS[1:]]
        if "seconds" not in header or not names:
            msg = f"{path}: the first line must name 'seconds' and some of {COEFFICIENTS[1:]}"
            raise InputError(msg)
        rows = []
        for number, line in enumerate(lines[1:], start=2):
            cells = line.split(",")
            try:
                row = [float(cell) for cell in cells]
            except ValueError:
                row = []
            if len(row) != len(header) or not np.all(np.isfinite(row)):
                msg = f"{path}:{number}: expected {len(header)} numbers"
                raise InputError(msg)
            rows.append(row)
        if len(rows) < len(names) + 1:
            msg = f"{path}: {len(rows)} steps are too few for {len(names) + 1} coefficients"
            raise InputError(msg)
        table = np.array(rows)
        seconds = table[:, header.index("seconds")]
        work = np.column_stack([np.ones(len(rows)), *(table[:, header.index(n)] for n in names)])
        fitted = _non_negative(work, seconds)
        rest = seconds - work @ fitted
        spread = float(np.sum((seconds - seconds.mean()) ** 2))
        quality = 1 - float(rest @ rest) / spread if spread else None
        coefficients = dict(zip(["base", *names], fitted.tolist(), strict=True))
        return cls(coefficients, {"fitted_to": path.name, "steps": len(rows), "r_squared": quality})


@dataclass(frozen=True)
class Roofline:
    """A step takes the larger of its arithmetic and its memory traffic; an estimate.

    Attributes
    ----------
    gpu : str
        Name in :data:`~prefixsim.hardware.gpus.GPUS`.
    model : Model
    tensor_parallel : int
        GPUs that share every layer; communication is not modelled.
    compute_efficiency, memory_efficiency : float
        Share of the peak rates that is reached.
    overhead : float
        Seconds per step for everything else.
    """

    gpu: str
    model: Model
    tensor_parallel: int = 1
    compute_efficiency: float = 0.6
    memory_efficiency: float = 0.8
    overhead: float = 0.002

    def settings(self) -> tuple[float, list[float], list[float]]:
        """Return what the core takes: overhead, compute and memory in nanoseconds."""
        gpu = GPUS[self.gpu]
        flops = gpu.flops * self.tensor_parallel * self.compute_efficiency
        bandwidth = gpu.bandwidth * self.tensor_parallel * self.memory_efficiency
        model = self.model
        compute = {
            "prefill_tokens": 2 * model.active_parameters / flops,
            "prefill_pairs": model.attention_flops / flops,
            "decodes": 2 * (model.active_parameters + model.head_parameters) / flops,
            "decode_context": model.attention_flops / flops,
        }
        memory = {
            "base": model.parameters * model.weight_bytes / bandwidth,
            "prefill_context": model.kv_bytes_per_token / bandwidth,
            "decode_context": model.kv_bytes_per_token / bandwidth,
        }
        return (self.overhead * _NS, _in_ns(compute), _in_ns(memory))

    def describe(self) -> JsonObject:
        """Return plain values for provenance."""
        return {
            "model": "roofline",
            "estimate": True,
            "gpu": self.gpu,
            "config": self.model.name,
            "tensor_parallel": self.tensor_parallel,
            "compute_efficiency": self.compute_efficiency,
            "memory_efficiency": self.memory_efficiency,
            "overhead": self.overhead,
        }


Latency = Fixed | Linear | Roofline


def _in_ns(coefficients: Mapping[str, float]) -> list[float]:
    return [float(coefficients.get(name, 0.0)) * _NS for name in COEFFICIENTS]


def _non_negative(
    work: npt.NDArray[np.float64], seconds: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Least squares without negative coefficients (Lawson & Hanson's active set)."""
    scale = np.maximum(np.abs(work).max(axis=0), 1e-300)
    scaled = work / scale
    n = work.shape[1]
    x = np.zeros(n)
    free = np.zeros(n, dtype=bool)
    for _ in range(10 * n):
        gradient = scaled.T @ (seconds - scaled @ x)
        gradient[free] = -np.inf
        best = int(np.argmax(gradient))
        if gradient[best] <= 1e-12 * max(float(np.abs(seconds).sum()), 1e-300):
            break
        free[best] = True
        while True:
            trial = np.zeros(n)
            trial[free] = np.linalg.lstsq(scaled[:, free], seconds, rcond=None)[0]
            blocked = free & (trial <= 0)
            if not blocked.any():
                break
            step = np.min(x[blocked] / np.maximum(x[blocked] - trial[blocked], 1e-300))
            x = x + step * (trial - x)
            free &= x > 1e-15
            x[~free] = 0.0
        x = trial
    solved: npt.NDArray[np.float64] = x / scale
    return solved


def parse_latency(text: str, model: Model | None = None, tensor_parallel: int = 1) -> Latency:
    """Return the model that ``--latency`` names.

    ``20ms`` (or ``ns``, ``us``, ``s``): every step; ``FILE.json``: coefficients; ``FILE.csv``:
    fitted to measured steps; the name of a GPU: a roofline, which needs ``model``.

    Raises
    ------
    InputError
        If it is none of these.
    """
    fixed = _FIXED.fullmatch(text.strip())
    if fixed:
        try:
            return Fixed(float(fixed[1]) * _SECONDS[fixed[2]])
        except ValueError:
            pass
    if text.endswith(".json"):
        return Linear.read(text)
    if text.endswith((".csv", ".csv.gz")):
        return Linear.fit(text)
    if text.lower() in GPUS:
        if model is None:
            msg = f"latency {text!r}: a roofline needs --model-config, the model's config.json"
            raise InputError(msg)
        return Roofline(text.lower(), model, tensor_parallel)
    choices: Sequence[str] = sorted(GPUS)
    msg = (
        f"latency {text!r}: give a time per step (20ms), a .json of coefficients, a .csv of "
        f"measured steps, or a GPU: {', '.join(choices)}"
    )
    raise InputError(msg)
