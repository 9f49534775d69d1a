"""Certificates as plugins read them: what the engine has kept of the upstream's, in words."""

from headgate.pdk._exchange import Exchange


def upstream_tls(exchange: Exchange) -> dict[str, str] | None:
    """Return TLS version, cipher suite and the upstream's certificate; None where nothing was kept."""
    kept = exchange.upstream_tls_facts()
    if kept is None:
        return None
    version, cipher, certificate_der = kept
    facts = {"version": version, "cipher": cipher}
    if certificate_der is not None:
        # Imported on use: few plugins ask.
        from cryptography import x509

        certificate = x509.load_der_x509_certificate(certificate_der)
        facts["subject"] = certificate.subject.rfc4514_string()
        facts["issuer"] = certificate.issuer.rfc4514_string()
        facts["serial"] = f"{certificate.serial_number:X}"
    return facts
