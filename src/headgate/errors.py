"""Every error the gateway raises on purpose, as one tree under `GatewayError`.

Owns what a fault knows about itself: its text, the faults it bundles, and, for what the Admin API answers, code, name
and status. It does not own the wording of schema faults (`headgate.schema`) nor how an answer is written
(`headgate.admin`). Lowest module: it imports nothing of ours. Foreign exceptions are translated where they are caught,
so that nothing above ever handles a pydantic, YAML or operating-system error of a lower layer.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

ErrorTree = dict[str, Any]


class GatewayError(Exception):
    """Base of every error the gateway raises on purpose."""


class _FaultList(GatewayError):
    """An error that bundles several faults, one clear line each."""

    def __init__(self, faults: Sequence[str] | str) -> None:
        self.faults: list[str] = [faults] if isinstance(faults, str) else list(faults)
        super().__init__("\n".join(self.faults))


class SettingsError(_FaultList):
    """The process settings are faulty; `faults` has one line for each, `warnings` what is doubtful beside them."""

    def __init__(self, faults: Sequence[str] | str, warnings: Sequence[str] = ()) -> None:
        super().__init__(faults)
        self.warnings = list(warnings)


class PluginLoadError(_FaultList):
    """Plugins could not be loaded; `faults` has one line for each."""


class PlanError(_FaultList):
    """A snapshot could not be compiled into a plan; `faults` has one line for each."""


class PhaseError(GatewayError):
    """A PDK function was called in a phase that does not have it."""


class EngineError(GatewayError):
    """The engine refused a command or failed to start."""


class NameResolutionError(GatewayError):
    """A name has no address, or no name server says so."""


class ControlError(GatewayError):
    """Two processes of a node did not understand one another."""


class SchemaViolation(GatewayError):
    """Data does not fit its model. `fields` is the error tree, in the shape of the input, all faults at once."""

    def __init__(self, fields: ErrorTree, message: str | None = None) -> None:
        self.fields = fields
        self.message = message if message is not None else violation_message(fields)
        super().__init__(self.message)


class DeclarativeError(GatewayError):
    """A declarative configuration was refused.

    `fields` is the error tree: entity type, then position, then field. It is empty when the text could not be parsed,
    and `message` then starts with `failed parsing declarative configuration: `.
    """

    def __init__(
        self,
        message: str,
        fields: ErrorTree | None = None,
        *,
        flatten: Callable[[], tuple[list[dict[str, Any]], ErrorTree]] | None = None,
    ) -> None:
        self.message = message
        self.fields: ErrorTree = fields if fields is not None else {}
        self._flatten = flatten
        super().__init__(message)

    @property
    def is_parse_failure(self) -> bool:
        """Tell whether the text was no document at all, so that there is no error tree."""
        return not self.fields

    def flattened_errors(self) -> tuple[list[dict[str, Any]], ErrorTree]:
        """Return one entry per faulty entity, and the part of `fields` that belongs to none."""
        return self._flatten() if self._flatten is not None else ([], self.fields)

    def report(self) -> str:
        """Return the text for people: a line per fault, indented below what it is in."""
        if self.is_parse_failure:
            return self.message
        return "\n".join(["Failed parsing:", *_report_lines(self.fields, "", "")])


def _report_lines(tree: Any, item: str, indent: str) -> list[str]:
    is_list = isinstance(tree, list)
    lines: list[str] = []
    for key, value in enumerate(tree, 1) if is_list else tree.items():
        if value is None:
            continue
        label = f"- in entry {key} of '{item}'" if is_list else f"in '{key}'"
        if isinstance(value, (Mapping, list)):
            lines.append(f"{indent}{label}:")
            lines.extend(_report_lines(value, item if is_list else str(key), indent + "  "))
        else:
            lines.append(f"{indent}{label}: {value}")
    return lines


class EntityError(GatewayError):
    """An operation on an entity failed; carries all that the Admin API's error body shows."""

    def __init__(
        self,
        code: int,
        name: str | None = None,
        message: str = "",
        fields: ErrorTree | None = None,
        status: int | None = None,
    ) -> None:
        default_name, default_status = ENTITY_ERRORS.get(code, ("unknown error", 500))
        self.code = code
        self.name = name if name is not None else default_name
        self.message = message
        self.fields = fields
        self.status = status if status is not None else default_status
        super().__init__(message)

    def body(self) -> dict[str, Any]:
        """Return the body of the answer; `fields` only when there are some."""
        body: dict[str, Any] = {"code": self.code, "name": self.name, "message": self.message}
        if self.fields:
            body["options" if self.code == INVALID_OPTIONS else "fields"] = self.fields
        return body


INVALID_PRIMARY_KEY: Final = 1
SCHEMA_VIOLATION: Final = 2
PRIMARY_KEY_VIOLATION: Final = 3
FOREIGN_KEY_VIOLATION: Final = 4
UNIQUE_VIOLATION: Final = 5
NOT_FOUND: Final = 6
INVALID_OFFSET: Final = 7
DATABASE_ERROR: Final = 8
INVALID_SIZE: Final = 9
INVALID_UNIQUE: Final = 10
INVALID_OPTIONS: Final = 11
OPERATION_UNSUPPORTED: Final = 12
FOREIGN_KEYS_UNRESOLVED: Final = 13
DECLARATIVE_CONFIG: Final = 14
TRANSFORMATION_ERROR: Final = 15
INVALID_FOREIGN_KEY: Final = 16
INVALID_WORKSPACE: Final = 17
INVALID_UNIQUE_GLOBAL: Final = 18
REFERENCED_BY_OTHERS: Final = 19
INVALID_SEARCH_QUERY: Final = 20
INVALID_DELTAS: Final = 21

ENTITY_ERRORS: Final[Mapping[int, tuple[str, int]]] = {
    INVALID_PRIMARY_KEY: ("invalid primary key", 400),
    SCHEMA_VIOLATION: ("schema violation", 400),
    PRIMARY_KEY_VIOLATION: ("primary key violation", 400),
    FOREIGN_KEY_VIOLATION: ("foreign key violation", 400),
    UNIQUE_VIOLATION: ("unique constraint violation", 409),
    NOT_FOUND: ("not found", 404),
    INVALID_OFFSET: ("invalid offset", 400),
    DATABASE_ERROR: ("database error", 500),
    INVALID_SIZE: ("invalid size", 400),
    INVALID_UNIQUE: ("invalid unique", 400),
    INVALID_OPTIONS: ("invalid options", 400),
    OPERATION_UNSUPPORTED: ("operation unsupported", 405),
    FOREIGN_KEYS_UNRESOLVED: ("foreign keys unresolved", 400),
    DECLARATIVE_CONFIG: ("invalid declarative configuration", 400),
    TRANSFORMATION_ERROR: ("transformation error", 500),
    INVALID_FOREIGN_KEY: ("invalid foreign key", 500),
    INVALID_WORKSPACE: ("invalid workspace", 500),
    INVALID_UNIQUE_GLOBAL: ("invalid global query", 500),
    REFERENCED_BY_OTHERS: ("referenced by others", 400),
    INVALID_SEARCH_QUERY: ("invalid search query", 500),
    INVALID_DELTAS: ("invalid sync deltas", 500),
}


_UNSUPPORTED: Final = {
    "insert": "cannot create {}",
    "upsert": "cannot create or update {}",
    "update": "cannot update {}",
    "delete": "cannot remove {}",
    "truncate": "cannot remove all {}",
}


def unsupported_write(operation: str, entity_name: str, by: str | None = None) -> EntityError:
    """Return the error of a write where no database holds the entities.

    Args: operation, `insert`, `upsert`, `update` or `delete`; by, the field other than the id that named the entity.
    """
    what = f"'{entity_name}' entities" + ("" if by is None else f" by '{by}'")
    text = _UNSUPPORTED[operation].format(what)
    return EntityError(OPERATION_UNSUPPORTED, message=f"{text} when not using a database")


def violation_message(fields: Mapping[str, Any]) -> str:
    """Return `schema violation (…)`, or `<n> schema violations (…; …)`, for an error tree.

    Entity faults come first, then the fields by name; one nesting level is flattened, list positions count from 1, and
    what lies deeper is printed as a table over several lines.
    """
    problems = _problems(fields)
    if len(problems) == 1:
        return f"schema violation ({problems[0]})"
    return f"{len(problems)} schema violations ({'; '.join(problems)})"


def options_message(fields: Mapping[str, Any]) -> str:
    """Return `invalid option (…)`, or `<n> option violations (…; …)`, for the faults of options."""
    problems = _problems(fields)
    if len(problems) == 1:
        return f"invalid option ({problems[0]})"
    return f"{len(problems)} option violations ({'; '.join(problems)})"


def _problems(fields: Mapping[str, Any]) -> list[str]:
    entity_faults = fields.get("@entity") or []
    problems = [str(text) for text in ([entity_faults] if isinstance(entity_faults, str) else entity_faults)]
    for name in sorted(key for key in fields if key != "@entity"):
        value = fields[name]
        if isinstance(value, (Mapping, list)):
            problems.extend(f"{name}.{sub}: {_printed(fault, 0)}" for sub, fault in _entries(value))
        else:
            problems.append(f"{name}: {value}")
    return problems


def _entries(value: Mapping[str, Any] | list[Any]) -> list[tuple[str, Any]]:
    if isinstance(value, list):
        return [(str(position), item) for position, item in enumerate(value, 1) if item is not None]
    return sorted(((str(key), item) for key, item in value.items()), key=lambda pair: pair[0])


def _printed(value: Any, depth: int) -> str:
    if not isinstance(value, (Mapping, list)):
        return str(value) if depth == 0 else '"' + str(value).replace("\\", "\\\\").replace('"', '\\"') + '"'
    indent = "  " * (depth + 1)
    is_list = isinstance(value, list)
    lines = ["{"]
    for key, item in _entries(value):
        lines.append(f"{indent}{f'[{key}]' if is_list else _table_key(key)} = {_printed(item, depth + 1)},")
    if len(lines) > 1:
        lines[-1] = lines[-1][:-1]
    lines.append("  " * depth + "}")
    return "\n".join(lines)


def _table_key(key: str) -> str:
    return key if key.isidentifier() else f'["{key}"]'


def lua_style(value: Any) -> str:
    """Return `value` on one line as messages print it: `{id="…",name=null}`, keys sorted, positions from 1."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{_lua_key(str(key))}={lua_style(value[key])}" for key in sorted(value, key=str)) + "}"
    if isinstance(value, (list, tuple)):
        has_gaps = any(item is None for item in value)
        items = [(position, item) for position, item in enumerate(value, 1) if item is not None]
        return "{" + ",".join(f"[{at}]={lua_style(item)}" if has_gaps else lua_style(item) for at, item in items) + "}"
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
    return str(value)


def _lua_key(key: str) -> str:
    return key if key.isidentifier() else f'["{key}"]'
