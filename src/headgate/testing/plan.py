"""What the PDK asks of a plan and its snapshot, over entities given as plain dicts."""

import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import Any

Entity = dict[str, Any]


class MemorySnapshot:
    """Entities by type; entities without an id get one."""

    def __init__(self, entities: Mapping[str, Iterable[Entity]]) -> None:
        self._entities = {
            kind: [{"id": str(uuid.uuid4()), **entity} for entity in rows] for kind, rows in entities.items()
        }

    def all(self, entity_type: str) -> list[Entity]:
        return self._entities.get(entity_type, [])

    def get(self, entity_type: str, entity_id: str) -> Entity | None:
        return self.by(entity_type, "id", entity_id)

    def by(self, entity_type: str, unique_field: str, value: Any) -> Entity | None:
        return next((entity for entity in self.all(entity_type) if entity.get(unique_field) == value), None)

    def children(self, entity_type: str, foreign_field: str, parent_id: str) -> list[Entity]:
        return [entity for entity in self.all(entity_type) if (entity.get(foreign_field) or {}).get("id") == parent_id]

    def indexed(self, entity_type: str, index_name: str, key: Callable[[Entity], str], value: str) -> Entity | None:
        return next((entity for entity in self.all(entity_type) if key(entity) == value), None)


class MemoryPlan:
    """One route, with or without a service."""

    def __init__(
        self, snapshot: MemorySnapshot, route: Mapping[str, Any] | None, service: Mapping[str, Any] | None
    ) -> None:
        self.snapshot = snapshot
        self._service: Entity | None = (
            None if service is None else {"id": str(uuid.uuid4()), "enabled": True, **service}
        )
        self._route: Entity = {
            "id": str(uuid.uuid4()),
            "name": "test",
            "protocols": ["http", "https"],
            "paths": ["/"],
            "service": None if self._service is None else {"id": self._service["id"]},
            **(route or {}),
        }

    def route(self, index: int) -> Entity:
        return self._route

    def service(self, index: int) -> Entity | None:
        return self._service
