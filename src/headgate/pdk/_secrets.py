"""Secrets of this worker: fetched from vaults, kept with their times to live, fetched anew.

Owns the strategies (`env`), the configuration in force for a reference, and the cache of 1000 values. There is no
node-wide cache as Kong has: reading the environment costs less than reading shared memory, and secrets stay out of
files. Which fields hold references is not its business (`_bound`).
"""

import json
import logging
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from headgate.pdk._node import SnapshotView, node
from headgate.pdk._reference import Reference, VaultError, parse_reference

MOST_SECRETS = 1000
FOR_EVER_S = 1e8
"""Time to live without a setting (Kong's value)."""

_TTL_FIELDS = ("ttl", "neg_ttl", "resurrect_ttl", "min_ttl", "max_ttl")

_log = logging.getLogger("headgate.plugin")

Configuration: TypeAlias = Mapping[str, Any]
Fetch: TypeAlias = Callable[[Configuration, str, int | None], str | None]
_CacheKey: TypeAlias = tuple[Any, ...]


@dataclass(slots=True)
class _Secret:
    """A value (None: the vault has none) with what is needed to fetch it anew."""

    value: str | None
    expires_at_s: float
    dead_at_s: float
    vault: str
    reference: Reference
    configuration: Configuration


def environment_variable(configuration: Configuration, resource: str, version: int | None) -> str:
    """Return the name of the variable that a resource of the `env` vault stands for."""
    prefix = configuration.get("prefix")
    name = ((prefix if isinstance(prefix, str) else "") + resource).upper().replace("-", "_")
    return f"{name}_PREVIOUS" if version == 2 else name


class Secrets:
    """Values by reference; used from all threads of the worker."""

    def __init__(
        self, environment: Mapping[str, str] = os.environ, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.clock = clock
        self._environment = environment
        self._fetchers: dict[str, tuple[Fetch, frozenset[str]]] = {
            "env": (self._from_environment, frozenset({"prefix"}))
        }
        self._secrets: OrderedDict[_CacheKey, _Secret] = OrderedDict()
        self._lock = threading.Lock()
        self._is_changed = False

    def get(self, text: Any, snapshot: SnapshotView | None = None, *, cached_only: bool = False) -> str | None:
        """Return the secret that a reference stands for; None when its vault was asked before and had none.

        Args: `snapshot` holds the vault entities, by default that in force; `cached_only`: do not ask the vault.
        Raises: VaultError.
        """
        reference = parse_reference(text)
        vault, configuration = self._vault(reference, snapshot or node.snapshot)
        secret = self._secret(vault, reference, configuration, cached_only)
        return None if secret.value is None else _subfield(secret.value, reference["key"])

    def refresh(self, text: Any) -> None:
        """Ask the vault again whatever is kept.

        Raises: VaultError.
        """
        reference = parse_reference(text)
        vault, configuration = self._vault(reference, node.snapshot)
        self._fetch(vault, reference, configuration, _cache_key(vault, reference, configuration))

    def rotate(self) -> bool:
        """Ask the vaults again for what has outlived its time to live.

        Says whether any value is another one than at the last rotation, whoever has asked for it since.
        """
        now_s = self.clock()
        for key, secret in list(self._secrets.items()):
            if secret.expires_at_s > now_s:
                continue
            try:
                self._fetch(secret.vault, secret.reference, secret.configuration, key)
            except VaultError as error:
                _log.warning("error rotating secret of vault %s: %s", secret.vault, error)
        with self._lock:
            is_changed, self._is_changed = self._is_changed, False
        return is_changed

    def shortest_ttl_s(self) -> float:
        """Return the smallest time to live among the values kept; FOR_EVER_S without any."""
        return min((_ttl(one.configuration, "ttl") for one in list(self._secrets.values())), default=FOR_EVER_S)

    def flush(self) -> None:
        """Forget all values."""
        with self._lock:
            self._secrets.clear()

    def _vault(self, reference: Reference, snapshot: SnapshotView | None) -> tuple[str, Configuration]:
        """Return (strategy, configuration in force) of a reference: a strategy's name, else a vault's prefix."""
        name = reference["name"]
        configuration: dict[str, Any]
        if name in self._fetchers:
            strategy = name
            start = f"vault_{name}_"
            configuration = {
                setting.removeprefix(start): value
                for setting, value in node.configuration.items()
                if setting.startswith(start) and value is not None
            }
        else:
            entity = None if snapshot is None else snapshot.by("vaults", "prefix", name)
            if entity is None or entity["name"] not in self._fetchers:
                raise VaultError(f"could not find vault ({name})")
            strategy = entity["name"]
            configuration = {key: value for key, value in (entity.get("config") or {}).items() if value is not None}
        _, fields = self._fetchers[strategy]
        for key, text in reference["config"].items():
            if key in fields:
                configuration[key] = text
            elif key in _TTL_FIELDS:
                configuration[key] = _seconds(key, text)
        return strategy, configuration

    def _secret(self, vault: str, reference: Reference, configuration: Configuration, cached_only: bool) -> _Secret:
        key = _cache_key(vault, reference, configuration)
        secret = self._secrets.get(key)
        if secret is not None and (secret.expires_at_s > self.clock() or (cached_only and secret.value is not None)):
            return secret
        if cached_only:
            raise VaultError("could not get value from external vault (no value found)")
        return self._fetch(vault, reference, configuration, key)

    def _fetch(self, vault: str, reference: Reference, configuration: Configuration, key: _CacheKey) -> _Secret:
        fetch, _ = self._fetchers[vault]
        with self._lock:
            now_s = self.clock()
            earlier = self._secrets.get(key)
            value = fetch(configuration, reference["resource"], reference["version"])
            if value is not None:
                ttl_s = _ttl(configuration, "ttl")
                dead_at_s = now_s + ttl_s + _ttl(configuration, "resurrect_ttl")
            elif earlier is not None and earlier.value is not None and earlier.dead_at_s > now_s:
                # The vault has lost it: what it gave before stays for a while.
                value, ttl_s, dead_at_s = earlier.value, _ttl(configuration, "neg_ttl", 60), earlier.dead_at_s
            else:
                ttl_s = _ttl(configuration, "neg_ttl")
                dead_at_s = now_s + ttl_s
            secret = _Secret(value, now_s + ttl_s, dead_at_s, vault, reference, configuration)
            self._secrets[key] = secret
            self._is_changed |= earlier is not None and earlier.value != value
            if len(self._secrets) > MOST_SECRETS:
                self._secrets.popitem(last=False)
        if value is None and earlier is None:
            raise VaultError("could not get value from external vault (no value found)")
        return secret

    def _from_environment(self, configuration: Configuration, resource: str, version: int | None) -> str | None:
        return self._environment.get(environment_variable(configuration, resource, version))


def _cache_key(vault: str, reference: Reference, configuration: Configuration) -> _CacheKey:
    return (vault, reference["resource"], reference["version"], *sorted((k, str(v)) for k, v in configuration.items()))


def _ttl(configuration: Configuration, field: str, default: float = FOR_EVER_S) -> float:
    value = configuration.get(field)
    ttl_s = FOR_EVER_S if value == 0 else default if value is None else float(value)
    if field == "ttl":
        least, most = configuration.get("min_ttl"), configuration.get("max_ttl")
        ttl_s = ttl_s if most is None else min(ttl_s, float(most))
        ttl_s = ttl_s if least is None else max(ttl_s, float(least))
    return ttl_s


def _seconds(field: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise VaultError(f"{field} must be a number: {text}") from None
    if not 0 <= value <= FOR_EVER_S:
        raise VaultError(f"{field} must be between 0 and {FOR_EVER_S:g}: {text}")
    return value


def _subfield(value: str, key: str | None) -> str:
    """Return the member `key` of a secret that is a JSON object."""
    if key is None:
        return value
    try:
        members = json.loads(value)
    except ValueError as error:
        # The decoder's text says where, never what: the value is a secret.
        raise VaultError(f"could not get subfield value: unable to json decode value ({error})") from None
    member = members.get(key) if isinstance(members, dict) else None
    if member is None:
        raise VaultError(f"could not get subfield value: subfield {key} not found in JSON secret")
    if not isinstance(member, str):
        kind = {bool: "boolean", int: "number", float: "number"}.get(type(member), "table")
        raise VaultError(f"could not get subfield value: unexpected {kind} value in JSON secret for subfield {key}")
    return member


secrets = Secrets()
