"""What a trace of chat data is made of: the data, and options checked before any work."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal, get_args

from prefixsim.chat import ChatReader
from prefixsim.errors import InputError
from prefixsim.traffic.demo import DEFAULT_CONVERSATIONS, sample_conversations

__all__ = ["OutputFormat", "SingleTurns", "check_options", "open_data"]

OutputFormat = Literal["jsonl", "parquet"]
SingleTurns = Literal["every", "first"]


def check_options(
    block_size: int, max_conversations: int | None, output_format: str, turns: str
) -> None:
    """Refuse options that cannot be used."""
    if block_size < 1:
        msg = f"block size {block_size} is not usable, give a number of tokens above 0"
        raise InputError(msg)
    if max_conversations is not None and max_conversations < 0:
        msg = f"cannot use {max_conversations} conversations, give a number above 0, or 0 for all"
        raise InputError(msg)
    if output_format not in get_args(OutputFormat):
        msg = f"unknown output format '{output_format}', choose one of jsonl, parquet"
        raise InputError(msg)
    if turns not in get_args(SingleTurns):
        msg = f"unknown turns '{turns}', choose one of every, first"
        raise InputError(msg)


def open_data(
    data: str | Path | Iterable[object] | None,
    data_format: str | None,
    skip_bad_rows: bool,
    limit: int | None,
    seed: int,
) -> ChatReader:
    """Return the reader of the data, or of as many embedded sample conversations."""
    if data is not None:
        return ChatReader(data, format=data_format, skip_bad_rows=skip_bad_rows, limit=limit)
    reader = ChatReader(sample_conversations(limit or DEFAULT_CONVERSATIONS, seed=seed))
    reader.name = "embedded synthetic sample"
    return reader
