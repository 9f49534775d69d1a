"""Lua plugins that a test writes."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from headgate.lua.vm import vm
from headgate.pdk._node import node

HANDLER = 'return { VERSION = "1.0.0", PRIORITY = 1, access = function() end }'
SCHEMA = 'return { name = "written", fields = { { config = { type = "record", fields = {} } } } }'

Write = Callable[..., Path]


@pytest.fixture
def written_plugin(tmp_path: Path) -> Iterator[Write]:
    """Return a function that writes the modules of a plugin `written`, found by the machine; returns its folder."""
    before = node.configuration.get("lua_package_path")
    node.configuration["lua_package_path"] = f"{tmp_path}/?.lua;{tmp_path}/?/init.lua"

    def write(**modules: str) -> Path:
        folder = tmp_path / "kong" / "plugins" / "written"
        for name, source in ({"handler": HANDLER, "schema": SCHEMA} | modules).items():
            file = folder / f"{name.replace('__', '/')}.lua"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(source, encoding="utf-8")
        vm().forget("kong.plugins.written")
        return folder

    yield write
    vm().forget("kong.plugins.written")
    node.configuration["lua_package_path"] = before
