"""Settings of Lua: where plugins and modules are, what functions given in the configuration may do."""

from collections.abc import Iterator
from dataclasses import dataclass

from headgate.config.kinds import Array, Choice, Number, Size, Text
from headgate.config.setting import setting

UNTRUSTED_MODES = ("off", "strict", "lax", "sandbox", "on")


@dataclass(frozen=True)
class Lua:
    """Lua code: where it is looked for, and the bounds of code that comes with the configuration."""

    lua_package_path: str = setting(
        Text("templates"),
        "./?.lua;./?/init.lua;;",
        "Where Lua plugins and modules are looked for: templates with ? for the name, separated by semicolons; ;; "
        "stands for the trees of LuaRocks.",
    )
    untrusted_lua: str = setting(
        Choice(UNTRUSTED_MODES),
        "sandbox",
        "What functions in the configuration may use: off (they do not run), strict or lax (a list of names), sandbox "
        "(the usual libraries), on (everything).",
    )
    untrusted_lua_sandbox_requires: tuple[str, ...] = setting(
        Array(), "", "Modules that functions may require in the mode sandbox, by exact name."
    )
    untrusted_lua_sandbox_environment: tuple[str, ...] = setting(
        Array(), "", "Further global names that functions see in the mode sandbox, e.g. foo.bar."
    )
    untrusted_lua_instructions: int = setting(
        Number(minimum=0),
        "10000000",
        "How many instructions one call of a function may take before its request ends with 500; 0 is no limit. "
        "Not in the mode on.",
    )
    untrusted_lua_memory_bytes: int = setting(
        Size(),
        "64m",
        "How much memory one call of a function may take before its request ends with 500. Not in the mode on.",
        name="untrusted_lua_memory",
    )

    def check(self) -> Iterator[str]:
        """Yield faults that concern more than the syntax of one setting."""
        if not any("?" in part for part in self.lua_package_path.replace(";;", ";?;").split(";")):
            yield "lua_package_path has no template with ? for the name of a module"
        if self.untrusted_lua_memory_bytes < 1024 * 1024:
            yield "untrusted_lua_memory must be 1m or greater"
