"""Calls functions of the PDK as its configuration says, in one phase, and answers what they returned."""

import inspect
from collections.abc import Mapping
from functools import reduce
from typing import Any

from headgate import Plugin, PluginConfig, kong
from headgate.schema import Record, field


class Call(Record):
    """`kong.<name>(*arguments)`."""

    name: str
    arguments: list[Any] = field(default_factory=list)


class Config(PluginConfig):
    """`is_answering`: the request ends with the returned values; otherwise it goes on."""

    calls: list[Call]
    is_answering: bool = True


class Handler(Plugin[Config]):
    VERSION = "1.0.0"
    PRIORITY = 10

    async def access(self, conf: Config) -> None:
        returned: dict[str, Any] = {}
        for call in conf.calls:
            function = reduce(getattr, call.name.split("."), kong)
            value = function(*call.arguments)
            returned[call.name] = shown(await value if inspect.isawaitable(value) else value)
        if conf.is_answering:
            kong.response.exit(200, returned)


def shown(value: Any) -> Any:
    """Return a value as JSON has it."""
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, Mapping):
        return {str(key): shown(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [shown(one) for one in value]
    return type(value).__name__
