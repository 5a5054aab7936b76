"""Chained hashes of full blocks, prefixsim's own and those of vLLM."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from prefixsim import _core

__all__ = ["HashAlgorithm", "hash_blocks", "published_hash"]

HashAlgorithm = Literal["xxh3", "sha256_cbor", "sha256", "xxhash_cbor", "xxhash"]
"""``xxh3`` is prefixsim's default; the others are vLLM's ``--prefix-caching-hash-algo``."""


def hash_blocks(
    tokens: Sequence[int] | npt.NDArray[np.integer],
    block_size: int = 16,
    algorithm: HashAlgorithm = "xxh3",
    *,
    salt: str | None = None,
    lora: tuple[str, str] | None = None,
    multimodal: Sequence[tuple[str, int, int]] | None = None,
    extra_keys: Sequence[object] | None = None,
    seed: str | None = None,
) -> list[bytes]:
    """Hash the full blocks of a prompt; a trailing partial block has no hash.

    The hash of a block depends on every token before it. ``xxh3`` gives 8 bytes: XXH3-64 of the
    parent's hash and the XXH3-64 of the block's tokens (little-endian uint32). The others equal,
    byte for byte, what vLLM 0.33 computes: 32 bytes for ``sha256*``, 16 for ``xxhash*``.

    Parameters
    ----------
    tokens : sequence of int
        Token ids; a uint32 array is not copied.
    block_size : int
        Tokens per block.
    algorithm : {"xxh3", "sha256_cbor", "sha256", "xxhash_cbor", "xxhash"}
    salt : str, optional
        vLLM's ``cache_salt``.
    lora : (str, str), optional
        Name and path of the adapter.
    multimodal : sequence of (identifier, offset, length), optional
        Images and the like, by ascending offset of their first placeholder token.
    extra_keys : sequence, optional
        One entry per block, ``None`` or a tuple as in vLLM, in place of the three above.
    seed : str, optional
        The server's ``PYTHONHASHSEED``, from which vLLM's chains start. Without one, vLLM starts
        the xxhash algorithms at random; here they start where the SHA-256 ones do.

    Returns
    -------
    list of bytes

    Examples
    --------
    >>> hashes = hash_blocks(range(40), block_size=16, algorithm="sha256_cbor")
    >>> len(hashes), len(hashes[0])
    (2, 32)
    """
    return _core.hash_blocks(
        tokens,
        block_size,
        algorithm,
        salt=salt,
        lora=lora,
        multimodal=multimodal,
        extra_keys=extra_keys,
        seed=seed,
    )


def published_hash(block_hash: bytes) -> int:
    """Return the 64-bit integer form in which vLLM publishes a block hash in its KV events.

    Examples
    --------
    >>> hex(published_hash(bytes(range(32))))
    '0x18191a1b1c1d1e1f'
    """
    return int.from_bytes(block_hash[-8:], "big")
