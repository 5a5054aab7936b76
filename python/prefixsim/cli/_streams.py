"""Standard streams that the caller closed."""

from __future__ import annotations

import os
import sys

__all__ = ["reserve_closed"]


def reserve_closed() -> bool:
    """Put the null device where a standard stream is closed; return whether output was.

    Otherwise the next file that is opened would get its number, and messages would go into it.
    """
    output_closed = sys.stdout is None
    while (handle := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(handle, True)
    os.close(handle)
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    return output_closed
