"""``prefixsim convert``."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from prefixsim._printable import printable
from prefixsim.cli import COMMANDS
from prefixsim.cli._bundles import Reading
from prefixsim.cli._options import REQUIRED, Command
from prefixsim.errors import InputError
from prefixsim.settings import argument, setting

if TYPE_CHECKING:
    from prefixsim.trace import Trace

__all__ = ["COMMAND", "Convert", "convert_command"]

_LOPSIDED = 0.5
T = TypeVar("T", int, float)
_KEY_VARIABLE = "PREFIXSIM_ANONYMIZE_KEY"


@dataclass(frozen=True)
class Convert(Reading):
    """Options of ``prefixsim convert``."""

    files: tuple[str, ...] = argument(
        REQUIRED,
        help="Traces (merged by time), then the file to write.",
        metavar="IN... OUT",
        many=True,
    )
    to: str | None = setting(
        None, help="Format to write.", metavar="NAME", shown_default="by the ending"
    )
    time: str | None = setting(
        None, help="Keep these seconds since the first request.", metavar="START:STOP"
    )
    requests: str | None = setting(None, help="Keep these rows, from 0.", metavar="START:STOP")
    sessions: int | None = setting(
        None, help="Keep the first so many sessions, whole.", least=1, metavar="N"
    )
    sample: float | None = setting(
        None, help="Keep this share of the sharing trees, each whole.", metavar="SHARE"
    )
    sample_head: int = setting(
        16, help="First tokens that tell --sample trees apart.", least=1, unit="tokens"
    )
    seed: int = setting(0, help="For --sample.", least=0, most=2**64 - 1, metavar="N")
    rate_scale: float | None = setting(
        None, help="Requests arrive so many times as fast.", metavar="X"
    )
    salt: str | None = setting(
        None, help="Isolate under this salt; 'file': each input its own.", metavar="NAME"
    )
    content_hashes: bool = setting(
        False,
        help="The hash ids tell a block's own tokens only: write ids chained to their prefix.",
    )
    anonymize: bool = setting(
        False,
        help=f"Keyed hash ids instead of tokens and names; key in ${_KEY_VARIABLE} (64 hexadecimal "
        "digits), else random and not kept.",
    )
    anonymize_key_file: Path | None = setting(
        None,
        help="With --anonymize: the key; a new one is made and kept there, for you alone.",
        metavar="FILE",
    )
    shift_times: bool = setting(False, help="Count times from the first request.")
    coarsen_lengths: int | None = setting(
        None,
        help="With --anonymize: round lengths up to a multiple; sharing stays exact.",
        least=1,
        unit="tokens",
    )
    block_size: int | None = setting(
        None, help="With --anonymize: tokens per hash id.", least=1, unit="tokens"
    )
    rejects: Path | None = setting(None, help="Where skipped rows are written.", metavar="FILE")


def convert_command(options: Convert) -> None:
    """Read, change and write traces."""
    from prefixsim._atomic import check_writable, refuse_own_input
    from prefixsim.cli._terminal import tokenized, working
    from prefixsim.formats import open_writer, trace_name
    from prefixsim.formats._inputs import named_files
    from prefixsim.trace import transform
    from prefixsim.trace.joining import merge
    from prefixsim.trace.salts import distinct_names

    files = options.files
    if len(files) < 2:
        msg = "convert takes one or more input files and the file to write"
        raise InputError(msg)
    *inputs, output = files
    _check_options(inputs, options)
    writer = open_writer(output, format=options.to)  # refuses an unknown format before any work
    check_writable(output)
    refuse_own_input(output, [path for name in inputs for path in named_files(name)])
    select, steps = _selection(options), _changes(options)

    labels = distinct_names([trace_name(name) for name in inputs], inputs)
    traces = []
    for name, label in zip(inputs, labels, strict=True):
        trace = options.read(name, rejects=options.rejects)
        if options.salt is not None:
            salt = label if options.salt == "file" else options.salt
            trace = transform.add_salt(trace, salt)
        traces.append(trace)
    with working("merging"):
        trace = merge(traces)
        for step in select:
            trace = step(trace)
    if options.model is not None:
        trace = tokenized(trace, options.model, options.cache_dir)
    with working("converting"):
        for step in steps:
            trace = step(trace)
        with writer:
            writer.write(trace)
    sys.stderr.write(f"prefixsim: {printable(output)}: {len(trace):,} requests\n")
    head = options.sample_head
    if options.sample is not None and transform.largest_tree(trace, head=head) > _LOPSIDED:
        sys.stderr.write(
            "prefixsim: most requests are of one sharing tree; a larger --sample-head than "
            f"{head} tells more trees apart\n"
        )


def _changes(options: Convert) -> list[Callable[[Trace], Trace]]:
    """Return the steps that change requests, in order."""
    from prefixsim.trace import transform

    steps: list[Callable[[Trace], Trace]] = []
    share, rate = options.sample, options.rate_scale
    if share is not None:
        head, seed = options.sample_head, options.seed
        steps.append(lambda t: transform.sample_trees(t, share, head=head, seed=seed))
    if rate is not None:
        steps.append(lambda t: transform.scale_rate(t, rate))
    if options.content_hashes:
        steps.append(transform.chain_ids)
    if options.shift_times:
        steps.append(transform.shift_times)
    return steps + _anonymizing(options)


def _anonymizing(options: Convert) -> list[Callable[[Trace], Trace]]:
    """Return the steps that make a trace anonymous."""
    from prefixsim.trace import anonymous, transform

    key_file, lengths = options.anonymize_key_file, options.coarsen_lengths
    if not options.anonymize:
        if key_file is not None or lengths is not None:
            msg = "--anonymize-key-file and --coarsen-lengths go with --anonymize, give it as well"
            raise InputError(msg)
        return []
    told = os.environ.get(_KEY_VARIABLE, "")
    if key_file is not None:
        key = anonymous.key_from_file(key_file)
    elif told:
        key = anonymous.key_from_text(told, f"${_KEY_VARIABLE}")
    else:
        key = anonymous.new_key()
    size = options.block_size
    steps: list[Callable[[Trace], Trace]] = [
        lambda t: transform.anonymize(t, block_size=_size(t, size), key=key)
    ]
    if lengths is not None:
        steps.append(lambda t: anonymous.coarsen_lengths(t, lengths, key=key))
    return steps


def _check_options(inputs: list[str], options: Convert) -> None:
    if options.rejects is not None and len(inputs) > 1:
        msg = f"{options.rejects}: takes the rows of one input, name several files by a pattern"
        raise InputError(msg)
    if options.cache_dir is not None and options.model is None:
        msg = "--cache-dir keeps what --model makes of text, give --model as well"
        raise InputError(msg)


def _selection(options: Convert) -> list[Callable[[Trace], Trace]]:
    """Return the steps that only choose requests, done before anything costly."""
    from prefixsim.trace import transform

    select: list[Callable[[Trace], Trace]] = []
    if options.time is not None:
        start, stop = _span("--time", options.time, float)
        select.append(lambda t: transform.slice_time(t, start, stop))
    if options.requests is not None:
        first, last = _span("--requests", options.requests, int)
        select.append(lambda t: transform.slice_requests(t, first, last))
    sessions = options.sessions
    if sessions is not None:
        select.append(lambda t: transform.first_sessions(t, sessions))
    return select


def _size(trace: Trace, asked: int | None) -> int:
    return asked or (trace.id_block_size if trace.kind == "hashes" else 16)


def _span(option: str, text: str, kind: Callable[[str], T]) -> tuple[T | None, T | None]:
    """Read ``START:STOP``, either of which may be left out."""
    start, colon, stop = text.partition(":")
    try:
        if not colon:
            raise ValueError
        return (kind(start) if start else None), (kind(stop) if stop else None)
    except ValueError:
        msg = f"{option} {text}: write START:STOP, for example 0:600 or 600:"
        raise InputError(msg) from None


COMMAND = Command("convert", COMMANDS["convert"], Convert, convert_command)
