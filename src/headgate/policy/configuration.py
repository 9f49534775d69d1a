"""A declarative document as a node takes it: parsed, its plugins known, its order of plugins looked over.

The one way from text to snapshot for control, Admin API and commands; `store.declarative` does the parsing.
"""

import logging
from collections.abc import Mapping
from typing import Any

from headgate.config.general import LEGACY
from headgate.entities.plugins import read_plugin
from headgate.errors import EntityError, SchemaViolation
from headgate.policy.catalog import Catalog
from headgate.policy.ordering_check import check_ordering
from headgate.schema import validate
from headgate.store.cipher import WITHOUT_KEYS, Cipher
from headgate.store.declarative import load_declarative
from headgate.store.known import KnownEntities
from headgate.store.snapshot import Snapshot

_log = logging.getLogger("headgate.policy")


def load_configuration(
    text: str | bytes,
    catalog: Catalog,
    *,
    filename: str | None = None,
    ordering_algorithm: str = LEGACY,
    is_broken_allowed: bool = False,
    cipher: Cipher = WITHOUT_KEYS,
    known: KnownEntities | None = None,
    parsed: dict[str, Any] | None = None,
) -> Snapshot:
    """Return the snapshot of a declarative document; what is only doubtful about its order is logged as warnings.

    Args: ordering_algorithm and is_broken_allowed are the settings `plugin_ordering_algorithm` and
    `allow_broken_plugins`; cipher opens what an export has sealed; known, the entities of the document before, taken
    over where this one says the same; parsed, what `store.document.parse_json` has made of the text.
    Raises: DeclarativeError with every fault.
    """
    warnings: list[str] = []

    def plugin_faults(snapshot: Snapshot) -> Mapping[str, Mapping[str, Any]]:
        report = check_ordering(snapshot, catalog, ordering_algorithm)
        warnings.extend(report.warnings)
        return {instance: {"ordering": text} for instance, text in report.faults.items()}

    snapshot = load_declarative(
        text,
        plugin_types=catalog,
        entity_types=catalog.entity_types,
        filename=filename,
        is_broken_allowed=is_broken_allowed,
        plugin_faults=plugin_faults,
        cipher=cipher,
        known=known,
        parsed=parsed,
    )
    for warning in warnings:
        _log.warning("%s", warning)
    return snapshot


def log_ordering(snapshot: Snapshot, catalog: Catalog, algorithm: str, known: frozenset[str]) -> frozenset[str]:
    """Log what is doubtful or impossible about the order of a configuration that came otherwise than as a document.

    Args: known, the texts that were logged before.
    Returns: the texts of this configuration.
    """
    report = check_ordering(snapshot, catalog, algorithm)
    for text in report.warnings:
        if text not in known:
            _log.warning("%s", text)
    faults = [f"plugin instance {instance}: {text}" for instance, text in report.faults.items()]
    for text in faults:
        if text not in known:
            _log.error("%s", text)
    return frozenset((*report.warnings, *faults))


def broken_plugins(snapshot: Snapshot, catalog: Catalog) -> list[dict[str, str]]:
    """Return the enabled plugin instances that cannot be configured: `id`, `name` and `fault` of each."""
    found = []
    for entity in snapshot.all("plugins"):
        plugin = catalog.get(entity["name"])
        if plugin is None or not entity.get("enabled", True):
            continue
        fault = plugin.fault
        if fault is None:
            try:
                shown = read_plugin(entity, plugin.config_model)
                validate(plugin.config_model, shown.get("config") or {}, is_stored=True)
            except (SchemaViolation, EntityError) as error:
                fault = str(error)
        if fault is not None:
            found.append({"id": entity["id"], "name": entity["name"], "fault": fault})
    return found
