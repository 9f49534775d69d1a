"""Plugin instances: the configuration of a plugin in a scope.

The model here is that of every plugin; `config` is checked by the model of the plugin itself (`check_plugin`), which
also narrows protocols and scopes.
"""

from collections.abc import Mapping
from typing import Any, Final, Protocol

from headgate.entities.entity_type import ABSTRACT_RECORD, Entity, EntityType, ErrorTree
from headgate.schema import PluginConfig, Record, examine, field, types
from headgate.schema.stored import has_read_form, read, without_transient, written
from headgate.schema.validate import CONFIG_FAULTS
from headgate.schema.validators import REQUIRED

_SCOPES: Final = (
    ("consumer", "no_consumer"),
    ("consumer_group", "no_consumer_group"),
    ("route", "no_route"),
    ("service", "no_service"),
)


class PluginType(Protocol):
    """A loaded plugin, as far as its configuration goes."""

    @property
    def name(self) -> str:
        """The name in documents."""

    @property
    def config_model(self) -> type[PluginConfig]:
        """The model of `config`."""


class AccessOrder(Record):
    """Plugins whose `access` comes before or after."""

    access: list[str] | None = None


class Ordering(Record):
    """Dynamic ordering: this plugin's `access` relative to that of others."""

    before: AccessOrder | None = None
    after: AccessOrder | None = None


class Plugin(Record):
    """One plugin instance."""

    id: types.Id
    name: str
    instance_name: types.Name | None = None
    created_at: types.TimestampSeconds
    updated_at: types.TimestampSeconds
    route: types.foreign("routes", on_delete="cascade", show_default=True) | None = None  # type: ignore[valid-type]
    service: types.foreign("services", on_delete="cascade", show_default=True) | None = None  # type: ignore[valid-type]
    consumer: types.foreign("consumers", on_delete="cascade", show_default=True) | None = None  # type: ignore[valid-type]
    consumer_group: types.foreign("consumer_groups", on_delete="cascade", show_default=True) | None = None  # type: ignore[valid-type]
    config: dict[str, Any] | None = field(None, schema_extra=ABSTRACT_RECORD)
    protocols: list[types.Protocol] = field(default_factory=lambda: ["grpc", "grpcs", "http", "https"], set_=True)
    enabled: bool = True
    ordering: Ordering | None = None
    tags: types.Tags | None = None


def not_enabled(name: str) -> str:
    """Return the text for a plugin that is not loaded."""
    return f"plugin '{name}' not enabled; add it to the 'plugins' configuration property"


def check_plugin(
    given: Mapping[str, Any],
    plugin_types: Mapping[str, PluginType],
    *,
    now: float,
    is_update: bool = False,
    is_broken_allowed: bool = False,
) -> tuple[Entity, ErrorTree]:
    """Return the complete plugin instance and the faults of the input; foreign keys are `{"id": …}`.

    Args: is_broken_allowed takes a `config` that the plugin rejects as it is: whoever runs it finds the faults again.

    Without a usable name nothing else is checked, since the name decides what is right.
    """
    name = given.get("name")
    if name is None or not isinstance(name, str):
        return {}, {"name": REQUIRED if name is None else "expected a string"}
    plugin_type = plugin_types.get(name)
    if plugin_type is None:
        return {}, {"name": not_enabled(name)}
    model = plugin_type.config_model
    data = dict(given)
    config = data.pop("config", {})
    if "protocols" not in data:
        data["protocols"] = [item for item in model.default_protocols if item in model.protocols]
    entity, errors = ENTITY.examine(data, now=now, is_update=is_update)
    for scope, flag in _SCOPES:
        if getattr(model, flag) and given.get(scope) is not None:
            errors[scope] = "value must be null"
    _check_protocols(model, data["protocols"], errors)
    config = {} if config == [] else config
    outcome = examine(model, config, is_update=is_update)
    if outcome.errors and is_broken_allowed and isinstance(config, dict):
        entity["config"] = config
    elif outcome.errors:
        _merge_config_faults(outcome.errors, errors)
    else:
        entity["config"] = outcome.data
    return entity, errors


def _check_protocols(model: type[PluginConfig], protocols: Any, errors: ErrorTree) -> None:
    if not isinstance(protocols, list) or "protocols" in errors:
        return
    allowed = model.protocols
    if set(allowed) >= {"http", "https"}:
        # A WebSocket connection starts as a request of http or https, so plugins for these may be put on it.
        allowed = (*allowed, "ws", "wss")
    text = "expected one of: " + ", ".join(model.protocols)
    faults = [text if item not in allowed else None for item in protocols]
    while faults and faults[-1] is None:
        faults.pop()
    if faults:
        errors["protocols"] = faults


def _merge_config_faults(faults: ErrorTree, errors: ErrorTree) -> None:
    for text in faults.pop("@entity", ()):
        errors.setdefault("@entity", []).append(text)
    if CONFIG_FAULTS in faults:
        faults["@entity"] = faults.pop(CONFIG_FAULTS)
    whole = faults.pop("@record", None)
    if faults:
        errors["config"] = faults
    elif whole is not None:
        errors["config"] = whole


def stored_plugin(
    entity: Entity, given: Mapping[str, Any], model: type[PluginConfig], *, is_transforming: bool
) -> Entity:
    """Return a checked plugin instance as it is stored: transformed, without transient fields.

    Args: given, what the client wrote. Raises: EntityError of code 15.
    """
    if is_transforming and model.transformations:
        entity = written(model, entity, given)
    return {**entity, "config": without_transient(model, entity["config"] or {})}


def read_plugin(entity: Entity, model: type[PluginConfig]) -> Entity:
    """Return a stored plugin instance as it is shown and run. Raises: EntityError of code 15."""
    return read(model, entity) if has_read_form(model) else entity


ENTITY = EntityType(
    "plugins",
    Plugin,
    "plugins",
    endpoint_key="instance_name",
    nested_under={"service": "plugins", "route": "plugins", "consumer": "plugins", "consumer_group": "plugins"},
    composite_unique=(("name", "route", "service", "consumer", "consumer_group"),),
    id_fields=("name", "route", "service", "consumer"),
    optional_id_fields=("consumer_group",),
    is_id_prefixed=True,
    cache_key=("name", "route", "service", "consumer", "consumer_group"),
)
