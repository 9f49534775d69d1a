"""docs/config-schema.md: how a plugin's configuration is declared, with the text that each check gives.

The texts are not written here: every row's value is refused by the real schema when the page is made.
"""

import inspect
from typing import Any

from headgate import PluginConfig
from headgate.errors import SchemaViolation
from headgate.schema import Pattern, checks, field, types, validate

Row = tuple[str, str, Any, dict[str, Any], Any]
"""(as written, meaning, annotation, attributes, a value that is refused)"""

_ATTRIBUTES: list[Row] = [
    ('one_of=("a", "b")', "one of these; `Literal` says the same", str, {"one_of": ("a", "b")}, "c"),
    ('not_one_of=("a",)', "none of these", str, {"not_one_of": ("a",)}, "a"),
    ("between=(1, 10)", "a number in this range, both ends included", int, {"between": (1, 10)}, 11),
    ("gt=0", "a number above", float, {"gt": 0}, 0),
    ("eq=1", "exactly this", int, {"eq": 1}, 2),
    ("ne=1", "anything but this", int, {"ne": 1}, 1),
    ("len_eq=2", "length of a text in bytes, of a list or map in items", str, {"len_eq": 2}, "abc"),
    ("len_min=2", "shortest; without it a text must not be empty, 0 allows that", str, {"len_min": 2}, "a"),
    ("len_max=2", "longest", str, {"len_max": 2}, "abc"),
    ('starts_with="/"', "beginning of a text", str, {"starts_with": "/"}, "a"),
    ('match=r"^[a-z]+$"', "regular expression that is found", str, {"match": r"^[a-z]+$"}, "A"),
    ('not_match=r"\\s"', "regular expression that is not found", str, {"not_match": r"\s"}, "a b"),
    (
        'match_all=(Pattern("a", err="…"),)',
        "all are found, each with its own text",
        str,
        {"match_all": (Pattern("a", err="must contain a"),)},
        "b",
    ),
    (
        'match_none=(Pattern("//", err="…"),)',
        "none is found",
        str,
        {"match_none": (Pattern("//", err="must not have empty segments"),)},
        "a//b",
    ),
    (
        'match_any=((Pattern("a"), Pattern("b")), "…")',
        "one is found",
        str,
        {"match_any": ((Pattern("a"), Pattern("b")), "must contain a or b")},
        "c",
    ),
    ('contains="a"', "a list has this item", list[str], {"contains": "a"}, ["b"]),
    (
        "is_regex=True",
        "is a regular expression in the syntax of PCRE: use it with the library `regex`",
        str,
        {"is_regex": True},
        "[",
    ),
    ("uuid=True", "is a UUID", str, {"uuid": True}, "1"),
    ("timestamp=True", "is a time in seconds", int, {"timestamp": True}, -1),
    (
        'validator=lambda value: "…"',
        "a function that returns the text of the fault, or None",
        str,
        {"validator": lambda value: f"{value} is not known"},
        "x",
    ),
    ('err="…"', "replaces the text of every check of the field", int, {"gt": 0, "err": "must be above zero"}, 0),
    (
        'elements=field(one_of=("a",))',
        "checks of each item of a list; `keys` and `values` of a map",
        list[str],
        {"elements": field(one_of=("a",))},
        ["a", "b"],
    ),
]

_KINDS: list[tuple[str, Any, Any]] = [
    ("str", str, 1),
    ("int", int, 1.5),
    ("float", float, "1"),
    ("bool", bool, "true"),
    ("list[str]", list[str], "a"),
    ("dict[str, int]", dict[str, int], "a"),
]

_REFUSED: dict[str, Any] = {
    "CookieName": "a b",
    "CidrV4": "::1/8",
    "Certificate": "x",
    "PrivateKey": "x",
    "HeaderName": "a b",
    "Host": "a:1",
    "HostWithOptionalPort": "a b",
    "WildcardHost": "a.*.b",
    "HttpMethod": "get",
    "Id": "1",
    "Ip": "a",
    "IpOrCidr": "a",
    "Name": "a b",
    "AsciiName": "é",
    "Path": "a",
    "Port": 70000,
    "Protocol": "ftp",
    "Sni": "1.2.3.4",
    "Tag": "a,b",
    "Timeout": -1,
    "TimestampSeconds": -1,
    "TimestampMilliseconds": -1,
    "Url": "a",
    "Uuid": "1",
}

_CHECKS: list[tuple[str, Any, dict[str, Any]]] = [
    ('at_least_one_of("config.a", "config.b")', checks.at_least_one_of("config.a", "config.b"), {}),
    ('only_one_of("config.a", "config.b")', checks.only_one_of("config.a", "config.b"), {"a": "1", "b": "1"}),
    ('mutually_required("config.a", "config.b")', checks.mutually_required("config.a", "config.b"), {"a": "1"}),
    (
        'mutually_exclusive("config.a", "config.b")',
        checks.mutually_exclusive("config.a", "config.b"),
        {"a": "1", "b": "1"},
    ),
    ('distinct("config.a", "config.b")', checks.distinct("config.a", "config.b"), {"a": "1", "b": "1"}),
    (
        'mutually_exclusive_sets(["config.a"], ["config.b"])',
        checks.mutually_exclusive_sets(["config.a"], ["config.b"]),
        {"a": "1", "b": "1"},
    ),
    (
        'conditional("config.a", if_match={"eq": "1"}, then_field="config.b", then_match={"required": True})',
        checks.conditional("config.a", if_match={"eq": "1"}, then_field="config.b", then_match={"required": True}),
        {"a": "1"},
    ),
    (
        'conditional_at_least_one_of("config.a", if_match={"eq": "1"}, then_at_least_one_of=["config.b"])',
        checks.conditional_at_least_one_of("config.a", if_match={"eq": "1"}, then_at_least_one_of=["config.b"]),
        {"a": "1"},
    ),
    (
        'custom(["config.a"], lambda entity: "…")',
        checks.custom(["config.a"], lambda entity: f"{entity['config']['a']} does not fit"),
        {"a": "1"},
    ),
]

_BEGINNING = """# Configuration of a plugin

`PluginConfig` is a pydantic model with the vocabulary of Kong's schemas. All faults of a configuration are found at
once and told with Kong's texts, `/schemas/plugins/<name>` is derived from the class, and the handler gets an instance.

```python
from typing import Literal

from headgate import PluginConfig
from headgate.schema import Record, checks, field, shorthand, types, validate


class Redis(Record):
    host: types.Host | None = None
    port: types.Port = 6379
    password: str | None = field(None, len_min=0, referenceable=True, encrypted=True)


class Config(PluginConfig):
    no_consumer = True
    entity_checks = (
        checks.at_least_one_of("config.minute", "config.hour"),
        checks.conditional(
            "config.policy",
            if_match={"eq": "redis"},
            then_field="config.redis.host",
            then_match={"required": True},
        ),
    )
    shorthand_fields = (
        shorthand(
            "redis_host", str, replaced_with=("redis", "host"), message="use redis.host", removal_in_version="2.0"
        ),
    )

    minute: float | None = field(None, gt=0)
    hour: float | None = field(None, gt=0)
    policy: Literal["local", "redis"] = "local"
    header_names: list[types.HeaderName] = field(default_factory=lambda: ["X-Key"], len_min=1)
    limits: dict[str, int] = field(default_factory=dict, values=field(between=(1, 100)))
    redis: Redis = field(default_factory=Redis)


config = validate(Config, {"minute": 5, "redis_host": "cache.example"})
assert (config.minute, config.redis.host, config.redis.port) == (5, "cache.example", 6379)
```

A plain annotation is a field. With a default it may be left out; with `| None` it may be null; otherwise it is required
(`required field missing`). What the class does not have is refused (`unknown field`). Numbers are not made of texts.

| annotation | value | text |
|---|---|---|
"""

_SCOPES = """
`Literal["a", "b"]` is a text with `one_of`; `list` with `field(set_=True)` drops duplicates; another `Record` is a
record, and lists and maps may hold records. A nested record with `field(default_factory=Redis)` has its own defaults.

## Attributes of a field

`field(default, …)`: as many as needed. The last column is the text for a value that does not pass.

| attribute | demands | text |
|---|---|---|
"""

_TYPES = """
These say something about the field instead of checking it:

| attribute | means |
|---|---|
| `required=False` | may be left out although it has no default (it is absent then) |
| `referenceable=True` | the text may be `{vault://…}`; checks are skipped for it, the handler gets the secret |
| `encrypted=True` | a secret: published so, and encrypted in a database that has keys (see below) |
| `set_=True` | a list without duplicates |
| `transient=True` | accepted and checked, for `transformations` (below) to use, and not stored; needs a default |
| `json_schema={…}` | the field holds any JSON that passes this JSON Schema (below) |
| `auto` | a field without a value gets one: a UUID, the time, or 32 letters and digits |
| `unique`, `immutable` | for entities of a plugin |
| `name="x-y"` | the field's name in documents when it is no name of Python |
| `description="…"`, `examples=[…]` | shown in the published schema |
| `deprecation=Deprecation("use b", old_default=1)` | using the field is logged, unless with its old default |

## Shared types

`from headgate.schema import types`; a field can add to them: `port: types.Port | None = field(None, gt=1023)`.

| type | text for a wrong value |
|---|---|
"""

_CHECKS_HEAD = """
## Checks of several fields

`entity_checks` of the class; paths start at the plugin entity (`config_checks`: at the configuration, where their
texts are put too). A check runs when its fields have no fault of their own.

| check | meaning | text |
|---|---|---|
"""

_END = """
An attribute that the type cannot have (`between` of a text), a check of a field that is not there and the like are
faults of the class: `headgate plugin check` and the start tell them all.

## Any JSON

A field with `json_schema` takes any value that the schema lets pass; a first fault is told as
`value failed JSON-schema validation: …`. Schemas are of the draft that their `$schema` names, and nothing is fetched.
With `NamedJsonSchema` another field of the record says which schema counts, as plugins add them:

```python
from typing import Any

from headgate import PluginConfig
from headgate.schema import NamedJsonSchema, Record, add_json_schema, examine, field

add_json_schema("rules/limit", {"type": "object", "required": ["rate"]})


class Rule(Record):
    name: str
    config: Any = field(None, json_schema=NamedJsonSchema("rules", "name"))


class Config(PluginConfig):
    labels: dict[str, Any] | None = field(None, json_schema={"additionalProperties": {"type": "string"}})
    rules: list[Rule] = field(default_factory=list)


assert examine(Config, {"rules": [{"name": "limit", "config": {"rate": 1}}]}).errors == {}
```

## What is stored and what is read

`transformations` of a configuration, or of an entity of a plugin, say what fields become when they are written and
what they are read as: by handlers, through `kong.db`, and in answers of the Admin API. Stores and exports hold what was
written.

```python
import hashlib

from headgate import PluginConfig
from headgate.schema import field, transformation


class Config(PluginConfig):
    transformations = (
        transformation(
            input=("config.password",),
            needs=("config.salt",),
            on_write=lambda password, salt: {
                "config": {"digest": hashlib.sha256(f"{salt}{password}".encode()).hexdigest()}
            },
        ),
        transformation(on_read=lambda entity: {"config": {"is_protected": entity["config"]["digest"] is not None}}),
    )

    password: str | None = field(None, transient=True, encrypted=True)
    salt: str | None = None
    digest: str | None = None
    is_protected: bool = False
```

- `on_write` and `on_read` are functions that return the fields that change, nested as the entity is. `ValueError`
  refuses: `transformation failed: …`.
- `input` and `needs` are paths whose values the function gets, in this order. It runs when none is empty; in a change
  only when the inputs are given, and then the needed ones must be given too: `all or none of these fields must be
  set: …`.
- Without both it always runs and gets the entity: of a plugin `config` and its scope, of an entity its fields.

What is stored has to pass the checks of its field too, since a later change merges with it.

## Scopes and protocols

| class attribute | means |
|---|---|
| `no_consumer`, `no_consumer_group`, `no_route`, `no_service` = True | no such scope: `value must be null` |
| `protocols` | protocols that an instance may list; `HTTP_PROTOCOLS` unless said, `ALL_PROTOCOLS` adds streams |
| `default_protocols` | what it lists when it says nothing |

## Old names

`shorthand_fields` are accepted on input only. With `message` the name is deprecated: its use is logged (unless with
`old_default`), the new field wins, and both with different values is a fault. `function=` turns a value into several
members. Answers of the Admin API show a deprecated name again; `translate_backwards=` (a path, or a function of the
record) says what it shows, also for a name that is not deprecated.

A field that stays under its name takes `deprecation=Deprecation("…")`: it works as before, and its use is logged when a
configuration is written.

## Secrets

A field with `referenceable=True` may hold `{vault://<vault>/<resource>}`. The reference is stored and shown; the
handler's `conf` holds the secret, kept up to date while the gateway runs, and `instance_of(conf).refs` the
references by path (see [calling other services](calling-other-services.md)).

With the setting `encryption_keys` a database holds secrets encrypted (AES-256-GCM): the whole `config` of plugins and
vaults, and the fields of entities that are `encrypted=True` or contain such a field. Fields by which entities are found
(`unique`, the endpoint key) stay readable, as the database compares them. Without the setting, and with
`database = off`, secrets are plain text in the database or document. More in [several nodes](cluster.md#secrets).
"""


def schema_page() -> str:
    """Return the page."""
    lines = [_BEGINNING.rstrip("\n")]
    for label, annotation, value in _KINDS:
        lines.append(f"| `{label}` | `{value!r}` | {_text(annotation, {}, value)} |")
    lines.append(_SCOPES.rstrip("\n"))
    for written, meaning, annotation, attributes, value in _ATTRIBUTES:
        lines.append(f"| {_code(written)} | {meaning} | {_text(annotation, attributes, value)} |")
    lines.append(_TYPES.rstrip("\n"))
    lines += [f"| `types.{name}` | {_text(getattr(types, name), {}, value)} |" for name, value in _REFUSED.items()]
    lines.append(_CHECKS_HEAD.rstrip("\n"))
    for written, check, values in _CHECKS:
        function = getattr(checks, written.partition("(")[0])
        summary = inspect.cleandoc(function.__doc__ or "").splitlines()[0]
        lines.append(f"| {_code(written)} | {summary} | {_check_text(check, values)} |")
    lines.append(_END.rstrip("\n"))
    return "\n".join(lines) + "\n"


def _text(annotation: Any, attributes: dict[str, Any], value: Any) -> str:
    """Return what the schema says to a value."""
    model = type("Shown", (PluginConfig,), {"__annotations__": {"a": annotation}, "a": field(**attributes)})
    return _faults(model, {"a": value}, "a")


def _check_text(check: Any, values: dict[str, Any]) -> str:
    members = {
        "__annotations__": {"a": str | None, "b": str | None},
        "a": field(None),
        "b": field(None),
        "entity_checks": (check,),
    }
    return _faults(type("Shown", (PluginConfig,), members), values, "@entity")


def _faults(model: Any, values: dict[str, Any], key: str) -> str:
    try:
        validate(model, values, prefix="config")
    except SchemaViolation as violation:
        found: Any = violation.fields
        return _code(_first_text(found.get(key, found)))
    raise AssertionError(f"{values!r} was not refused")


def _first_text(tree: Any) -> str:
    while not isinstance(tree, str):
        inner = list(tree.values()) if isinstance(tree, dict) else [one for one in tree if one is not None]
        tree = inner[0]
    return tree


def _code(text: str) -> str:
    # What another library says about a text changes with its version.
    text = text.partition(" Unable to load")[0].replace("|", "\\|")
    return f"`` {text} ``" if "`" in text else f"`{text}`"
