"""Exact, fast simulation of the prefix caches of LLM inference engines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefixsim._core import DEBUG_BUILD, __version__

if TYPE_CHECKING:
    from prefixsim._core import Allocation, BlockManager, OffloadManager, RadixCache, RadixMatch
    from prefixsim.billing.bill import bill
    from prefixsim.engines.hashing import hash_blocks, published_hash
    from prefixsim.engines.vllm.simulate import simulate
    from prefixsim.errors import InputError, MissingExtraError, PrefixsimError
    from prefixsim.explanations.lint import lint
    from prefixsim.explanations.waterfall import explain
    from prefixsim.forest import Forest, compile  # noqa: A004
    from prefixsim.own_policies import Policy
    from prefixsim.reports.report import report
    from prefixsim.study.compare import compare
    from prefixsim.study.curves import curve
    from prefixsim.study.describe import info
    from prefixsim.study.fleets import fleet
    from prefixsim.study.plans import plan
    from prefixsim.study.reorder import reorder
    from prefixsim.study.replay import replay
    from prefixsim.study.result import Result
    from prefixsim.study.reuse_bounds import bounds
    from prefixsim.study.surface import surface
    from prefixsim.study.sweeps import sweep
    from prefixsim.study.ttl_curve import ttl_curve
    from prefixsim.trace import Request, Trace
    from prefixsim.traffic.build import BuiltTraces, build_traces
    from prefixsim.traffic.synthetic import Workload, generate

__all__ = [
    "Allocation",
    "BlockManager",
    "BuiltTraces",
    "Forest",
    "InputError",
    "MissingExtraError",
    "OffloadManager",
    "Policy",
    "PrefixsimError",
    "RadixCache",
    "RadixMatch",
    "Request",
    "Result",
    "Trace",
    "Workload",
    "__version__",
    "bill",
    "bounds",
    "build_traces",
    "compare",
    "compile",
    "curve",
    "explain",
    "fleet",
    "generate",
    "hash_blocks",
    "info",
    "lint",
    "plan",
    "published_hash",
    "reorder",
    "replay",
    "report",
    "simulate",
    "surface",
    "sweep",
    "ttl_curve",
]

# Public names and the modules they live in, loaded on first use: `import prefixsim` stays fast.
_HOMES = {
    "Allocation": "_core",
    "BlockManager": "_core",
    "BuiltTraces": "traffic.build",
    "Forest": "forest",
    "InputError": "errors",
    "MissingExtraError": "errors",
    "OffloadManager": "_core",
    "Policy": "own_policies",
    "PrefixsimError": "errors",
    "RadixCache": "_core",
    "RadixMatch": "_core",
    "Request": "trace",
    "Result": "study.result",
    "Trace": "trace",
    "Workload": "traffic.synthetic",
    "bill": "billing.bill",
    "bounds": "study.reuse_bounds",
    "build_traces": "traffic.build",
    "compile": "forest",
    "compare": "study.compare",
    "curve": "study.curves",
    "generate": "traffic.synthetic",
    "hash_blocks": "engines.hashing",
    "explain": "explanations.waterfall",
    "fleet": "study.fleets",
    "lint": "explanations.lint",
    "info": "study.describe",
    "report": "reports.report",
    "published_hash": "engines.hashing",
    "plan": "study.plans",
    "reorder": "study.reorder",
    "replay": "study.replay",
    "simulate": "engines.vllm.simulate",
    "surface": "study.surface",
    "sweep": "study.sweeps",
    "ttl_curve": "study.ttl_curve",
}

if DEBUG_BUILD:
    import warnings

    warnings.warn("prefixsim: a debug build of its core, many times slower", stacklevel=2)


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        msg = f"module 'prefixsim' has no attribute {name!r}"
        raise AttributeError(msg)
    from importlib import import_module

    value = getattr(import_module(f"prefixsim.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
