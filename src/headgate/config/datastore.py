"""Settings of the store and of routing, which is built from it."""

import base64
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from headgate.config.kinds import Array, Boolean, Choice, Number, Seconds, Text
from headgate.config.setting import setting

_KEY_BYTES = 32
# It is written into the connection's options, where anything else would be another option.
_SCHEMA = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")


def encryption_key(text: str) -> bytes | None:
    """Return the key of its text in base64; None when it is none."""
    try:
        key = base64.b64decode(text, validate=True)
    except ValueError:
        return None
    return key if len(key) == _KEY_BYTES else None


@dataclass(frozen=True)
class Datastore:
    """Where entities come from."""

    database: str = setting(
        Choice(("off", "sqlite", "postgres")),
        "off",
        "Store of the entities. off: a declarative document, given by file or by POST /config. sqlite: a file of this "
        "node. postgres: a server that nodes share.",
    )
    sqlite_path: str = setting(
        Text("path"), "headgate.db", "File of database = sqlite, relative to the prefix; made when it is not there."
    )
    pg_host: str = setting(Text(), "127.0.0.1", "Host of the PostgreSQL server.")
    pg_port: int = setting(Number(1, 65535), "5432", "Port of the PostgreSQL server.")
    pg_user: str = setting(Text(), "kong", "User of the PostgreSQL server.")
    pg_password: str | None = setting(Text(), None, "Password of that user.", is_secret=True)
    pg_database: str = setting(Text(), "kong", "Database on the PostgreSQL server.")
    pg_schema: str | None = setting(Text(), None, "Schema in that database; without it, the user's own choice.")
    pg_timeout_ms: int = setting(
        Number(1, 2147483646),
        "5000",
        "Milliseconds for connecting, and for each statement but those of migrations.",
        name="pg_timeout",
    )
    pg_ssl: bool = setting(Boolean(), "off", "Connect with TLS.")
    pg_ssl_verify: bool = setting(
        Boolean(), "off", "Check the server's certificate against the system's authorities, and its name."
    )
    pg_pool_size: int = setting(Number(1, 1000), "5", "Most connections to the PostgreSQL server.")
    encryption_keys: tuple[str, ...] = setting(
        Array(),
        "",
        "Keys for the secrets in the database, each 32 bytes in base64 (openssl rand -base64 32): fields declared "
        "encrypted, and configurations of plugins and vaults, in exports too, and the whole of what the node keeps for "
        "a start without its database. The first one encrypts, all decrypt. Without keys they are plain text.",
        is_secret=True,
    )
    db_update_propagation_ms: int = setting(
        Seconds(),
        "0",
        "Seconds by which messages of other nodes (kong.cluster_events, kong.cache) are delayed, for databases whose "
        "replicas lag.",
        name="db_update_propagation",
    )
    declarative_config: str | None = setting(
        Text("path"), None, "Declarative file (.yml, .yaml, .json) loaded at start."
    )
    declarative_config_string: str | None = setting(
        Text(), None, "Declarative document as text; declarative_config wins when both are given.", is_secret=True
    )
    router_flavor: str = setting(
        Choice(("traditional_compatible", "traditional", "expressions")),
        "traditional_compatible",
        "Rules by which routes are matched.",
    )
    role: str = setting(
        Choice(("traditional", "control_plane", "data_plane")), "traditional", "Part this node plays in a cluster."
    )

    def check(self) -> Iterator[str]:
        """Yield faults that concern more than the syntax of one setting."""
        if self.database != "off" and (self.declarative_config or self.declarative_config_string):
            yield (
                f"declarative_config is not read with database = {self.database}: "
                "headgate config db_import FILE puts a document into the database"
            )
        if self.encryption_keys and self.database == "off":
            yield "encryption_keys has no effect with database = off: the declarative document stays as it is"
        for position, text in enumerate(self.encryption_keys, 1):
            if encryption_key(text) is None:
                yield f"encryption_keys: key {position} is not 32 bytes in base64; openssl rand -base64 32 makes one"
        if self.pg_schema is not None and _SCHEMA.fullmatch(self.pg_schema) is None:
            yield "pg_schema must be letters, digits and underscores and start with a letter"
        if self.role != "traditional":
            yield f"role = {self.role} is not available in this release: use traditional"
        if self.declarative_config is not None and not Path(self.declarative_config).expanduser().is_file():
            yield f"declarative_config: no file at: {self.declarative_config}"
