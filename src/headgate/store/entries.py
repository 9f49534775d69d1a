"""The entities of a declarative document as flat entries, each knowing where it stands.

Owns the reading of the document's shape: sections, nested children, memberships, the annotations `_comment` and
`_ignore`, and generated ids. Faults are kept at the entry they belong to; `error_tree` and `flattened` give them back
in the two forms that answers have. Checking the entities themselves is `declarative`'s.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias
from uuid import uuid4

import msgspec

from headgate.entities.entity_type import EntityType
from headgate.entities.registry import Registry
from headgate.schema import is_uuid
from headgate.schema.texts import normalized_path

ErrorTree = dict[str, Any]
FORMAT_VERSIONS: Final = ("1.1", "2.1", "3.0")
EXPECTED_STRING: Final = "expected a string"
EXPECTED_ARRAY: Final = "expected an array"
_ANNOTATIONS: Final = {"_comment": (str, EXPECTED_STRING), "_ignore": (list, EXPECTED_ARRAY)}
# Convenience forms: key in the parent -> (type of the children, field of the parent, field that names the other side).
_MEMBERSHIPS: Final = {
    ("consumers", "groups"): ("consumer", "consumer_group", ("name", "id")),
    ("consumer_groups", "consumers"): ("consumer_group", "consumer", ("username", "custom_id", "id")),
}
MEMBERSHIP_TYPE: Final = "consumer_group_consumers"


@dataclass(slots=True, eq=False)
class Entry:
    """One entity as given: its type, the path of its place in the document, its own fields and its faults."""

    type: EntityType
    place: tuple[str | int, ...]
    given: dict[str, Any]
    parents: dict[str, "Entry"] = field(default_factory=dict)
    id: str = ""
    has_given_id: bool = False
    errors: ErrorTree = field(default_factory=dict)
    whole_errors: list[str] = field(default_factory=list)
    entity: dict[str, Any] = field(default_factory=dict)
    unreadable: str | None = None
    expires_at: float | None = None
    digest: bytes | None = None
    is_known: bool = False
    is_lasting: bool = False
    """What it says makes the same entity wherever and whenever it stands below the same parent."""

    @property
    def is_faulty(self) -> bool:
        """Tell whether something is wrong with it."""
        return self.unreadable is not None or len(self.errors) + len(self.whole_errors) > 0


def reference_of(value: Any) -> tuple[str | None, str] | None:
    """Return what a reference says: the field that it names (None: it is a text alone) and that field's value.

    An object names the id, whatever else it has, or one other field, as in the Admin API. None for anything else.
    """
    if isinstance(value, str):
        return None, value
    if isinstance(value, dict) and ("id" in value or len(value) == 1):
        name = "id" if "id" in value else next(iter(value))
        if isinstance(value[name], str):
            return name, value[name]
    return None


Section: TypeAlias = tuple[str, str | None, str | None, bool, bool]
"""What else the meaning of an item depends on: its type, the field and id of its parent, the format, transforming."""
_NO_ENTRIES: Final[Mapping[bytes, Entry]] = {}
_encoder: Final = msgspec.msgpack.Encoder()


class ReadEntries:
    """The entries of one document by what was written, for the next document; not for two readings at once.

    Owns when an item is the same one: every key and value, in the same order, in a section of the same meaning. Only
    items without children are looked up.
    """

    def __init__(self) -> None:
        self._kept: dict[Section, dict[bytes, Entry]] = {}
        self._read: dict[Section, dict[bytes, Entry]] = {}

    def begin(self) -> None:
        """Read another document."""
        self._read = {}

    def section(self, section: Section) -> tuple[Mapping[bytes, Entry], dict[bytes, Entry]]:
        """Return the entries that are kept of a section, and those to be filled with what is read of it now."""
        return self._kept.get(section, _NO_ENTRIES), self._read.setdefault(section, {})

    def keep(self) -> None:
        """Keep the entries of the document that was read, and no others: it is without faults."""
        self._kept, self._read = self._read, {}


def _written(item: dict[Any, Any]) -> bytes | None:
    """Return what stands for an item as it is written; None for values that no entity can have."""
    try:
        return _encoder.encode(item)
    except (TypeError, ValueError, OverflowError, RecursionError):
        return None


class Document:
    """The entries of a document by type, and the faults that belong to none of them.

    Args: read, entries of an earlier document, taken over where this one has the same item.
    """

    def __init__(self, document: dict[Any, Any], entity_types: Registry, read: ReadEntries | None = None) -> None:
        self.types = entity_types
        self._read = ReadEntries() if read is None else read
        self._read.begin()
        self.errors: ErrorTree = {}
        self.entries: dict[str, list[Entry]] = {name: [] for name in entity_types}
        self.is_transforming = True
        self._read_head(document)
        self._is_old_format = document.get("_format_version") in ("1.1", "2.1")
        for key, value in document.items():
            if key in entity_types:
                self._read_section(entity_types[key], value, (key,), None, None, self.errors)
            elif not isinstance(key, str) or key not in _HEAD:
                self.errors[str(key)] = "unknown field"
        if self._is_old_format:
            for entry in self.entries["routes"]:
                _upgrade_paths(entry.given)

    def __iter__(self) -> Iterator[Entry]:
        for entries in self.entries.values():
            yield from entries

    @property
    def is_faulty(self) -> bool:
        """Tell whether anything is wrong with the document."""
        return bool(self.errors) or any(
            entry.errors or entry.whole_errors or entry.unreadable is not None
            for entries in self.entries.values()
            for entry in entries
        )

    def _read_head(self, document: dict[str, Any]) -> None:
        version = document.get("_format_version")
        if version is None:
            self.errors["_format_version"] = "required field missing"
        elif not isinstance(version, str):
            self.errors["_format_version"] = EXPECTED_STRING
        elif version not in FORMAT_VERSIONS:
            self.errors["_format_version"] = "expected one of: " + ", ".join(FORMAT_VERSIONS)
        transform = document.get("_transform")
        if transform is not None and not isinstance(transform, bool):
            self.errors["_transform"] = "expected a boolean"
        self.is_transforming = transform is not False
        _take_annotations(document, self.errors)

    def _read_section(
        self,
        entity_type: EntityType,
        value: Any,
        place: tuple[str | int, ...],
        parent: Entry | None,
        parent_field: str | None,
        errors: ErrorTree,
    ) -> None:
        if value is None:
            return
        if not isinstance(value, list):
            if value != {}:
                errors[str(place[-1])] = EXPECTED_ARRAY
            return
        parent_id = None if parent is None else parent.id
        section = (entity_type.name, parent_field, parent_id, self._is_old_format, self.is_transforming)
        known, read = self._read.section(section)
        children = self._child_names(entity_type.name)
        entries = self.entries[entity_type.name]
        for position, item in enumerate(value):
            written = _written(item) if isinstance(item, dict) and children.isdisjoint(item) else None
            if written is not None and written not in read:
                before = known.get(written)
                if before is not None and before.is_lasting:
                    self._take_over(before, (*place, position), parent, parent_field)
                    entries.append(before)
                    read[written] = before
                    continue
            entry = Entry(entity_type, (*place, position), {})
            if written is not None:
                read.setdefault(written, entry)
            entries.append(entry)
            if not isinstance(item, dict):
                entry.unreadable = "required field missing" if item is None else "expected a record"
                continue
            entry.given = {key if isinstance(key, str) else str(key): inner for key, inner in item.items()}
            if parent is not None and parent_field is not None:
                entry.parents[parent_field] = parent
                if entry.given.get(parent_field) is not None:
                    entry.errors[parent_field] = "value must be null"
                entry.given.pop(parent_field, None)
            _take_annotations(entry.given, entry.errors)
            self._choose_id(entry)
            self._read_children(entry)

    @staticmethod
    def _take_over(entry: Entry, place: tuple[str | int, ...], parent: Entry | None, parent_field: str | None) -> None:
        """Put an entry of an earlier document into this one, without what was found wrong about it since."""
        entry.place = place
        if entry.errors or entry.whole_errors:
            entry.errors, entry.whole_errors = {}, []
        if parent is not None and parent_field is not None:
            entry.parents[parent_field] = parent
        entry.is_known = True

    def _child_names(self, own: str) -> frozenset[str]:
        """Return the keys of an entity's item under which others stand."""
        return frozenset(
            (
                *(child.name for child, _ in self.types.children_of(own)),
                *(key for name, key in _MEMBERSHIPS if name == own),
            )
        )

    def _choose_id(self, entry: Entry) -> None:
        if entry.type.own_key is not None:
            # Decided when it is known what its references mean.
            entry.id = str(uuid4())
            return
        given_id = entry.given.get("id")
        if isinstance(given_id, str):
            entry.has_given_id = True
            entry.id = given_id.lower() if is_uuid(given_id) else given_id
            return
        parents = {}
        for name in entry.type.foreign:
            parent = entry.parents.get(name)
            if parent is not None:
                parents[name] = parent.id
            elif (reference := reference_of(entry.given.get(name))) is not None:
                parents[name] = reference[1]
        entry.id = entry.type.generated_id(entry.given, parents) or str(uuid4())
        if given_id is None:
            entry.given["id"] = entry.id

    def _read_children(self, entry: Entry) -> None:
        own = entry.type.name
        for child, child_field in self.types.children_of(own):
            if child.name in entry.given and (own, child.name) not in _MEMBERSHIPS:
                value = entry.given.pop(child.name)
                self._read_section(child, value, (*entry.place, child.name), entry, child_field, entry.errors)
        for (parent_type, key), (parent_field, other_field, names) in _MEMBERSHIPS.items():
            if own == parent_type and key in entry.given:
                value = _membership_list(entry.given.pop(key), other_field, names)
                membership = self.types[MEMBERSHIP_TYPE]
                self._read_section(membership, value, (*entry.place, key), entry, parent_field, entry.errors)

    def error_tree(self) -> ErrorTree:
        """Return all faults in the shape of the document; good entries before a faulty one are null."""
        tree: ErrorTree = {}
        for entry in self:
            if not entry.is_faulty:
                continue
            own: Any = entry.unreadable
            if own is None and entry.whole_errors and not entry.errors and len(entry.whole_errors) == 1:
                own = entry.whole_errors[0]
            elif own is None:
                own = dict(entry.errors)
                if entry.whole_errors:
                    own["@entity"] = [*own.get("@entity", ()), *entry.whole_errors]
            _graft(tree, entry.place, own)
        for key, text in self.errors.items():
            tree[key] = text
        return tree

    def flattened(self) -> tuple[list[dict[str, Any]], ErrorTree]:
        """Return one item per faulty entity, and the faults that belong to none, with the sections left empty."""
        items = []
        rest: ErrorTree = {}
        for entry in self:
            if not entry.is_faulty:
                continue
            rest.setdefault(str(entry.place[0]), {})
            if entry.unreadable is not None:
                _graft(rest, entry.place, entry.unreadable)
            else:
                items.append(_flattened_entry(entry))
        rest.update(self.errors)
        return items, rest


_HEAD: Final = ("_format_version", "_transform", "_comment", "_ignore")


def _take_annotations(data: dict[str, Any], errors: ErrorTree) -> None:
    for name, (kind, text) in _ANNOTATIONS.items():
        if name in data:
            value = data[name]
            if "_format_version" not in data:
                del data[name]
            if value is not None and not isinstance(value, kind):
                errors[name] = text


def _membership_list(value: Any, other_field: str, names: tuple[str, ...]) -> Any:
    """Return the items of a convenience list as memberships: `{name: gold}` or `gold` becomes a reference."""
    if not isinstance(value, list):
        return value
    memberships: list[Any] = []
    for item in value:
        reference = item
        if isinstance(item, dict):
            reference = next((item[name] for name in names if isinstance(item.get(name), str)), None)
        memberships.append({other_field: reference} if isinstance(reference, str) else {other_field: item})
    return memberships


def _upgrade_paths(route: dict[str, Any]) -> None:
    """Give the paths of an older format their present spelling: regular expressions start with `~`."""
    paths = route.get("paths")
    if not isinstance(paths, list):
        return
    route["paths"] = [_upgraded_path(path) if isinstance(path, str) else path for path in paths]


def _upgraded_path(path: str) -> str:
    if path.startswith("~") or not path.startswith("/"):
        return path
    is_plain = all(character.isascii() and (character.isalnum() or character in ".-_~/%") for character in path)
    return normalized_path(path) if is_plain else f"~{path}"


def _graft(tree: Any, place: tuple[str | int, ...], value: Any) -> None:
    """Put a value at a place of an error tree, making lists and objects on the way."""
    for step, following in zip(place, (*place[1:], None), strict=True):
        if isinstance(step, int):
            tree.extend([None] * (step + 1 - len(tree)))
            current = tree[step]
        else:
            current = tree.get(step)
        if following is None:
            tree[step] = {**value, **current} if isinstance(current, dict) and isinstance(value, dict) else value
            return
        wanted: type = list if isinstance(following, int) else dict
        if not isinstance(current, wanted):
            current = {"@entity": [current]} if isinstance(current, str) and wanted is dict else wanted()
            tree[step] = current
        tree = current


def _flattened_entry(entry: Entry) -> dict[str, Any]:
    given = dict(entry.given)
    if not entry.has_given_id:
        given.pop("id", None)
    for name, parent in entry.parents.items():
        if parent.has_given_id:
            given[name] = {"id": parent.id}
    item: dict[str, Any] = {"entity_type": entry.type.singular}
    if entry.has_given_id and is_uuid(entry.id):
        item["entity_id"] = entry.id
    entity_name = given.get("name")
    if isinstance(entity_name, str) and entity_name:
        item["entity_name"] = entity_name
    tags = given.get("tags")
    if isinstance(tags, list) and tags and all(isinstance(tag, str) for tag in tags):
        item["entity_tags"] = tags
    item["entity"] = given
    errors: list[dict[str, str]] = []
    for text in [*entry.errors.get("@entity", ()), *entry.whole_errors]:
        errors.append({"type": "entity", "message": text})
    for key, value in entry.errors.items():
        if key != "@entity":
            _flatten_field(value, key, errors)
    item["errors"] = errors
    return item


def _flatten_field(value: Any, path: str, errors: list[dict[str, str]]) -> None:
    if isinstance(value, dict):
        for key, inner in value.items():
            if key == "@entity":
                errors.extend({"type": "entity", "field": path, "message": text} for text in inner)
            else:
                _flatten_field(inner, f"{path}.{key}", errors)
    elif isinstance(value, list):
        for position, inner in enumerate(value, 1):
            if inner is not None:
                _flatten_field(inner, f"{path}.{position}", errors)
    else:
        errors.append({"type": "field", "field": path, "message": value})
