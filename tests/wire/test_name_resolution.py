"""Names of services: records and their order, ageing, and name servers that are silent, lie, truncate or change."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.documents import document
from tests.support.gateway import PLUGIN_DIRECTORY, Gateway
from tests.support.http1 import Response, wait_until
from tests.support.name_server import Manner, NameServer
from tests.support.upstream import Connection, Request, Script, Upstream


def _tells(text: str) -> Script:
    def script(request: Request, connection: Connection) -> None:
        connection.respond(text.encode())

    return script


@pytest.fixture(scope="module")
def first() -> Iterator[Upstream]:
    with Upstream(default=_tells("first")) as upstream:
        yield upstream


@pytest.fixture(scope="module")
def second(first: Upstream) -> Iterator[Upstream]:
    """The same port at another address."""
    with Upstream(default=_tells("second"), address=("127.0.0.2", first.port)) as upstream:
        yield upstream


@pytest.fixture(scope="module")
def name_server() -> Iterator[NameServer]:
    with NameServer() as server:
        yield server


@pytest.fixture(scope="module")
def gateway(first: Upstream, second: Upstream, name_server: NameServer) -> Iterator[Gateway]:
    names = "plain both six srv changing cut lied garbled failing gone expired last"
    services = [
        {"name": name, "host": f"{name}.test", "port": first.port, "retries": 0, "routes": [{"paths": [f"/{name}"]}]}
        for name in names.split()
    ]
    with Gateway(document(services=services), workers=1, dns_resolver=name_server.address) as running:
        yield running


def _ask(gateway: Gateway, name: str) -> Response:
    return gateway.get(f"/{name}")


def _body(gateway: Gateway, name: str) -> str:
    response = _ask(gateway, name)
    assert response.status == 200, response.body
    return response.body.decode()


def test_a_name_is_asked_for_once_within_its_time_to_live(gateway: Gateway, name_server: NameServer) -> None:
    name_server.records["plain.test", "A"] = ["127.0.0.1"]
    assert [_body(gateway, "plain") for _ in range(5)] == ["first"] * 5
    assert name_server.asked("plain.test", "A") == 1


def test_addresses_of_a_name_take_turns(gateway: Gateway, name_server: NameServer) -> None:
    name_server.records["both.test", "A"] = ["127.0.0.1", "127.0.0.2"]
    bodies = [_body(gateway, "both") for _ in range(4)]
    assert sorted(bodies) == ["first", "first", "second", "second"]


def test_srv_gives_host_and_port_by_weight(
    gateway: Gateway, name_server: NameServer, first: Upstream, second: Upstream
) -> None:
    port = first.port
    name_server.records["srv.test", "SRV"] = [f"1 3 {port} one.test.", f"1 1 {port} two.test.", "9 9 1 one.test."]
    name_server.records["one.test", "A"] = ["127.0.0.1"]
    name_server.records["two.test", "A"] = ["127.0.0.2"]
    bodies = [_body(gateway, "srv") for _ in range(8)]
    assert (bodies.count("first"), bodies.count("second")) == (6, 2)


def test_the_kind_that_answered_is_asked_for_first_when_it_expired(gateway: Gateway, name_server: NameServer) -> None:
    name_server.records["last.test", "A"] = ["127.0.0.1"]
    name_server.ttl_s = 0
    try:
        assert _body(gateway, "last") == "first"
        assert name_server.asked("last.test", "SRV") == 1
        assert _body(gateway, "last") == "first"
        name_server.wait_until_asked("last.test", 2, "A")
        assert name_server.asked("last.test", "SRV") == 1
    finally:
        name_server.ttl_s = 60


def test_a_changed_address_is_used_once_the_old_answer_expired(gateway: Gateway, name_server: NameServer) -> None:
    name_server.records["changing.test", "A"] = ["127.0.0.1"]
    name_server.ttl_s = 0
    try:
        assert _body(gateway, "changing") == "first"
        name_server.records["changing.test", "A"] = ["127.0.0.2"]
        # The expired answer serves while the new one is fetched: nobody fails, and soon all go to the new address.
        bodies = [_body(gateway, "changing")]
        while bodies[-1] != "second":
            bodies.append(_body(gateway, "changing"))
            assert len(bodies) < 1000
        assert set(bodies) <= {"first", "second"}
    finally:
        name_server.ttl_s = 60


def test_a_silent_name_server_does_not_touch_names_that_are_known(gateway: Gateway, name_server: NameServer) -> None:
    name_server.records["expired.test", "A"] = ["127.0.0.1"]
    name_server.ttl_s = 0
    try:
        assert _body(gateway, "expired") == "first"
        name_server.manners["expired.test"] = Manner.SILENCE
        assert [_body(gateway, "expired") for _ in range(20)] == ["first"] * 20
        name_server.wait_until_asked("expired.test", 2, "A")
    finally:
        name_server.ttl_s = 60


def test_a_truncated_answer_is_asked_for_again_over_tcp(gateway: Gateway, name_server: NameServer) -> None:
    name_server.records["cut.test", "A"] = ["127.0.0.2"]
    name_server.manners["cut.test"] = Manner.TRUNCATED
    assert _body(gateway, "cut") == "second"
    assert name_server.asked("cut.test", "A", "tcp") == 1


@pytest.mark.parametrize(("name", "manner"), [("lied", Manner.LIE_FIRST), ("garbled", Manner.GARBAGE)])
def test_what_answers_another_question_is_not_believed(
    gateway: Gateway, name_server: NameServer, name: str, manner: Manner
) -> None:
    name_server.records[f"{name}.test", "A"] = ["127.0.0.1"]
    name_server.manners[f"{name}.test"] = manner
    assert _body(gateway, name) == "first"


def test_a_name_that_does_not_exist_is_answered_503_and_remembered(gateway: Gateway, name_server: NameServer) -> None:
    for _ in range(3):
        response = _ask(gateway, "gone")
        assert response.status == 503
        assert response.json()["message"] == "name resolution failed"
    assert name_server.asked("gone.test", "A") == 1


def test_a_failing_name_server_is_answered_500_and_tells_the_log_why(gateway: Gateway, name_server: NameServer) -> None:
    name_server.records["failing.test", "A"] = ["127.0.0.1"]
    name_server.manners["failing.test"] = Manner.FAILURE
    response = _ask(gateway, "failing")
    assert response.status == 500
    assert "failing.test" not in response.body.decode()
    told = "failed the initial dns/balancer resolve for 'failing.test' with: dns server error: 2"
    assert any(told in line for line in gateway.logs)


def test_a_name_without_ipv4_address_is_reached_over_ipv6(gateway: Gateway, name_server: NameServer) -> None:
    name_server.records["six.test", "AAAA"] = ["::1"]
    response = _ask(gateway, "six")
    # Nothing listens there; that the attempt was made shows that the address was used.
    assert response.status == 502
    assert name_server.asked("six.test", "AAAA") == 1


def test_the_hosts_file_comes_before_name_servers(first: Upstream, name_server: NameServer, tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text("127.0.0.1 fixed.test # ours\n")
    service = {"host": "fixed.test", "port": first.port, "routes": [{"paths": ["/fixed"]}]}
    settings = {"workers": 1, "dns_resolver": name_server.address, "dns_hostsfile": str(hosts)}
    with Gateway(document(services=[service]), **settings) as gateway:
        assert _body(gateway, "fixed") == "first"
    assert name_server.asked("fixed.test") == 0


def test_a_target_that_is_a_name_has_all_its_addresses_as_they_change(
    first: Upstream, second: Upstream, name_server: NameServer
) -> None:
    name_server.records["pool.test", "A"] = ["127.0.0.1", "127.0.0.2"]
    upstreams = [
        {"name": "pool.up", "targets": [{"target": f"pool.test:{first.port}"}]},
        {"name": "none.up", "targets": [{"target": f"none.test:{first.port}"}]},
    ]
    services = [{"host": f"{name}.up", "routes": [{"paths": [f"/{name}"]}]} for name in ("pool", "none")]

    def addresses(gateway: Gateway) -> list[str]:
        (target,) = gateway.admin_request("GET", "/upstreams/pool.up/health").json()["data"]
        return sorted(one["ip"] for one in target["data"]["addresses"])

    name_server.ttl_s = 0
    try:
        with Gateway(
            document(services=services, upstreams=upstreams), workers=1, dns_resolver=name_server.address
        ) as gateway:
            assert wait_until(lambda: addresses(gateway) == ["127.0.0.1", "127.0.0.2"])
            assert sorted(_body(gateway, "pool") for _ in range(6)) == ["first"] * 3 + ["second"] * 3
            name_server.records["pool.test", "A"] = ["127.0.0.2"]
            assert wait_until(lambda: addresses(gateway) == ["127.0.0.2"])
            assert {_body(gateway, "pool") for _ in range(4)} == {"second"}
            refused = _ask(gateway, "none")
            assert (refused.status, refused.json()["message"]) == (503, "failure to get a peer from the ring-balancer")
            (shown,) = gateway.admin_request("GET", "/upstreams/none.up/health").json()["data"]
            assert shown["health"] == "DNS_ERROR"
    finally:
        name_server.ttl_s = 60


def test_records_of_services_bring_targets_their_ports_and_weights(
    first: Upstream, second: Upstream, name_server: NameServer
) -> None:
    name_server.records["weighted.test", "SRV"] = [f"1 3 {first.port} one.test.", f"1 1 {first.port} two.test."]
    name_server.records["one.test", "A"] = ["127.0.0.1"]
    name_server.records["two.test", "A"] = ["127.0.0.2"]
    # The port of the target does not count, its weight decides only whether it is used.
    upstream = {"name": "weighted.up", "targets": [{"target": "weighted.test:1", "weight": 10}]}
    service = {"host": "weighted.up", "routes": [{"paths": ["/weighted"]}]}
    with Gateway(
        document(services=[service], upstreams=[upstream]), workers=1, dns_resolver=name_server.address
    ) as gateway:
        bodies = [_body(gateway, "weighted") for _ in range(8)]
    assert (bodies.count("first"), bodies.count("second")) == (6, 2)


def test_the_second_name_server_answers_where_the_first_is_silent(first: Upstream, name_server: NameServer) -> None:
    name_server.records["helped.test", "A"] = ["127.0.0.1"]
    service = {"host": "helped.test", "port": first.port, "routes": [{"paths": ["/helped"]}]}
    with NameServer() as silent:
        silent.manners["helped.test"] = Manner.SILENCE
        resolvers = f"{silent.address},{name_server.address}"
        with Gateway(document(services=[service]), workers=1, dns_resolver=resolvers) as gateway:
            assert _body(gateway, "helped") == "first"


def test_the_order_of_kinds_is_a_setting(first: Upstream, name_server: NameServer) -> None:
    name_server.records["ordered.test", "A"] = ["127.0.0.1"]
    name_server.records["ordered.test", "SRV"] = ["1 1 1 nowhere.test."]
    service = {"host": "ordered.test", "port": first.port, "routes": [{"paths": ["/ordered"]}]}
    settings = {"workers": 1, "dns_resolver": name_server.address, "dns_order": "LAST,A"}
    with Gateway(document(services=[service]), **settings) as gateway:
        assert _body(gateway, "ordered") == "first"
    assert name_server.asked("ordered.test", "SRV") == 0


@pytest.fixture(scope="module")
def asking(name_server: NameServer) -> Iterator[Gateway]:
    """A gateway whose plugin asks `kong.dns`."""
    configuration = document(routes=[{"paths": ["/"]}]) | {"plugins": [{"name": "resolves"}]}
    settings = {"workers": 1, "dns_resolver": name_server.address, "plugins": "resolves"}
    with Gateway(configuration, plugin_path=PLUGIN_DIRECTORY, **settings) as running:
        yield running


def _told(gateway: Gateway, query: str) -> Any:
    response = gateway.get(f"/?{query}")
    assert response.status == 200, response.body
    return response.json()


def test_plugins_resolve_by_the_settings_and_the_cache_of_requests(asking: Gateway, name_server: NameServer) -> None:
    name_server.records["plugin.test", "A"] = ["127.0.0.1", "127.0.0.2"]
    name_server.records["plugin.test", "AAAA"] = ["::1"]
    four = [{"name": "plugin.test", "address": f"127.0.0.{last}", "type": 1} for last in (1, 2)]
    for _ in range(3):
        # The name server turns them around.
        assert sorted(_told(asking, "name=plugin.test"), key=lambda one: one["address"]) == four
    assert _told(asking, "name=plugin.test&type=28") == [{"name": "plugin.test", "address": "::1", "type": 28}]
    assert sorted(_told(asking, "name=plugin.test&port=80") for _ in range(2)) == [["127.0.0.1", 80], ["127.0.0.2", 80]]
    assert (name_server.asked("plugin.test", "A"), name_server.asked("plugin.test", "AAAA")) == (1, 1)


def test_plugins_get_the_ports_of_srv(asking: Gateway, name_server: NameServer) -> None:
    name_server.records["service.test", "SRV"] = ["1 7 8080 host.test."]
    name_server.records["host.test", "A"] = ["127.0.0.9"]
    record = {"name": "service.test", "address": "127.0.0.9", "type": 33}
    assert _told(asking, "name=service.test&type=33") == [record | {"port": 8080, "weight": 7, "target": "host.test"}]
    assert _told(asking, "name=service.test&port=80") == ["127.0.0.9", 8080]


def test_plugins_are_told_why_a_name_has_no_address(asking: Gateway, name_server: NameServer) -> None:
    assert _told(asking, "name=missing.test") == "dns server error: 3 name error"
    name_server.records["broken.test", "A"] = ["127.0.0.1"]
    name_server.manners["broken.test"] = Manner.FAILURE
    assert _told(asking, "name=broken.test") == "dns server error: 2 server failure"


def test_the_use_of_names_is_shown(asking: Gateway, name_server: NameServer) -> None:
    name_server.records["shown.test", "A"] = ["127.0.0.1"]
    for _ in range(3):
        _told(asking, "name=shown.test")
    _told(asking, "name=unknown.test")
    shown = asking.admin_request("GET", "/status/dns").json()
    assert shown["worker"] == {"id": 0, "count": 1}
    once = {"hit": 0, "stale": 0, "miss": 1, "query_succ": 0, "query_fail": 1, "runs": 1}
    assert shown["stats"]["shown.test"] == once | {"hit": 2, "query_succ": 1, "query_fail": 0, "runs": 3}
    assert shown["stats"]["unknown.test"] == once


def test_a_set_time_to_live_counts_instead_of_the_records(
    first: Upstream, second: Upstream, name_server: NameServer
) -> None:
    services = [
        {"name": name, "host": f"{name}.test", "port": first.port, "routes": [{"paths": [f"/{name}"]}]}
        for name in ("kept", "renewed")
    ]
    name_server.records["kept.test", "A"] = ["127.0.0.1"]
    name_server.records["renewed.test", "A"] = ["127.0.0.1"]
    name_server.ttl_s = 0
    try:
        settings = {"workers": 1, "dns_resolver": name_server.address}
        with Gateway(document(services=services), dns_valid_ttl=3600, **settings) as gateway:
            assert _body(gateway, "kept") == "first"
            name_server.records["kept.test", "A"] = ["127.0.0.2"]
            assert [_body(gateway, "kept") for _ in range(20)] == ["first"] * 20
            assert name_server.asked("kept.test", "A") == 1
        name_server.ttl_s = 3600
        with Gateway(document(services=services), dns_valid_ttl=0.1, **settings) as gateway:
            assert _body(gateway, "renewed") == "first"
            name_server.records["renewed.test", "A"] = ["127.0.0.2"]
            assert wait_until(lambda: _body(gateway, "renewed") == "second")
    finally:
        name_server.ttl_s = 60


class _WithSystemConfiguration(Gateway):
    """A gateway that finds another /etc/resolv.conf than everybody else."""

    def __init__(self, system: Path, config: dict[str, Any], **settings: Any) -> None:
        self._system = system
        super().__init__(config, **settings)

    def start_command(self) -> list[str]:
        script = 'mount --bind "$0" /etc/resolv.conf && exec "$@"'
        return ["unshare", "--mount", "sh", "-c", script, str(self._system), *super().start_command()]


def _can_have_its_own_files() -> bool:
    return shutil.which("unshare") is not None and subprocess.run(["unshare", "--mount", "true"]).returncode == 0


@pytest.mark.parametrize(
    ("options", "host", "asked", "not_asked"),
    [
        # Fewer dots than `ndots`: the domains come first, in their order, then the name itself.
        ("ndots:1", "short", ["short.one.search.test", "short.two.search.test"], ["short"]),
        ("ndots:2", "a.dotted", ["a.dotted.one.search.test", "a.dotted.two.search.test"], ["a.dotted"]),
        # As many: the name itself comes first.
        ("ndots:1", "b.dotted", ["b.dotted", "b.dotted.one.search.test", "b.dotted.two.search.test"], []),
        # A dot at the end: nothing is added.
        ("ndots:5", "whole.two.search.test.", ["whole.two.search.test"], ["whole.two.search.test.one.search.test"]),
    ],
)
def test_names_are_searched_for_in_the_domains_of_the_system(
    first: Upstream,
    name_server: NameServer,
    tmp_path: Path,
    options: str,
    host: str,
    asked: list[str],
    not_asked: list[str],
) -> None:
    if not _can_have_its_own_files():
        pytest.skip("the test may not have a file system of its own")
    system = tmp_path / "resolv.conf"
    system.write_text(f"search one.search.test two.search.test\noptions {options}\nnameserver 127.0.0.1\n")
    name_server.records[asked[-1], "A"] = ["127.0.0.1"]
    service = {"host": host, "port": first.port, "routes": [{"paths": ["/searched"]}]}
    settings = {"workers": 1, "dns_resolver": name_server.address, "dns_order": "A"}
    with _WithSystemConfiguration(system, document(services=[service]), **settings) as gateway:
        assert _body(gateway, "searched") == "first"
    order = [name for name, _, _ in name_server.questions if name in (*asked, *not_asked)]
    assert order == asked
