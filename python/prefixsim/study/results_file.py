"""Results of many runs, kept in a file while they come, so that a run that was ended can go on.

JSON Lines: the first line says what the results are of, each other one has the key of a run and its
result. A last line that was cut off is done again.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np

from prefixsim._core import __version__
from prefixsim._json import JsonObject
from prefixsim.errors import InputError

__all__ = ["ResultsFile"]

_ARRAY = "$array"


class ResultsFile:
    """The file, opened in a ``with`` block; found results are in :attr:`found`.

    Parameters
    ----------
    path : path
        Made if it is not there.
    kind : str
        What runs they are: ``sweep``, ``compare``, ``fleet``.
    digest : str
        Of the trace.

    Attributes
    ----------
    found : dict of str to object
        Result of each key.

    Raises
    ------
    InputError
        If the file holds something else, or cannot be written.
    """

    def __init__(self, path: str | Path, kind: str, digest: str) -> None:
        self._path = Path(path)
        self._head = {"prefixsim": __version__, "results": kind, "trace": digest}
        self._file: IO[bytes] | None = None
        self.found: dict[str, Any] = {}

    def __enter__(self) -> ResultsFile:
        try:
            file = self._file = self._path.open("a+b")
            file.seek(0)
            self._read(file)
        except OSError as error:
            msg = f"{self._path}: cannot be written ({error.strerror})"
            raise InputError(msg) from None
        except InputError:
            file.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._file is not None:
            self._file.close()

    def _read(self, file: IO[bytes]) -> None:
        kept, line = 0, b""
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                break
            row = _parsed(line)
            if number == 1:
                self._check(row)
            elif not isinstance(row, dict) or row.keys() != {"run", "result"}:
                msg = f"{self._path}:{number}: is no result of a run, give another file"
                raise InputError(msg)
            else:
                self.found[row["run"]] = _decoded(row["result"])
            kept += len(line)
        if not kept and not _line(self._head).startswith(line):
            self._check(None)  # it has no line end, and is not our first line cut off
        file.truncate(kept)
        if not kept:
            self._write(self._head)

    def _check(self, head: object) -> None:
        """Refuse results of other runs."""
        if not isinstance(head, dict) or head.keys() != self._head.keys():
            msg = f"{self._path}:1: holds no results of runs, give another file"
            raise InputError(msg)
        for name, words in (("results", "command"), ("trace", "trace"), ("prefixsim", "version")):
            if head[name] != self._head[name]:
                msg = f"{self._path}:1: holds results of another {words}, give another file"
                raise InputError(msg)

    def add(self, run: str, result: object) -> None:
        """Append the result of a run; it is in the file when this returns."""
        self._write({"run": run, "result": _encoded(result)})

    def _write(self, row: JsonObject) -> None:
        assert self._file is not None, "write inside the with block"
        self._file.write(_line(row))
        self._file.flush()
        os.fsync(self._file.fileno())


def _line(row: JsonObject) -> bytes:
    return json.dumps(row, separators=(",", ":")).encode() + b"\n"


def _parsed(line: bytes) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return None


def _encoded(value: object) -> Any:
    """Return a value as JSON can hold it, arrays with their bytes."""
    if isinstance(value, np.ndarray):
        little = value.astype(value.dtype.newbyteorder("<"), copy=False)
        data = base64.b64encode(little.tobytes()).decode()
        return {_ARRAY: [little.dtype.str, list(value.shape), data]}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, dict):
        return {str(k): _encoded(v) for k, v in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_encoded(v) for v in value]
    return value


def _decoded(value: Any) -> Any:
    if isinstance(value, list):
        return [_decoded(v) for v in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {_ARRAY}:
        kind, shape, data = value[_ARRAY]
        array = np.frombuffer(base64.b64decode(data), dtype=np.dtype(kind)).reshape(shape)
        return array.astype(array.dtype.newbyteorder("="))
    return {k: _decoded(v) for k, v in value.items()}
