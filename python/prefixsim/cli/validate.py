"""``prefixsim validate``."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from prefixsim.cli import COMMANDS
from prefixsim.cli._bundles import AsJson
from prefixsim.cli._options import Command, EngineChoice
from prefixsim.errors import InputError
from prefixsim.settings import setting

__all__ = ["COMMAND", "ValidateOptions", "validate_command"]


@dataclass(frozen=True)
class ValidateOptions(AsJson):
    """Options of ``prefixsim validate``."""

    recording: Path | None = setting(
        None, help="Folder that record wrote, or a log of calls with cached tokens.", metavar="DIR"
    )
    server: str | None = setting(
        None,
        help="Record this server for --seconds into --recording, then compare.",
        metavar="URL",
    )
    seconds: float = setting(600.0, help="How long to record.", unit="seconds", least=0)
    listen: str = setting(
        "127.0.0.1:8001", help="Where clients reach the proxy meanwhile.", metavar="HOST:PORT"
    )
    model: str | None = setting(None, help="Tokenizer, where texts were kept.", metavar="NAME")
    tolerance: float = setting(
        1.0, help="Error from which the exit code is 1.", unit="points", least=0
    )


def validate_command(options: ValidateOptions, choice: EngineChoice) -> None:
    """Compare, print, and leave with code 1 beyond the tolerance."""
    from prefixsim._json import dumps
    from prefixsim.cli._terminal import print_tables, working
    from prefixsim.live.record import Recorder, record
    from prefixsim.live.validate import read_recorded, validate

    if choice.records:
        name = next(iter(choice.records))
        msg = f"{choice.typed[name]}: a comparison keeps no records, replay the trace for them"
        raise InputError(msg)
    folder = options.recording
    if options.server is not None:
        folder = folder or Path("recording")
        record(Recorder(options.server, folder, listen=options.listen), options.seconds)
    if folder is None:
        msg = "give --recording DIR, or --server URL to record one"
        raise InputError(msg)
    with working(f"comparing {folder}"):
        recorded = read_recorded(folder, options.model)
        found = validate(recorded, choice.name, **choice.given)
    if options.as_json:
        sys.stdout.write(dumps(found.facts))
    else:
        print_tables(found.tables())
    if abs(found.error_points) > options.tolerance:
        sys.stdout.flush()
        raise SystemExit(1)


COMMAND = Command(
    "validate", COMMANDS["validate"], ValidateOptions, validate_command, engines="one"
)
