"""Shared field types: annotations that bring their checks, as `types.Port`.

A field can add to them: `port: types.Port | None = field(None, between=(1, 1024))`. Names and rules are those of the
contract's typedefs; the checks themselves are in `addresses`, `texts` and `pem`.
"""

from typing import Annotated, Any, Final

from headgate.schema import addresses, checks, pem, texts
from headgate.schema.record import ALL_PROTOCOLS, WEBSOCKET_PROTOCOLS, Record
from headgate.schema.spec import FieldSpec, Pattern

_NO_EMPTY_SEGMENTS: Final = (Pattern("//", err="must not have empty segments"),)
PROTOCOLS: Final = ALL_PROTOCOLS + WEBSOCKET_PROTOCOLS

Id = Annotated[str, FieldSpec(uuid=True, auto=True)]
Uuid = Annotated[str, FieldSpec(uuid=True)]
TimestampSeconds = Annotated[int, FieldSpec(auto=True, timestamp=True)]
TimestampMilliseconds = Annotated[float, FieldSpec(auto=True, timestamp=True)]
Name = Annotated[str, FieldSpec(unique=True, validator=texts.utf8_name_fault)]
AsciiName = Annotated[str, FieldSpec(unique=True, validator=texts.ascii_name_fault)]
Tag = Annotated[str, FieldSpec(required=True, validator=texts.tag_fault)]
Tags = Annotated[list[Tag], FieldSpec(set_=True)]
Protocol = Annotated[str, FieldSpec(one_of=PROTOCOLS)]
HttpMethod = Annotated[str, FieldSpec(match=Pattern(r"\A[A-Z]+\Z", "^%u+$"))]
Host = Annotated[str, FieldSpec(validator=addresses.host_fault)]
HostWithOptionalPort = Annotated[str, FieldSpec(validator=addresses.host_with_optional_port_fault)]
WildcardHost = Annotated[str, FieldSpec(validator=addresses.wildcard_host_fault)]
Sni = Annotated[str, FieldSpec(validator=addresses.sni_fault)]
Ip = Annotated[str, FieldSpec(validator=addresses.ip_fault)]
IpOrCidr = Annotated[str, FieldSpec(validator=addresses.ip_or_cidr_fault)]
CidrV4 = Annotated[str, FieldSpec(validator=addresses.cidr_v4_fault)]
Port = Annotated[int, FieldSpec(between=(0, 65535))]
Path = Annotated[str, FieldSpec(starts_with="/", match_none=_NO_EMPTY_SEGMENTS, validator=texts.path_fault)]
Url = Annotated[str, FieldSpec(validator=texts.url_fault)]
HeaderName = Annotated[str, FieldSpec(validator=texts.header_name_fault)]
CookieName = Annotated[str, FieldSpec(validator=texts.cookie_name_fault)]
Timeout = Annotated[int, FieldSpec(between=(0, 2147483646))]
Certificate = Annotated[str, FieldSpec(validator=pem.certificate_fault)]
PrivateKey = Annotated[str, FieldSpec(validator=pem.private_key_fault)]
Headers = dict[HeaderName, list[str]]


class AddressAndPort(Record):
    """One source or destination of a stream route."""

    entity_checks = (checks.at_least_one_of("ip", "port"),)

    ip: IpOrCidr | None = None
    port: Port | None = None


def foreign(reference: str, *, on_delete: str | None = None, **attributes: Any) -> Any:
    """Return the annotation of a foreign key; its value is `{"id": …}`.

    Args: on_delete, `cascade` or `null`; without it a delete of the referred entity is refused.
    """
    given = dict(attributes)
    if on_delete is not None:
        given["on_delete"] = on_delete
    return Annotated[dict[str, str], FieldSpec(reference=reference, **given)]
