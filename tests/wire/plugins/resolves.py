"""Answers with what `kong.dns` says of the name in the query."""

import json

from headgate import Plugin, PluginConfig, kong
from headgate.pdk.dns import DnsError


class Config(PluginConfig):
    """Nothing to configure."""


class Handler(Plugin[Config]):
    """Resolves `?name=`, of the type `?type=`, or with `?port=` one address to connect to."""

    VERSION = "1.0.0"
    PRIORITY = 50

    async def access(self, conf: Config) -> None:
        """Answer with JSON."""
        query = kong.request.get_query()
        name, kind, port = str(query["name"]), query.get("type"), query.get("port")
        try:
            if port is not None:
                found: object = await kong.dns.toip(name, int(str(port)))
            else:
                found = await kong.dns.resolve(name, None if kind is None else int(str(kind)))
        except DnsError as error:
            found = str(error)
        kong.response.exit(200, json.dumps(found), {"Content-Type": "application/json"})
