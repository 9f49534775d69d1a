"""`schema.lua` as a configuration model: the same checks, texts and published form as a plugin's written in Python.

Owns the reading of Lua's schema tables. The rules themselves are `headgate.schema`'s; functions of the schema run in
the machine.
"""

import types
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, cast

import lupa.luajit21 as lupa

from headgate.errors import PluginLoadError
from headgate.lua.attributes import (
    COPIED,
    KNOWN,
    LISTS,
    PATTERNS,
    PUBLISHED_ONLY,
    SHORTHAND_TYPES,
    STRUCTURE,
    TYPES,
    check_attributes,
    lua_type_of,
)
from headgate.lua.patterns import PatternError, python_pattern
from headgate.lua.transformations import transformations
from headgate.lua.values import LuaTable, text_from_lua
from headgate.schema import (
    NamedJsonSchema,
    PluginConfig,
    Record,
    Transformation,
    checks,
    plain,
    record_definition,
    shorthand,
)
from headgate.schema.checks import EntityCheck
from headgate.schema.definition import ONLY_ON
from headgate.schema.record import ALL_PROTOCOLS, HTTP_PROTOCOLS, WEBSOCKET_PROTOCOLS
from headgate.schema.spec import UNSET, Deprecation, FieldSpec, Pattern, Shorthand, field

if TYPE_CHECKING:
    from headgate.lua.vm import Vm

_ARGUMENTS: Mapping[str, tuple[str, ...]] = {
    "custom_entity_check": ("field_sources", "fn"),
    "conditional": ("if_field", "if_match", "then_field", "then_match"),
    "conditional_at_least_one_of": ("if_field", "if_match", "then_at_least_one_of"),
    "mutually_exclusive_sets": ("set1", "set2"),
}
_SCHEMA_KEYS = ("name", "fields", "entity_checks", "shorthand_fields", "transformations", "check")
_PLUGIN_FIELDS: Mapping[str, str] = {
    "consumer": "foreign",
    "consumer_group": "foreign",
    "route": "foreign",
    "service": "foreign",
    "protocols": "set",
    "tags": "set",
    "name": "string",
    "instance_name": "string",
    "enabled": "boolean",
    "ordering": "record",
}
"""The fields of a plugin instance besides `config`, which a schema may narrow and not change."""
_SCALARS: Mapping[str, Any] = {"string": str, "number": float, "integer": int, "boolean": bool}
_SCOPES = ("consumer", "consumer_group", "route", "service")
_NULL = object()


class LuaPattern(str):
    """A Lua pattern with the Python expression that decides; published as it was written."""

    __slots__ = ("python",)
    python: str


class SchemaReader:
    """Reads the schemas of one machine."""

    def __init__(self, vm: "Vm") -> None:
        self._vm = vm
        self._is_null = vm.host["is_null"]

    def config_model(self, plugin: str, schema: Any) -> type[PluginConfig]:
        """Return the configuration model of a plugin's schema table.

        Raises: PluginLoadError with every fault of the definition.
        """
        faults: list[str] = []
        if schema.__class__ is not LuaTable:
            raise PluginLoadError(f"no configuration schema found for plugin: {plugin}")
        namespace: dict[str, Any] = {"__module__": f"kong.plugins.{plugin}.schema", "__annotations__": {}}
        faults += [f"{key}: unknown field" for key in schema if key not in _SCHEMA_KEYS]
        if not isinstance(schema["name"], str):
            faults.append(f"name: {'required field missing' if schema['name'] is None else 'expected a string'}")
        if schema["shorthand_fields"] is not None:
            faults.append("shorthand_fields: only those of records in config are supported")
        protocols: tuple[str, ...] = HTTP_PROTOCOLS
        checks_of_entity = self._entity_checks(schema, faults, "")
        namespace["transformations"] = self._transformations(schema, faults)
        for name, definition in self._fields(schema, faults, ""):
            kind = definition["type"]
            if kind is not None and kind != _PLUGIN_FIELDS.get(name, kind):
                text = "cannot change type in a specialized field"
                faults.append(f"error in definition of '{plugin}': {name}: {text}")
            elif name == "config":
                if kind != "record":
                    faults.append("config: expected a record")
                    continue
                self._record_body(definition, namespace, faults, "config")
            elif name in _SCOPES:
                if self._is_null(definition["eq"]):
                    namespace[f"no_{name}"] = True
            elif name == "protocols":
                protocols = self._protocols(definition, namespace)
            elif name not in _PLUGIN_FIELDS:
                faults.append(f"error in definition of '{plugin}': {name}: cannot create a new field")
        namespace["protocols"] = protocols
        if schema["check"] is not None:
            checks_of_entity = (*checks_of_entity, self._whole_check(schema["check"]))
        namespace["config_checks"] = namespace.pop("entity_checks", ())
        namespace["entity_checks"] = checks_of_entity
        if faults:
            raise PluginLoadError([f"error loading plugin schemas: on plugin '{plugin}': {fault}" for fault in faults])
        try:
            model = cast(
                "type[PluginConfig]", types.new_class("Config", (PluginConfig,), exec_body=namespace_of(namespace))
            )
            # What contradicts itself is found here, and not by the first who uses the model.
            record_definition(model)
            return model
        except (TypeError, ValueError) as error:
            raise PluginLoadError(f"error loading plugin schemas: on plugin '{plugin}': {error}") from error

    def entity_model(self, name: str, definition: Any, faults: list[str]) -> type[Record]:
        """Return the record of an entity of `daos.lua`; faults are put into the list, behind the entity's name."""
        namespace: dict[str, Any] = {"__module__": "kong.daos", "__annotations__": {}}
        self._record_body(definition, namespace, faults, name)
        if definition["check"] is not None:
            names = tuple(field for field, _ in self._fields(definition, [], name))
            check = self._whole_check(definition["check"], names)
            namespace["entity_checks"] = (*namespace.get("entity_checks", ()), check)
        namespace["transformations"] = self._transformations(definition, faults)
        return cast("type[Record]", types.new_class(name, (Record,), exec_body=namespace_of(namespace)))

    def _transformations(self, definition: Any, faults: list[str]) -> tuple[Transformation, ...]:
        """Return the transformations of a schema, whose paths must be those of fields."""
        found = transformations(self._vm, definition["transformations"], faults)
        for one in found:
            for path in (*one.input, *one.needs):
                if not self._has_field(definition, path):
                    faults.append(f"transformations: invalid field name: {path}")
        return found

    def _has_field(self, definition: Any, path: str) -> bool:
        name, _, rest = path.partition(".")
        inner = next((inner for field, inner in self._fields(definition, [], "") if field == name), None)
        if inner is None or not rest:
            # What a plugin's schema does not mention is the same as in all of them.
            return inner is not None or (path in _PLUGIN_FIELDS and definition["primary_key"] is None)
        return inner["fields"].__class__ is not LuaTable or self._has_field(inner, rest)

    def record(self, name: str, definition: Any, faults: list[str], path: str) -> type[Record]:
        """Return the model of a record definition."""
        namespace: dict[str, Any] = {"__module__": "kong.schema", "__annotations__": {}}
        self._record_body(definition, namespace, faults, path)
        return cast("type[Record]", types.new_class(name, (Record,), exec_body=namespace_of(namespace)))

    def _record_body(self, definition: Any, namespace: dict[str, Any], faults: list[str], path: str) -> None:
        for position, (name, inner) in enumerate(self._fields(definition, faults, path)):
            attribute = name if name.isidentifier() and not name.startswith("_") else f"field_{position}"
            if hasattr(PluginConfig, attribute):
                attribute = f"field_{position}"
            self._member(name, attribute, inner, namespace, faults, f"{path}.{name}")
        entity_checks = self._entity_checks(definition, faults, path)
        if entity_checks:
            namespace["entity_checks"] = entity_checks
        shorthands = definition["shorthand_fields"]
        if shorthands is not None:
            found = (
                self._shorthand(name, inner, faults, f"{path}.{name}")
                for name, inner in self._entries(shorthands, faults, path)
            )
            namespace["shorthand_fields"] = tuple(one for one in found if one is not None)

    def _fields(self, definition: Any, faults: list[str], path: str) -> list[tuple[str, Any]]:
        fields = definition["fields"]
        if fields.__class__ is not LuaTable:
            faults.append(f"{path or 'fields'}: expected an array")
            return []
        return self._entries(fields, faults, path)

    def _entries(self, fields: Any, faults: list[str], path: str) -> list[tuple[str, Any]]:
        where = f"{path}: " if path else ""
        if len(fields) == 0 and list(fields.keys()):
            faults.append(f"{where}fields: expected an array")
            return []
        found: list[tuple[str, Any]] = []
        for position in range(1, len(fields) + 1):
            entry = fields[position]
            if entry.__class__ is not LuaTable:
                faults.append(f"{where}each entry in fields must be a sub-table")
                continue
            members = list(entry.items())
            if not members:
                faults.append(f"{where}field entry table is empty")
            elif len(members) > 1:
                faults.append(f"{where}length must be 1")
            elif members[0][1].__class__ is not LuaTable:
                faults.append(f"{where}'{members[0][0]}' must be a table")
            else:
                found.append((text_from_lua(str(members[0][0])), members[0][1]))
        return found

    def _member(
        self, name: str, attribute: str, definition: Any, namespace: dict[str, Any], faults: list[str], path: str
    ) -> None:
        kind = self._checked_kind(definition, faults, path)
        if kind is None:
            return
        annotation = self._annotation(definition, faults, path)
        required = definition["required"]
        is_record = kind == "record"
        # What fills itself is never null, and needs not be given.
        is_automatic = bool(definition["auto"]) and bool(definition["uuid"] or definition["timestamp"])
        is_required = is_automatic or (True if is_record and required is None else bool(required))
        if not is_required and annotation is not Any:
            annotation = annotation | None if not hasattr(annotation, "__metadata__") else _optional(annotation)
        options: dict[str, Any] = {}
        default = definition["default"]
        if default is not None:
            value = self._plain(default, kind)
            if is_record:
                options["default_factory"] = _record_default(annotation, value)
            else:
                options["default_factory"] = _fresh(value)
        elif is_record and is_required:
            options["default_factory"] = _innermost(annotation)
        elif not is_required:
            options["default"] = None
        if attribute != name:
            options["name"] = name
        if kind == "function":
            faults.append(f"{path}: Entities cannot have function types.")
        if definition["nilable"]:
            faults.append(f"{path}: Entities cannot have nilable types.")
        extra = {key: self._json(definition[key]) for key in PUBLISHED_ONLY if definition[key] is not None}
        if extra:
            options["schema_extra"] = extra
        if definition["deprecation"] is not None:
            options["deprecation"] = self._deprecation(definition["deprecation"])
        if required is not None:
            options["required"] = bool(required)
        namespace["__annotations__"][attribute] = annotation
        namespace[attribute] = field(options.pop("default"), **options) if "default" in options else field(**options)

    def _checked_kind(self, definition: Any, faults: list[str], path: str) -> str | None:
        kind = definition["type"]
        if kind is None:
            faults.append(f"{path}: missing type declaration")
            return None
        if kind not in TYPES:
            faults.append(f"{path}: expected one of: {', '.join(TYPES)}")
            return None
        for attribute in definition:
            if attribute not in KNOWN:
                faults.append(f"{path}: {attribute}: unknown field")
            elif attribute in ONLY_ON and kind not in ONLY_ON[attribute]:
                faults.append(f"{path}: field of type '{kind}' cannot have attribute '{attribute}'")
        check_attributes(definition, kind, faults, path)
        for needed in STRUCTURE.get(kind, ()):
            if definition[needed].__class__ is not LuaTable:
                faults.append(f"{path}: field of type '{kind}' must declare '{needed}'")
                return None
        return str(kind)

    def _annotation(self, definition: Any, faults: list[str], path: str) -> Any:
        """Return the annotation of a definition, with its attributes, without whether it is required."""
        kind = definition["type"]
        spec = FieldSpec(**self._attributes(definition, faults, path))
        if kind in _SCALARS:
            base = _SCALARS[kind]
        elif kind in ("array", "set"):
            base = list[self._inner(definition["elements"], faults, f"{path}.elements")]  # type: ignore[misc]
            if kind == "set":
                spec = spec.merged(FieldSpec(set_=True))
        elif kind == "map":
            keys = self._inner(definition["keys"], faults, f"{path}.keys")
            base = dict[keys, self._inner(definition["values"], faults, f"{path}.values")]  # type: ignore[valid-type,misc]
        elif kind == "record":
            base = self.record(path.replace(".", "_"), definition, faults, path)
        elif kind == "foreign":
            base = dict[str, str]
        elif kind == "json":
            base = Any
            schema = self._json_schema(definition["json_schema"], faults, path)
            spec = spec.merged(FieldSpec(json_schema=schema))
        else:
            return Any
        return Annotated[base, spec]

    def _json_schema(self, given: Any, faults: list[str], path: str) -> Any:
        """Return the JSON Schema of a field: `{ inline = … }`, or one by name."""
        plain = self._plain(given, "map")
        inline = plain.get("inline") if isinstance(plain, dict) else None
        if inline is not None:
            return inline if inline != [] else {}
        if not isinstance(plain, dict) or not {"namespace", "parent_subschema_key"} <= set(plain):
            faults.append(f"{path}: json_schema: needs inline, or namespace and parent_subschema_key")
            return {}
        default = plain.get("default")
        key = str(plain["parent_subschema_key"])
        return NamedJsonSchema(str(plain["namespace"]), key, bool(plain.get("optional")), default)

    def _inner(self, definition: Any, faults: list[str], path: str) -> Any:
        return self._annotation(definition, faults, path) if self._checked_kind(definition, faults, path) else Any

    # -- attributes ---------------------------------------------------------------------------------------------------

    def _attributes(self, definition: Any, faults: list[str], path: str) -> dict[str, Any]:
        given: dict[str, Any] = {}
        for name in COPIED:
            value = definition[name]
            if value is not None:
                given[name] = None if self._is_null(value) else self._plain(value, "any")
        for name in LISTS:
            if definition[name] is not None:
                # Tuples, since annotations are compared by hash where one is inside of another.
                given[name] = _frozen(self._plain(definition[name], "array"))
        if definition["unique_across_ws"] is not None:
            given["unique_across_workspaces"] = bool(definition["unique_across_ws"])
        validators: list[Callable[[Any], Any]] = []
        for name in PATTERNS:
            if definition[name] is None:
                continue
            try:
                given[name] = self._patterns(name, definition[name])
            except PatternError as error:
                faults.append(f"{path}: {name}: {error}")
        custom = definition["custom_validator"]
        if custom is not None:
            validators.append(self._validator(custom))
        if validators:
            given["validator"] = validators[0]
        return given

    def _patterns(self, name: str, value: Any) -> Any:
        if name in ("match", "not_match"):
            return _pattern(text_from_lua(str(value)))
        if name == "match_any":
            plain = self._vm.values.from_lua(value)
            patterns = tuple(Pattern(python_pattern(text), text) for text in plain["patterns"])
            return (patterns, plain.get("err"))
        return tuple(
            Pattern(python_pattern(one["pattern"]), one["pattern"], one.get("err"))
            for one in self._vm.values.from_lua(value)
        )

    def _validator(self, function: Any) -> Callable[[Any], Any]:
        """Return the Python form of a `custom_validator`: None when it passes, its text, or False."""
        kept = self._vm.anchor(function)
        to_lua = self._vm.values.to_lua

        def validate(value: Any) -> Any:
            return self._verdict(kept, to_lua(plain(value), keeps_null=True))

        return validate

    def _verdict(self, function: Any, argument: Any) -> Any:
        try:
            returned = function(argument)
        except lupa.LuaError as error:
            return text_from_lua(str(error)).partition("\nstack traceback:")[0]
        accepted, text = returned[:2] if isinstance(returned, tuple) else (returned, None)
        if accepted:
            return None
        if text is None:
            return False
        plain_text = self._vm.values.from_lua(text)
        return plain_text if isinstance(plain_text, (str, dict, list)) else str(plain_text)

    # -- checks over several fields -----------------------------------------------------------------------------------

    def _entity_checks(self, definition: Any, faults: list[str], path: str) -> tuple[EntityCheck, ...]:
        given = definition["entity_checks"]
        if given is None:
            return ()
        found: list[EntityCheck] = []
        if given.__class__ is not LuaTable:
            return ()
        for position in range(1, len(given) + 1):
            if given[position].__class__ is not LuaTable:
                faults.append(f"{path + ': ' if path else ''}entity_checks: {position}: expected a record")
                continue
            for name, argument in given[position].items():
                try:
                    found.append(self._entity_check(str(name), argument))
                except (KeyError, TypeError, ValueError, PatternError) as error:
                    faults.append(f"{path + ': ' if path else ''}entity_checks: {name}: {error}")
        return tuple(found)

    def _entity_check(self, name: str, argument: Any) -> EntityCheck:
        if argument.__class__ is not LuaTable:
            raise TypeError("expected a table")
        if missing := [part for part in _ARGUMENTS.get(name, ()) if argument[part] is None]:
            raise TypeError(f"{missing[0]}: required field missing")
        if name == "custom_entity_check":
            paths = self._plain(argument["field_sources"], "array")
            function = self._vm.anchor(argument["fn"])
            to_lua = self._vm.values.to_lua

            def run(entity: dict[str, Any]) -> Any:
                return self._verdict(function, to_lua(entity, keeps_null=True))

            return checks.custom(
                paths,
                run,
                run_with_missing_fields=bool(argument["run_with_missing_fields"]),
                run_with_invalid_fields=bool(argument["run_with_invalid_fields"]),
            )
        plain = self._match(argument)
        if name == "conditional":
            return checks.conditional(
                plain["if_field"],
                if_match=plain["if_match"],
                then_field=plain["then_field"],
                then_match=plain["then_match"],
                then_err=plain.get("then_err"),
            )
        if name == "conditional_at_least_one_of":
            return checks.conditional_at_least_one_of(
                plain["if_field"],
                if_match=plain["if_match"],
                then_at_least_one_of=plain["then_at_least_one_of"],
                then_err=plain.get("then_err"),
                else_match=plain.get("else_match"),
                else_then_at_least_one_of=plain.get("else_then_at_least_one_of", ()),
                else_then_err=plain.get("else_then_err"),
            )
        if name == "mutually_exclusive_sets":
            return checks.mutually_exclusive_sets(plain["set1"], plain["set2"])
        builders: Mapping[str, Callable[..., EntityCheck]] = {
            "at_least_one_of": checks.at_least_one_of,
            "only_one_of": checks.only_one_of,
            "distinct": checks.distinct,
            "mutually_required": checks.mutually_required,
            "mutually_exclusive": checks.mutually_exclusive,
        }
        if name not in builders:
            raise TypeError("unknown entity check")
        return builders[name](*plain)

    def _match(self, table: Any) -> Any:
        """Return the argument of a check as plain data, patterns and functions in their Python forms."""
        if table.__class__ is not LuaTable:
            if lupa.lua_type(table) == "userdata" and self._is_null(table):
                return None
            return text_from_lua(table) if isinstance(table, str) else table
        if len(table):
            return [self._match(table[position]) for position in range(1, len(table) + 1)]
        found: dict[str, Any] = {}
        for key, value in table.items():
            if key in ("match", "not_match"):
                found[key] = _pattern(text_from_lua(str(value)))
            elif key == "custom_validator":
                found["validator"] = self._validator(value)
            else:
                found[str(key)] = self._match(value)
        return found

    def _whole_check(self, function: Any, paths: tuple[str, ...] = ("config",)) -> EntityCheck:
        """Return the check that a schema's own `check` makes of an entity; of that of a plugin it sees `config`."""
        kept = self._vm.anchor(function)
        to_lua = self._vm.values.to_lua

        def run(entity: dict[str, Any]) -> Any:
            verdict = self._verdict(kept, to_lua(entity, keeps_null=True))
            if verdict is False:
                return "entity check failed"
            return _fault_texts(verdict) if isinstance(verdict, (dict, list)) else verdict

        return checks.custom(paths, run, run_with_missing_fields=True, is_published=False)

    def _shorthand(self, name: str, definition: Any, faults: list[str], path: str) -> Shorthand | None:
        if definition["type"] in TYPES and definition["type"] not in SHORTHAND_TYPES:
            faults.append(f"{path}: type: expected one of: {', '.join(SHORTHAND_TYPES)}")
            return None
        if lua_type_of(definition["func"]) != "function":
            missing = definition["func"] is None
            faults.append(f"{path}: func: {'required field missing' if missing else 'expected a function'}")
            return None
        annotation = self._inner(definition_without(self._vm, definition), faults, path)
        function = definition["func"]
        deprecation = definition["deprecation"]
        options: dict[str, Any] = {}
        if deprecation is not None:
            plain = self._vm.values.from_lua(_without_functions(self._vm, deprecation))
            options["message"] = str(plain.get("message", f"{name} is deprecated"))
            options["removal_in_version"] = plain.get("removal_in_version")
            options["old_default"] = plain.get("old_default", UNSET)
            replaced = plain.get("replaced_with")
            if replaced:
                options["replaced_with"] = tuple(replaced[0]["path"])
                reverse = deprecation["replaced_with"][1]["reverse_mapping_function"]
                if reverse is not None:
                    options["translate_backwards"] = self._reverse(reverse)
        backwards = definition["translate_backwards"]
        if backwards is not None:
            is_function = lupa.lua_type(backwards) == "function"
            options["translate_backwards"] = (
                self._reverse(backwards) if is_function else tuple(self._plain(backwards, "array"))
            )
        if function is not None:
            kept = self._vm.anchor(function)
            values = self._vm.values

            def members(value: Any) -> Mapping[str, Any]:
                try:
                    returned = values.from_lua(kept(values.to_lua(value, keeps_null=True)))
                except lupa.LuaError as error:
                    raise ValueError(text_from_lua(str(error)).partition("\nstack traceback:")[0]) from error
                return returned if isinstance(returned, dict) else {}

            options["function"] = members
        return shorthand(name, annotation, **options)

    def _reverse(self, function: Any) -> Callable[[Mapping[str, Any]], Any]:
        kept = self._vm.anchor(function)
        values = self._vm.values
        return lambda record: values.from_lua(kept(values.to_lua(record, keeps_null=True)))

    def _deprecation(self, table: Any) -> Deprecation:
        plain = self._vm.values.from_lua(_without_functions(self._vm, table))
        replaced = plain.get("replaced_with")
        return Deprecation(
            str(plain.get("message", "")),
            plain.get("removal_in_version"),
            plain.get("old_default", UNSET),
            tuple(replaced[0]["path"]) if replaced else (),
        )

    # -- values -------------------------------------------------------------------------------------------------------

    def _plain(self, value: Any, kind: str) -> Any:
        plain = self._vm.values.from_lua(value)
        if plain == {} and kind in ("array", "set"):
            return []
        return plain

    def _json(self, value: Any) -> Any:
        return self._vm.values.from_lua(_without_functions(self._vm, value))

    def _protocols(self, definition: Any, namespace: dict[str, Any]) -> tuple[str, ...]:
        elements = definition["elements"]
        allowed = elements["one_of"] if elements is not None else None
        known = ALL_PROTOCOLS + WEBSOCKET_PROTOCOLS
        protocols = tuple(self._plain(allowed, "array")) if allowed is not None else known
        default = definition["default"]
        if default is not None:
            namespace["default_protocols"] = tuple(self._plain(default, "array"))
        return tuple(name for name in protocols if name in known)


def _fault_texts(tree: Any, path: str = "") -> dict[str, Any]:
    """Return an error table as texts by dotted path; what has a number instead of a name concerns the whole entity."""
    found: dict[str, Any] = {}
    entries = enumerate(tree, 1) if isinstance(tree, list) else tree.items()
    for key, value in entries:
        if isinstance(key, int) or str(key).isdigit() or key == "@entity":
            found.setdefault("@entity", []).extend(value if isinstance(value, list) else [str(value)])
        elif isinstance(value, dict):
            for inner, text in _fault_texts(value, f"{path}{key}.").items():
                if inner == "@entity":
                    found.setdefault("@entity", []).extend(text)
                else:
                    found[inner] = text
        else:
            found[f"{path}{key}"] = value
    return found


def namespace_of(members: dict[str, Any]) -> Callable[[dict[str, Any]], None]:
    """Return what `types.new_class` runs in the place of a class body."""
    return lambda namespace: namespace.update(members)


def definition_without(vm: "Vm", definition: Any) -> Any:
    """Return a copy of a definition without what only shorthands have."""
    copy = vm.runtime.table()
    for key, value in definition.items():
        if key not in ("func", "translate_backwards", "deprecation"):
            copy[key] = value
    return copy


def _without_functions(vm: "Vm", table: Any) -> Any:
    if table.__class__ is not LuaTable:
        return table
    copy = vm.runtime.table()
    for key, value in table.items():
        if lupa.lua_type(value) != "function":
            copy[key] = _without_functions(vm, value)
    return copy


def _pattern(text: str) -> LuaPattern:
    pattern = LuaPattern(text)
    pattern.python = python_pattern(text)
    return pattern


def _frozen(value: Any) -> Any:
    return tuple(_frozen(item) for item in value) if isinstance(value, list) else value


def _optional(annotation: Any) -> Any:
    return Annotated[(annotation.__origin__ | None, *annotation.__metadata__)]


def _innermost(annotation: Any) -> Any:
    return getattr(annotation, "__origin__", annotation)


def _fresh(value: Any) -> Callable[[], Any]:
    import copy

    return lambda: copy.deepcopy(value)


def _record_default(annotation: Any, value: Any) -> Callable[[], Any]:
    model = _innermost(annotation)
    if not value:
        return model  # type: ignore[no-any-return]
    return lambda: model.model_validate(value)
