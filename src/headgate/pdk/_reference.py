"""Vault references: `{vault://<name or prefix>/<resource>[/<key>][?<overrides>][#<version>]}` taken apart.

PDK reference 18.1. Knows no vault; `vault` resolves.
"""

from typing import Any, TypedDict
from urllib.parse import parse_qsl, unquote, urlsplit

from headgate.errors import GatewayError

_START, _END = "{vault://", "}"


class VaultError(GatewayError):
    """A reference cannot be read or resolved; Kong returns nil and the text."""


class Reference(TypedDict):
    """The parts of a reference; `config` holds what overrides the vault's configuration."""

    name: str
    resource: str
    key: str | None
    config: dict[str, str]
    version: int | None


def is_reference(value: object) -> bool:
    """Say whether a value is a text of the form `{vault://…}`; nothing inside is checked."""
    return isinstance(value, str) and value.startswith(_START) and value.endswith(_END)


def parse_reference(reference: Any) -> Reference:
    """Take a reference apart.

    Raises: VaultError with the text of the first fault.
    """
    if not is_reference(reference):
        raise VaultError(f"not a reference [{reference}]")
    try:
        url = urlsplit(reference[1:-1])
    except ValueError as error:
        raise VaultError(f"reference is not url ({error}) [{reference}]") from error
    if not url.netloc:
        raise VaultError(f"reference url is missing host [{reference}]")
    if not url.path:
        raise VaultError(f"reference url is missing path [{reference}]")
    path = url.path[1:]
    if not path:
        raise VaultError(f"reference url has empty path [{reference}]")
    if url.fragment and not (url.fragment.isascii() and url.fragment.isdigit()):
        raise VaultError(f"reference url has invalid version [{reference}]")
    try:
        segments = [unquote(segment, errors="strict") for segment in path.split("/")]
    except UnicodeDecodeError:
        segments = []
    # `resource/` has no key: the whole path is the resource.
    *resource, last = segments or [""]
    key = last or None
    if not resource and key is not None:
        resource, key = [key], None
    if not resource or not resource[0]:
        raise VaultError(f"reference url has invalid path [{reference}]")
    return Reference(
        name=url.netloc,
        resource="/".join(resource),
        key=key,
        config=dict(parse_qsl(url.query, keep_blank_values=True)),
        version=int(url.fragment) if url.fragment else None,
    )
