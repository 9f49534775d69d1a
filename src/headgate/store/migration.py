"""One step of a database schema, and how a package lists its steps.

Owns the form of a migration: a module with `up(op)`, `teardown(op)` or both, named in the list `MIGRATIONS` of its
package. Imports no database code, so that workers may load plugins that have migrations.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Final, TypeAlias

from headgate.errors import GatewayError

Step: TypeAlias = Callable[[Any], None]
_NAME: Final = re.compile(r"[0-9a-z][0-9a-z_]{0,99}")


class MigrationError(GatewayError):
    """The database cannot be brought to another state; the text is for a person."""


@dataclass(frozen=True)
class Migration:
    """One migration; `name` is its identity and never changes.

    up: may run while nodes of the version before serve, so it only adds. teardown: removes what only those needed.
    entity: the entity of the plugin whose table is made first, as it is declared. note: what a run tells of it.
    """

    name: str
    up: Step | None = None
    teardown: Step | None = None
    entity: str | None = None
    note: str | None = None


def migrations_of(index: ModuleType, namespace: str, load: Callable[[str], Any]) -> tuple[Migration, ...]:
    """Return the migrations that a package lists, in their order.

    Args: namespace, for texts; load imports a module by name.
    Raises: MigrationError.
    """
    names = getattr(index, "MIGRATIONS", None)
    if not isinstance(names, (list, tuple)):
        raise MigrationError(f"migrations index from '{namespace}' must be a list named MIGRATIONS")
    found: list[Migration] = []
    for name in names:
        if not isinstance(name, str) or _NAME.fullmatch(name) is None:
            raise MigrationError(f"migrations index from '{namespace}' holds a bad name: {name!r}")
        if any(migration.name == name for migration in found):
            raise MigrationError(f"migrations index from '{namespace}' names '{name}' twice")
        full_name = f"{index.__name__}.{name}"
        try:
            module = load(full_name)
        except ModuleNotFoundError as error:
            raise MigrationError(f"failed to load migration '{name}': {error}") from error
        up, teardown = getattr(module, "up", None), getattr(module, "teardown", None)
        if not callable(up) and not callable(teardown):
            raise MigrationError(
                f"migration '{full_name}' of '{namespace}' subsystem is invalid: at least one of these functions must "
                "be there: up, teardown"
            )
        found.append(Migration(name, up if callable(up) else None, teardown if callable(teardown) else None))
    return tuple(found)
