from __future__ import annotations

import gzip
import os
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

DATA = Path(__file__).parent / "data"
"""Small recordings inside the project."""

_HEALTH = [HealthCheck.too_slow, HealthCheck.data_too_large]
settings.register_profile("default", deadline=None, suppress_health_check=_HEALTH)
# The same examples for every change that is judged; runs by hand look at new ones each time.
settings.register_profile("ci", settings.get_profile("default"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of recorded truth and real traces beside the checkout."""
    path = Path(__file__).resolve().parents[2] / "shared"
    if not path.is_dir():
        pytest.skip("the shared data folder is not beside the checkout")
    return path


@pytest.fixture(scope="session")
def data() -> Path:
    """Small recordings inside the project."""
    return DATA


@pytest.fixture(scope="session")
def qwen3(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with the Qwen3 tokenizer and its chat template."""
    source, target = shared / "data/tokenizers/qwen3", tmp_path_factory.mktemp("qwen3")
    shutil.copy(source / "tokenizer_config.json", target)
    packed = gzip.decompress((source / "tokenizer.json.gz").read_bytes())
    (target / "tokenizer.json").write_bytes(packed)
    return str(target)
