"""The requests of a fleet: how long they stay, and their trees in tokens, characters and bytes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from prefixsim import _core
from prefixsim._json import JsonObject
from prefixsim.errors import InputError, SettingError
from prefixsim.forest import Forest
from prefixsim.forest import compile as compile_trace
from prefixsim.routing.durations import read_seconds
from prefixsim.trace import Trace
from prefixsim.trace.columns import offsets_of

__all__ = ["compile_traffic", "holds"]

TOKENS_PER_HOLD, MOST_HELD = 16, 32


def holds(trace: Trace, hold: int | str | Sequence[int] | None) -> npt.NDArray[np.uint32]:
    """Return how many requests arrive while each one is in flight.

    Parameters
    ----------
    trace : Trace
    hold : int, str, sequence of int or None
        A number for all; one for each; a time like ``"20ms"``, which each output token takes, so
        that the trace's times decide; ``None``: one for every 16 output tokens, 32 at most.

    Raises
    ------
    InputError
        If it is none of these, or there is not one for each request.
    """
    requests = len(trace)
    if hold is None:
        usual: npt.NDArray[np.uint32] = np.minimum(MOST_HELD, trace.output_len // TOKENS_PER_HOLD)
        return usual.astype(np.uint32)
    if isinstance(hold, str) and not hold.strip().isdecimal():
        try:
            each = read_seconds(hold)
        except ValueError:
            msg = f"hold is {hold!r}, give a number of requests or a time like 20ms"
            raise SettingError(msg) from None
        ends = trace.timestamp + trace.output_len * each
        after = np.searchsorted(trace.timestamp, ends, side="left") - np.arange(requests) - 1
        found: npt.NDArray[np.uint32] = np.maximum(after, 0).astype(np.uint32)
        return found
    if isinstance(hold, str | int):
        if not 0 <= int(hold) < 2**31:
            msg = f"hold is {hold!r}, give a number of requests or a time like 20ms"
            raise SettingError(msg)
        return np.full(requests, int(hold), np.uint32)
    given = np.asarray(hold)
    if given.shape != (requests,) or (given < 0).any() or (given >= 2**31).any():
        msg = f"hold has shape {given.shape}, give {requests} numbers of at least 0"
        raise InputError(msg)
    return given.astype(np.uint32)


def compile_traffic(
    forest: Forest,
    hold: npt.NDArray[np.uint32],
    *,
    texts: Sequence[str] | None = None,
    characters_per_token: int = 4,
) -> _core.FleetTraffic:
    """Compile the requests of a fleet for any number of routers.

    Parameters
    ----------
    forest : Forest
        The prompts in tokens or hash ids, without outputs.
    hold : ndarray of uint32, shape (requests,)
    texts : sequence of str, optional
        The prompts as text, for routers that count characters or bytes.
    characters_per_token : int, optional
        What stands in for text that is not there.

    Raises
    ------
    InputError
        If the trace's times are not in order.
    """
    trace = forest.trace
    more: JsonObject = {}
    if trace.kind == "hashes":
        more["whole"] = compile_trace(trace, partial_blocks=True).core
    if texts is not None:
        points = [np.frombuffer(t.encode("utf-32-le"), np.uint32) for t in texts]
        data = [np.frombuffer(t.encode(), np.uint8).astype(np.uint32) for t in texts]
        more |= {"characters": _text(points), "text_bytes": _text(data)}
    session = trace.session
    try:
        return _core.FleetTraffic(
            forest.core,
            np.ascontiguousarray(trace.prompt_len, np.uint32),
            hold,
            np.ascontiguousarray(trace.timestamp, np.float64),
            None if session is None else np.ascontiguousarray(session.codes, np.uint32),
            [] if session is None else session.names,
            characters_per_token=characters_per_token,
            **more,
        )
    except (ValueError, OverflowError) as error:
        msg = f"{trace.name}: {error}"
        raise InputError(msg) from None


def _text(lists: list[npt.NDArray[np.uint32]]) -> tuple[_core.Forest, npt.NDArray[np.uint32]]:
    lengths = np.array([len(ids) for ids in lists], np.uint32)
    ids = np.concatenate([*lists, np.empty(0, np.uint32)]).astype(np.uint32, copy=False)
    return _core.compile_forest(offsets_of(lengths), ids, lengths), lengths
