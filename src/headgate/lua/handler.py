"""A Lua plugin as a handler behind the runner's protocol, and its configurations as Lua tables.

Owns the class that stands for `handler.lua` (methods for the phases that the table has functions for) and what its
methods get: the Lua table of a configuration, made once per instance. The runner calls it as it calls any other.
"""

import types
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import lupa.luajit21 as lupa

from headgate.errors import PluginLoadError
from headgate.lua.chunks import in_pieces
from headgate.lua.schema import SchemaReader
from headgate.lua.values import LuaTable, text_from_lua
from headgate.lua.vm import Vm, vm
from headgate.pdk._bound import references_of
from headgate.pdk._call import current_call
from headgate.pdk._node import node
from headgate.pdk.plugin import InstanceInfo, Plugin
from headgate.phases import Phase
from headgate.schema import PluginConfig, plain

if TYPE_CHECKING:
    from pathlib import Path

get_call = current_call.get
PHASES = tuple(phase.label for phase in Phase)


class LuaArgument:
    """What the handlers of one instance get: its configuration as a Lua table, with the keys that Kong adds.

    `starts`: functions that run the handler of a phase with this table.
    """

    __slots__ = ("_config", "_machine", "has_references", "info", "starts", "table")

    def __init__(self, machine: Vm, config: Any, info: InstanceInfo) -> None:
        self._machine = machine
        self._config = config
        self.info = info
        self.has_references = bool(info.refs)
        self.starts: dict[str, Callable[..., Any]] = {}
        self.table = machine.values.to_lua(plain(config) if config is not None else {})
        if self.table.__class__ is not LuaTable:
            self.table = machine.runtime.table()
        workspace = node.configuration.get("default_workspace")
        scope = (info.route_id, info.service_id, info.consumer_id)
        members = {
            "route_id": info.route_id,
            "service_id": info.service_id,
            "consumer_id": info.consumer_id,
            "consumer_group_id": info.consumer_group_id,
            "plugin_instance_name": info.instance_name,
            "__plugin_id": info.id,
            "__ws_id": workspace,
            "__seq__": info.sequence,
            "__key__": f"plugins:{info.name}:{':'.join(one or '' for one in scope)}::{workspace or ''}",
        }
        for name, value in members.items():
            if value is not None:
                self.table[name] = value
        if info.refs:
            self.table["$refs"] = machine.values.to_lua(dict(info.refs))

    def refresh(self) -> None:
        """Put the secrets of now into the table: they may have been rotated since it was made."""
        for slot in references_of(self._config):
            target = self.table
            *path, last = slot.path
            for name in path:
                target = target[name + 1 if isinstance(name, int) else name]
            value = slot.container[slot.key]
            key = last + 1 if isinstance(last, int) else last
            target[key] = self._machine.values.to_lua(value)


def load_plugin(name: str, path: "Path") -> tuple[type[Plugin[Any]], type[PluginConfig]]:
    """Load the handler and the schema of a Lua plugin; returns its class and its configuration model.

    Raises: PluginLoadError with every fault.
    """
    machine = vm()
    machine.forget(f"kong.plugins.{name}")
    table = _module(machine, name, "handler", path)
    schema_path = machine.find(f"kong.plugins.{name}.schema")
    if schema_path is None:
        raise PluginLoadError(f"no configuration schema found for plugin: {name}")
    schema = _module(machine, name, "schema", schema_path)
    model = SchemaReader(machine).config_model(name, schema)
    return handler_class(machine, name, table, path, model), model


def handler_class(machine: Vm, name: str, table: Any, path: "Path", model: type[PluginConfig]) -> type[Plugin[Any]]:
    """Return the class for a handler table."""
    members: dict[str, Any] = {
        "__module__": f"kong.plugins.{name}.handler",
        "SOURCE_FILE": str(path),
        "VERSION": _version(table["VERSION"]),
        "PRIORITY": table["PRIORITY"],
        "adapt_config": lambda self, config, info: LuaArgument(machine, config, info),
    }
    for phase in PHASES:
        function = table[phase]
        if function is not None and lupa.lua_type(function) == "function":
            members[phase] = _method(machine, name, table, function, phase)
    for key, value in table.items():
        # What is no phase is never called, but a misspelt one is told.
        is_own = isinstance(key, str) and key.isidentifier() and not hasattr(Plugin, key) and key != "used_phases"
        if is_own and lupa.lua_type(value) == "function":
            members.setdefault(key, value)
    return types.new_class("Handler", (Plugin[model],), exec_body=lambda namespace: namespace.update(members))  # type: ignore[valid-type]


def _method(machine: Vm, name: str, table: Any, function: Any, phase: str) -> Callable[..., Any]:
    if phase == Phase.INIT_WORKER.label:

        def init_worker(self: Any) -> Any:
            return machine.call(name, function, table)

        return init_worker
    if phase == Phase.CONFIGURE.label:

        def configure(self: Any, arguments: Any) -> Any:
            if arguments is None:
                return machine.call(name, function, table, None)
            configs = machine.runtime.table()
            for position, argument in enumerate(arguments, 1):
                configs[position] = argument.table
            return machine.call(name, function, table, configs)

        return configure

    settled = machine.settled

    def handle(self: Any, argument: LuaArgument) -> Any:
        start = argument.starts.get(phase)
        if start is None:
            start = argument.starts[phase] = machine.start(name, function, table, argument.table)
        if argument.has_references:
            argument.refresh()
        call = get_call()
        outcome = start() if call is None else start(call.exchange.lua_handle, call.lua)
        return None if outcome is None else settled(outcome)

    if phase == Phase.BODY_FILTER.label:

        def body_filter(self: Any, argument: LuaArgument) -> Any:
            return in_pieces(partial(handle, self, argument))

        return body_filter
    return handle


def _version(value: Any) -> Any:
    """Return a version in the form `x.y.z`; what has none stays as it is, and is refused by the catalog."""
    if not isinstance(value, str):
        return value
    parts = value.split("-")[0].split("+")[0].lstrip("v").split(".")
    return ".".join(parts) if len(parts) <= 3 and all(part.isdigit() for part in parts) else value


def _module(machine: Vm, name: str, part: str, path: "Path") -> Any:
    table = machine.load_module(f"kong.plugins.{name}.{part}")
    if table.__class__ is not LuaTable:
        raise PluginLoadError(f"plugin '{name}' cannot be loaded: {path} does not return a table")
    return table


def source_of(name: str) -> str | None:
    """Return the text of a Lua plugin's handler; None when it cannot be found."""
    found = vm().find(f"kong.plugins.{name}.handler")
    return None if found is None else text_from_lua(found.read_bytes().decode("latin-1"))
