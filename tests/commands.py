"""The command line as a process of its own."""

from __future__ import annotations

import sys
from collections.abc import Callable

__all__ = ["COMMAND", "Cli"]

Cli = Callable[..., tuple[int, str, str]]
"""What runs a command: exit code, output, messages."""

_PROGRAM = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from prefixsim.cli import main
sys.exit(main(sys.argv[1:]))
"""

# A test run may be in the background of a shell that has SIGINT ignored, which children inherit.
COMMAND = [sys.executable, "-c", _PROGRAM]
"""``prefixsim``, listening to SIGINT wherever the tests run."""
