"""Seeded synthetic workloads of any size, streamed: ``prefixsim generate``."""

from __future__ import annotations

from prefixsim.workload.shapes import SHAPES, Shape
from prefixsim.workload.stream import Workload, generate

__all__ = ["SHAPES", "Shape", "Workload", "generate"]
