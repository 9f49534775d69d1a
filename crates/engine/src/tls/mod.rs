//! TLS on both sides: what listeners present to clients and what upstream connections demand of servers.
//!
//! `server` chooses and builds the listeners' configurations, `client` those of upstream connections, `pem` reads
//! certificates and keys for both. Nothing here does I/O or sees a socket: `listener` runs the handshakes with clients,
//! `upstream::connect` those with upstreams. One cryptographic provider serves the whole process.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, LazyLock};

use rustls::crypto::CryptoProvider;

pub mod client;
pub mod given;
pub mod negotiated;
mod pem;
pub mod server;
pub mod sessions;
mod verify;
pub mod wishes;

#[cfg(test)]
pub(crate) mod tests;

/// ALPN name of HTTP/1.1.
pub const ALPN_HTTP1: &[u8] = b"http/1.1";
/// ALPN name of HTTP/2.
pub const ALPN_HTTP2: &[u8] = b"h2";

/// One thing that is wrong with certificates, keys or TLS settings.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {message}")]
pub struct TlsFault {
    /// Where: `certificates.<id>.key`, `snis.<name>`, `ca_certificates.<id>`, `tls.<setting>`.
    pub path: String,
    /// What, without the path; never holds key material.
    pub message: String,
}

impl TlsFault {
    fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            message: message.into(),
        }
    }
}

/// The process's cryptographic provider.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> =
        LazyLock::new(|| Arc::new(rustls::crypto::ring::default_provider()));
    Arc::clone(&PROVIDER)
}

/// 128 bits that stand for a value's content, so that what is unchanged in a new plan is recognised.
///
/// Equal content gives equal bits within one process; it is not a cryptographic digest, plans are trusted input.
fn fingerprint(content: &impl Hash) -> u128 {
    let half = |seed: u8| {
        let mut hasher = DefaultHasher::new();
        seed.hash(&mut hasher);
        content.hash(&mut hasher);
        u128::from(hasher.finish())
    };
    (half(1) << 64) | half(2)
}
