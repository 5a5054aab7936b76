"""Request logs of OpenAI-style servers: what becomes of a row, and of its prompt."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import prefixsim
from prefixsim import InputError, Trace, replay
from prefixsim.cli import main
from prefixsim.formats import read_trace, sniff_format
from prefixsim.text.text_trace import tokenize_trace
from prefixsim.text.tokenize import ChatTokenizer

HI = [{"role": "user", "content": "Hi"}]
TOOL = {
    "type": "function",
    "function": {"name": "weather", "description": "Of a town.", "parameters": {"type": "object"}},
}


def write(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def without_lost(trace: Trace) -> dict[str, Any]:
    return {name: fact for name, fact in trace.meta.items() if name != "lost"}


def prompt_of(trace: Trace, row: int) -> dict[str, Any]:
    assert trace.texts is not None
    found: dict[str, Any] = json.loads(trace.texts[row])
    return found


def test_a_row_becomes_a_request(tmp_path: Path) -> None:
    first = {
        "created": 1700000000,
        "id": "a",
        "model": "m",
        "user": "alice",
        "session_id": "s",
        "messages": HI,
        "tools": [TOOL],
        "response": {
            "choices": [{"message": {"role": "assistant", "content": "Hello."}}],
            "usage": {"prompt_tokens": 9, "completion_tokens": 2},
        },
    }
    inside = {"model": "m", "user": 7, "cache_salt": "t", "messages": HI}
    nested = {"time": 1700000001.5, "custom_id": "b", "body": inside}
    packed = {"ts": 1700000002000, "request": json.dumps(inside | {"conversation_id": "c"})}
    path = write(tmp_path / "log.jsonl", first, nested, packed)
    assert sniff_format(path).name == "openai"
    trace = read_trace(path)
    assert trace.timestamp.tolist() == [0.0, 1.5, 2.0]
    assert without_lost(trace) == {"epoch_s": 1700000000.0, "texts": "messages"}
    assert prompt_of(trace, 0) == {"messages": HI, "tools": [TOOL]}
    assert prompt_of(trace, 1) == prompt_of(trace, 2) == {"messages": HI}
    assert trace.request_id is not None and list(trace.request_id) == ["a", "b", ""]
    assert trace.session is not None and [trace.session[i] for i in range(3)] == ["s", "", "c"]
    assert trace.category is not None
    assert [trace.category[i] for i in range(3)] == ["alice", "7", "7"]
    assert trace.salt is not None and [trace.salt[i] for i in range(3)] == ["", "t", "t"]
    assert trace.output_texts is not None and list(trace.output_texts) == ["Hello.", "", ""]
    assert (trace.prompt_len.tolist(), trace.output_len.tolist()) == ([9, 0, 0], [2, 0, 0])


@pytest.mark.parametrize(
    "time",
    [
        1700000000,
        1700000000.0,
        1700000000000,
        1700000000000000,
        1700000000000000000,
        "1700000000",
        "2023-11-14T22:13:20",
        "2023-11-14T22:13:20Z",
        "2023-11-14T23:13:20.000+01:00",
    ],
)
@pytest.mark.parametrize("field", ["created", "timestamp", "time", "ts"])
def test_times_of_every_unit(time: Any, field: str, tmp_path: Path) -> None:
    trace = read_trace(write(tmp_path / "log", {field: time, "messages": HI}))
    assert trace.meta["epoch_s"] == 1700000000.0
    assert trace.timestamp.tolist() == [0.0]


def test_the_time_of_the_answer_is_used_if_there_is_no_other(tmp_path: Path) -> None:
    answer = {"id": "x", "created": 1700000000, "choices": [{"message": {"content": "Yes"}}]}
    path = write(tmp_path / "log", {"body": {"messages": HI}, "response": {"body": answer}})
    trace = read_trace(path)
    assert trace.meta["epoch_s"] == 1700000000.0
    assert trace.output_texts is not None and list(trace.output_texts) == ["Yes"]


def test_models_share_nothing(tmp_path: Path) -> None:
    rows = [
        {"ts": t, "model": model, "cache_salt": salt, "messages": HI}
        for t, (model, salt) in enumerate([("a", None), ("b", "s"), ("a", "s")])
    ]
    trace = read_trace(write(tmp_path / "log", *rows))
    assert trace.salt is not None
    assert [trace.salt[i] for i in range(3)] == ["a", "b/s", "a/s"]
    assert read_trace(write(tmp_path / "one", rows[0])).salt is None


GOOD = {"ts": 0, "messages": HI}


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        ("nonsense", "not valid JSON: expecting value"),
        ('{"ts": NaN}', "not valid JSON: NaN is not a JSON number"),
        ("[" * 100000, "not valid JSON: nested too deeply"),
        ([1], "expected a JSON object"),
        ({"ts": 0}, "messages: missing"),
        ({"ts": 0, "messages": []}, "messages: expected an array of messages"),
        ({"ts": 0, "messages": [3]}, "messages[0]: expected an object"),
        ({"ts": 0, "messages": [{"content": "x"}]}, "messages[0].role: expected a string"),
        (
            {"ts": 0, "messages": [*HI, {"role": "user", "content": 1}]},
            "messages[1].content: expected a string or an array of parts",
        ),
        (
            {"ts": 0, "messages": [{"role": "user", "content": [{"text": 1}]}]},
            "messages[0].content[0].text: expected a string",
        ),
        ({"ts": 0, "messages": HI, "tools": {}}, "tools: expected an array"),
        ({"ts": 0, "messages": HI, "user": ["x"]}, "user: expected a string"),
        ({"messages": HI}, "timestamp: missing"),
        ({"ts": "soon", "messages": HI}, "ts: 'soon' is not an ISO 8601 date"),
        ({"ts": True, "messages": HI}, "ts: expected a number"),
        ({"ts": "1e999", "messages": HI}, "ts: is not a finite number"),
        ({"ts": 0, "body": "{"}, "body: a string that is not valid JSON"),
        (
            {"ts": 0, "messages": HI, "usage": {"completion_tokens": -1}},
            "usage.completion_tokens: expected a whole number",
        ),
    ],
)
def test_bad_rows(bad: Any, told: str, tmp_path: Path) -> None:
    path, rejects = tmp_path / "log", tmp_path / "rejects"
    line = bad if isinstance(bad, str) else json.dumps(bad)
    path.write_text(f"{json.dumps(GOOD)}\n{line}\n{json.dumps(GOOD)}\n")
    with pytest.raises(InputError) as caught:
        read_trace(path)
    assert str(caught.value).startswith(f"{path}:2: {told}")
    assert "\n" not in str(caught.value)
    trace = read_trace(path, skip_bad_rows=True, rejects=rejects)
    assert len(trace) == 2
    assert sum(trace.meta["rows_skipped"].values()) == 1
    assert rejects.read_text() == line + "\n"


def test_chat_data_without_times_is_no_trace(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is chat data, make a trace of it with"):
        read_trace(write(tmp_path / "chats", {"messages": HI}))


def test_unsorted_rows_and_several_files(tmp_path: Path) -> None:
    late, early = {"ts": 1700000005, "messages": HI}, {"ts": 1700000000, "messages": HI}
    with pytest.raises(InputError, match=r"log:2: timestamp: .* pass --sort"):
        read_trace(write(tmp_path / "log", late, early))
    assert read_trace(tmp_path / "log", sort=True).timestamp.tolist() == [0.0, 5.0]
    write(tmp_path / "day-1", late)
    write(tmp_path / "day-2", early)
    merged = read_trace(tmp_path / "day-*")
    assert merged.timestamp.tolist() == [0.0, 5.0]
    assert (merged.meta["texts"], merged.meta["epoch_s"]) == ("messages", 1700000000.0)


def test_prompts_are_rendered_as_the_server_does(qwen3: str, tmp_path: Path) -> None:
    call: dict[str, Any] = {"id": "1", "type": "function"}
    call |= {"function": {"name": "weather", "arguments": '{"town": "Bonn"}'}}
    parts = [
        {"type": "text", "text": "Is it"},
        {"type": "image_url"},
        {"type": "text", "text": "?"},
    ]
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "sunny"},
        {"role": "user", "content": parts},
    ]
    row = {"ts": 0, "messages": messages, "tools": [TOOL]}
    quiet = {"ts": 1, "messages": HI, "chat_template_kwargs": {"enable_thinking": False}}
    trace = tokenize_trace(read_trace(write(tmp_path / "log", row, quiet)), qwen3)
    hf = ChatTokenizer(qwen3).hf
    arguments = {"name": "weather", "arguments": {"town": "Bonn"}}
    plain = [*messages[:2], {**messages[2], "content": ""}, messages[3]]
    plain[2]["tool_calls"] = [{**call, "function": arguments}]
    plain.append({"role": "user", "content": "Is it\n?"})
    expected = [
        hf.apply_chat_template(plain, tools=[TOOL], tokenize=False, add_generation_prompt=True),
        hf.apply_chat_template(
            HI, tokenize=False, add_generation_prompt=True, enable_thinking=False
        ),
    ]
    assert '{"name": "weather", "arguments": {"town": "Bonn"}}' in expected[0]
    assert trace.prompts is not None
    assert [hf.decode(trace.prompts[i]) for i in range(2)] == expected
    assert [trace.prompts[i].tolist() for i in range(2)] == [
        hf(text, add_special_tokens=False)["input_ids"] for text in expected
    ]
    assert trace.meta["tokenizer"] == qwen3
    assert "texts" not in trace.meta


def test_a_tokenizer_that_cannot_render(shared: Path, tmp_path: Path) -> None:
    trace = read_trace(write(tmp_path / "log", GOOD))
    with pytest.raises(InputError, match="has no chat template, use --model"):
        replay(trace, model=str(shared / "data/tokenizers/gpt2"))


def test_messages_that_the_template_refuses(tmp_path: Path) -> None:
    model = tmp_path / "strict"
    shutil.copytree(Path(prefixsim.__file__).parent / "text/demo_tokenizer", model)
    config = json.loads((model / "tokenizer_config.json").read_text())
    config["chat_template"] = "{{ raise_exception('roles must alternate') }}"
    (model / "tokenizer_config.json").write_text(json.dumps(config))
    trace = read_trace(write(tmp_path / "log", GOOD))
    with pytest.raises(InputError, match=r"log: request 0: messages: .*\(roles must alternate\)"):
        tokenize_trace(trace, str(model))


def test_answers_that_were_not_logged_keep_their_length(tmp_path: Path) -> None:
    answer = {"choices": [{"message": {"content": "Fine, thanks."}}]}
    rows = [
        {"ts": 0, "messages": HI, "response": answer},
        {"ts": 1, "messages": HI, "usage": {"completion_tokens": 33}},
    ]
    trace = tokenize_trace(read_trace(write(tmp_path / "log", *rows)), "demo")
    assert trace.outputs is None
    assert trace.output_len[1] == 33
    assert 0 < trace.output_len[0] < 14
    trace = tokenize_trace(read_trace(write(tmp_path / "log", rows[0])), "demo")
    assert trace.outputs is not None
    assert trace.outputs.lengths.tolist() == trace.output_len.tolist()


def test_calls_of_tools_are_answers(tmp_path: Path) -> None:
    call = {"function": {"name": "f", "arguments": '{"x": 1}'}}
    answer = {"choices": [{"message": {"content": None, "tool_calls": [call]}}]}
    trace = read_trace(write(tmp_path / "log", {"ts": 0, "messages": HI, "response": answer}))
    assert trace.output_texts is not None
    assert json.loads(trace.output_texts[0]) == {"name": "f", "arguments": {"x": 1}}


@pytest.mark.parametrize("ending", [".jsonl", ".parquet", ".arrow"])
def test_what_the_texts_are_survives_conversion(
    ending: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "log.jsonl", GOOD, {"ts": 1, "messages": HI * 3, "user": "\ud800"})
    text, tokens = tmp_path / f"text{ending}", tmp_path / f"tokens{ending}"
    assert main(["convert", str(path), str(text)]) == 0
    assert main(["convert", str(text), str(tokens), "--model", "demo"]) == 0
    capsys.readouterr()
    assert main(["info", str(text), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["texts"] == "messages"
    assert facts["messages_per_request"]["max"] == 3
    direct = tokenize_trace(read_trace(path), "demo")
    assert Trace.read(tokens).digest == direct.digest
    assert Trace.read(tokens).kind == "tokens"


def test_texts_of_two_kinds_are_not_mixed(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    read_trace(write(tmp_path / "log", GOOD)).write(path)
    path.write_text(path.read_text() + '{"timestamp":1,"text":"plain"}\n')
    with pytest.raises(InputError, match="t.jsonl:2: texts: '', expected 'messages' in every row"):
        read_trace(path)
    plain = tmp_path / "p.jsonl"
    plain.write_text('{"timestamp":1,"text":"plain"}\n')
    write(tmp_path / "l.jsonl", GOOD)
    with pytest.raises(InputError, match="holds text, l holds messages"):
        read_trace(tmp_path / "[lp].jsonl")
