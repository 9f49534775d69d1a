"""kong.node, kong.ip, kong.configuration, kong.table, kong.ctx, kong.db, kong itself."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from headgate.config.load import load_settings
from headgate.errors import EntityError
from headgate.pdk import configure_node, kong
from headgate.pdk._kong import version_number
from headgate.pdk._node import node
from headgate.pdk.plugin import InstanceInfo, instance_of, remember_instance
from tests.pdk.calls import continued, phase


@pytest.fixture
def settings() -> Iterator[None]:
    configure_node(
        {
            "trusted_ips": ["10.0.0.0/8", "::1", "unix:"],
            "pg_password": "secret",
            "plugins": ["bundled"],
            "default_workspace": "w",
        },
        "the id",
    )
    yield
    configure_node({})


def test_versions_have_a_number() -> None:
    assert (version_number("3.4.1"), version_number("3.10.0")) == (3004001, 30010000)
    assert kong.version_num == version_number(kong.version)


def test_without_settings_the_limits_are_the_defaults_of_the_settings() -> None:
    names = ("max_request_headers", "max_response_headers", "max_uri_args", "max_post_args", "max_timers")
    without = {name: getattr(node, name) for name in names}
    configure_node(load_settings(None, {}).node_configuration())
    with_defaults = {name: getattr(node, name) for name in names}
    configure_node({})
    assert without == with_defaults


@pytest.mark.usefixtures("settings")
def test_trusted_addresses() -> None:
    found = {address: kong.ip.is_trusted(address) for address in ("10.1.2.3", "11.0.0.1", "::1", "unix:", "nonsense")}
    assert found == {"10.1.2.3": True, "11.0.0.1": False, "::1": True, "unix:": False, "nonsense": False}


def test_everybody_is_trusted_with_both_whole_networks_and_nobody_with_none() -> None:
    configure_node({"trusted_ips": ["0.0.0.0/0", "::/0"]})
    assert kong.ip.is_trusted("not even an address")
    configure_node({})
    assert not kong.ip.is_trusted("127.0.0.1")


@pytest.mark.usefixtures("settings")
def test_settings_are_read_only_and_can_be_shown_without_secrets() -> None:
    assert kong.configuration.plugins == kong.configuration["plugins"] == ["bundled"]
    assert kong.configuration.unknown is None
    with pytest.raises(TypeError, match=r"^cannot write to configuration$"):
        kong.configuration.plugins = []
    assert kong.configuration.remove_sensitive()["pg_password"] == "******"
    assert kong.configuration.pg_password == "secret"
    assert (kong.node.get_id(), kong.default_workspace) == ("the id", "w")


def test_memory_is_shown_in_the_wanted_unit() -> None:
    [worker] = kong.node.get_memory_stats()["workers_lua_vms"]
    assert isinstance(worker["http_allocated_gc"], int)
    [worker] = kong.node.get_memory_stats("M", 1)["workers_lua_vms"]
    assert worker["http_allocated_gc"].endswith(" MiB")
    with pytest.raises(ValueError) as caught:
        kong.node.get_memory_stats("t")
    assert str(caught.value) == "invalid unit 't' (expected 'k/K', 'm/M', or 'g/G')"
    with pytest.raises(ValueError, match=r"^scale must be equal or greater than 0$"):
        kong.node.get_memory_stats("k", -1)


def test_tables() -> None:
    assert kong.table.new(4, 2) == {}
    assert kong.table.merge({"a": 1, "b": 1}, {"b": 2}) == {"a": 1, "b": 2}
    assert kong.table.merge([1, 2, 3], [9]) == [9, 2, 3]
    assert kong.table.merge([1], {"a": 2}) == {1: 1, "a": 2}
    assert kong.table.merge() == {}
    full = {"a": 1}
    kong.table.clear(full)
    assert full == {}


def instance(name: str) -> InstanceInfo:
    return InstanceInfo("id", name, None, None, None, None, None, 1)


def test_shared_values_are_the_requests_and_plugin_values_each_plugins() -> None:
    with phase("access") as exchange:
        exchange.state.instance = instance("a")
        kong.ctx.shared.x = 1
        kong.ctx.plugin["y"] = 2
        exchange.state.instance = instance("b")
        assert (kong.ctx.shared["x"], kong.ctx.plugin.y) == (1, None)
    with continued(exchange, "log"):
        exchange.state.instance = instance("a")
        assert kong.ctx.plugin.y == 2
        kong.ctx.plugin.y = None
        assert "y" not in kong.ctx.plugin
        assert kong.ctx.plugin["y"] is None
    with phase("access"):
        assert kong.ctx.shared.x is None


def test_no_name_is_taken_in_a_namespace() -> None:
    with phase("access"):
        for name in ("keys", "items", "get", "copy"):
            assert kong.ctx.shared[name] is None
            setattr(kong.ctx.shared, name, 1)
        assert list(kong.ctx.shared) == ["keys", "items", "get", "copy"]
        assert len(kong.ctx.shared) == 4


def test_outside_of_a_request_there_is_no_context() -> None:
    assert kong.ctx.shared is None
    with pytest.raises(AttributeError):
        kong.ctx.plugin.x = 1


ENTITIES: dict[str, list[dict[str, Any]]] = {
    "consumers": [{"id": "1", "username": "anna"}, {"id": "2", "username": "bert"}],
    "acls": [{"id": "3", "group": "g", "consumer": {"id": "1"}}],
}


def test_entities_are_found_by_id_by_unique_field_and_by_parent() -> None:
    with phase("access", entities=ENTITIES):
        anna = kong.db.consumers.select("1")
        assert anna == kong.db.consumers.select({"id": "1"}) == kong.db.consumers.select_by_username("anna")
        assert kong.db.consumers.select("9") is None
        assert [one["username"] for one in kong.db.consumers.each()] == ["anna", "bert"]
        assert [one["group"] for one in kong.db.acls.each_for_consumer({"id": "1"})] == ["g"]


def test_without_a_database_nothing_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node, "write_entity", None)
    with phase("access", entities=ENTITIES), pytest.raises(EntityError) as caught:
        asyncio.run(kong.db.consumers.insert({}))
    assert caught.value.message == "cannot create 'consumers' entities when not using a database"


def test_pages() -> None:
    with phase("access", entities=ENTITIES):
        first, offset = kong.db.consumers.page(1)
        assert ([one["id"] for one in first], offset) == (["1"], "1")
        second, offset = kong.db.consumers.page(1, offset)
        assert ([one["id"] for one in second], offset) == (["2"], None)


@pytest.mark.usefixtures("settings")
def test_cache_keys_have_seven_parts() -> None:
    assert kong.db.acls.cache_key("a", None, {"id": "b"}) == "acls:a::b:::w"


def test_without_a_request_entities_come_from_the_running_configuration() -> None:
    with phase("access", entities=ENTITIES) as exchange:
        snapshot = exchange.plan.snapshot
    node.snapshot = None
    with pytest.raises(LookupError):
        kong.db.consumers.select("1")
    node.snapshot = snapshot
    assert kong.db.consumers.select("1") == ENTITIES["consumers"][0]
    node.snapshot = None


def test_only_configurations_of_instances_have_an_instance() -> None:
    class Config:
        pass

    known, unknown = Config(), Config()
    remember_instance(known, instance("a"))
    assert instance_of(known).name == "a"
    with pytest.raises(LookupError):
        instance_of(unknown)
