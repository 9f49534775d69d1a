"""The options of one cache call, checked, with the node's settings as defaults."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from headgate.pdk._check import is_number
from headgate.pdk._node import node

DEFAULT_RESURRECT_TTL_S = 30
DEFAULT_TRIES = 3


@dataclass(frozen=True, slots=True)
class CacheOptions:
    """Times to live in seconds, 0 = for ever (of `resurrect_ttl_s`: stale values are not used)."""

    ttl_s: float
    neg_ttl_s: float
    resurrect_ttl_s: float
    serializer: Callable[[Any], Any] | None
    tries: int

    def ttl_of(self, value: Any) -> float:
        """Return the time to live of a value without one of its own; None is a miss."""
        return self.neg_ttl_s if value is None else self.ttl_s


def options_of(opts: Mapping[str, Any] | None) -> CacheOptions:
    """Check the options of a call.

    Raises: TypeError or ValueError `opts must be a table`, `opts.<name> must be a number`, `opts.<name> must be >= 0`,
        `opts.l1_serializer must be a function`, …
    """
    if opts is None:
        opts = {}
    elif not isinstance(opts, Mapping):
        raise TypeError("opts must be a table")
    serializer = opts.get("l1_serializer")
    if serializer is not None and not callable(serializer):
        raise TypeError("opts.l1_serializer must be a function")
    configuration = node.configuration
    return CacheOptions(
        ttl_s=_number(opts, "ttl", configuration.get("db_cache_ttl") or 0),
        neg_ttl_s=_number(opts, "neg_ttl", configuration.get("db_cache_neg_ttl") or 0),
        resurrect_ttl_s=_number(
            opts, "resurrect_ttl", configuration.get("db_resurrect_ttl", DEFAULT_RESURRECT_TTL_S) or 0
        ),
        serializer=serializer,
        tries=int(_number(opts, "shm_set_tries", DEFAULT_TRIES, least=1)),
    )


def _number(opts: Mapping[str, Any], name: str, default: float, least: int = 0) -> float:
    value = opts.get(name)
    if value is None:
        return default
    if not is_number(value):
        raise TypeError(f"opts.{name} must be a number")
    if value < least:
        raise ValueError(f"opts.{name} must be >= {least}")
    number: float = value
    return number
