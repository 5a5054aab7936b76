"""Typed surface of the Rust extension."""

from collections.abc import Sequence
from typing import Any, final

import numpy as np
import numpy.typing as npt

__version__: str
DEBUG_BUILD: bool

_Ids = npt.NDArray[np.uint32] | npt.NDArray[np.uint64]

def json_lists(offsets: npt.NDArray[np.uint64], values: _Ids) -> list[bytes]: ...
def keyed_hashes(
    offsets: npt.NDArray[np.uint64], values: _Ids, chunk: int, key: bytes
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]: ...
def tree_keys(
    offsets: npt.NDArray[np.uint64], values: _Ids, head: int, seed: int
) -> npt.NDArray[np.uint64]: ...
def digest_columns(columns: Sequence[npt.NDArray[np.uint8]]) -> str: ...

@final
class JsonlReader:
    def __new__(
        cls, fields: Sequence[tuple[str, str, bool]], *, skip_bad_rows: bool = False
    ) -> JsonlReader: ...
    @property
    def rows(self) -> int: ...
    def feed(self, block: bytes) -> None: ...
    def end(self) -> None: ...
    def finish(self) -> dict[str, Any]: ...
