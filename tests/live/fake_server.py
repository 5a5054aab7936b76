"""A server that answers like vLLM and caches like it, one request after the other."""

from __future__ import annotations

import json
from typing import Any

from aiohttp import web

from prefixsim import BlockManager, RadixCache

__all__ = ["FakeServer", "FakeSglang"]

METRICS = """# HELP x y
vllm:cache_config_info{{block_size="{size}",num_gpu_blocks="{n}",enable_prefix_caching="{on}"}} 1
vllm:prefix_cache_queries_total{{engine="0"}} {queries}.0
vllm:prefix_cache_hits_total{{engine="0"}} {hits}.0
"""


class FakeServer:
    """Completions of token ids, plain or streamed, with cached tokens in the usage."""

    def __init__(self, size: int = 4, blocks: int = 64) -> None:
        self.size, self.blocks = size, blocks
        self.manager = BlockManager(blocks, block_size=size)
        self.queries = self.hits = self.answers = 0
        self.on = True
        self.runner: web.ServerRunner | None = None
        self.port = 0

    async def start(self) -> str:
        self.runner = web.ServerRunner(web.Server(self.handle), access_log=None)
        await self.runner.setup()
        site = web.TCPSite(self.runner, "127.0.0.1", 0)
        await site.start()
        assert site._server is not None
        self.port = site._server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]
        return f"http://127.0.0.1:{self.port}"

    async def stop(self) -> None:
        if self.runner is not None:
            await self.runner.cleanup()

    def serve(self, tokens: list[int], output: list[int]) -> dict[str, Any]:
        cached = self.manager.lookup(tokens)
        name = str(self.answers)
        self.manager.allocate(name, tokens)
        for token in output:
            self.manager.append(name, token)
        self.manager.free(name)
        self.answers += 1
        self.queries += len(tokens)
        self.hits += cached
        return {
            "prompt_tokens": len(tokens),
            "completion_tokens": len(output),
            "prompt_tokens_details": {"cached_tokens": cached},
        }

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.path == "/metrics":
            facts = {n: getattr(self, n) for n in ("size", "queries", "hits", "on")}
            return web.Response(text=METRICS.format(n=self.blocks, **facts))
        if request.path != "/v1/completions":
            return web.Response(status=404, text="{}")
        body = json.loads(await request.read())
        usage = self.serve(body["prompt"], [])
        answer = {"id": f"cmpl-{self.answers}", "model": body["model"], "usage": usage}
        if not body.get("stream"):
            return web.json_response({**answer, "choices": [{"index": 0, "text": "x"}]})
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for text in ("x", "\u2028", "z"):
            chunk = {"id": answer["id"], "choices": [{"index": 0, "text": text}]}
            await response.write(f"data: {json.dumps(chunk, ensure_ascii=False)}\n\n".encode())
        await response.write(f"data: {json.dumps({**answer, 'choices': []})}\n\n".encode())
        await response.write(b"data: [DONE]\n\n")
        await response.write_eof()
        return response


class FakeSglang(FakeServer):
    """The same in the ways of SGLang: a radix tree, and ``/server_info``."""

    def __init__(self, page: int = 2, tokens: int = 256) -> None:
        super().__init__()
        self.page, self.tokens = page, tokens
        self.cache = RadixCache(tokens, page_size=page)

    def serve(self, tokens: list[int], output: list[int]) -> dict[str, Any]:
        name = str(self.answers)
        cached = self.cache.admit(name, tokens)
        assert cached is not None
        assert self.cache.extend(name)
        self.cache.finish(name)
        self.answers += 1
        return {
            "prompt_tokens": len(tokens),
            "completion_tokens": len(output),
            "prompt_tokens_details": {"cached_tokens": cached},
        }

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.path == "/get_server_info":
            info = {"page_size": self.page, "max_total_num_tokens": self.tokens}
            return web.json_response({**info, "max_running_requests": 64, "max_prefill_tokens": 0})
        if request.path in ("/metrics", "/server_info"):
            return web.Response(status=404, text="{}")
        return await super().handle(request)
