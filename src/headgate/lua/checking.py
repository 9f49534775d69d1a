"""Which calls of a Lua plugin this gateway does not have: found in its source, before anything runs it.

Owns the reading of `kong.…`, `ngx.…` and `require` in source texts, comments and texts left out, and the comparison
with what the machine really has: there is no second list. Only what cannot be seen there is named here.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lupa.luajit21 as lupa

from headgate.lua import search
from headgate.lua.ngx.variables import VARIABLES
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

_SKIPPED = re.compile(r"--\[(?P<c>=*)\[.*?\](?P=c)\]|--[^\n]*|\[(?P<l>=*)\[.*?\](?P=l)\]", re.DOTALL)
_TEXT = re.compile(r"\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'")
_REQUIRE = re.compile(r"\brequire\s*\(?\s*[\"']([\w.\-]+)[\"']")
_NAME = re.compile(r"(?<![\w.:])(kong|ngx)((?:[.:][A-Za-z_]\w*)+)")


def unsupported_calls(directory: Path) -> list[str]:
    """Return one line, with file and line number, for each call in the Lua files of a plugin that is not there."""
    machine = vm()
    faults: list[str] = []
    for file in sorted(directory.rglob("*.lua")):
        source = file.read_text(encoding="utf-8", errors="replace")
        for line, text in _faults(machine, source):
            faults.append(f"{file}:{line}: {text}")
    return faults


def _faults(machine: Vm, source: str) -> Iterator[tuple[int, str]]:
    code = _SKIPPED.sub(lambda found: "\n" * found.group().count("\n"), source)
    for found in _REQUIRE.finditer(code):
        module = found.group(1)
        if module not in _BUILT_IN and not _is_loaded(machine, module) and machine.find(module) is None:
            replacement = search.instead(module)
            hint = "" if replacement is None else f"; {replacement}"
            yield _line(code, found.start()), f"require '{module}': there is no such module{hint}"
    bare = _TEXT.sub(lambda found: '"' + " " * (len(found.group()) - 2) + '"', code)
    for found in _NAME.finditer(bare):
        path = (found.group(1) + found.group(2)).replace(":", ".")
        text = _name_fault(machine, path)
        if text is not None:
            yield _line(bare, found.start()), text


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


def _line(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1
