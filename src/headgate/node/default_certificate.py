"""The self-signed certificates a node makes on its first start, for listeners without one of their own.

Owns their files in `<prefix>/ssl/` (keys readable by the owner only). Existing files are kept, so that clients which
pinned them are not surprised by a restart. Called by the supervisor; workers only read the files.
"""

import datetime
import os
from pathlib import Path

KINDS = ("rsa", "ecdsa")
_VALID_DAYS = 20 * 365
_RSA_KEY_BITS = 2048


def paths(directory: Path, kind: str) -> tuple[Path, Path]:
    """Return where the certificate and the key of a kind are."""
    return directory / f"headgate-default-{kind}.crt", directory / f"headgate-default-{kind}.key"


def ensure(directory: Path) -> None:
    """Make the missing ones among the RSA and the ECDSA default certificate (CN localhost)."""
    missing = [kind for kind in KINDS if not all(path.is_file() for path in paths(directory, kind))]
    if not missing:
        return
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    for kind in missing:
        certificate_pem, key_pem = generate(kind)
        certificate_path, key_path = paths(directory, kind)
        _write(key_path, key_pem)
        _write(certificate_path, certificate_pem)


def generate(kind: str) -> tuple[bytes, bytes]:
    """Return (certificate PEM, key PEM) of a new self-signed certificate for localhost."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, rsa
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
    from cryptography.x509.oid import NameOID

    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
    if kind == "rsa":
        key = rsa.generate_private_key(public_exponent=65537, key_size=_RSA_KEY_BITS)
    else:
        key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=_VALID_DAYS))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    key_pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return certificate.public_bytes(Encoding.PEM), key_pem


def _write(path: Path, content: bytes) -> None:
    temporary = path.with_suffix(path.suffix + ".new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    temporary.replace(path)
