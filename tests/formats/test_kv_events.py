"""KV-event recordings: the requests they imply, the cache they leave."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefixsim import BlockManager, InputError, hash_blocks, info
from prefixsim.formats import read_trace, sniff_format
from prefixsim.formats.kv_events import read_recording
from prefixsim.formats.recording import KvEvent, Recording
from prefixsim.study.warm_start import warm_start
from tests.strategies import Small, small_traces

UNKNOWN = "parent_block_hash: not stored in this recording"


def stored(hashes: list[Any], parent: Any, tokens: list[Any], **more: Any) -> dict[str, Any]:
    return {
        "type": "BlockStored",
        "block_hashes": hashes,
        "parent_block_hash": parent,
        "token_ids": tokens,
        "block_size": 4,
        "lora_id": None,
        "medium": "GPU",
        "lora_name": None,
        **more,
    }


def removed(*hashes: Any, **more: Any) -> dict[str, Any]:
    return {"type": "BlockRemoved", "block_hashes": list(hashes), **more}


def as_array(event: dict[str, Any]) -> list[Any]:
    return list(event.values())


BATCHES: list[tuple[float, list[dict[str, Any]]]] = [
    (1.0, [stored([1, 2], None, [*range(8)])]),
    (1.2, [stored([3], 2, [8, 9, 10, 11])]),  # decoded
    (5.0, [stored([4, 5], 3, [*range(20, 28)]), stored([6], 77, [0] * 4)]),
    (6.0, [removed(5), stored([7], None, [*range(4)], lora_name="l", extra_keys=[["x"]])]),
]


def write_jsonl(path: Path, values: list[Any]) -> Path:
    path.write_text("".join(json.dumps(value) + "\n" for value in values))
    return path


def write_msgpack(path: Path, values: list[Any]) -> Path:
    path.write_bytes(b"".join(msgpack.packb(value) for value in values))
    return path


SHAPES: dict[str, list[Any]] = {
    "maps": [{"ts": t, "events": events} for t, events in BATCHES],
    "arrays": [[t, [as_array(e) for e in events], None] for t, events in BATCHES],
    "short arrays": [[t, [as_array(e) for e in events]] for t, events in BATCHES],
    "mixed": [[t, events] for t, events in BATCHES],
    "alone": [{"ts": t, **event} for t, events in BATCHES for event in events],
}


@pytest.mark.parametrize("writer", [write_jsonl, write_msgpack])
@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_is_read_alike(shape: str, writer: Any, tmp_path: Path) -> None:
    path = writer(tmp_path / "recording", SHAPES[shape])
    assert sniff_format(path).name == "kv-events"
    trace = read_trace(path)
    assert trace.timestamp.tolist() == [0.0, 4.0, 5.0]
    assert trace.prompts is not None and trace.outputs is not None
    assert [trace.prompts[i].tolist() for i in range(3)] == [
        [*range(8)],
        [*range(12), *range(20, 28)],
        [*range(4)],
    ]
    assert [trace.outputs[i].tolist() for i in range(3)] == [[8, 9, 10, 11], [], []]
    assert trace.salt is not None and [trace.salt[i] for i in range(3)] == ["", "", "l/x"]
    assert trace.meta["rows_skipped"] == {UNKNOWN: 1}
    assert trace.meta["epoch_s"] == 1.0
    assert trace.meta["kv_events"] == {"events": 6, "blocks_stored": 6, "blocks_removed": 1}
    assert trace.prompt_len.tolist() == [8, 20, 4]


def test_hashes_may_be_bytes_and_ranks_are_apart(tmp_path: Path) -> None:
    first = stored([b"\xff\x00"], None, [1, 2, 3, 4])
    then = stored([b"\x01"], b"\xff\x00", [5, 6, 7, 8])
    path = write_msgpack(
        tmp_path / "r", [[0.0, [first], 0], [9.0, [then], 0], [9.5, [then], 1], [9.6, [first], 1]]
    )
    trace = read_trace(path)
    assert trace.prompt_len.tolist() == [4, 4]
    assert trace.output_len.tolist() == [4, 0]
    assert trace.category is not None and [trace.category[i] for i in range(2)] == ["0", "1"]
    assert trace.meta["rows_skipped"] == {UNKNOWN: 1}
    recording = read_recording(path)
    with pytest.raises(InputError, match="ranks 0, 1, choose one"):
        recording.cached()
    assert [c.tokens.tolist() for c in recording.cached(1)[0]] == [[1, 2, 3, 4]]
    assert [len(c.tokens) for c in recording.cached(0)[0]] == [8]


def test_events_without_times_are_requests_of_their_own(tmp_path: Path) -> None:
    events = [stored([1], None, [1] * 4), stored([2], 1, [2] * 4), stored([3], 2, [3] * 4)]
    trace = read_trace(write_jsonl(tmp_path / "r", events))
    assert trace.timestamp.tolist() == [0.0, 1.0, 2.0]
    assert trace.prompt_len.tolist() == [4, 8, 12]
    assert "epoch_s" not in trace.meta


def test_chunks_of_a_prompt_are_one_request(tmp_path: Path) -> None:
    batches = [
        [0.0, [stored([1, 2], None, [1] * 8)]],
        [0.1, [stored([3, 4], 2, [2] * 8)]],
        [0.2, [stored([5], 4, [3] * 4)]],
        [9.3, [stored([6], 5, [4] * 4)]],  # however slow decoding is
        [9.4, [stored([7, 8], 6, [5] * 8)]],  # it fills one block at a time
        [9.9, [stored([9], 8, [6] * 4), stored([10], 4, [7] * 4), stored([11], 9, [8] * 4)]],
    ]
    trace = read_trace(write_jsonl(tmp_path / "r", batches))
    # Of the last step: decoding, then what is not where a request stands, then after an admission.
    assert trace.prompt_len.tolist() == [16, 32, 20, 40]
    assert trace.output_len.tolist() == [8, 4, 0, 0]


def test_other_media_and_groups_are_not_looked_at(tmp_path: Path) -> None:
    events = [
        stored([1], None, [1] * 4),
        stored([2], 1, [2] * 4, medium="CPU"),
        removed(1, medium="CPU"),
        stored([3], 1, [3] * 4, group_idx=1),
    ]
    recording = read_recording(write_jsonl(tmp_path / "r", [{"ts": 0, "events": events}]))
    assert recording.counts["medium CPU"] == 2
    assert recording.counts["other cache groups"] == 1
    assert [c.tokens.tolist() for c in recording.cached()[0]] == [[1] * 4]


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        (3, "expected an event"),
        (["BlockMoved", [1]], "type: 'BlockMoved' is none of BlockStored"),
        ({"type": "BlockStored"}, "block_hashes: expected an array of hashes"),
        (removed(1.5), "block_hashes: a hash is a whole number, bytes or a string"),
        (stored([1], None, [1] * 3), "token_ids: 3 tokens, expected 1 blocks of 4"),
        (stored([1], None, [1, 2, 3, -4]), "token_ids: a token id is not from 0"),
        (stored([1], None, [1, 2, 3, 2**32]), "token_ids: a token id is not from 0"),
        (stored([1], None, [1, 2, 3, "x"]), "token_ids: expected an array of whole numbers"),
        (stored([1], None, [1] * 4, block_size=0), "block_size: expected a whole number above 0"),
        (stored([1], [2], [1] * 4), "parent_block_hash: a hash is a whole number"),
        ({"ts": "now", **removed(1)}, "ts: expected a number of seconds"),
        ([0.5, 3], "events: expected an array of events"),
        ([0.5, [removed(1), 3]], "events[1]: expected an event"),
        ([0.5, [], "x"], "data_parallel_rank: expected a whole number"),
    ],
)
@pytest.mark.parametrize("writer", [write_jsonl, write_msgpack])
def test_bad_messages(bad: Any, told: str, writer: Any, tmp_path: Path) -> None:
    path, rejects = tmp_path / "r", tmp_path / "rejects"
    writer(path, [*SHAPES["maps"], bad, *SHAPES["arrays"]])
    with pytest.raises(InputError) as caught:
        read_trace(path, sort=True)
    assert str(caught.value).startswith(f"{path}:5: {told}")
    assert "\n" not in str(caught.value)
    trace = read_trace(path, sort=True, skip_bad_rows=True, rejects=rejects)
    assert sum(trace.meta["rows_skipped"].values()) == 3
    expected = json.dumps(bad).encode() + b"\n"
    assert rejects.read_bytes() == (expected if writer is write_jsonl else msgpack.packb(bad))


def test_recordings_that_are_cut_off_or_empty(tmp_path: Path) -> None:
    path = write_msgpack(tmp_path / "r", SHAPES["arrays"])
    raw = path.read_bytes()
    first = len(msgpack.packb(SHAPES["arrays"][0]))
    for length in range(first + 1, len(raw)):
        path.write_bytes(raw[:length])
        trace = read_trace(path, skip_bad_rows=True)
        lost = trace.meta.get("rows_skipped", {}).get("not valid msgpack (cut off)", 0)
        whole = [sum(len(msgpack.packb(m)) for m in SHAPES["arrays"][:k]) for k in range(5)]
        assert lost == (length not in whole)
    with pytest.raises(InputError, match=r"r:1: not valid msgpack \(cut off\)"):
        path.write_bytes(raw[: first - 1])
        read_trace(path)
    path.write_bytes(raw + b"\xc1" + raw)
    with pytest.raises(InputError, match="r:5: not valid msgpack .*the rest is not read"):
        read_trace(path)
    assert len(read_trace(path, skip_bad_rows=True)) == 3
    write_jsonl(path, [{"ts": 0, "events": [removed(1)]}])
    with pytest.raises(InputError, match="no request can be rebuilt"):
        read_trace(path)


def test_events_out_of_order(tmp_path: Path) -> None:
    batches = [{"ts": t, "events": [stored([t], None, [t] * 4)]} for t in (5, 3)]
    path = write_jsonl(tmp_path / "r", batches)
    with pytest.raises(InputError, match="r:2: timestamp: .* pass --sort"):
        read_trace(path)
    assert read_trace(path, sort=True).timestamp.tolist() == [0.0, 2.0]


def recorded(small: Small, num_blocks: int, size: int) -> tuple[BlockManager, list[KvEvent]]:
    """Run requests through a block manager and give its events the form of a recording."""
    manager = BlockManager(num_blocks, block_size=size, record_events=True)
    blocks: dict[bytes, tuple[bytes | None, list[int]]] = {}
    events: list[KvEvent] = []

    def collect() -> None:
        for kind, hashes in manager.take_events():
            if kind == "BlockStored":
                parent, tokens = blocks[hashes[0]][0], [t for h in hashes for t in blocks[h][1]]
                ids = np.array(tokens, dtype=np.uint32)
                events.append(
                    KvEvent("BlockStored", 1, len(events) * 1.0, None, hashes, parent, ids, size)
                )
            else:
                events.append(KvEvent(kind, 1, len(events) * 1.0, None, hashes))  # type: ignore[arg-type]

    for i, (prompt, output) in enumerate(zip(small.prompts, small.outputs, strict=True)):
        if not prompt:
            continue
        tokens = prompt + output
        hashes = hash_blocks(tokens, size)
        for k, name in enumerate(hashes):
            blocks[name] = (hashes[k - 1] if k else None, tokens[k * size : (k + 1) * size])
        if manager.allocate(str(i), prompt) is None:
            continue
        for token in output:
            if manager.append(str(i), token) is None:
                break
        manager.free(str(i))
        collect()
    return manager, events


@settings(max_examples=150)
@given(small=small_traces(max_salts=1), num_blocks=st.integers(2, 14), size=st.integers(1, 3))
def test_warm_start_finds_what_the_recorded_cache_finds(
    small: Small, num_blocks: int, size: int
) -> None:
    before, events = recorded(small, num_blocks, size)
    after = BlockManager(num_blocks, block_size=size)
    report = warm_start(after, Recording(events))
    after.validate()
    assert (report.no_room, after.num_used) == (0, 0)
    for prompt in filter(None, small.prompts):
        assert after.lookup([*prompt, 9]) == before.lookup([*prompt, 9])
    assert after.num_cached + report.unreachable == before.num_cached


@settings(max_examples=100)
@given(small=small_traces(max_salts=1), num_blocks=st.integers(2, 14), size=st.integers(1, 3))
def test_requests_are_the_chains_of_their_events(small: Small, num_blocks: int, size: int) -> None:
    _, events = recorded(small, num_blocks, size)
    prefix: dict[Any, list[int]] = {None: []}
    expected = []
    for event in events:
        if event.type == "BlockStored":
            tokens = event.token_ids.tolist()
            for k, name in enumerate(event.block_hashes):
                above = event.block_hashes[k - 1] if k else event.parent
                prefix[name] = prefix[above] + tokens[k * size : (k + 1) * size]
            expected.append(prefix[event.block_hashes[-1]])
    trace = Recording(replace(event, time=None) for event in events).trace()
    assert trace.prompts is not None
    assert [trace.prompts[i].tolist() for i in range(len(trace))] == expected


def test_recency_is_kept() -> None:
    events = [
        KvEvent("BlockStored", 1, float(t), None, [name], parent, np.full(4, name, np.uint32), 4)
        for t, (name, parent) in enumerate([(1, None), (2, None), (3, 1), (4, None)])
    ]
    events.append(KvEvent("BlockRemoved", 1, 9.0, None, [3]))
    recording = Recording(events)
    # 1 was used when 3 was stored, after 2.
    assert [c.tokens.tolist() for c in recording.cached()[0]] == [[2] * 4, [1] * 4, [4] * 4]
    manager = BlockManager(3, block_size=4)  # room for two
    assert warm_start(manager, recording).blocks == 2
    assert [manager.lookup([k] * 4 + [9]) for k in (1, 2, 4)] == [4, 0, 4]


def test_copies_removals_and_clearing() -> None:
    def event(kind: Any, *hashes: int) -> KvEvent:
        return KvEvent(kind, 1, 0.0, None, hashes, None, np.full(4, 1, np.uint32), 4)

    once, gone = event("BlockStored", 1), event("BlockRemoved", 1)
    chains = [
        len(Recording(events).cached()[0])
        for events in ([once], [once, once, gone], [once, gone], [gone, once])
    ]
    assert chains == [1, 1, 0, 1]
    recording = Recording([once, event("AllBlocksCleared"), gone])
    assert recording.cached() == ([], 0)
    assert (recording.counts["clears"], recording.counts["removals_unknown"]) == (1, 1)


def test_chains_that_do_not_fit(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "r", [stored([1, 2, 3], None, [*range(12)])])
    manager = BlockManager(3, block_size=4)
    assert warm_start(manager, path).blocks == 2
    assert manager.lookup([*range(13)]) == 8
    busy = BlockManager(3, block_size=4)
    busy.allocate("other", [5])
    assert warm_start(busy, path).no_room == 1


def test_info_uses_the_block_size_of_the_events(tmp_path: Path) -> None:
    batch = [0.0, [stored([1, 2], None, [1] * 8)]]
    assert info(read_trace(write_jsonl(tmp_path / "r", [batch])))["block_size"] == 4
