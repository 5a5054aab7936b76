"""BurstGPT CSV: arrival times in seconds and lengths, no prompts.

Source: github.com/HPMLL/BurstGPT (Wang et al., *BurstGPT*, 2024).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from prefixsim.formats._csv import read_lengths, uint32
from prefixsim.formats._format import Confidence, Family, Format, Head, ReadOptions
from prefixsim.trace import Trace

__all__ = ["FORMAT"]

_COLUMNS = {
    "Timestamp": pa.float64(),
    "Request tokens": pa.uint32(),
    "Response tokens": pa.uint32(),
}


def _matches(head: Head) -> Confidence:
    return Confidence.CERTAIN if _COLUMNS.keys() <= set(head.columns) else Confidence.NO


def _build(table: pa.Table) -> Trace:
    return Trace(
        timestamp=table["Timestamp"].to_numpy().astype(np.float64),
        prompt_len=uint32(table["Request tokens"]),
        output_len=uint32(table["Response tokens"]),
    )


def _read(path: Path, options: ReadOptions) -> Trace:
    return read_lengths(path, options, columns=_COLUMNS, build=_build)


FORMAT = Format(
    name="burstgpt",
    title="BurstGPT CSV: Timestamp (s), Request tokens, Response tokens (lengths only)",
    family=Family.CSV,
    matches=_matches,
    read=_read,
)
