"""Append-only files of a recording: lines that are whole, written behind the traffic's back.

Rows wait in a queue of bounded size and are written by a thread, at the latest after
:data:`FLUSH_S`; the caller is never kept waiting and never sees an error. When the queue is full
rows are dropped and counted. When the disk is full, or gone, recording stops and says so.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

__all__ = ["FLUSH_S", "Journal", "repair"]

FLUSH_S = 0.5
"""Seconds within which a row is on disk."""

_MODE = 0o600
_QUEUE_BYTES = 128 << 20


class Journal:
    """One file of a recording.

    Parameters
    ----------
    path : Path
        Made with mode 600; a cut last line, of a process that was killed, is dropped first.
    encode : callable
        Makes bytes, whole lines or messages, of the rows that wait.
    lines : bool, optional
        Whether the file is made of lines.
    most_bytes : int, optional
        Sizes of waiting rows, as :meth:`add` is told them, at most.

    Attributes
    ----------
    written, dropped : int
        Rows on disk, and rows that found the queue full or came after the disk was.
    stopped : str
        Why nothing is written any more; empty while it is.
    """

    def __init__(
        self,
        path: Path,
        encode: Callable[[Sequence[object]], bytes],
        *,
        lines: bool = True,
        most_bytes: int = _QUEUE_BYTES,
    ) -> None:
        self.path = path
        self.written = 0
        self.dropped = 0
        self.stopped = ""
        self._encode = encode
        self._most = most_bytes
        self._waiting: deque[tuple[object, int]] = deque()
        self._bytes = 0
        self._done = threading.Event()
        if lines:
            repair(path)
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, _MODE)
        os.fchmod(self._file, _MODE)
        self._thread = threading.Thread(target=self._run, name=f"journal {path.name}", daemon=True)
        self._thread.start()

    def add(self, row: object, size: int) -> None:
        """Let a row be written; never waits, never fails.

        Parameters
        ----------
        row : object
            What ``encode`` takes.
        size : int
            Bytes it holds, about.
        """
        if self.stopped or self._bytes + size > self._most:
            self.dropped += 1
            return
        self._bytes += size
        self._waiting.append((row, size))

    def close(self) -> None:
        """Write what waits, and close the file."""
        self._done.set()
        self._thread.join()
        os.close(self._file)

    def _run(self) -> None:
        while not self._done.wait(FLUSH_S / 2):
            self._write()
        self._write()

    def _write(self) -> None:
        rows: list[object] = []
        size = 0
        while self._waiting:
            row, one = self._waiting.popleft()
            rows.append(row)
            size += one
        self._bytes -= size
        if not rows or self.stopped:
            self.dropped += len(rows)
            return
        try:
            left = memoryview(self._encode(rows))
            while left:
                left = left[os.write(self._file, left) :]
            os.fdatasync(self._file)
            self.written += len(rows)
        except Exception as error:
            self.dropped += len(rows)
            self.stopped = str(error) or type(error).__name__
            told = f"{self.path}: recording stopped at {time.strftime('%H:%M:%S')}: {self.stopped}"
            sys.stderr.write(f"prefixsim: {told}; traffic goes on\n")
            self._repair_quietly()

    def _repair_quietly(self) -> None:
        with suppress(OSError):
            repair(self.path)


def repair(path: Path) -> int:
    """Drop a last line that was cut; return how many bytes that were."""
    if not path.is_file():
        return 0
    with path.open("rb+") as file:
        end = file.seek(0, os.SEEK_END)
        at = end
        while at:
            start = max(at - (1 << 16), 0)
            file.seek(start)
            found = file.read(at - start).rfind(b"\n")
            if found >= 0:
                at = start + found + 1
                break
            at = start
        if at < end:
            file.truncate(at)
        return end - at
