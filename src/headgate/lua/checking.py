"""Which calls of a Lua plugin this gateway does not have: found in its source, before anything runs it.

Owns the comparison of what a source uses (`reading`) with what the machine really has: there is no second list. Only
what cannot be seen there is named here.
"""

from pathlib import Path
from typing import Any

import lupa.luajit21 as lupa

from headgate.lua import search
from headgate.lua.errors import LuaFaultError
from headgate.lua.ngx.variables import VARIABLES
from headgate.lua.reading import Path as NamePath
from headgate.lua.reading import Requirement, Use, uses
from headgate.lua.values import LuaTable
from headgate.lua.vm import Vm, vm

REFUSED = frozenset(
    (
        *("ngx.location.capture", "ngx.location.capture_multi", "ngx.exec", "ngx.req.socket", "ngx.req.init_body"),
        *("ngx.req.append_body", "ngx.req.finish_body", "ngx.req.set_body_file", "kong.db.connector"),
    )
)
"""Names that are there and raise when they are called."""

_OPEN = ("ngx.ctx", "ngx.header", "ngx.arg", "ngx.shared", "kong.ctx", "kong.configuration", "kong.db", "ngx.status")
"""Tables whose members are not known beforehand."""
_BUILT_IN = frozenset(("bit", "ffi", "jit", "jit.util", "string.buffer", "table.new", "table.clear"))
_VARIABLE_PREFIXES = ("http_", "sent_http_", "upstream_http_", "arg_", "cookie_")


def unsupported_calls(directory: Path) -> list[str]:
    """Return one line, with file and line number, for each call in the Lua files of a plugin that is not there."""
    machine = vm()
    files = {
        file: list(uses(file.read_text(encoding="utf-8", errors="replace")))
        for file in sorted(directory.rglob("*.lua"))
    }
    # What a plugin puts there itself is there.
    own = {use.path for found in files.values() for use in found if isinstance(use, Use) and use.is_written}
    faults: list[str] = []
    for file, found in files.items():
        told: set[tuple[int, str]] = set()
        for use in found:
            text = (
                _required_fault(machine, use.module) if isinstance(use, Requirement) else _use_fault(machine, use, own)
            )
            if text is not None and (use.line, text) not in told:
                told.add((use.line, text))
                faults.append(f"{file}:{use.line}: {text}")
    return faults


def _required_fault(machine: Vm, module: str) -> str | None:
    if module in _BUILT_IN or _is_loaded(machine, module) or machine.find(module) is not None:
        return None
    replacement = search.instead(module)
    hint = "" if replacement is None else f"; {replacement}"
    return f"require '{module}': there is no such module{hint}"


def _use_fault(machine: Vm, use: Use, own: set[NamePath]) -> str | None:
    if use.is_written or any(use.path[:length] in own for length in range(1, len(use.path) + 1)):
        return None
    if use.module is None:
        return _name_fault(machine, ".".join(use.path)) if len(use.path) > 1 else None
    return _member_fault(machine, use.module, use.path) if use.path else None


def _member_fault(machine: Vm, module: str, path: NamePath) -> str | None:
    """Return what is wrong with a member of a module of the gateway's library; of others nothing is known."""
    if not machine.is_own(module):
        return None
    try:
        table = machine.require(module)
    except LuaFaultError:
        return None
    if table.__class__ is not LuaTable or lupa.lua_type(table) != "table" or table[path[0]] is not None:
        return None
    return f"{module}.{path[0]} is not there"


def _is_loaded(machine: Vm, module: str) -> bool:
    return machine.globals["package"]["loaded"][module] is not None


def _name_fault(machine: Vm, path: str) -> str | None:
    for refused in REFUSED:
        if path == refused or path.startswith(f"{refused}."):
            return f"{refused} is not supported"
    if any(path == one or path.startswith(f"{one}.") for one in _OPEN):
        return None
    if path.startswith("ngx.var."):
        name = path.split(".")[2]
        known = name in VARIABLES or name.startswith(_VARIABLE_PREFIXES)
        return None if known else f"ngx.var.{name} is always nil"
    value: Any = machine.globals
    walked: list[str] = []
    for part in path.split("."):
        value = value[part]
        walked.append(part)
        if value is None:
            # Constants that modules of the plugin put there themselves would look the same: told as what is missing.
            return f"{'.'.join(walked)} is not there"
        if value.__class__ is not LuaTable or lupa.lua_type(value) == "function":
            return None
    return None
