"""The health of all upstreams of the node, in control: takes what workers see, probes, decides, tells everybody.

Owns the one state machine per address. Workers report what traffic shows; probes run here, once per node. Every change
goes to all workers at once, and to plugins as a worker event of source `balancer`, event `health`. A worker that put an
address out by its own traffic is right: the change is taken over. Health is of this node only; what is set by hand goes
to other nodes through `on_manual`.
"""

import asyncio
import logging
import ssl
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Final

from headgate.cluster.frames import AddressHealth, HealthStates
from headgate.errors import GatewayError
from headgate.health.checks import Checks
from headgate.health.pools import AddressKey, Changed, Observed, Pool, PoolAddress, PoolTarget, Report, decode_reports
from headgate.health.probe import probe
from headgate.health.upstream import HEALTHY_STATES, CheckedAddress, UpstreamHealth, target_of
from headgate.policy.compile import has_checker
from headgate.store.snapshot import Snapshot

EVENT_SOURCE: Final = "balancer"
EVENT_NAME: Final = "health"
HEALTH_CHANNEL: Final = "balancer:post_health"
"""Channel of the cluster on which nodes tell each other what was set by hand."""

_log = logging.getLogger("headgate.health")
_TICK_S = 0.1
_CAUSES: Final = {
    "success": "probes or answers that are good",
    "http_failure": "answers that count as failures",
    "tcp_failure": "connections that fail",
    "timeout": "no answer in time",
}
"""What the log says of the last observation before a change."""
# Nothing is probed: only changes of the configuration are looked for.
_IDLE_TICK_S = 1.0
# Per upstream and worker; a configuration is in force here moments after it is there.
_MOST_EARLY_REPORTS: Final = 1_000


def _is_called(target: PoolTarget, one: PoolAddress, name: str | None) -> bool:
    """Say whether a text names an address of a target; None names all."""
    names = (f"{one.ip}:{one.port}", f"[{one.ip}]:{one.port}", f"{target.host}:{one.port}")
    return name is None or name in names


class HealthError(GatewayError):
    """The health of an upstream cannot be shown or set; the text is for the client (status 400)."""


class HealthMonitor:
    """All upstreams of the node.

    Args: `current` gives the configuration in force; `send` sends states to all workers; `tell` a worker event;
    `trusted_pem` verifies probes over TLS; `client_pair` is the node's client certificate and key, PEM.
    """

    def __init__(
        self,
        current: Callable[[], Snapshot],
        send: Callable[[HealthStates], Awaitable[None]],
        tell: Callable[[str, str, dict[str, Any]], Awaitable[None]],
        *,
        trusted_pem: str = "",
        client_pair: tuple[str, str] | None = None,
    ) -> None:
        self._current = current
        self._send = send
        self._tell = tell
        self._trusted_pem = trusted_pem
        self._client_pair = client_pair
        self.on_manual: Callable[[dict[str, Any]], Awaitable[None]] | None = None
        self.on_change: Callable[[], None] | None = None
        """Called when an address has come into or out of use."""
        self._remembered: list[AddressHealth] = []
        self._snapshot: Snapshot | None = None
        self._upstreams: dict[str, UpstreamHealth] = {}
        self._early: dict[tuple[int, str], list[Report]] = {}
        self._contexts: dict[str, ssl.SSLContext] = {}
        self._work: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Probe until cancelled."""
        try:
            while True:
                self._renew()
                probing = [one for one in self._upstreams.values() if one.checks.probing.is_on]
                for upstream in probing:
                    self._probe_due(upstream)
                await asyncio.sleep(_TICK_S if probing else _IDLE_TICK_S)
        finally:
            for task in self._work:
                task.cancel()

    def remember(self, states: HealthStates) -> None:
        """Begin with what the control process before knew, as far as the configuration has it still."""
        self._remembered = states.states

    # === what workers say

    def take_reports(self, pid: int, body: bytes) -> None:
        """Take the reports of a worker. Raises: msgspec.DecodeError."""
        self._renew()
        for report in decode_reports(body):
            upstream = self._upstreams.get(report.upstream)
            is_known = upstream is not None and (isinstance(report, Pool) or upstream.checks.has_checker)
            if upstream is not None and is_known:
                self._take_report(pid, upstream, report)
            else:
                self._take_early(pid, report)

    def _take_early(self, pid: int, report: Report) -> None:
        """Keep a report for later: workers run a configuration a moment before it is in force here."""
        waiting = self._early.setdefault((pid, report.upstream), [])
        if isinstance(report, Pool):
            # It is whole, with the states that what was seen before has led to.
            waiting.clear()
        if len(waiting) < _MOST_EARLY_REPORTS:
            waiting.append(report)

    def _take_report(self, pid: int, upstream: UpstreamHealth, report: Report) -> None:
        if isinstance(report, Pool):
            self._spread(upstream, upstream.take_pool(pid, report))
        else:
            self._take_seen(upstream, report)

    def _take_seen(self, upstream: UpstreamHealth, report: Observed | Changed) -> None:
        key = AddressKey(report.host, report.ip, report.port)
        known = upstream.addresses.get(key)
        if known is None or not upstream.checks.has_checker:
            return
        if isinstance(report, Observed):
            self._observe(upstream, key, known, report.observation, report.count, upstream.checks.passive_thresholds)
        elif known.is_healthy != (report.health in HEALTHY_STATES):
            self._set(upstream, key, known, report.health, "traffic of a worker")
        else:
            # The worker holds on to its decision until it hears that it is ours, too.
            self._spread(upstream, [key])

    def states(self) -> HealthStates:
        """Return the states of all addresses that are not simply healthy: for a worker that is new."""
        self._renew()
        return HealthStates(
            [
                AddressHealth(upstream.id, key.host, key.ip, key.port, known.machine.health)
                for upstream in self._upstreams.values()
                if upstream.checks.has_checker
                for key, known in upstream.addresses.items()
                if known.machine.health != "healthy"
            ]
        )

    def forget_worker(self, pid: int) -> None:
        """Drop what a worker used: it has ended."""
        self._early = {key: pool for key, pool in self._early.items() if key[0] != pid}
        for upstream in self._upstreams.values():
            upstream.forget_worker(pid)

    # === what the Admin API asks

    def target_health(self, upstream_id: str, target: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        """Return a target entity's `health` (HEALTHY, UNHEALTHY, HEALTHCHECKS_OFF, DNS_ERROR) and `data`.

        Source: admin-api reference 5. `data` holds host, port, dns, nodeWeight, weight and addresses.
        Raises: HealthError `Upstream <name> has no balancer`, no worker runs it yet.
        """
        upstream = self._balanced(upstream_id)
        described = upstream.describe_target(*target_of(target))
        if described is None:
            raise HealthError(f"Upstream {upstream.name} has no balancer")
        return described

    def balancer_health(self, upstream_id: str) -> dict[str, Any]:
        """Return an upstream's health as `balancer_health=1` shows it: id, health, balancer_health, details.

        Raises: HealthError, as `target_health`.
        """
        return self._balanced(upstream_id).describe_balancer()

    async def set_health(
        self, upstream_id: str, target: Mapping[str, Any], *, is_healthy: bool, address: str | None = None
    ) -> None:
        """Set the state of a target entity's addresses by hand, on this node and those that `on_manual` reaches.

        Args: `address`: only this one, `ip:port` or `host:port`.
        Raises: HealthError: no checker, no balancer, or no such address.
        """
        upstream = self._balanced(upstream_id)
        if not upstream.checks.has_checker:
            raise HealthError(f"no healthchecker found for {upstream.name}")
        found = upstream.targets().get(target_of(target))
        chosen = [] if found is None else [found.key(one) for one in found.addresses if _is_called(found, one, address)]
        if not chosen:
            raise HealthError(f"target not found for {address or target['target']}")
        await self.set_states(upstream_id, chosen, is_healthy=is_healthy)
        if self.on_manual is not None:
            message = {"upstream": upstream_id, "is_healthy": is_healthy, "addresses": [list(key) for key in chosen]}
            await self.on_manual(message)

    async def take_manual(self, message: Mapping[str, Any]) -> None:
        """Take over what was set by hand on another node."""
        keys = [AddressKey(*address) for address in message["addresses"]]
        await self.set_states(message["upstream"], keys, is_healthy=message["is_healthy"])

    async def set_states(self, upstream_id: str, keys: Iterable[AddressKey], *, is_healthy: bool) -> None:
        """Set addresses of an upstream; counters start from zero. Unknown ones are passed over."""
        upstream = self._upstreams.get(upstream_id)
        if upstream is None or not upstream.checks.has_checker:
            return
        for key in keys:
            known = upstream.addresses.get(key)
            if known is not None:
                self._set(upstream, key, known, "healthy" if is_healthy else "unhealthy", "by hand", is_reset=True)

    def _balanced(self, upstream_id: str) -> UpstreamHealth:
        self._renew()
        upstream = self._upstreams.get(upstream_id)
        if upstream is None or not upstream.targets():
            entity = self._current().get("upstreams", upstream_id)
            name = upstream_id if entity is None else entity["name"]
            if upstream is None or self._current().children("targets", "upstream", upstream_id):
                raise HealthError(f"Upstream {name} has no balancer")
        return upstream

    # === states

    def _observe(
        self,
        upstream: UpstreamHealth,
        key: AddressKey,
        known: CheckedAddress,
        observation: str,
        count: int,
        thresholds: Any,
    ) -> None:
        before = known.machine.health
        if known.machine.observe(observation, count, thresholds):
            self._changed(upstream, key, before, known.machine.health, _CAUSES.get(observation, observation))

    def _set(
        self,
        upstream: UpstreamHealth,
        key: AddressKey,
        known: CheckedAddress,
        health: str,
        cause: str,
        *,
        is_reset: bool = False,
    ) -> None:
        before = known.machine.health
        known.machine.set(health)
        self._changed(upstream, key, before, health, cause, is_reset=is_reset)

    def _changed(
        self,
        upstream: UpstreamHealth,
        key: AddressKey,
        before: str,
        after: str,
        cause: str,
        *,
        is_reset: bool = False,
    ) -> None:
        # Workers need to hear of first failures only where successes count: they report successes from then on.
        if after != "mostly_healthy" or is_reset or upstream.checks.passive_thresholds.successes:
            self._spread(upstream, [key], is_reset=is_reset)
        if (before in HEALTHY_STATES) == (after in HEALTHY_STATES):
            return
        if self.on_change is not None:
            self.on_change()
        _log.warning(
            "upstream %s: target %s (%s:%d) is %s: %s", upstream.name, key.host, key.ip, key.port, after, cause
        )
        data = {
            "upstream_id": upstream.id,
            "upstream": upstream.name,
            "hostname": key.host,
            "ip": key.ip,
            "port": key.port,
            "health": after,
        }
        self._start(self._tell(EVENT_SOURCE, EVENT_NAME, data))

    def _spread(self, upstream: UpstreamHealth, keys: Iterable[AddressKey], *, is_reset: bool = False) -> None:
        states = [
            AddressHealth(upstream.id, key.host, key.ip, key.port, known.machine.health, is_reset)
            for key in keys
            if (known := upstream.addresses.get(key)) is not None
        ]
        if states:
            self._start(self._send(HealthStates(states)))

    # === configuration

    def _renew(self) -> None:
        """Take the configuration in force, when it is another one."""
        snapshot = self._current()
        if self._snapshot is snapshot:
            return
        self._snapshot = snapshot
        self._contexts.clear()
        known, self._upstreams = self._upstreams, {}
        for entity in snapshot.all("upstreams"):
            upstream = known.get(entity["id"])
            checks = Checks.of(entity, has_checker=has_checker(entity["healthchecks"]))
            if upstream is None:
                upstream = UpstreamHealth(entity["id"], entity["name"], checks)
            elif upstream.checks.has_checker and not checks.has_checker:
                # Nothing is marked without checks.
                for checked in upstream.addresses.values():
                    checked.machine.set("healthy")
            upstream.name, upstream.checks = entity["name"], checks
            self._upstreams[entity["id"]] = upstream
        self._recall()
        early, self._early = self._early, {}
        for (pid, upstream_id), reports in early.items():
            if (upstream := self._upstreams.get(upstream_id)) is not None:
                for report in reports:
                    self._take_report(pid, upstream, report)

    def _recall(self) -> None:
        remembered, self._remembered = self._remembered, []
        for one in remembered:
            upstream = self._upstreams.get(one.upstream)
            if upstream is not None and upstream.checks.has_checker:
                upstream.recall(AddressKey(one.host, one.ip, one.port), one.health)

    # === probes

    def _probe_due(self, upstream: UpstreamHealth) -> None:
        probing = upstream.checks.probing
        now = time.monotonic()
        for key, known in upstream.in_rotation:
            interval_s = probing.healthy_interval_s if known.is_healthy else probing.unhealthy_interval_s
            # After a change of state the interval of the other group counts from the last probe on.
            if interval_s <= 0 or known.is_probed or now < known.last_probe + interval_s:
                continue
            if upstream.probes_on_way >= probing.concurrency:
                return
            upstream.probes_on_way += 1
            known.is_probed = True
            known.last_probe = now
            self._start(self._probe(upstream, key, known))

    async def _probe(self, upstream: UpstreamHealth, key: AddressKey, known: CheckedAddress) -> None:
        checks = upstream.checks
        try:
            context = self._context(checks) if checks.probing.is_tls else None
            observation = await probe(key, checks, context)
            if observation is not None and upstream.addresses.get(key) is known and upstream.checks.has_checker:
                self._observe(upstream, key, known, observation, 1, upstream.checks.probing.thresholds)
        except (OSError, ssl.SSLError, ValueError) as error:
            # A certificate that cannot be used: said once an interval, the state stays.
            _log.error("upstream %s: probes over TLS cannot be made: %s", upstream.name, error)
        finally:
            upstream.probes_on_way -= 1
            known.is_probed = False

    def _context(self, checks: Checks) -> ssl.SSLContext:
        name = f"{checks.probing.is_verified} {checks.probing.is_grpc} {checks.client_certificate_id}"
        context = self._contexts.get(name)
        if context is None:
            context = self._contexts[name] = self._new_context(checks)
        return context

    def _new_context(self, checks: Checks) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if checks.probing.is_grpc:
            context.set_alpn_protocols(["h2"])
        if not checks.probing.is_verified:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        elif self._trusted_pem:
            context.load_verify_locations(cadata=self._trusted_pem)
        pair = self._client_pair
        if checks.client_certificate_id is not None:
            certificate = self._current().get("certificates", checks.client_certificate_id)
            if certificate is not None:
                pair = (certificate["cert"], certificate["key"])
        if pair is not None:
            # The library reads certificates from files only.
            with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
                file.write("\n".join(pair))
                file.flush()
                context.load_cert_chain(file.name)
        return context

    def _start(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._work.add(task)
        task.add_done_callback(self._work.discard)
