"""Paths that a Lua plugin brings for the Admin API: what its functions get and how they answer."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import pytest

from headgate.errors import EntityError
from headgate.lua.errors import LuaFaultError
from headgate.pdk.admin_api import AdminAnswer, AdminRequest
from headgate.policy.catalog import load_catalog
from tests.lua.conftest import Write


class Consumers:
    """A store with one consumer in it."""

    ann: ClassVar = {"id": "0c4ba3a3-2a62-4c1b-9f3c-6a3a7d0c8a11", "username": "ann"}

    def select(self, entity_name: str, key: str, *, by: str = "id") -> dict[str, Any] | None:
        return self.ann if self.ann.get(by) == key else None

    def all(self, entity_name: str) -> Iterable[dict[str, Any]]:
        return [self.ann]

    def children(self, entity_name: str, foreign_field: str, parent_id: str) -> Sequence[dict[str, Any]]:
        return []

    def insert(self, entity_name: str, given: Mapping[str, Any], *, ttl: int | None = None) -> dict[str, Any]:
        raise EntityError(5, message="UNIQUE violation detected on '{username=\"ann\"}'", fields={"username": "ann"})

    def update(
        self, entity_name: str, key: str, changes: Mapping[str, Any], *, by: str = "id", ttl: int | None = None
    ) -> dict[str, Any]:
        return self.ann | dict(changes)

    upsert = update

    def delete(self, entity_name: str, key: str, *, by: str = "id") -> bool:
        return True


def ask(write: Write, source: str, method: str = "GET", **asked: Any) -> AdminAnswer:
    """Ask the first path of an api.lua."""
    write(api=source)
    path = load_catalog(["written"]).admin_paths().paths[0]
    request = AdminRequest(
        method=method,
        path="/asked",
        params=asked.get("params", {}),
        query=asked.get("query", {}),
        body=asked.get("body", {}),
        headers=asked.get("headers", {}),
        db=Consumers(),
    )
    returned = path.methods[method](request)
    assert not isinstance(returned, AdminAnswer)

    async def answer() -> AdminAnswer:
        return await returned

    return asyncio.run(answer())


def one(function: str, method: str = "GET") -> str:
    return f"return {{ ['/x'] = {{ {method} = function(self, db, helpers) {function} end }} }}"


def test_a_function_gets_all_that_was_asked(written_plugin: Write) -> None:
    source = one(
        "return kong.response.exit(201, { self.params, self.args.uri, self.args.post, self.req.method, "
        "kong.request.get_header('X-A'), kong.request.get_query_arg('q'), kong.request.get_path() }, { ['X-B'] = 1 })",
        "POST",
    )
    answer = ask(
        written_plugin, source, "POST", params={"id": "7"}, query={"q": "1"}, body={"b": None}, headers={"x-a": "y"}
    )
    assert (answer.status, answer.headers) == (201, {"X-B": "1"})
    params = {"id": "7", "q": "1", "b": None}
    assert answer.body == [params, {"id": "7", "q": "1"}, {"b": None}, "POST", "y", "1", "/asked"]


def test_an_answer_can_be_a_table_a_text_or_nothing(written_plugin: Write) -> None:
    assert ask(written_plugin, one("return { status = 202, json = { a = 1 } }")).body == {"a": 1}
    assert ask(written_plugin, one("kong.response.exit(200, 'plain')")).body == b"plain"
    assert ask(written_plugin, one("kong.response.set_header('X-A', 'b')")) == AdminAnswer(200, None, {"X-A": "b"})
    assert ask(written_plugin, one("kong.response.error(418, 'tea')")) == AdminAnswer(418, {"message": "tea"})


def test_entities_are_read_and_written_in_the_store(written_plugin: Write) -> None:
    source = one(
        "local ann = db.consumers:select_by_username('ann') local key = { id = ann.id } "
        "assert(db.consumers:select(key).username == 'ann' and db.consumers:delete(key)) "
        "for consumer in db.consumers:each() do ann = consumer end "
        "return { json = db.consumers:update({ id = ann.id }, { custom_id = 'c' }) }"
    )
    assert ask(written_plugin, source).body == {**Consumers.ann, "custom_id": "c"}


def test_what_the_store_refuses_is_an_error_object(written_plugin: Write) -> None:
    source = one(
        "local consumer, err, err_t = db.consumers:insert({ username = 'ann' }) "
        "assert(consumer == nil and err:gsub('^%[%a+%] ', '') == err_t.message and err ~= err_t.message) "
        "return require('kong.api.endpoints').handle_error(err_t)"
    )
    answer = ask(written_plugin, source)
    assert (answer.status, answer.body["code"], answer.body["fields"]) == (409, 5, {"username": "ann"})


def test_before_runs_first_and_may_answer(written_plugin: Write) -> None:
    source = """return { ["/x"] = { methods = {
      before = function(self) if kong.request.get_header("x-no") then kong.response.exit(403) end self.seen = 1 end,
      GET = function(self) return { json = { self.seen } } end,
    } } }"""
    assert ask(written_plugin, source).body == [1]
    assert ask(written_plugin, source, headers={"x-no": "1"}).status == 403


def test_on_error_answers_for_what_was_raised(written_plugin: Write) -> None:
    source = """return { ["/x"] = { methods = {
      GET = function() error("broken", 0) end,
      on_error = function(self) return { status = 400, json = { message = self.errors[1] } } end,
    } } }"""
    assert ask(written_plugin, source) == AdminAnswer(400, {"message": "broken"})
    with pytest.raises(LuaFaultError, match="just so"):
        ask(written_plugin, one("error('just so')"))


def test_a_function_may_wait(written_plugin: Write) -> None:
    assert ask(written_plugin, one("ngx.sleep(0.001) return { json = { 1 } }")).body == [1]


def test_elsewhere_the_answers_of_requests_are_as_they_were(written_plugin: Write) -> None:
    from headgate.lua.vm import vm

    ask(written_plugin, one("return { json = {} }"))
    with pytest.raises(LuaFaultError):
        vm().call("p", vm().compile("kong.response.exit(200)", "=test"))


def test_what_is_no_path_is_refused(written_plugin: Write) -> None:
    written_plugin(api="return { ['/a b'] = { GET = print }, ['/c'] = { FETCH = print, GET = 1 }, ['/d'] = 5 }")
    found = load_catalog(["written"]).admin_paths()
    assert found.paths == ()
    assert sorted(found.faults["written"]) == [
        "plugin 'written': api.lua: /c: GET is no function",
        "plugin 'written': api.lua: /c: there is no method 'FETCH'",
        "plugin 'written': api.lua: /d: expected a table",
    ]
    written_plugin(api="return { ['/a b'] = { GET = print } }")
    [fault] = load_catalog(["written"]).admin_paths().faults["written"]
    assert "is no path" in fault
