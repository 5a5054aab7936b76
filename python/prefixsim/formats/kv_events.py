"""KV-event recordings of vLLM: msgpack messages one after the other, or JSON Lines.

A message is an event or a batch of them. An event is a map with ``type``, or the array that
msgspec's ``array_like`` makes of it (name first); a batch is ``{"ts", "events",
"data_parallel_rank"}`` or ``[ts, [event, ...], rank]``. Fields as in vLLM's
``distributed/kv_events.py``; array fields that are left out at the end have their defaults.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import numpy.typing as npt

from prefixsim._json import JsonObject

if TYPE_CHECKING:
    import msgpack

from prefixsim.errors import InputError
from prefixsim.formats._format import Confidence, Family, Format, Head, ReadOptions
from prefixsim.formats._rows import BadFieldError, CheckedRows, JsonRows, reading
from prefixsim.formats.recording import EventType, KvEvent, Recording
from prefixsim.trace import Trace
from prefixsim.trace.salts import salt_name

__all__ = [
    "FORMAT",
    "MsgpackRows",
    "is_message",
    "is_msgpack",
    "parse_message",
    "read_recording",
    "read_rows",
]

_ARRAYS: dict[str, tuple[str, ...]] = {
    "BlockStored": (
        "block_hashes",
        "parent_block_hash",
        "token_ids",
        "block_size",
        "lora_id",
        "medium",
        "lora_name",
        "extra_keys",
        "group_idx",
    ),
    "BlockRemoved": ("block_hashes", "medium", "group_idx"),
    "AllBlocksCleared": (),
}
_TYPES = ", ".join(_ARRAYS)
# Limits of what a damaged file can make the parser allocate.
_LARGEST_MESSAGE = 1 << 28
_LONGEST_ARRAY = 1 << 21
_LONGEST_STRING = 1 << 20
_NIL = b"\xc0"


def is_msgpack(head: bytes) -> bool:
    """Whether a file begins as a msgpack array or map, as no UTF-8 JSON does."""
    return bool(head) and (0x80 <= head[0] <= 0x9F or 0xDC <= head[0] <= 0xDF)


def is_message(value: object) -> bool:
    """Whether a value looks like an event or a batch."""
    if isinstance(value, Mapping):
        kind = value.get("type")
        return (isinstance(kind, str) and kind in _ARRAYS) or (
            isinstance(value.get("events"), list) and len(value.keys() & {"ts", "step"}) > 0
        )
    if not isinstance(value, list) or not value:
        return False
    if isinstance(value[0], str):
        return value[0] in _ARRAYS
    return isinstance(value[0], int | float) and len(value) > 1 and isinstance(value[1], list)


def parse_message(value: object, line: int) -> list[KvEvent]:
    """Return the events of a message.

    Raises
    ------
    BadFieldError
        For the first thing that is wrong.
    """
    if isinstance(value, list) and value and not isinstance(value[0], str):
        batch = dict(zip(("ts", "events", "data_parallel_rank"), value, strict=False))
    elif isinstance(value, dict) and "type" not in value and "events" in value:
        batch = value
    else:
        time = value.get("ts") if isinstance(value, dict) else None
        return [replace(_event(value, "", line), time=_time(time))]
    events = batch.get("events")
    if not isinstance(events, list):
        raise BadFieldError("events", "expected an array of events")
    time, rank = _time(batch.get("ts")), batch.get("data_parallel_rank")
    if rank is not None and (not isinstance(rank, int) or isinstance(rank, bool)):
        raise BadFieldError("data_parallel_rank", "expected a whole number")
    return [
        replace(_event(event, f"events[{i}].", line), time=time, rank=rank)
        for i, event in enumerate(events)
    ]


def _time(value: object) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadFieldError("ts", "expected a number of seconds")
    if not math.isfinite(value) or abs(value) > 1e300:
        raise BadFieldError("ts", "is not a finite number")
    return float(value)


def _event(value: object, where: str, line: int) -> KvEvent:
    if isinstance(value, list) and value:
        name = value[0]
        names = _ARRAYS.get(name, ()) if isinstance(name, str) else ()
        fields = dict(zip(names, value[1:], strict=False))
    elif isinstance(value, dict):
        name, fields = value.get("type"), value
    else:
        raise BadFieldError(where.rstrip("."), "expected an event, as a map or an array")
    if not isinstance(name, str) or name not in _ARRAYS:
        raise BadFieldError(f"{where}type", f"{str(name)[:40]!r} is none of {_TYPES}")
    kind = cast("EventType", name)
    medium, group = fields.get("medium"), fields.get("group_idx")
    other = ""
    if isinstance(medium, str) and medium.upper() != "GPU":
        other = f"medium {medium[:40]}"
    elif group:
        other = "other cache groups"
    if kind == "AllBlocksCleared":
        return KvEvent(kind, line)
    hashes = fields.get("block_hashes")
    if not isinstance(hashes, list) or not hashes:
        raise BadFieldError(f"{where}block_hashes", "expected an array of hashes")
    hashes = [_hash(h, f"{where}block_hashes") for h in hashes]
    if kind == "BlockRemoved" or other:
        return KvEvent(kind, line, block_hashes=hashes, other=other)
    return _stored(fields, hashes, where, line)


def _stored(fields: JsonObject, hashes: list[Hashable], where: str, line: int) -> KvEvent:
    size = fields.get("block_size")
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise BadFieldError(f"{where}block_size", "expected a whole number above 0")
    tokens = _tokens(fields.get("token_ids"), f"{where}token_ids")
    if len(tokens) != size * len(hashes):
        told = f"{len(tokens)} tokens, expected {len(hashes)} blocks of {size}"
        raise BadFieldError(f"{where}token_ids", told)
    parent = fields.get("parent_block_hash")
    keys = fields.get("extra_keys")
    first = keys[0] if isinstance(keys, list) and keys else None
    return KvEvent(
        "BlockStored",
        line,
        block_hashes=hashes,
        parent=None if parent is None else _hash(parent, f"{where}parent_block_hash"),
        token_ids=tokens,
        block_size=size,
        salt=_salt(fields.get("lora_name"), fields.get("lora_id"), first),
    )


def _hash(value: object, where: str) -> Hashable:
    if isinstance(value, bool) or not isinstance(value, int | bytes | str):
        raise BadFieldError(where, "a hash is a whole number, bytes or a string")
    return value


def _tokens(value: object, where: str) -> npt.NDArray[np.uint32]:
    if not isinstance(value, list) or any(type(token) is not int for token in value):
        raise BadFieldError(where, "expected an array of whole numbers")
    if value and (min(value) < 0 or max(value) >= 2**32):
        raise BadFieldError(where, "a token id is not from 0 to 4294967295")
    return np.array(value, dtype=np.uint32)


def _salt(lora_name: object, lora_id: object, keys: object) -> str:
    """Name what isolates a prompt: its adapter, and the extra keys of its first block."""
    lora = lora_name if lora_name is not None else lora_id
    extra = [key for key in keys if key is not None] if isinstance(keys, list) else []
    if extra and lora is not None and extra[0] in (lora, str(lora), ["lora", lora]):
        del extra[0]  # said by the fields of their own
    parts = [
        key[1] if isinstance(key, list) and len(key) == 2 and key[0] == "cache_salt" else key
        for key in extra
        if not (isinstance(key, list) and key and key[0] == "lora")
    ]
    if lora is None and len(parts) < 2:  # a salt alone goes by its own name
        return salt_name(*parts)
    name = salt_name("" if lora is None else str(lora), *parts)
    return name if "/" in name else name + "/"  # an adapter is no salt of the same name


class MsgpackRows(CheckedRows):
    """The messages of a msgpack stream; the line of a message is its 1-based number.

    Parameters
    ----------
    path : Path
    options : ReadOptions

    Attributes
    ----------
    rows : list of list of KvEvent
    """

    row_end = b""

    def __init__(self, path: Path, options: ReadOptions) -> None:
        super().__init__(path, options)
        self.rows: list[list[KvEvent]] = []
        lines = []
        for number, value in self._messages():
            try:
                self.rows.append(parse_message(value, number))
                lines.append(number)
            except BadFieldError as bad:
                self._bad(number, str(bad), _packed(value))
            if self._unreadable is not None:
                break
        self._set_lines(np.array(lines, dtype=np.uint64))

    def _messages(self) -> Iterator[tuple[int, object]]:
        import msgpack

        number = 0
        with reading(self.path) as file:
            unpacker = msgpack.Unpacker(
                strict_map_key=False,
                max_buffer_size=_LARGEST_MESSAGE,
                max_array_len=_LONGEST_ARRAY,
                max_map_len=_LONGEST_ARRAY,
                max_str_len=_LONGEST_STRING,
                max_bin_len=_LONGEST_STRING,
                max_ext_len=_LONGEST_STRING,
            )
            while block := file.read(1 << 16):
                if self._options.progress is not None:
                    self._options.progress(len(block))
                try:
                    unpacker.feed(block)
                    for value in unpacker:
                        number += 1
                        yield number, value
                except (ValueError, TypeError, msgpack.exceptions.UnpackException) as error:
                    told = " ".join(str(error).split()) or type(error).__name__
                    self._bad(number + 1, f"not valid msgpack ({told}), the rest is not read", b"")
                    return
            if not _at_end(unpacker):
                self._bad(number + 1, "not valid msgpack (cut off)", b"")


def _at_end(unpacker: msgpack.Unpacker) -> bool:
    """Whether no object is unfinished: then a nil comes back as it is."""
    unpacker.feed(_NIL)
    try:
        return next(iter(unpacker), unpacker) is None
    except (ValueError, TypeError):
        return False


def _packed(value: object) -> bytes:
    import msgpack

    try:
        packed: bytes = msgpack.packb(value)
    except ValueError:  # nested deeper than can be written
        return b""
    return packed


def read_rows(path: Path, options: ReadOptions) -> JsonRows[list[KvEvent]] | MsgpackRows:
    """Read the messages of a recording; each row is the events of one."""
    with reading(path) as file:
        head = file.read(1)
    if is_msgpack(head):
        rows: JsonRows[list[KvEvent]] | MsgpackRows = MsgpackRows(path, options)
    else:
        rows = JsonRows(path, parse_message, options)
    rows.raise_unreadable()
    return rows


def read_recording(path: str | Path, *, skip_bad_rows: bool = False) -> Recording:
    """Read a recording, msgpack or JSON Lines.

    Raises
    ------
    InputError
        ``file:line: field: problem``; lines are messages in msgpack.
    """
    return _recording(read_rows(Path(path), ReadOptions(skip_bad_rows=skip_bad_rows)), path)


def _recording(rows: JsonRows[list[KvEvent]] | MsgpackRows, path: str | Path) -> Recording:
    return Recording((event for row in rows.rows for event in row), str(path))


def _read(path: Path, options: ReadOptions) -> Trace:
    rows = read_rows(path, options)
    recording = _recording(rows, path)
    lost = recording.left_out
    if not len(recording):
        facts = "; ".join(f"{reason}: {count:,} events" for reason, count in lost.items())
        msg = (
            f"{path}: no request can be rebuilt, no BlockStored starts a prompt ({facts or 'none'})"
        )
        raise InputError(msg)
    rows.follow(recording.request_lines())
    trace = rows.finish(recording.trace())
    skipped = {**trace.meta.get("rows_skipped", {}), **lost}
    return trace.replace(meta={**trace.meta, "rows_skipped": skipped}) if skipped else trace


def _matches(head: Head) -> Confidence:
    own = is_msgpack(head.start) or is_message(head.value)
    return Confidence.CERTAIN if own else Confidence.NO


FORMAT = Format(
    name="kv-events",
    title="vLLM KV events, msgpack or JSONL: BlockStored, BlockRemoved, AllBlocksCleared",
    family=Family.BINARY | Family.JSON,
    matches=_matches,
    read=_read,
)
