"""Formats that are registered: read, sniffed and named like our own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from prefixsim import InputError, Trace
from prefixsim.cli import main
from prefixsim.formats import (
    Confidence,
    Family,
    Format,
    Head,
    ReadOptions,
    format_names,
    formats,
    read_trace,
    register,
    sniff_format,
)
from prefixsim.formats import _registry as registry


def _matches(head: Head) -> Confidence:
    return Confidence.CERTAIN if head.columns == ["at", "tokens"] else Confidence.NO


def _read(path: Path, options: ReadOptions) -> Trace:
    at, tokens = np.loadtxt(path, delimiter=",", skiprows=1, ndmin=2, unpack=True)
    lengths = tokens.astype(np.uint32)
    trace = Trace(timestamp=at, prompt_len=lengths, output_len=np.zeros_like(lengths))
    return trace.sorted() if options.sort else trace


TOY = Format("toy", "Toy CSV: at (s), tokens", Family.CSV, _matches, _read)


@pytest.fixture
def toy() -> Iterator[Format]:
    registry._registered.clear()
    yield register(TOY)
    registry._registered.clear()


@pytest.fixture
def toy_file(tmp_path: Path) -> Path:
    path = tmp_path / "toy.csv"
    path.write_text("at,tokens\n0,5\n1.5,7\n")
    return path


def test_a_registered_format_is_found_and_read(toy: Format, toy_file: Path) -> None:
    assert sniff_format(toy_file) is toy
    trace = read_trace(toy_file)
    assert (trace.format, trace.prompt_len.tolist()) == ("toy", [5, 7])
    assert read_trace(toy_file, format="toy").timestamp.tolist() == [0, 1.5]
    assert format_names()[-1] == "toy"


@pytest.mark.usefixtures("toy")
def test_the_command_line_knows_it(toy_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(toy_file)]) == 0
    assert main(["info", str(toy_file), "--format", "toy"]) == 0
    other = toy_file.with_suffix(".txt")
    other.write_text('{"nothing": 1}\n')
    capsys.readouterr()
    assert main(["info", str(other)]) == 2
    assert capsys.readouterr().err.endswith(", toy\n")


def test_without_it_the_file_is_of_no_format(toy_file: Path) -> None:
    with pytest.raises(InputError, match=r"fields \(at, tokens\) fit no trace format"):
        read_trace(toy_file)


def test_the_surest_format_reads_and_registered_ones_are_asked_first(
    toy: Format, tmp_path: Path
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"timestamp": 0, "prompt_len": 3}\n')
    assert sniff_format(path).name == "jsonl"
    unsure = replace(toy, name="unsure", family=Family.JSON, matches=lambda _: Confidence.POSSIBLE)
    register(unsure)
    assert sniff_format(path) is unsure
    sure = replace(unsure, name="sure", matches=lambda _: Confidence.CERTAIN)
    register(sure)
    assert sniff_format(path) is sure


@pytest.mark.usefixtures("toy")
@pytest.mark.parametrize("name", ["toy", "mooncake", "", "Two words"])
def test_names_that_are_taken_or_none(name: str) -> None:
    with pytest.raises(InputError, match="there already|lower-case"):
        register(replace(TOY, name=name))


def test_the_registry_lists_every_format_under_the_families_it_states() -> None:
    for chosen in formats():
        listed = {family for family, homes in registry._HOMES.items() if chosen.name in homes}
        assert listed == set(chosen.family), chosen.name
