"""`ngx.var`: nginx's variables of a request, from the engine's exchange. An unknown one is nil."""

import ipaddress
import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from headgate.lua.values import text_from_lua, text_to_lua
from headgate.pdk._call import current_call
from headgate.pdk._node import node

if TYPE_CHECKING:
    from headgate.lua.vm import Vm

_PROTOCOLS = {0.9: "HTTP/0.9", 1.0: "HTTP/1.0", 1.1: "HTTP/1.1", 2.0: "HTTP/2.0", 3.0: "HTTP/3.0"}
_PREFIXED = ("http_", "sent_http_", "upstream_http_", "arg_", "cookie_")


def functions(vm: "Vm") -> dict[str, Any]:
    """Return the functions by name."""
    return {"var_get": vm.bridge.raw(get), "var_set": vm.bridge.raw(set_value)}


def exchange() -> Any:
    """Return the exchange of the running request.

    Raises: TypeError outside of one, with OpenResty's text.
    """
    call = current_call.get()
    if call is None or call.exchange is None:
        raise TypeError("no request found")
    return call.exchange


def get(name: Any) -> Any:
    """Return a variable."""
    if not isinstance(name, str):
        raise TypeError("bad variable name")
    request = exchange()
    getter = VARIABLES.get(name)
    if getter is not None:
        value = getter(request)
    else:
        prefix = next((one for one in _PREFIXED if name.startswith(one)), None)
        value = _prefixed(request, prefix, name[len(prefix) :]) if prefix is not None else None
    return text_to_lua(value) if isinstance(value, str) else value


def set_value(name: Any, value: Any) -> bool:
    """Change one of the few variables that mean something when changed; False for a name that is no variable of ours.

    Raises: ValueError for any other variable.
    """
    request = exchange()
    text = None if value is None else text_from_lua(str(value))
    if name in ("args", "query_string"):
        request.set_query(text or None)
    elif name == "upstream_host" and text is not None:
        request.set_request_header("Host", [text])
    elif name == "upstream_uri" and text is not None:
        path, _, query = text.partition("?")
        request.set_upstream_path(path)
        if query:
            request.set_query(query)
    elif name == "upstream_scheme" and text is not None:
        request.set_upstream_scheme(text)
    elif name in VARIABLES or str(name).startswith(_PREFIXED):
        raise ValueError(f'variable "{name}" not changeable')
    else:
        return False
    return True


def _prefixed(request: Any, prefix: str, name: str) -> str | None:
    if prefix == "http_":
        values = request.get_request_header_values(name.replace("_", "-"))
        return ", ".join(values) if values else None
    if prefix == "sent_http_":
        return _text(request.get_response_header(name.replace("_", "-")))
    if prefix == "upstream_http_":
        return _text(request.get_upstream_header(name.replace("_", "-")))
    if prefix == "cookie_":
        return _cookie(request, name)
    for piece in (request.query or "").split("&"):
        key, _, value = piece.partition("=")
        if key.lower() == name.lower():
            return _text(value)
    return None


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _cookie(request: Any, name: str) -> str | None:
    for line in request.get_request_header_values("cookie"):
        for pair in line.split(";"):
            key, separator, value = pair.strip().partition("=")
            if separator and key == name:
                return str(value)
    return None


def _seconds(milliseconds: float) -> str:
    return f"{milliseconds / 1000:.3f}"


def _tried(request: Any) -> str | None:
    return ", ".join(f"{one['ip']}:{one['port']}" for one in request.tries()) or None


def _client_certificate(request: Any, part: Callable[[Any], str]) -> str | None:
    """Return something of the client's certificate; None where it gave none."""
    chain = request.client_certificate_chain()
    if not chain:
        return None
    from cryptography.x509 import load_pem_x509_certificate

    return part(load_pem_x509_certificate(chain.encode()))


def _fingerprint(certificate: Any) -> str:
    from cryptography.hazmat.primitives.hashes import SHA1

    # What nginx has in this variable.
    return str(certificate.fingerprint(SHA1()).hex())


def _serial(certificate: Any) -> str:
    digits = f"{certificate.serial_number:X}"
    return digits if len(digits) % 2 == 0 else f"0{digits}"


def _first_certificate(request: Any) -> str | None:
    chain = request.client_certificate_chain()
    end = "-----END CERTIFICATE-----"
    return str(chain).partition(end)[0] + end + "\n" if chain else None


def _upstream_part(request: Any, part: Callable[[str], str]) -> str:
    return part(request.upstream_uri)


VARIABLES: dict[str, Callable[[Any], Any]] = {
    "args": lambda request: request.query,
    "binary_remote_addr": lambda request: ipaddress.ip_address(request.forwarded_client_ip).packed,
    "body_bytes_sent": lambda request: str(request.response_bytes),
    "bytes_received": lambda request: str(request.request_bytes) if request.stream_protocol else None,
    "bytes_sent": lambda request: str(request.response_bytes),
    "content_length": lambda request: request.get_request_header("content-length"),
    "content_type": lambda request: request.get_request_header("content-type"),
    "document_uri": lambda request: request.path,
    "host": lambda request: request.host,
    "hostname": lambda _: node.hostname,
    "http2": lambda request: "h2" if request.http_version == 2.0 else "",
    "https": lambda request: "on" if request.scheme == "https" else "",
    "is_args": lambda request: "?" if request.query else "",
    "kong_request_id": lambda request: request.id,
    "msec": lambda _: f"{time.time():.3f}",
    "nginx_version": lambda _: "1.27.1",
    "pid": lambda _: str(os.getpid()),
    # Of streams, as `session_time`, `bytes_received` and `ssl_preread_server_name`.
    "protocol": lambda request: request.stream_protocol and ("UDP" if request.stream_protocol == "udp" else "TCP"),
    "query_string": lambda request: request.query,
    "realip_remote_addr": lambda request: request.client_ip,
    "realip_remote_port": lambda request: str(request.client_port),
    "remote_addr": lambda request: request.forwarded_client_ip,
    "remote_port": lambda request: str(request.forwarded_client_port),
    "request": lambda request: (
        f"{request.method} {request.request_target} {_PROTOCOLS.get(request.http_version, 'HTTP/1.1')}"
    ),
    "request_body": lambda request: request.request_body() or None,
    "request_id": lambda request: request.id,
    "request_length": lambda request: str(request.request_bytes),
    "request_method": lambda request: request.method,
    "request_time": lambda request: _seconds(time.time() * 1000 - request.start_time_ms),
    "request_uri": lambda request: request.request_target,
    "scheme": lambda request: request.scheme,
    "server_addr": lambda request: request.server_ip,
    "server_name": lambda _: "kong",
    "server_port": lambda request: str(request.server_port),
    "server_protocol": lambda request: _PROTOCOLS.get(request.http_version, "HTTP/1.1"),
    "session_time": lambda request: request.stream_protocol and _seconds(request.latencies_ms()[2]),
    "ssl_cipher": lambda request: request.tls_cipher,
    "ssl_client_escaped_cert": lambda request: (
        None if (first := _first_certificate(request)) is None else quote(first, safe="")
    ),
    "ssl_client_fingerprint": lambda request: _client_certificate(request, _fingerprint),
    "ssl_client_i_dn": lambda request: _client_certificate(request, lambda one: one.issuer.rfc4514_string()),
    "ssl_client_raw_cert": _first_certificate,
    "ssl_client_s_dn": lambda request: _client_certificate(request, lambda one: one.subject.rfc4514_string()),
    "ssl_client_serial": lambda request: _client_certificate(request, _serial),
    "ssl_client_verify": lambda request: request.client_verify,
    "ssl_preread_server_name": lambda request: request.stream_protocol and request.tls_server_name,
    "ssl_protocol": lambda request: request.tls_version,
    "ssl_server_name": lambda request: request.tls_server_name,
    "status": lambda request: f"{request.response_status:03d}",
    "time_iso8601": lambda _: time.strftime("%Y-%m-%dT%H:%M:%S") + time.strftime("%z")[:3] + ":00",
    "time_local": lambda _: time.strftime("%d/%b/%Y:%H:%M:%S %z"),
    "upstream_addr": _tried,
    "upstream_response_time": lambda request: _seconds(max(0, request.latencies_ms()[1])),
    "upstream_status": lambda request: request.upstream_status_text or None,
    "upstream_uri": lambda request: request.upstream_uri,
    "uri": lambda request: request.path,
}
"""Those without a name of their own in them; `headgate plugin check` knows them from here."""
