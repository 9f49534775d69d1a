"""Settings of TLS on listeners and towards upstreams, and the PEM material that they name.

Owns how a certificate value is read (file path, PEM text or base64 of PEM). Generating the default certificate is
`headgate.node.default_certificate`; the engine parses the PEM again when it starts.
"""

import base64
import binascii
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from headgate.config.kinds import Array, Boolean, Choice, Number, Size, Switch, Text, Time
from headgate.config.setting import setting

SYSTEM_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
ENGINE_PROTOCOLS = ("TLSv1.2", "TLSv1.3")
# OpenSSL's names of what the engine has for TLS 1.2, in its own order.
_SUITES = {
    f"ECDHE-{key}-{name}": f"TLS_ECDHE_{key}_WITH_{iana}"
    for key in ("ECDSA", "RSA")
    for name, iana in (
        ("AES256-GCM-SHA384", "AES_256_GCM_SHA384"),
        ("AES128-GCM-SHA256", "AES_128_GCM_SHA256"),
        ("CHACHA20-POLY1305", "CHACHA20_POLY1305_SHA256"),
    )
}
_SESSION_BYTES = 1024
_SUITE_PROTOCOLS = {"modern": ("TLSv1.3",), "intermediate": ENGINE_PROTOCOLS, "old": ENGINE_PROTOCOLS}


@dataclass(frozen=True)
class Tls:
    """Certificates and protocol versions."""

    ssl_cert: tuple[str, ...] = setting(
        Array(), "", "Default certificates of the proxy (path, PEM or base64 of PEM); made in <prefix>/ssl when absent."
    )
    ssl_cert_key: tuple[str, ...] = setting(Array(), "", "Keys of ssl_cert, in the same order.", is_secret=True)
    admin_ssl_cert: tuple[str, ...] = setting(Array(), "", "Certificate of the Admin API.")
    admin_ssl_cert_key: tuple[str, ...] = setting(Array(), "", "Key of admin_ssl_cert.", is_secret=True)
    status_ssl_cert: tuple[str, ...] = setting(Array(), "", "Certificate of the Status API.")
    status_ssl_cert_key: tuple[str, ...] = setting(Array(), "", "Key of status_ssl_cert.", is_secret=True)
    ssl_cipher_suite: str = setting(
        Choice(("modern", "intermediate", "old", "fips", "custom")),
        "intermediate",
        "modern: TLS 1.3; intermediate: TLS 1.2 and 1.3; custom: as in ssl_protocols.",
    )
    ssl_protocols: str = setting(
        Text("list of words"), "TLSv1.2 TLSv1.3", "Protocol versions with ssl_cipher_suite = custom."
    )
    ssl_session_tickets: bool = setting(
        Switch(), "on", "Hand out session tickets.", aliases=("nginx_http_ssl_session_tickets",)
    )
    ssl_ciphers: str | None = setting(
        Text("list of suites"),
        None,
        "Cipher suites of TLS 1.2 with ssl_cipher_suite = custom, as OpenSSL names them, separated by colons; those of "
        "TLS 1.3 are always offered.",
    )
    ssl_prefer_server_ciphers: bool = setting(
        Switch(),
        "on",
        "With ssl_cipher_suite = custom: the order of ssl_ciphers counts, not the client's.",
        aliases=("nginx_http_ssl_prefer_server_ciphers",),
    )
    ssl_session_timeout_ms: int = setting(
        Time(is_zero_allowed=False),
        "1d",
        "How long a session can be resumed; ticket keys are replaced as often, and read for one period more.",
        name="ssl_session_timeout",
        aliases=("nginx_http_ssl_session_timeout",),
    )
    ssl_session_cache_size: int = setting(
        Size(),
        "10m",
        "Memory of a worker for the sessions of clients without tickets, about 1 KiB each.",
    )
    client_ssl: bool = setting(
        Boolean(), "off", "Present client_ssl_cert to upstreams whose service has no certificate."
    )
    client_ssl_cert: str | None = setting(Text("path, PEM or base64"), None, "Client certificate for upstreams.")
    client_ssl_cert_key: str | None = setting(
        Text("path, PEM or base64"), None, "Key of client_ssl_cert.", is_secret=True
    )
    lua_ssl_trusted_certificate: tuple[str, ...] = setting(
        Array(), "system", "CA bundles for verifying upstreams: system, paths, PEM or base64 of PEM."
    )
    lua_ssl_verify_depth: int = setting(Number(0, 100), "1", "Longest chain accepted when verifying upstreams.")
    handshake_timeout_ms: int = setting(
        Number(minimum=1), "60000", "Milliseconds a TLS handshake may take.", name="ssl_handshake_timeout"
    )

    @property
    def cipher_suites(self) -> tuple[str, ...]:
        """Suites of TLS 1.2 that the listeners offer, by their IANA names, first preferred."""
        if self.ssl_cipher_suite != "custom" or self.ssl_ciphers is None:
            return tuple(_SUITES.values())
        return tuple(dict.fromkeys(_SUITES[word] for word in self._cipher_words() if word in _SUITES))

    def _cipher_words(self) -> list[str]:
        return (self.ssl_ciphers or "").replace(",", ":").replace(" ", ":").split(":")

    @property
    def prefers_server_order(self) -> bool:
        """Whether the listeners' order of suites counts."""
        if self.ssl_cipher_suite == "custom":
            return self.ssl_prefer_server_ciphers
        return self.ssl_cipher_suite == "old"

    @property
    def session_timeout_s(self) -> int:
        """How long a session can be resumed, whole seconds."""
        return max(1, self.ssl_session_timeout_ms // 1000)

    @property
    def session_cache_entries(self) -> int:
        """How many sessions a worker stores."""
        return self.ssl_session_cache_size // _SESSION_BYTES

    @property
    def protocols(self) -> tuple[str, ...]:
        """Protocol versions that the listeners offer."""
        if self.ssl_cipher_suite != "custom":
            return _SUITE_PROTOCOLS[self.ssl_cipher_suite]
        return tuple(word for word in self.ssl_protocols.split() if word in ENGINE_PROTOCOLS)

    def trusted_pem(self) -> str:
        """Return the concatenated CA certificates for verifying upstreams; empty when the system has no bundle."""
        texts = []
        for value in self.lua_ssl_trusted_certificate:
            if value == "system":
                bundle = next((path for path in SYSTEM_BUNDLES if Path(path).is_file()), None)
                if bundle is not None:
                    texts.append(Path(bundle).read_text(encoding="utf-8"))
            else:
                texts.append(read_pem(value))
        return "\n".join(texts)

    def check(self) -> Iterator[str]:
        """Yield faults that concern more than the syntax of one setting."""
        for name in ("ssl_cert", "admin_ssl_cert", "status_ssl_cert"):
            certificates, keys = getattr(self, name), getattr(self, name + "_key")
            if len(certificates) != len(keys):
                yield (
                    f"{name} was specified {len(certificates)} times while {name}_key was specified {len(keys)} times"
                )
            elif certificates:
                yield from _check_pairs(name, certificates, keys)
        for name in ("admin_ssl_cert", "status_ssl_cert"):
            if len(getattr(self, name)) > 1:
                yield f"{name}: one certificate can be given, not {len(getattr(self, name))}"
        if self.client_ssl:
            if self.client_ssl_cert is None or self.client_ssl_cert_key is None:
                yield "client_ssl_cert and client_ssl_cert_key must be specified when client_ssl is on"
            else:
                yield from _check_pairs("client_ssl_cert", (self.client_ssl_cert,), (self.client_ssl_cert_key,))
        if self.ssl_cipher_suite == "fips":
            yield "ssl_cipher_suite = fips is not available: the TLS library is not a validated module"
        if self.ssl_cipher_suite == "custom":
            for word in self.ssl_protocols.split():
                if word not in ENGINE_PROTOCOLS:
                    yield f"ssl_protocols: {word} is not available ({', '.join(ENGINE_PROTOCOLS)})"
            if not self.protocols:
                yield f"ssl_protocols names no version ({', '.join(ENGINE_PROTOCOLS)})"
            elif "TLSv1.2" in self.protocols and not self.cipher_suites:
                yield f"ssl_ciphers names no suite that is available ({', '.join(_SUITES)})"
        for value in self.lua_ssl_trusted_certificate:
            if value != "system":
                yield from _readable("lua_ssl_trusted_certificate", value)

    def notices(self) -> Iterator[str]:
        """Yield what works differently from what the settings ask for."""
        if self.ssl_cipher_suite == "custom" and self.ssl_ciphers is not None:
            unavailable = [word for word in self._cipher_words() if word and word not in _SUITES]
            if unavailable:
                yield f"ssl_ciphers: not available and left out: {', '.join(unavailable)}"
        elif self.ssl_ciphers is not None:
            yield f"ssl_ciphers has no effect with ssl_cipher_suite = {self.ssl_cipher_suite}: use custom"
        if self.ssl_cipher_suite == "old":
            yield "ssl_cipher_suite = old: TLS 1.0 and 1.1 are not offered, it equals intermediate here"


def read_pem(value: str) -> str:
    """Return the PEM text of a certificate value: a path, PEM text, or base64 of PEM text.

    Raises: ValueError with a text that names the value when it is none of these.
    """
    if "-----BEGIN" in value:
        # A value from an environment variable often has its line ends as the two characters \n.
        return value.replace("\\n", "\n")
    path = Path(value).expanduser()
    try:
        if path.is_file():
            return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"cannot read {value}: {error}") from None
    try:
        decoded = base64.b64decode(value, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError, ValueError):
        decoded = ""
    if "-----BEGIN" in decoded:
        return decoded
    raise ValueError(f"no such file at {value}")


def _readable(name: str, value: str) -> Iterator[str]:
    try:
        read_pem(value)
    except ValueError as error:
        yield f"{name}: {error}"


def _check_pairs(name: str, certificates: tuple[str, ...], keys: tuple[str, ...]) -> Iterator[str]:
    for certificate, key in zip(certificates, keys, strict=True):
        unreadable = [*_readable(name, certificate), *_readable(name + "_key", key)]
        if unreadable:
            yield from unreadable
        else:
            yield from _mismatch(name, read_pem(certificate), read_pem(key))


def _mismatch(name: str, certificate_pem: str, key_pem: str) -> Iterator[str]:
    # Imported here: workers read the settings too and must not load this library.
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

    try:
        certificate = x509.load_pem_x509_certificates(certificate_pem.encode())[0]
    except ValueError:
        yield f"{name}: not a PEM certificate"
        return
    try:
        key = load_pem_private_key(key_pem.encode(), None)
    except (ValueError, TypeError):
        yield f"{name}_key: not a PEM private key without a passphrase"
        return
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if certificate.public_key().public_bytes(*form) != key.public_key().public_bytes(*form):
        yield f"{name}_key: the key does not belong to {name}"
