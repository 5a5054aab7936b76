"""What a plan is made from: service levels, prices of machines, memory that is left for KV."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from math import ceil
from pathlib import Path

import numpy as np
import numpy.typing as npt

from prefixsim._json import JsonObject
from prefixsim.engines.cache_size import token_bytes
from prefixsim.errors import InputError
from prefixsim.hardware.gpus import GPUS, Gpu, Model
from prefixsim.hardware.kv_bytes import kv_bytes_per_token
from prefixsim.routing.durations import read_seconds
from prefixsim.settings import nearest

__all__ = ["GIB", "Level", "MachinePrices", "Memory", "levels_of", "memory_of"]

GIB = 2**30
_LEVEL = re.compile(r"(ttft|tpot|e2e|queue)_p([0-9]{1,2}(?:\.[0-9]+)?)")
_TP = (1, 2, 4, 8, 16)


@dataclass(frozen=True)
class Level:
    """One bound of a service level objective.

    Attributes
    ----------
    name : str
        ``ttft_p99``.
    seconds : float
    """

    name: str
    seconds: float

    @property
    def column(self) -> str:
        """The seconds per request that it bounds."""
        return f"{self.name.partition('_')[0]}_s"

    @property
    def percent(self) -> float:
        """The percentile."""
        return float(self.name.partition("_p")[2])

    def reached(self, times: Mapping[str, npt.NDArray[np.float64]]) -> float:
        """Return what the percentile is."""
        values = times[self.column]
        values = values[np.isfinite(values)]
        return float(np.percentile(values, self.percent)) if len(values) else 0.0


def levels_of(text: str | None) -> tuple[Level, ...]:
    """Read service levels such as ``ttft_p99=2s,tpot_p50=50ms``.

    Raises
    ------
    InputError
        If one is none.

    Examples
    --------
    >>> levels_of("ttft_p99=2s,tpot_p50=50ms")
    (Level(name='ttft_p99', seconds=2.0), Level(name='tpot_p50', seconds=0.05))
    """
    found = []
    for part in (text or "").split(","):
        if not part.strip():
            continue
        name, _, time = part.strip().partition("=")
        if not _LEVEL.fullmatch(name):
            msg = f"slo {part!r}: give ttft, tpot, e2e or queue with a percentile, like ttft_p99=2s"
            raise InputError(msg)
        try:
            found.append(Level(name, read_seconds(time)))
        except ValueError as error:
            msg = f"slo {part!r}: {error}"
            raise InputError(msg) from None
    return tuple(found)


@dataclass(frozen=True)
class MachinePrices:
    """What machines cost, in $ an hour.

    Attributes
    ----------
    gpu : mapping of str to Decimal
        Of one GPU, by its name.
    memory : mapping of str to Decimal
        Of a GiB, by tier.
    source : str
        The file, and its date.
    """

    gpu: Mapping[str, Decimal] = field(default_factory=dict)
    memory: Mapping[str, Decimal] = field(default_factory=dict)
    source: str = ""

    @classmethod
    def read(cls, path: str | Path) -> MachinePrices:
        """Read a TOML file with tables ``[gpu]`` and ``[memory]``.

        Raises
        ------
        InputError
            If it is missing, no TOML, or holds what is no price.
        """
        path = Path(path)
        try:
            content = tomllib.loads(path.read_text(encoding="utf-8"), parse_float=Decimal)
        except FileNotFoundError:
            raise InputError(f"{path}: no such file") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: no TOML: {error}") from None
        tables: dict[str, dict[str, Decimal]] = {"gpu": {}, "memory": {}}
        for name, table in tables.items():
            for key, value in (content.get(name) or {}).items():
                good = isinstance(value, int | Decimal) and not isinstance(value, bool)
                if not good or value < 0:
                    raise InputError(f"{path}: [{name}] {key} is {value}, give $ an hour")
                table[key] = Decimal(value)
        if not any(tables.values()):
            raise InputError(f"{path}: no prices, give [gpu] h100 = 2.50 and [memory] dram = 0.005")
        date = content.get("date", "no date")
        return cls(tables["gpu"], tables["memory"], f"{path.name}, {date}")

    def of_gpu(self, gpu: str) -> Decimal | None:
        """Price of one GPU; ``None`` if the file has none."""
        return self.gpu.get(gpu)


@dataclass(frozen=True)
class Memory:
    """Where the memory of each GPU of a replica goes; weights and overhead are estimates.

    Attributes
    ----------
    tensor_parallel : int
        GPUs of a replica.
    weights, overhead, kv : int
        Bytes per GPU.
    num_blocks : int
        Blocks of the pool, the null block included.
    block_bytes : float
        Bytes of a block per GPU.
    """

    tensor_parallel: int
    weights: int
    overhead: int
    kv: int
    num_blocks: int
    block_bytes: float

    def to_dict(self) -> JsonObject:
        """Return the figures; plain values."""
        return {
            "tensor_parallel": self.tensor_parallel,
            "weight_gib_per_gpu": self.weights / GIB,
            "overhead_gib_per_gpu": self.overhead / GIB,
            "kv_gib_per_gpu": self.kv / GIB,
            "num_blocks": self.num_blocks,
            "estimate": True,
        }


def memory_of(
    model: Model,
    config: str | Path,
    gpu: str,
    block_size: int,
    longest: int,
    *,
    tensor_parallel: int | None = None,
    utilization: float = 0.9,
    overhead: int = 4 * GIB,
) -> Memory:
    """Return the memory a replica has for KV: the GPU's, less weights and what runs beside them.

    Parameters
    ----------
    model : Model
    config : path or name
        Of the model.
    gpu : str
    block_size : int
        Tokens.
    longest : int
        Tokens of the longest request, which has to fit.
    tensor_parallel : int, optional
        GPUs of a replica. Default: the fewest that hold the weights and the longest request.
    utilization : float, optional
        Share of a GPU's memory that the server takes (vLLM's ``gpu_memory_utilization``).
    overhead : int, optional
        Bytes of each GPU for activations, captured graphs and communication.

    Raises
    ------
    InputError
        If the model does not fit, or has layers of several kinds.
    """
    shares = kv_bytes_per_token(config).shares
    if len(shares) > 1:
        layers = " and ".join(str(share) for share in shares)
        msg = f"{config}: {layers}; servers of a plan follow one kind of layers"
        raise InputError(msg)
    card = _gpu(gpu)
    wanted = _TP if tensor_parallel is None else (tensor_parallel,)
    needed = ceil(longest / block_size) + 1
    told = ""
    for gpus in wanted:
        # The input embedding is as large as the output projection, which Model counts.
        weights = ceil((model.parameters + model.head_parameters) * model.weight_bytes / gpus)
        left = int(card.memory * utilization) - weights - overhead
        per_token = token_bytes(None, Path(config), None, gpus)
        assert per_token is not None
        block_bytes = per_token * block_size
        blocks = int(left // block_bytes)
        if blocks > needed:
            return Memory(gpus, weights, overhead, left, blocks, block_bytes)
        told = (
            f"{gpus} {gpu} leave {max(left, 0) / GIB:,.1f} GiB each for KV, the longest request of "
            f"{longest:,} tokens needs {needed * block_bytes / GIB:,.1f}"
        )
    msg = f"{config}: {told}; take more or larger GPUs"
    raise InputError(msg)


def _gpu(name: str) -> Gpu:
    found = GPUS.get(name.lower())
    if found is None:
        close = nearest(name.lower(), list(GPUS))
        hint = f", did you mean {close}?" if close else f": there are {', '.join(GPUS)}"
        raise InputError(f"no GPU {name!r}{hint}")
    return found
