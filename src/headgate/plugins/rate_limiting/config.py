"""Configuration of rate-limiting: limits per period, what they are counted by, and where the counters live."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, Literal

from headgate import PluginConfig
from headgate.pdk.plugin import instance_of
from headgate.plugins.rate_limiting.periods import PERIODS, Period
from headgate.schema import Pattern, Record, checks, field, shorthand, types

SMALLEST_SYNC_RATE_S = 0.02
_NO_SCOPE = "00000000-0000-0000-0000-000000000000"


class Redis(Record):
    host: types.Host | None = None
    port: types.Port | None = 6379
    timeout: types.Timeout | None = 2000
    username: str | None = field(None, referenceable=True)
    password: str | None = field(None, referenceable=True, encrypted=True, len_min=0)
    database: int | None = 0
    ssl: bool | None = field(False, required=False)
    ssl_verify: bool | None = field(False, required=False)
    server_name: str | None = field(None, required=False)


@dataclass(frozen=True, slots=True)
class Limit:
    """One configured limit with the header names and texts that never change."""

    period: Period
    amount: float
    amount_text: str
    limit_header: str
    remaining_header: str


def number_text(number: float) -> str:
    """Return `number` as header values show it: without decimals when it has none."""
    if isinstance(number, int):
        return str(number)
    return str(int(number)) if number == int(number) else str(number)


def _check_limits(config: Mapping[str, Any]) -> str | None:
    configured = [(period.name, config[period.name]) for period in PERIODS if config.get(period.name) is not None]
    for (shorter, lower), (longer, higher) in pairwise(configured):
        if higher < lower:
            return f"The limit for {longer}({higher:.1f}) cannot be lower than the limit for {shorter}({lower:.1f})"
    sync_rate = config.get("sync_rate", -1)
    if sync_rate != -1:
        if config.get("policy") != "redis":
            return "sync_rate can only be used with the redis policy"
        if sync_rate < SMALLEST_SYNC_RATE_S:
            return "sync_rate must be greater than 0.02, or -1 to disable"
    return None


# Types and attributes of the flat fields that older configurations use instead of the `redis` record.
_TWINS: dict[str, tuple[type, dict[str, Any]]] = {
    "host": (str, {}),
    "port": (int, {}),
    "password": (str, {"len_min": 0}),
    "username": (str, {}),
    "ssl": (bool, {}),
    "ssl_verify": (bool, {}),
    "server_name": (str, {}),
    "timeout": (int, {}),
    "database": (int, {}),
}


def _deprecated_twin(name: str) -> Any:
    value_type, attributes = _TWINS[name]
    return shorthand(
        f"redis_{name}",
        value_type,
        replaced_with=("redis", name),
        message=f"rate-limiting: config.redis_{name} is deprecated, please use config.redis.{name} instead",
        removal_in_version="4.0",
        **attributes,
    )


class Config(PluginConfig):
    entity_checks = (
        checks.at_least_one_of(*(f"config.{period.name}" for period in PERIODS)),
        *(
            checks.conditional(
                "config.policy",
                if_match={"eq": "redis"},
                then_field=f"config.redis.{name}",
                then_match={"required": True},
            )
            for name in ("host", "port", "timeout")
        ),
        *(
            checks.conditional(
                "config.limit_by",
                if_match={"eq": limit_by},
                then_field=f"config.{name}",
                then_match={"required": True},
            )
            for limit_by, name in (("header", "header_name"), ("path", "path"))
        ),
    )
    shorthand_fields = tuple(_deprecated_twin(name) for name in _TWINS)
    record_validator = _check_limits

    second: float | None = field(None, gt=0)
    minute: float | None = field(None, gt=0)
    hour: float | None = field(None, gt=0)
    day: float | None = field(None, gt=0)
    month: float | None = field(None, gt=0)
    year: float | None = field(None, gt=0)
    limit_by: Literal["consumer", "credential", "ip", "service", "header", "path"] | None = "consumer"
    header_name: str | None = None
    path: str | None = field(None, starts_with="/", match_none=(Pattern("//", err="must not have empty segments"),))
    policy: Literal["local", "redis"] | None = field("local", len_min=0)
    fault_tolerant: bool = True
    redis: Redis = field(default_factory=Redis)
    hide_client_headers: bool = False
    error_code: float | None = field(429, gt=0)
    error_message: str | None = "API rate limit exceeded"
    sync_rate: float = -1

    @cached_property
    def scope_prefix(self) -> str:
        """How this instance's counter keys begin: instances of one scope share their counters."""
        instance = instance_of(self)
        return f"ratelimit:{instance.route_id or _NO_SCOPE}:{instance.service_id or _NO_SCOPE}:"

    @cached_property
    def period_names(self) -> tuple[str, ...]:
        """The periods of `limits`, in their order."""
        return tuple(limit.period.name for limit in self.limits)

    @cached_property
    def amounts(self) -> tuple[float, ...]:
        """The limits alone, in the order of `limits`."""
        return tuple(limit.amount for limit in self.limits)

    @cached_property
    def limits(self) -> tuple[Limit, ...]:
        """The configured limits, shortest period first."""
        return tuple(
            Limit(
                period,
                int(amount) if amount == int(amount) else amount,
                number_text(amount),
                f"X-RateLimit-Limit-{period.title}",
                f"X-RateLimit-Remaining-{period.title}",
            )
            for period in PERIODS
            if (amount := getattr(self, period.name)) is not None
        )
