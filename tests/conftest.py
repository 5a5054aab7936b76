from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

# Slow machines and first calls are no failures.
settings.register_profile("default", deadline=None)
settings.load_profile("default")


@pytest.fixture(scope="session")
def shared() -> Path:
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip("no ../shared beside the checkout")
    return folder
