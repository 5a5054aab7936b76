"""Random settings on random traces: some in every run, many in the long form of the tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.trust.attack import attack


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no alarms on this system")
def test_every_call_ends_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path.cwd())  # back there afterwards
    seconds, seed = os.environ.get("PREFIXSIM_ATTACK", "10:1").split(":")
    assert list(attack(float(seconds), int(seed))) == []
