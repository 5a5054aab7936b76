"""Policies of your own, in Python."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Iterator, Set
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import prefixsim
from prefixsim import InputError, Policy
from prefixsim.cli import main
from prefixsim.eviction import POLICIES
from prefixsim.forest import compile  # noqa: A004
from prefixsim.own_policies import (
    PolicySetting,
    Segments,
    read_policy,
    register_policy,
    unregister_policy,
)
from tests.oracle import forest, policies
from tests.oracle.policies.keyed import Keyed, Segment
from tests.policy.own import Blocks, Failing, FirstUse, LastUse, Uses, Weighed
from tests.policy.test_policies import sorted_values
from tests.strategies import Small, small_traces

OURS = [(LastUse, "lru"), (FirstUse, "fifo"), (Uses, "lfu"), (Blocks, "lru")]
NAMES = ("last", "previous", "first", "uses", "depth", "size")
HERE = "tests.policy.own"


@pytest.fixture(scope="module")
def chat() -> prefixsim.Trace:
    return prefixsim.generate("chat", requests=300, seed=3).trace()


@pytest.mark.parametrize(("own", "name"), OURS)
@settings(max_examples=25)
@given(small=small_traces(max_requests=16), rule=st.booleans(), outputs=st.booleans())
def test_those_in_python_equal_ours_at_every_capacity(
    own: type[Policy], name: str, small: Small, rule: bool, outputs: bool
) -> None:
    compiled = compile(small.trace(), outputs=outputs)
    for b in (1, 2):
        profile = compiled.profile(b)
        for capacity in [*range(1, profile.unique_blocks + 2), None]:
            expected = profile.replay(name, capacity, last_token_rule=rule, residency=True)
            got = profile.replay(own(), capacity, last_token_rule=rule, residency=True)
            assert got["hit_blocks"].tolist() == expected["hit_blocks"].tolist()
            assert got["evictions"] == expected["evictions"]
            for ages in ("lifetime_s", "idle_s"):
                assert sorted_values(got[ages]) == sorted_values(expected[ages])


@settings(max_examples=60)
@given(
    small=small_traces(max_requests=16),
    weights=st.tuples(*[st.integers(-3, 3)] * 6),
    dynamic=st.booleans(),
)
def test_keys_equal_the_oracle(small: Small, weights: tuple[int, ...], dynamic: bool) -> None:
    def key(_: Keyed, at: int, s: Segment) -> float:
        known = (s.last_use, s.previous_use, s.first_use, s.uses, s.depth, s.size)
        return float(sum(w * column for w, column in zip(weights, known, strict=True)))

    oracle = type("Oracle", (Keyed,), {"dynamic": dynamic, "key": key})
    own = Weighed(**dict(zip(NAMES, weights, strict=True)), dynamic=dynamic)
    requests = forest.requests_of(small.prompts, 1, salts=small.salts)
    profile = compile(small.trace()).profile(1)
    for capacity in range(1, profile.unique_blocks + 2):
        expected = policies.replay(oracle, requests, capacity)
        got = profile.replay(own, capacity)
        assert got["hit_blocks"].tolist() == expected.hits
        assert got["evictions"] == expected.evictions


@pytest.mark.parametrize(("own", "name"), OURS)
def test_every_question_takes_them(chat: prefixsim.Trace, own: type[Policy], name: str) -> None:
    mine = own()
    ours = prefixsim.replay(chat, engine="ideal", policy=name, num_blocks=300)
    found = prefixsim.replay(chat, engine="ideal", policy=mine, num_blocks=300)
    assert found.summary == ours.summary
    assert found.config["policy"] == mine.label
    assert json.loads(found.to_json())["config"]["policy"] == mine.label

    table = prefixsim.sweep(chat, policy=[mine, name], capacity=[100, 300])
    rows = {(r["policy"], r["capacity_blocks"]): r["hit_tokens"] for r in table.to_pylist()}
    assert rows[mine.label, 100] == rows[name, 100]
    assert rows[mine.label, 300] == rows[name, 300] == found.summary["hit_tokens"]

    both: list[str | Policy] = [mine, name]
    curves = prefixsim.curve(chat, policy=both, capacity=[100, 300])
    assert curves[0].policy == mine.label
    assert [p.hit_tokens for p in curves[0].points] == [p.hit_tokens for p in curves[1].points]
    assert prefixsim.curve(chat, policy=mine).hit_rate(300) == curves[1].hit_rate(300)

    runs = prefixsim.compare(chat, engine="ideal", policy=[mine, name], num_blocks=300).runs
    assert [settings["policy"] for settings, _ in runs] == [mine.label, name]
    assert runs[0][1] == runs[1][1]

    falls = [
        prefixsim.explain(chat, engine="ideal", policy=policy, num_blocks=300)
        for policy in (mine, name)
    ]
    assert falls[0].totals == falls[1].totals


@pytest.mark.parametrize("policy", [*POLICIES, f"{HERE}:LastUse", Blocks()], ids=str)
def test_explain_and_compare_take_every_policy(chat: prefixsim.Trace, policy: str | Policy) -> None:
    given: dict[str, Any] = {"engine": "ideal", "policy": policy, "num_blocks": 300}
    result = prefixsim.replay(chat, **given)
    fall = prefixsim.explain(chat, **given)
    assert fall.totals["hit"] == result.summary["hit_tokens"]
    assert sum(fall.totals.values()) == chat.prompt_tokens
    [(settings, summary)] = prefixsim.compare(chat, **given).runs
    assert settings["policy"] == str(policy)
    assert summary["hit_tokens"] == result.summary["hit_tokens"]


@pytest.mark.parametrize("policy", ["arc", FirstUse()], ids=str)
def test_a_report_takes_every_policy(
    chat: prefixsim.Trace, policy: str | Policy, tmp_path: Path
) -> None:
    page = tmp_path / "page.html"
    prefixsim.report(chat, page, engine="ideal", policy=policy, num_blocks=300)
    assert f"policy {policy}" in page.read_text()


def test_replays_know_nothing_of_each_other(chat: prefixsim.Trace) -> None:
    class Counting(Policy):
        name = "counting"

        def __init__(self) -> None:
            self._asked = 0

        def priority(self, segments: Segments) -> np.ndarray:
            self._asked += 1
            return segments.last_use % (self._asked + 1)

    policy = Counting()
    first = [prefixsim.replay(chat, engine="ideal", policy=policy, num_blocks=n) for n in (99, 200)]
    again = prefixsim.sweep(chat, policy=policy, capacity=[200, 99, None]).to_pylist()
    assert policy._asked == 0
    assert [row["hit_tokens"] for row in again[:2]] == [
        r.summary["hit_tokens"] for r in first[::-1]
    ]


def test_a_policy_knows_its_setting(chat: prefixsim.Trace) -> None:
    known: list[PolicySetting] = []

    class Curious(LastUse):
        def start(self) -> None:
            known.append(self.setting)

    prefixsim.replay(chat, engine="ideal", policy=Curious(), block_size=32, num_blocks=70)
    [setting] = known
    assert (setting.block_size, setting.capacity) == (32, 70)
    assert setting.timestamp.tolist() == chat.timestamp.tolist()


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        (Failing(), "request 3: ZeroDivisionError: division by zero"),
        (Failing("shape"), "request 3: keys of shape (1, 1) for 1 segments, give (1,)"),
        (Failing("nan"), "request 3: the key of segment 0 is not a number, give numbers"),
        (Failing("text"), "request 3: ValueError: could not convert string to float: 'a'"),
    ],
)
def test_what_goes_wrong_in_them_is_one_clear_error(policy: Policy, message: str) -> None:
    trace = prefixsim.Trace.from_prompts([[i] for i in range(9)])
    asks: list[Callable[[], object]] = [
        lambda: prefixsim.replay(trace, engine="ideal", policy=policy, block_size=1, num_blocks=1),
        lambda: prefixsim.sweep(trace, policy=["lru", policy], block_size=1, capacity=[1, None]),
        lambda: prefixsim.curve(trace, policy=policy, block_size=1, capacity=1).points,
    ]
    for ask in asks:
        with pytest.raises(InputError) as caught:
            ask()
        assert str(caught.value) == f"policy {policy.label}, {message}"
    assert policy.label == f"{HERE}:Failing:how={policy.how}:at=3"  # type: ignore[attr-defined]


def test_the_exception_of_a_policy_is_the_cause_of_the_error() -> None:
    trace = prefixsim.Trace.from_prompts([[i] for i in range(9)])
    with pytest.raises(InputError) as caught:
        prefixsim.replay(trace, engine="ideal", policy=Failing(), block_size=1, num_blocks=1)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)

    class Interrupted(LastUse):
        def priority(self, segments: Segments) -> np.ndarray:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prefixsim.replay(trace, engine="ideal", policy=Interrupted(), block_size=1, num_blocks=1)


def test_a_block_that_may_not_go_is_refused() -> None:
    class Wrong(Blocks):
        def victim(self, request: int, leaves: Set[int]) -> int:
            return 7

    trace = prefixsim.Trace.from_prompts([[1], [2], [3]])
    with pytest.raises(InputError, match="request 1: block 7 may not go, choose one of the 1 leav"):
        prefixsim.replay(trace, engine="ideal", policy=Wrong(), block_size=1, num_blocks=1)


def test_a_policy_has_one_way_to_say_what_goes() -> None:
    class Neither(Policy):
        """Says nothing."""

    class Both(LastUse):
        def victim(self, request: int, leaves: Set[int]) -> int:
            return min(leaves)

    for policy, ways in ((Neither(), "neither priority nor"), (Both(), "both priority and")):
        with pytest.raises(InputError, match=f"it has {ways} victim, write one of them"):
            read_policy(policy)


def test_pickled_policies_are_equal_ones(chat: prefixsim.Trace) -> None:
    policy = Weighed(uses=50)
    other = pickle.loads(pickle.dumps(policy))
    assert other.label == policy.label == "weighed:last=1:previous=0:first=0:uses=50:depth=0:size=0:dynamic=false"  # fmt: skip # noqa: E501
    runs = [
        prefixsim.replay(chat, engine="ideal", policy=p, num_blocks=99) for p in (policy, other)
    ]
    assert runs[0].summary == runs[1].summary


def test_two_of_one_name_are_refused(chat: prefixsim.Trace) -> None:
    for ask in (prefixsim.sweep, prefixsim.curve):
        with pytest.raises(InputError, match="own:LastUse: two are called so, give each a name"):
            ask(chat, policy=[LastUse(), LastUse()])
    with pytest.raises(InputError, match="two are called so"):
        prefixsim.compare(chat, engine="ideal", policy=[LastUse(), LastUse()])


@pytest.fixture
def registered() -> Iterator[None]:
    register_policy("weighed", Weighed)
    yield
    unregister_policy("weighed")


@pytest.mark.usefixtures("registered")
def test_names_and_their_parameters() -> None:
    for text in ("weighed:uses=3:dynamic=true", f"{HERE}:Weighed:uses=3:dynamic=true"):
        policy = read_policy(text)
        assert isinstance(policy, Weighed)
        assert (policy.uses, policy.dynamic) == (3, True)
    assert read_policy("s3fifo:threshold=2") == "s3fifo"
    for name, problem in (("lru", "is there already"), ("Not So", "a name is lower-case words")):
        with pytest.raises(InputError, match=problem):
            register_policy(name, Uses)
    with pytest.raises(InputError, match="is no class derived from prefixsim.Policy"):
        register_policy("mine", Policy)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("mru", 'policy "mru": choose from lru, clairvoyant'),
        ("nowhere:Mine", "policy nowhere:Mine cannot be loaded: ModuleNotFoundError"),
        (f"{HERE}:Mine", f"policy {HERE}:Mine cannot be loaded: AttributeError"),
        (f"{HERE}:np", f"policy {HERE}:np: it is no class derived from prefixsim.Policy"),
        (f"{HERE}:Weighed:uses", "give parameters as key=value, not 'uses'"),
        (f"{HERE}:Weighed:of=1", "TypeError: Weighed.__init__() got an unexpected keyword"),
    ],
)
def test_names_that_are_none(text: str, problem: str) -> None:
    with pytest.raises(InputError) as caught:
        read_policy(text)
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)


def test_packages_offer_policies(monkeypatch: pytest.MonkeyPatch) -> None:
    from prefixsim import own_policies

    point = metadata.EntryPoint("offered", f"{HERE}:Uses", own_policies.ENTRY_POINTS)
    monkeypatch.setattr(metadata, "entry_points", lambda group: [point])
    monkeypatch.setattr(own_policies._REGISTRY, "_discovered", False)
    try:
        assert isinstance(read_policy("offered"), Uses)
    finally:
        unregister_policy("offered")


def test_the_command_line_takes_them(
    chat: prefixsim.Trace, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    chat.write(tmp_path / "chat.parquet")
    (tmp_path / "mine_of_here.py").write_text(
        "import prefixsim\n\n"
        "class Mine(prefixsim.Policy):\n"
        "    def priority(self, segments):\n"
        "        return segments.last_use\n"
    )
    monkeypatch.chdir(tmp_path)
    for command in ("sweep", "curve"):
        given = ["chat.parquet", "--capacity", "300", "--policy", "lru,mine_of_here:Mine", "--json"]
        assert main([command, *given]) == 0
        found = json.loads(capsys.readouterr().out)
        rows = found["runs"] if command == "sweep" else [c["points"][0] for c in found["curves"]]
        assert rows[0]["hit_tokens"] == rows[1]["hit_tokens"] > 0
    given = ["chat.parquet", "--num-blocks", "300", "--policy", "mine_of_here:Mine"]
    assert main(["replay", *given]) == 0
    assert "mine_of_here:Mine" in capsys.readouterr().out
    assert main(["replay", "chat.parquet", "--policy", "mine_of_here:Yours"]) == 2
    assert "cannot be loaded" in capsys.readouterr().err
