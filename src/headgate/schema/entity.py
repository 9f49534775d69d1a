"""How a plugin declares entities of its own: a record and what the gateway must know of it.

Owns the form of a declaration, which a plugin's `daos.py` lists in `ENTITIES`. What is made of it - storage, documents,
endpoints - is not known here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from headgate.schema.record import Record


@dataclass(frozen=True, kw_only=True)
class EntityDeclaration:
    """One type of entity of a plugin.

    name: plural; `kong.db.<name>`, the section of documents, the table and the default path.
    model: the fields. It needs `id: types.Id`, unless it has another primary key; references are
        `types.foreign("consumers", on_delete="cascade")`.
    primary_key: the fields that identify an entity; together, when there are several. They cannot be changed.
    endpoint_key: unique field that stands for the id in paths and references.
    cache_key: fields whose values make the key for `kong.cache`; unique, together when there are several.
    unique_together: further sets of fields that are unique together.
    ttl: entities take `ttl` (seconds) and disappear when it is over.
    db_export: part of declarative exports.
    generate_admin_api: the Admin API has paths for it, below `admin_api_name` (default: the name) and, below the
        entity a foreign field refers to, under `admin_api_nested_names[field]` (default: the same; None: not there).
    """

    name: str
    model: type[Record]
    primary_key: tuple[str, ...] = ("id",)
    endpoint_key: str | None = None
    cache_key: tuple[str, ...] = ()
    unique_together: tuple[tuple[str, ...], ...] = ()
    ttl: bool = False
    db_export: bool = True
    generate_admin_api: bool = True
    admin_api_name: str | None = None
    admin_api_nested_names: Mapping[str, str | None] = field(default_factory=dict)
