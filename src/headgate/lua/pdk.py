"""`kong` for Lua: the Python PDK's functions under the same names.

Owns the walk over the PDK's modules (there is no second list of functions: what `headgate.pdk` declares is what Lua
gets, phases and checks included) and the few functions that Lua calls differently: those that take callbacks, give out
objects, or return several values. Their Lua halves are in `library/headgate/kong.lua`.
"""

import asyncio
import inspect
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from headgate.errors import EntityError, GatewayError
from headgate.lua import direct
from headgate.lua.entity_schema import named_schema
from headgate.lua.errors import LuaFaultError
from headgate.lua.values import text_to_lua
from headgate.pdk import kong
from headgate.pdk._body import is_form, read_limit
from headgate.pdk._call import current_call
from headgate.pdk._node import node
from headgate.pdk._phase import REQUEST_BODY
from headgate.pdk.cache import Cache, CacheError, WithTtl
from headgate.pdk.db import DEFAULT_PAGE_SIZE
from headgate.pdk.log import emit_line, log_levels
from headgate.pdk.request import must_read_body
from headgate.phases import Phase

if TYPE_CHECKING:
    from headgate.lua.vm import Vm

REPLACED = frozenset(
    (
        *("cache", "core_cache", "ctx", "configuration", "db", "dns", "timer", "table", "tracing", "worker_events"),
        *("cluster_events", "log", "shared_dict", "vault.try_", "vault.update", "service.set_target_retry_callback"),
        *("request.get_raw_body", "request.get_body", "request.read_raw_body", "telemetry.set_exporter"),
    )
)
"""What is made by hand here or in kong.lua, or has no place in Lua."""

_HEADER_FILTER = Phase.HEADER_FILTER.value
_logger = logging.getLogger("headgate.plugin")


def functions(root: Any = kong, prefix: str = "") -> Iterator[tuple[str, Callable[..., Any]]]:
    """Yield every function of the PDK with its dotted name below `kong`, those made by hand excepted."""
    for name in dir(root):
        path = f"{prefix}{name}"
        if name.startswith("_") or path in REPLACED:
            continue
        value = getattr(root, name)
        if inspect.ismethod(value):
            yield path, value
        elif type(value).__module__.startswith("headgate.pdk."):
            yield from functions(value, f"{path}.")


def install(vm: "Vm") -> Any:
    """Return the table `kong`."""
    table = vm.runtime.table()
    known = dict(functions())
    for path, function in known.items():
        *modules, name = path.split(".")
        module = table
        for part in modules:
            if module[part] is None:
                module[part] = vm.runtime.table()
            module = module[part]
        module[name] = vm.bridge.function(_kept_in_header_filter(function) if path in _EXITS else function)
    direct.install(vm, table, known)
    table["__log"] = vm.table(
        serialize=vm.bridge.function(kong.log.serialize),
        set_serialize_value=vm.bridge.function(kong.log.set_serialize_value),
    )
    table["version"] = kong.version
    table["version_num"] = kong.version_num
    host = Host(vm)
    vm.execute_library("kong")(table, host.table())
    return table


def is_logged(level: int) -> bool:
    """Say whether lines of a level are written."""
    return _logger.isEnabledFor(level)


_EXITS = ("response.exit", "response.error")


def _kept_in_header_filter(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return `exit` or `error` as Lua knows it: in header_filter the handler goes on after it."""
    from headgate.pdk._exit import Exit

    def answer(status: Any = None, body: Any = None, headers: Any = None) -> None:
        try:
            function(status, body, headers)
        except Exit:
            call = current_call.get()
            if call is None or call.phase != _HEADER_FILTER:
                raise

    return answer


class Host:
    """The Python halves of what kong.lua makes."""

    def __init__(self, vm: "Vm") -> None:
        self._vm = vm
        self._to_lua = vm.values.to_lua
        self._from_lua = vm.values.from_lua

    def table(self) -> Any:
        """Return the functions by name."""
        raw, waiting = self._vm.bridge.raw, self._vm.bridge.waiting
        members = {
            "log_levels": self._vm.table(**log_levels()),
            "log_threshold": raw(lambda: _logger.getEffectiveLevel()),
            "log": raw(self._log),
            "shared_get": raw(self._shared_get),
            "shared_set": raw(self._shared_set),
            "shared_names": raw(lambda: self._to_lua(list(kong.ctx.shared or ()))),
            "configuration": raw(lambda name: self._to_lua(kong.configuration[name])),
            "configuration_without_secrets": raw(lambda: self._to_lua(kong.configuration.remove_sensitive())),
            "default_workspace": raw(lambda: kong.default_workspace),
            "body_wait": raw(self._body_wait),
            "raw_body": self._vm.bridge.function(kong.request.get_raw_body),
            "body": raw(self._body),
            "is_form": raw(lambda mime: is_form(self._body_type(mime))),
            "cache_find": raw(self._cache_find),
            "cache_load": waiting(self._cache_load),
            "cache_probe": raw(self._cache_probe),
            "cache_forget": raw(self._cache_forget),
            "cache_set": raw(lambda name, key, value: _cache(name).safe_set(key, self._from_lua(value))),
            "db_call": raw(self._db_call),
            "db_schema": raw(lambda name: named_schema(self._vm, node.entity_types, name)),
            "db_read": waiting(self._db_read),
            "db_write": waiting(self._db_write),
            "toip": waiting(self._toip),
            "resolve": waiting(self._resolve),
            "timer_start": raw(self._timer_start),
            "timer_cancel": raw(lambda name: kong.timer.cancel(name)),
            "timer_stats": raw(lambda: self._to_lua(kong.timer.stats())),
            "retry_callback": raw(self._retry_callback),
            "listen": raw(self._listen),
            "subscribe": raw(self._subscribe),
            "broadcast": self._vm.bridge.function(kong.cluster_events.broadcast),
            "post": raw(lambda source, event, data: kong.worker_events.post(source, event, self._from_lua(data))),
            "post_local": raw(
                lambda source, event, data: kong.worker_events.post_local(source, event, self._from_lua(data))
            ),
            "secret": raw(lambda reference: self._to_lua(kong.vault.get(self._from_lua(reference)))),
            "tracing": raw(self._tracing),
            "span": raw(self._span),
            "span_value": raw(lambda span, name: self._to_lua(getattr(span, name))),
        }
        return self._vm.table(**members)

    # -- log and contexts ---------------------------------------------------------------------------------------------

    def _log(self, level: int, message: str, namespace: Any, file: str, line: int, template: Any, caller: Any) -> None:
        emit_line(level, message, namespace, file, line, template, caller or "?")

    def _shared_get(self, name: Any) -> Any:
        if current_call.get() is None:
            return None
        return self._to_lua(kong.ctx.shared[self._from_lua(name)])

    def _shared_set(self, name: Any, value: Any) -> None:
        if current_call.get() is None:
            raise TypeError("kong.ctx.shared is not available outside of a request")
        # A table stays Lua's own, so that all Lua plugins see one and the same.
        kong.ctx.shared[self._from_lua(name)] = (
            self._from_lua(value) if isinstance(value, str) else self._vm.anchor(value)
        )

    # -- bodies -------------------------------------------------------------------------------------------------------

    def _body_wait(self, limit: Any) -> Any:
        """Return what to yield for the request body; nil when it need not be read (or may not be: the getter tells)."""
        from headgate.lua.vm import BodyWait

        call = current_call.get()
        if call is None or not call.phase & REQUEST_BODY or not (limit is None or isinstance(limit, int | float)):
            return None
        limit_bytes = read_limit(limit, call.exchange.request_body_buffer_bytes)
        if not must_read_body(call, limit_bytes):
            return None
        call.body_limit_bytes = limit_bytes
        return BodyWait(limit_bytes)

    def _body_type(self, mime: Any) -> str | None:
        if isinstance(mime, str):
            return mime
        call = current_call.get()
        if call is None or not call.phase & REQUEST_BODY:
            return None
        return call.exchange.get_request_header("content-type")

    def _body(self, mime: Any, most_arguments: Any, most_bytes: Any) -> Any:
        decoded = kong.request.get_body(self._from_lua(mime), most_arguments, most_bytes)
        kind = (self._body_type(mime) or "").partition(";")[0].strip().lower()
        return (self._to_lua(dict(decoded) if isinstance(decoded, dict) else decoded, keeps_null=True), None, kind)

    # -- cache --------------------------------------------------------------------------------------------------------

    def _cache_find(self, name: str, key: Any, options: Any) -> Any:
        hit = _cache(name).get_with_level(self._from_lua(key), self._options(options))
        return (self._to_lua(hit.value, keeps_null=True), hit.level)

    def _cache_load(self, name: str, is_forced: bool, key: Any, options: Any, callback: Any, *arguments: Any) -> Any:
        anchored = tuple(self._vm.anchor(argument) for argument in arguments)
        callback = self._vm.anchor(callback)
        return self._load(_cache(name), is_forced, self._from_lua(key), self._options(options), callback, anchored)

    async def _load(
        self, cache: Cache, is_forced: bool, key: str, options: Any, callback: Any, arguments: tuple[Any, ...]
    ) -> Any:
        told: list[str] = []
        plugin = self._vm.plugin_name()

        async def load() -> Any:
            values = self._vm.call(plugin, callback, *arguments)
            if inspect.isawaitable(values):
                values = await values
            value, fault, ttl = (*values, None, None, None)[:3]
            if value is None and fault is not None:
                told.append(str(self._from_lua(fault)))
                raise CacheError(told[0])
            plain = self._from_lua(value)
            return plain if ttl is None else WithTtl(plain, float(ttl))

        try:
            if is_forced:
                return self._to_lua(await cache.renew(key, options, load), keeps_null=True)
            hit = await cache.get_with_level(key, options, load)
        except GatewayError as error:
            if told:
                prefix = str(error).partition(": ")[0]
                return (None, text_to_lua(f"{prefix}: {told[0]}"))
            return (None, text_to_lua(str(error)))
        except (TypeError, ValueError, LuaFaultError) as error:
            return (None, text_to_lua(str(error)))
        return (self._to_lua(hit.value, keeps_null=True), None, hit.level)

    def _cache_probe(self, name: str, key: Any) -> Any:
        found = _cache(name).probe(self._from_lua(key))
        return None if found is None else (found.ttl_s, None, self._to_lua(found.value, keeps_null=True))

    def _cache_forget(self, name: str, operation: str, key: Any) -> None:
        cache = _cache(name)
        if operation == "purge":
            cache.purge()
        elif operation == "invalidate":
            cache.invalidate(self._from_lua(key))
        else:
            cache.invalidate_local(self._from_lua(key))

    def _options(self, options: Any) -> Any:
        given = self._from_lua(options)
        # A Lua function of the caller's would have to run on this side of the border: values are plain anyway.
        return {key: item for key, item in given.items() if key != "l1_serializer"} if isinstance(given, dict) else None

    # -- db -----------------------------------------------------------------------------------------------------------

    def _db_call(self, entity: str, operation: str, *arguments: Any) -> Any:
        """Do what needs no waiting: select, each (a list), page, cache_key."""
        given = [self._from_lua(argument) for argument in arguments]
        try:
            return self._db_result(operation, _read(entity, operation, given), keeps_null=_has_nulls(given))
        except EntityError as error:
            return self._entity_fault(error)

    def _db_result(self, operation: str, found: Any, *, keeps_null: bool) -> Any:
        if operation.startswith("page"):
            entities, offset = found
            return (self._to_lua(entities, keeps_null=keeps_null), None, None, offset)
        return self._to_lua(found, keeps_null=keeps_null)

    def _entity_fault(self, error: EntityError) -> tuple[Any, ...]:
        """Return nil, the text with the kind of store before it, and the error object."""
        text = f"[{kong.configuration['database'] or 'off'}] {error}"
        return (None, text_to_lua(text), self._to_lua(error.body()))

    def _db_read(self, entity: str, operation: str, *arguments: Any) -> Any:
        return self._read(entity, operation, [self._from_lua(argument) for argument in arguments])

    async def _read(self, entity: str, operation: str, arguments: list[Any]) -> Any:
        try:
            found = await asyncio.to_thread(_read, entity, operation, arguments)
            return self._db_result(operation, found, keeps_null=_has_nulls(arguments))
        except EntityError as error:
            return self._entity_fault(error)
        except GatewayError as error:
            return (None, text_to_lua(str(error)))
        except (TypeError, ValueError, AttributeError) as error:
            return self._vm.bridge.fault(error)

    def _db_write(self, entity: str, operation: str, *arguments: Any) -> Any:
        return self._write(entity, operation, [self._from_lua(argument) for argument in arguments])

    async def _write(self, entity: str, operation: str, arguments: list[Any]) -> Any:
        try:
            written = await getattr(getattr(kong.db, entity), operation)(*arguments)
            return self._to_lua(written, keeps_null=_has_nulls(arguments))
        except EntityError as error:
            return self._entity_fault(error)
        except GatewayError as error:
            return (None, text_to_lua(str(error)))
        except (TypeError, ValueError, AttributeError) as error:
            return self._vm.bridge.fault(error)

    # -- dns, timers, events ------------------------------------------------------------------------------------------

    async def _toip(self, name: Any, port: Any) -> Any:
        try:
            address = await kong.dns.toip(name, port)
        except (GatewayError, TypeError, ValueError) as error:
            return (None, text_to_lua(str(error)))
        return (address.ip, address.port)

    async def _resolve(self, name: Any, kind: Any = None) -> Any:
        try:
            return self._to_lua(await kong.dns.resolve(name, kind))
        except (GatewayError, TypeError, ValueError) as error:
            return (None, text_to_lua(str(error)))

    def _timer_start(self, name: Any, is_repeating: bool, delay: Any, callback: Any, *arguments: Any) -> Any:
        plugin = self._vm.plugin_name()
        callback = self._vm.anchor(callback)
        arguments = tuple(self._vm.anchor(argument) for argument in arguments)

        def run() -> Any:
            return self._vm.call(plugin, callback, False, *arguments)

        timer = kong.timer
        if name is not None:
            return (timer.named_every if is_repeating else timer.named_at)(self._from_lua(name), delay, run)
        return (timer.every if is_repeating else timer.at)(delay, run)

    def _retry_callback(self, callback: Any) -> None:
        plugin = self._vm.plugin_name()
        callback = self._vm.anchor(callback)

        def run() -> Any:
            values = self._vm.call(plugin, callback)
            return self._from_lua(values[0]) if values else None

        kong.service.set_target_retry_callback(run)

    def _subscribe(self, channel: Any, callback: Any) -> None:
        plugin = self._vm.plugin_name()
        callback = self._vm.anchor(callback)

        def run(data: Any) -> Any:
            return self._vm.call(plugin, callback, self._to_lua(data))

        kong.cluster_events.subscribe(self._from_lua(channel), run)

    def _listen(self, callback: Any, source: Any, event: Any) -> None:
        plugin = self._vm.plugin_name()
        callback = self._vm.anchor(callback)

        def run(data: Any, name: str, origin: str, process: int) -> Any:
            return self._vm.call(plugin, callback, self._to_lua(data), name, origin, process)

        kong.worker_events.register(run, source, event)

    # -- tracing ------------------------------------------------------------------------------------------------------

    def _tracing(self, operation: str, *arguments: Any) -> Any:
        given = [self._from_lua(argument) for argument in arguments]
        found = getattr(kong.tracing, operation)(*given)
        if isinstance(found, list):
            table = self._vm.runtime.table()
            for position, span in enumerate(found, 1):
                table[position] = span
            return table
        return found

    def _span(self, span: Any, operation: str, *arguments: Any) -> Any:
        return getattr(span, operation)(*[self._from_lua(argument) for argument in arguments])


def _has_nulls(arguments: Sequence[Any]) -> bool:
    """Tell whether the options of a function of `kong.db` ask for fields that are null."""
    options = arguments[-1] if len(arguments) > 1 else None
    return isinstance(options, dict) and options.get("nulls") is True


def _read(entity: str, operation: str, given: list[Any]) -> Any:
    """Return what a reading function of `kong.db` finds; entities as a list."""
    table = getattr(kong.db, entity)
    own = 1 if "_for_" in operation else 0
    if operation.startswith("each"):
        size, options = (*given[own:], None, None)[:2]
        return list(getattr(table, operation)(*given[:own], DEFAULT_PAGE_SIZE if size is None else size, options))
    if operation.startswith("page"):
        size, offset, options = (*given[own:], None, None, None)[:3]
        return getattr(table, operation)(*given[:own], DEFAULT_PAGE_SIZE if size is None else size, offset, options)
    if operation == "cache_key":
        return table.cache_key(*given)
    return getattr(table, operation)(*given[: 1 if operation == "select_by_cache_key" else 2])


def _cache(name: str) -> Cache:
    return kong.core_cache if name == "core_cache" else kong.cache
