"""Bills: money, breakpoints, times to live, files of prices, and the command."""

from __future__ import annotations

import json
import sys
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

import prefixsim
from prefixsim import InputError, MissingExtraError, Trace
from prefixsim.billing.prices import PriceFile, prices_of
from prefixsim.billing.rules import provider_named, provider_names, read_ttl
from prefixsim.billing.tables import bill_tables, dollars
from prefixsim.cli import main
from prefixsim.table import plain
from tests.billing.prices import DAY, price_file


@pytest.fixture
def prices(tmp_path: Path) -> Path:
    return price_file(tmp_path)


def _chats(salt: bool = False) -> Trace:
    shared = list(range(2000))
    prompts = [shared + list(range(k * 10_000, k * 10_000 + 1500)) for k in range(1, 5)]
    names = ["a", "a", "b", "b"] if salt else None
    return Trace.from_prompts(prompts, output_len=[100] * 4, salt=names)


def test_money_is_exact(prices: Path) -> None:
    trace = Trace.from_prompts([range(3000), range(3100)], timestamp=[0, 60], output_len=[7, 0])
    charge = prefixsim.bill(trace, "anthropic", prices=prices).charges[0]
    read, write, plain_, output = (Decimal(p) for p in ("0.30", "3.75", "3.00", "15.00"))
    million = Decimal(1_000_000)
    assert charge.total.cost == (3000 * read + 3100 * write + 7 * output) / million
    assert charge.total.cost_without == (6100 * plain_ + 7 * output) / million
    assert charge.break_even == Decimal("0.75") / Decimal("2.70")
    assert charge.reread_share == 3000 / 3100


def test_longer_prompts_have_prices_of_their_own(prices: Path) -> None:
    ids = np.arange(200_001, dtype=np.uint32)
    trace = Trace.from_prompts([ids[:200_000], ids[::-1]], timestamp=[0, 1])
    charge = prefixsim.bill(trace, "anthropic", prices=prices, findings=False).charges[0]
    assert charge.total.cost_without == Decimal("0.6") + 200_001 * Decimal(6) / 1_000_000
    assert charge.total.cost == Decimal("0.75") + 200_001 * Decimal("7.5") / 1_000_000


def test_labels_add_up(prices: Path) -> None:
    found = prefixsim.bill(_chats(salt=True), ["openai", "anthropic"], prices=prices)
    assert found.labels == ["salt"]
    for charge in found.charges:
        parts = [amount for of, _, amount in found.by("salt") if of is charge]
        assert sum(part.cost for part in parts) == charge.total.cost
        assert sum(part.read_tokens for part in parts) == charge.total.read_tokens
    with pytest.raises(InputError, match="no column 'category'"):
        found.by("category")


def test_other_breakpoints_save_what_a_bill_with_them_says(prices: Path) -> None:
    found = prefixsim.bill(_chats(), "anthropic", prices=prices)
    now = found.charges[0].total.cost
    words = "breakpoints where shared prefixes end and on the last block"
    saves = next(a.saves for a in found.alternatives if a.change == words)
    other = prefixsim.bill(_chats(), "anthropic", prices=prices, breakpoints="shared+end")
    assert saves == now - other.charges[0].total.cost > 0
    assert other.charges[0].total.read_tokens == 6000


def test_a_time_to_live_saves_what_a_bill_with_it_says(prices: Path) -> None:
    trace = Trace.from_prompts([range(3000)] * 3, timestamp=[0, 1000, 2000])
    found = prefixsim.bill(trace, "anthropic", prices=prices)
    saves = next(a.saves for a in found.alternatives if a.change == "keep entries 1h")
    hour = prefixsim.bill(trace, "anthropic", ttl="1h", prices=prices).charges[0].total.cost
    assert saves == found.charges[0].total.cost - hour > 0
    times = prefixsim.bill(trace, "anthropic,openai", ttl="5m,24h", prices=prices).charges
    kept = [(c.provider.name, c.provider.ttl) for c in times]
    assert kept == [("anthropic", "5m"), ("openai", "5m"), ("openai", "24h")]


def test_what_the_lint_finds_has_a_price(prices: Path) -> None:
    rules = list(range(1200))
    trace = Trace.from_prompts([[50_000 + k, *rules] for k in range(6)])
    found = prefixsim.bill(trace, "anthropic", prices=prices)
    lost = prefixsim.lint(trace).findings[0].tokens
    mended = next(a for a in found.alternatives if a.at_most)
    assert mended.saves == lost * Decimal("2.70") / 1_000_000


def test_what_is_not_published_is_said(prices: Path) -> None:
    found = prefixsim.bill(_chats(), "openai,deepseek,gemini-explicit", prices=prices)
    told = {name: " ".join(lines) for name, lines in found.assumptions.items()}
    assert "upper bound" in told["openai"]
    assert "busiest prefix gets 4 requests" in told["openai"]
    assert "hours to days" in told["deepseek"]
    assert "prices.toml, 2026-11-01" in told["deepseek"]


def test_stored_prefixes_cost_storage(prices: Path) -> None:
    charge = prefixsim.bill(_chats(), "gemini-explicit", prices=prices).charges[0]
    million = Decimal(1_000_000)
    output = 400 * Decimal(15) / million
    stored = 2000 * (Decimal(3) + Decimal(1)) / million
    assert charge.total.cost - output == stored + (8000 * Decimal("0.3") + 6000 * 3) / million


def test_prices_of_the_package_are_dated() -> None:
    pytest.importorskip("genai_prices")
    for name in provider_names():
        known = prices_of(provider_named(name), None, DAY)
        assert known.date == "2026-11-24"
        assert known.bands[0].input > known.bands[0].of_read > 0, name
    writes = prices_of(provider_named("anthropic"), None, DAY).bands[0].write
    assert set(writes) == {300.0, 3600.0}
    with pytest.raises(InputError, match="no prices of 'claude-sonet-4-5', did you mean"):
        prices_of(provider_named("anthropic", "claude-sonet-4-5"), None, DAY)


def test_longer_prompts_cost_what_the_package_says() -> None:
    genai = pytest.importorskip("genai_prices")
    from datetime import UTC, datetime

    at = datetime(2026, 11, 24, tzinfo=UTC)
    rng = np.random.default_rng(1)
    lengths = [5000, 200_000, 200_001, 260_000]
    prompts = [rng.integers(0, 2**31, n, dtype=np.uint32) for n in lengths]
    trace = Trace.from_prompts(prompts, output_len=[10, 20, 30, 40])
    spec = "anthropic:claude-sonnet-4-5"
    charge = prefixsim.bill(trace, spec, price_date=DAY, findings=False).charges[0]
    with_cache = sum(
        genai.calc_price(
            genai.Usage(input_tokens=n, cache_write_tokens=n, output_tokens=10 * (i + 1)),
            "claude-sonnet-4-5", provider_id="anthropic", genai_request_timestamp=at,
        ).total_price
        for i, n in enumerate(lengths)
    )  # fmt: skip
    assert charge.total.cost == with_cache


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "genai_prices", None)
    monkeypatch.setitem(sys.modules, "genai_prices.data_snapshot", None)
    with pytest.raises(MissingExtraError, match=r"prefixsim\[bill\]"):
        prefixsim.bill(_chats(), "anthropic")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[anthropic.example]\nread = 1", "no price of input tokens"),
        ("[anthropic.example]\ninput = -1", "input is -1"),
        ("[anthropic.example]\ninput = true", "input is True"),
        ("[anthropic.example]\ninput = 1\nreed = 1", "did you mean read"),
        ("[anthropic]\nexample = 3", "give a table of prices"),
        ("input = ", "no TOML"),
        ("[anthropic.example]\ninput = 1\nminimum = 0", "minimum is 0"),
        ("[anthropic.example]\ninput = 1\nwrite = { 5x = 1 }", "ttl '5x'"),
    ],
)
def test_bad_prices_are_one_line(text: str, told: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(InputError, match=told):
        PriceFile(path).prices("anthropic", "example")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ("--provider antropic", "no provider 'antropic', did you mean anthropic?"),
        ("--provider anthropic --ttl 2h", "anthropic keeps entries for 5m or 1h"),
        ("--provider openai --ttl soon", "ttl 'soon': give a time"),
        ("--prices missing.toml", "missing.toml: no such file"),
        ("--price-date tomorrow", "give a day like"),
        ("--breakpoints middle", "choose one of end, shared, shared+end"),
        ("--provider anthropic:claude-x --prices prices.toml", "has no 'claude-x'"),
    ],
)
def test_bad_options_are_one_line(
    options: str,
    told: str,
    prices: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(prices.parent)
    _chats().write("t.jsonl")
    assert main(["bill", "t.jsonl", *options.split()]) == 2
    shown = capsys.readouterr().err
    assert told in shown
    assert shown.count("\n") == 1


def test_the_command_prints_json(
    prices: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(prices.parent)
    _chats(salt=True).write("t.jsonl")
    line = "bill t.jsonl --provider anthropic --ttl 5m,1h --prices prices.toml --json"
    assert main(line.split()) == 0
    shown = json.loads(capsys.readouterr().out)["bill"]
    assert [c["ttl_s"] for c in shown["charges"]] == [300, 3600]
    found = prefixsim.bill("t.jsonl", "anthropic", ttl=["5m", "1h"], prices=prices)
    assert shown == json.loads(prefixsim._json.dumps(found.to_dict()))
    assert Decimal(shown["charges"][0]["cost"]) == found.charges[0].total.cost


def test_tables_say_when_nothing_is_cached(prices: Path) -> None:
    trace = Trace.from_prompts([[1, 2, 3]])
    found = prefixsim.bill(trace, "openai,anthropic", prices=prices)
    text = plain(bill_tables(found))
    assert "no prompt of 1,024 tokens: nothing is cached" in text
    assert "no outputs in the trace" in text
    empty = prefixsim.bill(trace[:0], "openai,anthropic,deepseek", prices=prices)
    assert all(charge.total.cost == 0 for charge in empty.charges)
    assert "$0.00" in plain(bill_tables(empty))


def test_figures_as_people_write_them() -> None:
    assert [dollars(Decimal(x)) for x in ("1234.5", "-0.01234", "0")] == [
        "$1,234.50", "-$0.0123", "$0.00",
    ]  # fmt: skip
    assert [read_ttl(x) for x in ("5m", "300s", "5 min", "1h", "1d")] == [
        300,
        300,
        300,
        3600,
        86400,
    ]
