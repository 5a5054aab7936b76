"""Generated workloads: requests and ids per second."""

from __future__ import annotations

from typing import Any

import pytest

import prefixsim

REQUESTS = 50_000


@pytest.mark.parametrize("form", ["tokens", "hashes"])
@pytest.mark.parametrize("shape", ["chat", "rag"])
def test_generate(benchmark: Any, shape: Any, form: Any) -> None:
    def run() -> tuple[int, int]:
        requests = ids = 0
        for batch in prefixsim.generate(shape, REQUESTS, form=form):
            assert batch.prompts is not None
            requests += len(batch)
            ids += len(batch.prompts.values)
        return requests, ids

    requests, ids = benchmark.pedantic(run, rounds=3, warmup_rounds=1)
    assert requests == REQUESTS
    benchmark.extra_info["requests_per_s"] = round(requests / benchmark.stats["min"])
    benchmark.extra_info["ids_per_s"] = round(ids / benchmark.stats["min"])
