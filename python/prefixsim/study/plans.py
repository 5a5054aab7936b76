"""Plans: which GPUs, how many, routed how, for a trace and a model; each one was run."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from math import floor
from pathlib import Path

import numpy as np

from prefixsim._json import JsonObject
from prefixsim.engines import timed
from prefixsim.engines.cache_size import block_size_for
from prefixsim.errors import InputError
from prefixsim.formats.sources import TraceSource, trace_of
from prefixsim.hardware.gpus import Model
from prefixsim.hardware.latency import Latency, parse_latency
from prefixsim.sizes import parse_size
from prefixsim.study.fleet_choice import Asked
from prefixsim.study.fleet_plan import plan_of
from prefixsim.study.fleets import fleet
from prefixsim.study.plan_inputs import (
    GIB,
    Level,
    MachinePrices,
    levels_of,
    memory_of,
)
from prefixsim.study.plan_result import DramPlan, Plan, Plans, saved_gpu_seconds
from prefixsim.study.plan_search import search
from prefixsim.study.replay import with_tokens
from prefixsim.study.tier_costs import Machine
from prefixsim.trace import Trace

__all__ = ["DEFAULT_DRAM", "DEFAULT_PLAN_ROUTERS", "plan"]

DEFAULT_PLAN_ROUTERS = ("llm-d", "round-robin")
DEFAULT_DRAM = ("64GiB", "256GiB", "1TiB")


def plan(
    trace: TraceSource,
    model_config: str | Path,
    *,
    gpu: str = "h100",
    slo: str | None = None,
    prices: str | Path | None = None,
    calibrate: str | Path | None = None,
    tensor_parallel: int | Sequence[int] | None = None,
    router: str | Sequence[str] = DEFAULT_PLAN_ROUTERS,
    dram: str | Sequence[str] = DEFAULT_DRAM,
    overhead: str = "4GiB",
    block_size: int | None = None,
    model: str | None = None,
    path: str | None = None,
) -> Plans:
    """Search for the servers that a trace needs.

    Memory for KV is what a GPU has, less weights and overhead. Fleets of vLLM servers are run on
    the trace, more of them until they keep up with the arrivals and stay within the service levels,
    and some around that number. Each plan carries the command that repeats it.

    Parameters
    ----------
    trace : Trace or path
        With the times at which requests really came.
    model_config : path or str
        The model's ``config.json`` or name.
    gpu : str, optional
        One of :data:`prefixsim.hardware.gpus.GPUS`.
    slo : str, optional
        Service levels, such as ``"ttft_p99=2s,tpot_p50=50ms"``.
    prices : path, optional
        A TOML file: ``[gpu]`` and ``[memory]`` with $ an hour of a GPU and of a GiB of ``dram``.
    calibrate : path, optional
        A CSV of measured steps, to which step times are fitted in place of the estimate.
    tensor_parallel : int or sequence of int, optional
        GPUs of a server. Default: the fewest that hold the model and the longest request.
    router : str or sequence of str, optional
    dram : str or sequence of str, optional
        Sizes per replica to try below the GPUs.
    overhead : str, optional
        Memory of each GPU for activations, graphs and communication.
    block_size : int, optional
        Tokens. Default: 16 for token ids; for hash ids, the tokens each stands for.
    model : str, optional
        Tokenizer of a text trace.
    path : str, optional
        What the commands call the trace. Default: the path that was given, or its name.

    Returns
    -------
    Plans

    Raises
    ------
    InputError
        If the model does not fit, or something is not usable.

    Examples
    --------
    >>> import prefixsim
    >>> prompts = [range(2000)] * 40
    >>> trace = prefixsim.Trace.from_prompts(prompts, output_len=[10] * 40)
    >>> found = prefixsim.plan(trace, "llama-3.1-8b", gpu="h100", slo="ttft_p99=2s")
    >>> found.best.gpus, round(found.best.hit_rate, 3), found.best.meets
    (1, 0.967, True)
    """
    costs = MachinePrices() if prices is None else MachinePrices.read(prices)
    named = path or (str(trace) if isinstance(trace, str | Path) else trace.name)
    read = trace_of(trace)
    columns = with_tokens(read, model)
    if not len(columns):
        raise InputError(f"{columns.name}: no requests to plan for")
    routers = [router] if isinstance(router, str) else list(router)
    asked = _Asked(
        trace=columns,
        named=[named, *(["--model", model] if model and read.kind == "text" else [])],
        model_config=model_config,
        gpu=gpu.lower(),
        levels=levels_of(slo),
        prices=costs,
        calibrate=calibrate,
        routers=routers,
        overhead=parse_size(overhead).amount or 0,
        block_size=block_size_for(columns, block_size),
    )
    several = tensor_parallel if isinstance(tensor_parallel, Sequence) else [tensor_parallel]
    runs: list[Plan] = []
    for wanted in several:
        latency, found = _runs(asked, wanted)
        runs += found
    runs.sort(key=lambda p: (p.gpus, p.run.router))
    config = {
        "model_config": str(model_config), "gpu": gpu, "slo": slo, "overhead": overhead,
        "block_size": asked.block_size, "router": routers,
        "calibrate": None if calibrate is None else str(calibrate),
    }  # fmt: skip
    told = latency.describe()
    plans = Plans(columns, str(model_config), told, asked.levels, runs, [], config, costs)
    plans.dram.extend(_with_dram(plans, asked, [dram] if isinstance(dram, str) else list(dram)))
    return plans


@dataclass(frozen=True)
class _Asked:
    """What all fleets of a search share."""

    trace: Trace
    named: Sequence[str]
    model_config: str | Path
    gpu: str
    levels: tuple[Level, ...]
    prices: MachinePrices
    calibrate: str | Path | None
    routers: Sequence[str]
    overhead: int
    block_size: int


def _runs(asked: _Asked, tensor_parallel: int | None) -> tuple[Latency, list[Plan]]:
    """Run fleets of servers of so many GPUs."""
    trace, gpu = asked.trace, asked.gpu
    shape = Model.read(asked.model_config)
    longest = int((trace.prompt_len.astype(np.int64) + trace.output_len).max())
    memory = memory_of(
        shape,
        asked.model_config,
        gpu,
        asked.block_size,
        longest,
        tensor_parallel=tensor_parallel,
        overhead=asked.overhead,
    )
    measured = str(asked.calibrate or gpu)
    latency = parse_latency(measured, shape, memory.tensor_parallel)
    options: JsonObject = {
        "num_blocks": memory.num_blocks,
        "block_size": asked.block_size,
        "model_config": asked.model_config,
        "latency": measured,
        "tensor_parallel": memory.tensor_parallel,
    }
    servers = plan_of(trace, timed(), options, Asked())
    rate = Machine(latency).prefill_rate(trace.prompt_tokens // len(trace))
    words = [
        "prefixsim", "fleet", *asked.named, "--engine", timed().name, "--model-config",
        str(asked.model_config), "--latency", measured, "--tensor-parallel",
        str(memory.tensor_parallel), "--num-blocks", str(memory.num_blocks), "--block-size",
        str(asked.block_size),
    ]  # fmt: skip
    price = asked.prices.of_gpu(gpu)
    plans = []
    for run in search(servers, latency, asked.routers, asked.levels):
        command = shlex.join([*words, "--replicas", str(run.replicas), "--router", run.router])
        plans.append(Plan(run, memory, gpu, trace, rate, asked.levels, price, command))
    return latency, plans


def _with_dram(plans: Plans, asked: _Asked, sizes: Sequence[str]) -> list[DramPlan]:
    """Return what DRAM would add to the best plan, each size a fleet without time."""
    best = plans.best
    if best is None or not sizes:
        return []
    memory, trace = best.memory, plans.trace
    hbm = memory.num_blocks - 1
    replica_bytes = memory.block_bytes * memory.tensor_parallel
    wanted = [(0.0, hbm)]
    for text in sizes:
        size = parse_size(text)
        if not size.in_bytes:
            raise InputError(f"dram {text}: give bytes, like 64GiB")
        bytes_ = float(size.amount or 0)
        wanted.append((bytes_ / GIB, hbm + floor(bytes_ / replica_bytes)))
    found: list[DramPlan] = []
    base = 0
    price = plans.prices.memory.get("dram")
    block = asked.block_size
    for gib, blocks in wanted:
        result = fleet(
            trace, replicas=best.replicas, router=best.run.router, num_blocks=blocks,
            block_size=block,
        )  # fmt: skip
        hits = int(result.runs[0].hit_tokens.sum(dtype=np.uint64))
        base = base or hits
        cost = None if price is None else price * Decimal(str(gib)) * best.replicas
        command = shlex.join(
            ["prefixsim", "fleet", *asked.named, "--num-blocks", str(blocks),
             "--block-size", str(block), "--replicas", str(best.replicas), "--router",
             best.run.router]
        )  # fmt: skip
        saved = saved_gpu_seconds(hits - base, best.rate, memory.tensor_parallel, trace)
        found.append(DramPlan(gib, blocks, result.runs[0].token_hit_rate, saved, cost, command))
    return found
