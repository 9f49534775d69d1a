"""`kong.service`: where this request goes, how often and how long it is tried.

PDK reference 5.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal

from headgate.errors import GatewayError
from headgate.pdk._call import Call
from headgate.pdk._certificates import upstream_tls
from headgate.pdk._check import is_number, need_integer, need_string
from headgate.pdk._phase import ACCESS, REWRITE_ACCESS_BALANCER, SERVICE_RESPONSE, SERVICE_SETTERS, phases
from headgate.pdk._retry import target_asker
from headgate.pdk.service_request import ServiceRequest, service_request
from headgate.pdk.service_response import ServiceResponse, service_response

LARGEST_PORT = 65535
MOST_RETRIES = 32767
LONGEST_TIMEOUT_MS = 2_147_483_646


class UpstreamNotFoundError(GatewayError):
    """No upstream has the name given to `set_upstream` (Kong returns nil and this text)."""


class Service:
    """`kong.service`."""

    __slots__ = ()

    request: ServiceRequest = service_request
    response: ServiceResponse = service_response

    @phases(ACCESS)
    def set_upstream(self, call: Call, host: str) -> Literal[True]:
        """Balance this request over the targets of an upstream, given by name.

        Raises: TypeError `host must be a string`; UpstreamNotFoundError `could not find an Upstream named '<host>'`.
        """
        need_string(host, "host")
        if not call.exchange.set_upstream(host):
            raise UpstreamNotFoundError(f"could not find an Upstream named '{host}'")
        return True

    @phases(SERVICE_SETTERS)
    def set_target(self, call: Call, host: str, port: int) -> None:
        """Send this request to a host and port; the host is also sent as Host and TLS server name.

        Raises: TypeError `host must be a string`, `port must be an integer`; ValueError outside of 0 to 65535.
        """
        need_string(host, "host")
        call.exchange.set_target(host, need_integer(port, "port", 0, LARGEST_PORT))

    @phases(ACCESS)
    def set_target_retry_callback(self, call: Call, callback: Callable[[], Any]) -> None:
        """Have a function called before each retry (never before the first attempt), unless an upstream is balanced.

        It calls `set_target`, or returns a host and a port (Kong takes the call only), or another true value to try the
        same target again. A raised error or a falsy result ends the attempts with 503.

        Raises: TypeError `retry_callback must be a function`.
        """
        if not callable(callback):
            raise TypeError("retry_callback must be a function")
        call.exchange.set_target_retry_callback(target_asker(call, callback))

    @phases(ACCESS)
    def set_retries(self, call: Call, retries: int) -> None:
        """Override how many further attempts follow a failed one.

        Args: 0 to 32767.
        Raises: TypeError `retries must be an integer`; ValueError out of range.
        """
        call.exchange.set_retries(need_integer(retries, "retries", 0, MOST_RETRIES))

    @phases(ACCESS)
    def set_timeouts(self, call: Call, connect_timeout: int, write_timeout: int, read_timeout: int) -> None:
        """Override the timeouts of this request's attempts.

        Args: all in milliseconds, 1 to 2_147_483_646. All three are applied (Kong 3 drops the write timeout).
        Raises: TypeError `<name> must be an integer`; ValueError out of range.
        """
        call.exchange.set_timeouts(
            need_integer(connect_timeout, "connect_timeout", 1, LONGEST_TIMEOUT_MS),
            need_integer(write_timeout, "write_timeout", 1, LONGEST_TIMEOUT_MS),
            need_integer(read_timeout, "read_timeout", 1, LONGEST_TIMEOUT_MS),
        )

    @phases(REWRITE_ACCESS_BALANCER)
    def enable_recording_upstream_ssl(self, call: Call) -> None:
        """Keep the TLS facts of this request's upstream connection: for `get_upstream_ssl`, and for the log record,
        where they are `upstream_tls`.
        """
        call.exchange.record_upstream_tls()

    @phases(SERVICE_RESPONSE)
    def get_upstream_ssl(self, call: Call) -> dict[str, str] | None:
        """Return `version`, `cipher` and, of the upstream's certificate, `subject`, `issuer`, `serial` (hexadecimal).

        None without TLS, or without `enable_recording_upstream_ssl`. Own addition: Kong has no function for it.
        """
        return upstream_tls(call.exchange)

    @phases(SERVICE_SETTERS)
    def set_tls_cert_key(self, call: Call, chain: str | bytes, key: str | bytes) -> Literal[True]:
        """Present a client certificate to the upstream of this request, in place of the service's or upstream's.

        Args: both PEM; `chain` starts with the certificate of `key`.
        Raises: TypeError `chain must be a parsed cdata object`, `key must be a parsed cdata object` (Kong's texts; here
            PEM is meant). PEM that cannot be used ends the attempt with 502.
        """
        call.exchange.set_upstream_tls(certificate=(_pem(chain, "chain"), _pem(key, "key")))
        return True

    @phases(SERVICE_SETTERS)
    def set_tls_verify(self, call: Call, on: bool) -> Literal[True]:
        """Switch the verification of the upstream's certificate on or off for this request.

        Raises: TypeError `argument must be a boolean`.
        """
        if not isinstance(on, bool):
            raise TypeError("argument must be a boolean")
        call.exchange.set_upstream_tls(verify=on)
        return True

    @phases(SERVICE_SETTERS)
    def set_tls_verify_depth(self, call: Call, depth: int) -> Literal[True]:
        """Set how many intermediate certificates the upstream's chain may have, for this request.

        Raises: TypeError `argument must be a number`; ValueError for a negative one.
        """
        if not is_number(depth):
            raise TypeError("argument must be a number")
        if depth < 0:
            raise ValueError("argument must be a number greater than or equal to 0")
        call.exchange.set_upstream_tls(depth=int(depth))
        return True

    @phases(SERVICE_SETTERS)
    def set_tls_verify_store(self, call: Call, store: str | bytes | Sequence[str]) -> Literal[True]:
        """Set the CA certificates that the upstream's certificate is verified with, for this request.

        Args: PEM, in one text or several.
        Raises: TypeError `argument must be a resty.openssl.x509.store object` (Kong's text; here PEM is meant). What
            cannot be used ends the attempt with 502.
        """
        texts: Sequence[Any] = [store] if isinstance(store, str | bytes) or not isinstance(store, Sequence) else store
        if not texts or not all(isinstance(text, str | bytes) for text in texts):
            raise TypeError("argument must be a resty.openssl.x509.store object")
        ca_pem = "\n".join(text.decode("ascii", "replace") if isinstance(text, bytes) else text for text in texts)
        call.exchange.set_upstream_tls(ca_pem=ca_pem)
        return True


def _pem(text: object, what: str) -> str:
    if isinstance(text, bytes):
        return text.decode("ascii", "replace")
    if not isinstance(text, str):
        raise TypeError(f"{what} must be a parsed cdata object")
    return text


service = Service()
