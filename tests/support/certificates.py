"""Certificates made on the spot: one authority, and leaves signed by it."""

import datetime
import ipaddress
import ssl
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, PEM."""

    certificate: str
    key: str

    def server_context(self, directory: Path) -> ssl.SSLContext:
        """Return a context for a server that shows this certificate."""
        path = directory / "server.pem"
        path.write_text(self.key + self.certificate, encoding="ascii")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
        return context


class Authority:
    """A certificate authority for tests."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name("Headgate test authority")
        self._certificate = self._sign(self._name, self._key, None, is_authority=True)
        self.pem = _pem(self._certificate)
        # What leaves bring along: the certificates between them and the root.
        self._above = ""

    def subordinate(self, name: str) -> "Authority":
        """Return an authority below this one; its leaves come with its certificate behind them."""
        made = Authority.__new__(Authority)
        made._key = ec.generate_private_key(ec.SECP256R1())
        made._name = _name(name)
        made._certificate = self._sign(made._name, made._key, None, is_authority=True)
        made.pem = _pem(made._certificate)
        made._above = made.pem + self._above
        return made

    def issue(self, *names: str) -> Pair:
        """Return a leaf for these names (the first is its CN); addresses become IP entries."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._sign(_name(names[0]), key, names, is_authority=False)
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return Pair(_pem(certificate) + self._above, private.decode("ascii"))

    def client_context(self, *, is_http2: bool = False) -> ssl.SSLContext:
        """Return a context that trusts this authority."""
        context = ssl.create_default_context(cadata=self.pem)
        if is_http2:
            context.set_alpn_protocols(["h2", "http/1.1"])
        return context

    def _sign(
        self, name: x509.Name, key: ec.EllipticCurvePrivateKey, names: tuple[str, ...] | None, *, is_authority: bool
    ) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=30))
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        )
        if is_authority:
            usage = x509.KeyUsage(True, False, False, False, False, True, True, False, False)
            builder = builder.add_extension(usage, critical=True)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName([_general_name(each) for each in names]), False)
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
        builder = builder.add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), False
        )
        return builder.sign(self._key, hashes.SHA256())


@cache
def authority() -> Authority:
    """Return the one authority of this test run."""
    return Authority()


def insecure_context(*protocols: str) -> ssl.SSLContext:
    """Return a client context that checks nothing, offering these ALPN protocols."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if protocols:
        context.set_alpn_protocols(list(protocols))
    return context


def common_name(certificate: bytes | None) -> str:
    """Return the CN of a DER certificate as `getpeercert(True)` gives it."""
    if certificate is None:
        return ""
    subject = x509.load_der_x509_certificate(certificate).subject
    return str(subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _general_name(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode("ascii")
