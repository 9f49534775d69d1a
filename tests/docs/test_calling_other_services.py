"""The plugin of docs/calling-other-services.md against a real service."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import web

from headgate.pdk import shared_dict
from headgate.pdk._exit import Exit
from headgate.testing import Request
from tests.pdk.calls import phase
from tests.support.gateway import ROOT

PAGE = (ROOT / "docs" / "calling-other-services.md").read_text(encoding="utf-8")


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Any]:
    """The names of the page's first example."""
    names: dict[str, Any] = {"__name__": "page"}
    found = re.search(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert found is not None
    exec(compile(found[1], "page", "exec"), names)
    shared_dict.close()
    shared_dict.configure(tmp_path / "shared", 1024 * 1024)
    yield SimpleNamespace(**names)
    shared_dict.close()


class Service:
    """Knows one token; counts what it is asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []

    async def answer(self, request: web.Request) -> web.Response:
        token = request.match_info["token"]
        self.asked.append((token, request.headers["Authorization"]))
        if token == "broken":
            return web.Response(status=500)
        return web.json_response({"tenant": "blue"}, status=200 if token == "good" else 404)


def run(page: Any, body: Callable[[Callable[[str | None], Awaitable[Any]], Service], Awaitable[None]]) -> None:
    async def main() -> None:
        service = Service()
        application = web.Application()
        application.router.add_get("/tokens/{token}", service.answer)
        runner = web.AppRunner(application)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        conf = page.Config(url=f"http://127.0.0.1:{port}", password="secret")
        handler = page.Handler()
        await handler.init_worker()

        async def call(token: str | None) -> Any:
            headers = {} if token is None else {"X-Token": token}
            with phase("access", Request(headers=headers)) as exchange:
                try:
                    await handler.access(conf)
                except Exit:
                    pass
            return exchange

        try:
            await body(call, service)
        finally:
            await handler.session.close()
            await runner.cleanup()

    asyncio.run(main())


def test_a_known_token_gives_the_tenant_and_is_asked_for_once(page: Any) -> None:
    async def body(call: Any, service: Service) -> None:
        for _ in range(2):
            assert (await call("good")).get_request_header("x-tenant") == "blue"
        assert service.asked == [("good", "Bearer secret")]

    run(page, body)


def test_others_are_refused_and_a_miss_is_kept_too(page: Any) -> None:
    async def body(call: Any, service: Service) -> None:
        assert [(await call(token)).response_status for token in (None, "bad", "bad")] == [401, 403, 403]
        assert len(service.asked) == 1
        assert (await call("broken")).response_status == 503

    run(page, body)
