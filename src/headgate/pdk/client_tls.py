"""`kong.client.tls`: the client's side of the TLS connection (PDK reference 4.4)."""

from collections.abc import Sequence
from typing import Literal, cast

from headgate.pdk._call import Call
from headgate.pdk._check import need_string
from headgate.pdk._exchange import Handshake
from headgate.pdk._phase import FINISHED, REWRITE_ACCESS_BALANCER, phases
from headgate.phases import Phase

CERTIFICATE_CHAIN = REWRITE_ACCESS_BALANCER | Phase.RESPONSE | FINISHED
SERVER_NAME = (
    Phase.CERTIFICATE
    | REWRITE_ACCESS_BALANCER
    | Phase.RESPONSE
    | Phase.HEADER_FILTER
    | Phase.BODY_FILTER
    | Phase.PREREAD
    | FINISHED
)
CLIENT_VERIFY = REWRITE_ACCESS_BALANCER | Phase.RESPONSE


class ClientTls:
    """`kong.client.tls`."""

    __slots__ = ()

    @phases(SERVER_NAME, is_for_streams=True)
    def get_server_name(self, call: Call) -> str | None:
        """Return the name that the client asked for in its TLS handshake (SNI), lower case; None without one.

        In streams also where TLS passes through.
        """
        exchange = call.exchange
        if call.phase == Phase.CERTIFICATE:
            return cast(Handshake, exchange).server_name
        return exchange.tls_server_name

    @phases(Phase.CERTIFICATE)
    def request_client_certificate(self, call: Call, ca_certs: str | Sequence[str] | None = None) -> Literal[True]:
        """Ask the client for a certificate; the handshake succeeds without one, and none is verified.

        Args: `ca_certs`: CA certificates as PEM, in one text or several; the client is told their names. None: any.
        Raises: ValueError for what is no certificate.
        """
        names = None if ca_certs is None else _subjects(ca_certs)
        cast(Handshake, call.exchange).request_client_certificate(names)
        return True

    @phases(Phase.CERTIFICATE)
    def set_certificate(self, call: Call, chain: str | bytes, key: str | bytes) -> Literal[True]:
        """Show the client this certificate instead of the configured one; the last call counts.

        The name that the client asked for is `get_server_name()`. Parsed pairs are kept, so giving the same one with
        every handshake is cheap.

        Args: `chain`: PEM, the certificate first, then its intermediates; or one certificate in DER. `key`: its private
            key, PEM or DER.
        Raises: TypeError; ValueError with every fault of the two, also when they do not belong together.
        """
        given = []
        for name, value in (("chain", chain), ("key", key)):
            if not isinstance(value, str | bytes):
                raise TypeError(f"{name} must be a string or bytes")
            given.append(value.encode() if isinstance(value, str) else value)
        cast(Handshake, call.exchange).set_certificate(*given)
        return True

    @phases(Phase.CERTIFICATE)
    def disable_session_reuse(self, call: Call) -> Literal[True]:
        """Let this connection neither resume an earlier session nor be resumed: no tickets, no session ids."""
        cast(Handshake, call.exchange).disable_session_reuse()
        return True

    @phases(Phase.CERTIFICATE | Phase.CLIENT_HELLO)
    def disable_http2_alpn(self, call: Call) -> Literal[True]:
        """Offer HTTP/1.1 only on this connection (in `certificate` too: no handler runs in `client_hello`)."""
        cast(Handshake, call.exchange).disable_http2()
        return True

    @phases(CERTIFICATE_CHAIN)
    def get_full_client_certificate_chain(self, call: Call) -> str | None:
        """Return what the client presented as PEM, its own certificate first; None when it presented nothing."""
        return call.exchange.client_certificate_chain()

    @phases(CLIENT_VERIFY)
    def set_client_verify(self, call: Call, value: str) -> None:
        """Say what a plugin found out about the client's certificate, for `tls.client_verify` of the log record.

        Args: `SUCCESS`, `NONE` or `FAILED:<reason>`.
        Raises: TypeError `value must be a string`; ValueError `unknown client verify value: …`.
        """
        need_string(value, "value")
        if value not in ("SUCCESS", "NONE") and not value.startswith("FAILED:"):
            raise ValueError(
                f'unknown client verify value: {value} accepted values are: "SUCCESS", "NONE" or "FAILED:<reason>"'
            )
        call.exchange.set_client_verify(value)


def _subjects(ca_certs: str | Sequence[str]) -> list[bytes]:
    """Return the DER form of the certificates' subjects."""
    # Imported on use: few plugins ask for certificates.
    from cryptography import x509

    texts = [ca_certs] if isinstance(ca_certs, str) else ca_certs
    return [
        certificate.subject.public_bytes()
        for text in texts
        for certificate in x509.load_pem_x509_certificates(text.encode())
    ]


client_tls = ClientTls()
