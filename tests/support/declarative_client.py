"""A declarative client as decK is one: the calls it makes on an Admin API, in their order (reference: admin-api 11).

It compares what is wanted with what is there and makes only the calls that are needed. What it has no name for it does
not see; a status of 400 or more ends it, but for kinds that a server need not have.
"""

import uuid
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

Entity = dict[str, Any]
State = dict[str, list[Entity]]
Call = Callable[[str, str, Any], tuple[int, Any]]
"""Method, path, body; gives status and body."""


@dataclass(frozen=True)
class Kind:
    """Entities of one path: the field that names one, where single ones are written, the types of the references."""

    path: str
    key: str
    schema: str
    parent: str | None = None
    nested: str | None = None


_CREDENTIALS = (
    Kind("key-auths", "key", "keyauth_credentials", "consumer", "key-auth"),
    Kind("hmac-auths", "username", "hmacauth_credentials", "consumer", "hmac-auth"),
    Kind("jwts", "key", "jwt_secrets", "consumer", "jwt"),
    Kind("basic-auths", "username", "basicauth_credentials", "consumer", "basic-auth"),
    Kind("oauth2", "client_id", "oauth2_credentials", "consumer", "oauth2"),
    Kind("acls", "group", "acls", "consumer", "acls"),
)
LEVELS = (
    (
        Kind("certificates", "id", "certificates"),
        Kind("ca_certificates", "id", "ca_certificates"),
        Kind("consumers", "username", "consumers"),
        Kind("vaults", "prefix", "vaults"),
        Kind("key-sets", "name", "key_sets"),
    ),
    (
        Kind("consumer_groups", "name", "consumer_groups"),
        Kind("snis", "name", "snis"),
        Kind("services", "name", "services"),
        Kind("upstreams", "name", "upstreams"),
        Kind("keys", "name", "keys"),
        *_CREDENTIALS,
    ),
    (Kind("routes", "name", "routes"), Kind("targets", "target", "targets", "upstream", "targets")),
    (Kind("plugins", "name", "plugins"),),
)
KINDS = {kind.path: kind for level in LEVELS for kind in level}
_FATAL = ("services", "routes", "plugins", "certificates", "snis", "upstreams", "consumers")
_OTHERS = ("filter-chains", "partials", "mtls-auths")
# Of no meaning for whoever compares, or made by the server of the rest.
_OWN = ("id", "created_at", "updated_at", "snis", "cert_digest")
_PARALLEL = 10


class RefusedError(AssertionError):
    """The server has answered with a status of 400 or more."""


@dataclass
class Changes:
    """What a sync has done: the paths in the order of the calls."""

    created: list[str] = field(default_factory=list)
    updated: list[str] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)

    @property
    def counts(self) -> tuple[int, int, int]:
        """Created, updated, deleted."""
        return len(self.created), len(self.updated), len(self.deleted)


class DeclarativeClient:
    """One client of one server. Args: select_tags, it sees and writes entities with all of these only."""

    def __init__(self, call: Call, select_tags: Iterable[str] = ()) -> None:
        self._call = call
        self._tags = list(select_tags)
        self._schemas: dict[str, list[dict[str, Any]] | None] = {}

    def ping(self) -> str:
        """Return the version that the server tells."""
        return str(self._done("GET", "/")["version"])

    def dump(self) -> State:
        """Read everything."""
        paths = [*KINDS, *_OTHERS]
        with ThreadPoolExecutor(_PARALLEL) as pool:
            pages = pool.map(self._pages, [path for path in paths if path != "targets"])
            state = {path: rows for path, rows in zip([p for p in paths if p != "targets"], pages, strict=True) if rows}
            upstreams = [f"upstreams/{row['id']}/targets" for row in state.get("upstreams", ())]
            if targets := [row for rows in pool.map(self._pages, upstreams) for row in rows or ()]:
                state["targets"] = targets
        members = []
        for group in state.get("consumer_groups", ()):
            whole = self._done("GET", f"/consumer_groups/{group['name']}")
            members += [{"group": group["id"], "consumer": one["id"]} for one in whole["consumers"]]
        return state | ({"members": members} if members else {})

    def sync(self, wanted: Mapping[str, list[Entity]]) -> Changes:
        """Make the server hold what is wanted and nothing else; entities refer to others by id."""
        assert int(self.ping().partition(".")[0]) >= 3
        current = self.dump()
        changes = Changes()
        ids: dict[tuple[str, str], str] = {}
        for level in LEVELS:
            work = [(kind, one) for kind in level for one in wanted.get(kind.path, ())]
            with ThreadPoolExecutor(_PARALLEL) as pool:
                list(pool.map(lambda pair: self._put(pair[0], pair[1], current, ids, changes), work))
        self._put_members(wanted.get("members", []), current, changes)
        for level in reversed(LEVELS):
            kept = {
                (kind.path, ids[kind.path, self._name(kind, one)])
                for kind in level
                for one in wanted.get(kind.path, ())
            }
            gone = [
                (kind, one)
                for kind in level
                for one in current.get(kind.path, ())
                if (kind.path, one["id"]) not in kept
            ]
            with ThreadPoolExecutor(_PARALLEL) as pool:
                list(pool.map(lambda pair: self._delete(pair[0], pair[1], changes), gone))
        return changes

    def reset(self) -> Changes:
        """Remove everything that the client sees."""
        return self.sync({})

    def validate(self, wanted: Mapping[str, list[Entity]]) -> list[str]:
        """Ask the server about each entity; returns what it has against them."""
        found = []
        for path, entities in wanted.items():
            for one in entities if path in KINDS else ():
                schema = KINDS[path].schema
                status, body = self._call("POST", f"/schemas/{schema}/validate", one)
                if status != 200:
                    found.append(f"{path}: HTTP status {status} (message: {body['message']!r})")
        return found

    # -- one entity ----------------------------------------------------------------------------------------------------

    def _put(self, kind: Kind, one: Entity, current: State, ids: dict[tuple[str, str], str], changes: Changes) -> None:
        known = self._known(kind, one, current)
        identifier = one.get("id") or (known["id"] if known else str(uuid.uuid4()))
        ids[kind.path, self._name(kind, one)] = identifier
        filled = self._filled(kind, one) | {"id": identifier}
        if self._tags:
            filled["tags"] = [*self._tags, *(one.get("tags") or ())]
        if known is not None:
            filled["created_at"] = known["created_at"]
            if _is_same(filled, known):
                return
        path = self._path(kind, filled)
        (changes.created if known is None else changes.updated).append(path)
        if kind.path == "consumer_groups" and known is not None:
            self._done("PATCH", path, filled)
        elif kind.path == "targets":
            status, body = self._call("PUT", path, filled)
            if status == 404:
                self._done("POST", path.rpartition("/")[0], filled)
            elif status >= 400:
                raise RefusedError(f"HTTP status {status} (message: {body['message']!r})")
        else:
            answered = self._done("PUT", path, filled)
            assert answered["id"] == identifier, answered

    def _put_members(self, wanted: list[Entity], current: State, changes: Changes) -> None:
        there = current.get("members", [])
        for one in wanted:
            if one not in there:
                path = f"/consumer_groups/{one['group']}/consumers"
                changes.created.append(path)
                self._done("POST", path, {"consumer": one["consumer"]})
        for one in there:
            if one not in wanted:
                path = f"/consumer_groups/{one['group']}/consumers/{one['consumer']}"
                changes.deleted.append(path)
                self._done("DELETE", path)

    def _delete(self, kind: Kind, one: Entity, changes: Changes) -> None:
        path = self._path(kind, one)
        changes.deleted.append(path)
        status, _ = self._call("DELETE", path, None)
        # A child of something that was deleted before it is gone already.
        assert status in (204, 404), (path, status)

    @staticmethod
    def _path(kind: Kind, one: Entity) -> str:
        if kind.parent is None:
            return f"/{kind.path}/{one['id']}"
        return f"/{kind.parent}s/{one[kind.parent]['id']}/{kind.nested}/{one['id']}"

    @staticmethod
    def _name(kind: Kind, one: Entity) -> str:
        scope = [str((one.get(name) or {}).get("id")) for name in ("route", "service", "consumer", "upstream")]
        return "/".join([str(one.get(kind.key)), *scope])

    def _known(self, kind: Kind, one: Entity, current: State) -> Entity | None:
        rows = current.get(kind.path, ())
        if "id" in one:
            return next((row for row in rows if row["id"] == one["id"]), None)
        return next((row for row in rows if self._name(kind, row) == self._name(kind, one)), None)

    # -- schemas -------------------------------------------------------------------------------------------------------

    def _filled(self, kind: Kind, one: Entity) -> Entity:
        """Return an entity with the defaults that the server tells."""
        filled = _with_defaults(self._fields(f"/schemas/{kind.schema}"), one)
        if kind.path in ("plugins", "vaults"):
            fields = self._fields(f"/schemas/{kind.path}/{one['name']}")
            config = next(member["config"] for member in fields or () if "config" in member)
            filled["config"] = _with_defaults(config["fields"], one.get("config") or {})
            _add_older_names(config, filled["config"])
        return filled

    def _fields(self, path: str) -> list[dict[str, Any]] | None:
        if path not in self._schemas:
            self._schemas[path] = self._done("GET", path)["fields"]
        return self._schemas[path]

    # -- calls ---------------------------------------------------------------------------------------------------------

    def _pages(self, path: str) -> list[Entity] | None:
        rows: list[Entity] = []
        query = f"size=1000&tags={','.join(self._tags)}" if self._tags else "size=1000"
        offset = ""
        while True:
            status, body = self._call("GET", f"/{path}?{query}{offset}", None)
            if status == 404 or (status == 400 and path == "filter-chains"):
                assert path not in _FATAL, path
                return None
            assert status == 200, (path, status, body)
            rows += body["data"]
            if "offset" not in body:
                return rows
            offset = f"&offset={body['offset']}"

    def _done(self, method: str, path: str, body: Any = None) -> Any:
        status, answered = self._call(method, path, body)
        if status >= 400:
            raise RefusedError(f"{method} {path}: HTTP status {status} (message: {answered['message']!r})")
        return answered


def _with_defaults(fields: list[dict[str, Any]] | None, given: Entity) -> Entity:
    filled = dict(given)
    definitions = [pair for member in fields or () for pair in member.items()]
    for name, definition in definitions:
        if filled.get(name) is None and "default" in definition:
            filled[name] = definition["default"]
        if definition["type"] == "record" and "fields" in definition:
            if filled.get(name) is None and not definition.get("required"):
                continue
            filled[name] = _with_defaults(definition["fields"], filled.get(name) or {})
    return filled


def _add_older_names(config: Entity, values: Entity) -> None:
    """Add what a server shows under older names, too."""
    for member in config.get("shorthand_fields", ()):
        for name, definition in member.items():
            found: Any = values
            for step in definition["deprecation"]["replaced_with"][0]["path"]:
                found = (found or {}).get(step)
            values.setdefault(name, found)


def _is_same(wanted: Any, there: Any) -> bool:
    """Tell whether nothing has to be changed; null is as good as absent, and the order of lists of texts is not."""
    if isinstance(wanted, dict) and isinstance(there, dict):
        names = {*wanted, *there} - set(_OWN)
        return all(_is_same(wanted.get(name), there.get(name)) for name in names)
    if isinstance(wanted, list) and isinstance(there, list):
        return len(wanted) == len(there) and all(_is_same(one, other) for one, other in zip(wanted, there, strict=True))
    return bool(wanted == there or (wanted in (None, {}, []) and there in (None, {}, [])))
