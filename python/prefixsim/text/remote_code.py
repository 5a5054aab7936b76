"""The consent to run the code that a tokenizer brings with it: asked for, never assumed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

__all__ = ["allow_remote_code", "remote_code", "remote_code_allowed"]

_allowed: ContextVar[bool] = ContextVar("prefixsim_remote_code", default=False)


def remote_code_allowed() -> bool:
    """Whether a tokenizer may run Python files of its own."""
    return _allowed.get()


def allow_remote_code() -> None:
    """Let tokenizers run Python of their own, until the enclosing :func:`remote_code` ends."""
    _allowed.set(True)


@contextmanager
def remote_code(allowed: bool) -> Iterator[None]:
    """Allow or forbid, within the block, that tokenizers run Python files of their own.

    Parameters
    ----------
    allowed : bool
        Such files run with the rights of the user: read them before allowing it. Forbidden outside
        any block.
    """
    token = _allowed.set(allowed)
    try:
        yield
    finally:
        _allowed.reset(token)
