"""What a call may take where no node has set anything is what the settings say."""

from headgate.config.load import load_settings
from headgate.config.lua import Lua
from headgate.lua.limits import DEFAULT_INSTRUCTIONS, DEFAULT_MEMORY_BYTES, instructions_of


def test_defaults_are_those_of_the_settings() -> None:
    lua: Lua = load_settings(None, {}, {"prefix": "/nowhere"}).lua
    assert (
        lua.untrusted_lua_instructions,
        lua.untrusted_lua_memory_bytes,
    ) == (DEFAULT_INSTRUCTIONS, DEFAULT_MEMORY_BYTES)


def test_no_limit_is_kept_apart_from_none_set() -> None:
    assert (instructions_of(None), instructions_of(0), instructions_of("5")) == (DEFAULT_INSTRUCTIONS, 0, 5)
