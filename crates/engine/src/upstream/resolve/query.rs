//! The DNS client: which name servers are asked, for which records, and what their errors mean.
//!
//! Asks for A and, where there is none, for AAAA. Search domains, `ndots`, timeouts and attempts come from
//! `/etc/resolv.conf` also when other name servers are set. Keeps nothing: `cache` does.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use hickory_resolver::config::{
    LookupIpStrategy, NameServerConfig, NameServerConfigGroup, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::name_server::TokioConnectionProvider;
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::xfer::Protocol;
use hickory_resolver::proto::ProtoErrorKind;
use hickory_resolver::TokioResolver;

use super::{ResolveError, ResolverFault, TimedAnswer};

const DNS_PORT: u16 = 53;

/// Asks name servers.
#[derive(Debug)]
pub(super) struct DnsClient {
    resolver: TokioResolver,
}

impl DnsClient {
    /// Use `name_servers`, or the system's when there is none.
    pub(super) fn new(name_servers: &[String]) -> Result<Self, ResolverFault> {
        let (mut config, mut options) = match hickory_resolver::system_conf::read_system_conf() {
            Ok(system) => system,
            Err(error) => {
                tracing::warn!(%error, "/etc/resolv.conf not read");
                (ResolverConfig::new(), ResolverOpts::default())
            }
        };
        if !name_servers.is_empty() {
            let mut group = NameServerConfigGroup::with_capacity(name_servers.len() * 2);
            for text in name_servers {
                let address = parse_name_server(text).ok_or_else(|| ResolverFault::InvalidNameServer(text.clone()))?;
                for protocol in [Protocol::Udp, Protocol::Tcp] {
                    group.push(NameServerConfig::new(address, protocol));
                }
            }
            config = ResolverConfig::from_parts(config.domain().cloned(), config.search().to_vec(), group);
        }
        options.ip_strategy = LookupIpStrategy::Ipv4thenIpv6;
        options.use_hosts_file = ResolveHosts::Never;
        options.cache_size = 0;
        let resolver = TokioResolver::builder_with_config(config, TokioConnectionProvider::default())
            .with_options(options)
            .build();
        Ok(Self { resolver })
    }

    /// Ask for the addresses of `host`.
    pub(super) async fn query(&self, host: &str) -> TimedAnswer {
        match self.resolver.lookup_ip(host).await {
            Ok(found) => {
                let ttl = found.valid_until().saturating_duration_since(Instant::now());
                let addresses: Vec<IpAddr> = found.iter().collect();
                TimedAnswer {
                    answer: if addresses.is_empty() {
                        Err(ResolveError::NotFound)
                    } else {
                        Ok(addresses.into())
                    },
                    ttl,
                }
            }
            Err(error) => TimedAnswer {
                answer: Err(classify(&error)),
                ttl: Duration::ZERO,
            },
        }
    }
}

/// `ip`, `ip:port`, `[ipv6]` or `[ipv6]:port`.
fn parse_name_server(text: &str) -> Option<SocketAddr> {
    let bare = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(text);
    if let Ok(address) = bare.parse::<IpAddr>() {
        return Some(SocketAddr::new(address, DNS_PORT));
    }
    text.parse().ok()
}

fn classify(error: &hickory_resolver::ResolveError) -> ResolveError {
    let Some(protocol_error) = error.proto() else {
        return ResolveError::Other(error.to_string().into());
    };
    match protocol_error.kind() {
        ProtoErrorKind::NoRecordsFound { response_code, .. } => match response_code {
            ResponseCode::NXDomain | ResponseCode::NoError => ResolveError::NotFound,
            code => {
                let text = code.to_str().to_ascii_lowercase();
                ResolveError::Other(format!("dns server error: {} {text}", u16::from(*code)).into())
            }
        },
        ProtoErrorKind::NoConnections => ResolveError::Other("no name server available".into()),
        ProtoErrorKind::Timeout => ResolveError::Other("timeout".into()),
        _ => ResolveError::Other(protocol_error.to_string().into()),
    }
}
