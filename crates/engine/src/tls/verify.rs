//! How certificates of upstreams are judged: not at all, or against given roots with a bounded chain.
//!
//! Used by `client` only. The bound counts what OpenSSL counts: certificates between the server's own and the root.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature, WebPkiSupportedAlgorithms};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, OtherError, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use webpki::{EndEntityCert, KeyUsage};

use super::pem::TrustedCertificates;

/// Accepts any certificate: `tls_verify` is off.
#[derive(Debug)]
pub(super) struct AcceptAny;

impl ServerCertVerifier for AcceptAny {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    // A signature under a certificate that nobody vouches for proves nothing; checking it would only refuse
    // servers whose certificates are too old to parse.
    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![
            SignatureScheme::ECDSA_NISTP256_SHA256,
            SignatureScheme::ECDSA_NISTP384_SHA384,
            SignatureScheme::ECDSA_NISTP521_SHA512,
            SignatureScheme::ED25519,
            SignatureScheme::RSA_PSS_SHA256,
            SignatureScheme::RSA_PSS_SHA384,
            SignatureScheme::RSA_PSS_SHA512,
            SignatureScheme::RSA_PKCS1_SHA256,
            SignatureScheme::RSA_PKCS1_SHA384,
            SignatureScheme::RSA_PKCS1_SHA512,
        ]
    }
}

/// The chain has more certificates between the server's own and the root than allowed.
#[derive(Debug, thiserror::Error)]
#[error("certificate chain too long: more than {max_depth} intermediate certificates")]
struct ChainTooLong {
    max_depth: u8,
}

/// Verifies against given roots, the server's name, and a bound on the chain.
#[derive(Debug)]
pub(super) struct BoundedChain {
    pub(super) trusted: Arc<TrustedCertificates>,
    pub(super) max_depth: u8,
    pub(super) algorithms: WebPkiSupportedAlgorithms,
}

impl BoundedChain {
    /// Whether the server presents a trusted certificate itself and only its mark as an authority was objected to.
    ///
    /// Self-signed certificates carry that mark by default (`openssl req -x509`), and OpenSSL accepts them when they are
    /// trusted by name. webpki looks at the mark after the dates, so an expired certificate has another error.
    fn is_trusted_itself(&self, end_entity: &CertificateDer<'_>, error: &Error) -> bool {
        let Error::InvalidCertificate(CertificateError::Other(OtherError(cause))) = error else {
            return false;
        };
        cause.downcast_ref::<webpki::Error>() == Some(&webpki::Error::CaUsedAsEndEntity)
            && self.trusted.certificates.iter().any(|trusted| trusted == end_entity)
    }

    /// Whether some valid path to a root keeps the bound. Asked after the chain proved valid, and only when the server
    /// sent more than allowed: extra certificates, such as the root itself, do not count.
    fn has_short_path(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> bool {
        let max_depth = usize::from(self.max_depth);
        let keeps_bound = |path: &webpki::VerifiedPath<'_>| {
            if path.intermediate_certificates().count() > max_depth {
                return Err(webpki::Error::MaximumPathDepthExceeded);
            }
            Ok(())
        };
        EndEntityCert::try_from(end_entity).is_ok_and(|certificate| {
            certificate
                .verify_for_usage(
                    self.algorithms.all,
                    &self.trusted.anchors.roots,
                    intermediates,
                    now,
                    KeyUsage::server_auth(),
                    None,
                    Some(&keeps_bound),
                )
                .is_ok()
        })
    }
}

impl ServerCertVerifier for BoundedChain {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let certificate = ParsedCertificate::try_from(end_entity)?;
        let chain = verify_server_cert_signed_by_trust_anchor(
            &certificate,
            &self.trusted.anchors,
            intermediates,
            now,
            self.algorithms.all,
        );
        match chain {
            Ok(()) => {
                if intermediates.len() > usize::from(self.max_depth)
                    && !self.has_short_path(end_entity, intermediates, now)
                {
                    let cause = ChainTooLong {
                        max_depth: self.max_depth,
                    };
                    return Err(CertificateError::Other(OtherError(Arc::new(cause))).into());
                }
            }
            Err(error) if self.is_trusted_itself(end_entity, &error) => {}
            Err(error) => return Err(error),
        }
        verify_server_name(&certificate, server_name)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
