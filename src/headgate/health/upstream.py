"""The health of one upstream on this node: its addresses with their states, and what is shown of them.

Owns which addresses there are (those that any worker uses) and their state machines. Who reports, who probes and who is
told of changes is `monitor`. Everything runs on one loop.
"""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from headgate.engine import HealthMachine, health_machine
from headgate.health.checks import Checks
from headgate.health.pools import AddressKey, Pool, PoolTarget

REMEMBERED_S: Final = 300.0
"""An address that no worker uses keeps its state for this long (reference: balancing 2)."""

HEALTHY_STATES: Final = frozenset(("healthy", "mostly_healthy"))


@dataclass
class CheckedAddress:
    """An address and its state."""

    machine: HealthMachine
    gone_since: float | None = None
    last_probe: float = float("-inf")
    is_probed: bool = False
    """A probe is on its way."""

    @property
    def is_healthy(self) -> bool:
        """Whether it gets traffic."""
        return self.machine.health in HEALTHY_STATES


@dataclass
class UpstreamHealth:
    """One upstream."""

    id: str
    name: str
    checks: Checks
    addresses: dict[AddressKey, CheckedAddress] = field(default_factory=dict)
    probes_on_way: int = 0
    in_rotation: list[tuple[AddressKey, CheckedAddress]] = field(default_factory=list)
    """The addresses that a worker uses with a weight, healthy or not: those to probe."""
    _pools: dict[int, Pool] = field(default_factory=dict)

    def take_pool(self, pid: int, pool: Pool) -> list[AddressKey]:
        """Take what a worker uses; returns the addresses for which the worker has another state than this node.

        An address that is new here begins with the worker's state: this process may have been replaced.
        """
        self._pools[pid] = pool
        different = []
        for target in pool.targets:
            for address in target.addresses:
                key = target.key(address)
                known = self.addresses.get(key)
                if known is None:
                    known = self.addresses[key] = CheckedAddress(health_machine())
                    if self.checks.has_checker and address.health not in HEALTHY_STATES:
                        known.machine.set("unhealthy")
                if known.machine.health != address.health:
                    different.append(key)
        self._mark_gone()
        return different

    def recall(self, key: AddressKey, health: str) -> None:
        """Take over the state of an address that no worker has reported yet."""
        known = self.addresses.setdefault(key, CheckedAddress(health_machine(), gone_since=time.monotonic()))
        known.machine.set(health)

    def forget_worker(self, pid: int) -> None:
        """Drop what a worker used: it has ended."""
        if self._pools.pop(pid, None) is not None:
            self._mark_gone()

    def _mark_gone(self) -> None:
        now = time.monotonic()
        used = {target.key(address) for target in self._all_targets() for address in target.addresses}
        for key, known in list(self.addresses.items()):
            if key in used:
                known.gone_since = None
            elif known.gone_since is None:
                known.gone_since = now
            elif now - known.gone_since > REMEMBERED_S:
                del self.addresses[key]
        weighted = {
            target.key(address)
            for target in self._all_targets()
            for address in target.addresses
            if target.weight > 0 and address.weight > 0
        }
        self.in_rotation = [(key, known) for key, known in self.addresses.items() if key in weighted]

    def _all_targets(self) -> Iterator[PoolTarget]:
        for pool in self._pools.values():
            yield from pool.targets

    def targets(self) -> dict[tuple[str, int], PoolTarget]:
        """Return the targets by host and port, each with the addresses that any worker uses."""
        merged: dict[tuple[str, int], PoolTarget] = {}
        for target in self._all_targets():
            known = merged.get((target.host, target.port))
            if known is None:
                merged[target.host, target.port] = target
                continue
            have = {known.key(address) for address in known.addresses}
            more = [address for address in target.addresses if target.key(address) not in have]
            if more:
                merged[target.host, target.port] = PoolTarget(
                    known.host, known.port, known.weight, known.dns, [*known.addresses, *more]
                )
        return merged

    def health_of(self, key: AddressKey) -> str:
        """Return what is shown of an address: `HEALTHY`, `UNHEALTHY` or `HEALTHCHECKS_OFF`."""
        if not self.checks.has_checker:
            return "HEALTHCHECKS_OFF"
        known = self.addresses.get(key)
        return "HEALTHY" if known is None or known.is_healthy else "UNHEALTHY"

    def describe_target(self, host: str, port: int) -> tuple[str, dict[str, Any]] | None:
        """Return a target's health and its `data` (reference: admin-api 5); None when no worker has it."""
        target = self.targets().get((host, port))
        if target is None:
            return None
        addresses = [
            {
                "ip": address.ip,
                "port": address.port,
                "weight": address.weight,
                "health": self.health_of(target.key(address)),
            }
            for address in target.addresses
        ]
        data = {**self._described(target), "addresses": addresses}
        shown = {address["health"] for address in addresses}
        if not shown:
            return "DNS_ERROR", data
        return next(state for state in ("HEALTHCHECKS_OFF", "HEALTHY", "UNHEALTHY") if state in shown), data

    def describe_balancer(self) -> dict[str, Any]:
        """Return the balancer's health (reference: admin-api 5, `balancer_health`)."""
        hosts = []
        total = available = 0
        for target in self.targets().values():
            described = self._described(target)
            total += described["weight"]["total"]
            available += described["weight"]["available"]
            addresses = [
                {
                    "ip": address.ip,
                    "port": address.port,
                    "weight": address.weight,
                    "healthy": self.health_of(target.key(address)) != "UNHEALTHY",
                }
                for address in target.addresses
            ]
            hosts.append({**described, "addresses": addresses})
        is_healthy = total > 0 and available * 100 / total > self.checks.threshold_percent
        state = "HEALTHY" if is_healthy else "UNHEALTHY"
        return {
            "id": self.id,
            "health": state if self.checks.has_checker else "HEALTHCHECKS_OFF",
            "balancer_health": state,
            "details": {
                "healthy": is_healthy,
                "weight": {"total": total, "available": available, "unavailable": total - available},
                "hosts": hosts,
            },
        }

    def _described(self, target: PoolTarget) -> dict[str, Any]:
        total = available = 0
        for address in target.addresses:
            total += address.weight
            if self.health_of(target.key(address)) != "UNHEALTHY":
                available += address.weight
        return {
            "host": target.host,
            "port": target.port,
            "dns": target.dns,
            "nodeWeight": target.weight,
            "weight": {"total": total, "available": available, "unavailable": total - available},
        }


def split_target(target: str) -> tuple[str, int]:
    """Return host and port of a target's text, the host without brackets."""
    host, _, port = target.rpartition(":")
    return host.removeprefix("[").removesuffix("]"), int(port)


def target_of(entity: Mapping[str, Any]) -> tuple[str, int]:
    """Return host and port of a target entity."""
    return split_target(entity["target"])
