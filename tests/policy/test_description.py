"""Descriptions as people give them: completed, or refused with every fault."""

from typing import Any

import pytest

from headgate.engine import find_route
from headgate.policy.description import Address, Description, DescriptionError, described
from headgate.policy.explain import explain
from tests.policy.plans import World


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, Description(destination=Address(None, 80))),
        (
            {"scheme": "https", "host": "Shop.test:8443", "method": "post", "header": ["X-A: b:c"]},
            Description(
                scheme="https",
                method="POST",
                host="Shop.test:8443",
                headers=(("X-A", "b:c"),),
                sni="shop.test",
                destination=Address(None, 443),
            ),
        ),
        # No server name stands for an address.
        ({"scheme": "wss", "host": "[::1]:1"}, Description("wss", host="[::1]:1", destination=Address(None, 443))),
        (
            {"scheme": "tls", "source": "[::1]:55", "destination": "10.0.0.1", "port": "9443", "sni": "db"},
            Description("tls", sni="db", source=Address("::1", 55), destination=Address("10.0.0.1", 9443)),
        ),
        (
            {"scheme": "udp", "source": "::1", "destination": "10.0.0.1:53"},
            Description("udp", source=Address("::1"), destination=Address("10.0.0.1", 53)),
        ),
    ],
)
def test_what_is_not_said_has_a_default(given: dict[str, Any], expected: Description) -> None:
    assert described(given) == expected


@pytest.mark.parametrize(
    ("given", "faults"),
    [
        ({"scheme": "ftp"}, {"scheme": "expected one of: http, https, ws, wss, tcp, tls, udp"}),
        ({"port": "0", "path": "x"}, {"port": "value should be between 1 and 65535", "path": "should start with: /"}),
        ({"sni": "a"}, {"sni": "there is no server name without TLS: the scheme is http"}),
        ({"port": "81", "destination": "1.1.1.1:82"}, {"port": "the destination has another one: 82"}),
        ({"source": "1.1.1.1:x"}, {"source": "expected IP, IP:PORT or [IP]:PORT"}),
        ({"source": "[::1]5"}, {"source": "expected IP, IP:PORT or [IP]:PORT"}),
        (
            {"scheme": "tcp", "host": "a", "consumer": "anna"},
            {
                "host": "a stream has none",
                "consumer": "a stream has none",
                "port": "a stream needs the port that it connects to, here or with the destination",
            },
        ),
    ],
)
def test_every_fault_is_told(given: dict[str, Any], faults: dict[str, str]) -> None:
    with pytest.raises(DescriptionError) as caught:
        described(given)
    assert caught.value.faults == faults


def route_of(world: World, **given: Any) -> str | None:
    plan = world.plan(router_flavor="expressions")
    description = described(given)
    match = find_route(plan.engine_plan(), description)
    result = explain(plan.snapshot, plan, match, is_tls=description.is_tls, is_stream=description.is_stream)
    return result.route.name if result.route is not None else None


def test_expressions_see_both_ends_of_a_described_request() -> None:
    world = World()
    service = world.service()
    world.route(service, name="far", paths=None, expression='net.src.ip in 10.0.0.0/8 && http.path ^= "/"', priority=2)
    world.route(
        service, name="port", paths=None, expression="net.dst.ip == 127.0.0.1 && net.dst.port == 8443", priority=1
    )
    assert route_of(world, source="10.1.1.1") == "far"
    assert route_of(world, destination="127.0.0.1:8443") == "port"
    assert route_of(world) is None


def test_expressions_see_both_ends_of_a_described_stream() -> None:
    world = World()
    service = world.service(protocol="tcp")
    world.route(
        service,
        name="named",
        protocols=["tls"],
        paths=None,
        expression='tls.sni == "db.test" && net.src.port > 1000',
        priority=1,
    )
    assert route_of(world, scheme="tls", port="9", sni="db.test", source="1.1.1.1:2000") == "named"
    assert route_of(world, scheme="tls", port="9", sni="db.test", source="1.1.1.1:20") is None


def test_websocket_route_is_explained_with_its_own_phases() -> None:
    world = World()
    world.route(world.service(protocol="ws"), name="chat", protocols=["ws", "wss"])
    assert route_of(world, scheme="ws") == "chat"
    assert route_of(world, scheme="wss", host="a.test") == "chat"
