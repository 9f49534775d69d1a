"""PEM certificates and keys: checks, pairing, digest. The only user of `cryptography` in the data model."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization

from headgate.schema.validators import is_vault_reference

_KEY_MEMBERS: Final = {"RSA": ("n", "e"), "EC": ("crv", "x", "y"), "OKP": ("crv", "x"), "oct": ("k",)}
_BEGIN = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----")
_CERTIFICATE_MARK = "-----BEGIN CERTIFICATE-----"


def load_certificate(text: str) -> x509.Certificate:
    """Return the first certificate of a PEM text. Raises: ValueError, with a text for a person."""
    _check_armour(text, "CERTIFICATE")
    try:
        return x509.load_pem_x509_certificate(text.encode("utf-8", "surrogatepass"))
    except ValueError:
        raise ValueError("what is between BEGIN CERTIFICATE and END CERTIFICATE is no certificate") from None


def load_private_key(text: str) -> Any:
    """Return the private key of a PEM text without a password. Raises: ValueError, with a text for a person."""
    label = _check_armour(text, "PRIVATE KEY")
    try:
        return serialization.load_pem_private_key(text.encode("utf-8", "surrogatepass"), password=None)
    except TypeError:
        raise ValueError("the key is encrypted with a password; it must be stored without one") from None
    except UnsupportedAlgorithm:
        raise ValueError("keys of this algorithm are not supported") from None
    except ValueError:
        raise ValueError(f"what is between BEGIN {label} and END {label} is no private key") from None


def load_public_key(text: str) -> Any:
    """Return the public key of a PEM text. Raises: ValueError, with a text for a person."""
    label = _check_armour(text, "PUBLIC KEY")
    try:
        return serialization.load_pem_public_key(text.encode("utf-8", "surrogatepass"))
    except UnsupportedAlgorithm:
        raise ValueError("keys of this algorithm are not supported") from None
    except (TypeError, ValueError):
        raise ValueError(f"what is between BEGIN {label} and END {label} is no public key") from None


def _check_armour(text: str, wanted: str) -> str:
    """Check that a text has a PEM block of a kind, from its first line to its last; returns the block's whole label.

    Raises: ValueError.
    """
    labels = _BEGIN.findall(text)
    if not labels:
        raise ValueError(f"not in PEM format: there is no line -----BEGIN {wanted}-----")
    label = next((label for label in labels if label.endswith(wanted)), None)
    if label is None:
        raise ValueError(f"it holds a {labels[0]}, not a {wanted}")
    if f"-----END {label}-----" not in text:
        raise ValueError(f"it is cut off: there is no line -----END {label}-----")
    return str(label)


def certificate_fault(value: str) -> str | None:
    """Check a PEM certificate."""
    try:
        load_certificate(value)
    except ValueError as error:
        return f"invalid certificate: {error}"
    return None


def private_key_fault(value: str) -> str | None:
    """Check a PEM private key."""
    try:
        load_private_key(value)
    except ValueError as error:
        return f"invalid key: {error}"
    return None


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
        return f"invalid certificate: {error}"
    if certificate.not_valid_after_utc < datetime.now(UTC):
        return 'certificate expired, "Not After" time is in the past'
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    except (x509.ExtensionNotFound, ValueError):
        constraints = None
    if constraints is None or not constraints.ca:
        return 'certificate does not appear to be a CA because it is missing the "CA" basic constraint'
    return None


def jwk_fault(jwk: Mapping[str, Any]) -> str | None:
    """Check that a JWK has the members of its type."""
    members = _KEY_MEMBERS.get(str(jwk.get("kty")))
    if members is None or any(not isinstance(jwk.get(name), str) for name in members):
        return "could not load JWK, likely not a valid key"
    return None


def pair_fault(pair: Mapping[str, Any]) -> str | None:
    """Check the keys of a pair, `public_key` and `private_key`, of which one is enough; they must belong together."""
    public_key, private_key = pair.get("public_key"), pair.get("private_key")
    if is_vault_reference(public_key) or is_vault_reference(private_key):
        return None
    if not public_key and not private_key:
        return "need to supply a PEM formatted public and/or private key."
    if public_key:
        try:
            load_public_key(public_key)
        except ValueError:
            return "could not load public key"
    if private_key:
        try:
            load_private_key(private_key)
        except ValueError:
            return "could not load private key"
    if public_key and private_key and not is_key_pair(public_key, private_key):
        return "public key does not match private key"
    return None
