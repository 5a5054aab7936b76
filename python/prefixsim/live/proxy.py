"""A proxy in front of a server: bytes pass untouched, and what passed is noted.

Built on aiohttp, client and server. Answers are passed on chunk by chunk as they come; up to
:data:`MOST_BYTES` of each body are kept until the call is over, then handed to a callback that does
not wait. Whatever goes wrong in noting is counted and never reaches a client.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING

from prefixsim._extras import require

if TYPE_CHECKING:
    from aiohttp import ClientResponse, ClientSession
    from aiohttp.web import BaseRequest, StreamResponse

__all__ = ["MOST_BYTES", "Exchange", "Proxy"]

MOST_BYTES = 32 << 20
"""Bytes of one body that are kept for the recording; more are passed on, and not kept."""

# Headers that are about one connection, not about the message (RFC 9110, section 7.6.1).
_HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
_SESSION_HEADERS = ("x-session-id", "x-litellm-session-id", "helicone-session-id", "x-trace-id")
_SMALL = 1 << 16


@dataclass(slots=True)
class Exchange:
    """One call that passed.

    Attributes
    ----------
    time : float
        Seconds since the epoch at which the request was read.
    path : str
    status : int
        0 if the client left, or the server could not be reached.
    request, answer : bytes
        Bodies, cut at :data:`MOST_BYTES`.
    encoding : str
        ``Content-Encoding`` of the answer.
    session : str
        From a header, if the client sent one.
    first_byte_s, duration_s : float
        Seconds from ``time``.
    whole : bool
        Whether both bodies are whole.
    """

    time: float
    path: str
    status: int = 0
    request: bytes = b""
    answer: bytes = b""
    encoding: str = ""
    session: str = ""
    first_byte_s: float = 0.0
    duration_s: float = 0.0
    whole: bool = True


class Proxy:
    """Passes calls on to one server.

    Parameters
    ----------
    upstream : str
        Base address, like ``http://127.0.0.1:8000``.
    note : callable
        Given each :class:`Exchange` of a POST after it is over.

    Attributes
    ----------
    calls, failures : int
        Calls that passed, and those for which ``note`` failed.
    """

    def __init__(self, upstream: str, note: Callable[[Exchange], None]) -> None:
        self.upstream = upstream.rstrip("/")
        self.calls = 0
        self.failures = 0
        self._note = note
        self._aiohttp: ModuleType = require("aiohttp", extra="live")
        self._web: ModuleType = require("aiohttp.web", extra="live")
        self._yarl: ModuleType = require("yarl", extra="live")
        self._session: ClientSession | None = None
        self._runner: object = None
        self.port = 0

    async def start(self, host: str, port: int) -> None:
        """Listen; port 0 takes a free one, which is then in ``port``."""
        aiohttp = self._aiohttp
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=60),
            timeout=aiohttp.ClientTimeout(total=None),
            auto_decompress=False,
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        server = self._web.Server(self.handle, keepalive_timeout=75)
        runner = self._web.ServerRunner(server, access_log=None)
        await runner.setup()
        site = self._web.TCPSite(runner, host, port, backlog=4096)
        await site.start()
        self._runner = runner
        self.port = site._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Stop listening, and close all connections."""
        if self._runner is not None:
            cleanup: Callable[[], Awaitable[None]] = self._runner.cleanup  # type: ignore[attr-defined]
            await cleanup()
        if self._session is not None:
            await self._session.close()

    async def handle(self, request: BaseRequest) -> StreamResponse:
        """Pass one call on, and note it."""
        began = time.perf_counter()
        exchange = Exchange(time.time(), request.path_qs)
        body = await _read(request)
        try:
            return await self._pass(request, body, exchange, began)
        finally:
            self.calls += 1
            if request.method == "POST":
                exchange.duration_s = time.perf_counter() - began
                self._keep(exchange, request.headers, body)

    async def _pass(
        self, request: BaseRequest, body: bytes, exchange: Exchange, began: float
    ) -> StreamResponse:
        assert self._session is not None
        # As it was written; a client that takes this for its forward proxy writes a whole address.
        target = request.raw_path if request.raw_path.startswith("/") else request.path_qs
        headers = [(k, v) for k, v in request.headers.items() if k.lower() not in _HOP_BY_HOP]
        try:
            answer = await self._session.request(
                request.method,
                self._yarl.URL(self.upstream + target, encoded=True),
                data=body if body or request.method == "POST" else None,
                headers=headers,
                allow_redirects=False,
            )
        except (self._aiohttp.ClientError, OSError) as error:
            told = f"prefixsim record: {self.upstream} cannot be reached: {error}\n"
            response: StreamResponse = self._web.Response(status=502, text=told)
            return response
        async with answer:
            exchange.first_byte_s = time.perf_counter() - began
            exchange.encoding = answer.headers.get("Content-Encoding", "")
            passed = await self._answer(request, answer, exchange)
            exchange.status = answer.status
            return passed

    async def _answer(
        self, request: BaseRequest, answer: ClientResponse, exchange: Exchange
    ) -> StreamResponse:
        """Pass an answer on: small ones in one piece, others chunk by chunk as they come."""
        headers = [
            (key.decode("latin-1"), value.decode("latin-1"))
            for key, value in answer.raw_headers
            if key.decode("latin-1").lower() not in _HOP_BY_HOP
        ]
        known = answer.content_length
        if known is not None and known <= _SMALL and request.method != "HEAD":
            exchange.answer = await answer.read()
            whole: StreamResponse = self._web.Response(
                status=answer.status, reason=answer.reason, body=exchange.answer, headers=headers
            )
            return whole
        passed: StreamResponse = self._web.StreamResponse(
            status=answer.status, reason=answer.reason, headers=headers
        )
        await passed.prepare(request)
        kept: list[bytes] = []
        size = 0
        async for chunk in answer.content.iter_any():
            await passed.write(chunk)
            size += len(chunk)
            if size <= MOST_BYTES:
                kept.append(chunk)
        exchange.whole = size <= MOST_BYTES
        exchange.answer = b"".join(kept)
        await passed.write_eof()
        return passed

    def _keep(self, exchange: Exchange, headers: Mapping[str, str], body: bytes) -> None:
        try:
            exchange.request = body[:MOST_BYTES]
            exchange.whole = exchange.whole and len(body) <= MOST_BYTES
            named = (headers.get(name) for name in _SESSION_HEADERS)
            exchange.session = next((name for name in named if name), "")
            self._note(exchange)
        except Exception:
            self.failures += 1


async def _read(request: BaseRequest) -> bytes:
    """Read the body of a request, however long: limits are the server's."""
    if not request.can_read_body:
        return b""
    return await request.content.read()
