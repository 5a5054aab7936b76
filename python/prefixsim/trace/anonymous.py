"""What an anonymized trace needs besides hashed prompts: a strong key, vaguer times and lengths."""

from __future__ import annotations

import hashlib
import os
import secrets
from pathlib import Path

import numpy as np

from prefixsim.errors import InputError
from prefixsim.trace.columns import Ragged
from prefixsim.trace.trace import Trace

__all__ = ["KEY_BYTES", "check_key", "coarsen_lengths", "key_from_file", "key_from_text", "new_key"]

KEY_BYTES = 32
_LEAST_DISTINCT = 12  # byte values of a key; 32 random bytes have fewer once in 10^13
_ADVICE = "give 64 random hexadecimal digits, for example of 'openssl rand -hex 32'"
_LARGEST_LENGTH = 2**32 - 1


def new_key() -> bytes:
    """Return 256 random bits."""
    return secrets.token_bytes(KEY_BYTES)


def check_key(key: bytes) -> bytes:
    """Refuse a key that could be guessed.

    Parameters
    ----------
    key : bytes
        At least 32 random bytes.

    Raises
    ------
    InputError
        If it is shorter, or repeats few byte values.
    """
    if len(key) < KEY_BYTES or len(set(key)) < _LEAST_DISTINCT:
        msg = f"the key is too weak: whoever guesses it can try out tokens; {_ADVICE}"
        raise InputError(msg)
    return key


def key_from_text(text: str, where: str) -> bytes:
    """Read a key written as hexadecimal digits; ``where`` is named in messages."""
    try:
        return check_key(bytes.fromhex(text.strip()))
    except InputError as error:
        msg = f"{where}: {error}"
        raise InputError(msg) from None
    except ValueError:
        msg = f"{where}: is no key, {_ADVICE}"
        raise InputError(msg) from None


def key_from_file(path: str | Path) -> bytes:
    """Return the key that a file holds; if there is none, make one and keep it, with mode 600.

    Raises
    ------
    InputError
        If the file can be read by other users, or holds no strong key.
    """
    path = Path(path)
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        mode = path.stat().st_mode & 0o777
        if mode & 0o077:
            msg = f"{path}: other users can read the key (mode {mode:o}), run chmod 600 {path}"
            raise InputError(msg) from None
        with path.open(encoding="ascii", errors="replace") as file:
            return key_from_text(file.read(1 << 12), str(path))
    key = new_key()
    with os.fdopen(handle, "w", encoding="ascii") as file:
        file.write(key.hex() + "\n")
    return key


def coarsen_lengths(trace: Trace, multiple: int, *, key: bytes) -> Trace:
    """Round prompt and output lengths up to a multiple; what prompts share stays exact.

    Full blocks of a prompt stay. What is added, and a partial last block, become ids that no other
    prompt has, so nothing more is shared than was.

    Parameters
    ----------
    trace : Trace
        Anonymized.
    multiple : int
        In tokens; a multiple of the tokens per hash id.
    key : bytes
        Makes the added ids, together with the content of the trace.

    Raises
    ------
    InputError
        If ``multiple`` does not fit the trace, or lengths do not fit 32 bits.
    """
    size = trace.id_block_size
    prompts = trace.prompts
    assert prompts is not None
    if multiple < 1 or multiple % size or multiple > _LARGEST_LENGTH:
        msg = f"length multiple {multiple}: must be a multiple of {size}, the tokens per hash id"
        raise InputError(msg)
    lengths = [
        -(-column.astype(np.int64) // multiple) * multiple
        for column in (trace.prompt_len, trace.output_len)
    ]
    if any(column.max(initial=0) > _LARGEST_LENGTH for column in lengths):
        msg = f"{trace.name}: lengths rounded up to {multiple} do not fit 32 bits"
        raise InputError(msg)
    counts = lengths[0] // size
    kept = np.minimum(trace.prompt_len // np.uint32(size), prompts.lengths).astype(np.int64)
    offsets = np.concatenate([[0], np.cumsum(counts)])
    salt = hashlib.sha256(len(key).to_bytes(8, "little") + key + trace.digest.encode()).digest()
    made = hashlib.shake_256(b"prefixsim added ids" + salt).digest(8 * int(offsets[-1]))
    ids = np.frombuffer(made, dtype="<u8").astype(np.uint64)
    row = np.repeat(np.arange(len(trace)), kept)
    place = np.arange(int(kept.sum())) - np.repeat(np.cumsum(kept) - kept, kept)
    starts = prompts.offsets[:-1].astype(np.int64)
    ids[offsets[row] + place] = prompts.values[starts[row] + place]
    return trace.replace(
        prompt_len=lengths[0].astype(np.uint32),
        output_len=lengths[1].astype(np.uint32),
        prompts=Ragged(offsets.astype(np.uint64), ids),
    )
