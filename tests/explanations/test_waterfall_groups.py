"""The waterfall of models with several groups, token by token, beside the slow engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

import prefixsim
from prefixsim.explanations.classes import OF_GROUPS
from prefixsim.explanations.waterfall import ALONG, CLASSES, Waterfall
from prefixsim.trace import Trace
from tests.oracle.hybrid_losses import agreed
from tests.oracle.hybrid_scheduler import Config, Job, Scheduler
from tests.oracle.kv_groups import CacheConfig, Group, Request
from tests.oracle.waterfall import common

NANO = 10**9
FULL, STATE = Group("full", 4), Group("mamba", 4)
WINDOW = Group("sliding_window", 4, window=9)
DRAFT = {"spec_method": "eagle", "drafts": 2}
CASES: dict[str, tuple[str, tuple[Group, ...], dict[str, Any]]] = {
    "windows": ("full@4,sliding_window=9@4:2", (FULL, WINDOW, WINDOW), {}),
    "windows, all kept": ("full@4,sliding_window=9@4", (FULL, WINDOW), {"retention": None}),
    "states": ("full@4,mamba@4:2", (FULL, STATE, STATE), {}),
    "states, every 8": ("full@4,mamba@4", (FULL, STATE), {"retention": 8}),
    "hits inside blocks": ("full@4,mamba@4", (FULL, STATE), {"prefix_match_unit": 2}),
    "both": ("full@4,sliding_window=9@4,mamba@4", (FULL, WINDOW, STATE), {}),
    "states, drop": ("full@4,mamba@4", (FULL, STATE), {**DRAFT, "eagle_hits": "drop"}),
    "windows, drop": ("full@4,sliding_window=9@4", (FULL, WINDOW), {**DRAFT, "eagle_hits": "drop"}),
    "larger windows' blocks": (
        "full@4,sliding_window=9@8",
        (FULL, Group("sliding_window", 8, window=9)),
        {},
    ),
}
ENGINE_NAMES = {
    "retention": "retention_interval",
    "drafts": "num_speculative_tokens",
}

prompts = st.lists(
    st.tuples(
        st.lists(st.integers(0, 1), min_size=1, max_size=8),
        st.integers(1, 4),
        st.integers(1, 3),
        st.integers(0, 20),
    ),
    min_size=1,
    max_size=10,
)


def traced(rows: Sequence[Any]) -> tuple[Trace, list[Job]]:
    rows = sorted(((p * n, out, at) for p, n, out, at in rows), key=lambda row: row[2])
    outputs = [[1] * out for _, out, _ in rows]
    trace = Trace.from_prompts(
        [p for p, _, _ in rows], outputs=outputs, timestamp=[at for _, _, at in rows]
    )
    jobs = [Job(i, Request(list(p)), outputs[i], at * NANO) for i, (p, _, at) in enumerate(rows)]
    return trace, jobs


def lengths(jobs: list[Job], cache: CacheConfig) -> list[dict[str, int]]:
    """What the slow engine hits, and what its groups agreed on when a request was admitted."""
    scheduler = Scheduler(Config(cache, max_num_seqs=256, dt=NANO, accept=(1,)))
    lookup = scheduler.manager.lookup
    found: dict[int, dict[str, int]] = {}

    def noted(r: Request) -> Any:
        index = next(job.index for job in jobs if job.request is r)
        if not r.preemptions:
            found[index] = agreed(scheduler.manager, r)
        return lookup(r)

    scheduler.manager.lookup = noted  # type: ignore[method-assign]
    scheduler.run(jobs)
    return [{**found[job.index], "hit": job.hit_tokens} for job in jobs]


def classes(  # noqa: PLR0917
    texts: list[list[int]],
    prompt: int,
    row: int,
    hit: int,
    infinite: dict[str, int],
    cache: CacheConfig,
) -> list[str]:
    """The class of each token of one prompt."""
    text = texts[row]
    same = min(max((common(text[:prompt], texts[j]) for j in range(row)), default=0), prompt)
    types = {g.type for g in cache.groups}
    named = []
    for at in range(prompt):
        block = at // 4 * 4 + 4  # where its block of full attention ends
        own = at // 2 * 2 + 2 if cache.fine else block
        whole = -(-(at + 1) // cache.alignment) * cache.alignment
        if at < hit:
            named.append("hit")
        elif at < infinite["hit"]:
            named.append("evicted")
        elif at < infinite["aligned"]:
            named.append("speculative_drop")
        elif (
            "mamba" in types
            and at
            < (infinite["window"] if "sliding_window" in types else infinite["full"])
            // cache.alignment
            * cache.alignment
        ):
            named.append("state")
        elif at < infinite["full"] // cache.alignment * cache.alignment:
            named.append("window")
        elif block <= min(same, prompt - 1) and (cache.fine or whole <= min(same, prompt - 1)):
            named.append("in_flight")
        elif own <= min(same, prompt - 1):
            named.append("alignment")
        elif own <= same:
            named.append("last_token")
        elif at < same:
            named.append("rounding")
        else:
            named.append("cold")
    return named


def along(fall: Waterfall, request: int) -> list[str]:
    edges = fall.edges[request].tolist()
    return [ALONG[k] for k in range(len(ALONG)) for _ in range(edges[k], edges[k + 1])]


@pytest.mark.parametrize("case", CASES)
@settings(max_examples=40, deadline=None)
@given(rows=prompts, blocks=st.none() | st.integers(40, 90))
def test_each_token_is_in_the_class_the_oracle_names(
    case: str, rows: list[Any], blocks: int | None
) -> None:
    text, groups, options = CASES[case]
    trace, jobs = traced(rows)
    given_: dict[str, Any] = {ENGINE_NAMES.get(k, k): v for k, v in options.items()}
    if "drafts" in options:
        given_["spec_acceptance"] = (1,)
    fall = prefixsim.replay(
        trace,
        engine="vllm",
        kv_groups=text,
        num_blocks=blocks,
        block_size=2 if "prefix_match_unit" in options else 4,
        latency="1s",
        async_scheduling=False,
        cache_outputs=True,
        **given_,
    ).waterfall()
    cache = CacheConfig(groups, blocks or 5000, batch_tokens=8192, **options)
    bounded = lengths(jobs, cache)
    infinite = lengths(traced(rows)[1], CacheConfig(groups, 5000, batch_tokens=8192, **options))
    texts = [[*job.request.tokens[: job.request.prompt], *job.outputs[:-1]] for job in jobs]
    for i, job in enumerate(jobs):
        if bounded[i]["hit"] > infinite[i]["hit"]:
            continue  # its timing was another one
        if job.request.preemptions:
            continue
        expected = classes(texts, job.request.prompt, i, bounded[i]["hit"], infinite[i], cache)
        assert along(fall, i) == expected, i
    assert sum(fall.totals.values()) == fall.prompt_tokens
    assert list(fall.totals) == list(CLASSES)
    for name in OF_GROUPS:
        if fall.totals[name]:
            event(name)


def conversation() -> Trace:
    """Turns of one conversation beside siblings of a prompt: what windows and states lose."""
    system = list(range(600))
    first = [*system, *range(1000, 1300)]
    turns = [first, [*first, *range(2000, 2100), *range(3000, 3050)]]
    siblings = [[*system, *range(k, k + 40)] for k in (5000, 6000, 7000)]
    prompts_ = [*turns, *siblings]
    outputs = [list(range(2000, 2100)), *[[1, 2]] * 4]
    return Trace.from_prompts(prompts_, outputs=outputs, timestamp=[10.0 * i for i in range(5)])


@pytest.mark.parametrize(
    ("given", "name", "remedy"),
    [
        ({"kv_groups": "full,sliding_window=64:3"}, "window", {"retention_interval": None}),
        ({"kv_groups": "full@32,mamba@32"}, "state", {"retention_interval": None}),
        ({"kv_groups": "full@256,mamba@256"}, "alignment", {"prefix_match_unit": 64}),
        (
            {
                "kv_groups": "full@64,mamba@64",
                "spec_method": "mtp",
                "num_speculative_tokens": 1,
                "eagle_hits": "drop",
            },
            "speculative_drop",
            {"eagle_hits": "lookahead"},
        ),
    ],
)
def test_what_recovers_each_loss(given: dict[str, Any], name: str, remedy: dict[str, Any]) -> None:
    result = prefixsim.replay(conversation(), engine="vllm", **given)
    fall = result.waterfall()
    assert fall.totals[name] > 0
    found = next(r for r in fall.remedies if r.settings == remedy)
    assert name in found.classes
    assert found.gained_tokens > 0
    again = result.again(**remedy)
    assert found.hit_tokens == int(again.outcome.hit_tokens.sum())
    assert "policy_tokens" not in fall.to_dict()["classes"]["evicted"]
