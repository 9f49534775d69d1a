"""Tokens made and read with every algorithm; known tokens of RFC 7516 and 7518."""

import base64
import json
import os
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from headgate.pdk import kong
from headgate.pdk.jwe import CONTENT_ALGORITHMS, KEY_ALGORITHMS, JweError

RSA_KEY = rsa.generate_private_key(65537, 2048)
EC_KEYS = {curve.name: ec.generate_private_key(curve) for curve in (ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1())}


def private_pem(key: Any) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def public_der(key: Any) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def octets(alg: str) -> dict[str, str]:
    key = os.urandom(int(alg[1:4]) // 8)
    return {"kty": "oct", "k": base64.urlsafe_b64encode(key).rstrip(b"=").decode()}


@pytest.mark.parametrize("enc", CONTENT_ALGORITHMS)
def test_every_content_algorithm_comes_back(enc: str) -> None:
    token = kong.jwe.encrypt("RSA-OAEP", enc, public_der(RSA_KEY), "text", {"zip": "DEF"})
    assert kong.jwe.decrypt(private_pem(RSA_KEY), token) == b"text"


@pytest.mark.parametrize("alg", [alg for alg in KEY_ALGORITHMS if not alg.startswith(("RSA", "ECDH"))])
def test_every_key_wrap_comes_back(alg: str) -> None:
    key = octets(alg)
    assert kong.jwe.decrypt(json.dumps(key), kong.jwe.encrypt(alg, "A128GCM", key, b"\0\xff")) == b"\0\xff"


@pytest.mark.parametrize("alg", [alg for alg in KEY_ALGORITHMS if alg.startswith("ECDH")])
@pytest.mark.parametrize("curve", EC_KEYS)
def test_every_curve_comes_back(alg: str, curve: str) -> None:
    key = EC_KEYS[curve]
    token = kong.jwe.encrypt(alg, "A256GCM", public_der(key), "text", {"apu": "Alice", "apv": False})
    assert kong.jwe.decrypt(private_pem(key), token) == b"text"
    header = kong.jwe.decode(token)["protected"]
    assert header["apu"] == base64.urlsafe_b64encode(b"Alice").rstrip(b"=").decode()
    assert "apv" not in header


def test_ecdh_gets_random_party_information() -> None:
    header = kong.jwe.decode(kong.jwe.encrypt("ECDH-ES", "A256GCM", public_der(EC_KEYS["secp256r1"]), "text"))
    assert len(base64.urlsafe_b64decode(header["protected"]["apu"] + "==")) == 16


def test_a_token_is_shown_in_its_parts() -> None:
    token = kong.jwe.encrypt("RSA-OAEP", "A256GCM", public_der(RSA_KEY), "text")
    parts = kong.jwe.decode(token)
    assert [parts[number] for number in range(1, 6)] == token.split(".")
    assert parts["protected"] == {"alg": "RSA-OAEP", "enc": "A256GCM"}
    assert (len(parts["encrypted_key"]), len(parts["iv"]), len(parts["tag"])) == (256, 12, 16)
    assert parts["aad"] == parts[1]


@pytest.mark.parametrize("token", ["a.b.c", "!.b.c.d.e", "W10.b.c.d.e", ""])
def test_what_is_no_token_is_refused(token: str) -> None:
    with pytest.raises(JweError):
        kong.jwe.decode(token)


def test_a_wrong_key_or_a_changed_token_is_refused() -> None:
    token = kong.jwe.encrypt("RSA-OAEP", "A256GCM", public_der(RSA_KEY), "text")
    with pytest.raises(JweError, match=r"^unable to decrypt"):
        kong.jwe.decrypt(octets("A256KW"), token)
    changed = token[:-2] + ("AA" if token[-2:] != "AA" else "BB")
    with pytest.raises(JweError, match=r"^unable to decrypt"):
        kong.jwe.decrypt(private_pem(RSA_KEY), changed)


@pytest.mark.parametrize(
    ("alg", "enc", "options", "text"),
    [
        ("RSA1_5", "A256GCM", None, "unsupported alg: RSA1_5"),
        ("RSA-OAEP", "none", None, "unsupported enc: none"),
        ("RSA-OAEP", "A256GCM", {"zip": "GZIP"}, "unsupported zip: GZIP"),
        ("RSA-OAEP", "A256GCM", {"zap": 1}, "unknown option: zap"),
    ],
)
def test_wrong_arguments_are_refused(alg: str, enc: str, options: Any, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        kong.jwe.encrypt(alg, enc, public_der(RSA_KEY), "text", options)
