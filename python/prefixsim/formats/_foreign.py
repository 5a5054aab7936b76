"""What a file is that is no trace: said in a line, with what to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

__all__ = ["of_another_kind", "of_chats", "of_fields"]

# First bytes, after decompression, and what a file that begins with them is.
_KINDS: tuple[tuple[bytes, str], ...] = (
    (b"\x89PNG\r\n\x1a\n", "is a PNG picture, not a trace"),
    (b"\xff\xd8\xff", "is a JPEG picture, not a trace"),
    (b"GIF8", "is a GIF picture, not a trace"),
    (b"%PDF-", "is a PDF document, not a trace"),
    (b"PK\x03\x04", "is a zip archive (or a spreadsheet), unpack it or save it as CSV"),
    (b"\x1f\x8b", "is compressed twice, decompress it once"),
    (b"\x28\xb5\x2f\xfd", "is compressed twice, decompress it once"),
    (b"BZh", "is compressed with bzip2, decompress it or use gzip or Zstandard"),
    (b"\xfd7zXZ\x00", "is compressed with xz, decompress it or use gzip or Zstandard"),
    (b"7z\xbc\xaf\x27\x1c", "is a 7z archive, unpack it"),
    (b"\xff\xfe", "is UTF-16 text, save it as UTF-8"),
    (b"\xfe\xff", "is UTF-16 text, save it as UTF-8"),
    (b"SQLite format 3\x00", "is an SQLite database, export a table as JSON Lines"),
    (b"\x89HDF\r\n\x1a\n", "is an HDF5 file, save it as Parquet"),
    (b"\x93NUMPY", "is a NumPy array, make a trace with Trace.from_prompts"),
    *(
        (
            bytes([0x80, version]),
            "is a Python pickle, which runs code when it is read, and is refused; SGLang writes "
            "JSON with --log-requests --log-requests-level 3 --log-requests-format json, other "
            "data can be saved as Parquet or JSON Lines",
        )
        for version in (2, 3, 4, 5)
    ),
    (b"\x7fELF", "is a program, not a trace"),
    (b"<", "is HTML or XML, not a trace"),
    (b"---", "is YAML, write one JSON object a line"),
)

# What each format cannot do without.
_NEEDED: dict[str, tuple[str, ...]] = {
    "bailian": ("chat_id", "parent_chat_id", "timestamp", "input_length", "hash_ids"),
    "mooncake": ("timestamp", "input_length", "output_length", "hash_ids"),
    "lmcache": ("timestamp", "session_id", "input", "output"),
    "azure": ("TIMESTAMP", "ContextTokens", "GeneratedTokens"),
    "burstgpt": ("Timestamp", "Request tokens", "Response tokens"),
    "openai": ("messages",),
    "litellm": ("startTime", "call_type", "litellm_call_id", "proxy_server_request", "messages"),
    "langfuse": ("start_time", "trace_id", "type", "input", "output", "usage_details"),
    "otel": ("context", "start_time", "end_time", "attributes", "kind"),
    "helicone": ("request_created_at", "request_body", "response_body", "request_properties"),
    "portkey": ("created_at", "request", "response", "ai_model", "response_status_code"),
    "envoy": ("start_time", "response_code", "request_body", "duration", "upstream_host"),
    "nginx": ("msec", "request_time", "request_body", "status", "remote_addr"),
    "bedrock": ("schemaType", "modelId", "input", "output", "timestamp", "requestId"),
    "vertex": ("logging_time", "full_request", "full_response", "api_method"),
    "batch": ("custom_id", "url", "body", "method"),
    "anthropic": ("timestamp", "request", "response", "path"),
}
_PROMPTS = ("token_ids", "hash_ids", "text")
_CHATS = ("conversations", "conversation")
_CHAT_DATA = "{path}: is chat data, make a trace of it with 'prefixsim trace --data-path {path}'"


def of_another_kind(path: Path, head: bytes, line: bytes) -> str | None:
    """Say what a file is by its first bytes, if it is something else than JSON, CSV or Parquet."""
    for magic, what in _KINDS:
        if head.startswith(magic):
            return f"{path}: {what}"
    if line.count(b";") >= 2 and b"," not in line and b"{" not in line:
        return f"{path}:1: columns are separated by semicolons, separate them by commas"
    if line.count(b"\t") >= 2 and b"{" not in line:
        return f"{path}:1: columns are separated by tabs, separate them by commas"
    return None


def of_chats(path: Path, text: bytes) -> str | None:
    """Say that a file is chat data, if its first bytes look like it."""
    if any(b'"%s"' % name.encode() in text for name in (*_CHATS, "messages", "mapping")):
        return _CHAT_DATA.format(path=path)
    return None


def of_fields(
    path: Path, fields: list[str], row: Mapping[str, object] | None, names: Sequence[str]
) -> str:
    """Say which field is missing of the format that the fields come closest to.

    Where none is close, the ``names`` of all formats are listed.
    """
    if row is not None and any(name in row for name in (*_CHATS, "messages")):
        return _CHAT_DATA.format(path=path)
    known = set(fields)
    closest = max(_NEEDED, key=lambda name: len(known.intersection(_NEEDED[name])))
    shared = known.intersection(_NEEDED[closest])
    absent = [name for name in _NEEDED[closest] if name not in known]
    if len(shared) >= 2 and absent:
        return f"{path}:1: {absent[0]}: missing, if this is a trace of format {closest}"
    if known.intersection(_PROMPTS):
        return f"{path}:1: timestamp: missing, give the seconds of each request"
    if "timestamp" in known:
        return f"{path}:1: no prompt, give one of {', '.join(_PROMPTS)} with each timestamp"
    listed = ", ".join(fields[:8])
    return f"{path}:1: fields ({listed}) fit no trace format: {', '.join(names)}"
