"""Text to token ids, with Hugging Face tokenizers.

``whole`` tokenization gives every prompt exactly the ids of encoding the whole rendered prompt.
It costs time linear in the *unique* text: a conversation is cut at stable places (see
:mod:`prefixsim.text.pretoken_boundaries`), each span is encoded once, and spans of many
conversations go through the tokenizer in one batch on all cores. Batches can be kept in a folder
(:class:`prefixsim.text.token_cache.TokenCache`), so that nothing is encoded twice.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from prefixsim.text import pretoken_boundaries as boundaries
from prefixsim.text.encoders import Encoder, Tokens
from prefixsim.text.pretrained import Tokenizer, load_tokenizer
from prefixsim.text.token_cache import TokenCache

if TYPE_CHECKING:
    from prefixsim.text.token_cache import TokenCache

__all__ = [
    "DEFAULT_MODEL",
    "ChatTokenizer",
    "Spans",
    "Tokenization",
    "Tokens",
    "common_prefix",
    "join",
    "split_levels",
    "split_session",
]

Tokenization = Literal["whole", "message"]
Spans = list[str]
"""Parts of a text whose tokens, joined, are the tokens of the text."""

DEFAULT_MODEL = "facebook/opt-125m"
_SHORTEST_BODY = 64
_SOUGHT = 32
_EMPTY: Tokens = np.empty(0, dtype=np.uint32)


class ChatTokenizer:
    """A tokenizer, what it adds around a prompt, and whether text may be cut for it.

    Parameters
    ----------
    model : str
        Hub name, local folder, or ``demo`` for the embedded tokenizer.
    cache_dir : path, optional
        Keep token ids here, and use those that are.

    Attributes
    ----------
    name : str
    hf : transformers.PreTrainedTokenizerBase
    prefix, suffix : ndarray of uint32
        Special tokens that the tokenizer puts around a text, such as OPT's BOS.
    refusal : str or None
        Why text cannot be cut; every prompt is then encoded whole.
    encoder : Encoder
        What encodes, and which package does.
    cache : TokenCache or None

    Raises
    ------
    InputError
        If there is no such tokenizer, or no network to fetch it.
    """

    def __init__(self, model: str, cache_dir: str | Path | None = None) -> None:
        self.name = model
        self.hf: Tokenizer = load_tokenizer(model)
        self._fast: Tokenizer = getattr(self.hf, "backend_tokenizer", None)
        if self._fast is None:
            self.refusal: str | None = "it is not a fast tokenizer"
        else:
            self._fast.no_truncation()
            self._fast.no_padding()
            added = self.hf.added_tokens_decoder.values()
            self.refusal = boundaries.refusal(self._fast.to_str(), added)
        self.encoder = Encoder(self.hf, model, quick=self.refusal is None)
        around = self._find_special()
        self.splits_special = around is not None
        self.prefix, self.suffix = around or (_EMPTY, _EMPTY)
        if around is None and self.refusal is None:
            self.refusal = "it changes text between its special tokens"
        self.cache: TokenCache | None = None
        if cache_dir is not None:
            self.cache = TokenCache(cache_dir, self.digest)

    @property
    def digest(self) -> str:
        """SHA-256 of what decides the token ids: the content of the tokenizer's files."""
        if self._fast is not None:
            return hashlib.sha256(b"fast\n" + self._fast.to_str().encode()).hexdigest()
        digest = hashlib.sha256(type(self.hf).__qualname__.encode())
        with tempfile.TemporaryDirectory() as folder:
            self.hf.save_pretrained(folder)
            for file in sorted(Path(folder).iterdir()):
                data = file.read_bytes()
                digest.update(f"\n{file.name} {len(data)}\n".encode() + data)
        return digest.hexdigest()

    def _find_special(self) -> tuple[Tokens, Tokens] | None:
        """Compare encodings with and without special tokens."""
        probes = ["a", "Hello, my dog is cute", "1. x\n\n2. y "]
        bare = self.encode(probes)
        full = self.encode(probes, special=True)
        extra = len(full[0]) - len(bare[0])
        for before in range(extra + 1):
            prefix, suffix = full[0][:before], full[0][len(full[0]) - (extra - before) :]
            if all(
                np.array_equal(np.concatenate([prefix, b, suffix]), f)
                for b, f in zip(bare, full, strict=True)
            ):
                return prefix, suffix
        return None

    def encode(self, texts: Sequence[str], *, special: bool = False) -> list[Tokens]:
        """Encode texts with the reference; ``special`` adds the tokenizer's special tokens."""
        return self.encoder.reference(texts, special=special)

    def encode_shard(self, texts: Sequence[str], *, special: bool = False) -> list[Tokens]:
        """Encode texts with the quickest encoder that gives the right ids, or find them kept."""

        def encode(shard: Sequence[str]) -> list[Tokens]:
            return self.encode(shard, special=True) if special else self.encoder.encode(shard)

        if self.cache is None or not texts:
            return encode(texts)
        return self.cache.encode(texts, "with special tokens" if special else "bare", encode)

    def encode_spans(self, spans: Iterable[str]) -> dict[str, Tokens]:
        """Encode each distinct span once, without special tokens; they are one shard."""
        distinct = list(dict.fromkeys(spans))
        return dict(zip(distinct, self.encode_shard(distinct), strict=True))


def body(text: str) -> str | None:
    """Return the part of a message between its first and last stable cut, if it is worth sharing.

    It appears unchanged wherever the message does: as an answer, as a prompt, inside a history.
    """
    first = boundaries.find_first(text)
    if first < 0:
        return None
    last = boundaries.find_last(text, first, len(text))
    return text[first:last] if last - first >= _SHORTEST_BODY else None


def split(text: str, start: int = 0, end: int | None = None, contents: Sequence[str] = ()) -> Spans:
    """Split ``text[start:end]`` around contents; both ends are boundaries or ends of the text."""
    end = len(text) if end is None else end
    spans = []
    at = start
    for part in contents:
        place = _find(text, part, at, end)
        if place < 0:
            continue
        stop = place + len(part)
        if (place == start or boundaries.is_boundary(text, place)) and (
            stop == end or boundaries.is_boundary(text, stop)
        ):
            if place > at:
                spans.append(text[at:place])
            spans.append(part)
            at = stop
    if at < end:
        spans.append(text[at:end])
    return spans


def _find(text: str, part: str, start: int, end: int) -> int:
    """Do what ``text.find`` does, which for long parts first studies the part."""
    head = part[:_SOUGHT]
    place = text.find(head, start, end)
    while place >= 0 and not text.startswith(part, place, end):
        place = text.find(head, place + 1, end)
    return place


def split_session(prompts: Iterable[tuple[str, Sequence[str]]]) -> Iterator[Spans]:
    """Split the prompts of one session so that what they share is in shared spans.

    See :func:`split_levels`.

    Yields
    ------
    list of str
        Spans of each prompt.
    """
    for levels in split_levels(prompts):
        yield [span for spans in levels for span in spans]


def split_levels(prompts: Iterable[tuple[str, Sequence[str]]]) -> Iterator[list[Spans]]:
    """Split the prompts of one session so that what they share is in shared spans.

    Parameters
    ----------
    prompts : iterable of (str, sequence of str)
        Each prompt, and the contents that are new in it, in order. At most two prompts are looked
        at at a time.

    Yields
    ------
    list of list of str
        Spans of each prompt: those of each part that later prompts may share, which are the same
        list then, and those of the rest.
    """
    stack: list[tuple[int, Spans]] = []  # (end, spans) of the text shared with the prompt before
    source = iter(prompts)
    current = next(source, None)
    while current is not None:
        text, contents = current
        following = next(source, None)
        base = stack[-1][0] if stack else 0
        shared = 0 if following is None else common_prefix(text, following[0])
        cut = boundaries.find_last(text, base, shared)
        if cut > 0:
            stack.append((cut, split(text, base, cut, contents)))
            base = cut
        tail = split(text, base, None, contents)
        yield [*(spans for _, spans in stack), tail]
        while stack and stack[-1][0] >= shared:  # the history was rewritten (chat templates)
            stack.pop()
        current = following


def common_prefix(a: str, b: str) -> int:
    """Length of what two texts begin with alike."""
    if b.startswith(a):
        return len(a)
    low, high = 0, min(len(a), len(b))
    while low < high:
        middle = (low + high + 1) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def join(spans: Spans, encoded: dict[str, Tokens], prefix: Tokens, suffix: Tokens) -> list[Tokens]:
    """Return the token arrays that make up a prompt, special tokens around them."""
    parts = [encoded[span] for span in spans]
    if len(prefix):
        parts.insert(0, prefix)
    if len(suffix):
        parts.append(suffix)
    return parts
