"""Settings of who may use the Admin API.

Owns the form of tokens and of the roles of client certificates. Checking requests is `headgate.admin.access`; without
any of these settings the Admin API is open to whoever reaches its listeners, which are on loopback by default.
"""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from headgate.config.kinds import Array, Number, Text
from headgate.config.setting import setting
from headgate.config.tls import read_pem

READ_ONLY: Final = "read-only"
READ_WRITE: Final = "read-write"
ROLES: Final = (READ_ONLY, READ_WRITE)
SHORTEST_TOKEN: Final = 16
_HASHED: Final = re.compile(r"sha256:([0-9a-fA-F]{64})")
_NAME: Final = re.compile(r"[A-Za-z0-9._@-]{1,64}")
_FORM: Final = "<name>:<read-only|read-write>:<token or sha256:hex>"


@dataclass(frozen=True)
class AdminToken:
    """One token: who uses it, what for, and its SHA-256 digest."""

    name: str
    role: str
    digest: bytes


@dataclass(frozen=True)
class Access:
    """Who may use the Admin API."""

    admin_tokens: tuple[str, ...] = setting(
        Array(),
        "",
        f"Tokens of the Admin API, each as {_FORM}. With one, every call needs a token or a client certificate.",
        is_secret=True,
    )
    admin_tokens_file: str | None = setting(
        Text("path"), None, "File with more tokens, one on each line as in admin_tokens; read at start and reload."
    )
    admin_client_ca: str | None = setting(
        Text("path, PEM or base64"),
        None,
        "Authorities whose client certificates may use the Admin API on its ssl listeners. With it, every call needs "
        "such a certificate or a token.",
    )
    admin_client_roles: tuple[str, ...] = setting(
        Array(),
        "*:read-write",
        "Roles of client certificates, each as <common name>:<read-only|read-write>; * is any other name.",
    )
    admin_failures_per_minute: int = setting(
        Number(1, 1_000_000),
        "10",
        "Failed authentications that an address has in a minute; then it is answered 429 until the minute is over.",
    )
    admin_cors_origins: tuple[str, ...] = setting(
        Array(), "", "Origins whose pages may call the Admin API, as https://example.com; * is any. Empty: none."
    )
    admin_audit_log: str = setting(
        Text("path or off"),
        "logs/admin_audit.log",
        "File of the audit log, a JSON object for each write and each refusal; off for none.",
    )

    @property
    def is_required(self) -> bool:
        """Whether calls have to authenticate."""
        return bool(self.admin_tokens or self.admin_tokens_file or self.admin_client_ca)

    def tokens(self) -> tuple[AdminToken, ...]:
        """Return all tokens. Raises: ValueError with the first fault."""
        found = [_token("admin_tokens", entry) for entry in self.admin_tokens]
        if self.admin_tokens_file is not None:
            try:
                lines = Path(self.admin_tokens_file).expanduser().read_text(encoding="utf-8").splitlines()
            except (OSError, UnicodeDecodeError) as error:
                raise ValueError(f"admin_tokens_file: cannot read {self.admin_tokens_file}: {error}") from None
            for number, line in enumerate(lines, 1):
                if line.strip() and not line.lstrip().startswith("#"):
                    found.append(_token(f"admin_tokens_file: line {number}", line.strip()))
        return tuple(found)

    def client_roles(self) -> dict[str, str]:
        """Return the roles by common name. Raises: ValueError with the first fault."""
        roles: dict[str, str] = {}
        for entry in self.admin_client_roles:
            name, _, role = entry.rpartition(":")
            if not name or role not in ROLES:
                raise ValueError(f"admin_client_roles: '{entry}' must be <common name>:<{'|'.join(ROLES)}>")
            roles[name] = role
        return roles

    def check(self) -> Iterator[str]:
        """Yield faults that concern more than the syntax of one setting."""
        for read in (self.tokens, self.client_roles, self._client_ca):
            try:
                read()
            except ValueError as error:
                yield str(error)
        for origin in self.admin_cors_origins:
            if origin != "*" and not re.fullmatch(r"https?://[^/\s]+", origin):
                yield f"admin_cors_origins: '{origin}' must be * or an origin like https://example.com"

    def _client_ca(self) -> None:
        if self.admin_client_ca is not None:
            try:
                read_pem(self.admin_client_ca)
            except ValueError as error:
                raise ValueError(f"admin_client_ca: {error}") from None


def _token(place: str, entry: str) -> AdminToken:
    """Return the token of an entry; no fault says what the token is. Raises: ValueError."""
    name, _, rest = entry.partition(":")
    role, _, secret = rest.partition(":")
    if _NAME.fullmatch(name) is None or role not in ROLES or not secret:
        raise ValueError(f"{place}: each token must be {_FORM}")
    hashed = _HASHED.fullmatch(secret)
    if hashed is not None:
        return AdminToken(name, role, bytes.fromhex(hashed[1]))
    if len(secret) < SHORTEST_TOKEN:
        raise ValueError(f"{place}: the token of '{name}' must have {SHORTEST_TOKEN} characters at least")
    return AdminToken(name, role, hashlib.sha256(secret.encode()).digest())
