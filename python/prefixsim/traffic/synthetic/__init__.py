"""Seeded synthetic workloads of any size, streamed: ``prefixsim generate``."""

from __future__ import annotations

from prefixsim.traffic.synthetic.shapes import SHAPES, Shape
from prefixsim.traffic.synthetic.stream import Workload, generate

__all__ = ["SHAPES", "Shape", "Workload", "generate"]
