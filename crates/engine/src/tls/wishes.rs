//! What plugins ask for in the certificate phase, and the listener configuration that follows.
//!
//! Client certificates are asked for here and judged nowhere: the connection carries what the client presented, what it
//! means is a plugin's decision.

use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::ServerConfig;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{DigitallySignedStruct, DistinguishedName, SignatureScheme};
use rustls_pki_types::{CertificateDer, UnixTime};

use super::server::protocol_versions;
use super::{TlsFault, ALPN_HTTP2};
use crate::settings::TlsSettings;

/// What a plugin asked for in the certificate phase.
#[derive(Debug, Default, Clone)]
pub struct HandshakeWishes {
    /// Ask for a client certificate, naming these authorities (DER names; empty: any).
    pub client_certificate: Option<Vec<Vec<u8>>>,
    /// Neither tickets nor stored sessions for this connection.
    pub no_resumption: bool,
    /// Show this certificate instead of the one of the plan.
    pub certificate: Option<Arc<CertifiedKey>>,
    /// Offer HTTP/1.1 only.
    pub no_http2: bool,
}

impl HandshakeWishes {
    /// Nothing was asked for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.client_certificate.is_none() && !self.no_resumption && !self.no_http2 && self.certificate.is_none()
    }
}

/// A listener's configuration with what a plugin asked for.
///
/// # Errors
/// The settings name no usable TLS version (they were checked when the plan was built).
pub fn with_wishes(
    config: &Arc<ServerConfig>,
    wishes: &HandshakeWishes,
    settings: &TlsSettings,
) -> Result<Arc<ServerConfig>, Vec<TlsFault>> {
    let mut changed = match &wishes.client_certificate {
        None => ServerConfig::clone(config),
        Some(names) => {
            let provider = Arc::clone(config.crypto_provider());
            let verifier = AnyClientCertificate {
                names: names.iter().map(|name| DistinguishedName::from(name.clone())).collect(),
                algorithms: provider.signature_verification_algorithms,
            };
            let mut asking = ServerConfig::builder_with_provider(provider)
                .with_protocol_versions(&protocol_versions(&settings.protocols)?)
                .map_err(|error| vec![TlsFault::new("tls.protocols", error.to_string())])?
                .with_client_cert_verifier(Arc::new(verifier))
                .with_cert_resolver(Arc::clone(&config.cert_resolver));
            asking.alpn_protocols.clone_from(&config.alpn_protocols);
            asking.ignore_client_order = config.ignore_client_order;
            asking.ticketer = Arc::clone(&config.ticketer);
            asking.session_storage = Arc::clone(&config.session_storage);
            asking
        }
    };
    if let Some(pair) = &wishes.certificate {
        changed.cert_resolver = Arc::new(SingleCertAndKey::from(Arc::clone(pair)));
    }
    if wishes.no_resumption {
        changed.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
        changed.ticketer = ServerConfig::builder_with_provider(Arc::clone(config.crypto_provider()))
            .with_protocol_versions(&protocol_versions(&settings.protocols)?)
            .map_err(|error| vec![TlsFault::new("tls.protocols", error.to_string())])?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&config.cert_resolver))
            .ticketer;
        changed.send_tls13_tickets = 0;
    }
    if wishes.no_http2 {
        changed.alpn_protocols.retain(|protocol| protocol != ALPN_HTTP2);
    }
    Ok(Arc::new(changed))
}

/// Takes any client certificate without judging it, and a client without one: what it means is a plugin's decision.
#[derive(Debug)]
struct AnyClientCertificate {
    names: Vec<DistinguishedName>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ClientCertVerifier for AnyClientCertificate {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.names
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
