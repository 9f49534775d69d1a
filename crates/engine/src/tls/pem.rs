//! Certificates and keys from PEM text.
//!
//! Owns parsing and the check that a key belongs to its certificate. Faults name the field they are in; they never
//! quote the text, which may be a key.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::sign::{CertifiedKey, SigningKey};
use rustls::{InconsistentKeys, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::TlsFault;

/// Where a certificate and its key were written, for faults.
pub(super) struct PairPaths {
    pub(super) certificate: String,
    pub(super) key: String,
}

impl PairPaths {
    pub(super) fn under(prefix: &str, suffix: &str) -> Self {
        Self {
            certificate: format!("{prefix}.cert{suffix}"),
            key: format!("{prefix}.key{suffix}"),
        }
    }
}

/// Read all certificates of a PEM text, in order.
///
/// # Errors
/// The text is no PEM or holds no certificate.
pub(super) fn read_certificates(text: &str, path: &str) -> Result<Vec<CertificateDer<'static>>, TlsFault> {
    let chain = CertificateDer::pem_slice_iter(text.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| TlsFault::new(path, format!("invalid PEM: {error}")))?;
    if chain.is_empty() {
        return Err(TlsFault::new(path, "no certificate found"));
    }
    Ok(chain)
}

/// Read a certificate chain (leaf first) and its key, and check that they belong together.
///
/// # Errors
/// Every fault of the two texts; a key that fits another certificate is a fault of the key.
pub(super) fn read_pair(
    certificate: &str,
    key: &str,
    paths: &PairPaths,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, Vec<TlsFault>> {
    let chain = read_certificates(certificate, &paths.certificate);
    let signing_key = read_key(key, &paths.key).and_then(|der| usable_key(der, paths, provider));
    match (chain, signing_key) {
        (Ok(chain), Ok(signing_key)) => joined(chain, signing_key, paths),
        (chain, signing_key) => Err(chain.err().into_iter().chain(signing_key.err()).collect()),
    }
}

/// Read the first private key of a PEM text.
///
/// # Errors
/// There is none.
pub(super) fn read_key(text: &str, path: &str) -> Result<PrivateKeyDer<'static>, TlsFault> {
    PrivateKeyDer::from_pem_slice(text.as_bytes())
        .map_err(|error| TlsFault::new(path, format!("invalid private key: {error}")))
}

/// A chain and a key that were read, checked to belong together.
///
/// # Errors
/// The key cannot be used, or does not fit.
pub(super) fn certified(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    paths: &PairPaths,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, Vec<TlsFault>> {
    let signing_key = usable_key(key, paths, provider).map_err(|fault| vec![fault])?;
    joined(chain, signing_key, paths)
}

fn usable_key(
    key: PrivateKeyDer<'static>,
    paths: &PairPaths,
    provider: &CryptoProvider,
) -> Result<Arc<dyn SigningKey>, TlsFault> {
    provider
        .key_provider
        .load_private_key(key)
        .map_err(|error| TlsFault::new(&paths.key, format!("invalid private key: {error}")))
}

fn joined(
    chain: Vec<CertificateDer<'static>>,
    signing_key: Arc<dyn SigningKey>,
    paths: &PairPaths,
) -> Result<CertifiedKey, Vec<TlsFault>> {
    let pair = CertifiedKey::new(chain, signing_key);
    match pair.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(pair),
        Err(rustls::Error::InconsistentKeys(_)) => {
            Err(vec![TlsFault::new(&paths.key, "does not match the certificate")])
        }
        Err(error) => Err(vec![TlsFault::new(
            &paths.certificate,
            format!("invalid certificate: {error}"),
        )]),
    }
}

/// What upstream certificates are traced back to.
#[derive(Debug)]
pub(super) struct TrustedCertificates {
    pub(super) anchors: RootCertStore,
    /// The same as given, to recognise a server that presents one of them itself.
    pub(super) certificates: Vec<CertificateDer<'static>>,
}

impl TrustedCertificates {
    pub(super) fn none() -> Self {
        Self {
            anchors: RootCertStore::empty(),
            certificates: Vec::new(),
        }
    }

    /// Add every certificate of a PEM text.
    ///
    /// # Errors
    /// The text is no PEM, holds no certificate, or none of them can be a trust anchor. A bundle may hold some that
    /// cannot: these are left out.
    pub(super) fn add(&mut self, text: &str, path: &str) -> Result<(), TlsFault> {
        let found = read_certificates(text, path)?;
        let (added, _ignored) = self.anchors.add_parsable_certificates(found.iter().cloned());
        if added == 0 {
            return Err(TlsFault::new(path, "no certificate is usable as a trust anchor"));
        }
        self.certificates.extend(found);
        Ok(())
    }
}
