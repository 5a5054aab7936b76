"""Reading chat data: formats, streaming, and what happens with bad rows."""

from __future__ import annotations

import gzip
import io
import json
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from prefixsim.chat import ChatReader, stream
from prefixsim.chat.model import BadRowError
from prefixsim.errors import InputError


def sharegpt(*pairs: tuple[str, str], name: str = "x") -> dict[str, Any]:
    return {"id": name, "conversations": [{"from": r, "value": t} for r, t in pairs]}


def read(path: Path, **options: Any) -> list[list[tuple[str, str]]]:
    return [[(m.role, m.text) for m in c.messages] for c in ChatReader(path, **options)]


TWO = [sharegpt(("human", "Hi"), ("gpt", "Hello")), sharegpt(("user", "é 日本"), ("bard", ""))]
TWO_READ = [[("user", "Hi"), ("assistant", "Hello")], [("user", "é 日本"), ("assistant", "")]]


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("compress", [bytes, gzip.compress, zstandard.compress])
def test_array_and_lines_compressed_or_not(tmp_path: Path, indent: int, compress: Any) -> None:
    array, lines = tmp_path / "a.json", tmp_path / "a.jsonl"
    array.write_bytes(compress(json.dumps(TWO, indent=indent, ensure_ascii=False).encode()))
    lines.write_bytes(compress("\n".join(json.dumps(row) for row in TWO).encode()))
    assert read(array) == read(lines) == TWO_READ


def test_byte_order_mark_and_blank_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(TWO[0]).encode() + b"\r\n\r\n")
    assert read(path) == TWO_READ[:1]
    path.write_bytes(b"\xef\xbb\xbf\n [" + json.dumps(TWO[0]).encode() + b"]\r\n\r\n")
    assert read(path) == TWO_READ[:1]


def test_every_role_of_sharegpt(shared: Path) -> None:
    rows = read(shared / "data/chat/fastchat_dummy_conversation.json")
    assert len(rows) == 500
    assert sum(len(r) for r in rows) == 2000
    assert sum(role == "user" for r in rows for role, _ in r) == 1000
    roles = ["human", "user", "gpt", "chatgpt", "bing", "bard", "assistant", "system", "tool"]
    (row,) = ChatReader([sharegpt(*((r, "x") for r in roles))])
    assert [m.role for m in row.messages] == [
        *["user"] * 2,
        *["assistant"] * 5,
        "system",
        "tool",
    ]


def test_openai_content_parts_and_tool_calls() -> None:
    row = {
        "messages": [
            {"role": "developer", "content": "Be brief."},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "What is "},
                    {"type": "image_url", "image_url": {"url": "http://x"}},
                    {"type": "text", "text": "this?"},
                ],
            },
            {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]},
            {"role": "tool", "content": "42"},
        ]
    }
    reader = ChatReader([row])
    (conversation,) = reader
    assert [(m.role, m.text) for m in conversation.messages] == [
        ("system", "Be brief."),
        ("user", "What is this?"),
        ("assistant", ""),
        ("tool", "42"),
    ]
    assert reader.format == "openai"
    assert reader.repairs == {
        "content_parts_without_text": 1,
        "assistant_messages_without_content": 1,
    }


@pytest.mark.parametrize("column", ["conversation", "conversations", "messages"])
def test_parquet_column(tmp_path: Path, column: str) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    messages = [
        {"role": "user", "content": "Hi", "toxic": False},
        {"role": "assistant", "content": "Yo"},
    ]
    path = tmp_path / "a.parquet"
    table = pa.table({"conversation_hash": ["h1", "h2"], "turn": [1, 1], column: [messages, []]})
    pq.write_table(table, path)
    conversations = list(ChatReader(path))
    assert [(c.id, len(c.messages)) for c in conversations] == [("h1", 2), ("h2", 0)]
    assert conversations[0].where == f"{path}: row 1"
    pq.write_table(pa.table({"text": ["x"]}), path)
    with pytest.raises(
        InputError, match="column 'conversations' or 'messages' or 'conversation' is missing"
    ):
        list(ChatReader(path))


def test_lone_surrogates_are_repaired_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(r'{"conversations":[{"from":"human","value":"a\ud800b \ud83d\ude00"}]}')
    reader = ChatReader(path)
    (conversation,) = reader
    assert conversation.messages[0].text == "a\ufffdb \U0001f600"
    assert reader.repairs == {"messages_with_lone_surrogates": 1}


def test_limit_stops_before_later_damage(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(TWO[0]) + "\nnot json\n")
    assert read(path, limit=1) == TWO_READ[:1]


def bad(message: str, *rows: str) -> tuple[str, str]:
    return "\n".join(rows), message


GOOD = json.dumps(TWO[0])
CASES = {
    "missing field": bad(
        "2: field 'conversations' is missing (found 'text')", GOOD, '{"text": 1}', GOOD
    ),
    "not an array": bad(
        "2: field 'conversations': expected an array of messages, found a string",
        GOOD,
        '{"conversations": "x"}',
        GOOD,
    ),
    "not an object": bad(
        "2: expected an object with the field 'conversations', found a number", GOOD, "7", GOOD
    ),
    "message": bad(
        "2: field 'conversations[0]': expected an object, found null",
        GOOD,
        '{"conversations": [null]}',
        GOOD,
    ),
    "no value": bad(
        "2: field 'conversations[0].value' is missing",
        GOOD,
        '{"conversations": [{"from": "gpt"}]}',
        GOOD,
    ),
    "value": bad(
        "2: field 'conversations[0].value': expected a string, found null",
        GOOD,
        '{"conversations": [{"from": "gpt", "value": null}]}',
        GOOD,
    ),
    "role": bad(
        "2: field 'conversations[0].from': unknown role 'robot', expected one of human, user,",
        GOOD,
        '{"conversations": [{"from": "robot", "value": ""}]}',
        GOOD,
    ),
    "syntax": bad("2: not JSON: expecting property name", GOOD, "{oops}", GOOD),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_line_is_named_or_skipped(tmp_path: Path, case: str) -> None:
    text, message = CASES[case]
    path = tmp_path / "a.jsonl"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        read(path)
    assert f"{path}:{message}" in str(caught.value)
    reader = ChatReader(path, skip_bad_rows=True)
    assert len(list(reader)) == 2
    assert reader.skipped.total() == 1
    assert reader.first_skipped[0].startswith(f"{path}:2: ")


@pytest.mark.parametrize("case", sorted(set(CASES) - {"syntax"}))
def test_bad_element_of_an_array_is_named_or_skipped(tmp_path: Path, case: str) -> None:
    text, message = CASES[case]
    path = tmp_path / "a.json"
    path.write_text("[" + text.replace("\n", ",\n") + "\n]\n")
    with pytest.raises(InputError) as caught:
        read(path)
    assert f"{path}:{message}" in str(caught.value)
    assert read(path, skip_bad_rows=True) == [TWO_READ[0]] * 2


def test_invalid_utf8_in_lines_and_array(tmp_path: Path) -> None:
    broken = GOOD.encode().replace(b"Hello", b"H\xe9llo")
    path = tmp_path / "a.json"
    for head, middle, tail in ((b"", b"\n", b""), (b"[", b",\n", b"]")):
        path.write_bytes(head + middle.join([GOOD.encode(), broken, GOOD.encode()]) + tail)
        with pytest.raises(InputError, match=r"a\.json:2: invalid UTF-8 \(byte 0xe9\)"):
            read(path)
        assert read(path, skip_bad_rows=True) == [TWO_READ[0]] * 2


def test_truncated_array_keeps_complete_conversations(tmp_path: Path) -> None:
    whole = json.dumps(TWO, indent=1, ensure_ascii=False).encode()
    path = tmp_path / "a.json"
    first_ends = whole.index(b"},\n {") + 1
    for size in range(2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(InputError, match=r"a\.json:\d+: .*--skip-bad-rows keeps"):
            read(path)
        complete = (size >= first_ends) + (size >= len(whole) - 2)
        assert read(path, skip_bad_rows=True) == TWO_READ[:complete], size


def test_cut_off_lines_and_compressed_files(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(GOOD + "\n" + GOOD[:-20])
    with pytest.raises(InputError, match=r"a\.jsonl:2: the file is cut off inside a conversation"):
        read(path)
    assert read(path, skip_bad_rows=True) == TWO_READ[:1]
    rows = "\n".join(
        json.dumps(sharegpt(("human", str(i)), ("gpt", "y" * 99))) for i in range(40000)
    ).encode()
    for text, compress in ((rows, gzip.compress), (rows, zstandard.compress)):
        packed = compress(text)
        path.write_bytes(packed[: len(packed) // 2])
        with pytest.raises(
            InputError, match=r"a\.jsonl:\d+: the compressed file is damaged or cut"
        ):
            read(path)
        kept = read(path, skip_bad_rows=True)
        assert 9000 < len(kept) < 40000
        assert kept[-1][0] == ("user", str(len(kept) - 1))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        (" \n ", "is empty"),
        ("hello", ":1: not JSON"),
        ("\n\nhello", ":3: not JSON"),
        ('[{"conversations": []} x', ":1: expected ',' or ']' after a conversation"),
        ('[{"conversations": []},\nx]', ":2: not JSON: expecting value"),
        ('[{"conversations": []}]\n[]', ":2: unexpected data after the end of the array"),
    ],
)
def test_files_that_are_not_chat_data(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}")
    assert message in str(caught.value)


def test_unknown_format_lists_the_choices() -> None:
    with pytest.raises(InputError, match="choose one of sharegpt, openai, wildchat"):
        ChatReader([], format="csv")


class Drip(io.BytesIO):
    """Gives at most a few bytes a read, as a socket may."""

    def __init__(self, data: bytes, step: int) -> None:
        super().__init__(data)
        self.step = step
        self.largest = 0

    def read(self, size: int | None = -1) -> bytes:
        self.largest = max(self.largest, size or 0)
        return super().read(self.step)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(st.lists(VALUES, max_size=5), st.integers(1, 40), st.sampled_from([None, 1]), st.booleans())
def test_array_stream_equals_json_loads(
    values: list[Any], step: int, indent: int | None, ascii_only: bool
) -> None:
    text = json.dumps(values, indent=indent, ensure_ascii=ascii_only).encode("utf-8", "replace")
    rows = list(stream.json_array(Drip(text, step)))
    assert all(not isinstance(row, BadRowError) for row in rows)
    assert [row[1] for row in rows if not isinstance(row, BadRowError)] == json.loads(text)
    for row in rows:
        assert not isinstance(row, BadRowError)
        line = text.decode().split("\n")[row[0] - 1]
        assert json.dumps(row[1], ensure_ascii=ascii_only)[:1] in line


def test_array_memory_does_not_grow_with_the_file() -> None:
    element = json.dumps(sharegpt(("human", "x" * 5000))).encode()
    data = Drip(b"[" + b",\n".join([element] * 4000) + b"]", 1 << 20)
    rows = list(stream.json_array(data))
    assert len(rows) == 4000
    assert data.largest == 1 << 20  # never asked for more than one chunk
    assert rows[-1][0] == 4000  # type: ignore[index]
