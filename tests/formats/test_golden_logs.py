"""Request logs as people have them: every source gives the calls that a correct reader gives."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from prefixsim import InputError, Trace
from prefixsim.cli import main
from prefixsim.formats import read_trace, sniff_format
from prefixsim.formats.logs import Call, read_calls
from prefixsim.formats.logs._messages import content_text, images_in
from prefixsim.text.text_trace import tokenize_trace
from tests.golden import cases, golden_root

LOGS = golden_root() / "logs"

# Which files each expectation is for, where they do not share its name; and the format.
SOURCES = {
    "batch/expected": [("batch", "batch/openai_*.jsonl")],
    "gateways/expected": [
        ("helicone", "gateways/helicone_export.jsonl"),
        ("portkey", "gateways/portkey_export.jsonl"),
        ("envoy", "gateways/envoy_access.jsonl"),
        ("nginx", "gateways/nginx_access.jsonl"),
    ],
    "gateways/bedrock.expected": [("bedrock", "gateways/bedrock_invocations.json")],
    "gateways/vertex.expected": [("vertex", "gateways/vertex_bigquery.jsonl")],
}
FORMATS = {
    "anthropic": "anthropic",
    "langfuse": "langfuse",
    "litellm": "litellm",
    "otel": "otel",
    "sglang": "sglang-log",
    "vllm": "vllm-log",
}
SECONDS = {"gateways/bedrock.expected"}
"""Sources whose times are whole seconds, as those of vLLM."""


def in_source(source: str, row: dict[str, Any], call: Call) -> set[str]:
    """Fields of an expected row that its source does not hold: their truth came from elsewhere."""
    if "export_observations" in source:  # the observation's own id, no API, the first answer
        several = len(row["outputs"] or ()) > 1
        left_out = {"outputs"} if several else set()
        if row["api"] == "messages":  # the tools of Anthropic's calls are not in the input
            left_out.add("tools")
        return row.keys() - {"id", "api", "stream"} - left_out
    if source.startswith("gateways/nginx") and row["stream"]:  # events without usage
        return row.keys() - {"prompt_tokens", "output_tokens", "cached_tokens"}
    if source.startswith("gateways/bedrock") and call.id != row["id"]:  # Converse answers have none
        return row.keys() - {"id"}
    return set(row)


def sources(expected: Path) -> list[tuple[str, str]]:
    name = str(expected.relative_to(LOGS)).removesuffix(".jsonl")
    if name in SOURCES:
        return SOURCES[name]
    folder = expected.parent
    stem = expected.name.removesuffix("expected.jsonl").removesuffix(".")
    if not stem:
        return [(FORMATS["otel"], f"{folder.relative_to(LOGS)}/*[sn].*.jsonl*")]
    found = [p for p in folder.iterdir() if p.name.startswith(stem) and "expected" not in p.name]
    how = "otel" if ".otlp." in found[0].name else FORMATS[folder.name]
    return [(how, str(found[0].relative_to(LOGS)))]


def named(calls: list[dict[str, Any]]) -> list[dict[str, Any]]:
    found = []
    for call in calls:
        function = call["function"]
        arguments = json.loads(function["arguments"])
        found.append({"name": function["name"], "arguments": arguments})
    return found


def message(said: dict[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {"role": said["role"], "text": content_text(said.get("content"))}
    if said.get("tool_calls"):
        row["tool_calls"] = named(said["tool_calls"])
    if images_in(said):
        row["images"] = images_in(said)
    return row


def as_row(call: Call) -> dict[str, Any]:
    return {
        "timestamp": call.time,
        "id": call.id,
        "session": call.session,
        "user": call.user,
        "model": call.model,
        "api": call.api,
        "stream": call.stream,
        "messages": None if call.messages is None else [message(m) for m in call.messages],
        "prompts": call.prompts,
        "tools": None if call.tools is None else [t["function"]["name"] for t in call.tools],
        "outputs": call.outputs,
        "output_tool_calls": None if call.output_calls is None else named(call.output_calls),
        "prompt_tokens": call.prompt_tokens,
        "output_tokens": call.output_tokens,
        "cached_tokens": call.cached_tokens,
        "status": call.outcome,
        "prompt": call.rendered,
        "prompt_token_ids_head": None if call.prompt_ids is None else call.prompt_ids[0][:4],
    }


def compare(source: str, calls: list[Call], expected: Path) -> None:
    """Check every field of every call."""
    rows = [json.loads(line) for line in expected.read_text(encoding="utf-8").split("\n") if line]
    assert len(calls) == len(rows)
    within = 1.0 if source in SECONDS or source.startswith("vllm") else 0.0011
    for call, row in zip(calls, rows, strict=True):
        got = as_row(call)
        for field in in_source(source, row, call) - {"step", "differs_from_sent", "custom_id"}:
            if field == "timestamp" and None not in (got[field], row[field]):
                assert abs(got[field] - row[field]) <= within, (row["id"], field)
            else:
                assert got[field] == row[field], (row["id"], field)


def placed(source: str, tmp_path: Path) -> Path:
    """The files of a source; vLLM's stamps have no year, so that of the file is set."""
    if not source.startswith("vllm"):
        return LOGS / source
    copy = tmp_path / Path(source).name
    shutil.copyfile(LOGS / source, copy)
    written = datetime(2026, 11, 25, tzinfo=UTC).timestamp()
    os.utime(copy, (written, written))
    return copy


EXPECTED = cases("logs", "**/*expected.jsonl")


@pytest.mark.parametrize("expected", EXPECTED)
def test_golden_logs(expected: Path, tmp_path: Path) -> None:
    for name, source in sources(expected):
        path = placed(source, tmp_path)
        found = read_calls(path)
        assert found.trace.format == "memory"
        compare(source, found.calls, expected)
        trace = read_trace(path)
        assert trace.format == name
        assert trace.digest == found.trace.digest
        assert len(found.rows) == len(trace) > 0


@pytest.mark.parametrize("expected", EXPECTED)
def test_a_tampered_row_is_noticed(expected: Path, tmp_path: Path) -> None:
    lines = expected.read_text(encoding="utf-8").split("\n")
    row = json.loads(lines[0])
    field = next(f for f in ("messages", "prompt", "cached_tokens", "prompt_tokens") if row.get(f))
    row[field] = "other"
    tampered = tmp_path / "expected.jsonl"
    tampered.write_text("\n".join([json.dumps(row), *lines[1:]]), encoding="utf-8")
    _, source = sources(expected)[0]
    with pytest.raises(AssertionError):
        compare(source, read_calls(placed(source, tmp_path)).calls, tampered)


needs_logs = pytest.mark.skipif(not LOGS.is_dir(), reason=f"no recordings {LOGS}")


def lost(path: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, tuple[int, str]]:
    """What ``info`` says was lost, of how many calls, and what keeps it."""
    assert main(["info", str(path), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    return {each["what"]: (each["calls"], each["keep"]) for each in facts["lost"]}


@needs_logs
@pytest.mark.parametrize(
    ("source", "what", "calls", "keep"),
    [
        (
            "litellm/spend_logs_no_prompts.jsonl",
            "no prompt in the log",
            2,
            "store_prompts_in_spend_logs: true",
        ),
        (
            "litellm/spend_logs_truncated.jsonl.gz",
            "prompt cut by the logger",
            3,
            "MAX_STRING_LENGTH_PROMPT_IN_DB",
        ),
        (
            "litellm/redacted.jsonl",
            "prompt redacted by the logger",
            3,
            "turn_off_message_logging: false",
        ),
        (
            "otel/no_content/spans.otlp.jsonl",
            "no prompt in the log",
            7,
            "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT",
        ),
        (
            "otel/openai_v2_legacy_events/spans.otlp.jsonl",
            "no prompt in the log",
            21,
            "the log records beside the spans",
        ),
        (
            "sglang/sglang-0.5.23-json-level0.log.gz",
            "no prompt in the log",
            22,
            "--log-requests-level 3",
        ),
    ],
)
def test_info_says_what_was_lost_and_what_keeps_it(
    source: str, what: str, calls: int, keep: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found = lost(LOGS / source, capsys)
    assert found[what][0] == calls
    assert keep in found[what][1]


@needs_logs
def test_what_is_lost_is_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(LOGS / "litellm/spend_logs_truncated.jsonl.gz")]) == 0
    told = capsys.readouterr().out
    assert "the log does not hold" in told
    assert "MAX_STRING_LENGTH_PROMPT_IN_DB" in told


@needs_logs
def test_a_log_without_prompts_has_times_and_lengths() -> None:
    trace = read_trace(LOGS / "litellm/spend_logs_no_prompts.jsonl")
    assert (trace.kind, trace.prompt_tokens > 0) == ("lengths", True)


@needs_logs
def test_objects_of_one_call_each_are_one_log() -> None:
    found = read_calls(LOGS / "litellm/s3/**/*.json")
    assert [call.session for call in found.calls] == ["s02", "s03", "s04"]


@needs_logs
def test_azure_batches_are_joined() -> None:
    found = read_calls(LOGS / "batch/azure_*.jsonl")
    assert [call.model for call in found.calls] == ["gpt-4o-mini"] * 4
    assert [call.prompt_tokens for call in found.calls] == [134, 144, 202, 87]
    with pytest.raises(InputError, match="read the input file too"):
        read_trace(LOGS / "batch/azure_output.jsonl")


@needs_logs
def test_events_alone_are_calls() -> None:
    found = read_calls(LOGS / "otel/openllmetry_events/logs.otlp.jsonl")
    assert all(call.messages for call in found.calls)
    assert found.trace.meta["lost"][-1]["what"].startswith("the time is that of the end")


@needs_logs
def test_a_log_in_text_form_is_refused_with_the_setting() -> None:
    with pytest.raises(InputError, match="--log-requests-format json writes JSON"):
        read_trace(LOGS / "sglang/sglang-0.5.23-text-level2.log.gz")


@needs_logs
def test_a_system_prompt_beside_the_messages_is_rendered(tmp_path: Path) -> None:
    trace = tokenize_trace(read_trace(LOGS / "anthropic/messages.jsonl"), "demo")
    row = {"timestamp": 0, "model": "m", "system": "Be brief. " * 40, "messages": []}
    row["messages"] = [{"role": "user", "content": "Hi"}]
    path = tmp_path / "log.jsonl"
    path.write_text("".join(json.dumps({**row, "timestamp": t}) + "\n" for t in range(2)))
    assert tokenize_trace(read_trace(path), "demo").prompt_len[0] > 80
    assert trace.prompt_len.min() > 40


def write(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


HI = [{"role": "user", "content": "Hi"}]


def test_each_answer_that_is_asked_for_is_a_sequence(tmp_path: Path) -> None:
    choices = [{"message": {"content": text}} for text in "abc"]
    row = {"ts": 1, "messages": HI, "n": 3, "response": {"choices": choices}}
    trace = read_trace(write(tmp_path / "log", row, {"ts": 2, "messages": HI}))
    assert trace.timestamp.tolist() == [0, 0, 0, 1]
    assert trace.output_texts is not None
    assert list(trace.output_texts) == ["a", "b", "c", ""]
    several = {"ts": 1, "body": {"model": "m", "prompt": ["x", "y"], "n": 2}}
    trace = read_trace(write(tmp_path / "log", several))
    assert trace.texts is not None
    assert list(trace.texts) == ["x", "x", "y", "y"]


def test_completions_and_chats_in_one_log(tmp_path: Path) -> None:
    rows = [{"ts": 1, "messages": HI}, {"ts": 2, "body": {"model": "m", "prompt": "once upon"}}]
    trace = tokenize_trace(read_trace(write(tmp_path / "log", *rows)), "demo")
    alone = tokenize_trace(Trace.from_texts(["once upon"]), "demo")
    assert trace.prompts is not None
    assert alone.prompts is not None
    assert trace.prompts[1].tolist() == alone.prompts[0].tolist()


def test_token_ids_need_no_tokenizer(tmp_path: Path) -> None:
    body = {"model": "m", "prompt": [[1, 2, 3], [4, 5]]}
    trace = read_trace(write(tmp_path / "log", {"ts": 1, "body": body}))
    assert trace.kind == "tokens"
    assert trace.prompt_len.tolist() == [3, 2]


def test_log_probabilities_of_the_prompt_look_nothing_up(tmp_path: Path) -> None:
    body = {"model": "m", "prompt": [1, 2, 3, 4], "echo": True, "logprobs": 1}
    rows = [{"ts": t, "body": body} for t in range(2)]
    trace = read_trace(write(tmp_path / "log", *rows))
    assert trace.salt is not None
    assert trace.salt[0] != trace.salt[1]


def test_a_response_that_goes_on_another(tmp_path: Path) -> None:
    answer = {"output": [{"type": "message", "content": [{"type": "output_text", "text": "Yo"}]}]}
    first = {"input": "Hi", "instructions": "Be brief.", "model": "m"}
    rows = [
        {"ts": 1, "request": first, "response": {"id": "resp_1", **answer}},
        {"ts": 2, "request": {"model": "m", "input": "Bye", "previous_response_id": "resp_1"}},
        {"ts": 3, "request": {"model": "m", "input": "Bye", "previous_response_id": "resp_9"}},
    ]
    trace = read_trace(write(tmp_path / "log", *rows))
    assert trace.texts is not None
    said = json.loads(trace.texts[1])["messages"]
    assert [m["content"] for m in said] == ["Hi", "Yo", "Bye"]
    assert len(trace) == 2
    assert trace.meta["rows_skipped"] == {"calls whose prompt the log does not hold": 1}


def test_bad_rows_of_a_log_are_left_out(tmp_path: Path) -> None:
    good = {"request_created_at": "2026-11-24T09:02:19Z", "request_body": {"messages": HI}}
    bad = {**good, "request_created_at": "soon"}
    path = write(tmp_path / "log", good, bad)
    with pytest.raises(InputError, match=r"log:2: request_created_at: 'soon' is not an ISO 8601"):
        read_trace(path)
    trace = read_trace(path, skip_bad_rows=True, rejects=tmp_path / "rejects")
    assert len(trace) == 1
    assert json.loads((tmp_path / "rejects").read_text()) == bad


def test_pickles_are_refused_with_advice(tmp_path: Path) -> None:
    path = tmp_path / "dump.pkl"
    for protocol in (2, 3, 4, 5):
        path.write_bytes(pickle.dumps({"requests": []}, protocol=protocol))
        with pytest.raises(InputError, match="runs code when it is read.*--log-requests-format"):
            sniff_format(path)


@pytest.mark.parametrize(
    ("row", "told"),
    [
        (
            {"request_created_at": 1, "response_body": {}, "request_properties": {}},
            "request_body: missing, if this is a trace of format helicone",
        ),
        (
            {"msec": "1", "status": "200", "remote_addr": "x"},
            "request_time: missing, if this is a trace of format nginx",
        ),
        (
            {"logging_time": "x", "full_response": {}, "api_method": "g"},
            "full_request: missing, if this is a trace of format vertex",
        ),
    ],
)
def test_the_nearest_format_and_what_is_missing(
    row: dict[str, Any], told: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=told):
        sniff_format(write(tmp_path / "log", row))
