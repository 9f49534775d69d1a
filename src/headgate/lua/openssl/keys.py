"""Asymmetric keys for Lua: reading, making, signing, encrypting, writing.

Texts are bytes in Latin-1, as they come from Lua. Raises: ValueError and cryptography's own, which become `nil, text`.
"""

import base64
import json
from collections.abc import Callable
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa, utils, x448, x25519

from headgate.lua.values import Values, bytes_from_lua

MOST_RSA_BITS = 4096
SECONDS_FOR_2048_BITS = 0.15
"""That an RSA key of that size takes to make, on the average; it grows with the third power."""
"""Of a key that is made here (own choice): a larger one would hold the engine for seconds."""
PKCS1, NO_PADDING, OAEP, PSS = 1, 3, 4, 6

_CURVES: dict[str, type[ec.EllipticCurve]] = {
    "prime256v1": ec.SECP256R1,
    "secp256r1": ec.SECP256R1,
    "P-256": ec.SECP256R1,
    "secp384r1": ec.SECP384R1,
    "P-384": ec.SECP384R1,
    "secp521r1": ec.SECP521R1,
    "P-521": ec.SECP521R1,
    "secp256k1": ec.SECP256K1,
}
_EDWARDS = {
    "Ed25519": ed25519.Ed25519PrivateKey,
    "Ed448": ed448.Ed448PrivateKey,
    "X25519": x25519.X25519PrivateKey,
    "X448": x448.X448PrivateKey,
}
_TYPES: tuple[tuple[tuple[type, ...], str, int, str], ...] = (
    ((rsa.RSAPrivateKey, rsa.RSAPublicKey), "rsaEncryption", 6, "rsaEncryption"),
    ((ec.EllipticCurvePrivateKey, ec.EllipticCurvePublicKey), "id-ecPublicKey", 408, "id-ecPublicKey"),
    ((ed25519.Ed25519PrivateKey, ed25519.Ed25519PublicKey), "ED25519", 1087, "ED25519"),
    ((ed448.Ed448PrivateKey, ed448.Ed448PublicKey), "ED448", 1088, "ED448"),
    ((x25519.X25519PrivateKey, x25519.X25519PublicKey), "X25519", 1034, "X25519"),
    ((x448.X448PrivateKey, x448.X448PublicKey), "X448", 1035, "X448"),
)
"""Classes, and what OpenSSL calls them: short name, number, long name."""


def functions(values: Values, charge: Callable[[float], Any]) -> dict[str, Callable[..., Any]]:
    """Return the functions by name. Args: charge, called with the seconds that something long will take."""

    def generated(kind_: Any, bits: Any = None, exponent: Any = None, curve: Any = None) -> Any:
        if str(kind_ or "RSA") == "RSA":
            charge((min(int(bits or 2048), MOST_RSA_BITS) / 2048) ** 3 * SECONDS_FOR_2048_BITS)
        return generate(kind_, bits, exponent, curve)

    return {
        "load": load,
        "generate": generated,
        "sign": sign,
        "verify": verify,
        "encrypt": encrypt,
        "decrypt": decrypt,
        "derive": lambda own, peer: (
            own.exchange(peer)
            if not isinstance(own, ec.EllipticCurvePrivateKey)
            else own.exchange(ec.ECDH(), public_of(peer))
        ),
        "text": text,
        "is_private": is_private,
        "kind": lambda key: values.to_lua(kind(key)),
        "size": lambda key: (key.key_size + 7) // 8 if hasattr(key, "key_size") else 32,
        "parameters": lambda key: values.to_lua(parameters(key)),
    }


def algorithm(name: str) -> hashes.HashAlgorithm:
    """Return the class of a digest for signatures, by hashlib's name. Raises: ValueError."""
    found: dict[str, Callable[[], hashes.HashAlgorithm]] = {
        "md5": hashes.MD5,
        "sha1": hashes.SHA1,
        "sha224": hashes.SHA224,
        "sha256": hashes.SHA256,
        "sha384": hashes.SHA384,
        "sha512": hashes.SHA512,
        "sha512_256": hashes.SHA512_256,
        "sha3_256": hashes.SHA3_256,
        "sha3_512": hashes.SHA3_512,
    }
    if name not in found:
        raise ValueError(f'invalid digest type "{name}"')
    return found[name]()


def is_private(key: Any) -> bool:
    """Tell whether a key is a private one."""
    return hasattr(key, "private_bytes")


def public_of(key: Any) -> Any:
    """Return the public key of a private one, or the key itself."""
    return key.public_key() if is_private(key) else key


def load(source: Any, form: Any = None, which: Any = None, password: Any = None) -> Any:
    """Return a key. Args: form, `PEM`, `DER`, `JWK` or `*`; which, `pr`, `pu` or `*`. Raises: ValueError."""
    raw, secret = bytes_from_lua(source), None if password is None else bytes_from_lua(password)
    form, which = form or "*", which or "*"
    faults: list[str] = []
    for name, readers in _READERS.items():
        if form not in ("*", name):
            continue
        for side, read in readers:
            if which not in ("*", side):
                continue
            try:
                return read(raw, secret)
            except (ValueError, TypeError, KeyError) as error:
                faults.append(str(error))
    raise ValueError(f"pkey.new: cannot read the key: {faults[-1] if faults else 'unsupported format'}")


def _private_pem(raw: bytes, secret: bytes | None) -> Any:
    try:
        return serialization.load_pem_private_key(raw, secret)
    except TypeError as error:
        if secret is None or "not encrypted" not in str(error):
            raise
        return serialization.load_pem_private_key(raw, None)


def _public_pem(raw: bytes, _: bytes | None) -> Any:
    if b"BEGIN CERTIFICATE" in raw:
        from cryptography.x509 import load_pem_x509_certificate

        return load_pem_x509_certificate(raw).public_key()
    return serialization.load_pem_public_key(raw)


def _jwk(raw: bytes, _: bytes | None) -> Any:
    given = json.loads(raw)

    def number(name: str) -> int:
        return int.from_bytes(octets(name))

    def octets(name: str) -> bytes:
        return base64.urlsafe_b64decode(given[name] + "=" * (-len(given[name]) % 4))

    if given["kty"] == "RSA":
        public = rsa.RSAPublicNumbers(number("e"), number("n"))
        if "d" not in given:
            return public.public_key()
        d = number("d")
        if "p" in given:
            p, q = number("p"), number("q")
        else:
            p, q = rsa.rsa_recover_prime_factors(public.n, public.e, d)
        return rsa.RSAPrivateNumbers(
            p, q, d, rsa.rsa_crt_dmp1(d, p), rsa.rsa_crt_dmq1(d, q), rsa.rsa_crt_iqmp(p, q), public
        ).private_key()
    if given["kty"] == "EC":
        point = ec.EllipticCurvePublicNumbers(number("x"), number("y"), _CURVES[given["crv"]]())
        if "d" not in given:
            return point.public_key()
        return ec.EllipticCurvePrivateNumbers(number("d"), point).private_key()
    if given["kty"] == "OKP":
        maker: Any = _EDWARDS[given["crv"]]
        if "d" in given:
            return maker.from_private_bytes(octets("d"))
        publics: dict[str, Any] = {
            "Ed25519": ed25519.Ed25519PublicKey,
            "Ed448": ed448.Ed448PublicKey,
            "X25519": x25519.X25519PublicKey,
            "X448": x448.X448PublicKey,
        }
        return publics[given["crv"]].from_public_bytes(octets("x"))
    raise ValueError(f"unsupported kty {given['kty']}")


_READERS: dict[str, tuple[tuple[str, Callable[[bytes, bytes | None], Any]], ...]] = {
    "PEM": (("pr", _private_pem), ("pu", _public_pem)),
    "DER": (
        ("pr", serialization.load_der_private_key),
        ("pu", lambda raw, _: serialization.load_der_public_key(raw)),
    ),
    "JWK": (("pr", _jwk), ("pu", _jwk)),
}


def generate(kind_: Any, bits: Any = None, exponent: Any = None, curve: Any = None) -> Any:
    """Return a new private key. Raises: ValueError."""
    name = str(kind_ or "RSA")
    if name == "RSA":
        size = int(bits or 2048)
        if not 1024 <= size <= MOST_RSA_BITS:
            raise ValueError(f"bits must be between 1024 and {MOST_RSA_BITS}")
        return rsa.generate_private_key(int(exponent or 65537), size)
    if name == "EC":
        if (curve or "prime256v1") not in _CURVES:
            raise ValueError(f"unknown curve {curve}")
        return ec.generate_private_key(_CURVES[curve or "prime256v1"]())
    maker: Any = _EDWARDS.get(name)
    if maker is None:
        raise ValueError(f"unsupported type {name}")
    return maker.generate()


def _rsa_padding(number: Any, hash_: hashes.HashAlgorithm, salt_length: Any) -> Any:
    if number in (None, PKCS1):
        return padding.PKCS1v15()
    if number == PSS:
        length = hash_.digest_size if salt_length is None or int(salt_length) < 0 else int(salt_length)
        return padding.PSS(padding.MGF1(hash_), length)
    raise ValueError(f"padding {number} cannot be used for signatures")


def sign(
    key: Any,
    data: Any,
    digest: Any = None,
    pad: Any = None,
    is_hashed: Any = False,
    is_raw: Any = False,
    salt: Any = None,
) -> bytes:
    """Return a signature. Args: data, the text or, when is_hashed, its digest; is_raw: r and s of ECDSA as they are."""
    if not is_private(key):
        raise ValueError("pkey:sign: the key is not a private one")
    raw = bytes_from_lua(data)
    if isinstance(key, (ed25519.Ed25519PrivateKey, ed448.Ed448PrivateKey)):
        return key.sign(raw)
    hash_ = _hash_of(digest)
    wrapped: Any = utils.Prehashed(hash_) if is_hashed else hash_
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(raw, _rsa_padding(pad, hash_, salt), wrapped)
    if isinstance(key, ec.EllipticCurvePrivateKey):
        signature = key.sign(raw, ec.ECDSA(wrapped))
        if not is_raw:
            return signature
        first, second = utils.decode_dss_signature(signature)
        size = (key.curve.key_size + 7) // 8
        return first.to_bytes(size) + second.to_bytes(size)
    raise ValueError("pkey:sign: keys of this type cannot sign")


def verify(
    key: Any,
    signature: Any,
    data: Any,
    digest: Any = None,
    pad: Any = None,
    is_hashed: Any = False,
    is_raw: Any = False,
    salt: Any = None,
) -> bool:
    """Tell whether a signature is that of a text (or digest); arguments as those of `sign`."""
    public, raw, given = public_of(key), bytes_from_lua(data), bytes_from_lua(signature)
    try:
        if isinstance(public, (ed25519.Ed25519PublicKey, ed448.Ed448PublicKey)):
            public.verify(given, raw)
            return True
        hash_ = _hash_of(digest)
        wrapped: Any = utils.Prehashed(hash_) if is_hashed else hash_
        if isinstance(public, rsa.RSAPublicKey):
            scheme = _rsa_padding(pad, hash_, salt)
            if pad == PSS and (salt is None or int(salt) < 0):
                scheme = padding.PSS(padding.MGF1(hash_), padding.PSS.AUTO)
            public.verify(given, raw, scheme, wrapped)
            return True
        if isinstance(public, ec.EllipticCurvePublicKey):
            if is_raw:
                half = len(given) // 2
                given = utils.encode_dss_signature(int.from_bytes(given[:half]), int.from_bytes(given[half:]))
            public.verify(given, raw, ec.ECDSA(wrapped))
            return True
    except InvalidSignature:
        return False
    raise ValueError("pkey:verify: keys of this type cannot verify")


def _hash_of(digest: Any) -> hashes.HashAlgorithm:
    from headgate.lua.openssl import digest_name

    return algorithm(digest_name(digest or "sha256"))


def _encryption(number: Any) -> Any:
    if number in (None, PKCS1):
        return padding.PKCS1v15()
    if number == OAEP:
        return padding.OAEP(padding.MGF1(hashes.SHA1()), hashes.SHA1(), None)
    raise ValueError(f"padding {number} cannot be used for encryption")


def encrypt(key: Any, data: Any, pad: Any = None) -> bytes:
    """Return a text encrypted for an RSA key."""
    public = public_of(key)
    if not isinstance(public, rsa.RSAPublicKey):
        raise ValueError("pkey:encrypt: only RSA keys can encrypt")
    return public.encrypt(bytes_from_lua(data), _encryption(pad))


def decrypt(key: Any, data: Any, pad: Any = None) -> bytes:
    """Return what was encrypted for an RSA key."""
    if not isinstance(key, rsa.RSAPrivateKey):
        raise ValueError("pkey:decrypt: the key is not a private RSA key")
    return key.decrypt(bytes_from_lua(data), _encryption(pad))


def text(key: Any, side: Any = "public", form: Any = "PEM", is_traditional: Any = False) -> bytes:
    """Return a key as PEM, DER or JWK. Args: side, `public` or `private`; is_traditional: PKCS#1 or SEC 1."""
    is_public = str(side or "public").lower() in ("public", "publickey")
    if form == "JWK":
        return json.dumps(_as_jwk(key, is_public), separators=(",", ":")).encode("ascii")
    encoding = serialization.Encoding.DER if form == "DER" else serialization.Encoding.PEM
    if is_public:
        public = public_of(key)
        if is_traditional and isinstance(public, rsa.RSAPublicKey):
            return public.public_bytes(encoding, serialization.PublicFormat.PKCS1)
        return bytes(public.public_bytes(encoding, serialization.PublicFormat.SubjectPublicKeyInfo))
    if not is_private(key):
        raise ValueError("the key is not a private one")
    shape = serialization.PrivateFormat.TraditionalOpenSSL if is_traditional else serialization.PrivateFormat.PKCS8
    return bytes(key.private_bytes(encoding, shape, serialization.NoEncryption()))


def _as_jwk(key: Any, is_public: bool) -> dict[str, str]:
    def encoded(number: int | bytes, size: int | None = None) -> str:
        raw = number if isinstance(number, bytes) else number.to_bytes(size or (number.bit_length() + 7) // 8)
        return base64.urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")

    public = public_of(key)
    has_private = not is_public and is_private(key)
    if isinstance(public, rsa.RSAPublicKey):
        numbers = public.public_numbers()
        found = {"kty": "RSA", "n": encoded(numbers.n), "e": encoded(numbers.e)}
        if has_private:
            own = key.private_numbers()
            found |= {"d": encoded(own.d), "p": encoded(own.p), "q": encoded(own.q)}
            found |= {"dp": encoded(own.dmp1), "dq": encoded(own.dmq1), "qi": encoded(own.iqmp)}
        return found
    if isinstance(public, ec.EllipticCurvePublicKey):
        point, size = public.public_numbers(), (public.curve.key_size + 7) // 8
        names = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}
        found = {
            "kty": "EC",
            "crv": names.get(public.curve.name, public.curve.name),
            "x": encoded(point.x, size),
            "y": encoded(point.y, size),
        }
        if has_private:
            found["d"] = encoded(key.private_numbers().private_value, size)
        return found
    name = next(name for name, maker in _EDWARDS.items() if name.lower() == kind(key)["sn"].lower())
    found = {"kty": "OKP", "crv": name, "x": encoded(public.public_bytes_raw())}
    if has_private:
        found["d"] = encoded(key.private_bytes_raw())
    return found


def kind(key: Any) -> dict[str, Any]:
    """Return what OpenSSL calls a key's type: `sn`, `nid`, `ln`."""
    for classes, short, number, long in _TYPES:
        if isinstance(key, classes):
            return {"sn": short, "id": number, "nid": number, "ln": long}
    raise ValueError("unknown type of key")


def parameters(key: Any) -> dict[str, str]:
    """Return a key's numbers by OpenSSL's names, in hexadecimal."""
    public = public_of(key)
    if isinstance(public, rsa.RSAPublicKey):
        numbers = public.public_numbers()
        found = {"n": numbers.n, "e": numbers.e}
        if is_private(key):
            own = key.private_numbers()
            found |= {"d": own.d, "p": own.p, "q": own.q, "dmp1": own.dmp1, "dmq1": own.dmq1, "iqmp": own.iqmp}
        return {name: f"{number:X}" for name, number in found.items()}
    if isinstance(public, ec.EllipticCurvePublicKey):
        point = public.public_numbers()
        found = {"x": point.x, "y": point.y}
        if is_private(key):
            found["private"] = key.private_numbers().private_value
        return {name: f"{number:X}" for name, number in found.items()}
    found_raw = {"public": public.public_bytes_raw().hex().upper()}
    if is_private(key):
        found_raw["private"] = key.private_bytes_raw().hex().upper()
    return found_raw
