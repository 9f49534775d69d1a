"""file-log: append one JSON record per request to a file.

Owns the configuration and the encoding of the record; `writer` owns the file.
"""

import json
from collections.abc import Sequence
from typing import Any

import orjson

from headgate import Plugin, PluginConfig, kong
from headgate.plugins._lua_fields import lua_code_fault, set_lua_fields
from headgate.plugins.file_log.writer import keep_only, writer_of
from headgate.schema import ALL_PROTOCOLS, field


class Config(PluginConfig):
    protocols = ALL_PROTOCOLS

    path: str = field(match=r"^[^*&%\\`]+$", lua_pattern="^[^*&%%\\`]+$", err="not a valid filename")
    reopen: bool = False
    custom_fields_by_lua: dict[str, str] | None = field(
        None, keys=field(len_min=1), values=field(len_min=1, validator=lua_code_fault)
    )


class Handler(Plugin[Config]):
    VERSION = "3.9.1"
    PRIORITY = 9

    def configure(self, configs: Sequence[Config] | None) -> None:
        """Let go of files that no instance writes to any more."""
        keep_only({conf.path for conf in configs or ()})

    def log(self, conf: Config) -> None:
        """Queue the record; the file is written elsewhere."""
        set_lua_fields(conf)
        line = encode(kong.log.serialize())
        writer_of(conf.path, kong.log.err).write(line, reopen=conf.reopen)

    ws_close = log


def encode(record: dict[str, Any]) -> bytes:
    """Return the record as one line of JSON."""
    try:
        return orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_NON_STR_KEYS, default=_plain)
    except TypeError:
        # Header bytes that are not UTF-8 arrive as lone surrogates, which only the slower encoder can escape.
        return json.dumps(record, separators=(",", ":"), default=_plain).encode("ascii") + b"\n"


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, (set, frozenset, tuple)):
        return list(value)
    if hasattr(value, "items"):
        return dict(value.items())
    return str(value)
