//! What listeners present to clients: one configuration per certificate, found by server name.
//!
//! Built once per plan; parts whose PEM text did not change are taken over from the plan before, because plans change
//! often and parsing keys is slow. Sessions belong to the process (`ServerSessions`), so a new plan forgets none.
//! `listener` reads the ClientHello, asks `ServerTls::config_for` and finishes the handshake with the answer.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use rustc_hash::FxHashMap;
use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, ResolvesServerCert, ServerConfig};
use rustls::sign::CertifiedKey;
use rustls::{SignatureAlgorithm, SupportedProtocolVersion};

use super::pem::{read_pair, PairPaths};
use super::sessions::ServerSessions;
use super::{fingerprint, provider, TlsFault, ALPN_HTTP1, ALPN_HTTP2};
use crate::plan::CertificatePlan;
use crate::settings::TlsSettings;

/// The TLS side of one plan: which configuration each server name gets.
#[derive(Debug)]
pub struct ServerTls {
    /// Lower-case SNI, exact or with one wildcard, to position in `certificates`.
    names: FxHashMap<Box<str>, usize>,
    certificates: Vec<Arc<CertificateConfigs>>,
    default: Arc<CertificateConfigs>,
}

/// The configurations of one certificate; they differ in ALPN only.
#[derive(Debug)]
struct CertificateConfigs {
    fingerprint: u128,
    with_http2: Arc<ServerConfig>,
    http1_only: Arc<ServerConfig>,
    without_alpn: Arc<ServerConfig>,
}

impl ServerTls {
    /// Build the TLS side of a plan, taking over from `previous` what did not change.
    ///
    /// `settings` and `sessions` must be the same for all plans of a process: what is taken over was built with them.
    /// Without default certificates, handshakes that no SNI entry covers are refused.
    ///
    /// # Errors
    /// All faults at once: bad certificates or keys, entries of `snis` without certificate, unknown protocol versions.
    pub fn build(
        certificates: &[CertificatePlan],
        snis: &BTreeMap<String, usize>,
        settings: &TlsSettings,
        sessions: &ServerSessions,
        previous: Option<&Self>,
    ) -> Result<Self, Vec<TlsFault>> {
        let mut faults = Vec::new();
        let builder = ConfigBuilder {
            provider: limited_provider(&settings.cipher_suites).map_err(|fault| vec![fault])?,
            prefers_server_order: settings.prefers_server_order,
            versions: protocol_versions(&settings.protocols).unwrap_or_else(|found| {
                faults.extend(found);
                Vec::new()
            }),
            sessions,
        };
        let built: FxHashMap<u128, &Arc<CertificateConfigs>> = previous
            .into_iter()
            .flat_map(|old| old.certificates.iter().chain([&old.default]))
            .map(|configs| (configs.fingerprint, configs))
            .collect();

        let mut collect = |sources: &[PairSource<'_>]| {
            let pairs: Vec<_> = sources.iter().map(|source| (source.certificate, source.key)).collect();
            let print = fingerprint(&pairs);
            if let Some(configs) = built.get(&print) {
                return Some(Arc::clone(configs));
            }
            match builder.build(print, sources) {
                Ok(configs) => Some(Arc::new(configs)),
                Err(found) => {
                    faults.extend(found);
                    None
                }
            }
        };

        let configs: Vec<_> = certificates
            .iter()
            .filter_map(|certificate| collect(&sources_of(certificate)))
            .collect();
        let default_sources: Vec<_> = settings
            .default_certificates
            .iter()
            .enumerate()
            .map(|(position, (certificate, key))| PairSource {
                certificate,
                key,
                paths: PairPaths::under(&format!("tls.default_certificates[{position}]"), ""),
            })
            .collect();
        let default = collect(&default_sources);

        let mut names = FxHashMap::default();
        for (name, &position) in snis {
            if position >= certificates.len() {
                faults.push(TlsFault::new(
                    format!("snis.{name}"),
                    format!("no certificate at position {position}"),
                ));
            }
            names.insert(name.to_ascii_lowercase().into_boxed_str(), position);
        }
        match default {
            Some(default) if faults.is_empty() => Ok(Self {
                names,
                certificates: configs,
                default,
            }),
            _ => Err(faults),
        }
    }

    /// The configuration for a handshake.
    ///
    /// Looks the name up exactly, then with its leftmost label replaced, then with its rightmost label replaced, then
    /// as `*`; the default certificates serve the rest. `http2` is the listener's flag and adds `h2` to ALPN.
    #[must_use]
    pub fn config_for(&self, sni: Option<&str>, http2: bool) -> Arc<ServerConfig> {
        let configs = sni.and_then(|name| self.find(name)).unwrap_or(&self.default);
        Arc::clone(if http2 {
            &configs.with_http2
        } else {
            &configs.http1_only
        })
    }

    /// The same for a listener of streams, which agrees on no protocol.
    #[must_use]
    pub fn stream_config_for(&self, sni: Option<&str>) -> Arc<ServerConfig> {
        let configs = sni.and_then(|name| self.find(name)).unwrap_or(&self.default);
        Arc::clone(&configs.without_alpn)
    }

    fn find(&self, name: &str) -> Option<&Arc<CertificateConfigs>> {
        if self.names.is_empty() {
            return None;
        }
        let name = if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
            Cow::Owned(name.to_ascii_lowercase())
        } else {
            Cow::Borrowed(name)
        };
        let position = self
            .names
            .get(name.as_ref())
            .or_else(|| {
                let (_, rest) = name.split_once('.')?;
                self.names.get(format!("*.{rest}").as_str())
            })
            .or_else(|| {
                let (first, _) = name.rsplit_once('.')?;
                self.names.get(format!("{first}.*").as_str())
            })
            .or_else(|| self.names.get("*"))?;
        self.certificates.get(*position)
    }
}

/// One PEM pair on its way into a configuration.
struct PairSource<'plan> {
    certificate: &'plan str,
    key: &'plan str,
    paths: PairPaths,
}

fn sources_of(certificate: &CertificatePlan) -> Vec<PairSource<'_>> {
    let prefix = format!("certificates.{}", certificate.id);
    let mut sources = vec![PairSource {
        certificate: &certificate.cert,
        key: &certificate.key,
        paths: PairPaths::under(&prefix, ""),
    }];
    if certificate.cert_alt.is_some() || certificate.key_alt.is_some() {
        sources.push(PairSource {
            certificate: certificate.cert_alt.as_deref().unwrap_or_default(),
            key: certificate.key_alt.as_deref().unwrap_or_default(),
            paths: PairPaths::under(&prefix, "_alt"),
        });
    }
    sources
}

/// The TLS versions of the settings.
pub(super) fn protocol_versions(names: &[String]) -> Result<Vec<&'static SupportedProtocolVersion>, Vec<TlsFault>> {
    let mut versions = Vec::new();
    let mut faults = Vec::new();
    for name in names {
        match name.as_str() {
            "TLSv1.2" => versions.push(&rustls::version::TLS12),
            "TLSv1.3" => versions.push(&rustls::version::TLS13),
            _ => faults.push(TlsFault::new(
                "tls.protocols",
                format!("unknown or unsupported version '{name}', expected TLSv1.2 or TLSv1.3"),
            )),
        }
    }
    if names.is_empty() {
        faults.push(TlsFault::new("tls.protocols", "no protocol version given"));
    }
    if faults.is_empty() {
        Ok(versions)
    } else {
        Err(faults)
    }
}

/// The provider with the suites of TLS 1.2 that are named, in their order, and all of TLS 1.3.
fn limited_provider(names: &[String]) -> Result<Arc<CryptoProvider>, TlsFault> {
    let all = provider();
    let (newer, older): (Vec<_>, Vec<_>) = all
        .cipher_suites
        .iter()
        .copied()
        .partition(|suite| suite.tls13().is_some());
    let mut cipher_suites = newer;
    for name in names {
        let known = older.iter().find(|suite| suite.suite().as_str() == Some(name));
        let text = || format!("unknown or unsupported cipher suite '{name}'");
        cipher_suites.push(*known.ok_or_else(|| TlsFault::new("tls.cipher_suites", text()))?);
    }
    Ok(Arc::new(CryptoProvider {
        cipher_suites,
        ..CryptoProvider::clone(&all)
    }))
}

/// What all configurations of one plan are built with.
struct ConfigBuilder<'plan> {
    provider: Arc<CryptoProvider>,
    /// The server's order of cipher suites counts, not the client's.
    prefers_server_order: bool,
    /// Empty only after a fault in the settings: pairs are then still checked, so that all faults show at once.
    versions: Vec<&'static SupportedProtocolVersion>,
    sessions: &'plan ServerSessions,
}

impl ConfigBuilder<'_> {
    fn build(&self, fingerprint: u128, sources: &[PairSource<'_>]) -> Result<CertificateConfigs, Vec<TlsFault>> {
        let mut faults = Vec::new();
        let mut pairs = Vec::new();
        for source in sources {
            match read_pair(source.certificate, source.key, &source.paths, &self.provider) {
                Ok(pair) => pairs.push(Arc::new(pair)),
                Err(found) => faults.extend(found),
            }
        }
        if !faults.is_empty() || self.versions.is_empty() {
            return Err(faults);
        }
        let mut http1_only = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&self.versions)
            .map_err(|error| vec![TlsFault::new("tls.protocols", error.to_string())])?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(PairChoice::new(pairs)));
        if let Some(ticketer) = &self.sessions.ticketer {
            http1_only.ticketer = Arc::clone(ticketer);
        }
        http1_only.ignore_client_order = self.prefers_server_order;
        http1_only.session_storage = Arc::clone(&self.sessions.storage);
        let without_alpn = http1_only.clone();
        http1_only.alpn_protocols = vec![ALPN_HTTP1.to_vec()];
        let mut with_http2 = http1_only.clone();
        with_http2.alpn_protocols = vec![ALPN_HTTP2.to_vec(), ALPN_HTTP1.to_vec()];
        Ok(CertificateConfigs {
            fingerprint,
            with_http2: Arc::new(with_http2),
            http1_only: Arc::new(http1_only),
            without_alpn: Arc::new(without_alpn),
        })
    }
}

/// Picks, among pairs of different key types, the first that the client can verify.
#[derive(Debug)]
struct PairChoice {
    /// RSA last: the other types sign faster and in fewer bytes.
    pairs: Vec<Arc<CertifiedKey>>,
}

impl PairChoice {
    fn new(mut pairs: Vec<Arc<CertifiedKey>>) -> Self {
        pairs.sort_by_key(|pair| pair.key.algorithm() == SignatureAlgorithm::RSA);
        Self { pairs }
    }
}

impl ResolvesServerCert for PairChoice {
    fn resolve(&self, client_hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let schemes = client_hello.signature_schemes();
        self.pairs
            .iter()
            .find(|pair| pair.key.choose_scheme(schemes).is_some())
            .or_else(|| self.pairs.first())
            .map(Arc::clone)
    }
}
