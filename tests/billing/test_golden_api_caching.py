"""The worked examples of the providers' rules, read from the table that states them."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from prefixsim import Trace
from prefixsim.billing.charge import Charge
from prefixsim.billing.prices import PriceFile, prices_of
from prefixsim.billing.rules import provider_named
from prefixsim.billing.usage import Replayer
from tests.billing.prices import DAY, price_file
from tests.golden import golden_root

_RULES = golden_root() / "api-caching" / "RULES.md"
_NUMBER = r"[\d,]+"


def _examples() -> list[tuple[str, str, str]]:
    """Rows of the table of worked examples; 'the same' stands for what the row before says."""
    if not _RULES.is_file():
        return []
    text = _RULES.read_text(encoding="utf-8").partition("Worked examples")[2]
    rows = [
        tuple(cell.strip() for cell in line.strip("|").split("|"))
        for line in text.splitlines()
        if line.startswith("|")
    ]
    return [(a, b, c) for a, b, c in rows[2:]]


def _number(text: str) -> int:
    return int(text.replace(",", ""))


def _requests(told: str, known: dict[str, tuple[list[int], float]]) -> None:
    """Read what the row says of A, B and C: tokens and second; B and C go on from the one before.

    A prompt is a list of token ids.
    """
    for tokens in re.findall(rf"\bA: ({_NUMBER})", told):
        known.clear()
        known["A"] = (list(range(_number(tokens))), 0.0)
    for more in re.findall(rf"B: the same {_NUMBER} \+ (\d+)", told):
        known["B"] = (known["A"][0] + list(range(10**6, 10**6 + int(more))), 60.0)
    for shared in re.findall(rf"B shares ({_NUMBER}) and then differs", told):
        known["B"] = (list(range(_number(shared))) + list(range(10**6, 10**6 + 3000)), 60.0)
    for more in re.findall(r"C = B \+ (\d+)", told):
        known["C"] = (known["B"][0] + list(range(2 * 10**6, 2 * 10**6 + int(more))), 0.0)
    seconds = rf"at ({_NUMBER}) s"
    times = rf"(B): [^;]* {seconds}|(C) = B \+ \d+ {seconds}|same, ([BC]) {seconds}"
    for match in re.findall(times, told):
        name, second = (part for part in match if part)
        known[name] = (known[name][0], float(_number(second)))


def _cases() -> list[object]:
    found: list[object] = []
    known: dict[str, tuple[list[int], float]] = {}
    for told, rule, expected in _examples():
        _requests(told, known)
        names = (
            {"openai", "anthropic"}
            if rule.startswith("either")
            else {re.split(r"\W", rule)[0].lower()}
        )
        for name in sorted(names):
            shown = re.sub(r"\W+", "-", f"{name} {told}")[:70]
            found.append(pytest.param(dict(known), name, expected, id=shown))
    skip = pytest.mark.skip(reason=f"no table {_RULES}")
    return found or [pytest.param({}, "", "", marks=skip, id="absent")]


def _expected(text: str, name: str, tokens: int) -> tuple[int, int, int] | None:
    if text.startswith("no reads, no writes"):
        return (0, 0, tokens)
    match = re.search(rf"\b{name} ({_NUMBER})/({_NUMBER}|all)/({_NUMBER}|rest)", text)
    if match is None:
        return None
    read = _number(match[1])
    written = tokens - read if match[2] == "all" else _number(match[2])
    rest = tokens - read - written if match[3] == "rest" else _number(match[3])
    return read, written, rest


@pytest.mark.parametrize(("requests", "name", "expected"), _cases())
def test_golden_api_caching(
    requests: dict[str, tuple[list[int], float]],
    name: str,
    expected: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    prompts, times = zip(*requests.values(), strict=True)
    trace = Trace.from_prompts(prompts, timestamp=times)
    rules = replace(provider_named(name, "example"), minimum=1024)
    prices = prices_of(rules, PriceFile(price_file(tmp_path_factory.mktemp("prices"))), DAY)
    charge = Charge(trace, rules, None, prices, Replayer(trace).usage(rules))
    checked = 0
    for row, (request, (prompt, _)) in enumerate(requests.items()):
        wanted = _expected(expected, request, len(prompt))
        if wanted is None:
            continue
        checked += 1
        found = tuple(
            int(charge._columns[column][row])
            for column in ("read_tokens", "written_tokens", "rest_tokens")
        )
        assert found == wanted, request
    assert checked > 0, expected


def test_golden_api_caching_has_every_example() -> None:
    if not _RULES.is_file():
        pytest.skip(f"no table {_RULES}")
    assert len(_examples()) >= 8
