"""`kong.configuration`: the node's settings, read-only."""

from collections.abc import Iterator
from copy import deepcopy
from typing import Any

from headgate.pdk._node import node

SENSITIVE = (
    "pg_password",
    "pg_ro_password",
    "proxy_server",
    "declarative_config_string",
    "cluster_cert_key",
    "ssl_cert_key",
    "client_ssl_cert_key",
    "admin_ssl_cert_key",
    "admin_gui_ssl_cert_key",
    "status_ssl_cert_key",
    "debug_ssl_cert_key",
)


class Configuration:
    """`kong.configuration`: settings by name, as attributes or items; an unknown name is None."""

    __slots__ = ()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return node.configuration.get(name)

    def __getitem__(self, name: str) -> Any:
        return node.configuration.get(name)

    def __setattr__(self, name: str, value: Any) -> None:
        raise TypeError("cannot write to configuration")

    def __setitem__(self, name: str, value: Any) -> None:
        raise TypeError("cannot write to configuration")

    def __contains__(self, name: object) -> bool:
        return name in node.configuration

    def __iter__(self) -> Iterator[str]:
        return iter(node.configuration)

    def remove_sensitive(self) -> dict[str, Any]:
        """Return a deep copy with the values of secret settings replaced by `******`."""
        settings = deepcopy(node.configuration)
        for name in SENSITIVE:
            if settings.get(name):
                settings[name] = "******"
        settings.pop("$refs", None)
        return settings


configuration = Configuration()
