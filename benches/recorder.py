"""What the recorder adds to a call on the loopback device, and how many calls it keeps up with.

A server, the recorder in front of it, and a client are three processes. The client sends calls at a
fixed rate and then as fast as answers come, straight to the server and through the recorder, in one
run:

    python benches/recorder.py --calls 4000 --rate 300
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path

import aiohttp
import numpy as np
from aiohttp import web

from prefixsim.live.record import REQUESTS, Recorder

BODY = json.dumps({"model": "m", "prompt": list(range(400)), "stream": False}).encode()
USAGE = {"prompt_tokens": 400, "prompt_tokens_details": {"cached_tokens": 384}}
ANSWER = json.dumps({"id": "x", "choices": [{"text": "y" * 400}], "usage": USAGE}).encode()


async def _answer(request: web.BaseRequest) -> web.Response:
    await request.read()
    return web.Response(body=ANSWER, content_type="application/json")


async def _serve(told: Connection) -> None:
    runner = web.ServerRunner(web.Server(_answer), access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, backlog=4096)
    await site.start()
    told.send(runner.addresses[0][1])
    await asyncio.sleep(3600)


async def _record(told: Connection, upstream: str, folder: str) -> None:
    recorder = Recorder(upstream, Path(folder), listen="127.0.0.1:0", every_s=0)
    await recorder.start()
    told.send(recorder.proxy.port)
    await asyncio.to_thread(told.recv)
    await recorder.stop()
    told.send(recorder.summary())


def _run(main: object, *args: object) -> None:
    asyncio.run(main(*args))  # type: ignore[operator]


async def paced(port: int, calls: int, rate: float) -> np.ndarray:
    """Milliseconds of each of some calls, sent at a fixed rate."""
    took = np.zeros(calls)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as client:

        async def one(i: int, at: float) -> None:
            await asyncio.sleep(max(at - time.perf_counter(), 0))
            began = time.perf_counter()
            async with client.post(f"http://127.0.0.1:{port}/v1/completions", data=BODY) as answer:
                await answer.read()
            took[i] = 1000 * (time.perf_counter() - began)

        start = time.perf_counter() + 0.1
        await asyncio.gather(*(one(i, start + i / rate) for i in range(calls)))
    return took


async def flat_out(port: int, calls: int, clients: int = 32) -> float:
    """Calls a second of clients that send the next one as soon as they have an answer."""
    left = iter(range(calls))
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def client() -> None:
            for _ in left:
                url = f"http://127.0.0.1:{port}/v1/completions"
                async with session.post(url, data=BODY) as answer:
                    assert await answer.read() == ANSWER

        began = time.perf_counter()
        await asyncio.gather(*(client() for _ in range(clients)))
    return calls / (time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=4000)
    parser.add_argument("--rate", type=float, default=300.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        here, there = multiprocessing.Pipe()
        server = multiprocessing.Process(target=_run, args=(_serve, there), daemon=True)
        server.start()
        direct = here.recv()
        mine, its = multiprocessing.Pipe()
        upstream = f"http://127.0.0.1:{direct}"
        proxy = multiprocessing.Process(target=_run, args=(_record, its, upstream, folder))
        proxy.start()
        through = mine.recv()
        time.sleep(3)  # The process that makes the lines is starting.
        for name, port in (("straight", direct), ("recorded", through)):
            took = asyncio.run(paced(port, options.calls, options.rate))
            p50, p99 = np.percentile(took, [50, 99])
            print(f"{name}: {options.rate:g} calls/s: median {p50:.2f} ms, P99 {p99:.2f} ms")
        for name, port in (("straight", direct), ("recorded", through)):
            print(f"{name}: flat out {asyncio.run(flat_out(port, options.calls)):,.0f} calls/s")
        mine.send("stop")
        facts = mine.recv()
        lines = (Path(folder) / REQUESTS).read_bytes().count(b"\n")
        print(f"{facts}, {lines:,} lines on disk")
        server.terminate()


if __name__ == "__main__":
    main()
