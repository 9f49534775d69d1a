"""What the Lua libraries get from Python: digests, random bytes, compression, signatures. Module `headgate.native`."""

import ipaddress
import os
import secrets
import uuid
import zlib
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from headgate.errors import lua_style, options_message, violation_message
from headgate.lua.ngx.codecs import digest, keyed_digest
from headgate.lua.values import bytes_from_lua, text_from_lua, text_to_lua
from headgate.pdk import kong
from headgate.schema import add_json_schema

if TYPE_CHECKING:
    from headgate.lua.functions import LuaValue
    from headgate.lua.vm import Vm

MOST_RANDOM_BYTES = 1 << 20
MOST_KEPT_CODE = 256
"""Of pieces of code of configurations that stay compiled (own choice)."""
MOST_INFLATED_BYTES = 128 * 1024 * 1024
"""Of one `inflate_gzip` (own choice): a small body must not fill the worker's memory."""


def install(vm: "Vm") -> None:
    """Make the module."""
    plain: dict[str, Callable[..., Any]] = {
        "digest": digest,
        "hmac": keyed_digest,
        "random": random_bytes,
        "random_number": lambda low, high: low + secrets.randbelow(int(high) - int(low) + 1),
        "uuid": lambda: str(uuid.uuid4()),
        "is_uuid": is_uuid,
        "gzip": _gzip,
        "gunzip": gunzip,
        "verify": lambda name, key, text, signature: verify(
            name, text_from_lua(key), bytes_from_lua(text), bytes_from_lua(signature)
        ),
        "sign": lambda name, key, text: sign(name, text_from_lua(key), bytes_from_lua(text)),
        "ip_kind": ip_kind,
        "is_in_networks": lambda address, networks: is_in_networks(address, vm.values.from_lua(networks)),
        "node_id": lambda: kong.node.get_id(),
        "find_text": lambda text, part, start: text.find(part, int(start) - 1) + 1 or None,
        "is_own": vm.is_own,
        "lua_style": lambda value: lua_style(vm.values.from_lua(value)),
        "violation_message": lambda faults: violation_message(vm.values.from_lua(faults)),
        "options_message": lambda faults: options_message(vm.values.from_lua(faults)),
        "add_json_schema": lambda name, schema: add_json_schema(text_from_lua(name), vm.values.from_lua(schema)),
        "getenv": lambda name: os.environ.get(text_from_lua(name)),
        "code_fault": lambda code: _code_fault(text_from_lua(code)),
        "code_value": lambda code: vm.values.to_lua(_code(text_from_lua(code)).get()),
    }
    table = vm.table(**{name: vm.bridge.heavy(function) for name, function in plain.items()})
    vm.globals["package"]["loaded"]["headgate.native"] = table


def _code_fault(source: str) -> str | None:
    from headgate.lua.functions import OFF, mode, syntax_fault

    fault = OFF if mode() == "off" else syntax_fault(source)
    return None if fault is None else text_to_lua(fault)


@lru_cache(maxsize=MOST_KEPT_CODE)
def _code(source: str) -> "LuaValue":
    """Return code of a configuration that is run for its value; compiled once."""
    from headgate.lua.functions import LuaValue

    return LuaValue(source)


def random_bytes(length: Any) -> bytes:
    """Return random bytes.

    Raises: ValueError for more than 1 MB.
    """
    if not 0 <= int(length) <= MOST_RANDOM_BYTES:
        raise ValueError("length out of range")
    return secrets.token_bytes(int(length))


def is_uuid(text: Any) -> bool:
    """Say whether a text is a UUID."""
    try:
        return isinstance(text, str) and len(text) == 36 and bool(uuid.UUID(text))
    except ValueError:
        return False


def _gzip(text: Any) -> bytes:
    compressor = zlib.compressobj(wbits=31)
    return compressor.compress(bytes_from_lua(str(text))) + compressor.flush()


def gunzip(text: Any) -> Any:
    """Return the text of a gzip stream; None and a text for what is none, or is too large."""
    inflater = zlib.decompressobj(wbits=47)
    try:
        data = inflater.decompress(bytes_from_lua(str(text)), MOST_INFLATED_BYTES)
    except zlib.error as error:
        return (None, str(error))
    if inflater.unconsumed_tail:
        return (None, f"more than {MOST_INFLATED_BYTES} bytes")
    return data


def verify(name: str, key: str, text: bytes, signature: bytes) -> Any:
    """Check a JWS signature with a PEM key; (False, text) for a key that cannot be used."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils

    algorithm: Any = {"256": hashes.SHA256, "384": hashes.SHA384, "512": hashes.SHA512}.get(name[2:])
    try:
        if "BEGIN CERTIFICATE" in key:
            from cryptography.x509 import load_pem_x509_certificate

            public: Any = load_pem_x509_certificate(key.encode()).public_key()
        else:
            public = serialization.load_pem_public_key(key.encode())
    except ValueError as error:
        return (False, f"cannot use the key: {error}")
    if algorithm is None:
        return (False, f"unsupported algorithm {name}")
    try:
        if name.startswith("RS") and isinstance(public, rsa.RSAPublicKey):
            public.verify(signature, text, padding.PKCS1v15(), algorithm())
        elif name.startswith("PS") and isinstance(public, rsa.RSAPublicKey):
            public.verify(
                signature,
                text,
                padding.PSS(padding.MGF1(algorithm()), algorithm().digest_size),
                algorithm(),
            )
        elif name.startswith("ES") and isinstance(public, ec.EllipticCurvePublicKey):
            half = len(signature) // 2
            numbers = (int.from_bytes(signature[:half]), int.from_bytes(signature[half:]))
            public.verify(utils.encode_dss_signature(*numbers), text, ec.ECDSA(algorithm()))
        else:
            return (False, f"the key does not fit {name}")
    except InvalidSignature:
        return False
    return True


def sign(name: str, key: str, text: bytes) -> Any:
    """Return a JWS signature made with a PEM key."""
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils

    algorithm: Any = {"256": hashes.SHA256, "384": hashes.SHA384, "512": hashes.SHA512}.get(name[2:])
    try:
        private: Any = serialization.load_pem_private_key(key.encode(), None)
    except (ValueError, TypeError) as error:
        return (None, f"cannot use the key: {error}")
    if algorithm is None:
        return (None, f"unsupported algorithm {name}")
    if name.startswith("RS") and isinstance(private, rsa.RSAPrivateKey):
        return private.sign(text, padding.PKCS1v15(), algorithm())
    if name.startswith("ES") and isinstance(private, ec.EllipticCurvePrivateKey):
        first, second = utils.decode_dss_signature(private.sign(text, ec.ECDSA(algorithm())))
        size = (private.curve.key_size + 7) // 8
        return first.to_bytes(size) + second.to_bytes(size)
    return (None, f"the key does not fit {name}")


def ip_kind(text: Any) -> str | None:
    """Return `ipv4` or `ipv6`; None for what is no address."""
    try:
        return f"ipv{ipaddress.ip_address(text_from_lua(str(text)).strip('[]')).version}"
    except ValueError:
        return None


def is_in_networks(address: Any, networks: Any) -> Any:
    """Say whether an address is in one of some networks."""
    try:
        parsed = ipaddress.ip_address(text_from_lua(str(address)))
        found = [ipaddress.ip_network(network, strict=False) for network in networks]
    except ValueError as error:
        return (None, str(error))
    return any(parsed in network for network in found)
