"""``prefixsim record``."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from prefixsim.cli import COMMANDS
from prefixsim.cli._bundles import AsJson
from prefixsim.cli._options import REQUIRED, Command
from prefixsim.settings import argument, setting

__all__ = ["COMMAND", "RecordOptions", "record_command"]


@dataclass(frozen=True)
class RecordOptions(AsJson):
    """Options of ``prefixsim record``."""

    server: str = argument(REQUIRED, help="The server's address.", metavar="URL")
    output: Path = setting(Path("recording"), help="Folder of the recording.", metavar="DIR")
    listen: str = setting(
        "127.0.0.1:8001", help="Where clients reach the proxy.", metavar="HOST:PORT"
    )
    kv_events: str | None = setting(
        None, help="ZMQ address of the server's KV events; bind:ADDRESS binds.", metavar="ADDRESS"
    )
    kv_replay: str | None = setting(
        None, help="ZMQ address of its replay socket, for gaps.", metavar="ADDRESS"
    )
    metrics_every: float = setting(
        5.0, help="Between looks at /metrics; 0: none.", unit="seconds", least=0
    )
    anonymize: Path | None = setting(
        None,
        help="Keep keyed hashes of blocks in place of text; the key is in this file (mode 600), "
        "which is made if it is not there.",
        metavar="KEY",
    )
    tokenize: bool = setting(False, help="Keep token ids in place of text.")
    model: str | None = setting(
        None, help="Tokenizer for --anonymize and --tokenize.", metavar="NAME"
    )
    block_size: int = setting(16, help="Of the hashes.", unit="tokens", least=1)
    seconds: float | None = setting(
        None, help="Stop after so long.", unit="seconds", least=0, shown_default="when interrupted"
    )


def record_command(options: RecordOptions) -> None:
    """Record a server until interrupted."""
    from prefixsim._json import dumps
    from prefixsim.live.record import Recorder, record
    from prefixsim.live.rows import Keeping

    keeping = Keeping(options.model, options.tokenize, options.anonymize, options.block_size)
    recorder = Recorder(
        options.server,
        options.output,
        keeping,
        listen=options.listen,
        kv_events=options.kv_events,
        replay=options.kv_replay,
        every_s=options.metrics_every,
    )
    facts = record(recorder, options.seconds)
    if options.as_json:
        sys.stdout.write(dumps(facts))
        return
    told = ", ".join(f"{n.replace('_', ' ')} {v}" for n, v in facts.items() if v != "")
    sys.stdout.write(f"{options.output}: {told}\n")


COMMAND = Command("record", COMMANDS["record"], RecordOptions, record_command)
