"""The oracle's lookup against a search of every length: it finds the longest that is agreed on."""

from __future__ import annotations

from typing import Any

import pytest

from tests.engines.test_golden_vllm_hybrid_oracle import MICRO, named
from tests.golden import records
from tests.oracle.hybrid_losses import agreed
from tests.oracle.hybrid_scheduler import Scheduler, config_of
from tests.oracle.kv_groups import Request
from tests.oracle.recorded_hybrid import jobs_of

FUZZ = records("vllm-hybrid", "fuzz_sched.json.gz", key="seqs")


def check(run: dict[str, Any]) -> None:
    scheduler = Scheduler(config_of(run["config"]))
    manager = scheduler.manager
    lookup = manager.lookup
    chunks = any(g.type == "chunked_local" for g in scheduler.config.cache.groups)

    def compared(r: Request) -> Any:
        found = agreed(manager, r)
        lists, hit = lookup(r)
        assert found["full"] >= found["window"] >= found["state"] >= found["aligned"]
        if not chunks:
            assert found["aligned"] >= hit
            assert manager.any_drops or found["aligned"] == hit
        return lists, hit

    manager.lookup = compared  # type: ignore[method-assign]
    scheduler.run(jobs_of(run, run["trace"]))


@pytest.mark.parametrize("run", MICRO, ids=named)
def test_the_longest_length_is_found(run: dict[str, Any]) -> None:
    check(run)


@pytest.mark.parametrize("run", FUZZ)
def test_the_longest_length_is_found_in_golden_vllm_hybrid(run: dict[str, Any]) -> None:
    check(run)
