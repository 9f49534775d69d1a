"""PEM certificates and keys: checks, pairing, digest. The only user of `cryptography` in the data model."""

from datetime import UTC, datetime
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization

_CERTIFICATE_MARK = "-----BEGIN CERTIFICATE-----"


def load_certificate(text: str) -> x509.Certificate:
    """Return the first certificate of a PEM text. Raises: ValueError."""
    return x509.load_pem_x509_certificate(text.encode("utf-8", "surrogatepass"))


def load_private_key(text: str) -> Any:
    """Return the private key of a PEM text without a password. Raises: ValueError."""
    try:
        return serialization.load_pem_private_key(text.encode("utf-8", "surrogatepass"), password=None)
    except (TypeError, UnsupportedAlgorithm) as error:
        raise ValueError(str(error)) from None


def load_public_key(text: str) -> Any:
    """Return the public key of a PEM text. Raises: ValueError."""
    try:
        return serialization.load_pem_public_key(text.encode("utf-8", "surrogatepass"))
    except (TypeError, UnsupportedAlgorithm) as error:
        raise ValueError(str(error)) from None


def certificate_fault(value: str) -> str | None:
    """Check a PEM certificate."""
    try:
        load_certificate(value)
    except ValueError as error:
        return f"invalid certificate: {_first_line(error)}"
    return None


def private_key_fault(value: str) -> str | None:
    """Check a PEM private key."""
    try:
        load_private_key(value)
    except ValueError as error:
        return f"invalid key: {_first_line(error)}"
    return None


def _first_line(error: Exception) -> str:
    return str(error).split("\n", 1)[0] or "not in PEM format"


def is_pair(certificate: str, key: str) -> bool:
    """Tell whether the key is that of the certificate. Raises: ValueError, when one of them is not PEM."""
    public_key = load_private_key(key).public_key()
    return _public_bytes(load_certificate(certificate).public_key()) == _public_bytes(public_key)


def _public_bytes(key: Any) -> bytes:
    encoded: bytes = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return encoded


def is_key_pair(public_key: str, private_key: str) -> bool:
    """Tell whether two PEM keys belong together. Raises: ValueError, when one of them is not PEM."""
    return _public_bytes(load_public_key(public_key)) == _public_bytes(load_private_key(private_key).public_key())


def key_type(certificate: str) -> str:
    """Return the kind of a certificate's key, such as `RSAPublicKey`. Raises: ValueError."""
    return type(load_certificate(certificate).public_key()).__name__


def digest(certificate: str) -> str:
    """Return the hexadecimal SHA-256 of the certificate's DER form. Raises: ValueError."""
    return load_certificate(certificate).fingerprint(hashes.SHA256()).hex()


def authority_fault(value: str) -> str | None:
    """Check that a PEM text is one certificate of an authority that has not expired."""
    if value.count(_CERTIFICATE_MARK) > 1:
        return "please submit only one certificate at a time"
    try:
        certificate = load_certificate(value)
    except ValueError as error:
        return f"invalid certificate: {_first_line(error)}"
    if certificate.not_valid_after_utc < datetime.now(UTC):
        return 'certificate expired, "Not After" time is in the past'
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    except (x509.ExtensionNotFound, ValueError):
        constraints = None
    if constraints is None or not constraints.ca:
        return 'certificate does not appear to be a CA because it is missing the "CA" basic constraint'
    return None
