"""Configuration of request-transformer: what to do to headers, query string and body, checked and compiled at load."""

import re
from functools import cached_property

from headgate import PluginConfig
from headgate.plugins.request_transformer.expression import ExpressionError
from headgate.plugins.request_transformer.operations import Operations, split_entry
from headgate.plugins.request_transformer.template import Template
from headgate.schema import ALL_PROTOCOLS, Record, field

_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+\-.^_`|~]+")


def check_header_name(entry: str) -> str | None:
    """Return the fault of an entry whose first part has to be a header name."""
    name, _ = split_entry(entry)
    return None if _HEADER_NAME.fullmatch(name) else f"'{name}' is not a valid header"


def check_entry(entry: str) -> str | None:
    """Return the fault of a `name:value` entry: no value, or a template that is not understood."""
    name, value = split_entry(entry)
    return f"key '{name}' has no value" if not value else check_template(value)


def check_template(value: str) -> str | None:
    """Return the fault of a value that may hold `$(expression)`."""
    try:
        Template(value)
    except ExpressionError as error:
        return f"value '{value}' is not in supported format, error:{error}"
    return None


def _check_header_entry(entry: str) -> str | None:
    return check_header_name(entry) or check_entry(entry)


def _check_header_rename(entry: str) -> str | None:
    fault = _check_header_entry(entry)
    if fault is not None:
        return fault
    _, new_name = split_entry(entry)
    return None if "$(" in new_name or _HEADER_NAME.fullmatch(new_name) else f"'{new_name}' is not a valid header"


class Removals(Record):
    body: list[str] = field(default_factory=list)
    headers: list[str] = field(default_factory=list, elements=field(validator=check_header_name))
    querystring: list[str] = field(default_factory=list)


class Renames(Record):
    body: list[str] = field(default_factory=list, elements=field(validator=check_entry))
    headers: list[str] = field(
        default_factory=list, elements=field(match=r"^[^:]+:.*$", validator=_check_header_rename)
    )
    querystring: list[str] = field(default_factory=list, elements=field(validator=check_entry))


class Entries(Record):
    body: list[str] = field(default_factory=list, elements=field(validator=check_entry))
    headers: list[str] = field(default_factory=list, elements=field(match=r"^[^:]+:.*$", validator=_check_header_entry))
    querystring: list[str] = field(default_factory=list, elements=field(validator=check_entry))


class Replacements(Entries):
    uri: str | None = field(None, validator=check_template)


class Config(PluginConfig):
    protocols = ALL_PROTOCOLS

    http_method: str | None = field(None, match=r"^[A-Z]+$", lua_pattern="^%u+$")
    remove: Removals = field(default_factory=Removals)
    rename: Renames = field(default_factory=Renames)
    replace: Replacements = field(default_factory=Replacements)
    add: Entries = field(default_factory=Entries)
    append: Entries = field(default_factory=Entries)

    @cached_property
    def compiled(self) -> "Compiled":
        """The operations with their templates compiled, once per configuration."""
        return Compiled(self)


class Compiled:
    """What a configuration asks for, ready to be applied."""

    __slots__ = ("body", "has_expressions", "headers", "http_method", "query", "uri")

    def __init__(self, config: Config) -> None:
        self.http_method = config.http_method
        self.uri = Template(config.replace.uri) if config.replace.uri is not None else None
        self.headers = _operations(config, "headers")
        self.query = _operations(config, "querystring")
        self.body = _operations(config, "body")
        self.has_expressions = (
            self.headers.has_expressions
            or self.query.has_expressions
            or self.body.has_expressions
            or (self.uri is not None and not self.uri.is_constant)
        )


def _operations(config: Config, target: str) -> Operations:
    def compiled(record: Record) -> tuple[tuple[str, Template], ...]:
        pairs = (split_entry(entry) for entry in getattr(record, target))
        return tuple((name, Template(value)) for name, value in pairs)

    return Operations(
        tuple(split_entry(entry)[0] for entry in getattr(config.remove, target)),
        compiled(config.rename),
        compiled(config.replace),
        compiled(config.add),
        compiled(config.append),
    )
