"""Routes: what selects a service for a request.

Which attributes a route may and must have depends on its protocols: http (and WebSocket), stream, or gRPC. The first
protocol that is known decides. In the router flavour `expressions` a route may have an expression instead; whoever
knows the language gives its check (`entity_type_of`).
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Annotated, Any, Final

from headgate.entities.entity_type import Entity, EntityType
from headgate.entities.route_paths import route_path_fault, unsupported_feature
from headgate.schema import Pattern, Record, addresses, checks, field, texts, types
from headgate.schema.checks import EntityCheck, is_empty, quoted
from headgate.schema.spec import FieldSpec

_SNI_PROTOCOLS: Final = ("grpcs", "https", "tls", "tls_passthrough", "wss")
_FAMILY: Final = {
    **dict.fromkeys(("http", "https", "ws", "wss"), "http"),
    **dict.fromkeys(("tcp", "tls", "udp", "tls_passthrough"), "stream"),
    **dict.fromkeys(("grpc", "grpcs"), "grpc"),
}
_FORBIDDEN: Final = {
    "http": (("sources", "destinations"), "'http' or 'https'"),
    "stream": (("methods", "hosts", "paths", "headers"), "'tcp', 'tls', 'tls_passthrough' or 'udp'"),
    "grpc": (("strip_path", "methods", "sources", "destinations"), "'grpc' or 'grpcs'"),
}
_ADDRESSES: Final = ("sources", "destinations")
_ATTRIBUTES: Final = ("methods", "hosts", "paths", "headers", "snis", *_ADDRESSES)
_ATTRIBUTES_TEXT: Final = "'methods', 'hosts', 'paths', 'headers', 'snis', 'sources' or 'destinations'"
HIGHEST_PRIORITY: Final = 2**46 - 1
_ROUTER_PREFIX: Final = "Router Expression failed validation: "


def _forbidden_attributes(route: Mapping[str, Any]) -> dict[str, str]:
    family = family_of(route.get("protocols"))
    if family is None:
        return {}
    names, protocols = _FORBIDDEN[family]
    return {
        name: f"cannot set '{name}' when 'protocols' is {protocols}"
        for name in names
        if (route.get(name) is True if name == "strip_path" else route.get(name) is not None)
    }


def family_of(protocols: Any) -> str | None:
    """Return `http`, `stream` or `grpc` by the first protocol that is known."""
    for protocol in protocols if isinstance(protocols, list) else ():
        if isinstance(protocol, str) and protocol in _FAMILY:
            return _FAMILY[protocol]
    return None


def _needed(names: tuple[str, ...], protocols: str) -> tuple[tuple[str, ...], str]:
    return names, f"must set one of {quoted(names)} when 'protocols' is {protocols}"


ExpressionCheck = Callable[[str, bool], list[str]]
"""(expression, is it of a stream route) -> every fault of the expression."""

_NeededTable = tuple[tuple[tuple[str, ...], tuple[tuple[str, ...], str]], ...]
_NEEDED: Final[_NeededTable] = (
    (("https",), _needed(("methods", "hosts", "headers", "paths", "snis"), "'https'")),
    (("http",), _needed(("methods", "hosts", "headers", "paths"), "'http'")),
    (("wss",), _needed(("methods", "hosts", "headers", "paths", "snis"), "'wss'")),
    (("ws",), _needed(("methods", "hosts", "headers", "paths"), "'ws'")),
    (("tls_passthrough",), (("snis",), "must set snis when 'protocols' is 'tls_passthrough'")),
    (("tcp", "tls", "udp"), _needed(("sources", "destinations", "snis"), "'tcp', 'tls' or 'udp'")),
    (("grpcs",), _needed(("hosts", "headers", "paths", "snis"), "'grpcs'")),
    (("grpc",), _needed(("hosts", "headers", "paths"), "'grpc'")),
)
_NEEDED_OR_EXPRESSION: Final[_NeededTable] = tuple(
    (wanted, _needed((*names, "expression"), text.partition(" is ")[2])) for wanted, (names, text) in _NEEDED
)


def _check_attributes(route: Mapping[str, Any]) -> str | None:
    return _missing_attributes(route, _NEEDED) or _unsupported_path(route)


def _missing_attributes(route: Mapping[str, Any], needed: _NeededTable) -> str | None:
    protocols = route.get("protocols") or ()
    for wanted, (names, text) in needed:
        if any(protocol in protocols for protocol in wanted):
            if all(is_empty(route.get(name)) for name in names):
                return text
            break
    return None


def _unsupported_path(route: Mapping[str, Any]) -> str | None:
    for path in route.get("paths") or ():
        feature = unsupported_feature(path)
        if feature is not None:
            return f"{_ROUTER_PREFIX}regex '{path[1:]}': {feature}"
    return None


def _forbidden_beside_expressions(route: Mapping[str, Any]) -> dict[str, str]:
    """Like `_forbidden_attributes`; http routes may have addresses in this flavour."""
    faults = _forbidden_attributes(route)
    if family_of(route.get("protocols")) == "http":
        faults = {name: fault for name, fault in faults.items() if name not in _ADDRESSES}
    return faults


def _expression_check(check_expression: ExpressionCheck) -> Callable[[Mapping[str, Any]], str | None]:
    def check(route: Mapping[str, Any]) -> str | None:
        attributes = [name for name in _ATTRIBUTES if not is_empty(route.get(name))]
        expression = route.get("expression")
        if is_empty(expression):
            if attributes and route.get("priority"):
                return f"{_ROUTER_PREFIX}cannot set 'priority' with {_ATTRIBUTES_TEXT} simultaneously"
            if any(name in attributes for name in _ADDRESSES) and family_of(route.get("protocols")) == "http":
                return _unsupported_path(route)
            return _missing_attributes(route, _NEEDED_OR_EXPRESSION) or _unsupported_path(route)
        if attributes:
            return f"{_ROUTER_PREFIX}cannot set 'expression' with {_ATTRIBUTES_TEXT} simultaneously"
        if route.get("regex_priority"):
            return f"{_ROUTER_PREFIX}cannot set 'regex_priority' with 'expression' simultaneously"
        faults = check_expression(str(expression), family_of(route.get("protocols")) == "stream")
        return _ROUTER_PREFIX + "; ".join(faults) if faults else None

    return check


def _check_path_handling(route: Mapping[str, Any]) -> None:
    """Published by the contract; its only effect there is a deprecation warning for v1."""


RouteHost = Annotated[
    str,
    FieldSpec(
        match_all=(
            Pattern(r"\A[^*]*\*?[^*]*\Z", "^[^*]*%*?[^*]*$", "invalid wildcard: must have at most one wildcard"),
        ),
        match_any=(
            (
                Pattern(r"\A\*\.", r"^%*%."),
                Pattern(r"\.\*\Z", r"%.%*$"),
                Pattern(r"\A[^*]*\Z", "^[^*]*$"),
            ),
            "invalid wildcard: must be placed at leftmost or rightmost label",
        ),
        validator=addresses.route_host_fault,
    ),
]
RoutePath = Annotated[
    str,
    FieldSpec(
        match_none=(Pattern("//", err="must not have empty segments"),),
        match_any=((Pattern("^/"), Pattern("^~/")), "should start with: / (fixed path) or ~/ (regex path)"),
        validator=route_path_fault,
    ),
]
RouteHeader = Annotated[
    str,
    FieldSpec(
        match_none=(
            Pattern(
                r"\A[Hh][Oo][Ss][Tt]\Z",
                "^[Hh][Oo][Ss][Tt]$",
                "cannot contain 'host' header, which must be specified in the 'hosts' attribute",
            ),
        ),
        validator=texts.header_name_fault,
    ),
]


_ONLY_WITH_SNIS: Final = checks.conditional(
    "protocols",
    if_match={"elements": {"type": "string", "not_one_of": list(_SNI_PROTOCOLS)}},
    then_field="snis",
    then_match={"len_eq": 0},
    then_err="'snis' can only be set when 'protocols' is 'grpcs', 'https', 'tls' or 'tls_passthrough'",
)


def _checks(
    attributes: Callable[[Mapping[str, Any]], str | None], forbidden: Callable[[Mapping[str, Any]], dict[str, str]]
) -> tuple[EntityCheck, ...]:
    return (
        _ONLY_WITH_SNIS,
        checks.custom(("path_handling",), _check_path_handling),
        checks.custom(
            (
                *("id", "protocols", "snis", "sources", "destinations", "methods", "hosts", "paths", "headers"),
                *("expression", "regex_priority", "priority"),
            ),
            attributes,
            run_with_missing_fields=True,
        ),
        checks.custom(
            ("protocols", "strip_path", "methods", "hosts", "paths", "headers", "sources", "destinations"),
            forbidden,
            run_with_missing_fields=True,
            run_with_invalid_fields=True,
            is_published=False,
        ),
    )


class Route(Record):
    """One route."""

    entity_checks = _checks(_check_attributes, _forbidden_attributes)

    id: types.Id
    created_at: types.TimestampSeconds
    updated_at: types.TimestampSeconds
    name: types.Name | None = None
    protocols: list[types.Protocol] = field(
        default_factory=lambda: ["http", "https"],
        set_=True,
        len_min=1,
        mutually_exclusive_subsets=(
            ("http", "https"),
            ("tcp", "tls", "udp"),
            ("tls_passthrough",),
            ("grpc", "grpcs"),
            ("ws", "wss"),
        ),
    )
    https_redirect_status_code: int = field(426, one_of=(426, 301, 302, 307, 308))
    strip_path: bool = True
    preserve_host: bool = False
    request_buffering: bool = True
    response_buffering: bool = True
    tags: types.Tags | None = None
    service: types.foreign("services") | None = None  # type: ignore[valid-type]
    snis: list[types.WildcardHost] | None = field(None, set_=True)
    sources: list[types.AddressAndPort] | None = field(None, set_=True)
    destinations: list[types.AddressAndPort] | None = field(None, set_=True)
    methods: list[types.HttpMethod] | None = field(None, set_=True)
    hosts: list[RouteHost] | None = None
    paths: list[RoutePath] | None = None
    headers: dict[RouteHeader, list[str]] | None = None
    regex_priority: int | None = 0
    path_handling: str | None = field("v0", one_of=("v0", "v1"))


def _choose_defaults(given: Entity) -> Entity:
    if "strip_path" not in given and family_of(given.get("protocols")) == "grpc":
        return {**given, "strip_path": False}
    return given


ENTITY = EntityType(
    "routes",
    Route,
    "routes",
    endpoint_key="name",
    nested_under={"service": "routes"},
    id_fields=("name",),
    rewrite=_choose_defaults,
)


def entity_type_of(router_flavor: str, check_expression: ExpressionCheck) -> EntityType:
    """Return the type of routes in a router flavour; only `expressions` knows `expression` and `priority`."""
    if router_flavor != "expressions":
        return ENTITY

    class ExpressionRoute(Route):
        """One route, with attributes or with an expression."""

        entity_checks = _checks(_expression_check(check_expression), _forbidden_beside_expressions)

        expression: str | None = None
        priority: int = field(0, between=(0, HIGHEST_PRIORITY))

    return replace(ENTITY, model=ExpressionRoute)
