"""The cases: a configuration of the gateway each, and what is asked of it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.load import Target

ROUTE_COUNT = 10_000
PLUGIN_DIRECTORY = Path(__file__).parent / "plugins"
KEY = "bench-key"

Document = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """One contender's configuration; `baseline` is what its ratio is taken to (a case, or nginx)."""

    name: str
    title: str
    document: Callable[[int], Document]
    path: str = "/"
    path_count: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    settings: dict[str, object] = field(default_factory=dict)
    baseline: str = "nginx"

    def target(self, port: int) -> Target:
        """Return what wrk asks for."""
        return Target(port, self.path, self.path_count, self.headers)


def _document(upstream_port: int, *plugins: Document, **entities: Any) -> Document:
    route = {"name": "all", "paths": ["/"], "strip_path": False}
    service = {"name": "main", "url": f"http://127.0.0.1:{upstream_port}", "routes": [route], "plugins": list(plugins)}
    return {"_format_version": "3.0", "services": [service], **entities}


def plain(upstream_port: int) -> Document:
    """A service and a route."""
    return _document(upstream_port)


def python_plugin(upstream_port: int) -> Document:
    """One plugin with three phases."""
    return _document(upstream_port, {"name": "three-phases"})


def lua_plugin(upstream_port: int) -> Document:
    """The same plugin in Lua."""
    return _document(upstream_port, {"name": "three-phases-lua"})


def lua_function(upstream_port: int) -> Document:
    """A function in access, in the sandbox."""
    code = 'kong.service.request.set_header("x-agent", kong.request.get_header("user-agent") or "none")'
    return _document(upstream_port, {"name": "pre-function", "config": {"access": [code]}})


def _authenticated(upstream_port: int, *plugins: Document) -> Document:
    limits = {"name": "rate-limiting", "config": {"hour": 1_000_000_000, "policy": "local"}}
    consumer = {"username": "bench", "keyauth_credentials": [{"key": KEY}]}
    return _document(upstream_port, {"name": "key-auth"}, limits, *plugins, consumers=[consumer])


def key_and_limit(upstream_port: int) -> Document:
    """Authentication and a limit."""
    return _authenticated(upstream_port)


def four_plugins(upstream_port: int) -> Document:
    """Authentication, a limit, a transformation and a correlation id."""
    transformer = {"name": "request-transformer", "config": {"add": {"headers": ["X-Added:1"]}}}
    return _authenticated(upstream_port, transformer, {"name": "correlation-id"})


def many_routes(upstream_port: int) -> Document:
    """Ten thousand routes, each with a path of its own."""
    routes = [
        {"name": f"route-{number:05}", "paths": [f"/route-{number:05}"], "strip_path": False}
        for number in range(1, ROUTE_COUNT + 1)
    ]
    service = {"name": "main", "url": f"http://127.0.0.1:{upstream_port}", "routes": routes}
    return {"_format_version": "3.0", "services": [service]}


def websocket(upstream_port: int) -> Document:
    """A WebSocket service without handlers."""
    route = {"name": "all", "paths": ["/"], "protocols": ["ws", "wss"]}
    service = {"name": "main", "url": f"ws://127.0.0.1:{upstream_port}", "routes": [route]}
    return {"_format_version": "3.0", "services": [service]}


def websocket_plugin(upstream_port: int) -> Document:
    """A WebSocket service with a plugin that reads every message of both sides."""
    document = websocket(upstream_port)
    document["services"][0]["plugins"] = [{"name": "read-frames"}]
    return document


WEBSOCKET_CONTENDERS: dict[str, tuple[Callable[[int], Document], dict[str, object]]] = {
    "websocket": (websocket, {}),
    "websocket, Python plugin": (
        websocket_plugin,
        {"plugins": "bundled,read-frames", "plugin_path": PLUGIN_DIRECTORY},
    ),
}
"""WebSocket services: title to document and settings."""


def grpc(upstream_port: int) -> Document:
    """A gRPC service."""
    route = {"name": "all", "paths": ["/"], "protocols": ["grpc"]}
    service = {"name": "main", "url": f"grpc://127.0.0.1:{upstream_port}", "routes": [route]}
    return {"_format_version": "3.0", "services": [service]}


_KEY = {"apikey": KEY}
CASES = (
    Case("plain", "plain proxying", plain),
    Case(
        "python-plugin",
        "one Python plugin, three phases",
        python_plugin,
        settings={"plugins": "bundled,three-phases", "plugin_path": PLUGIN_DIRECTORY},
    ),
    Case(
        "lua-plugin",
        "one Lua plugin, three phases",
        lua_plugin,
        settings={"plugins": "bundled,three-phases-lua", "lua_package_path": f"{PLUGIN_DIRECTORY}/?.lua"},
    ),
    Case("lua-function", "a Lua function in access (pre-function)", lua_function),
    Case("key-and-limit", "key-auth + rate-limiting (local)", key_and_limit, headers=_KEY),
    Case(
        "four-plugins",
        "key-auth + rate-limiting + request-transformer + correlation-id",
        four_plugins,
        headers=_KEY,
    ),
    Case(
        "routes-one",
        "10,000 routes, always the same",
        many_routes,
        path="/route-05000/item",
        path_count=0,
        baseline="plain",
    ),
    Case(
        "routes-random",
        "10,000 routes, at random",
        many_routes,
        path="/route-",
        path_count=ROUTE_COUNT,
        baseline="plain",
    ),
)
