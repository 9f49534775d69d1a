"""`kong.jwe`: encrypted JSON Web tokens in compact form (PDK reference 22, RFC 7516).

Owns argument checks, keys in their several forms and defaults; `joserfc` does the work and is loaded on first use.
"""

import base64
import json
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from headgate.errors import GatewayError
from headgate.pdk._phase import any_phase

if TYPE_CHECKING:
    from joserfc.jwk import Key

KEY_ALGORITHMS = (
    "RSA-OAEP",
    "ECDH-ES",
    "A128KW",
    "A192KW",
    "A256KW",
    "ECDH-ES+A128KW",
    "ECDH-ES+A192KW",
    "ECDH-ES+A256KW",
    "A128GCMKW",
    "A192GCMKW",
    "A256GCMKW",
)
CONTENT_ALGORITHMS = ("A128GCM", "A192GCM", "A256GCM", "A128CBC-HS256", "A192CBC-HS384", "A256CBC-HS512")
PARTY_INFORMATION_BYTES = 16
"""Length of the random `apu` and `apv` that ECDH gets unless told otherwise."""


class JweError(GatewayError):
    """A token cannot be made, read or decrypted; Kong returns nil and a text."""


class Jwe:
    """`kong.jwe`."""

    __slots__ = ()

    @any_phase
    def encrypt(
        self,
        alg: str,
        enc: str,
        key: str | bytes | Mapping[str, Any],
        plaintext: str | bytes,
        options: Mapping[str, Any] | None = None,
    ) -> str:
        """Return `plaintext` as a compact JWE.

        Args:
            alg: `RSA-OAEP`, `ECDH-ES`, `A128KW`, `A192KW`, `A256KW`, `A128GCMKW`, `A192GCMKW`, `A256GCMKW`, or
                `ECDH-ES+` with one of the three KW. enc: `A128GCM`, `A192GCM`, `A256GCM`, `A128CBC-HS256`,
                `A192CBC-HS384`, `A256CBC-HS512`.
            key: JWK (mapping or JSON text), PEM or DER; RSA, EC (P-256, P-384, P-521), or a JWK `oct` for the KW.
            options: `zip` = `DEF`; `apu`, `apv`: text, or False to leave it out (ECDH; 16 random bytes by default).
        Raises: TypeError or ValueError for wrong arguments; JweError when the key does not fit.
        """
        if alg not in KEY_ALGORITHMS:
            raise ValueError(f"unsupported alg: {alg}")
        if enc not in CONTENT_ALGORITHMS:
            raise ValueError(f"unsupported enc: {enc}")
        if not isinstance(plaintext, str | bytes):
            raise TypeError("plaintext must be a string")
        header: dict[str, Any] = {"alg": alg, "enc": enc, **_optional_header(alg, options or {})}
        registry = _registry()
        from joserfc import jwe as implementation

        try:
            return implementation.encrypt_compact(header, plaintext, _imported(key), registry=registry)
        except Exception as error:
            raise JweError(f"unable to encrypt: {_text(error)}") from error

    @any_phase
    def decrypt(self, key: str | bytes | Mapping[str, Any], token: str) -> bytes:
        """Return the plaintext of a compact JWE.

        Args: `key`: the private key, in the forms of `encrypt`.
        Raises: TypeError `token must be a string`; JweError.
        """
        self.decode(token)
        registry = _registry()
        from joserfc import jwe as implementation

        try:
            plaintext = implementation.decrypt_compact(token, _imported(key), registry=registry).plaintext
        except Exception as error:
            raise JweError(f"unable to decrypt: {_text(error)}") from error
        return plaintext or b""

    @any_phase
    def decode(self, token: str) -> dict[int | str, Any]:
        """Return the parts of a compact JWE without decrypting.

        Keys: 1 to 5, the parts as in the token; `protected`, the header as a dict; `encrypted_key`, `iv`, `ciphertext`
        and `tag` as bytes; `aad`, what the tag covers besides the ciphertext (the first part).

        Raises: TypeError `token must be a string`; JweError for anything but five parts that can be decoded.
        """
        if not isinstance(token, str):
            raise TypeError("token must be a string")
        parts = token.split(".")
        if len(parts) != 5:
            raise JweError("invalid JWE: expected five parts")
        try:
            decoded = [base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True) for part in parts]
            protected = json.loads(decoded[0])
        except ValueError as error:
            raise JweError(f"unable to decode JWE: {error}") from error
        if not isinstance(protected, dict):
            raise JweError("unable to decode JWE: the header is not an object")
        named: dict[int | str, Any] = dict(zip(("encrypted_key", "iv", "ciphertext", "tag"), decoded[1:], strict=True))
        return {**dict(enumerate(parts, 1)), "protected": protected, **named, "aad": parts[0]}


def _optional_header(alg: str, options: Mapping[str, Any]) -> dict[str, str]:
    unknown = set(options) - {"zip", "apu", "apv"}
    if unknown:
        raise ValueError(f"unknown option: {sorted(unknown)[0]}")
    header: dict[str, str] = {}
    if options.get("zip") is not None:
        if options["zip"] != "DEF":
            raise ValueError(f"unsupported zip: {options['zip']}")
        header["zip"] = "DEF"
    if alg.startswith("ECDH-ES"):
        for name in ("apu", "apv"):
            given = options.get(name)
            if given is False:
                continue
            if given is not None and not isinstance(given, str):
                raise TypeError(f"{name} must be a string or false")
            raw = os.urandom(PARTY_INFORMATION_BYTES) if given is None else given.encode()
            header[name] = base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
    return header


def _registry() -> Any:
    from joserfc.jwe import JWERegistry

    return JWERegistry(algorithms=[*KEY_ALGORITHMS, *CONTENT_ALGORITHMS, "DEF"])


def _imported(key: str | bytes | Mapping[str, Any]) -> "Key":
    """Return a key given as JWK, PEM or DER."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec, rsa
    from joserfc.jwk import ECKey, RSAKey, import_key

    if isinstance(key, Mapping):
        return import_key(dict(key))
    raw = key.encode() if isinstance(key, str) else key
    if not isinstance(raw, bytes):
        raise TypeError("key must be a JWK, PEM or DER")
    stripped = raw.strip()
    if stripped.startswith(b"{"):
        return import_key(json.loads(stripped))
    is_pem = stripped.startswith(b"-----")
    try:
        loaded: Any = (
            serialization.load_pem_private_key(raw, None) if is_pem else serialization.load_der_private_key(raw, None)
        )
    except (ValueError, TypeError):
        loaded = serialization.load_pem_public_key(raw) if is_pem else serialization.load_der_public_key(raw)
    if isinstance(loaded, rsa.RSAPrivateKey | rsa.RSAPublicKey):
        return RSAKey(loaded, loaded)
    if isinstance(loaded, ec.EllipticCurvePrivateKey | ec.EllipticCurvePublicKey):
        return ECKey(loaded, loaded)
    raise ValueError("key must be RSA or EC")


def _text(error: Exception) -> str:
    return str(error) or type(error).__name__


jwe = Jwe()
