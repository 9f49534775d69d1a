"""Where Lua modules are looked for: the setting `lua_package_path` and the trees of LuaRocks.

Owns the form of the setting (templates with `?`, separated by `;`, `;;` for the default places) and the search itself.
Loading is `vm`'s.
"""

import os
from functools import lru_cache
from pathlib import Path

from headgate.pdk._node import node

VERSION = "5.1"


def default_templates() -> list[str]:
    """Return where modules are found without a setting: the directory of the start, the trees of LuaRocks."""
    trees = [Path("/usr/local/share/lua") / VERSION, Path("/usr/share/lua") / VERSION]
    home = os.environ.get("HOME")
    if home:
        trees.insert(0, Path(home) / ".luarocks" / "share" / "lua" / VERSION)
    return [f"{tree}/{shape}" for tree in trees for shape in ("?.lua", "?/init.lua")]


def paths() -> list[str]:
    """Return the templates in force, in the order of the search."""
    return list(_parsed(str(node.configuration.get("lua_package_path") or ";;")))


@lru_cache(maxsize=8)
def _parsed(setting: str) -> tuple[str, ...]:
    templates: list[str] = []
    for part in setting.replace(";;", ";\0;").split(";"):
        if part == "\0":
            templates += default_templates()
        elif part.strip():
            templates.append(os.path.expanduser(part.strip()))
    return tuple(dict.fromkeys(templates))


def find(module: str, templates: list[str]) -> Path | None:
    """Return the file of a module; None when there is none."""
    name = module.replace(".", "/")
    if ".." in module or module.startswith("/"):
        return None
    for template in templates:
        path = Path(template.replace("?", name))
        if path.is_file():
            return path
    return None


def tried(module: str) -> list[str]:
    """Return the files that would have been a module."""
    name = module.replace(".", "/")
    return [template.replace("?", name) for template in paths()]


def plugin_names() -> list[str]:
    """Return the names of all Lua plugins that can be found: the directories `kong/plugins/<name>` with a handler."""
    names: set[str] = set()
    for template in paths():
        if not template.endswith("/?.lua"):
            continue
        for handler in Path(template.removesuffix("/?.lua")).glob("kong/plugins/*/handler.lua"):
            names.add(handler.parent.name)
    return sorted(names)
