"""``prefixsim replay`` as its users run it."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from typing import Any

import pytest

import prefixsim
from prefixsim.cli import main
from tests.commands import Cli
from tests.golden import records


@pytest.mark.parametrize("record", records("reference", "mooncake_conversation.json"))
def test_golden_reference_mooncake(cli: Cli, shared: Path, record: dict[str, Any]) -> None:
    trace = shared / "data/mooncake/conversation_trace.jsonl.gz"
    options = ["--engine", "lru", "--block-size", record["block"]]
    if record["capacity"] is not None:
        options += ["--num-blocks", record["capacity"]]
    if not record["vllm_rule"]:
        options.append("--whole-prompt-hits")
    if record["partial"] == "keep":
        options.append("--partial-blocks")
    code, out, err = cli("replay", trace, "--json", *options)
    assert (code, err) == (0, "")
    check_reference(json.loads(out)["summary"], record)


def check_reference(summary: dict[str, Any], record: dict[str, Any]) -> None:
    for name in ("requests", "prompt_tokens", "hit_tokens", "total_blocks", "unique_blocks",
                 "requests_with_hit", "evictions"):  # fmt: skip
        assert summary[name] == record[name], name
    assert summary["blocks_reused"] == record["hit_blocks"]
    assert summary["blocks_allocated"] == record["total_blocks"] - record["hit_blocks"]
    close = {
        "token_hit_rate": record["token_hit_rate"],
        "block_reuse_rate": record["block_hit_rate"],
    }
    for name, value in close.items():
        assert summary[name] == pytest.approx(value, abs=1e-9)
    for statistic in ("mean", "median"):
        for name, where, unit in (
            ("sharing_fraction", "sharing", 1),
            ("reuse_gap_s", "gap_time", 1e-3),
            ("reuse_gap_requests", "gap_requests", 1),
        ):
            value = record[where][statistic] * unit
            assert summary[name][statistic] == pytest.approx(value, abs=1e-8), name


def test_output_in_a_pipe_is_plain_text(cli: Cli, chats: Path) -> None:
    code, out, err = cli("replay", chats, "--block-size", 4)
    assert (code, err) == (0, "")
    cells = [re.split(r" {2,}", line.strip()) for line in out.splitlines()]
    lines = {first: rest for first, *rest in cells}
    assert "\x1b" not in out
    assert lines["total requests"][0] == "9"
    assert lines["total blocks"][0] == "27"
    # Every turn of a chat adds one block to its last prompt; the first block is that of all chats.
    assert lines["blocks reused"][0] == "17"
    assert lines["blocks allocated"][0] == "10"
    assert lines["unique blocks"][0] == "10"
    assert lines["block reuse rate"] == ["62.96 %", "blocks reused / total blocks"]
    assert lines["token hit rate"] == ["62.96 %", "hit tokens / prompt tokens"]
    assert lines["prefill tokens saved"][0] == "62.96 %"
    assert lines["block hit count"][:4] == ["2.70", "2", "1", "9"]
    # Turns 1 and 2 hit 2/3 and 3/4 of their prompts, turn 0 a half except in the first chat.
    assert lines["sharing fraction"][:4] == ["0.5833", "0.6667", "0.0000", "0.7500"]
    # The first block comes back after 1 s or, at a new turn, 8 s; the others after 10 s.
    assert lines["reuse gap (s)"][:4] == ["6.59", "10.00", "1.00", "10.00"]


def test_json_and_files(cli: Cli, chats: Path, tmp_path: Path) -> None:
    out_file, folder, rows = tmp_path / "r.json", tmp_path / "out", tmp_path / "rows.csv"
    code, out, err = cli(
        "replay", "--trace-file", chats, "--block-size", 4, "--json", "--output-file", out_file,
        "--output-dir", folder, "--requests-out", rows, "--skip-visualization", "--table", "csv",
    )  # fmt: skip
    assert (code, err) == (0, "")
    assert json.loads(out) == json.loads(out_file.read_text())
    assert json.loads(out) == json.loads((folder / "summary.json").read_text())
    assert sorted(p.name for p in folder.iterdir()) == ["requests.csv", "summary.json"]
    assert rows.read_text() == (folder / "requests.csv").read_text()
    first = rows.read_text().splitlines()[:2]
    assert first[0].startswith('"request_id","session","turn","timestamp","prompt_len"')
    assert first[1] == '"0/0","chat-0",0,0,8,1,0,8,"even"'


def test_charts_are_written(cli: Cli, chats: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    assert cli("replay", chats, "--block-size", 4, "--output-dir", folder)[0] == 0
    names = {"block_hit_count", "hit_rate_over_time", "reuse_gap", "sharing_fraction"}
    for ending, magic in (("png", b"\x89PNG"), ("svg", b"<svg")):
        assert {p.stem for p in folder.glob(f"*.{ending}")} == names
        assert all(p.read_bytes().startswith(magic) for p in folder.glob(f"*.{ending}"))
    svg = (folder / "reuse_gap.svg").read_text()
    assert "How soon a block is used again" in svg
    assert "block size 4" in svg
    assert "chats" in svg


def test_several_traces_are_compared(cli: Cli, chats: Path, tmp_path: Path) -> None:
    other = tmp_path / "first_turns.jsonl"
    lines = chats.read_text().splitlines(keepends=True)
    other.write_text("".join(lines[:3]))
    folder = tmp_path / "out"
    code, out, _ = cli("replay", other, chats, "--block-size", 4, "--output-dir", folder)
    assert code == 0
    assert re.search(r"first_turns +chats +ratio", out)
    assert re.search(r"total requests +3 +9 +3x", out)
    assert re.search(r"sharing fraction mean +0\.3333 +", out)
    assert (folder / "comparison.png").exists()
    assert {p.name for p in folder.glob("requests*")} == {
        "requests_1_first_turns.parquet",
        "requests_2_chats.parquet",
    }
    code, out, _ = cli("replay", other, "--trace-file", chats, "--block-size", 4, "--json")
    both = json.loads(out)
    assert [r["trace"]["name"] for r in both] == ["first_turns", "chats"]
    assert both == json.loads((folder / "summary.json").read_text())


def test_rates_by_label(cli: Cli, chats: Path) -> None:
    code, out, _ = cli("replay", chats, "--block-size", 4, "--by", "category")
    assert code == 0
    assert re.search(r"even +6 ", out)
    assert re.search(r"odd +3 ", out)
    assert cli("replay", chats, "--by", "salt") == (
        2, "", "prefixsim: chats: its requests have no salt\n",
    )  # fmt: skip


def test_switches_reach_the_replay(cli: Cli, chats: Path) -> None:
    def summary(*options: object) -> dict[str, Any]:
        code, out, err = cli("replay", chats, "--block-size", 4, "--json", *options)
        assert code == 0, err
        return json.loads(out)["summary"]  # type: ignore[no-any-return]

    base = summary()
    assert summary("--no-prefix-caching")["hit_tokens"] == 0
    assert summary("--whole-prompt-hits")["hit_tokens"] == base["hit_tokens"]
    assert summary("--warmup", 0.5)["requests"] == 5
    assert summary("--engine", "lru", "--num-blocks", 4)["evictions"] > 0


def test_bad_rows_are_left_out_and_counted(cli: Cli, chats: Path) -> None:
    with chats.open("a") as file:
        file.write('{"timestamp": 99, "prompt_len": 1}\nnot json\n')
    code, out, err = cli("replay", chats, "--json")
    assert (code, out) == (2, "")
    assert err.startswith(f"prefixsim: {chats}:10: ")
    code, out, err = cli("replay", chats, "--json", "--skip-bad-rows")
    assert (code, json.loads(out)["summary"]["requests"]) == (0, 9)
    assert err.startswith(f"prefixsim: {chats}: 2 rows left out (")


def write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


ROW = '{"timestamp": 0, "prompt_len": 3, "output_len": 0, "token_ids": [1, 2, 3]}\n'


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        (None, (), "no such file"),
        ("", (), "is empty"),
        ("hello\n", (), "not valid JSON"),
        (ROW.encode()[:-2] + b', "session": "\xff"}\n', (), "UTF-8"),
        ('[{"id": 1}]\n', (), "not a JSON object"),
        (ROW, ("--block-size", 0), "--block-size 0: must be at least 1"),
        (ROW, ("--block-size", "-16"), "--block-size -16: must be at least 1"),
        (ROW, ("--num-blocks", 0), "--num-blocks 0: must be at least 1"),
        (ROW, ("--num-blocks", 10**30), "must be at most"),
        (ROW, ("--concurrency", 10**30), "must be at most"),
        (
            ROW * 2 + ROW.replace("3]", "3" + ", 4" * 97 + "]").replace('": 3', '": 100'),
            ("--num-blocks", 3),
            "request 2: 100 tokens never fit",
        ),
        (ROW, ("--block-size", "x"), "--block-size x: give a whole number"),
        (ROW, ("--warmup", 2), "--warmup 2: must be below 1"),
        (ROW, ("--engine", "nope"), "unknown engine 'nope'"),
        (ROW, ("--format", "nope"), "unknown trace format 'nope'"),
        (ROW, ("--table", "xls"), "--table xls: choose one of parquet, csv, jsonl"),
        (ROW, ("--by", "colour"), "--by colour: choose one of category, salt, session"),
        (ROW, ("--requests-out", "rows.txt"), "rows.txt: the ending says no table format"),
        (ROW, ("--nonsense",), "'prefixsim replay' has no option --nonsense"),
        (ROW, ("--cache-outputs",), "no output token ids"),
    ],
)
def test_bad_input_is_one_line_and_code_2(  # noqa: PLR0917
    cli: Cli,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    content: str | bytes | None,
    options: tuple[object, ...],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    path = Path("t.jsonl")
    if content is not None:
        write(path, content)
    before = sorted(tmp_path.iterdir())
    code, out, err = cli("replay", path, "--output-file", "r.json", *options)
    assert (code, out) == (2, "")
    assert message in err
    assert err.startswith("prefixsim: ")
    assert err.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("option", ["--output-file", "--output-dir", "--requests-out"])
def test_unwritable_output_is_noticed_before_the_work(
    cli: Cli, tmp_path: Path, option: str
) -> None:
    occupied = write(tmp_path / "file", "")
    target = occupied / "below.csv"
    # The trace does not exist: reading it would be the other error.
    code, out, err = cli("replay", tmp_path / "no_trace", option, target)
    assert (code, out) == (2, "")
    assert err == f"prefixsim: {target}: cannot be written, {occupied} is not a directory\n"


def test_output_file_is_not_a_folder(cli: Cli, tmp_path: Path) -> None:
    code, _, err = cli("replay", tmp_path / "no_trace", "--output-file", tmp_path)
    assert (code, err) == (2, f"prefixsim: {tmp_path}: is a directory, give the name of a file\n")


def test_one_trace_for_one_table(cli: Cli, chats: Path, tmp_path: Path) -> None:
    code, _, err = cli("replay", chats, chats, "--requests-out", tmp_path / "rows.csv")
    assert code == 2
    assert "takes the records of one trace" in err


@pytest.mark.parametrize("args", [(), ("replay",)])
def test_without_arguments_the_help_is_printed(cli: Cli, args: tuple[str, ...]) -> None:
    code, out, err = cli(*args)
    assert code == 2
    assert "Usage: prefixsim" in out
    assert err == ""


def test_only_options_is_no_trace(cli: Cli) -> None:
    assert cli("replay", "--json") == (
        2, "", "prefixsim: no trace given, name one or more trace files\n",
    )  # fmt: skip


def test_compressed_traces(cli: Cli, chats: Path, tmp_path: Path) -> None:
    packed = tmp_path / "packed.jsonl.gz"
    packed.write_bytes(gzip.compress(chats.read_bytes()))
    results = [json.loads(cli("replay", path, "--json")[1]) for path in (chats, packed)]
    assert results[0]["summary"] == results[1]["summary"]
    assert prefixsim.Trace.read(packed).digest == results[0]["provenance"]["digest"]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Traces of a few synthetic chats: as tokens, and as text."""
    folder = tmp_path_factory.mktemp("built")
    for name, options in (("tokens", ()), ("text", ("--text",))):
        args = ["trace", "--model", "demo", "--max-conversations", "8", "--seed", "3"]
        args += ["--output-dir", str(folder / name), "--skip-visualization", "--json", *options]
        assert main(args) == 0
    return folder


def test_text_is_tokenized_first(cli: Cli, built: Path) -> None:
    summaries = []
    for name in ("tokens", "text"):
        code, out, err = cli(
            "replay", built / name / "multi_turn_trace.jsonl", "--model", "demo", "--json"
        )
        assert (code, err) == (0, "")
        summaries.append(json.loads(out)["summary"])
    # Arrivals differ, since the length of an answer in tokens is only estimated for text.
    for name in ("requests", "prompt_tokens", "hit_tokens", "unique_blocks", "block_hit_count"):
        assert summaries[0][name] == summaries[1][name]
    assert summaries[0]["hit_tokens"] > 0


def test_an_unknown_tokenizer_is_one_line(cli: Cli, built: Path, tmp_path: Path) -> None:
    trace = built / "text" / "multi_turn_trace.jsonl"
    code, out, err = cli("replay", trace, "--model", tmp_path / "nowhere")
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert "demo" in err


def test_provenance_knows_the_seed_of_the_trace(cli: Cli, built: Path, tmp_path: Path) -> None:
    trace = built / "tokens" / "multi_turn_trace.jsonl"
    provenance = json.loads(cli("replay", trace, "--json")[1])["provenance"]
    assert provenance["seed"] == 3
    assert provenance["trace_meta"]["config"]["max_conversations"] == 8
    # Another file of the same name is not what the summary is about.
    (tmp_path / "trace_summary.json").write_bytes(
        (trace.parent / "trace_summary.json").read_bytes()
    )
    other = tmp_path / trace.name
    other.write_text("".join(trace.read_text().splitlines(keepends=True)[:-1]))
    assert json.loads(cli("replay", other, "--json")[1])["provenance"]["seed"] is None


@pytest.mark.parametrize(
    "command",
    [
        ("trace", "--model", "demo", "--output-dir"),
        ("demo", "--output-dir"),
        ("convert", "no_trace"),
    ],
)
def test_every_command_notices_unwritable_output_first(
    cli: Cli, tmp_path: Path, command: tuple[str, ...]
) -> None:
    occupied = write(tmp_path / "file", "")
    code, out, err = cli(*command, occupied / "out.parquet")
    assert (code, out) == (2, "")
    assert err.endswith(f"cannot be written, {occupied} is not a directory\n")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_long_names_become_letters(cli: Cli, chats: Path, tmp_path: Path) -> None:
    paths = [tmp_path / f"{'a long name ' * 4}{i}.jsonl" for i in (1, 2)]
    for path in paths:
        path.write_bytes(chats.read_bytes())
    code, out, _ = cli("replay", *paths)
    assert code == 0
    assert f"B: {paths[1].stem}\nratio to A\n" in out
    assert re.search(r"^ +A +B +ratio$", out, re.MULTILINE)
