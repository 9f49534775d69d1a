"""The monitor: one state per address for the node, from reports of workers, probes and by hand."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from headgate.cluster.frames import AddressHealth, HealthStates
from headgate.entities.registry import ENTITY_TYPES
from headgate.health.monitor import HealthError, HealthMonitor
from headgate.store.snapshot import EMPTY, Snapshot

UPSTREAM_ID = "0dc6f45b-8f8d-40d2-a504-473544ee190b"
PASSIVE = {"passive": {"healthy": {"successes": 2}, "unhealthy": {"tcp_failures": 3}}}


def snapshot(healthchecks: dict[str, Any], *targets: str, revision: int = 1) -> Snapshot:
    upstream, faults = ENTITY_TYPES["upstreams"].examine(
        {"id": UPSTREAM_ID, "name": "up", "healthchecks": healthchecks}, now=1
    )
    assert faults == {}
    listed = {
        target: {"id": target, "target": target, "weight": 100, "upstream": {"id": UPSTREAM_ID}} for target in targets
    }
    return Snapshot({"upstreams": {UPSTREAM_ID: upstream}, "targets": listed}, revision=revision)


def pool(*addresses: tuple[str, str], host: str = "target.test", port: int = 80) -> dict[str, Any]:
    """Return a report: one target with these addresses and their states on the worker."""
    found = [{"ip": ip, "port": port, "weight": 100, "health": health} for ip, health in addresses]
    target = {"host": host, "port": port, "weight": 100, "dns": "A", "addresses": found}
    return {"type": "pool", "upstream": UPSTREAM_ID, "targets": [target]}


def seen(observation: str, count: int = 1, ip: str = "10.0.0.1") -> dict[str, Any]:
    address = {"host": "target.test", "ip": ip, "port": 80}
    return {"type": "observed", "upstream": UPSTREAM_ID, **address, "observation": observation, "count": count}


def changed(health: str, ip: str = "10.0.0.1") -> dict[str, Any]:
    return {
        "type": "changed",
        "upstream": UPSTREAM_ID,
        "host": "target.test",
        "ip": ip,
        "port": 80,
        "health": health,
    }


class World:
    def __init__(self, current: Snapshot) -> None:
        self.current = current
        self.sent: list[AddressHealth] = []
        self.told: list[tuple[str, str, str]] = []
        self.monitor = HealthMonitor(lambda: self.current, self._send, self._tell)

    async def _send(self, states: HealthStates) -> None:
        self.sent.extend(states.states)

    async def _tell(self, source: str, event: str, data: dict[str, Any]) -> None:
        self.told.append((source, event, f"{data['upstream']} {data['ip']} {data['health']}"))

    async def report(self, pid: int, *reports: dict[str, Any]) -> None:
        self.monitor.take_reports(pid, json.dumps(reports).encode())
        # What was started is done after the loop has gone around twice.
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    def states(self) -> list[str]:
        return [one.health for one in self.sent]

    def target(self, target: str = "target.test:80") -> tuple[str, dict[str, Any]]:
        return self.monitor.target_health(UPSTREAM_ID, {"target": target})


def play(current: Snapshot, scenario: Callable[[World], Awaitable[None]]) -> None:
    async def whole() -> None:
        await scenario(World(current))

    asyncio.run(whole())


def test_observations_of_all_workers_count_together(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(world: World) -> None:
        for pid in (1, 2):
            await world.report(pid, pool(("10.0.0.1", "healthy")))
        await world.report(1, seen("tcp_failure", 2))
        assert world.states() == ["mostly_healthy"]
        await world.report(2, seen("tcp_failure"))
        assert world.states() == ["mostly_healthy", "unhealthy"]
        assert world.told == [("balancer", "health", "up 10.0.0.1 unhealthy")]
        assert caplog.messages == [
            "upstream up: target target.test (10.0.0.1:80) is unhealthy: connections that fail",
        ]
        assert world.target()[0] == "UNHEALTHY"
        await world.report(1, seen("success"), seen("success"))
        assert world.states()[2:] == ["mostly_unhealthy", "healthy"]
        assert len(world.told) == 2

    play(snapshot(PASSIVE, "target.test:80"), scenario)


def test_a_change_that_a_worker_made_is_taken_over() -> None:
    async def scenario(world: World) -> None:
        await world.report(1, pool(("10.0.0.1", "healthy")))
        await world.report(1, changed("unhealthy"))
        assert world.states() == ["unhealthy"]
        # The worker holds on to what it decided until it hears the same.
        await world.report(1, changed("unhealthy"))
        assert world.states() == ["unhealthy", "unhealthy"]
        assert len(world.told) == 1

    play(snapshot(PASSIVE, "target.test:80"), scenario)


def test_what_is_unhealthy_is_given_to_workers_that_are_new() -> None:
    async def scenario(world: World) -> None:
        assert world.monitor.states() == HealthStates([])
        await world.report(1, pool(("10.0.0.1", "healthy"), ("10.0.0.2", "healthy")))
        await world.report(1, changed("unhealthy"))
        assert [(one.ip, one.health) for one in world.monitor.states().states] == [("10.0.0.1", "unhealthy")]

    play(snapshot(PASSIVE, "target.test:80"), scenario)


def test_a_monitor_begins_with_what_was_known_before() -> None:
    changes: list[int] = []

    async def scenario(world: World) -> None:
        world.monitor.on_change = lambda: changes.append(1)
        known = AddressHealth(UPSTREAM_ID, "target.test", "10.0.0.1", 80, "unhealthy")
        world.monitor.remember(HealthStates([known, AddressHealth("gone", "h", "10.0.0.1", 80, "unhealthy")]))
        assert world.monitor.states() == HealthStates([known])
        await world.report(1, pool(("10.0.0.1", "healthy")))
        assert world.states() == ["unhealthy"], "the worker is told"
        assert changes == []
        await world.report(1, seen("success", 2))
        assert world.target()[0] == "HEALTHY"
        assert changes == [1]

    play(snapshot(PASSIVE, "target.test:80"), scenario)


def test_a_replaced_monitor_learns_states_from_the_workers_and_teaches_new_ones() -> None:
    async def scenario(world: World) -> None:
        await world.report(1, pool(("10.0.0.1", "unhealthy")))
        assert world.sent == []
        assert world.target()[0] == "UNHEALTHY"
        await world.report(2, pool(("10.0.0.1", "healthy")))
        assert world.states() == ["unhealthy"]

    play(snapshot(PASSIVE, "target.test:80"), scenario)


def test_a_pool_that_is_ahead_of_the_configuration_is_kept_until_that_is_in_force() -> None:
    async def scenario(world: World) -> None:
        await world.report(1, pool(("10.0.0.1", "healthy")))
        world.current = snapshot(PASSIVE, "target.test:80", revision=2)
        assert world.target()[0] == "HEALTHY"

    play(EMPTY, scenario)


@pytest.mark.parametrize("before", [EMPTY, snapshot({}, "target.test:80")])
def test_what_traffic_shows_ahead_of_the_configuration_is_not_lost(before: Snapshot) -> None:
    async def scenario(world: World) -> None:
        await world.report(1, pool(("10.0.0.1", "healthy")), changed("unhealthy"))
        world.current = snapshot(PASSIVE, "target.test:80", revision=2)
        assert world.target()[0] == "UNHEALTHY"

    play(before, scenario)


def test_what_is_shown_of_a_target() -> None:
    async def scenario(world: World) -> None:
        with pytest.raises(HealthError, match="Upstream up has no balancer"):
            world.target()
        await world.report(1, pool(("10.0.0.1", "healthy"), ("10.0.0.2", "healthy")))
        await world.report(1, changed("unhealthy"))
        health, data = world.target()
        assert health == "HEALTHY", "one address is enough"
        assert data == {
            "host": "target.test",
            "port": 80,
            "dns": "A",
            "nodeWeight": 100,
            "weight": {"total": 200, "available": 100, "unavailable": 100},
            "addresses": [
                {"ip": "10.0.0.1", "port": 80, "weight": 100, "health": "UNHEALTHY"},
                {"ip": "10.0.0.2", "port": 80, "weight": 100, "health": "HEALTHY"},
            ],
        }
        await world.report(1, pool())
        assert world.target()[0] == "DNS_ERROR"

    play(snapshot(PASSIVE, "target.test:80"), scenario)


def test_what_is_shown_of_a_balancer() -> None:
    async def scenario(world: World) -> None:
        await world.report(1, pool(("10.0.0.1", "healthy"), ("10.0.0.2", "healthy")))
        shown = world.monitor.balancer_health(UPSTREAM_ID)
        assert (shown["id"], shown["health"], shown["balancer_health"]) == (UPSTREAM_ID, "HEALTHY", "HEALTHY")
        await world.report(1, changed("unhealthy"))
        shown = world.monitor.balancer_health(UPSTREAM_ID)
        assert (shown["health"], shown["details"]["healthy"]) == ("UNHEALTHY", False), "half is not above half"
        assert shown["details"]["weight"] == {"total": 200, "available": 100, "unavailable": 100}
        assert [one["healthy"] for one in shown["details"]["hosts"][0]["addresses"]] == [False, True]

    play(snapshot({**PASSIVE, "threshold": 50}, "target.test:80"), scenario)


def test_without_a_checker_nothing_is_marked() -> None:
    async def scenario(world: World) -> None:
        await world.report(1, pool(("10.0.0.1", "healthy")), seen("tcp_failure", 100), changed("unhealthy"))
        assert world.target()[0] == "HEALTHCHECKS_OFF"
        assert world.monitor.balancer_health(UPSTREAM_ID)["health"] == "HEALTHCHECKS_OFF"
        with pytest.raises(HealthError, match="no healthchecker found for up"):
            await world.monitor.set_health(UPSTREAM_ID, {"target": "target.test:80"}, is_healthy=False)

    play(snapshot({}, "target.test:80"), scenario)


def test_states_are_set_by_hand_for_a_target_or_one_address() -> None:
    told: list[dict[str, Any]] = []

    async def scenario(world: World) -> None:
        async def on_manual(message: dict[str, Any]) -> None:
            told.append(message)

        world.monitor.on_manual = on_manual
        target = {"target": "target.test:80"}
        await world.report(1, pool(("10.0.0.1", "healthy"), ("10.0.0.2", "healthy")))
        await world.monitor.set_health(UPSTREAM_ID, target, is_healthy=False, address="10.0.0.2:80")
        await asyncio.sleep(0)
        assert [(one.ip, one.health, one.is_reset) for one in world.sent] == [("10.0.0.2", "unhealthy", True)]
        await world.monitor.set_health(UPSTREAM_ID, target, is_healthy=False)
        assert world.target()[0] == "UNHEALTHY"
        with pytest.raises(HealthError, match="target not found"):
            await world.monitor.set_health(UPSTREAM_ID, target, is_healthy=True, address="10.0.0.9:80")
        # What one node tells, another takes over.
        await world.monitor.take_manual({**told[1], "is_healthy": True})
        assert world.target()[0] == "HEALTHY"

    play(snapshot(PASSIVE, "target.test:80"), scenario)
    assert [len(message["addresses"]) for message in told] == [1, 2]


def test_only_addresses_in_rotation_are_probed() -> None:
    probed: list[int] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        probed.append(1)
        writer.write(b"HTTP/1.1 500 Broken\r\n\r\n")
        writer.close()

    async def scenario(world: World) -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        await world.report(1, pool(("127.0.0.1", "healthy"), host="127.0.0.1", port=port))
        running = asyncio.ensure_future(world.monitor.run())
        async with asyncio.timeout(10):
            while world.target(f"127.0.0.1:{port}")[0] != "UNHEALTHY":  # noqa: ASYNC110 a state, not an event
                await asyncio.sleep(0.01)
        assert world.told == [("balancer", "health", "up 127.0.0.1 unhealthy")]
        assert probed == [1]
        world.monitor.forget_worker(1)
        running.cancel()
        server.close()

    active = {"healthy": {"interval": 0.1}, "unhealthy": {"interval": 3600, "http_failures": 1}}
    play(snapshot({"active": active}, "127.0.0.1:1"), scenario)
