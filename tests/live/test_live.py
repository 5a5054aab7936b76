"""The chain: a server, the proxy in front of it, the recording, the replay, the comparison."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import msgpack
import pytest

from prefixsim import InputError
from prefixsim.cli import main
from prefixsim.formats import read_trace
from prefixsim.live.encoder import EncoderProcess
from prefixsim.live.journal import Journal, repair
from prefixsim.live.kv_subscriber import KvSubscriber
from prefixsim.live.record import EVENTS, REQUESTS, Recorder
from prefixsim.live.rows import Keeping
from prefixsim.live.validate import read_recorded, validate

aiohttp = pytest.importorskip("aiohttp")
zmq = pytest.importorskip("zmq")

from tests.live.fake_server import FakeServer, FakeSglang  # noqa: E402 - it needs aiohttp

Send = Callable[[Any, str], Awaitable[None]]


def prompts(count: int = 40) -> list[tuple[str, list[int]]]:
    """Turns of four sessions over a shared system prompt."""
    dice = random.Random(1)
    texts = [[1, 2, 3, 4, 5, 6, 7, 8] for _ in range(4)]
    found = []
    for i in range(count):
        chat = dice.randrange(4)
        texts[chat] = texts[chat] + [dice.randrange(100) for _ in range(dice.randrange(1, 9))]
        if len(texts[chat]) > 60:
            texts[chat] = texts[chat][:8]
        found.append((f"s{chat}", list(texts[chat])))
        del i
    return found


async def converse(address: str) -> list[bytes]:
    """Send all prompts, one after the other; return the bytes of the answers."""
    answers = []
    async with aiohttp.ClientSession() as client:
        for k, (session, tokens) in enumerate(prompts()):
            body = {
                "model": "m",
                "prompt": tokens,
                "max_tokens": 1,
                "stream": k % 2 == 0,
            }
            headers = {"X-Session-Id": session, "Authorization": "Bearer secret"}
            url = f"{address}/v1/completions"
            async with client.post(url, json=body, headers=headers) as answer:
                answers.append(await answer.read())
    return answers


async def recorded(
    folder: Path, keeping: Keeping | None = None, server: FakeServer | None = None
) -> tuple[Recorder, list[bytes]]:
    server = server or FakeServer()
    upstream = await server.start()
    recorder = Recorder(upstream, folder, keeping or Keeping(), listen="127.0.0.1:0", every_s=60)
    await recorder.start()
    await recorder._look()
    answers = await converse(f"http://127.0.0.1:{recorder.proxy.port}")
    await recorder.stop()
    await server.stop()
    return recorder, answers


def test_the_chain(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is changed on the way, all is recorded, and the replay predicts every hit."""
    folder = tmp_path / "rec"
    recorder, passed = asyncio.run(recorded(folder))

    async def straight() -> list[bytes]:
        server = FakeServer()
        address = await server.start()
        answers = await converse(address)
        await server.stop()
        return answers

    assert passed == asyncio.run(straight())
    assert recorder.summary() == {"calls": 40, "written": 40, "dropped": 0, "stopped": ""}
    assert oct((folder / REQUESTS).stat().st_mode & 0o777) == "0o600"
    text = (folder / REQUESTS).read_text()
    assert "secret" not in text
    found = read_recorded(folder)
    said = {"engine": "vllm", "block_size": 4, "num_blocks": 64, "enable_caching": True}
    assert found.settings == said
    assert len(found.trace) == 40
    result = validate(found)
    assert result.facts["equal"] == 40
    assert result.error_points == 0.0
    assert result.facts["counted_rate"] == pytest.approx(result.facts["reported_rate"])
    assert main(["validate", "--recording", str(folder)]) == 0
    assert "reported token hit rate" in capsys.readouterr().out
    assert main(["info", str(folder / REQUESTS), "--sort", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["requests"] == 40


def test_a_server_of_sglang_is_compared_with_its_rules(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "rec"
    asyncio.run(recorded(folder, server=FakeSglang()))
    found = read_recorded(folder)
    said = {"engine": "sglang", "block_size": 2, "num_blocks": 128, "max_running_requests": 64}
    assert found.settings == said
    result = validate(found)
    assert result.facts["settings"]["engine"] == "sglang"
    assert result.facts["equal"] == 40
    assert (found.reported % 4 == 2).any()  # no server of blocks of four would say that
    assert validate(found, "vllm", block_size=4, num_blocks=64).facts["equal"] < 40
    assert main(["validate", "--recording", str(folder), "--page-size", "2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["settings"]["num_blocks"] == "128"
    assert main(["validate", "--recording", str(folder), "--engine", "lru"]) == 2
    assert "has no time" in capsys.readouterr().err


def test_a_wrong_setting_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "rec"
    asyncio.run(recorded(folder))
    with pytest.raises(SystemExit) as left:
        main(["validate", "--recording", str(folder), "--block-size", "16", "--json"])
    assert left.value.code == 1
    facts = json.loads(capsys.readouterr().out)
    assert abs(facts["error_points"]) > 1


def test_keyed_hashes_hold_no_text_and_predict_the_same(tmp_path: Path) -> None:
    key = tmp_path / "key"
    keeping = Keeping(model="demo", key_file=key, block_size=4)
    days = [tmp_path / "one", tmp_path / "two"]
    for folder in days:
        asyncio.run(recorded(folder, keeping))
    assert oct(key.stat().st_mode & 0o777) == "0o600"
    one, two = (read_recorded(folder) for folder in days)
    assert one.trace.kind == "hashes"
    assert one.trace.prompts is not None and two.trace.prompts is not None
    assert one.trace.prompts.values.tolist() == two.trace.prompts.values.tolist()
    text = (days[0] / REQUESTS).read_text()
    assert '"s1"' not in text and "token_ids" not in text
    assert validate(one).facts["equal"] == 40


def test_token_ids_alone(tmp_path: Path) -> None:
    asyncio.run(recorded(tmp_path / "rec", Keeping(model="demo", tokenize=True)))
    found = read_recorded(tmp_path / "rec")
    assert found.trace.kind == "tokens"
    assert validate(found).facts["equal"] == 40
    with pytest.raises(InputError, match="need --model"):
        Keeping(tokenize=True)


def test_the_path_is_passed_on_as_it_was_written(tmp_path: Path) -> None:
    """Not even what quotes to the same is rewritten."""
    seen: list[str] = []

    async def go() -> None:
        server = FakeServer()

        async def handle(request: Any) -> Any:
            seen.append(request.raw_path)
            return aiohttp.web.Response(text="{}")

        server.handle = handle  # type: ignore[method-assign]
        recorder = Recorder(await server.start(), tmp_path / "r", listen="127.0.0.1:0", every_s=0)
        await recorder.start()
        seen.clear()
        _, writer = await asyncio.open_connection("127.0.0.1", recorder.proxy.port)
        writer.write(b"GET /v1/a%7Eb%2fc?q=%41+%2B HTTP/1.1\r\nHost: x\r\n\r\n")
        while not seen:
            await asyncio.sleep(0.01)
        writer.close()
        await recorder.stop()
        await server.stop()

    asyncio.run(asyncio.wait_for(go(), 20))
    assert seen == ["/v1/a%7Eb%2fc?q=%41+%2B"]


def test_a_server_that_is_away_is_told_to_the_client(tmp_path: Path) -> None:
    async def ask() -> tuple[int, str]:
        recorder = Recorder("http://127.0.0.1:9", tmp_path / "r", listen="127.0.0.1:0", every_s=0)
        await recorder.start()
        async with (
            aiohttp.ClientSession() as client,
            client.post(f"http://127.0.0.1:{recorder.proxy.port}/v1/x", data=b"{}") as answer,
        ):
            found = answer.status, await answer.text()
        await recorder.stop()
        return found

    status, text = asyncio.run(ask())
    assert status == 502
    assert "cannot be reached" in text


def test_a_full_disk_stops_the_recording_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write, writes = os.write, [0]

    def full(handle: int, data: Any) -> int:
        if handle > 2:
            writes[0] += 1
            if writes[0] > 1:
                raise OSError(28, "No space left on device")
            return write(handle, bytes(data)[:10])
        return write(handle, data)

    journal = Journal(tmp_path / "rows", lambda rows: b"0123456789abcdef\n" * len(rows))
    monkeypatch.setattr(os, "write", full)
    journal.add("row", 10)
    journal.close()
    journal.add("row", 10)
    assert "No space left" in journal.stopped
    assert (journal.written, journal.dropped) == (0, 2)
    assert "traffic goes on" in capsys.readouterr().err
    assert (tmp_path / "rows").read_bytes() == b""


def test_a_full_queue_drops_and_counts(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "rows", lambda rows: b"x\n" * len(rows), most_bytes=100)
    for _ in range(1000):
        journal.add("row", 60)
    journal.close()
    assert journal.dropped > 0
    assert journal.written + journal.dropped == 1000


@pytest.mark.parametrize("seed", range(3))
def test_a_kill_loses_a_second_at_most_and_corrupts_nothing(seed: int, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    code = (
        "import sys,time,pathlib,json\n"
        "from prefixsim.live.journal import Journal\n"
        f"j=Journal(pathlib.Path({str(path)!r}),lambda rows:b''.join(rows))\n"
        "n=0\n"
        "while True:\n"
        "    j.add(json.dumps({'n':n,'t':time.time(),'x':'y'*500}).encode()+b'\\n',500)\n"
        "    n+=1\n"
        "    time.sleep(0.0005)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", code])
    time.sleep(2.5 + random.Random(seed).random())
    killed = time.time()
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    repair(path)
    rows = [json.loads(line) for line in path.read_bytes().split(b"\n") if line]
    assert [row["n"] for row in rows] == list(range(len(rows)))
    assert killed - rows[-1]["t"] < 1.0 + 0.5  # a busy machine may wake the thread late


def test_a_cut_line_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "rows"
    path.write_bytes(b'{"a":1}\n{"b"')
    assert repair(path) == 4
    assert path.read_bytes() == b'{"a":1}\n'
    assert repair(path) == 0
    path.write_bytes(b'{"b"')
    assert repair(path) == 4
    assert path.read_bytes() == b""


def batch(number: int) -> bytes:
    packed: bytes = msgpack.packb(
        [float(number), [["BlockStored", [number], None, [1, 2, 3, 4], 4, None, "GPU"]], 0]
    )
    return packed


def test_gaps_of_kv_events_are_filled_or_reported() -> None:
    context = zmq.Context()
    replay = context.socket(zmq.ROUTER)
    port = replay.bind_to_random_port("tcp://127.0.0.1")
    found: list[bytes] = []
    subscriber = KvSubscriber("tcp://127.0.0.1:1", found.append, f"tcp://127.0.0.1:{port}")

    import threading

    def answer() -> None:
        name, _, start = replay.recv_multipart()
        assert int.from_bytes(start, "big") == 1
        for number in (2, 3):  # 1 is gone
            replay.send_multipart([name, b"", number.to_bytes(8, "big"), batch(number)])
        end = (-1).to_bytes(8, "big", signed=True)
        replay.send_multipart([name, b"", end, b""])

    thread = threading.Thread(target=answer)
    thread.start()
    subscriber.take([b"", (0).to_bytes(8, "big"), batch(0)])
    subscriber.take([b"", (4).to_bytes(8, "big"), batch(4)])
    thread.join()
    assert found == [batch(n) for n in (0, 2, 3, 4)]
    assert (subscriber.missed, subscriber.replayed, subscriber.batches) == (1, 2, 4)
    subscriber._context.destroy(linger=0)
    replay.close()
    context.destroy(linger=0)


def test_kv_events_are_recorded(tmp_path: Path) -> None:
    context = zmq.Context()
    publisher = context.socket(zmq.PUB)
    port = publisher.bind_to_random_port("tcp://127.0.0.1")

    async def run() -> Recorder:
        server = FakeServer()
        recorder = Recorder(
            await server.start(),
            tmp_path / "rec",
            listen="127.0.0.1:0",
            kv_events=f"tcp://127.0.0.1:{port}",
            every_s=0,
        )
        await recorder.start()
        for number in range(40):
            publisher.send_multipart([b"", number.to_bytes(8, "big"), batch(number)])
            await asyncio.sleep(0.05)
        await recorder.stop()
        await server.stop()
        return recorder

    recorder = asyncio.run(run())
    publisher.close()
    context.destroy(linger=0)
    assert recorder.subscriber is not None
    assert 0 < recorder.subscriber.batches <= 40
    assert recorder.subscriber.missed == 0
    assert len(read_trace(tmp_path / "rec" / EVENTS)) == recorder.subscriber.batches


def _upper(rows: Sequence[object]) -> bytes:
    if rows == ["bad"]:
        msg = "no such row"
        raise ValueError(msg)
    return "".join(map(str, rows)).upper().encode() + str(os.getpid()).encode()


def test_encoder_process_answers_fails_in_words_and_is_replaced_when_it_dies() -> None:
    encoder = EncoderProcess(_upper)
    assert encoder(["a"]) == b"A" + str(os.getpid()).encode()
    encoder.start()
    apart = encoder(["a", "b"])
    assert apart.startswith(b"AB")
    assert int(apart[2:]) != os.getpid()
    with pytest.raises(RuntimeError, match="no such row"):
        encoder(["bad"])
    os.kill(int(apart[2:]), signal.SIGKILL)
    assert encoder(["c"]) == b"C" + str(os.getpid()).encode()
    encoder.close()
