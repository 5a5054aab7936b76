"""Text traces to token traces: every prompt encoded as a whole, in shards that can be kept.

A text trace is cut into shards at places that its content decides, so that a longer log, or one
with a changed row, still finds the shards of the rest in the cache. While one shard is encoded on
all cores, the next one is made ready.
"""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from prefixsim.errors import InputError
from prefixsim.text.templates import is_bare_prompt, message_renderer
from prefixsim.text.tokenize import (
    DEFAULT_MODEL,
    ChatTokenizer,
    Spans,
    Tokens,
    common_prefix,
    join,
    split_session,
)
from prefixsim.trace import Ragged, Trace

__all__ = ["Progress", "tokenize_trace"]

Progress = Callable[[int, int], None]
"""Called with the number of texts that are done, and of all."""

_LEAST_CHARACTERS = 250_000
_USUAL_CHARACTERS = 1_000_000
_MOST_CHARACTERS = 4_000_000
_EMPTY: Tokens = np.empty(0, dtype=np.uint32)


def _never(row: int) -> bool:
    del row
    return False


def tokenize_trace(
    trace: Trace,
    model: str = DEFAULT_MODEL,
    *,
    cache_dir: str | Path | None = None,
    progress: Progress | None = None,
) -> Trace:
    """Turn a text trace into a token trace, every prompt encoded as a whole.

    Texts that are messages (``meta["texts"]``) are rendered with the tokenizer's chat template.

    Parameters
    ----------
    trace : Trace
        Of kind ``text``; others are returned as they are.
    model : str
        As for :class:`~prefixsim.text.tokenize.ChatTokenizer`.
    cache_dir : path, optional
        Keep token ids here, shard by shard: after an interruption, and for texts that were seen
        before, they are not encoded again. Found by the content of texts and tokenizer.
    progress : callable, optional
        See :data:`Progress`.

    Returns
    -------
    Trace
        With token ids, and the real ``prompt_len`` and ``output_len``.

    Raises
    ------
    InputError
        If there is no such tokenizer, or it cannot render messages.
    """
    if trace.texts is None:
        return trace
    tokenizer = ChatTokenizer(model, cache_dir)
    source = _Source(trace, tokenizer)
    answers = trace.output_texts or ()
    run = _Run(tokenizer, len(trace) + len(answers), progress)
    prompts = run.encode(source.shards(), len(trace), special=source.special)
    meta = {k: v for k, v in trace.meta.items() if k != "texts"} | {"tokenizer": model}
    outputs, output_len = None, trace.output_len
    if trace.output_texts is not None:
        every = ([(row, [text])] for row, text in enumerate(answers))
        outputs = Ragged.from_lists(run.encode(_shards(every, answers), len(trace), special=_never))
        counted = outputs.lengths.astype(np.uint32)
        if np.any((counted == 0) & (output_len > 0)):  # lengths of answers that were not logged
            output_len, outputs = np.where(counted > 0, counted, output_len), None
        else:
            output_len = counted
    return trace.replace(
        prompts=Ragged.from_lists(prompts),
        id_block_size=1,
        prompt_len=np.array([len(p) for p in prompts], dtype=np.uint32),
        texts=None,
        output_texts=None,
        outputs=outputs,
        output_len=output_len,
        meta=meta,
    )


@dataclass
class _Shard:
    """Texts that are encoded together."""

    spans: dict[int, Spans] = field(default_factory=dict)
    whole: bool = False


class _Source:
    """The prompts of a text trace, as shards of texts to encode."""

    def __init__(self, trace: Trace, tokenizer: ChatTokenizer) -> None:
        assert trace.texts is not None
        self._trace = trace
        self._texts = trace.texts
        self.messages = trace.meta.get("texts") == "messages"
        self._whole = tokenizer.refusal is not None
        if self.messages:
            self._render = message_renderer(tokenizer.hf, tokenizer.name)

    def special(self, row: int) -> bool:
        """Whether a prompt gets the tokenizer's special tokens: a template writes its own."""
        return not self.messages or is_bare_prompt(self._texts[row])

    def _text(self, row: int) -> str:
        text = self._texts[row]
        if not self.messages:
            return text
        try:
            return self._render(text)
        except ValueError as error:
            msg = f"{self._trace.name}: request {row}: {error}"
            raise InputError(msg) from None

    def shards(self) -> Iterator[_Shard]:
        """Yield shards that hold every prompt once."""
        if self._whole:
            every = ([(row, [self._text(row)])] for row in range(len(self._texts)))
            return _shards(every, self._texts, whole=True)
        groups = self._alike() if self._trace.session is None else self._sessions()
        return _shards(map(self._split, groups), self._texts)

    def _split(self, rows: list[int]) -> list[tuple[int, Spans]]:
        """Split prompts so that what each shares with the one before is in shared spans."""
        spans = split_session((self._text(row), ()) for row in rows)
        return list(zip(rows, spans, strict=True))

    def _sessions(self) -> Iterable[list[int]]:
        assert self._trace.session is not None
        rows: dict[int, list[int]] = {}
        for row, code in enumerate(self._trace.session.codes.tolist()):
            rows.setdefault(code, []).append(row)
        return rows.values()

    def _alike(self) -> Iterator[list[int]]:
        """Put prompts together that share half of their text: most likely a session."""
        order = sorted(range(len(self._texts)), key=self._texts.__getitem__)
        group: list[int] = []
        before = ""
        size = 0
        for row in order:
            text = self._texts[row]
            shared = common_prefix(before, text)
            size += len(text) - shared
            if group and (2 * shared < len(before) or size > _USUAL_CHARACTERS):
                yield group
                group, size = [], len(text)
            group.append(row)
            before = text
        if group:
            yield group


def _shards(
    groups: Iterable[list[tuple[int, Spans]]], texts: Sequence[str], *, whole: bool = False
) -> Iterator[_Shard]:
    """Join groups to shards, each ended by a group whose content says so, or by its size."""
    shard = _Shard(whole=whole)
    size = 0
    for group in groups:
        shard.spans.update(group)
        last = texts[group[-1][0]]
        length = max(len(texts[row]) for row, _ in group)
        size += length
        mark = zlib.crc32(last.encode()) / 2**32
        ended = size > _LEAST_CHARACTERS and mark < length / _USUAL_CHARACTERS
        if ended or size > _MOST_CHARACTERS:
            yield shard
            shard = _Shard(whole=whole)
            size = 0
    if shard.spans:
        yield shard


class _Run:
    """Encodes shards, one while the next is made ready, and counts."""

    def __init__(self, tokenizer: ChatTokenizer, total: int, progress: Progress | None) -> None:
        self._tokenizer = tokenizer
        self._total = total
        self._progress = progress
        self._done = 0

    def encode(
        self, shards: Iterable[_Shard], count: int, *, special: Callable[[int], bool]
    ) -> list[Tokens]:
        """Return the tokens of each row, with special tokens where ``special(row)``."""
        rows: list[Tokens] = [_EMPTY] * count
        waiting: deque[Future[dict[int, Tokens]]] = deque()

        def take() -> None:
            done = waiting.popleft().result()
            for row, tokens in done.items():
                rows[row] = tokens
            self._done += len(done)
            if self._progress is not None:
                self._progress(self._done, self._total)

        with ThreadPoolExecutor(1) as pool:
            try:
                for shard in shards:
                    waiting.append(pool.submit(self._encode, shard, special))
                    if len(waiting) > 1:
                        take()
                while waiting:
                    take()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        return rows

    def _encode(self, shard: _Shard, special: Callable[[int], bool]) -> dict[int, Tokens]:
        if shard.whole:
            return self._encode_whole(shard, special)
        around = (self._tokenizer.prefix, self._tokenizer.suffix)
        every = (span for spans in shard.spans.values() for span in spans)
        encoded = self._tokenizer.encode_spans(every)
        tokens = {}
        for row, spans in shard.spans.items():
            prefix, suffix = around if special(row) else (_EMPTY, _EMPTY)
            parts = join(spans, encoded, prefix, suffix)
            tokens[row] = np.concatenate(parts) if parts else _EMPTY
        return tokens

    def _encode_whole(self, shard: _Shard, special: Callable[[int], bool]) -> dict[int, Tokens]:
        tokens: dict[int, Tokens] = {}
        for wanted in (True, False):
            rows = [row for row in shard.spans if special(row) is wanted]
            texts = [shard.spans[row][0] for row in rows]
            done = self._tokenizer.encode_shard(texts, special=wanted)
            tokens |= dict(zip(rows, done, strict=True))
        return tokens
