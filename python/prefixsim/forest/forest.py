"""The forest: a trace compiled once, to be asked at any block size and capacity."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from prefixsim import _core
from prefixsim._files import atomic_write
from prefixsim._json import JsonObject
from prefixsim.errors import InputError
from prefixsim.table import Table, html, written
from prefixsim.trace import Trace

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Forest", "ForestStats", "compile"]

_NO_DIGEST = "0" * 32  # in a pickle, which holds the trace itself


@dataclass(frozen=True)
class ForestStats:
    """Figures of a forest.

    Attributes
    ----------
    requests : int
    nodes : int
        Segments, roots included.
    heavy_paths : int
        Chains the nodes fall into; see ``docs/forest.md``.
    depth : int
        The longest sequence, in tokens.
    height : int
        The most segments on one path from a root.
    """

    requests: int
    nodes: int
    heavy_paths: int
    depth: int
    height: int


class Forest:
    """Every sequence of a trace in one radix tree per salt.

    Made by :func:`prefixsim.compile`; immutable.

    Attributes
    ----------
    trace : Trace

    Examples
    --------
    >>> import prefixsim
    >>> forest = prefixsim.compile(prefixsim.Trace.from_prompts([range(40), range(48)]))
    >>> forest
    <Forest of memory: 2 requests, 3 nodes>
    >>> forest.unique_blocks(8), forest.stats.depth
    (6, 48)
    """

    def __init__(self, trace: Trace, core: _core.Forest) -> None:
        self._set(trace, core)

    def _set(self, trace: Trace, core: _core.Forest) -> None:
        if core.requests != len(trace):
            msg = f"{trace.name}: {len(trace)} requests, but the forest has {core.requests}"
            raise InputError(msg)
        self.trace = trace
        self._core = core
        self._profiles: dict[int, _core.Profile] = {}
        self._curves: dict[int, _core.Curve] = {}

    def __getstate__(self) -> JsonObject:
        """Return what a pickle keeps: the trace and the tree, of which all else is made again."""
        return {"trace": self.trace, "forest": self._core.to_bytes(_NO_DIGEST)}

    def __setstate__(self, state: JsonObject) -> None:
        trace, data = state["trace"], state["forest"]
        partial_blocks, outputs = _core.forest_options(data)
        columns = _columns(trace, outputs, partial_blocks)
        self._set(trace, _core.load_forest(data, _NO_DIGEST, **columns))

    def __repr__(self) -> str:
        return f"<Forest of {self.trace.name}: {len(self.trace):,} requests, {self.nodes:,} nodes>"

    def _repr_html_(self) -> str:
        stats = self.stats
        figures = [
            ("requests", stats.requests),
            ("nodes", stats.nodes),
            ("heavy paths", stats.heavy_paths),
            ("longest sequence (tokens)", stats.depth),
            ("most segments on a path", stats.height),
        ]
        rows = [[name, written(value, "count")] for name, value in figures]
        return html([Table(f"Forest of {self.trace.name}", ["", ""], rows)])

    @property
    def nodes(self) -> int:
        """Number of segments, roots included."""
        return self._core.nodes

    @property
    def outputs(self) -> bool:
        """Whether the sequences go on with the outputs."""
        return self._core.outputs

    @property
    def partial_blocks(self) -> bool:
        """Whether trailing partial blocks of a hashed trace are kept."""
        return self._core.partial_blocks

    @property
    def stats(self) -> ForestStats:
        """Figures of the forest."""
        core = self._core
        return ForestStats(
            requests=core.requests,
            nodes=core.nodes,
            heavy_paths=core.heavy_paths,
            depth=core.depth * core.tokens_per_id,
            height=core.height,
        )

    def unique_blocks(self, block_size: int) -> int:
        """Count the distinct full blocks of a size; with outputs, theirs as well."""
        try:
            return self._core.unique_blocks(block_size)
        except (ValueError, OverflowError) as error:
            raise self._wrong(error) from None

    @property
    def core(self) -> _core.Forest:
        """The compiled tree itself, for engines that walk it."""
        return self._core

    def profile(self, block_size: int) -> _core.Profile:
        """Return the forest at a block size; made once, then kept.

        Parameters
        ----------
        block_size : int
            In tokens; for a trace of hash ids a multiple of ``trace.id_block_size``.
        """
        if block_size not in self._profiles:
            trace = self.trace
            try:
                self._profiles[block_size] = self._core.profile(
                    block_size,
                    _u32(trace.prompt_len),
                    np.ascontiguousarray(trace.timestamp, dtype=np.float64),
                    None if trace.category is None else _u32(trace.category.codes),
                )
            except (ValueError, OverflowError) as error:
                raise self._wrong(error) from None
        return self._profiles[block_size]

    def curve(self, block_size: int) -> _core.Curve:
        """Return the LRU curve at a block size; made once, then kept."""
        if block_size not in self._curves:
            self._curves[block_size] = self.profile(block_size).curve()
        return self._curves[block_size]

    def unchained_ids(self) -> npt.NDArray[np.uint64]:
        """Hash ids that follow more than one prefix: none if the ids are chained.

        Hits do not depend on it: prefixes are always compared whole.
        """
        prompts = self.trace.prompts
        if prompts is None or self.trace.kind != "hashes":
            msg = f"{self.trace.name}: has no hash ids"
            raise InputError(msg)
        ids = np.ascontiguousarray(prompts.values, dtype=np.uint64)
        return self._core.unchained_ids(prompts.offsets, ids)

    def session_hits(
        self, hit_blocks: npt.NDArray[np.uint32], block_size: int
    ) -> npt.NDArray[np.uint32]:
        """Of each request's hits, count the blocks an earlier request of its session had had.

        The other hits owe to other sessions. Works for any engine's hits.

        Parameters
        ----------
        hit_blocks : ndarray of uint32, shape (requests,)
            Leading blocks that hit.
        block_size : int

        Raises
        ------
        InputError
            If the trace has no sessions.
        """
        if self.trace.session is None:
            msg = f"{self.trace.name}: no session column, hits cannot be told apart by session"
            raise InputError(msg)
        codes = _u32(self.trace.session.codes)
        ids_per_block = np.uint32(block_size // self._core.tokens_per_id)
        own: npt.NDArray[np.uint32] = self._core.session_depth(codes) // ids_per_block
        return np.minimum(own, _u32(hit_blocks))

    def working_set(self, block_size: int, window_s: float) -> pa.Table:
        """Count the distinct blocks touched in each window of time.

        Parameters
        ----------
        block_size : int
        window_s : float
            Length of a window in seconds.

        Returns
        -------
        pyarrow.Table
            Columns ``start_s``, ``requests``, ``unique_blocks``; windows without requests included.
        """
        import pyarrow as pa

        if not window_s > 0:
            msg = f"a window of {window_s} s, give a length above 0"
            raise InputError(msg)
        times = self.trace.timestamp
        first = float(times[0]) if len(times) else 0.0
        windows = int((times[-1] - first) // window_s) + 1 if len(times) else 0
        starts = first + window_s * np.arange(windows + 1)
        bounds = np.searchsorted(times, starts).astype(np.uint32)
        bounds[-1:] = len(times)
        return pa.table(
            {
                "start_s": starts[:-1],
                "requests": np.diff(bounds),
                "unique_blocks": self.profile(block_size).working_set(bounds),
            }
        )

    def top_prefixes(self, count: int = 20) -> pa.Table:
        """List the shared prefixes that save most: length times (requests - 1).

        Parameters
        ----------
        count : int, optional

        Returns
        -------
        pyarrow.Table
            Columns ``tokens`` (length), ``requests`` (prompts that start with it), ``saved_tokens``
            (what an infinite cache saves by it), ``request`` (row of the first such prompt; its
            leading ``tokens`` are the prefix, see :meth:`prefix_ids`).
        """
        import pyarrow as pa

        ids, requests, first = self._core.shared_prefixes(count)
        tokens = ids.astype(np.uint64) * np.uint64(self._core.tokens_per_id)
        return pa.table(
            {
                "tokens": tokens,
                "requests": requests,
                "saved_tokens": tokens * (requests.astype(np.uint64) - np.uint64(1)),
                "request": first,
            }
        )

    def prefix_ids(
        self, request: int, tokens: int
    ) -> npt.NDArray[np.uint32] | npt.NDArray[np.uint64]:
        """Return the ids of a request's leading tokens, to decode them."""
        prompts = self.trace.prompts
        assert prompts is not None
        ids: npt.NDArray[np.uint32] | npt.NDArray[np.uint64] = prompts[request]
        return ids[: tokens // self._core.tokens_per_id]

    def save(self, path: str | Path, *, digest: str | None = None) -> None:
        """Write the forest to a file, with a checksum and the trace's digest, if known given."""
        atomic_write(path, self._core.to_bytes(digest or self.trace.digest))

    @classmethod
    def load(cls, path: str | Path, trace: Trace, *, digest: str | None = None) -> Forest:
        """Read a forest that :meth:`save` wrote for this very trace.

        The file is read into memory and checked whole: its checksum, every index, every length and
        salt against the trace, and token ids at random places.

        Parameters
        ----------
        path : path
        trace : Trace
        digest : str, optional
            That of the trace, if it is known already.

        Raises
        ------
        InputError
            If the file is missing, no forest, damaged, or that of another trace.
        """
        try:
            data = Path(path).read_bytes()
        except FileNotFoundError:
            msg = f"{path}: no such file"
            raise InputError(msg) from None
        except OSError as error:
            msg = f"{path}: {(error.strerror or str(error)).lower()}"
            raise InputError(msg) from None
        try:
            partial_blocks, outputs = _core.forest_options(data)
            columns = _columns(trace, outputs, partial_blocks)
            core = _core.load_forest(data, digest or trace.digest, **columns)
        except ValueError as error:
            msg = f"{path}: {error}, compile {trace.name} again"
            raise InputError(msg) from None
        return cls(trace, core)

    def _wrong(self, error: Exception) -> InputError:
        return InputError(f"{self.trace.name}: {error}")


def compile(  # noqa: A001 - the product's verb, used as prefixsim.compile
    trace: Trace, *, outputs: bool = False, partial_blocks: bool = False
) -> Forest:
    """Compile a trace into its forest.

    Parameters
    ----------
    trace : Trace
        Of token ids or of chained hash ids.
    outputs : bool, optional
        Let each request's output follow its prompt, so that later prompts can hit it. The last
        output token is never fed to the model and left out.
    partial_blocks : bool, optional
        Hash ids only: keep a last id that stands for fewer tokens as a block of its own. The block
        size is then that of the ids.

    Returns
    -------
    Forest

    Raises
    ------
    InputError
        If the trace has no ids, or no output ids although ``outputs`` asks for them.

    Examples
    --------
    >>> import prefixsim
    >>> trace = prefixsim.Trace.from_prompts([[1, 2, 3], [1, 2, 3, 4]])
    >>> forest = prefixsim.compile(trace)
    >>> forest.nodes, forest.unique_blocks(2)
    (3, 2)
    """
    columns = _columns(trace, outputs, partial_blocks)
    session = None if trace.session is None else _u32(trace.session.codes)
    try:
        core = _core.compile_forest(**columns, session=session)
    except (ValueError, TypeError, OverflowError) as error:
        msg = f"{trace.name}: {error}"
        raise InputError(msg) from None
    return Forest(trace, core)


def _columns(trace: Trace, outputs: bool, partial_blocks: bool) -> JsonObject:
    """Return what decides the forest of a trace, as the core takes it."""
    if trace.prompts is None:
        what = "texts, tokenize it first" if trace.kind == "text" else "prompt lengths only"
        msg = f"{trace.name}: the trace has {what}; a forest needs token ids or hash ids"
        raise InputError(msg)
    produced = trace.outputs if outputs else None
    if outputs and (produced is None or trace.kind != "tokens"):
        msg = f"{trace.name}: no output token ids, compile without outputs"
        raise InputError(msg)
    if partial_blocks and trace.kind != "hashes":
        msg = f"{trace.name}: partial blocks can be kept for hash ids only"
        raise InputError(msg)
    values = trace.prompts.values
    return {
        "offsets": _u64(trace.prompts.offsets),
        "ids": _u32(values) if trace.kind == "tokens" else _u64(values),
        "prompt_len": _u32(trace.prompt_len),
        "tokens_per_id": trace.id_block_size,
        "output_offsets": None if produced is None else _u64(produced.offsets),
        "output_ids": None if produced is None else _u32(produced.values),
        "partial_blocks": partial_blocks,
        "salt": None if trace.salt is None else _u32(trace.salt.codes),
    }


def _u32(values: npt.NDArray[np.generic]) -> npt.NDArray[np.uint32]:
    return np.ascontiguousarray(values, dtype=np.uint32)


def _u64(values: npt.NDArray[np.generic]) -> npt.NDArray[np.uint64]:
    return np.ascontiguousarray(values, dtype=np.uint64)
