"""A process that makes lines of calls, so that the one that passes them never waits for that.

Parsing and writing JSON hold Python's lock; in a thread beside the proxy a batch of a few hundred
calls keeps the next call waiting for milliseconds. Rows go through a pipe to a process of low
priority and come back as bytes. When the recorder dies the pipe ends and the process with it.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess

__all__ = ["EncoderProcess"]

Encode = Callable[[Sequence[object]], bytes]

_NICE = 10


class EncoderProcess:
    """A function from rows to bytes, called in a process of its own.

    Parameters
    ----------
    encode : callable
        A function that can be pickled. If the process dies, it is called here instead.

    Raises
    ------
    RuntimeError
        From a call, with the message of what ``encode`` raised.
    """

    def __init__(self, encode: Encode) -> None:
        self._encode = encode
        self._pipe: Connection | None = None
        self._process: SpawnProcess | None = None

    def start(self) -> None:
        """Start the process; calls made before are served here."""
        context = multiprocessing.get_context("spawn")
        ours, its = context.Pipe()
        process = context.Process(target=_serve, args=(its, self._encode), daemon=True)
        try:
            process.start()
        except (OSError, AssertionError):  # The latter: a daemonic process may have no children.
            ours.close()
        else:
            self._pipe, self._process = ours, process
        finally:
            its.close()

    def __call__(self, rows: Sequence[object]) -> bytes:
        """Return the bytes of some rows."""
        if self._pipe is not None:
            try:
                self._pipe.send(rows)
                encoded = self._pipe.recv()
            except (EOFError, OSError):
                self.close()
            else:
                if isinstance(encoded, str):
                    raise RuntimeError(encoded)
                return bytes(encoded)
        return self._encode(rows)

    def close(self) -> None:
        """End the process."""
        if self._pipe is not None:
            self._pipe.close()
            self._pipe = None
        if self._process is not None:
            self._process.join(5)
            self._process = None


def _serve(pipe: Connection, encode: Encode) -> None:
    """Answer until the pipe ends; signals to the group are for the recorder."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    with suppress(OSError, AttributeError):
        os.nice(_NICE)
    with suppress(EOFError, OSError):
        while True:
            rows = pipe.recv()
            try:
                answer: bytes | str = encode(rows)
            except Exception as error:
                answer = str(error) or type(error).__name__
            pipe.send(answer)
