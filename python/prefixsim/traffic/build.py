"""Chat data to a single-turn and a multi-turn trace: ``prefixsim trace``.

One pass, memory bounded by the conversations that are under way: conversations are read and
encoded in batches, their turns wait in a heap for their time, and everything earlier than the next
session's start is written.
"""

from __future__ import annotations

import heapq
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from prefixsim._core import __version__
from prefixsim._files import atomic_folder, atomic_write
from prefixsim._json import JsonObject
from prefixsim.chat import ChatReader, Conversation
from prefixsim.errors import InputError
from prefixsim.formats import open_writer
from prefixsim.formats.summary_file import SUMMARY_FILE
from prefixsim.stats import distribution_of_counts
from prefixsim.text.templates import Template, user_turns
from prefixsim.text.tokenize import DEFAULT_MODEL, ChatTokenizer, Tokenization, Tokens
from prefixsim.trace import Trace
from prefixsim.traffic.arrivals import ArrivalClock, Arrivals
from prefixsim.traffic.asked import OutputFormat, SingleTurns, check_options, open_data
from prefixsim.traffic.ceiling import MOST_TOKENS_COMPILED, sharing_ceiling
from prefixsim.traffic.counts import ConversationCounts, KindCounts
from prefixsim.traffic.sessions import Session, SessionEncoder, TextSession
from prefixsim.traffic.trace_writers import (
    Background,
    BatchWriter,
    Kept,
    Memory,
    Prompt,
    Turn,
    Writer,
)

__all__ = ["BuiltTraces", "OutputFormat", "SingleTurns", "build_traces"]

KINDS = ("single_turn", "multi_turn")

_BATCH_CONVERSATIONS = 512
_BATCH_CHARACTERS = 4_000_000
_BYTES_PER_TOKEN = 4  # of English text; used for answers of text traces only


@dataclass(frozen=True)
class BuiltTraces:
    """What :func:`build_traces` made.

    Attributes
    ----------
    summary : dict
        The content of ``trace_summary.json``.
    files : dict of str to Path
        Written files: ``single_turn``, ``multi_turn``, ``summary``; empty if none were asked for.
    counts : dict of str to KindCounts
        Prompt and output lengths of each trace, with how often each occurs.
    conversations : ConversationCounts
        What the conversations held, and their numbers of turns.

    Examples
    --------
    >>> import prefixsim
    >>> built = prefixsim.build_traces(model="demo", max_conversations=3)
    >>> built.summary["data"]["conversations_used"], built.files
    (3, {})
    >>> built.multi.kind
    'tokens'
    """

    summary: JsonObject
    files: dict[str, Path]
    counts: dict[str, KindCounts]
    conversations: ConversationCounts
    _traces: dict[str, Trace] = field(default_factory=dict)

    def moved(self, folder: Path) -> BuiltTraces:
        """Return the same with its files in another folder, where they were moved to."""
        return replace(self, files={kind: folder / p.name for kind, p in self.files.items()})

    @cached_property
    def single(self) -> Trace:
        """The single-turn trace."""
        return self._trace("single_turn")

    @cached_property
    def multi(self) -> Trace:
        """The multi-turn trace."""
        return self._trace("multi_turn")

    def _trace(self, kind: str) -> Trace:
        return self._traces[kind] if kind in self._traces else Trace.read(self.files[kind])


def build_traces(
    data: str | Path | Iterable[object] | None = None,
    *,
    model: str = DEFAULT_MODEL,
    output_dir: str | Path | None = None,
    max_conversations: int | None = 1000,
    template: Template = "none",
    tokenization: Tokenization = "whole",
    text: bool = False,
    arrival_rate: float = 2.0,
    think_time: float = 10.0,
    time_per_token: float = 0.02,
    sequential: bool = False,
    turns: SingleTurns = "every",
    seed: int = 0,
    data_format: str | None = None,
    skip_bad_rows: bool = False,
    output_format: OutputFormat = "jsonl",
    block_size: int = 16,
    cache_dir: str | Path | None = None,
    progress: Callable[[int, tuple[int, int] | None], None] | None = None,
) -> BuiltTraces:
    """Turn chat data into a single-turn and a multi-turn trace.

    Every user message is one request. Its single-turn prompt is that message alone; its multi-turn
    prompt is everything in the conversation up to and including it, system messages and a leading
    assistant message too. With ``turns="first"`` the single-turn trace holds only the first request
    of each conversation; the multi-turn trace, and all times, stay as they are.

    Parameters
    ----------
    data : path, or iterable of dict, optional
        ShareGPT, OpenAI style or WildChat/LMSYS data, see :class:`prefixsim.chat.ChatReader`.
        Default: the embedded synthetic sample.
    model : str
        Tokenizer: hub name, local folder, or ``demo``.
    output_dir : path, optional
        Write the traces and ``trace_summary.json`` here. Default: keep the traces in memory.
    max_conversations : int, optional
        Use the first so many; ``None`` or 0 is all.
    template : {"none", "role", "chat"}
    tokenization : {"whole", "message"}
        Token ids of the whole rendered prompt, or of each message by itself, joined.
    text : bool
        Keep text. No tokenizer is needed (but for ``template="chat"``); output lengths, which
        arrival times depend on, are then estimates of one token for four bytes.
    arrival_rate, think_time, time_per_token, sequential, seed
        See :class:`prefixsim.traffic.arrivals.Arrivals`.
    turns : {"every", "first"}
        The user turns of a conversation that are requests of the single-turn trace.
    data_format : {"sharegpt", "openai", "wildchat"}, optional
    skip_bad_rows : bool
    output_format : {"jsonl", "parquet"}
    block_size : int
        Tokens per block of the summary's sharing figures.
    cache_dir : path, optional
        Keep token ids here, batch by batch: after an interruption, and for conversations that were
        seen before, they are not encoded again.
    progress : callable, optional
        Called with the number of conversations read and, if known, bytes read and in all.

    Returns
    -------
    BuiltTraces

    Raises
    ------
    InputError
        If something given is not usable, or no conversation makes a request.

    Examples
    --------
    >>> built = build_traces(model="demo", max_conversations=20)
    >>> len(built.single) == len(built.multi)
    True
    """
    arrivals = Arrivals(arrival_rate, think_time, time_per_token, sequential, seed)
    check_options(block_size, max_conversations, output_format, turns)
    limit = max_conversations or None
    reader = open_data(data, data_format, skip_bad_rows, limit, seed)
    tokenizer = ChatTokenizer(model, cache_dir) if not text or template == "chat" else None
    encoder = SessionEncoder(
        tokenizer, template, tokenization, lambda bad, c: reader.bad_row(bad, c.where)
    )
    config = {
        "data": reader.name,
        "model": tokenizer.name if tokenizer else None,
        "template": template,
        "tokenization": None if text else tokenization,
        "text": text,
        "max_conversations": limit,
        "arrivals": arrivals.config(),
        "turns": turns,
        "block_size": block_size,
    }
    run = _Run(reader, encoder, ArrivalClock(arrivals), text=text, turns=turns, progress=progress)
    if output_dir is None:
        return _built(run, config, arrivals.seed, None, output_format)
    with atomic_folder(output_dir, last=SUMMARY_FILE) as stage:
        built = _built(run, config, arrivals.seed, stage, output_format)
    return built.moved(Path(output_dir))


def _built(
    run: _Run, config: JsonObject, seed: int, folder: Path | None, output_format: str
) -> BuiltTraces:
    """Make the traces, in memory or as files of a folder."""
    files: dict[str, Path] = {}
    kept: dict[str, Memory | Kept] = {}
    with ExitStack() as stack:
        writers: dict[str, Writer] = {}
        for kind in KINDS:
            if folder is None:
                writers[kind] = kept[kind] = Memory()
            else:
                files[kind] = folder / f"{kind}_trace.{output_format}"
                file = stack.enter_context(open_writer(files[kind]))
                writers[kind] = kept[kind] = Kept(file, MOST_TOKENS_COMPILED)
        background = stack.enter_context(Background())
        trace_writers = [
            BatchWriter(background.to(writers[kind]), kind, {"config": config, "seed": seed})
            for kind in KINDS
        ]
        run.write(trace_writers)
    summary = run.summary(config, trace_writers)
    traces = {kind: w.trace() for kind, w in writers.items() if isinstance(w, Memory)}
    for kind in KINDS:
        row = summary["traces"][kind]
        source = traces[kind] if kind in traces else kept[kind].trace()
        block_size = config["block_size"]
        row["sharing_ceiling"] = sharing_ceiling(source, row.get("prompt_tokens"), block_size)
    if folder is not None:
        for kind in KINDS:
            summary["traces"][kind]["file"] = files[kind].name
        files["summary"] = folder / SUMMARY_FILE
        atomic_write(files["summary"], json.dumps(summary, indent=2) + "\n")
    counts = {
        kind: trace_writer.counts for kind, trace_writer in zip(KINDS, trace_writers, strict=True)
    }
    return BuiltTraces(summary, files, counts, run.counts, traces)


class _Run:
    """One pass over the data."""

    def __init__(
        self,
        reader: ChatReader,
        encoder: SessionEncoder,
        clock: ArrivalClock,
        *,
        text: bool,
        turns: SingleTurns,
        progress: Callable[[int, tuple[int, int] | None], None] | None,
    ) -> None:
        self.reader = reader
        self.encoder = encoder
        self.clock = clock
        self.text = text
        self.turns = turns
        self.progress = progress
        self.counts = ConversationCounts()

    def write(self, trace_writers: Sequence[BatchWriter]) -> None:
        """Write every request, in the order of time."""
        waiting: list[Turn] = []
        for session in self._sessions():
            turns = self._turns(session)
            while waiting and waiting[0].time <= turns[0].time:
                self._emit(heapq.heappop(waiting), trace_writers)
            for turn in turns:
                heapq.heappush(waiting, turn)
        while waiting:
            self._emit(heapq.heappop(waiting), trace_writers)
        for trace_writer in trace_writers:
            trace_writer.flush()
        if not self.counts.used:
            read, bad = self.reader.conversations, sum(self.reader.skipped.values())
            facts = f"{read} conversations read, {bad} bad rows"
            msg = f"{self.reader.name}: no conversation has a user message ({facts})"
            raise InputError(msg)

    def _emit(self, turn: Turn, trace_writers: Sequence[BatchWriter]) -> None:
        single, multi = zip(trace_writers, turn.prompts, strict=True)
        if self.turns == "every" or turn.turn == 0:
            single[0].add(turn, single[1])
        multi[0].add(turn, multi[1])

    def _sessions(self) -> Iterator[Session] | Iterator[TextSession]:
        for batch in self._batches():
            usable = [c for c in batch if self._count(c)]
            if self.text:
                yield from self.encoder.texts(usable)
            else:
                yield from self.encoder.encode(usable)
            if self.progress is not None:
                self.progress(self.reader.conversations, self.reader.progress())

    def _batches(self) -> Iterator[list[Conversation]]:
        batch: list[Conversation] = []
        size = 0
        for conversation in self.reader:
            batch.append(conversation)
            size += sum(len(m.text) for m in conversation.messages)
            if len(batch) >= _BATCH_CONVERSATIONS or size >= _BATCH_CHARACTERS:
                yield batch
                batch, size = [], 0
        yield batch

    def _count(self, conversation: Conversation) -> bool:
        messages = conversation.messages
        counts = self.counts
        if not messages:
            counts.without_messages += 1
            return False
        turns = user_turns(messages)
        if not turns:
            counts.without_user_turn += 1
            return False
        counts.begin_with_assistant += messages[0].role == "assistant"
        counts.system_messages += sum(m.role == "system" for m in messages)
        counts.tool_messages += sum(m.role == "tool" for m in messages)
        counts.empty_user_messages += sum(not messages[at].text for at in turns)
        return True

    def _turns(self, session: Session | TextSession) -> list[Turn]:
        conversation = session.conversation
        name = str(conversation.index)
        if conversation.id:
            name = f"{name}:{conversation.id}"
        lengths = [0 if o is None else self._output_len(o) for o in session.outputs]
        times = self.clock.session(lengths).tolist()
        self.counts.used += 1
        self.counts.turns[len(lengths)] += 1
        self.counts.turns_without_answer += sum(o is None for o in session.outputs)
        prompts: Iterator[tuple[Prompt, Prompt]] = zip(session.single, session.multi, strict=True)
        rows = zip(times, prompts, session.outputs, lengths, strict=True)
        return [
            Turn(time, conversation.index, k, name, both, output, length)
            for k, (time, both, output, length) in enumerate(rows)
        ]

    def _output_len(self, output: Tokens | str) -> int:
        if isinstance(output, str):
            return -(-len(output.encode()) // _BYTES_PER_TOKEN)
        return len(output)

    def summary(self, config: JsonObject, trace_writers: Sequence[BatchWriter]) -> JsonObject:
        """Return the content of ``trace_summary.json``."""
        unit, seed = "characters" if self.text else "tokens", config["arrivals"]["seed"]
        return {
            "provenance": {"prefixsim": __version__, "seed": seed, "encoder": self.encoder.used},
            "config": config,
            "data": {
                "name": self.reader.name,
                "format": self.reader.format,
                "conversations_read": self.reader.conversations,
                "conversations_used": self.counts.used,
                "messages": self.reader.messages,
                "dropped": self.counts.dropped(),
                "bad_rows": dict(self.reader.skipped),
                "first_bad_rows": self.reader.first_skipped,
                "kept": self.counts.kept(),
                "repaired": dict(self.reader.repairs),
                "turns_per_conversation": distribution_of_counts(self.counts.turns),
            },
            "encoding": {
                "method": self.encoder.method,
                "output_len_estimated": self.text,
            },
            "traces": {
                kind: trace_writer.counts.summary(unit)
                for kind, trace_writer in zip(KINDS, trace_writers, strict=True)
            },
        }
