"""``prefixsim convert``."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from prefixsim._printable import printable
from prefixsim.cli import app
from prefixsim.cli._remote_code import TrustRemoteCode
from prefixsim.errors import InputError

if TYPE_CHECKING:
    from prefixsim.trace import Trace

_LOPSIDED = 0.5
T = TypeVar("T", int, float)
_KEY_VARIABLE = "PREFIXSIM_ANONYMIZE_KEY"


@app.command("convert", no_args_is_help=True)
def convert_command(  # noqa: PLR0917 - the parser passes options by name
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="IN... OUT", help="Traces (merged by time), then the file to write."
        ),
    ],
    trace_format: Annotated[
        str | None, typer.Option("--format", metavar="NAME", help="Of the input; default: found.")
    ] = None,
    to: Annotated[
        str | None, typer.Option(metavar="NAME", help="Format to write; default: by the ending.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Turn text into token ids: hub name, local folder, or 'demo'.",
        ),
    ] = None,
    trust_remote_code: TrustRemoteCode = False,
    cache_dir: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Keep the token ids of texts here, and use those kept."),
    ] = None,
    time: Annotated[
        str | None,
        typer.Option(metavar="START:STOP", help="Keep these seconds since the first request."),
    ] = None,
    requests: Annotated[
        str | None, typer.Option(metavar="START:STOP", help="Keep these rows, from 0.")
    ] = None,
    sessions: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Keep the first N sessions, whole.")
    ] = None,
    sample: Annotated[
        float | None,
        typer.Option(metavar="SHARE", help="Keep this share of the sharing trees, each whole."),
    ] = None,
    sample_head: Annotated[
        int,
        typer.Option(min=1, metavar="TOKENS", help="First tokens that tell --sample trees apart."),
    ] = 16,
    seed: Annotated[int, typer.Option(metavar="N", help="For --sample.")] = 0,
    rate_scale: Annotated[
        float | None, typer.Option(metavar="X", help="Requests arrive X times as fast.")
    ] = None,
    salt: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Isolate under this salt; 'file': each input its own."),
    ] = None,
    content_hashes: Annotated[
        bool,
        typer.Option(
            "--content-hashes",
            help="The hash ids tell a block's own tokens only: write ids chained to their prefix.",
        ),
    ] = False,
    anonymize: Annotated[
        bool,
        typer.Option(
            "--anonymize",
            help=f"Keyed hash ids instead of tokens and names; key in ${_KEY_VARIABLE} (64 "
            "hexadecimal digits), else random and not kept.",
        ),
    ] = False,
    key_file: Annotated[
        Path | None,
        typer.Option(
            "--anonymize-key-file",
            metavar="FILE",
            help="With --anonymize: the key; a new one is made and kept there, for you alone.",
        ),
    ] = None,
    shift_times: Annotated[
        bool, typer.Option("--shift-times", help="Count times from the first request.")
    ] = False,
    coarsen_lengths: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="TOKENS",
            help="With --anonymize: round lengths up to a multiple; sharing stays exact.",
        ),
    ] = None,
    block_size: Annotated[
        int | None,
        typer.Option(min=1, metavar="TOKENS", help="With --anonymize: tokens per hash id."),
    ] = None,
    sort: Annotated[bool, typer.Option("--sort", help="Sort rows by timestamp.")] = False,
    skip_bad_rows: Annotated[
        bool, typer.Option("--skip-bad-rows", help="Leave bad rows out and count them.")
    ] = False,
    rejects: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where skipped rows are written.")
    ] = None,
) -> None:
    """Convert, slice, merge, rescale, sample, isolate or anonymize traces."""
    from prefixsim._atomic import check_writable, refuse_own_input  # noqa: PLC0415
    from prefixsim.cli._terminal import (  # noqa: PLC0415
        reading,
        report_skipped,
        tokenized,
        working,
    )
    from prefixsim.formats import open_writer, read_trace, trace_name  # noqa: PLC0415
    from prefixsim.formats._inputs import named_files  # noqa: PLC0415
    from prefixsim.trace import transform  # noqa: PLC0415
    from prefixsim.trace.salts import distinct_names  # noqa: PLC0415

    if len(files) < 2:
        msg = "convert takes one or more input files and the file to write"
        raise InputError(msg)
    *inputs, output = files
    _check_options(inputs, rejects, model, cache_dir)
    writer = open_writer(output, format=to)  # refuses an unknown format before any work
    check_writable(output)
    refuse_own_input(output, [path for name in inputs for path in named_files(name)])
    select = _selection(time, requests, sessions)
    steps: list[Callable[[Trace], Trace]] = []
    if sample is not None:
        steps.append(lambda t: transform.sample_trees(t, sample, head=sample_head, seed=seed))
    if rate_scale is not None:
        steps.append(lambda t: transform.scale_rate(t, rate_scale))
    if content_hashes:
        steps.append(transform.chain_ids)
    if shift_times:
        steps.append(transform.shift_times)
    steps += _anonymizing(anonymize, key_file, block_size, coarsen_lengths)

    labels = distinct_names([trace_name(name) for name in inputs], inputs)
    traces = []
    for name, label in zip(inputs, labels, strict=True):
        with reading(Path(name)) as progress:
            trace = read_trace(
                name,
                format=trace_format,
                sort=sort,
                skip_bad_rows=skip_bad_rows,
                rejects=rejects,
                progress=progress,
            )
        if salt is not None:
            trace = transform.add_salt(trace, label if salt == "file" else salt)
        report_skipped(Path(name), trace.meta)
        traces.append(trace)
    with working("merging"):
        trace = transform.merge(traces)
        for step in select:
            trace = step(trace)
    if model is not None:
        trace = tokenized(trace, model, cache_dir)
    with working("converting"):
        for step in steps:
            trace = step(trace)
        with writer:
            writer.write(trace)
    sys.stderr.write(f"prefixsim: {printable(output)}: {len(trace):,} requests\n")
    if sample is not None and transform.largest_tree(trace, head=sample_head) > _LOPSIDED:
        sys.stderr.write(
            "prefixsim: most requests are of one sharing tree; a larger --sample-head than "
            f"{sample_head} tells more trees apart\n"
        )


def _anonymizing(
    wanted: bool, key_file: Path | None, block_size: int | None, lengths: int | None
) -> list[Callable[[Trace], Trace]]:
    """Return the steps that make a trace anonymous."""
    from prefixsim.trace import anonymous, transform  # noqa: PLC0415

    if not wanted:
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
    steps: list[Callable[[Trace], Trace]] = [
        lambda t: transform.anonymize(t, block_size=_size(t, block_size), key=key)
    ]
    if lengths is not None:
        steps.append(lambda t: anonymous.coarsen_lengths(t, lengths, key=key))
    return steps


def _check_options(
    inputs: list[str], rejects: Path | None, model: str | None, cache_dir: Path | None
) -> None:
    if rejects is not None and len(inputs) > 1:
        msg = f"{rejects}: takes the rows of one input, name several files by a pattern"
        raise InputError(msg)
    if cache_dir is not None and model is None:
        msg = "--cache-dir keeps what --model makes of text, give --model as well"
        raise InputError(msg)


def _selection(
    time: str | None, requests: str | None, sessions: int | None
) -> list[Callable[[Trace], Trace]]:
    """Return the steps that only choose requests, done before anything costly."""
    from prefixsim.trace import transform  # noqa: PLC0415

    select: list[Callable[[Trace], Trace]] = []
    if time is not None:
        start, stop = _span("--time", time, float)
        select.append(lambda t: transform.slice_time(t, start, stop))
    if requests is not None:
        first, last = _span("--requests", requests, int)
        select.append(lambda t: transform.slice_requests(t, first, last))
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
