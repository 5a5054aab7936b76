"""``--trust-remote-code``, for every command that takes ``--model``."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from prefixsim.text.remote_code import allow_remote_code

__all__ = ["TrustRemoteCode"]


def _consent(given: bool) -> bool:
    if given:
        allow_remote_code()
        sys.stderr.write(
            "prefixsim: --trust-remote-code: Python files of the tokenizer run with your rights\n"
        )
    return given


TrustRemoteCode = Annotated[
    bool,
    typer.Option(
        "--trust-remote-code",
        callback=_consent,
        help="Run Python files that come with the tokenizer, with your rights; read them first.",
    ),
]
