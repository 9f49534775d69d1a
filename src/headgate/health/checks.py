"""How one upstream is checked, read from its entity (reference: balancing 4)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from headgate.engine import Thresholds


@dataclass(frozen=True)
class Probing:
    """Active checks; times in seconds, an interval of 0: that group is not probed."""

    type: str
    path: str
    headers: tuple[tuple[str, str], ...]
    sni: str | None
    is_verified: bool
    timeout_s: float
    concurrency: int
    healthy_interval_s: float
    unhealthy_interval_s: float
    healthy_statuses: frozenset[int]
    unhealthy_statuses: frozenset[int]
    thresholds: Thresholds

    @property
    def is_on(self) -> bool:
        """Whether there is anything to probe: an interval is set."""
        return self.healthy_interval_s > 0 or self.unhealthy_interval_s > 0

    @property
    def is_tls(self) -> bool:
        """Whether TLS is spoken with targets."""
        return self.type in ("https", "grpcs")

    @property
    def is_grpc(self) -> bool:
        """Whether targets are asked by the gRPC health checking protocol."""
        return self.type in ("grpc", "grpcs")

    def observation(self, status: int) -> str | None:
        """Return what a status counts as; None: nothing. 0 is a status that could not be read."""
        if status in self.healthy_statuses:
            return "success"
        return "http_failure" if status == 0 or status in self.unhealthy_statuses else None


@dataclass(frozen=True)
class Checks:
    """All that health depends on beside the addresses."""

    has_checker: bool
    threshold_percent: float
    passive_thresholds: Thresholds
    probing: Probing
    host_header: str | None
    client_certificate_id: str | None

    @classmethod
    def of(cls, upstream: Mapping[str, Any], *, has_checker: bool) -> Self:
        """Read an upstream's entity."""
        healthchecks = upstream["healthchecks"]
        active, passive = healthchecks["active"], healthchecks["passive"]
        healthy, unhealthy = active["healthy"], active["unhealthy"]
        return cls(
            has_checker=has_checker,
            threshold_percent=healthchecks.get("threshold") or 0,
            passive_thresholds=_thresholds(passive),
            probing=Probing(
                type=active.get("type") or "http",
                path=active.get("http_path") or "/",
                headers=tuple(
                    (name, value) for name, values in (active.get("headers") or {}).items() for value in values
                ),
                sni=active.get("https_sni"),
                is_verified=active.get("https_verify_certificate", True),
                timeout_s=active.get("timeout") or 1,
                concurrency=active.get("concurrency") or 10,
                healthy_interval_s=healthy.get("interval") or 0,
                unhealthy_interval_s=unhealthy.get("interval") or 0,
                healthy_statuses=frozenset(healthy.get("http_statuses") or ()),
                unhealthy_statuses=frozenset(unhealthy.get("http_statuses") or ()),
                thresholds=_thresholds(active),
            ),
            host_header=upstream.get("host_header"),
            client_certificate_id=(upstream.get("client_certificate") or {}).get("id"),
        )


def _thresholds(checks: Mapping[str, Any]) -> Thresholds:
    healthy, unhealthy = checks["healthy"], checks["unhealthy"]
    return Thresholds(
        successes=healthy.get("successes") or 0,
        http_failures=unhealthy.get("http_failures") or 0,
        tcp_failures=unhealthy.get("tcp_failures") or 0,
        timeouts=unhealthy.get("timeouts") or 0,
    )
