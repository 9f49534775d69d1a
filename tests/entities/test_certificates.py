"""Certificates, authorities and keys with real PEM."""

from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from headgate.entities.registry import ENTITY_TYPES


def make(*, is_authority: bool = False, days: int = 1) -> tuple[str, str, x509.Certificate]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=30))
        .not_valid_after(now + timedelta(days=days))
    )
    if is_authority:
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    certificate = builder.sign(key, hashes.SHA256())
    key_text = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return certificate.public_bytes(serialization.Encoding.PEM).decode(), key_text.decode(), certificate


def faults(name: str, **given: Any) -> dict[str, Any]:
    return ENTITY_TYPES[name].examine(given, now=1)[1]


def test_certificate_and_key_must_belong_together() -> None:
    certificate, key, _ = make()
    assert faults("certificates", cert=certificate, key=key) == {}
    assert faults("certificates", cert=certificate, key=make()[1]) == {"@entity": ["certificate does not match key"]}


def test_alternative_needs_both_halves_and_another_type() -> None:
    certificate, key, _ = make()
    other, other_key, _ = make()
    assert faults("certificates", cert=certificate, key=key, cert_alt=other) == {
        "@entity": [
            "all or none of these fields must be set: 'cert_alt', 'key_alt'",
            "certificate and alternative certificate need to have different type (e.g. RSA and ECDSA), "
            "the provided certificates were both of the same type",
        ]
    }
    assert "@entity" in faults("certificates", cert=certificate, key=key, cert_alt=other, key_alt=other_key)


def test_text_that_is_no_pem_is_refused_and_a_vault_reference_is_not() -> None:
    errors = faults("certificates", cert="x", key="y")
    assert errors == {
        "cert": "invalid certificate: not in PEM format: there is no line -----BEGIN CERTIFICATE-----",
        "key": "invalid key: not in PEM format: there is no line -----BEGIN PRIVATE KEY-----",
    }
    certificate, key, _ = make()
    assert faults("certificates", cert=key, key=certificate) == {
        "cert": "invalid certificate: it holds a PRIVATE KEY, not a CERTIFICATE",
        "key": "invalid key: it holds a CERTIFICATE, not a PRIVATE KEY",
    }
    assert faults("certificates", cert=certificate[:200], key=key[:100]) == {
        "cert": "invalid certificate: it is cut off: there is no line -----END CERTIFICATE-----",
        "key": "invalid key: it is cut off: there is no line -----END PRIVATE KEY-----",
    }
    broken = faults("certificates", cert=certificate[:100] + certificate[150:], key=key[:60] + key[80:])
    assert broken == {
        "cert": "invalid certificate: what is between BEGIN CERTIFICATE and END CERTIFICATE is no certificate",
        "key": "invalid key: what is between BEGIN PRIVATE KEY and END PRIVATE KEY is no private key",
    }
    assert faults("certificates", cert="{vault://env/cert}", key="{vault://env/key}") == {}


def test_authority_is_checked_and_gets_its_digest() -> None:
    text, _, certificate = make(is_authority=True)
    entity_type = ENTITY_TYPES["ca_certificates"]
    entity, errors = entity_type.examine({"cert": text}, now=1)
    assert errors == {}
    assert (
        entity_type.transformed(entity, {"cert": text})["cert_digest"] == certificate.fingerprint(hashes.SHA256()).hex()
    )
    assert faults("ca_certificates", cert=text + text) == {"@entity": ["please submit only one certificate at a time"]}
    assert faults("ca_certificates", cert=make(is_authority=True, days=-1)[0]) == {
        "@entity": ['certificate expired, "Not After" time is in the past']
    }
    assert faults("ca_certificates", cert=make()[0]) == {
        "@entity": ['certificate does not appear to be a CA because it is missing the "CA" basic constraint']
    }


def test_key_has_one_form_and_its_halves_match() -> None:
    _, private, certificate = make()
    public = (
        certificate.public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        .decode()
    )
    assert faults("keys", kid="a", pem={"private_key": private, "public_key": public}) == {}
    assert faults("keys", kid="a", pem={"private_key": make()[1], "public_key": public}) == {
        "@entity": ["public key does not match private key"]
    }
    assert faults("keys", kid="a") == {"@entity": ["at least one of these fields must be non-empty: 'pem', 'jwk'"]}
    assert faults("keys", kid="a", jwk='{"kid":"b"}') == {"@entity": ["kid in jwk.kid must be equal to keys.kid"]}
    assert faults("keys", kid="a", jwk="{") == {"@entity": ["could not json decode jwk string"]}
