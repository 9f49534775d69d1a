"""`kong.db.<entity>.schema`: what plugins may ask of an entity's schema, as a table with functions.

Owns the table and the checks behind its functions; `library/headgate/entity_schema.lua` has the Lua half.
"""

import time
from typing import TYPE_CHECKING, Any

from headgate.entities.entity_type import EntityType
from headgate.lua.values import text_from_lua
from headgate.schema import schema_json
from headgate.schema.validators import REQUIRED

if TYPE_CHECKING:
    from headgate.lua.vm import Vm


class EntitySchemas:
    """The schemas of one machine: always the same table for a type."""

    def __init__(self, machine: "Vm") -> None:
        self._machine = machine
        self._made: dict[str, tuple[EntityType, Any]] = {}

    def table(self, kind: EntityType) -> Any:
        """Return the table that stands for the schema of a type."""
        known = self._made.get(kind.name)
        if known is not None and known[0] is kind:
            return known[1]
        machine = self._machine
        to_lua = machine.values.to_lua
        table = machine.table(
            name=kind.name,
            primary_key=to_lua(list(kind.primary_key)),
            endpoint_key=kind.endpoint_key,
            cache_key=to_lua(list(kind.cache_key)) if kind.cache_key else None,
            admin_api_name=kind.admin_path.strip("/") or None,
            ttl=kind.has_ttl or None,
            fields=to_lua(schema_json(kind.model)["fields"]),
        )
        machine.require("headgate.entity_schema")(table, machine.bridge.raw(self._validator(kind)))
        self._made[kind.name] = (kind, table)
        return table

    def _validator(self, kind: EntityType) -> Any:
        values = self._machine.values

        def validate(given: Any, is_update: Any) -> Any:
            data = values.from_lua(given)
            if not isinstance(data, dict):
                raise TypeError("expected a table")
            _, faults = kind.examine(data, now=time.time(), is_update=bool(is_update))
            if is_update:
                # What is not given stays as it is.
                faults = {name: fault for name, fault in faults.items() if name in data or fault != REQUIRED}
            return True if not faults else (None, values.to_lua(faults))

        return validate


def named_schema(machine: "Vm", kinds: Any, name: Any) -> Any:
    """Return the table of a type by its name; nil where there is none."""
    kind = kinds.get(text_from_lua(str(name)))
    return None if kind is None else machine.entity_schemas.table(kind)
