//! The DNS client: which name servers are asked, for which records in which order, and what their errors mean.
//!
//! The order is a setting. A kind of record that does not exist leads to the next kind; silence does not, since the
//! next question would meet it too. Search domains, `ndots`, timeouts and attempts come from `/etc/resolv.conf` also
//! when other name servers are set. A truncated answer is asked for again over TCP. Keeps nothing: `cache` does.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hickory_resolver::config::{NameServerConfig, NameServerConfigGroup, ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::name_server::TokioConnectionProvider;
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::rdata::SRV;
use hickory_resolver::proto::rr::{RData, RecordType};
use hickory_resolver::proto::xfer::Protocol;
use hickory_resolver::proto::ProtoErrorKind;
use hickory_resolver::TokioResolver;
use tokio::task::JoinSet;

use super::{Record, RecordKind, ResolveError, ResolverFault, ServiceRecord, TimedAnswer};
use crate::settings::{DnsOrder, DnsSettings};

const DNS_PORT: u16 = 53;

/// Most hosts of one SRV answer that are asked for in their turn; a larger answer loses the rest, with a warning.
const MOST_SRV_HOSTS: usize = 128;

/// Asks name servers.
#[derive(Debug)]
pub(super) struct DnsClient {
    resolver: TokioResolver,
    order: Vec<DnsOrder>,
}

impl DnsClient {
    /// Use the set name servers, or the system's when there is none.
    pub(super) fn new(settings: &DnsSettings) -> Result<Self, ResolverFault> {
        let name_servers = &settings.resolvers;
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
        options.use_hosts_file = ResolveHosts::Never;
        options.cache_size = 0;
        let resolver = TokioResolver::builder_with_config(config, TokioConnectionProvider::default())
            .with_options(options)
            .build();
        Ok(Self {
            resolver,
            order: settings.order.clone(),
        })
    }

    /// Ask for the records of `host`, of the `wanted` kind or in the set order; `last` is the kind that answered the last
    /// time.
    pub(super) async fn query(&self, host: &str, wanted: Option<RecordKind>, last: Option<RecordKind>) -> TimedAnswer {
        let mut failure = ResolveError::NotFound;
        let asked = wanted.map_or_else(|| kinds(&self.order, last), |kind| vec![kind]);
        for kind in asked {
            match self.query_kind(host, kind).await {
                Ok((records, ttl)) => {
                    return TimedAnswer {
                        answer: Ok(records.into()),
                        kind: Some(kind),
                        ttl,
                    }
                }
                Err(Failure::NoSuchRecord) => {}
                Err(Failure::Refused(error)) => failure = error,
                Err(Failure::Silence(error)) => {
                    failure = error;
                    break;
                }
            }
        }
        TimedAnswer {
            answer: Err(failure),
            kind: None,
            ttl: Duration::ZERO,
        }
    }

    async fn query_kind(&self, host: &str, kind: RecordKind) -> Result<(Vec<Record>, Duration), Failure> {
        match kind {
            RecordKind::A | RecordKind::Aaaa => {
                let (addresses, ttl) = query_addresses(&self.resolver, host, kind).await?;
                Ok((addresses.into_iter().map(Record::plain).collect(), ttl))
            }
            RecordKind::Srv => self.query_services(host).await,
        }
    }

    /// SRV records of the lowest priority number, each with the addresses of the host it names.
    async fn query_services(&self, host: &str) -> Result<(Vec<Record>, Duration), Failure> {
        let found = self.resolver.lookup(host, RecordType::SRV).await.map_err(classify)?;
        let mut ttl = found.valid_until().saturating_duration_since(Instant::now());
        let services: Vec<&SRV> = found.iter().filter_map(RData::as_srv).collect();
        let lowest = services.iter().map(|service| service.priority()).min();
        // A root target says that there is no such service (RFC 2782).
        let chosen = services
            .into_iter()
            .filter(|service| Some(service.priority()) == lowest && !service.target().is_root());
        let mut hosts = JoinSet::new();
        let mut is_cut = false;
        for (position, service) in chosen.enumerate() {
            if position == MOST_SRV_HOSTS {
                is_cut = true;
                break;
            }
            let service_record = ServiceRecord {
                name: service.target().to_ascii().trim_end_matches('.').to_owned(),
                port: Some(service.port()).filter(|port| *port != 0),
                weight: u32::from(service.weight().max(1)),
            };
            let resolver = self.resolver.clone();
            let host = service.target().to_ascii();
            let order = self.order.clone();
            hosts.spawn(async move { (position, service_record, query_host(&resolver, &host, &order).await) });
        }
        if is_cut {
            tracing::warn!(
                host,
                most = MOST_SRV_HOSTS,
                "SRV answer has too many hosts, the rest is left out"
            );
        }
        let mut answers = Vec::with_capacity(hosts.len());
        while let Some(joined) = hosts.join_next().await {
            answers.extend(joined.ok());
        }
        answers.sort_by_key(|(position, ..)| *position);
        let mut records = Vec::new();
        let mut failure = Failure::NoSuchRecord;
        for (_, service, answer) in answers {
            match answer {
                Ok((addresses, host_ttl)) => {
                    ttl = ttl.min(host_ttl);
                    let service = Arc::new(service);
                    records.extend(addresses.into_iter().map(|address| Record {
                        address,
                        service: Some(Arc::clone(&service)),
                    }));
                }
                Err(error) => failure = error,
            }
        }
        if records.is_empty() {
            return Err(failure);
        }
        Ok((records, ttl))
    }
}

/// The kinds to ask for, in order, none twice.
fn kinds(order: &[DnsOrder], last: Option<RecordKind>) -> Vec<RecordKind> {
    let mut kinds = Vec::with_capacity(order.len());
    for step in order {
        let kind = match step {
            DnsOrder::Last => last,
            DnsOrder::Srv => Some(RecordKind::Srv),
            DnsOrder::A => Some(RecordKind::A),
            DnsOrder::Aaaa => Some(RecordKind::Aaaa),
        };
        if let Some(kind) = kind.filter(|kind| !kinds.contains(kind)) {
            kinds.push(kind);
        }
    }
    kinds
}

/// The addresses of the host that an SRV record names.
async fn query_host(
    resolver: &TokioResolver,
    host: &str,
    order: &[DnsOrder],
) -> Result<(Vec<IpAddr>, Duration), Failure> {
    let mut failure = Failure::NoSuchRecord;
    for kind in kinds(order, None) {
        if kind == RecordKind::Srv {
            continue;
        }
        match query_addresses(resolver, host, kind).await {
            Ok(found) => return Ok(found),
            Err(Failure::NoSuchRecord) => {}
            Err(Failure::Refused(error)) => failure = Failure::Refused(error),
            Err(silence) => return Err(silence),
        }
    }
    Err(failure)
}

async fn query_addresses(
    resolver: &TokioResolver,
    host: &str,
    kind: RecordKind,
) -> Result<(Vec<IpAddr>, Duration), Failure> {
    let record_type = if kind == RecordKind::Aaaa {
        RecordType::AAAA
    } else {
        RecordType::A
    };
    let found = resolver.lookup(host, record_type).await.map_err(classify)?;
    let ttl = found.valid_until().saturating_duration_since(Instant::now());
    let addresses: Vec<IpAddr> = found.iter().filter_map(RData::ip_addr).collect();
    if addresses.is_empty() {
        return Err(Failure::NoSuchRecord);
    }
    Ok((addresses, ttl))
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

/// How asking for one kind of records failed.
enum Failure {
    /// The name does not exist or has no such records.
    NoSuchRecord,
    /// An answer that says why not.
    Refused(ResolveError),
    /// No answer.
    Silence(ResolveError),
}

fn classify(error: hickory_resolver::ResolveError) -> Failure {
    let Some(protocol_error) = error.proto() else {
        return Failure::Silence(ResolveError::Other(error.to_string().into()));
    };
    match protocol_error.kind() {
        ProtoErrorKind::NoRecordsFound { response_code, .. } => match response_code {
            ResponseCode::NXDomain | ResponseCode::NoError => Failure::NoSuchRecord,
            code => {
                let text = code.to_str().to_ascii_lowercase();
                let text = format!("dns server error: {} {text}", u16::from(*code));
                Failure::Refused(ResolveError::Other(text.into()))
            }
        },
        ProtoErrorKind::NoConnections => Failure::Silence(ResolveError::Other("no name server available".into())),
        ProtoErrorKind::Timeout => Failure::Silence(ResolveError::Other("timeout".into())),
        _ => Failure::Silence(ResolveError::Other(protocol_error.to_string().into())),
    }
}
