"""What plugins of others rely on beside the PDK: Kong's table of the request, queues, arguments that are left out."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.gateway import Gateway
from tests.support.http1 import wait_until
from tests.support.upstream import Upstream

ROUTE = "~/users/(?<user>[a-z]+)/(.+)$"

HANDLER = """
local Queue = require "kong.tools.queue"
local http = require "socket.http"
local ltn12 = require "ltn12"

local Handler = { VERSION = "1.0.0", PRIORITY = 5 }

function Handler:access(conf)
  local way = kong.request.get_query_arg("way")
  if way == "ctx" then
    local captures = ngx.ctx.router_matches.uri_captures
    return kong.response.exit(200, { route = ngx.ctx.route.name, service = ngx.ctx.service.name, user = captures.user,
      second = captures[2], none = ngx.ctx.nothing == nil, id = ngx.ctx.request_id == kong.request.get_id() })
  elseif way == "consumer" then
    ngx.ctx.authenticated_consumer = { id = "4f0ed9d6-57f4-4a6e-9f0e-9a57bd8b0d3f" }
    ngx.ctx.authenticated_consumer.username = "me"
    local kept = ngx.ctx.authenticated_consumer.username
    return kong.response.exit(200, { id = kong.client.get_consumer().id, kept = kept })
  elseif way == "arguments" then
    local arguments = ngx.req.get_uri_args()
    arguments.way, arguments.more = nil, { "1", "2" }
    ngx.req.set_uri_args(arguments)
    ngx.var.upstream_uri = "/changed"
  elseif way == "socket" then
    local taken = {}
    local _, status = http.request { url = conf.url .. "/elsewhere", method = "POST",
      headers = { ["Content-Length"] = 5 }, source = ltn12.source.string("hello"), sink = ltn12.sink.table(taken) }
    return kong.response.exit(200, { status = status, seen = require("cjson").decode(table.concat(taken)) })
  elseif way == "session" then
    local session, err, exists = require("resty.session").start { secret = "s3cret", cookie_name = "mine" }
    session:set("count", (session:get("count") or 0) + 1)
    session:set("long", ("x"):rep(5000))
    assert(session:save())
    return kong.response.exit(200, { exists = exists, err = err, count = session:get("count") })
  elseif way == "logout" then
    local done = require("resty.session").destroy { secret = "s3cret", cookie_name = "mine" }
    return kong.response.exit(200, { done = done })
  elseif way == "variable" then
    ngx.var.session_secret = "kept"
    return kong.response.exit(200, { kept = ngx.var.session_secret, none = ngx.var.another == nil,
      fixed = not pcall(function() ngx.var.remote_addr = "1.1.1.1" end) })
  elseif way == "tell" then
    assert(kong.cluster_events:broadcast("written", "hello"))
    return kong.response.exit(200, {})
  end
end

function Handler:init_worker()
  kong.cluster_events:subscribe("written", function(data) kong.log.notice("told: ", data) end)
end

-- As most do: what is not the last chunk is kept, and all of it takes the place of the last one.
function Handler:header_filter()
  if kong.request.get_query_arg("way") == "body" then
    kong.response.clear_header("Content-Length")
  end
end
function Handler:body_filter()
  local way = kong.request.get_query_arg("way")
  if way ~= "body" and way ~= "waits" then
    return
  end
  if way == "waits" then
    ngx.sleep(0)
  end
  local chunk, is_end = ngx.arg[1], ngx.arg[2]
  ngx.ctx.kept = ngx.ctx.kept or {}
  if is_end then
    ngx.arg[1] = table.concat(ngx.ctx.kept):upper()
  else
    table.insert(ngx.ctx.kept, chunk)
    ngx.arg[1] = nil
  end
end

local attempts = 0

function Handler:log(conf)
  local entry = kong.request.get_query_arg("entry")
  if entry then
    local options = Queue.get_plugin_params("written", conf)
    assert(Queue.enqueue(options, function(argument, entries)
      attempts = attempts + 1
      if attempts == 1 then
        return nil, "not yet"
      end
      kong.log.notice("batch of ", argument.tag, ": ", table.concat(entries, "+"))
      return true
    end, conf, entry))
  end
end

return Handler
"""
CLEAR = "kong.response.clear_header('Content-Length')"
SCHEMA = """
local typedefs = require "kong.db.schema.typedefs"
return { name = "written", fields = { { config = { type = "record", fields = {
  { url = typedefs.url }, { tag = { type = "string", default = "t" } }, { queue = typedefs.queue },
  { codes = { type = "array", elements = { type = "integer", between = { 100, 599 } }, default = { 200 } } },
  { paths = typedefs.router_paths },
} } } } }
"""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Gateway, Upstream]]:
    folder = tmp_path_factory.mktemp("lua") / "kong" / "plugins" / "written"
    folder.mkdir(parents=True)
    (folder / "handler.lua").write_text(HANDLER)
    (folder / "schema.lua").write_text(SCHEMA)
    with Upstream() as upstream:
        config: dict[str, Any] = {"url": upstream.url, "queue": {"max_batch_size": 3, "max_coalescing_delay": 20}}
        document = {
            "_format_version": "3.0",
            "services": [{"name": "s", "url": upstream.url, "routes": [{"name": "r", "paths": [ROUTE]}]}],
            "plugins": [{"name": "written", "config": config}],
        }
        path = f"{folder.parent.parent.parent}/?.lua"
        with Gateway(document, lua_package_path=path, plugins="bundled,written", workers=1) as gateway:
            yield gateway, upstream


def answer(running: tuple[Gateway, Upstream], query: str) -> Any:
    return running[0].get(f"/users/joe/rest?{query}").json()


def test_the_table_of_the_request_has_what_kong_puts_there(running: tuple[Gateway, Upstream]) -> None:
    expected = {"route": "r", "service": "s", "user": "joe", "second": "rest", "none": True, "id": True}
    assert answer(running, "way=ctx") == expected


def test_a_consumer_that_is_put_there_is_who_the_client_is(running: tuple[Gateway, Upstream]) -> None:
    found = answer(running, "way=consumer")
    assert found == {"id": "4f0ed9d6-57f4-4a6e-9f0e-9a57bd8b0d3f", "kept": "me"}


def test_arguments_that_are_left_out_are_nil(running: tuple[Gateway, Upstream]) -> None:
    seen = answer(running, "way=arguments&a=b")
    assert seen["target"].startswith("/changed?")
    assert set(seen["target"].partition("?")[2].split("&")) == {"a=b", "more=1", "more=2"}


def test_requests_of_luasocket_wait_without_blocking(running: tuple[Gateway, Upstream]) -> None:
    found = answer(running, "way=socket")
    assert found["status"] == 200
    assert found["seen"]["target"] == "/elsewhere"
    assert found["seen"]["method"] == "POST"


@pytest.mark.parametrize("way", ["body", "waits"])
def test_the_end_of_a_body_comes_alone(running: tuple[Gateway, Upstream], way: str) -> None:
    text = running[0].get(f"/users/joe/rest?way={way}").body.decode()
    assert text.startswith("{")
    assert '"METHOD": "GET"' in text


def test_functions_get_the_end_of_a_body_alone(running: tuple[Gateway, Upstream]) -> None:
    chunk = "ngx.arg[1] = (ngx.arg[1] or '') .. (ngx.arg[2] and '.' or '|')"
    upstream = running[1]
    document = {
        "_format_version": "3.0",
        "services": [{"name": "s", "url": upstream.url, "routes": [{"name": "r", "paths": ["/"]}]}],
        "plugins": [
            {"name": "post-function", "config": {"body_filter": [chunk], "header_filter": [CLEAR]}},
        ],
    }
    with Gateway(document, workers=1) as gateway:
        assert gateway.get("/").body.decode().endswith("}|.")


def test_a_session_lives_in_sealed_cookies(running: tuple[Gateway, Upstream]) -> None:
    gateway = running[0]
    first = gateway.get("/users/joe/rest?way=session")
    assert first.json() == {"exists": False, "err": "missing session cookie", "count": 1}
    pairs = [line.partition(";")[0] for line in first.headers.all("Set-Cookie")]
    assert [pair.partition("=")[0] for pair in pairs] == ["mine", "mine2"]
    second = gateway.get("/users/joe/rest?way=session", {"Cookie": "; ".join(pairs)})
    assert second.json() == {"exists": True, "count": 2}
    changed = pairs[0][:-1] + ("A" if pairs[0][-1] != "A" else "B")
    third = gateway.get("/users/joe/rest?way=session", {"Cookie": "; ".join((changed, *pairs[1:]))})
    assert third.json() == {"exists": False, "err": "invalid session cookie", "count": 1}
    ended = gateway.get("/users/joe/rest?way=logout", {"Cookie": "; ".join(pairs)})
    assert ended.json() == {"done": True}
    assert all("Max-Age=0" in line for line in ended.headers.all("Set-Cookie"))


def test_variables_of_plugins_live_as_long_as_the_request(running: tuple[Gateway, Upstream]) -> None:
    assert answer(running, "way=variable") == {"kept": "kept", "none": True, "fixed": True}


def test_messages_to_the_cluster_reach_lua(running: tuple[Gateway, Upstream]) -> None:
    answer(running, "way=tell")
    assert wait_until(lambda: "told: hello" in running[0].output())


def test_a_queue_makes_batches_and_tries_again(running: tuple[Gateway, Upstream]) -> None:
    gateway = running[0]
    for entry in ("one", "two", "three"):
        gateway.get(f"/users/joe/rest?entry={entry}")
    assert wait_until(lambda: "batch of t: one+two+three" in gateway.output())
    assert "handler could not process entries: not yet" in gateway.output()


def test_what_is_in_a_queue_is_sent_before_a_worker_ends(tmp_path: Path) -> None:
    folder = tmp_path / "kong" / "plugins" / "written"
    folder.mkdir(parents=True)
    (folder / "handler.lua").write_text(HANDLER.replace("attempts = 0", "attempts = 1"))
    (folder / "schema.lua").write_text(SCHEMA)
    with Upstream() as upstream:
        config: dict[str, Any] = {"queue": {"max_batch_size": 9, "max_coalescing_delay": 3600}}
        document = {
            "_format_version": "3.0",
            "services": [{"name": "s", "url": upstream.url, "routes": [{"name": "r", "paths": ["/"]}]}],
            "plugins": [{"name": "written", "config": config}],
        }
        with Gateway(document, lua_package_path=f"{tmp_path}/?.lua", plugins="bundled,written", workers=1) as gateway:
            gateway.get("/?entry=last")
            gateway.reload()
            assert wait_until(lambda: "batch of t: last" in gateway.output())
