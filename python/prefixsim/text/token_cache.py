"""Token ids of texts, kept in a folder from one run to the next.

Work is cut into shards of texts. A shard that is done is one file, named by the digest of the
tokenizer and of every text in the shard, written whole or not at all: after an interruption only
what is missing is done again, and nothing stale can be found. A file that is damaged is as good as
none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from prefixsim._core import digest_columns
from prefixsim._files import atomic_path, check_writable

__all__ = ["TokenCache"]

Tokens = npt.NDArray[np.uint32]

# Magic, 32 hex digits of a digest of all that follows, number of texts, their lengths, token ids.
_MAGIC = b"prefixsim tokens 1\n"
_DIGEST_BYTES = 32
_HEAD_BYTES = len(_MAGIC) + _DIGEST_BYTES
_ENDING = ".tokens"


class TokenCache:
    """Shards of encoded texts in a folder.

    Parameters
    ----------
    folder : path
        Made if it is missing.
    tokenizer : str
        Digest of the tokenizer's content.

    Attributes
    ----------
    found, made : int
        Shards read from the folder, and shards encoded.

    Raises
    ------
    InputError
        If the folder cannot be written.
    """

    def __init__(self, folder: str | Path, tokenizer: str) -> None:
        self._folder = Path(folder)
        check_writable(self._folder, folder=True)
        self._tokenizer = tokenizer
        self.found = 0
        self.made = 0

    def encode(
        self,
        texts: Sequence[str],
        how: str,
        encode: Callable[[Sequence[str]], Sequence[Tokens]],
    ) -> list[Tokens]:
        """Return the ids of each text, from the folder or from ``encode``.

        Parameters
        ----------
        texts : sequence of str
            One shard.
        how : str
            Tells apart ways to encode the same text.
        encode : callable
            Encodes all of them.
        """
        path = self._path(texts, how)
        kept = _load(path, len(texts))
        if kept is not None:
            self.found += 1
            return kept
        done = list(encode(texts))
        _save(path, done)
        self.made += 1
        return done

    def _path(self, texts: Sequence[str], how: str) -> Path:
        digest = hashlib.blake2b(f"{self._tokenizer}\n{how}\n{len(texts)}\n".encode())
        for text in texts:
            data = text.encode()
            digest.update(len(data).to_bytes(8, "little"))
            digest.update(data)
        name = digest.hexdigest()[:40]
        return self._folder / name[:2] / f"{name[2:]}{_ENDING}"


def _checksum(body: bytes) -> bytes:
    return digest_columns([np.frombuffer(body, dtype=np.uint8)]).encode()


def _save(path: Path, arrays: Sequence[Tokens]) -> None:
    lengths = np.array([len(arrays), *map(len, arrays)], dtype="<u8")
    body = b"".join([lengths.tobytes(), *(a.astype("<u4").tobytes() for a in arrays)])
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        temporary.write_bytes(_MAGIC + _checksum(body) + body)


def _load(path: Path, count: int) -> list[Tokens] | None:
    """Read a shard; ``None`` if there is none, or not one of so many texts, or it is damaged."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    body = data[_HEAD_BYTES:]
    if not data.startswith(_MAGIC) or data[len(_MAGIC) : _HEAD_BYTES] != _checksum(body):
        return None
    start = 8 * (count + 1)
    lengths = np.frombuffer(body[:start], dtype="<u8").astype(np.int64)
    if len(lengths) != count + 1 or lengths[0] != count:
        return None
    ids = np.frombuffer(body[start:], dtype="<u4").astype(np.uint32)
    return np.split(ids, np.cumsum(lengths[1:-1])) if count else []
