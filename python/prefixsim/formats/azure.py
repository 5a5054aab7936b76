"""Azure LLM inference CSV: arrival times and lengths, no prompts.

Source: github.com/Azure/AzurePublicDataset (Patel et al., *Splitwise*, ISCA 2024).
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
    "TIMESTAMP": pa.timestamp("ns"),
    "ContextTokens": pa.uint32(),
    "GeneratedTokens": pa.uint32(),
}


def _matches(head: Head) -> Confidence:
    return Confidence.CERTAIN if _COLUMNS.keys() <= set(head.columns) else Confidence.NO


def _build(table: pa.Table) -> Trace:
    nanoseconds = table["TIMESTAMP"].to_numpy().astype(np.int64)
    start = int(nanoseconds.min())
    return Trace(
        timestamp=(nanoseconds - start) / 1e9,
        prompt_len=uint32(table["ContextTokens"]),
        output_len=uint32(table["GeneratedTokens"]),
        meta={"epoch_s": start / 1e9},
    )


def _read(path: Path, options: ReadOptions) -> Trace:
    return read_lengths(path, options, columns=_COLUMNS, build=_build)


FORMAT = Format(
    name="azure",
    title="Azure LLM inference CSV: TIMESTAMP, ContextTokens, GeneratedTokens (lengths only)",
    family=Family.CSV,
    matches=_matches,
    read=_read,
)
