"""Tokenization of conversations equals tokenization of every whole prompt."""

from __future__ import annotations

import gzip
import json
import random
import shutil
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefixsim.chat import Conversation, Message
from prefixsim.chat.model import BadRowError
from prefixsim.errors import InputError
from prefixsim.text import pretoken_boundaries as boundaries
from prefixsim.text.templates import answer, renderer, user_turns
from prefixsim.text.text_trace import tokenize_trace
from prefixsim.text.tokenize import ChatTokenizer, split_session
from prefixsim.trace import Codes, Trace
from prefixsim.traffic.sessions import SessionEncoder

NAMES = ("demo", "gpt2", "opt", "qwen3")
SPECIALS = ("<|endoftext|>", "</s>", "<pad>", "<|im_end|>", "<think>", "</think>", "<|user|>")


@pytest.fixture(scope="session")
def tokenizers(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], ChatTokenizer]:
    """Loads a tokenizer by its short name, once."""
    loaded: dict[str, ChatTokenizer] = {}

    def load(name: str) -> ChatTokenizer:
        if name not in loaded:
            loaded[name] = ChatTokenizer(where(name))
        return loaded[name]

    def where(name: str) -> str:
        if name == "demo":
            return name
        folder: Path = request.getfixturevalue("shared") / "data/tokenizers" / name
        if name != "qwen3":
            return str(folder)
        target = tmp_path_factory.mktemp("qwen3")
        shutil.copy(folder / "tokenizer_config.json", target)
        packed = gzip.decompress((folder / "tokenizer.json.gz").read_bytes())
        (target / "tokenizer.json").write_bytes(packed)
        return str(target)

    return load


def never(bad: BadRowError, conversation: Conversation) -> None:
    raise AssertionError(bad)


def conversation(*pairs: tuple[str, str]) -> Conversation:
    return Conversation(0, "", tuple(Message(role, text) for role, text in pairs))  # type: ignore[arg-type]


def check_against_whole(
    tokenizer: ChatTokenizer, template: Any, conversations: Sequence[Conversation]
) -> None:
    """Compare with the plain way: render each prompt, encode it as a user would."""
    encoder = SessionEncoder(tokenizer, template, "whole", never)
    encoder._unchecked = 0  # the comparison below is the check
    render = renderer(template, tokenizer.hf)
    for session in encoder.encode(conversations):
        messages = session.conversation.messages
        for k, at in enumerate(user_turns(messages)):
            for parts, text in (
                (session.multi[k], render(messages[: at + 1])),
                (session.single[k], render([messages[at]])),
            ):
                expected = tokenizer.hf(text, add_special_tokens=template != "chat")["input_ids"]
                assert [i for part in parts for i in part.tolist()] == expected, text
            said, output = answer(messages, at), session.outputs[k]
            assert (said is None) == (output is None)
            if said is not None and output is not None:
                assert output.tolist() == tokenizer.hf(said, add_special_tokens=False)["input_ids"]
    assert encoder.method.startswith("whole prompts, cut at stable places")


@pytest.mark.parametrize("name", NAMES)
def test_what_tokenizers_add_around_a_text(name: str, tokenizers: Callable[..., Any]) -> None:
    tokenizer = tokenizers(name)
    assert tokenizer.prefix.tolist() == ([2] if name == "opt" else [])
    assert tokenizer.suffix.tolist() == []
    assert tokenizer.refusal is None
    if name != "demo":
        first = {"gpt2": 15496, "opt": 2, "qwen3": 9707}
        (ids,) = tokenizer.encode(["Hello, my dog is cute"], special=True)
        assert ids[0] == first[name]


@pytest.mark.parametrize("template", ["none", "role"])
@pytest.mark.parametrize("name", NAMES)
def test_sample_and_agent_text(
    name: str, template: str, tokenizers: Callable[..., Any], shared: Path
) -> None:
    from prefixsim.chat import ChatReader
    from prefixsim.traffic.demo import sample_conversations

    sample = list(ChatReader(sample_conversations(30, seed=5)))
    real = list(ChatReader(shared / "data/chat/fastchat_dummy_conversation.json", limit=60))
    check_against_whole(tokenizers(name), template, sample + real + agent_conversations(shared))


def agent_conversations(shared: Path) -> list[Conversation]:
    """Real agent text (code, JSON, Markdown) cut into conversations at arbitrary places."""
    with gzip.open(shared / "data/lmcache-agent/magagent.jsonl.gz", "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for _, line in zip(range(400), file, strict=False)]
    rng = random.Random(3)
    made = []
    for row in rng.sample(rows, 25):
        text = row["input"][:6000]
        places = sorted(rng.randrange(len(text) + 1) for _ in range(8))
        bounds = zip([0, *places], [*places, len(text)], strict=True)
        roles = (
            "system",
            "user",
            "assistant",
            "user",
            "assistant",
            "assistant",
            "user",
            "user",
            "gpt",
        )
        known = [r if r != "gpt" else "assistant" for r in roles]
        made.append(
            conversation(*((r, text[a:b]) for r, (a, b) in zip(known, bounds, strict=True)))
        )
    return made


@pytest.mark.parametrize("name", ["demo", "qwen3"])
def test_chat_template(name: str, tokenizers: Callable[..., Any]) -> None:
    from prefixsim.chat import ChatReader
    from prefixsim.traffic.demo import sample_conversations

    thinking = conversation(
        ("system", "Think first."),
        ("user", "What is two plus two, please?"),
        ("assistant", "<think>\nThat is easy, I know it.\n</think>\n\nFour, of course."),
        ("user", "And three more, what is it then?"),
        ("assistant", "<think>\nFour and three make more.\n</think>\n\nSeven."),
        ("user", "Thanks"),
    )
    sample = list(ChatReader(sample_conversations(20, seed=6)))
    check_against_whole(tokenizers(name), "chat", [thinking, *sample])


NASTY = st.lists(
    st.one_of(
        st.sampled_from(
            [
                *SPECIALS,
                *("'s", "'LL ", "don't", " ", "  ", "\n", "\n\n", "\r\n", "\t", "\u00a0", "\u3000"),
                *(
                    "a",
                    "Word",
                    "é",
                    "e\u0301",
                    "\u0301",
                    "ß",
                    "\u017f",
                    "日本",
                    "。",
                    "ง่าย",
                    "क्",
                    "نص",
                ),
                *(
                    "한국",
                    "\u1112\u1161\u11ab",
                    "가",
                    "\u11a8",
                    "123",
                    "4",
                    "²",
                    "½",
                    "_",
                    "-",
                    "<",
                    ">",
                ),
                *(
                    ", ",
                    ".",
                    "!?",
                    "\U0001f600",
                    "👨‍👩‍👧",
                    "\u200d",
                    "\ufeff",
                    "(",
                    ")",
                    "=",
                    "/",
                    "\u0338",
                ),
            ]
        ),
        st.text(max_size=6).filter(lambda s: s.encode("utf-8", "ignore").decode() == s),
    ),
    max_size=14,
).map("".join)


@pytest.mark.parametrize("template", ["none", "role"])
@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=40)
@given(data=st.data())
def test_nasty_text(name: str, template: str, tokenizers: Callable[..., Any], data: Any) -> None:
    roles = st.sampled_from(["user", "assistant", "system", "tool"])
    pairs = st.lists(st.tuples(roles, NASTY), min_size=1, max_size=8)
    rows = [conversation(*row) for row in data.draw(st.lists(pairs, min_size=1, max_size=3))]
    check_against_whole(tokenizers(name), template, rows)


@pytest.mark.parametrize("name", NAMES)
def test_every_letter_before_every_stop(name: str, tokenizers: Callable[..., Any]) -> None:
    """The claim of the boundaries, checked for each pair against the tokenizer itself."""
    tokenizer = tokenizers(name)
    letters = [chr(c) for c in range(0x3100) if boundaries._IS_LETTER.match(chr(c))]
    letters += [chr(c) for c in range(0x4E00, 0xD7A4, 97) if boundaries._IS_LETTER.match(chr(c))]
    whole, left, right = [], [], []
    tails = ("x", " x", "\n", "'s", "\u0301", "1", ">", "")
    for i, letter in enumerate(letters):
        assert unicodedata.category(letter).startswith("L")
        for j, stop in enumerate(boundaries.STOPS):
            assert unicodedata.normalize("NFC", letter + stop) == letter + stop
            head, tail = ("a ", "'", "1", "\u0301 ", "\n")[(i + j) % 5], tails[(i + 3 * j) % 8]
            assert boundaries.is_boundary(head + letter + stop + tail, len(head) + 1)
            whole.append(head + letter + stop + tail)
            left.append(head + letter)
            right.append(stop + tail)
    encoded = zip(*(tokenizer.encode(x) for x in (whole, left, right)), strict=True)
    for text, (w, a, b) in zip(whole, encoded, strict=True):
        assert w.tolist() == [*a.tolist(), *b.tolist()], repr(text)


def test_cost_is_linear_in_unique_text(tokenizers: Callable[..., Any]) -> None:
    words = "Nobody expects the length of this answer, least of all its author. " * 20
    turns = [("user", "And then? " * 5), ("assistant", words)] * 200
    row = conversation(*((role, f"{i} {text}") for i, (role, text) in enumerate(turns)))
    unique = sum(len(m.text) for m in row.messages)
    messages = row.messages
    ends = user_turns(messages)
    prompts = [("".join(m.text for m in messages[: at + 1]), ()) for at in ends]
    spans = list(split_session(prompts))
    assert sum(len(text) for text, _ in prompts) > 90 * unique
    assert sum(map(len, {p for row_pieces in spans for p in row_pieces})) < 1.1 * unique
    for (text, _), row_pieces in zip(prompts, spans, strict=True):
        assert "".join(row_pieces) == text


def test_message_tokenization(tokenizers: Callable[..., Any]) -> None:
    tokenizer = tokenizers("opt")
    row = conversation(("user", " he"), ("assistant", "llo"), ("user", " matters"))
    (session,) = SessionEncoder(tokenizer, "none", "message", never).encode([row])
    alone = [x.tolist() for x in tokenizer.encode([" he", "llo", " matters"])]
    assert np.concatenate(session.multi[1]).tolist() == [2, *alone[0], *alone[1], *alone[2]]
    assert np.concatenate(session.single[1]).tolist() == [2, *alone[2]]
    (whole,) = SessionEncoder(tokenizer, "none", "whole", never).encode([row])
    assert len(np.concatenate(whole.multi[1])) == 3  # " hello" crosses the message border
    with pytest.raises(InputError, match="use --tokenization whole"):
        SessionEncoder(tokenizer, "chat", "message", never)


class Split:
    """A pre-tokenizer of one expression, as in tokenizer.json."""

    @staticmethod
    def spec(pattern: str) -> str:
        split = {
            "type": "Split",
            "pattern": {"Regex": pattern},
            "behavior": "Isolated",
            "invert": False,
        }
        level = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}
        pre = {"type": "Sequence", "pretokenizers": [split, level]}
        return json.dumps({"model": {"type": "BPE"}, "normalizer": None, "pre_tokenizer": pre})


CL100K = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def test_tokenizers_without_stable_cuts_are_refused() -> None:
    assert boundaries.refusal(Split.spec(CL100K), []) is None
    assert "unknown expression" in (boundaries.refusal(Split.spec(CL100K + r"|\w+ \w+"), []) or "")
    assert "does not match all text" in (boundaries.refusal(Split.spec(r" ?\p{L}+"), []) or "")
    word_piece = json.dumps({"model": {"type": "WordPiece"}})
    assert "WordPiece" in (boundaries.refusal(word_piece, []) or "")
    lower = json.loads(Split.spec(CL100K)) | {"normalizer": {"type": "Lowercase"}}
    assert "Lowercase" in (boundaries.refusal(json.dumps(lower), []) or "")

    class Added:
        rstrip = single_word = False

        def __init__(self, content: str, **changes: bool) -> None:
            self.content = content
            self.__dict__.update(changes)

    spec = Split.spec(CL100K)
    assert boundaries.refusal(spec, [Added("<mask>")]) is None
    assert "contains a cut" in (boundaries.refusal(spec, [Added("[my token]")]) or "")
    assert "white space" in (boundaries.refusal(spec, [Added("END", rstrip=True)]) or "")
    assert "before it" in (boundaries.refusal(spec, [Added("\n", single_word=True)]) or "")


def test_wrong_cuts_are_noticed_and_every_prompt_is_encoded_whole(
    tokenizers: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = tokenizers("demo")
    row = conversation(("user", "chocolate"), ("assistant", "cake"), ("user", " baking"))
    monkeypatch.setattr(
        boundaries, "find_last", lambda text, low, high: high - 3 if high - 3 > low else -1
    )
    encoder = SessionEncoder(tokenizer, "none", "whole", never)
    (session,) = encoder.encode([row])
    assert "cut text gives other tokens" in encoder.method
    expected = tokenizer.hf("chocolatecake baking")["input_ids"]
    assert np.concatenate(session.multi[1]).tolist() == expected


def test_text_trace_to_tokens(
    tokenizers: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = ["Hi there, you.", "Other session.", "Hi there, you. Yes, I am. And you?", ""]
    trace = Trace(
        timestamp=np.arange(4.0),
        prompt_len=np.zeros(4, np.uint32),
        output_len=np.zeros(4, np.uint32),
        texts=texts,
        output_texts=["Yes", "", "x", ""],
        session=Codes.from_strings(["a", "b", "a", "c"]),
    )
    tokenizer = tokenizers("opt")
    done = tokenize_trace(trace, tokenizer.name)
    assert done.prompts is not None and done.outputs is not None
    expected = [tokenizer.hf(text)["input_ids"] for text in texts]
    assert [done.prompts[i].tolist() for i in range(4)] == expected
    assert done.prompt_len.tolist() == [len(ids) for ids in expected]
    assert done.output_len.tolist() == [1, 0, 1, 0]
    assert tokenize_trace(done) is done
    monkeypatch.setattr("prefixsim.text.pretoken_boundaries.refusal", lambda *_: "a test")
    again = tokenize_trace(trace, tokenizer.name)
    assert again.digest == done.digest


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("./nowhere", "no such folder"),
        ("a/b/c", "no such folder"),
        ("", "no such folder"),
        (__file__, "is a file"),
    ],
)
def test_unknown_tokenizer_is_one_line(model: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        ChatTokenizer(model)
    assert "\n" not in str(caught.value)
    assert "--model demo" in str(caught.value)


def test_folder_without_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no tokenizer that transformers can load"):
        ChatTokenizer(str(tmp_path))


def test_hub_switched_off_or_out_of_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match="the hub is switched off, give a local folder"):
        ChatTokenizer("no-such-owner/no-such-model")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)

    def refuse(*_: object, **__: object) -> None:
        raise OSError

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", refuse)
    with pytest.raises(InputError, match="the hub cannot be reached, give a local folder"):
        ChatTokenizer("no-such-owner/no-such-model")
