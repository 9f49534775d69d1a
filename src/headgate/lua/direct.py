"""The engine's C functions for Lua: which of `kong`'s functions take the short way, and with which phases.

The list is the engine's (crates/engine-py/src/lua.rs), the phases are those that the PDK's functions declare, the Lua
half is `library/headgate/direct.lua`. Where no engine is, as in control, in commands and in tests of plugins, all
functions go through Python.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from headgate.pdk._node import node

if TYPE_CHECKING:
    from headgate.lua.vm import Vm

Table: TypeAlias = Mapping[str, tuple[int, Sequence[str]]]
"""By kind: the address of the C function, and the functions of the PDK that it stands for."""

_RELEASED = "next_released"

_table: Table = {}


def provide(table: Table) -> None:
    """Have the machine that is made from now on take the short way."""
    global _table
    _table = table


def install(vm: "Vm", kong: Any, functions: Mapping[str, Callable[..., Any]]) -> None:
    """Put the short way in front of functions of `kong`, the table of Lua's.

    Args: functions: those of the PDK by dotted name.
    """
    if not _table:
        return
    makers = vm.require("headgate.direct")
    makers[_RELEASED](_table[_RELEASED][0])
    for kind, (address, names) in _table.items():
        for which, path in enumerate(names):
            *modules, name = path.split(".")
            module = kong
            for part in modules:
                module = module[part]
            phases = functions[path].__mask__  # type: ignore[attr-defined]
            # Of functions that list headers: how many they give out unless told.
            most = node.max_request_headers if modules[0] == "request" else node.max_response_headers
            module[name] = makers[kind](address, which, phases, module[name], most)
