"""Where Lua modules are looked for: the setting `lua_package_path` and the trees of LuaRocks.

Owns the form of the setting (templates with `?`, separated by `;`, `;;` for the default places) and the search itself.
Loading is `vm`'s.
"""

import os
from functools import lru_cache
from pathlib import Path

from headgate.pdk._node import node

VERSION = "5.1"

_GONE = "Kong 3 does not have it"
_ENTERPRISE = "part of Kong's enterprise edition only"
_NATIVE = "a native library, which cannot be loaded here"
REPLACED = {
    "kong.plugins.base_plugin": f"{_GONE}; a handler is a plain table with PRIORITY and VERSION",
    "kong.plugins.log-serializers.basic": f"{_GONE}; use kong.log.serialize()",
    "kong.singletons": f"{_GONE}; its members are those of kong",
    "kong.tools.responses": f"{_GONE}; use kong.response.exit",
    "kong.responses": f"{_GONE}; use kong.response.exit",
    "kong.tools.database_cache": f"{_GONE}; use kong.cache",
    "kong.tools.batch_queue": f"{_GONE}; use kong.tools.queue",
    "kong.dao.errors": f"{_GONE}; kong.db returns its errors",
    "lsyslog": _NATIVE,
    "lfs": f"{_NATIVE}; use pl.path and pl.dir",
    "lua_pack": f"{_NATIVE}; use the functions of string.byte and string.char",
    "pb": f"{_NATIVE}; write the plugin in Python",
    "openssl": f"{_NATIVE}; use resty.openssl",
    "openssl.pkey": f"{_GONE}; use resty.openssl.pkey",
    "openssl.hmac": f"{_GONE}; use resty.openssl.hmac",
    "openssl.digest": f"{_GONE}; use resty.openssl.digest",
    "resty.mysql": "put the work behind a service, or write it in Python",
    "pgmoon": "use kong.db, or write it in Python",
    "ngx.balancer": "use kong.service.set_target and kong.service.set_retries",
    "ngx.ssl": "use kong.client.tls",
}
"""Modules that plugins require and that there cannot be, and what there is in their place."""
_REPLACED_FAMILIES = {
    "kong.openid-connect.": _ENTERPRISE,
    "kong.enterprise_edition.": _ENTERPRISE,
    "kong.dao.": f"{_GONE}; use kong.db",
    "kong.runloop.": "a part of Kong's own machinery, which is another one here",
    "kong.clustering.": "a part of Kong's own machinery, which is another one here",
    "pl.": "a part of Penlight that is not here; a whole one, installed on lua_package_path, takes the place of all",
    "lapis.": "the Admin API is not lapis; use kong.api.endpoints",
}


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


def instead(module: str) -> str | None:
    """Return what there is in the place of a module that there cannot be; None for any other."""
    text = REPLACED.get(module)
    if text is not None:
        return text
    return next((text for family, text in _REPLACED_FAMILIES.items() if module.startswith(family)), None)


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
