"""Recording a server: its calls, its KV events, its counters."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import ModuleType

from prefixsim._extras import require
from prefixsim._json import JsonObject
from prefixsim.errors import InputError
from prefixsim.live.encoder import EncoderProcess
from prefixsim.live.journal import Journal
from prefixsim.live.kv_subscriber import KvSubscriber
from prefixsim.live.metrics import kept_lines, settings_of
from prefixsim.live.proxy import Exchange, Proxy
from prefixsim.live.rows import Keeping, encode_rows

__all__ = ["EVENTS", "METRICS", "REQUESTS", "SERVER", "Recorder", "ask_server", "record"]

REQUESTS = "requests.jsonl"
EVENTS = "kv_events.msgpack"
METRICS = "metrics.jsonl"
SERVER = "server.json"
_MODE = 0o700
_SERVER_INFO = ("/server_info", "/get_server_info")  # SGLang's, and its older name


@dataclass
class Recorder:
    """What is recorded of one server, into one folder.

    Attributes
    ----------
    server : str
        Base address.
    folder : Path
        Made with mode 700.
    keeping : Keeping
    listen : str
        ``host:port`` of the proxy.
    kv_events, replay : str or None
        ZMQ addresses.
    every_s : float
        Seconds between looks at ``/metrics``; 0 for none.
    """

    server: str
    folder: Path
    keeping: Keeping = field(default_factory=Keeping)
    listen: str = "127.0.0.1:8001"
    kv_events: str | None = None
    replay: str | None = None
    every_s: float = 5.0

    def __post_init__(self) -> None:
        self.folder.mkdir(mode=_MODE, parents=True, exist_ok=True)
        self.encoder = EncoderProcess(partial(encode_rows, self.keeping))
        self.requests = Journal(self.folder / REQUESTS, self.encoder)
        self.metrics = Journal(self.folder / METRICS, _encode_json)
        self.proxy = Proxy(self.server, self._note)
        self.events: Journal | None = None
        self.subscriber: KvSubscriber | None = None
        self._polling: asyncio.Task[None] | None = None
        if self.kv_events is not None:
            self.events = Journal(self.folder / EVENTS, _encode_bytes, lines=False)
            self.subscriber = KvSubscriber(self.kv_events, self._note_events, self.replay)

    def _note(self, exchange: Exchange) -> None:
        self.requests.add(exchange, len(exchange.request) + len(exchange.answer) + 512)

    def _note_events(self, payload: bytes) -> None:
        if self.events is not None:
            self.events.add(payload, len(payload))

    async def start(self) -> None:
        """Begin to listen, to receive and to poll."""
        host, _, port = self.listen.rpartition(":")
        if not port.isdecimal():
            msg = f"--listen {self.listen}: give host:port, like 127.0.0.1:8001"
            raise InputError(msg)
        try:
            await self.proxy.start(host or "127.0.0.1", int(port))
        except OSError as error:
            msg = f"--listen {self.listen}: {error.strerror or error}"
            raise InputError(msg) from None
        self.encoder.start()
        if self.subscriber is not None:
            self.subscriber.start()
        said = await ask_server(self.server)
        write_private(self.folder / SERVER, json.dumps(said, indent=2).encode())
        if self.every_s:
            self._polling = asyncio.create_task(self._poll())

    async def stop(self) -> None:
        """Stop, after everything that waits is on disk."""
        if self._polling is not None:
            self._polling.cancel()
            await self._look()
        await self.proxy.stop()
        if self.subscriber is not None:
            self.subscriber.stop()
        for journal in (self.requests, self.metrics, self.events):
            if journal is not None:
                journal.close()
        self.encoder.close()

    async def _poll(self) -> None:
        while True:
            await self._look()
            await asyncio.sleep(self.every_s)

    async def _look(self) -> None:
        said = await _get(self.server, "/metrics")
        if isinstance(said, str):
            self.metrics.add({"timestamp": time.time(), "text": kept_lines(said)}, len(said))

    def summary(self) -> JsonObject:
        """Return what was recorded, and what was not."""
        facts: JsonObject = {
            "calls": self.proxy.calls,
            "written": self.requests.written,
            "dropped": self.requests.dropped + self.proxy.failures,
            "stopped": self.requests.stopped,
        }
        if self.subscriber is not None:
            facts["kv_batches"] = self.subscriber.batches
            facts["kv_batches_missed"] = self.subscriber.missed
            facts["kv_batches_replayed"] = self.subscriber.replayed
        return facts


def write_private(path: Path, content: bytes) -> None:
    """Write a file that others cannot read."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "wb") as file:
        os.fchmod(handle, 0o600)
        file.write(content)


def _encode_json(rows: Sequence[object]) -> bytes:
    return b"".join(json.dumps(row, separators=(",", ":")).encode() + b"\n" for row in rows)


def _encode_bytes(rows: Sequence[object]) -> bytes:
    return b"".join(row for row in rows if isinstance(row, bytes))


async def _get(server: str, path: str) -> object:
    """Return a JSON value, or text, or ``None`` if there is none."""
    aiohttp: ModuleType = require("aiohttp", extra="live")
    timeout = aiohttp.ClientTimeout(total=5)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.get(server.rstrip("/") + path) as answer,
        ):
            if answer.status != 200:
                return None
            text = await answer.text()
    except (aiohttp.ClientError, OSError, TimeoutError, UnicodeDecodeError):
        return None
    try:
        value: object = json.loads(text)
    except ValueError:
        return str(text)
    return value


async def ask_server(server: str) -> JsonObject:
    """Return what a server says of itself, with the settings that follow from it."""
    metrics, models, info, older = await asyncio.gather(
        *(_get(server, path) for path in ("/metrics", "/v1/models", *_SERVER_INFO))
    )
    text = metrics if isinstance(metrics, str) else ""
    return {
        "server": server,
        "asked": time.time(),
        "settings": settings_of(text, models, info or older),
        "metrics": kept_lines(text),
    }


async def _until_signal(recorder: Recorder, seconds: float | None) -> None:
    done = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, done.set)
    await recorder.start()
    gc.freeze()  # What was imported is no longer looked through while calls pass.
    told = f"recording {recorder.server} at http://{recorder.listen} into {recorder.folder}"
    sys.stderr.write(f"prefixsim: {told}; {recorder.keeping.told()}\n")
    sys.stderr.flush()
    with suppress(TimeoutError):
        await asyncio.wait_for(done.wait(), seconds)
    await recorder.stop()


def record(recorder: Recorder, seconds: float | None = None) -> JsonObject:
    """Record until interrupted, or for so many seconds; return what was recorded."""
    asyncio.run(_until_signal(recorder, seconds))
    return recorder.summary()
