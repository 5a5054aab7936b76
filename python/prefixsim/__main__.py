"""``python -m prefixsim``."""

from prefixsim.cli import run

run()
