//! What upstream connections demand and present: verification, roots, client certificate, ALPN.
//!
//! Owns the choice between a service's own fields, its upstream's and the node's defaults, and the built
//! configurations. A configuration lives as long as a plan uses it and is shared by all services that ask for the same,
//! also across plans, so sessions towards upstreams survive a change of the plan.

use std::collections::VecDeque;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use rustc_hash::FxHashMap;
use rustls::client::danger::ServerCertVerifier;
use rustls::client::ClientConfig;
use rustls::sign::{CertifiedKey, SingleCertAndKey};

use super::pem::{read_pair, PairPaths, TrustedCertificates};
use super::verify::{AcceptAny, BoundedChain};
use super::{fingerprint, provider, TlsFault, ALPN_HTTP1, ALPN_HTTP2};
use crate::plan::{Plan, ServicePlan, UpstreamPlan};
use crate::settings::TlsSettings;

/// Configurations of plugins' own making that are kept; each request with an older one builds it anew.
const CHANGED_CONFIGS: usize = 64;

/// The protocol offered to the upstream by ALPN.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UpstreamAlpn {
    /// `http/1.1` only.
    Http1,
    /// `h2` only, for gRPC.
    Http2,
    /// No ALPN, for streams.
    Nothing,
}

/// A built configuration with what tells it from others in pool keys.
#[derive(Debug)]
pub struct UpstreamTls {
    /// What rustls needs; name checks use the `ServerName` given to the connection.
    pub config: Arc<ClientConfig>,
    /// Equal for equal verification, depth, roots, client certificate and ALPN: connections may be shared then.
    pub identity: u128,
    /// What it was built from, for requests that change a part of it.
    demands: Demands,
}

/// What one service asks for, after defaults.
#[derive(Clone, Hash)]
struct Demands {
    is_verified: bool,
    max_depth: u8,
    /// Ids and PEM texts; None: the node's bundle.
    ca_certificates: Option<Vec<(String, String)>>,
    client_certificate: Option<ClientPair>,
    alpn: UpstreamAlpn,
}

impl std::fmt::Debug for Demands {
    /// Without certificates and keys.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Demands")
            .field("is_verified", &self.is_verified)
            .field("max_depth", &self.max_depth)
            .field("alpn", &self.alpn)
            .finish_non_exhaustive()
    }
}

#[derive(Clone, Hash)]
struct ClientPair {
    id: String,
    certificate: String,
    key: String,
}

/// What a plugin changed for one request (`kong.service.set_tls_*`); None keeps what the service asks for.
#[derive(Clone, Default)]
pub struct TlsChanges {
    /// Verify the upstream's certificate.
    pub is_verified: Option<bool>,
    /// Longest chain accepted.
    pub max_depth: Option<u8>,
    /// PEM texts of the only CA certificates to trust.
    pub ca_certificates: Option<String>,
    /// Client certificate chain and key, PEM.
    pub client_certificate: Option<(String, String)>,
}

/// The node's defaults and the configurations in use.
#[derive(Debug)]
pub struct ClientTls {
    bundle: Arc<TrustedCertificates>,
    verify_depth: u8,
    client_certificate: Option<Arc<CertifiedKey>>,
    configs: Mutex<FxHashMap<u128, Weak<UpstreamTls>>>,
    /// Configurations that plugins asked for last: no plan holds them.
    changed: Mutex<VecDeque<Arc<UpstreamTls>>>,
}

impl ClientTls {
    /// Read the node's bundle and client certificate; once per process.
    ///
    /// # Errors
    /// All faults of the two at once.
    pub fn new(settings: &TlsSettings) -> Result<Self, Vec<TlsFault>> {
        let mut faults = Vec::new();
        let mut bundle = TrustedCertificates::none();
        if !settings.trusted_certificates.trim().is_empty() {
            let path = "tls.trusted_certificates";
            faults.extend(bundle.add(&settings.trusted_certificates, path).err());
        }
        let mut client_certificate = None;
        if let Some((certificate, key)) = &settings.client_certificate {
            let paths = PairPaths::under("tls.client_certificate", "");
            match read_pair(certificate, key, &paths, &provider()) {
                Ok(pair) => client_certificate = Some(Arc::new(pair)),
                Err(found) => faults.extend(found),
            }
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        Ok(Self {
            bundle: Arc::new(bundle),
            verify_depth: settings.verify_depth,
            client_certificate,
            configs: Mutex::default(),
            changed: Mutex::default(),
        })
    }

    /// The configuration for connections of `service`, reached through `upstream` if its host names one.
    ///
    /// The service's fields come first, then the upstream's client certificate, then the node's settings;
    /// verification is off unless the service turns it on. Call it while a plan is built and keep the result: it is
    /// what holds the configuration alive.
    ///
    /// # Errors
    /// All faults of the certificates that are needed: missing ones, bad PEM, keys that do not fit.
    pub fn config_for(
        &self,
        plan: &Plan,
        service: &ServicePlan,
        upstream: Option<&UpstreamPlan>,
        alpn: UpstreamAlpn,
    ) -> Result<Arc<UpstreamTls>, Vec<TlsFault>> {
        let demands = self.demands_of(plan, service, upstream, alpn)?;
        self.config_of(demands)
    }

    /// The configuration `base` with a plugin's changes.
    ///
    /// # Errors
    /// All faults of the certificates that were given.
    pub fn changed(&self, base: &UpstreamTls, changes: &TlsChanges) -> Result<Arc<UpstreamTls>, Vec<TlsFault>> {
        let mut demands = base.demands.clone();
        demands.is_verified = changes.is_verified.unwrap_or(demands.is_verified);
        demands.max_depth = changes.max_depth.unwrap_or(demands.max_depth);
        if let Some(pem) = &changes.ca_certificates {
            demands.ca_certificates = Some(vec![("given by a plugin".to_owned(), pem.clone())]);
        }
        if let Some((certificate, key)) = &changes.client_certificate {
            let id = "given by a plugin".to_owned();
            demands.client_certificate = Some(ClientPair {
                id,
                certificate: certificate.clone(),
                key: key.clone(),
            });
        }
        let config = self.config_of(demands)?;
        let mut changed = self.changed.lock().unwrap_or_else(PoisonError::into_inner);
        if !changed.iter().any(|known| known.identity == config.identity) {
            if changed.len() >= CHANGED_CONFIGS {
                changed.pop_front();
            }
            changed.push_back(config.clone());
        }
        Ok(config)
    }

    fn config_of(&self, demands: Demands) -> Result<Arc<UpstreamTls>, Vec<TlsFault>> {
        let identity = fingerprint(&demands);
        let known = self.lock_configs().get(&identity).and_then(Weak::upgrade);
        if let Some(known) = known {
            return Ok(known);
        }
        let built = Arc::new(UpstreamTls {
            config: Arc::new(self.build(&demands)?),
            identity,
            demands,
        });
        let mut configs = self.lock_configs();
        configs.retain(|_, config| config.strong_count() > 0);
        configs.insert(identity, Arc::downgrade(&built));
        Ok(built)
    }

    fn lock_configs(&self) -> std::sync::MutexGuard<'_, FxHashMap<u128, Weak<UpstreamTls>>> {
        self.configs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn demands_of(
        &self,
        plan: &Plan,
        service: &ServicePlan,
        upstream: Option<&UpstreamPlan>,
        alpn: UpstreamAlpn,
    ) -> Result<Demands, Vec<TlsFault>> {
        let mut faults = Vec::new();
        let ca_certificates = service.ca_certificates.as_ref().map(|ids| {
            let mut found = Vec::with_capacity(ids.len());
            for id in ids {
                match plan.ca_certificates.get(id) {
                    Some(text) => found.push((id.clone(), text.clone())),
                    None => faults.push(TlsFault::new(
                        format!("services.{}.ca_certificates", service.id),
                        format!("no CA certificate with id {id}"),
                    )),
                }
            }
            found
        });
        let position = service
            .client_certificate
            .or_else(|| upstream.and_then(|upstream| upstream.client_certificate));
        let client_certificate = position.and_then(|position| {
            let found = plan.certificates.get(position);
            if found.is_none() {
                faults.push(TlsFault::new(
                    format!("services.{}.client_certificate", service.id),
                    format!("no certificate at position {position}"),
                ));
            }
            found.map(|certificate| ClientPair {
                id: certificate.id.clone(),
                certificate: certificate.cert.clone(),
                key: certificate.key.clone(),
            })
        });
        if !faults.is_empty() {
            return Err(faults);
        }
        Ok(Demands {
            is_verified: service.tls_verify.unwrap_or(false),
            max_depth: service.tls_verify_depth.unwrap_or(self.verify_depth),
            ca_certificates,
            client_certificate,
            alpn,
        })
    }

    fn build(&self, demands: &Demands) -> Result<ClientConfig, Vec<TlsFault>> {
        let provider = provider();
        let mut faults = Vec::new();
        let verifier: Arc<dyn ServerCertVerifier> = if demands.is_verified {
            let trusted = match &demands.ca_certificates {
                None => Arc::clone(&self.bundle),
                Some(given) => {
                    let mut own = TrustedCertificates::none();
                    for (id, text) in given {
                        faults.extend(own.add(text, &format!("ca_certificates.{id}")).err());
                    }
                    Arc::new(own)
                }
            };
            Arc::new(BoundedChain {
                trusted,
                max_depth: demands.max_depth,
                algorithms: provider.signature_verification_algorithms,
            })
        } else {
            Arc::new(AcceptAny)
        };
        let client_certificate = match &demands.client_certificate {
            None => self.client_certificate.clone(),
            Some(pair) => {
                let paths = PairPaths::under(&format!("certificates.{}", pair.id), "");
                match read_pair(&pair.certificate, &pair.key, &paths, &provider) {
                    Ok(pair) => Some(Arc::new(pair)),
                    Err(found) => {
                        faults.extend(found);
                        None
                    }
                }
            }
        };
        if !faults.is_empty() {
            return Err(faults);
        }
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(rustls::ALL_VERSIONS)
            .map_err(|error| vec![TlsFault::new("tls", error.to_string())])?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut config = match client_certificate {
            None => builder.with_no_client_auth(),
            Some(pair) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(pair))),
        };
        config.alpn_protocols = match demands.alpn {
            UpstreamAlpn::Http1 => vec![ALPN_HTTP1.to_vec()],
            UpstreamAlpn::Http2 => vec![ALPN_HTTP2.to_vec()],
            UpstreamAlpn::Nothing => Vec::new(),
        };
        Ok(config)
    }
}
