"""`api.lua`: the paths that a Lua plugin brings for the Admin API.

Owns how its table becomes `AdminPath`s, and what its functions find in the control process: the request that was asked,
`kong.response`, and `kong.db` over the store. `library/headgate/admin.lua` has the Lua half, `kong.api.endpoints` the
endpoints to build on. Functions run on control's loop; what reads or writes the store waits for a thread.
"""

import asyncio
import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from functools import cache
from typing import TYPE_CHECKING, Any

import lupa.luajit21 as lupa

from headgate.entities.entity_type import EntityType
from headgate.entities.registry import ENTITY_TYPES, Registry
from headgate.errors import ENTITY_ERRORS, EntityError, PluginLoadError
from headgate.lua.daos import own_daos
from headgate.lua.entity_schema import named_schema
from headgate.lua.values import LuaTable, bytes_from_lua, text_from_lua
from headgate.pdk._exit import Exit
from headgate.pdk._node import own_store
from headgate.pdk.admin_api import AdminAnswer, AdminFunction, AdminPath, AdminRequest, AdminStore

if TYPE_CHECKING:
    from headgate.lua.vm import Vm

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
_SPECIAL = ("before", "on_error")
_GENERATED = re.compile(r"(select|insert|update|upsert|delete|page)(_by_\w+|_for_\w+)?")
"""Functions of `kong.db.<entity>` that automatic paths call."""


class _Exchange:
    """One request to a path of a Lua plugin and the answer so far."""

    __slots__ = ("answer", "asked", "headers")

    def __init__(self, asked: AdminRequest) -> None:
        self.asked = asked
        self.answer: AdminAnswer | None = None
        self.headers: dict[str, str] = {}


_current: ContextVar[_Exchange | None] = ContextVar("lua_admin_exchange", default=None)


def admin_paths(machine: "Vm", plugin: str, entity_types: Registry) -> tuple[AdminPath, ...]:
    """Return what the module `api` of a Lua plugin lists, after the automatic paths of entities whose functions the
    plugin has replaced by a `dao` of its own; () where there is neither.

    Raises: PluginLoadError with every fault.
    """
    module = f"kong.plugins.{plugin}.api"
    with_dao = [entity_types[name] for name in own_daos(machine, plugin) if name in entity_types]
    if machine.find(module) is None and not with_dao:
        return ()
    host = _host(machine)
    host.entity_types = entity_types
    paths: list[AdminPath] = [path for kind in with_dao for path in host.automatic_paths(plugin, kind)]
    if machine.find(module) is None:
        return tuple(paths)
    table = machine.load_module(module)
    if table.__class__ is not LuaTable:
        raise PluginLoadError(f"plugin '{plugin}': api.lua must return a table of paths")
    faults: list[str] = []
    for text, definition in sorted(table.items(), key=lambda entry: str(entry[0])):
        own: list[str] = []
        path = host.path(plugin, text_from_lua(str(text)), definition, own)
        faults += [f"plugin '{plugin}': api.lua: {text}: {fault}" for fault in own]
        paths.append(path)
    if faults:
        raise PluginLoadError(faults)
    return tuple(paths)


class _Host:
    """The Python half of admin.lua."""

    def __init__(self, machine: "Vm") -> None:
        self._machine = machine
        self.entity_types: Registry = ENTITY_TYPES
        raw = machine.bridge.raw
        members: dict[str, Callable[..., Any]] = {
            "is_admin": lambda: _current.get() is not None,
            "answer": self._answer,
            "set_header": self._set_header,
            "request": self._request,
            "schema": self._schema,
            "key_parts": self._key_parts,
            "status_of": lambda code: ENTITY_ERRORS.get(code, ("", 500))[1],
        }
        functions = machine.table(**{name: raw(function) for name, function in members.items()})
        self._serve = machine.require("headgate.admin")(machine.globals["kong"], functions)

    def path(self, plugin: str, text: str, definition: Any, faults: list[str]) -> AdminPath:
        """Return one path; its faults are put into the list."""
        if definition.__class__ is not LuaTable:
            faults.append("expected a table")
            return AdminPath(path=text, methods={})
        is_new_style = definition["methods"].__class__ is LuaTable
        given = definition["methods"] if is_new_style else definition
        functions: dict[str, Any] = {}
        for name, value in given.items():
            if not is_new_style and name == "schema":
                continue
            if name not in METHODS and name not in _SPECIAL:
                faults.append(f"there is no method '{name}'")
            elif lupa.lua_type(value) != "function":
                faults.append(f"{name} is no function")
            else:
                functions[str(name)] = value
        schema = definition["schema"]
        entity = schema["name"] if schema.__class__ is LuaTable else None
        special = self._machine.table(**{name: functions[name] for name in _SPECIAL if name in functions})
        original = self._original(text)
        methods: Mapping[str, AdminFunction] = {
            name: self._served(plugin, text, functions[name], special, original)
            for name in METHODS
            if name in functions
        }
        shown = text.rstrip("/") or "/"
        return AdminPath(path=shown, methods=methods, entity=text_from_lua(entity) if isinstance(entity, str) else None)

    def automatic_paths(self, plugin: str, kind: EntityType) -> Iterator[AdminPath]:
        """Yield the automatic paths of an entity as functions that go through `kong.db`, where a `dao` of the plugin's
        replaces what they call.
        """
        overridden = set(self._machine.require(own_daos(self._machine, plugin)[kind.name]).keys())
        if not any(_GENERATED.fullmatch(str(name)) for name in overridden) or not kind.admin_path:
            return
        texts = [f"/{kind.admin_path.strip('/')}"]
        for field, nested in kind.nested_under.items():
            parent = self.entity_types[kind.foreign[field].reference]
            if parent.admin_path:
                texts.append(f"/{parent.admin_path.strip('/')}/:{parent.name}/{nested}")
        original = self._machine.runtime.eval("function(_, _, _, parent) return parent() end")
        for text in texts:
            for path, methods in (
                (text, ("GET", "POST")),
                (f"{text}/:{kind.name}", ("GET", "PUT", "PATCH", "DELETE")),
            ):
                run = self._served(plugin, path, original, self._machine.table(), self._original(path))
                yield AdminPath(path=path, methods=dict.fromkeys(methods, run), entity=kind.name)

    def _served(self, plugin: str, text: str, run: Any, special: Any, original: Any) -> AdminFunction:
        machine, start = self._machine, self._serve

        async def serve(asked: AdminRequest) -> AdminAnswer:
            exchange = _Exchange(asked)
            token = _current.set(exchange)
            store = own_store.set(_StoreView(asked.db))
            try:
                values = machine.call(plugin, start, run, special, original)
                if inspect.isawaitable(values):
                    values = await values
            except Exit:
                # The answer is recorded.
                pass
            finally:
                _current.reset(token)
                own_store.reset(store)
            answer = exchange.answer or AdminAnswer(200)
            return AdminAnswer(answer.status, answer.body, {**exchange.headers, **answer.headers})

        serve.__doc__ = f"Path {text} of the plugin {plugin}."
        return serve

    def _original(self, text: str) -> Any:
        """Return (kind, schema, parent schema, field) of the automatic endpoint that has this path; nil without one."""
        parts = [part for part in text.split("/") if part]
        names = [part.startswith((":", "{")) for part in parts]
        table = self._machine.table
        for kind in self.entity_types.values():
            if not kind.admin_path:
                continue
            own = kind.admin_path.strip("/")
            if parts and parts[0] == own and names in ([False], [False, True]):
                return table(kind="collection" if len(parts) == 1 else "entity", schema=self._schema(kind.name))
            for field, nested in kind.nested_under.items():
                parent = self.entity_types[kind.foreign[field].reference]
                shape = [parent.admin_path.strip("/"), nested]
                if [part for part, is_name in zip(parts, names, strict=True) if not is_name] == shape and names in (
                    [False, True, False],
                    [False, True, False, True],
                ):
                    return table(
                        kind="collection" if len(parts) == 3 else "entity",
                        schema=self._schema(kind.name),
                        parent=self._schema(parent.name),
                        field=field,
                    )
        return None

    # -- what admin.lua asks for --------------------------------------------------------------------------------------

    def _answer(self, status: Any, body: Any, headers: Any) -> None:
        exchange = _asked()
        given = self._machine.values.from_lua(headers) if headers is not None else {}
        plain = bytes_from_lua(body) if isinstance(body, str) else self._machine.values.from_lua(body)
        exchange.answer = AdminAnswer(int(status), plain, {str(name): _header(value) for name, value in given.items()})

    def _set_header(self, name: Any, value: Any) -> None:
        headers = _asked().headers
        if value is None:
            headers.pop(text_from_lua(str(name)), None)
        else:
            headers[text_from_lua(str(name))] = _header(self._machine.values.from_lua(value))

    def _request(self) -> Any:
        """Return what was asked as a table: method, path, params, query, body, headers."""
        asked, to_lua = _asked().asked, self._machine.values.to_lua
        return self._machine.table(
            method=asked.method,
            path=to_lua(asked.path),
            params=to_lua(dict(asked.params)),
            query=to_lua(dict(asked.query)),
            body=to_lua(dict(asked.body), keeps_null=True),
            headers=to_lua(dict(asked.headers)),
        )

    def _key_parts(self, name: Any, text: Any) -> Any:
        """Return what a text in a path says of a primary key that is not `id`: its parts, and for foreign ones the
        entity they mean; nil, a text and an error object where it is no such key.
        """
        kind = self.entity_types[text_from_lua(str(name))]
        to_lua = self._machine.values.to_lua
        assert kind.own_key is not None
        try:
            parts = kind.own_key.parts(text_from_lua(str(text)))
        except EntityError as error:
            return (None, to_lua(str(error)), to_lua(error.body()))
        references = {field: key.reference for field, key in kind.foreign.items() if field in parts}
        return (to_lua(parts), to_lua(references))

    def _schema(self, name: Any) -> Any:
        return named_schema(self._machine, self.entity_types, name)


def _header(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _asked() -> _Exchange:
    exchange = _current.get()
    if exchange is None:
        raise LookupError("there is no request of the Admin API here")
    return exchange


@cache
def _host(machine: "Vm") -> _Host:
    return _Host(machine)


class _StoreView:
    """The store behind a request, as `kong.db` reads and writes it. Reading blocks."""

    def __init__(self, db: AdminStore) -> None:
        self._db = db

    @property
    def snapshot(self) -> "_StoreView":
        return self

    def all(self, entity_type: str, /) -> Iterable[dict[str, Any]]:
        return self._db.all(entity_type)

    def get(self, entity_type: str, entity_id: str, /) -> dict[str, Any] | None:
        return self._db.select(entity_type, entity_id)

    def by(self, entity_type: str, unique_field: str, value: str, /) -> dict[str, Any] | None:
        return self._db.select(entity_type, value, by=unique_field)

    def children(self, entity_type: str, foreign_field: str, parent_id: str, /) -> Sequence[dict[str, Any]]:
        return self._db.children(entity_type, foreign_field, parent_id)

    def indexed(
        self, entity_type: str, index_name: str, key: Callable[[dict[str, Any]], str], value: str, /
    ) -> dict[str, Any] | None:
        return next((entity for entity in self.all(entity_type) if key(entity) == value), None)

    async def write_entity(
        self, operation: str, entity_name: str, key: str, by: str, values: Mapping[str, Any], ttl: int | None, /
    ) -> dict[str, Any] | None:
        db = self._db
        if operation == "insert":
            return await asyncio.to_thread(db.insert, entity_name, values, ttl=ttl)
        if operation == "update":
            return await asyncio.to_thread(db.update, entity_name, key, values, by=by, ttl=ttl)
        if operation == "upsert":
            return await asyncio.to_thread(db.upsert, entity_name, key, values, by=by, ttl=ttl)
        if operation == "delete":
            await asyncio.to_thread(db.delete, entity_name, key, by=by)
            return None
        raise ValueError(f"{operation} is not available in api.lua")
