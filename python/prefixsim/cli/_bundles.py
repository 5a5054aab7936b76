"""Options that several commands share: of reading, of what is measured, of what is written."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefixsim.settings import setting

if TYPE_CHECKING:
    from prefixsim.trace import Trace

__all__ = ["AsJson", "ManyRuns", "Measuring", "Output", "Reading", "Tokenizing"]


@dataclass(frozen=True)
class Tokenizing:
    """Text and tokens

    Attributes
    ----------
    model : str or None
    trust_remote_code : bool
    cache_dir : Path or None
    """  # noqa: D400 - the title of a panel of the help

    model: str | None = setting(
        None,
        help="Tokenizer for text, and to show tokens as text: hub name, local folder, or 'demo'.",
        metavar="NAME",
    )
    trust_remote_code: bool = setting(
        False,
        help="Run Python files that come with the tokenizer, with your rights; read them first.",
    )
    cache_dir: Path | None = setting(
        None,
        help="Keep token ids of texts and compiled traces here, by content, and use those kept.",
        metavar="DIR",
    )


@dataclass(frozen=True)
class Reading(Tokenizing):
    """Reading traces

    Attributes
    ----------
    format : str or None
    time_unit : str or None
    sort, skip_bad_rows : bool
    id_block_size : int or None
    """  # noqa: D400 - the title of a panel of the help

    format: str | None = setting(
        None, help="Format of the traces.", metavar="NAME", shown_default="found"
    )
    time_unit: str | None = setting(
        None,
        help="Unit of the timestamps: s, ms, us or ns.",
        metavar="UNIT",
        shown_default="the format's",
    )
    sort: bool = setting(False, help="Sort rows by timestamp instead of refusing them.")
    skip_bad_rows: bool = setting(False, help="Leave bad rows out and count them.")
    id_block_size: int | None = setting(
        None,
        help="Tokens each hash id of a Mooncake file stands for.",
        unit="tokens",
        least=1,
        most=2**32 - 2,
        shown_default="512, or what the lengths say",
    )

    def read(self, path: str | Path, **options: Any) -> Trace:
        """Read a trace file with a bar, and say what was left out."""
        from prefixsim.cli._terminal import reading, report_skipped, timed
        from prefixsim.formats import read_trace

        with reading(Path(path)) as progress:
            trace = read_trace(
                path,
                format=self.format,
                sort=self.sort,
                skip_bad_rows=self.skip_bad_rows,
                progress=progress,
                id_block_size=self.id_block_size,
                **options,
            )
        report_skipped(Path(path), trace.meta)
        return timed(trace, Path(path), self.time_unit)

    def read_tokens(self, path: str | Path) -> Trace:
        """Read a trace file, and tokenize it if it is one of texts."""
        from prefixsim.cli._terminal import tokenized
        from prefixsim.formats.summary_file import origin_of

        trace = self.read(path)
        trace = trace.replace(meta={**origin_of(trace, Path(path)), **trace.meta})
        return tokenized(trace, self.model, self.cache_dir)


@dataclass(frozen=True)
class ManyRuns:
    """Many runs

    Attributes
    ----------
    ray : str or None
    resume : Path or None
    """  # noqa: D400 - the title of a panel of the help

    ray: str | None = setting(
        None,
        help="Spread the runs over a Ray cluster: 'local' starts one of this machine's cores, "
        "'auto' takes the one that runs here, or host:port.",
        metavar="ADDRESS",
        shown_default="the cores of this machine, without Ray",
    )
    resume: Path | None = setting(
        None,
        help="Keep results here as they come; a command that was ended goes on with those kept.",
        metavar="FILE",
    )


@dataclass(frozen=True)
class Measuring:
    """What is measured

    Attributes
    ----------
    warmup : float
    """  # noqa: D400 - the title of a panel of the help

    warmup: float = setting(
        0.0,
        help="Share of the requests, from the start, that only warm the cache up.",
        least=0,
        below=1,
        metavar="SHARE",
    )


@dataclass(frozen=True)
class AsJson:
    """Output

    Attributes
    ----------
    as_json : bool
    """  # noqa: D400 - the title of a panel of the help

    as_json: bool = setting(False, help="Print JSON instead of tables.", flag="--json")


@dataclass(frozen=True)
class Output(AsJson):
    """Output

    Attributes
    ----------
    output : tuple of Path
    """  # noqa: D400 - the title of a panel of the help

    output: tuple[Path, ...] = setting(
        (),
        help="Write the result here; the ending says how. May be repeated.",
        flag=("-o", "--output", "--output-file"),
        metavar="FILE",
        many=True,
    )
