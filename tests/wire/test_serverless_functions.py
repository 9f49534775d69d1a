"""pre-function and post-function in a real gateway: every phase, both languages, uploads, faults, what ends a call."""

import json
import re
import socket
from collections.abc import Iterator
from contextlib import suppress
from http.client import HTTPException
from typing import Any

import pytest

from headgate.testing.gateway import Answer
from tests.support.certificates import insecure_context
from tests.support.documents import document
from tests.support.gateway import Gateway
from tests.support.http1 import Client, wait_until
from tests.support.stream_peers import StreamServer
from tests.support.upstream import Upstream
from tests.support.websockets import EchoServer, open_websocket

HTTP = ("certificate", "rewrite", "access", "header_filter", "body_filter", "log")
WEBSOCKET = ("ws_handshake", "ws_client_frame", "ws_upstream_frame", "ws_close")
STREAM = ("certificate", "preread", "log")
PLUGINS = ("pre-function", "post-function")


def traced(plugin: str, language: str, *phases: str) -> dict[str, Any]:
    """Return an instance whose functions log where they run; the sources are the same in both languages."""
    lists = {phase: [f'kong.log.err("at {plugin} {phase} {n}.")' for n in (1, 2)] for phase in phases}
    return {"name": plugin, "config": {"language": language, **lists}}


@pytest.fixture(scope="module", params=["lua", "python"])
def traced_gateway(request: pytest.FixtureRequest, upstream: Upstream) -> Iterator[tuple[Gateway, str]]:
    """Global instances of both plugins with two functions in each phase, for each kind of protocol."""
    language = str(request.param)
    with StreamServer() as tcp, EchoServer() as echo:
        services: list[dict[str, Any]] = [
            {"host": "127.0.0.1", "port": upstream.port, "routes": [{"paths": ["/http"]}]},
            {
                "protocol": "ws",
                "host": "127.0.0.1",
                "port": echo.port,
                "routes": [{"paths": ["/ws"], "protocols": ["ws", "wss"]}],
            },
            {
                "protocol": "tcp",
                "host": "127.0.0.1",
                "port": tcp.port,
                "read_timeout": 500,
                "routes": [{"protocols": ["tcp", "tls"], "sources": [{"ip": "127.0.0.0/8"}]}],
            },
        ]
        protocols = ["http", "https", "ws", "wss", "tcp", "tls"]
        plugins = [traced(name, language, *HTTP, *WEBSOCKET, "preread") | {"protocols": protocols} for name in PLUGINS]
        with Gateway(
            document(services=services, plugins=plugins),
            stream_listen="127.0.0.1:0, 127.0.0.1:0 ssl",
            untrusted_lua="sandbox",
        ) as running:
            yield running, language


def lines(gateway: Gateway) -> list[tuple[str, str, str]]:
    """Return plugin, phase and number of each traced line, in their order."""
    return re.findall(r"\bat (\S+) (\w+) (\d)\.", gateway.output())


def traced_since(gateway: Gateway, start: int, *phases: str) -> list[tuple[str, str, str]]:
    """Return the traced lines from `start` on, once the last of the phases is there."""
    assert wait_until(lambda: ("post-function", phases[-1], "2") in lines(gateway)[start:]), lines(gateway)[start:]
    return lines(gateway)[start:]


def expected(*phases: str) -> list[tuple[str, str, str]]:
    return [(plugin, phase, n) for phase in phases for plugin in PLUGINS for n in ("1", "2")]


def once(found: list[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
    """Return lines without repetitions: a body has as many chunks as it comes in."""
    return list(dict.fromkeys(found))


def test_every_phase_of_http_runs_the_functions_of_both_plugins_in_order(
    traced_gateway: tuple[Gateway, str],
) -> None:
    gateway, _ = traced_gateway
    start = len(lines(gateway))
    with Client(gateway.tls, tls=insecure_context(), server_name="functions.test") as client:
        assert client.request("GET", "/http").status == 200
    assert once(traced_since(gateway, start, *HTTP)) == expected(*HTTP)


def test_every_phase_of_a_websocket_runs_them(traced_gateway: tuple[Gateway, str]) -> None:
    gateway, _ = traced_gateway
    start = len(lines(gateway))
    with open_websocket(gateway.plain, "/ws") as client:
        client.send("hello")
        assert client.recv(timeout=20) == "hello"
    found = once(traced_since(gateway, start, "rewrite", *WEBSOCKET))
    assert found[:8] == expected("rewrite", "ws_handshake")
    assert [one for one in found if one[1] == "ws_client_frame"] == expected("ws_client_frame")
    assert [one for one in found if one[1] == "ws_upstream_frame"] == expected("ws_upstream_frame")
    assert [one for one in found if one[1] == "ws_close"] == expected("ws_close")


def test_every_phase_of_a_stream_runs_them(traced_gateway: tuple[Gateway, str]) -> None:
    gateway, _ = traced_gateway
    start = len(lines(gateway))
    with (
        socket.create_connection(gateway.addresses("stream")[1], timeout=20) as raw,
        insecure_context().wrap_socket(raw, server_hostname="functions.test") as client,
    ):
        client.sendall(b"x")
        assert client.recv(10) == b"x"
    assert once(traced_since(gateway, start, *STREAM)) == expected(*STREAM)


# -- configured by the Admin API --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def node(upstream: Upstream) -> Iterator[Gateway]:
    """A node that is written to, with one route for each test."""
    with Gateway(None, database="sqlite", workers=1) as running:
        answer = call(
            running, "POST", "/services", {"name": "one", "host": "127.0.0.1", "port": upstream.port, "retries": 0}
        )
        assert answer.status == 201, answer.body
        yield running


def call(gateway: Gateway, method: str, path: str, body: Any = None, *, mime: str = "application/json") -> Answer:
    raw = body if isinstance(body, str) or body is None else json.dumps(body)
    return gateway.request(method, path, to="admin", headers={"Content-Type": mime}, body=raw)


def with_route(node: Gateway, name: str) -> str:
    answer = call(node, "PUT", f"/services/one/routes/{name}", {"paths": [f"/{name}"]})
    assert answer.status in (200, 201), answer.body
    return f"/routes/{name}/plugins"


def with_functions(node: Gateway, name: str, language: str = "lua", **lists: list[str]) -> str:
    """Add a route with functions; returns the plugin's identifier."""
    answer = call(
        node, "POST", with_route(node, name), {"name": "pre-function", "config": {"language": language, **lists}}
    )
    assert answer.status == 201, answer.body
    return str(json.loads(answer.body)["id"])


SOURCE = (
    "local n = 0\nreturn function()\n  n = n + 1\n  kong.response.exit(200, tostring(n) .. ' & more = 100%')\nend\n"
)


def multipart(**fields: str) -> tuple[str, str]:
    """Return the body and the type of what `curl -F` sends; a source goes as a file does."""
    parts = []
    for name, value in fields.items():
        is_file = "\n" in value
        head = f'form-data; name="{name.replace("__", ".")}"' + ('; filename="function.lua"' if is_file else "")
        kind = "Content-Type: application/octet-stream\r\n" if is_file else ""
        parts.append(f"--mark\r\nContent-Disposition: {head}\r\n{kind}\r\n{value}\r\n")
    return "".join(parts) + "--mark--\r\n", "multipart/form-data; boundary=mark"


def test_a_file_is_uploaded_as_a_function_and_its_locals_are_kept(node: Gateway) -> None:
    path = with_route(node, "uploaded")
    body, mime = multipart(name="pre-function", config__access=SOURCE)
    answer = call(node, "POST", path, body, mime=mime)
    assert answer.status == 201, answer.body
    created = json.loads(answer.body)
    assert created["config"]["access"] == [SOURCE]
    bodies = [node.request("GET", "/uploaded").body for _ in range(3)]
    assert bodies == [f"{n} & more = 100%".encode() for n in (1, 2, 3)]
    # Other functions are no reason to start anew, a change of this one is.
    with_functions(node, "another", access=["return nil"])
    assert node.request("GET", "/uploaded").body == b"4 & more = 100%"
    changed = call(node, "PATCH", f"/plugins/{created['id']}", {"config": {"access": [SOURCE + " "]}})
    assert changed.status == 200, changed.body
    assert node.request("GET", "/uploaded").body == b"1 & more = 100%"


def test_functions_of_a_form_are_one_list(node: Gateway) -> None:
    path = with_route(node, "form")
    first, second = "kong.ctx.shared.x='a%2Bb'", "kong.response.exit(200,kong.ctx.shared.x)"
    body = f"name=pre-function&config.access[1]={first}&config.access[2]={second}"
    answer = call(node, "POST", path, body, mime="application/x-www-form-urlencoded")
    assert answer.status == 201, answer.body
    assert node.request("GET", "/form").body == b"a+b"


@pytest.mark.parametrize(
    ("language", "good", "bad", "text"),
    [
        (
            "lua",
            "return 1",
            "local a = 1\nlocal b = = 2",
            """[string "local a = 1..."]:2: unexpected symbol near '='""",
        ),
        ("python", "x = 1", "a = 1\nb = = 2", "line 2: invalid syntax"),
        ("python", "x = 1", "a = 1\na.__class__", "Line 2:"),
    ],
)
def test_all_faults_are_told_at_once_with_their_lines(
    node: Gateway, language: str, good: str, bad: str, text: str
) -> None:
    path = with_route(node, "faulty")
    lists = {"access": [good, bad, bad], "log": [bad], "body_filter": [good]}
    answer = call(node, "POST", path, {"name": "post-function", "config": {"language": language, **lists}})
    assert answer.status == 400
    fields = json.loads(answer.body)["fields"]["config"]
    assert sorted(fields) == ["access", "log"]
    assert fields["access"][0] is None
    for fault in (*fields["access"][1:], *fields["log"]):
        assert fault.startswith("error parsing post-function: ")
        assert text in fault
    assert len(fields["access"]) == 3


@pytest.mark.parametrize(
    ("language", "failing"), [("lua", "error('broken here')"), ("python", "raise ValueError('broken here')")]
)
def test_what_raises_in_access_is_500_and_ends_the_list(node: Gateway, language: str, failing: str) -> None:
    after = 'kong.response.exit(200, "went on")'
    identifier = with_functions(node, f"raising-{language}", language, access=[failing, after])
    answer = node.request("GET", f"/raising-{language}")
    assert answer.status == 500
    assert json.loads(answer.body)["message"] == "An unexpected error occurred"
    assert wait_until(lambda: "broken here" in node.output())
    line = next(one for one in node.output().splitlines() if "broken here" in one)
    assert "pre-function" in line
    assert call(node, "DELETE", f"/plugins/{identifier}").status == 204
    assert node.request("GET", f"/raising-{language}").status == 200


@pytest.mark.parametrize("language", ["lua", "python"])
@pytest.mark.parametrize("phase", ["header_filter", "body_filter", "log"])
def test_what_raises_later_leaves_the_worker_and_names_the_plugin(node: Gateway, language: str, phase: str) -> None:
    name = f"late-{language}-{phase.replace('_', '-')}"
    failing = f"error('{name} fails')" if language == "lua" else f"raise ValueError('{name} fails')"
    with_functions(node, name, language, **{phase: [failing]})
    pids = node.worker_pids
    # A body that cannot be gone on with is cut off.
    with suppress(HTTPException):
        node.request("GET", f"/{name}")
    assert wait_until(lambda: f"{name} fails" in node.output())
    assert "pre-function" in next(one for one in node.output().splitlines() if f"{name} fails" in one)
    assert node.worker_pids == pids


RUNAWAYS = {
    "loop": ("lua", "while true do end"),
    "caught": ("lua", "while true do pcall(function() while true do end end) end"),
    "text": ("lua", "local s = ('x'):rep(1e9)"),
    "growing": ("lua", "local t = {} while true do t[#t + 1] = ('x'):rep(1e6) .. #t end"),
    "stack": ("lua", "local function f() return 1 + f() end f()"),
    "coroutines": ("lua", "local function f() coroutine.resume(coroutine.create(f)) end while true do f() end"),
    "threads": ("lua", "local function f() ngx.thread.spawn(f) end while true do f() end"),
    "matches": ("lua", "local function f() ngx.re.gsub('a', 'a', f) end while true do pcall(f) end"),
    "callbacks": (
        "lua",
        "local function f() kong.cache:get(tostring(math.random()), nil, f) end while true do f() end",
    ),
    "large-result": ("lua", "local s = ('x'):rep(3e7) while true do s = ngx.encode_base64(s) end"),
    "refusing-table": ("lua", "ngx.re.match('a', 'a', nil, nil, string)"),
    "hanging": ("lua", "coroutine.yield('never')"),
    "huge-expression": ("lua", "assert(ngx.re.match('a', '((a{1000}){1000}){1000}'))"),
    "python-loop": ("python", "while True:\n    pass"),
    "python-caught": (
        "python",
        "while True:\n    try:\n        while True:\n            pass\n    except:\n        pass",
    ),
    "python-text": ("python", "x = 'x' * 10**9"),
    "python-list": ("python", "x = [0] * 10**9"),
    "python-number": ("python", "x = 10**10**8"),
    "python-range": ("python", "x = list(range(10**9))"),
    "python-growing": ("python", "x = []\nwhile True:\n    x.append('x' * 10**6)"),
    "python-doubling": ("python", "x = 'x'\nwhile True:\n    x += x"),
    "python-stack": ("python", "def f():\n    f()\nf()"),
}


@pytest.mark.parametrize("name", RUNAWAYS)
def test_a_runaway_fails_its_request_and_the_worker_lives(node: Gateway, name: str) -> None:
    language, source = RUNAWAYS[name]
    identifier = with_functions(node, name, language, access=[source])
    pids, start = node.worker_pids, len(node.output())
    assert node.request("GET", f"/{name}").status == 500
    with_functions(node, f"{name}-after", language, access=['kong.response.exit(200, "fine")'])
    assert node.request("GET", f"/{name}-after").body == b"fine"
    assert node.worker_pids == pids
    assert call(node, "DELETE", f"/plugins/{identifier}").status == 204
    assert wait_until(lambda: "pre-function" in node.output()[start:])


def test_in_the_mode_off_functions_are_stored_and_do_not_run(upstream: Upstream) -> None:
    config = document(
        services=[{"host": "127.0.0.1", "port": upstream.port, "routes": [{"paths": ["/"]}]}],
        plugins=[{"name": "pre-function", "config": {"access": ["return 1"]}}],
    )
    with Gateway(config, untrusted_lua="off") as running:
        assert running.request("GET", "/").status == 500
        assert wait_until(lambda: "'untrusted_lua' config option is set to 'off'" in running.output())
