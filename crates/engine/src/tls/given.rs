//! Certificates that plugins give in the certificate phase: read, checked, and kept for the next handshakes.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::sign::CertifiedKey;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::pem::{certified, read_pair, PairPaths};
use super::{fingerprint, provider, TlsFault};

/// Pairs kept; a node with more certificates in use reads some of them again. Own choice, about 4 KiB each.
const KEPT: usize = 1024;
const PEM_MARK: &[u8] = b"-----BEGIN";

/// The pairs given last.
#[derive(Default)]
pub struct GivenPairs {
    kept: Mutex<VecDeque<(u128, Arc<CertifiedKey>)>>,
}

impl fmt::Debug for GivenPairs {
    /// Without keys.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("GivenPairs").finish_non_exhaustive()
    }
}

impl GivenPairs {
    /// The pair of a chain (PEM, or one certificate in DER) and its key (PEM or DER).
    ///
    /// # Errors
    /// Every fault of the two; a key that does not belong to the certificate.
    pub fn read(&self, chain: &[u8], key: &[u8]) -> Result<Arc<CertifiedKey>, Vec<TlsFault>> {
        let print = fingerprint(&(chain, key));
        if let Some(known) = self.recall(print) {
            return Ok(known);
        }
        let pair = Arc::new(parse(chain, key)?);
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= KEPT {
            kept.pop_front();
        }
        kept.push_back((print, pair.clone()));
        Ok(pair)
    }

    /// Moves what is used to the end, from where it is dropped last.
    fn recall(&self, print: u128) -> Option<Arc<CertifiedKey>> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let at = kept.iter().rposition(|(known, _)| *known == print)?;
        let entry = kept.remove(at)?;
        let pair = entry.1.clone();
        kept.push_back(entry);
        Some(pair)
    }
}

fn parse(chain: &[u8], key: &[u8]) -> Result<CertifiedKey, Vec<TlsFault>> {
    let paths = PairPaths {
        certificate: "certificate".to_owned(),
        key: "key".to_owned(),
    };
    let is_pem = |text: &[u8]| memchr::memmem::find(text, PEM_MARK).is_some();
    let text = |bytes: &[u8], path: &str| {
        String::from_utf8(bytes.to_vec()).map_err(|_| vec![TlsFault::new(path, "neither PEM nor DER")])
    };
    let provider = provider();
    if is_pem(chain) && is_pem(key) {
        let (chain, key) = (text(chain, &paths.certificate)?, text(key, &paths.key)?);
        return read_pair(&chain, &key, &paths, &provider);
    }
    let chain = if is_pem(chain) {
        super::pem::read_certificates(&text(chain, &paths.certificate)?, &paths.certificate)
            .map_err(|fault| vec![fault])?
    } else {
        vec![CertificateDer::from(chain.to_vec())]
    };
    let key = if is_pem(key) {
        super::pem::read_key(&text(key, &paths.key)?, &paths.key).map_err(|fault| vec![fault])?
    } else {
        PrivateKeyDer::try_from(key.to_vec())
            .map_err(|error| vec![TlsFault::new(&paths.key, format!("invalid private key: {error}"))])?
    };
    certified(chain, key, &paths, &provider)
}

#[cfg(test)]
mod tests {
    use super::super::tests::authority;
    use super::*;
    use rustls_pki_types::pem::PemObject;

    #[test]
    fn pem_and_der_are_read_and_kept() {
        let (chain, key) = authority().issue("given.test");
        let pairs = GivenPairs::default();
        let first = pairs.read(chain.as_bytes(), key.as_bytes()).unwrap();
        let again = pairs.read(chain.as_bytes(), key.as_bytes()).unwrap();
        assert!(Arc::ptr_eq(&first, &again));
        let leaf = CertificateDer::from_pem_slice(chain.as_bytes()).unwrap();
        let der_key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        let from_der = pairs.read(&leaf, der_key.secret_der()).unwrap();
        assert_eq!(from_der.cert, first.cert[..1]);
    }

    #[test]
    fn what_does_not_belong_together_or_is_nothing_is_refused() {
        let authority = authority();
        let ((chain, key), (_, other)) = (authority.issue("a.test"), authority.issue("b.test"));
        let pairs = GivenPairs::default();
        let text = |chain: &[u8], key: &[u8]| pairs.read(chain, key).unwrap_err()[0].to_string();
        assert_eq!(
            text(chain.as_bytes(), other.as_bytes()),
            "key: does not match the certificate"
        );
        assert!(text(b"nothing", key.as_bytes()).starts_with("certificate: "));
        assert!(text(chain.as_bytes(), b"nothing").starts_with("key: invalid private key"));
        assert!(pairs.kept.lock().unwrap().is_empty());
    }

    #[test]
    fn no_more_than_the_bound_is_kept() {
        let (chain, key) = authority().issue("a.test");
        let pairs = GivenPairs::default();
        let pair = pairs.read(chain.as_bytes(), key.as_bytes()).unwrap();
        {
            let mut kept = pairs.kept.lock().unwrap();
            kept.clear();
            kept.extend((0..KEPT as u128).map(|print| (print, pair.clone())));
        }
        pairs.read(chain.as_bytes(), key.as_bytes()).unwrap();
        assert_eq!(pairs.kept.lock().unwrap().len(), KEPT);
    }
}
