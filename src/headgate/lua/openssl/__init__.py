"""`resty.openssl` for Lua plugins: what they use of it, over `cryptography`. Module `headgate.openssl`.

Owns how keys, certificates and running digests are handed to Lua: as opaque objects that only these functions take
(`library/resty/openssl` keeps them from plugins). Faults are `nil, text`. `keys`, `certificates` and `ciphers` hold
what is done with them.
"""

import hashlib
import hmac
import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from headgate.errors import GatewayError
from headgate.lua.openssl import certificates, ciphers, keys
from headgate.lua.values import bytes_from_lua

if TYPE_CHECKING:
    from headgate.lua.vm import Vm

MOST_RANDOM_BYTES = 1 << 20
MOST_ITERATIONS = 1_000_000
"""Of PBKDF2, for all blocks of the key together (own choice)."""

ITERATIONS_PER_SECOND = 700_000
MOST_SCRYPT_BYTES = 64 * 1024 * 1024
"""That scrypt goes over, for all its lanes together (own choice)."""

SCRYPT_BYTES_PER_SECOND = 200 * 1024 * 1024
MOST_DERIVED_BYTES = 1 << 16
_FAULTS = (ValueError, TypeError, KeyError, OverflowError, NotImplementedError, GatewayError)


def install(vm: "Vm") -> Any:
    """Return the module."""
    plain: dict[str, Callable[..., Any]] = {
        "digest_new": digest_new,
        "digest_update": lambda running, text: running.update(bytes_from_lua(text)),
        "digest_final": lambda running: running.copy().digest(),
        "digest_copy": lambda running: running.copy(),
        "hmac_new": lambda key, name: hmac.new(bytes_from_lua(key), digestmod=digest_name(name)),
        "random": _random,
        "derive": lambda options: derive(vm.values.from_lua(options), vm.charge),
        **{f"key_{name}": function for name, function in keys.functions(vm.values, vm.charge).items()},
        **{f"certificate_{name}": function for name, function in certificates.functions(vm.values).items()},
        **{f"cipher_{name}": function for name, function in ciphers.functions().items()},
    }
    return vm.table(**{name: vm.bridge.heavy(_told(function)) for name, function in plain.items()})


def _told(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return faults as `nil, text`."""

    def called(*arguments: Any) -> Any:
        try:
            return function(*arguments)
        except _FAULTS as error:
            return (None, str(error) or type(error).__name__)
        # Of cryptography: InvalidSignature, InvalidTag, InvalidKey, UnsupportedAlgorithm are no ValueErrors.
        except Exception as error:
            if not type(error).__module__.startswith("cryptography."):
                raise
            return (None, str(error) or type(error).__name__)

    return called


def digest_name(name: Any) -> str:
    """Return hashlib's name of a digest as OpenSSL spells it: `SHA256`, `RSA-SHA256`, `sha512-256`.

    Raises: ValueError.
    """
    text = str(name or "sha1").lower().removeprefix("rsa-").replace("sha-", "sha")
    known = {
        "sha512-256": "sha512_256",
        "sha512-224": "sha512_224",
        **{f"sha3-{n}": f"sha3_{n}" for n in (224, 256, 384, 512)},
    }
    text = known.get(text, text)
    if text not in hashlib.algorithms_available or text.startswith("shake"):
        raise ValueError(f'invalid digest type "{name}"')
    return text


def digest_new(name: Any) -> Any:
    """Return a running digest."""
    return hashlib.new(digest_name(name), usedforsecurity=False)


def _random(length: Any) -> bytes:
    if not 0 <= int(length) <= MOST_RANDOM_BYTES:
        raise ValueError("length out of range")
    return secrets.token_bytes(int(length))


def derive(options: dict[str, Any], charge: Callable[[float], Any] = lambda seconds: None) -> bytes:
    """Return a derived key.

    Args: options, as `resty.openssl.kdf` takes them; charge, called with the seconds that it will take.
    Raises: ValueError; what charge raises.
    """
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF
    from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

    length = int(options.get("outlen") or 0)
    if not 0 < length <= MOST_DERIVED_BYTES:
        raise ValueError("outlen out of range")
    password = _octets(options.get("pass"))
    salt = _octets(options.get("salt"))
    kind = options["type"]
    if kind == "PBKDF2":
        iterations = int(options.get("pbkdf2_iter") or 1)
        digest = digest_name(options.get("md"))
        blocks = -(-length // hashlib.new(digest, usedforsecurity=False).digest_size)
        if not 0 < iterations * blocks <= MOST_ITERATIONS:
            raise ValueError("pbkdf2_iter out of range")
        charge(iterations * blocks / ITERATIONS_PER_SECOND)
        return hashlib.pbkdf2_hmac(digest, password, salt, iterations, length)
    if kind == "HKDF":
        algorithm = keys.algorithm(digest_name(options.get("md")))
        key = _octets(options.get("hkdf_key"))
        hash_: hashes.HashAlgorithm = algorithm
        return HKDF(hash_, length, salt or None, _octets(options.get("hkdf_info"))).derive(key)
    if kind == "SCRYPT":
        cost, blocks, parallel = (int(options[f"scrypt_{name}"]) for name in ("N", "r", "p"))
        over_bytes = cost * blocks * parallel * 128
        if min(cost, blocks, parallel) < 1 or over_bytes > MOST_SCRYPT_BYTES:
            raise ValueError("scrypt parameters out of range")
        charge(over_bytes / SCRYPT_BYTES_PER_SECOND)
        return Scrypt(salt, length, cost, blocks, parallel).derive(password)
    raise ValueError(f"unsupported kdf type {kind}")


def _octets(value: Any) -> bytes:
    # Options were converted to the gateway's texts; the bytes are what Lua gave.
    return b"" if value is None else str(value).encode("utf-8", "surrogateescape")
