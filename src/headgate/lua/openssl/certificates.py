"""X.509 certificates for Lua: reading and what is written in them."""

from collections.abc import Callable
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtensionOID, NameOID

from headgate.lua.openssl import keys
from headgate.lua.values import Values, bytes_from_lua

_NAMES: dict[Any, tuple[str, str]] = {
    NameOID.COMMON_NAME: ("CN", "commonName"),
    NameOID.COUNTRY_NAME: ("C", "countryName"),
    NameOID.STATE_OR_PROVINCE_NAME: ("ST", "stateOrProvinceName"),
    NameOID.LOCALITY_NAME: ("L", "localityName"),
    NameOID.ORGANIZATION_NAME: ("O", "organizationName"),
    NameOID.ORGANIZATIONAL_UNIT_NAME: ("OU", "organizationalUnitName"),
    NameOID.EMAIL_ADDRESS: ("emailAddress", "emailAddress"),
    NameOID.SERIAL_NUMBER: ("serialNumber", "serialNumber"),
    NameOID.DOMAIN_COMPONENT: ("DC", "domainComponent"),
    NameOID.USER_ID: ("UID", "userId"),
}


def functions(values: Values) -> dict[str, Callable[..., Any]]:
    """Return the functions by name."""
    to_lua = values.to_lua
    return {
        "load": load,
        "text": lambda one, form=None: one.public_bytes(
            serialization.Encoding.DER if form == "DER" else serialization.Encoding.PEM
        ),
        "public_key": lambda one: one.public_key(),
        "subject": lambda one: to_lua(_name(one.subject)),
        "issuer": lambda one: to_lua(_name(one.issuer)),
        "serial": lambda one: f"{one.serial_number:X}",
        "version": lambda one: one.version.value + 1,
        "not_before": lambda one: int(one.not_valid_before_utc.timestamp()),
        "not_after": lambda one: int(one.not_valid_after_utc.timestamp()),
        "digest": _digest,
        "key_digest": _key_digest,
        "signature_digest": lambda one: (
            one.signature_hash_algorithm.name.upper() if one.signature_hash_algorithm else None
        ),
        "alternative_names": lambda one: to_lua(_alternative_names(one)),
        "is_authority": _is_authority,
        "verify": verify,
    }


def load(source: Any, form: Any = None) -> x509.Certificate:
    """Return a certificate. Args: form, `PEM`, `DER` or `*`. Raises: ValueError."""
    raw = bytes_from_lua(source)
    if form == "DER" or (form in (None, "*") and b"-----BEGIN" not in raw):
        return x509.load_der_x509_certificate(raw)
    return x509.load_pem_x509_certificate(raw)


def _name(name: x509.Name) -> list[dict[str, str]]:
    found = []
    for attribute in name:
        short, long = _NAMES.get(attribute.oid, (attribute.oid.dotted_string, attribute.oid.dotted_string))
        value = attribute.value if isinstance(attribute.value, str) else attribute.value.hex()
        found.append({"sn": short, "ln": long, "id": attribute.oid.dotted_string, "blob": value})
    return found


def _digest(one: x509.Certificate, name: Any = None) -> bytes:
    from headgate.lua.openssl import digest_name

    return one.fingerprint(keys.algorithm(digest_name(name or "sha1")))


def _key_digest(one: x509.Certificate, name: Any = None) -> bytes:
    import hashlib

    from headgate.lua.openssl import digest_name

    key = one.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.new(digest_name(name or "sha1"), key, usedforsecurity=False).digest()


def _alternative_names(one: x509.Certificate) -> list[dict[str, str]] | None:
    try:
        extension = one.extensions.get_extension_for_oid(ExtensionOID.SUBJECT_ALTERNATIVE_NAME)
    except x509.ExtensionNotFound:
        return None
    kinds: dict[type, str] = {
        x509.DNSName: "DNS",
        x509.IPAddress: "IP",
        x509.UniformResourceIdentifier: "URI",
        x509.RFC822Name: "email",
        x509.DirectoryName: "DirName",
    }
    found = []
    for name in extension.value:  # type: ignore[attr-defined]
        shown = name.value.rfc4514_string() if isinstance(name, x509.DirectoryName) else str(name.value)
        found.append({"type": kinds.get(type(name), "other"), "value": shown})
    return found


def _is_authority(one: x509.Certificate) -> bool:
    try:
        return bool(one.extensions.get_extension_for_class(x509.BasicConstraints).value.ca)
    except x509.ExtensionNotFound:
        return False


def verify(one: x509.Certificate, key: Any) -> bool:
    """Tell whether a key has signed a certificate."""
    public = keys.public_of(key)
    subject: Any = one
    try:
        parameters = subject.signature_algorithm_parameters
        arguments = [] if parameters is None else [parameters]
        if isinstance(public, rsa.RSAPublicKey):
            arguments.append(one.signature_hash_algorithm)
        public.verify(one.signature, one.tbs_certificate_bytes, *arguments)
    except (InvalidSignature, TypeError):
        return False
    return True
