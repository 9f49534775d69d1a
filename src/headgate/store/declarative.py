"""Declarative configuration: a document becomes a snapshot, and back.

Owns what concerns several entities: references, uniqueness, protocols of plugins against routes, the names of a
certificate. What one entity must be is `headgate.entities`; the document's shape is `entries`; its text is `document`.
All faults are found in one pass, and bad input raises DeclarativeError, never anything else.
"""

import gc
import hashlib
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from operator import itemgetter
from typing import Any, Final

import yaml

from headgate.entities.entity_type import ForeignKey
from headgate.entities.plugins import PluginType, check_plugin
from headgate.entities.primary_key import OwnKey
from headgate.entities.registry import ENTITY_TYPES, Registry
from headgate.errors import DeclarativeError, EntityError, lua_style
from headgate.store.base import checked_ttl
from headgate.store.cipher import WITHOUT_KEYS, Cipher, SealedError, is_sealed
from headgate.store.document import parse_document
from headgate.store.entries import EXPECTED_STRING, Document, Entry, reference_of
from headgate.store.input import add_incomplete, stored
from headgate.store.known import KnownEntities
from headgate.store.plugin_protocols import plugin_protocols_fault
from headgate.store.snapshot import Snapshot

_SafeDumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
_LONGEST_LINE: Final = 2**31 - 1
_KEY_TEXT: Final = "@key"
"""The index of primary keys by their text, beside those of fields."""
_PLACEHOLDER: Final = {"id": "00000000-0000-0000-0000-000000000000"}


def load_declarative(
    text: str | bytes,
    *,
    plugin_types: Mapping[str, PluginType],
    entity_types: Registry = ENTITY_TYPES,
    filename: str | None = None,
    now: float | None = None,
    is_broken_allowed: bool = False,
    plugin_faults: Callable[[Snapshot], Mapping[str, Mapping[str, Any]]] | None = None,
    cipher: Cipher = WITHOUT_KEYS,
    known: KnownEntities | None = None,
    parsed: dict[str, Any] | None = None,
) -> Snapshot:
    """Return the snapshot that a document describes.

    Args: filename decides the format by its ending (else JSON, then YAML is tried); now, Unix time in seconds, is given
    to entities without timestamps; is_broken_allowed takes plugin instances whose configuration their plugin rejects as
    they are; plugin_faults finds what only all plugin instances together show, by instance id and field; cipher opens
    what an export has sealed; known, the entities of the document before: those of which this one says the same are
    taken over as they are. It takes those of this document, when that is without faults. parsed: what `parse_json` has
    made of the text.
    Raises: DeclarativeError, with every fault of the document.
    Source: declarative reference; one deviation: a reference that does not resolve is reported at its field in the
    entry's place, so that it can stand beside the entry's other faults.
    """
    with _collector_paused():
        read = None if known is None else known.read
        document = Document(parse_document(text, filename, parsed), entity_types, read)
        for entry in document:
            if not entry.is_known and entry.type.own_key is None:
                _open_sealed(entry, cipher)
        _check(document, cipher, plugin_types, time.time() if now is None else now, is_broken_allowed, known)
    _raise_faults(document)
    entities = {
        name: {entity["id"]: entity for entity in sorted(_entities(entries), key=itemgetter("id"))}
        for name, entries in document.entries.items()
    }
    expires = {entry.id: entry.expires_at for entry in document if entry.expires_at is not None}
    snapshot = Snapshot(entities, configuration_hash=configuration_hash(text), expires=expires)
    found = {} if plugin_faults is None else plugin_faults(snapshot)
    for entry in document.entries["plugins"] if found else ():
        entry.errors.update(found.get(entry.id, {}))
    _raise_faults(document)
    if known is not None:
        known.replace((entry.digest, entry.entity) for entry in document if entry.digest is not None)
    return snapshot


def _raise_faults(document: Document) -> None:
    if document.is_faulty:
        tree = document.error_tree()
        raise DeclarativeError(f"declarative config is invalid: {lua_style(tree)}", tree, flatten=document.flattened)


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Keep the cycle collector away while a large document is built: it would walk all of it again and again.

    Source: measured; a third of the time of a document of 10,000 routes.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def configuration_hash(text: str | bytes) -> str:
    """Return the hash that identifies a configuration: the hexadecimal MD5 of its text."""
    data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def export_declarative(snapshot: Snapshot, entity_types: Registry = ENTITY_TYPES, cipher: Cipher = WITHOUT_KEYS) -> str:
    """Return the YAML of a snapshot: flat lists in dependency order, foreign keys as ids, nulls and timestamps too.

    It loads again to the same entities, since `_transform: false` keeps hashed secrets as they are. Args: cipher seals
    the fields that may hold secrets.
    """
    document: dict[str, Any] = {"_format_version": "3.0", "_transform": False}
    for name, entity_type in entity_types.items():
        if not entity_type.is_exported:
            continue
        entities = []
        for entity in snapshot.all(name):
            exported = {
                key: _reference_text(snapshot, entity_types, entity_type.foreign[key], value["id"])
                if key in entity_type.foreign and value is not None
                else value
                for key, value in entity.items()
            }
            if entity_type.own_key is not None:
                del exported["id"]
            if name == "certificates":
                exported.pop("snis", None)
            entities.append(cipher.seal(exported, entity["id"], entity_type.sealed_fields))
        if entities:
            document[name] = entities
    text: str = yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=_LONGEST_LINE)
    return text


def _reference_text(snapshot: Snapshot, entity_types: Registry, key: ForeignKey, identifier: str) -> str:
    """Return what a document says for a reference."""
    own_key = entity_types[key.reference].own_key
    referred = None if own_key is None else snapshot.get(key.reference, identifier)
    return identifier if own_key is None or referred is None else own_key.text(referred)


class _Dumper(_SafeDumper):  # type: ignore[misc]
    """Safe YAML in which equal values are written out each time, so that nobody has to read anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _entities(entries: list[Entry]) -> list[dict[str, Any]]:
    return [entry.entity for entry in entries]


def _check(
    document: Document,
    cipher: Cipher,
    plugin_types: Mapping[str, PluginType],
    now: float,
    is_broken_allowed: bool,
    known: KnownEntities | None,
) -> None:
    indexes = _Indexes(document)
    for entry in document:
        if entry.unreadable is None and not entry.is_known:
            if entry.type.own_key is not None:
                _resolve_sealed(entry, indexes, cipher)
            data, faults = _resolved_data(entry, indexes)
            if known is None or faults or not _is_taken_over(entry, data, known, document.is_transforming):
                _examine(entry, data, faults, plugin_types, now, is_broken_allowed)
            if entry.type.own_key is not None:
                _take_key(entry, entry.type.own_key)
    for entries in document.entries.values():
        _check_unique(entries)
    _check_server_names(document)
    _check_plugin_protocols(document)
    _make_stored(document, plugin_types)


def _open_sealed(entry: Entry, cipher: Cipher) -> None:
    """Make the fields of an exported entity readable; a fault is noted at its field."""
    for name in entry.type.sealed_fields:
        value = entry.given.get(name)
        if is_sealed(value):
            try:
                entry.given[name] = cipher.open_field(value, entry.id, name)
            except SealedError as error:
                entry.errors[name] = str(error)


def _resolve_sealed(entry: Entry, indexes: "_Indexes", cipher: Cipher) -> None:
    """Make the fields of an entity readable whose id is made of its key: they were sealed with that id."""
    own_key = entry.type.own_key
    if own_key is None or not any(is_sealed(entry.given.get(name)) for name in entry.type.sealed_fields):
        return
    data, faults = _resolved_data(entry, indexes)
    if not faults and not own_key.faults(data):
        entry.id = own_key.id_of(data)
    _open_sealed(entry, cipher)


def _take_key(entry: Entry, own_key: OwnKey) -> None:
    """Give a checked entry the id that its key stands for, under which others may refer to it."""
    if not entry.is_faulty:
        entry.errors.update(own_key.faults(entry.entity))
    if entry.is_faulty:
        return
    if not entry.is_known:
        entry.entity = {"id": own_key.id_of(entry.entity), **entry.entity}
    entry.id = entry.entity["id"]


class _Indexes:
    """What references may say, by the type and field that they name; each is made when it is first asked for."""

    def __init__(self, document: Document) -> None:
        self._entries = document.entries
        self.types = document.types
        self._made: dict[tuple[str, str], dict[str, Entry]] = {}

    def find(self, type_name: str, reference: tuple[str | None, str]) -> Entry | None:
        """Return the entry that a reference means.

        A text alone is the endpoint key, else the id, or the text of another primary key; an object names the id, or a
        field by which stores find entities.
        """
        name, value = reference
        entity_type = self.types[type_name]
        if entity_type.own_key is not None and (name is None or entity_type.primary_key == (name,)):
            found = self._index(type_name, _KEY_TEXT).get(value)
            if found is not None:
                return found
        if name is None:
            key = entity_type.endpoint_key
            found = None if key is None else self._index(type_name, key).get(value)
            return found or self._index(type_name, "id").get(value.lower())
        if name == "id":
            return self._index(type_name, "id").get(value.lower())
        return self._index(type_name, name).get(value) if name in entity_type.lookup_fields else None

    def _index(self, type_name: str, name: str) -> dict[str, Entry]:
        index = self._made.get((type_name, name))
        if index is None:
            index = self._made[type_name, name] = {}
            for entry in self._entries[type_name]:
                value = entry.id.lower() if name == "id" else entry.given.get(name)
                if name == _KEY_TEXT:
                    own_key = entry.type.own_key
                    value = None if own_key is None or entry.is_faulty else own_key.text(entry.entity)
                if isinstance(value, str):
                    index.setdefault(value, entry)
        return index


def _resolved_data(entry: Entry, indexes: _Indexes) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what an entry says, references as ids, and the faults of these."""
    data = dict(entry.given)
    if entry.type.own_key is None:
        data["id"] = entry.id if isinstance(data.get("id"), str) else data.get("id")
    faults: dict[str, Any] = {}
    for name, key in entry.type.foreign.items():
        parent = entry.parents.get(name)
        if parent is not None:
            data[name] = {"id": parent.id}
        elif data.get(name) is not None:
            data[name], fault = _resolved(name, key.reference, data[name], indexes)
            if fault is not None:
                faults[name] = fault
    for name in entry.type.reference_lists:
        if name in indexes.types and isinstance(data.get(name), list):
            data[name], found = _resolved_list(name, data[name], indexes)
            if any(found):
                faults[name] = found
    return data, faults


def _resolved_list(name: str, values: list[Any], indexes: _Indexes) -> tuple[list[Any], list[str | None]]:
    """Return a list of ids in which references in object form are ids too; ids as texts are left as they are."""
    resolved: list[Any] = []
    faults: list[str | None] = []
    for value in values:
        if isinstance(value, dict):
            reference, fault = _resolved(name, name, value, indexes)
            value = reference["id"]
            faults += [None] * (len(resolved) - len(faults)) + ([] if fault is None else [fault])
        resolved.append(value)
    return resolved, faults


def _is_taken_over(entry: Entry, data: dict[str, Any], known: KnownEntities, is_transforming: bool) -> bool:
    """Give an entry the entity that is known for what it says; tell whether there is one."""
    # A certificate's names are those that refer to it, and time counts from the load.
    if entry.errors or entry.type.name == "certificates" or (entry.type.has_ttl and data.get("ttl") is not None):
        return False
    entry.digest = known.digest(entry.type.name, data, is_transforming=is_transforming)
    # What a reference means depends on the rest of the document, save the parent, by whom entries are kept apart.
    entry.is_lasting = entry.digest is not None and not _has_references(entry)
    entity = None if entry.digest is None else known.get(entry.digest)
    if entity is None:
        return False
    entry.entity, entry.is_known = entity, True
    return True


def _has_references(entry: Entry) -> bool:
    given = entry.given
    return any(given.get(name) is not None for name in entry.type.foreign if name not in entry.parents) or any(
        given.get(name) for name in entry.type.reference_lists
    )


def _examine(
    entry: Entry,
    data: dict[str, Any],
    faults: dict[str, Any],
    plugin_types: Mapping[str, PluginType],
    now: float,
    is_broken_allowed: bool,
) -> None:
    if entry.type.has_ttl:
        try:
            ttl = checked_ttl(entry.type.name, True, data.pop("ttl", None))
            entry.expires_at = now + ttl if ttl else None
        except EntityError as error:
            faults.update(error.fields or {})
    if entry.type.name == "plugins":
        entity, errors = check_plugin(data, plugin_types, now=now, is_broken_allowed=is_broken_allowed)
    else:
        entity, errors = entry.type.examine(data, now=now)
    if entry.type.has_transformations or entry.type.name == "plugins":
        add_incomplete(entry.type, entry.given, plugin_types, errors)
    if errors or faults:
        for name, value in {**errors, **faults}.items():
            # What was found while reading the shape is the nearer cause.
            entry.errors.setdefault(name, value)
    entry.entity = entity


def _resolved(name: str, type_name: str, value: Any, indexes: _Indexes) -> tuple[dict[str, str], str | None]:
    forms = indexes.types.key_forms
    if isinstance(value, dict) and forms is not None and type_name in forms:
        try:
            value = {"id": forms.id_of(type_name, value)}
        except EntityError as error:
            return _PLACEHOLDER, error.message
    reference = reference_of(value)
    if reference is None:
        return _PLACEHOLDER, EXPECTED_STRING
    target = indexes.find(type_name, reference)
    if target is None:
        shown = value if isinstance(value, str) else lua_style(value)
        return _PLACEHOLDER, f"invalid reference '{name}: {shown}' (no such entry in '{type_name}')"
    return {"id": target.id}, None


def _check_unique(entries: list[Entry]) -> None:
    if len(entries) < 2:
        return
    entity_type = entries[0].type
    seen_ids: set[str] = set()
    seen: dict[str, set[Any]] = {name: set() for name in entity_type.unique}
    seen_together: dict[tuple[str, ...], set[Any]] = {names: set() for names in entity_type.composite_unique}
    for entry in entries:
        if entry.unreadable is not None:
            continue
        if entry.id in seen_ids and (entry.has_given_id or not _is_name_taken(entry, seen)):
            own_key = entity_type.own_key
            _add_uniqueness_fault(entry, "primary key", entry.id if own_key is None else own_key.text(entry.entity))
            continue
        seen_ids.add(entry.id)
        _check_unique_fields(entry, entry.entity or entry.given, seen, seen_together)


def _check_unique_fields(
    entry: Entry,
    source: Mapping[str, Any],
    seen: Mapping[str, set[Any]],
    seen_together: Mapping[tuple[str, ...], set[Any]],
) -> None:
    """Note what other entries have said in fields that are unique, up to the first fault."""
    for name, known in seen.items():
        value = _comparable(source.get(name))
        if not isinstance(value, str):
            continue
        if value in known:
            _add_uniqueness_fault(entry, name, value)
            return
        known.add(value)
    for names, known in seen_together.items():
        values = tuple(_comparable(source.get(name)) for name in names)
        if values[0] is None:
            continue
        if values in known:
            shown = lua_style({name: source.get(name) for name in names})
            _add_uniqueness_fault(entry, ", ".join(names), shown)
            return
        known.add(values)


def _is_name_taken(entry: Entry, seen: Mapping[str, set[Any]]) -> bool:
    """Tell whether a unique field explains why a generated id is taken: the name says more to people."""
    return any(isinstance(value := entry.given.get(name), str) and value in known for name, known in seen.items())


def _comparable(value: Any) -> Any:
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        value = value.get("id")
    return value if isinstance(value, (str, int, float)) or value is None else repr(value)


def _add_uniqueness_fault(entry: Entry, name: str, value: Any) -> None:
    entry.whole_errors.append(
        f"uniqueness violation: '{entry.type.name}' entity with {name} set to '{value}' already declared"
    )


def _check_server_names(document: Document) -> None:
    """Give each certificate the sorted names that refer to it."""
    names: dict[str, list[str]] = {}
    for entry in document.entries["snis"]:
        if entry.entity:
            names.setdefault(entry.entity["certificate"]["id"], []).append(entry.entity["name"])
    for entry in document.entries["certificates"]:
        if entry.entity:
            entry.entity["snis"] = sorted(names.get(entry.id, ()))


def _check_plugin_protocols(document: Document) -> None:
    if not document.entries["plugins"]:
        return
    routes = {entry.id: entry.entity for entry in document.entries["routes"] if entry.entity}
    of_services: dict[str, set[str]] = {}
    for route in routes.values():
        if route["service"] is not None:
            of_services.setdefault(route["service"]["id"], set()).update(route["protocols"])
    for entry in document.entries["plugins"]:
        plugin = entry.entity
        if not plugin or entry.errors:
            continue
        route, service = plugin["route"], plugin["service"]
        selected = None if route is None else routes.get(route["id"])
        of_service = None if service is None else of_services.get(service["id"])
        fault = plugin_protocols_fault(plugin, None if selected is None else selected["protocols"], of_service)
        if fault is not None:
            entry.errors["protocols"] = fault


def _make_stored(document: Document, plugin_types: Mapping[str, PluginType]) -> None:
    for name, entries in document.entries.items():
        if not entries or not (name == "plugins" or entries[0].type.has_transformations or entries[0].type.transient):
            continue
        for entry in entries:
            if entry.is_faulty or entry.is_known:
                continue
            try:
                entry.entity = stored(
                    entry.type, entry.entity, entry.given, plugin_types, is_transforming=document.is_transforming
                )
            except EntityError as error:
                entry.errors["@entity"] = [error.message]
