//! The plan: what the engine is told to do, as compiled from one snapshot.
//!
//! Owns the wire form (JSON, written by `headgate.policy.compile`) and nothing else: building routers, TLS contexts
//! and balancers from it is `state.rs`. A plan is immutable; a changed configuration is a new plan with a higher
//! revision. Fields are the entity's own (reference: entities), times are integer milliseconds.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use serde::de::Error;
use serde::{Deserialize, Deserializer};

use crate::router::{Flavor, PathHandling};
use crate::upstream::health::Thresholds;

/// Everything a worker serves, in one document.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Grows with every snapshot; shown by the Admin API.
    pub revision: u64,
    /// `traditional`, `traditional_compatible` or `expressions`.
    #[serde(default)]
    pub router_flavor: Flavor,
    /// Bits of the phases (see `phase::Phase`) that have handlers in global instances: `certificate` and `rewrite`
    /// for every request, the response phases for requests that end before a route's chain was chosen.
    #[serde(default)]
    pub global_phases: u32,
    /// The same for streams: `certificate`, and `log` for sessions that end before a route's chain was chosen.
    #[serde(default)]
    pub stream_global_phases: u32,
    /// Routes of the HTTP protocols, then those of streams; the position is the route's index everywhere.
    #[serde(default)]
    pub routes: Vec<RoutePlan>,
    /// Services; routes refer to them by position.
    #[serde(default)]
    pub services: Vec<ServicePlan>,
    /// Upstreams; found by name from a service's host.
    #[serde(default)]
    pub upstreams: Vec<UpstreamPlan>,
    /// Certificates; SNIs, services and upstreams refer to them by position.
    #[serde(default)]
    pub certificates: Vec<CertificatePlan>,
    /// SNI name (exact, `*.name`, `name.*` or `*`) to position in `certificates`.
    #[serde(default)]
    pub snis: BTreeMap<String, usize>,
    /// CA certificates by id, as PEM.
    #[serde(default)]
    pub ca_certificates: BTreeMap<String, String>,
}

/// What makes a plan of the one in force; whatever it does not name stays.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanChange {
    /// Revision of the plan that it changes.
    pub base: u64,
    /// Revision of the plan that comes of it.
    pub revision: u64,
    /// As in [`Plan`].
    pub global_phases: u32,
    /// Routes of HTTP by their position, in ascending order: in place of the one that is there, or behind the last one.
    pub routes: Vec<(usize, RoutePlan)>,
    /// How many routes of HTTP there are then; those behind are gone. Routes of streams stay, and follow them.
    pub route_count: usize,
}

/// One route and what its plugins need.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoutePlan {
    /// Entity id.
    pub id: String,
    /// Entity name.
    #[serde(default)]
    pub name: Option<String>,
    /// Unix seconds; decides ties in the traditional flavour.
    #[serde(default)]
    pub created_at: i64,
    /// Protocols served, e.g. `["http", "https"]`.
    pub protocols: Vec<String>,
    /// Methods, upper case.
    #[serde(default)]
    pub methods: Option<Vec<String>>,
    /// Hosts, exact or with one wildcard.
    #[serde(default)]
    pub hosts: Option<Vec<String>>,
    /// Paths; a leading `~` marks a regular expression.
    #[serde(default)]
    pub paths: Option<Vec<String>>,
    /// Header name to accepted values.
    #[serde(default)]
    pub headers: Option<BTreeMap<String, Vec<String>>>,
    /// TLS server names.
    #[serde(default)]
    pub snis: Option<Vec<String>>,
    /// Client addresses; of HTTP routes in the `expressions` flavour only.
    #[serde(default)]
    pub sources: Option<Vec<AddressPlan>>,
    /// Listener addresses; of HTTP routes in the `expressions` flavour only.
    #[serde(default)]
    pub destinations: Option<Vec<AddressPlan>>,
    /// Stands for all attributes; `expressions` flavour only.
    #[serde(default)]
    pub expression: Option<String>,
    /// Order among expressions, higher first.
    #[serde(default)]
    pub priority: u64,
    /// Order among regular-expression paths.
    #[serde(default)]
    pub regex_priority: i64,
    /// Remove the matched prefix before proxying.
    #[serde(default = "yes")]
    pub strip_path: bool,
    /// `v0` or `v1`.
    #[serde(default)]
    pub path_handling: PathHandling,
    /// Keep the client's Host.
    #[serde(default)]
    pub preserve_host: bool,
    /// Answer of an https-only route to a plain request.
    #[serde(default = "upgrade_required")]
    pub https_redirect_status_code: u16,
    /// False: the request body is never held back or replayed.
    #[serde(default = "yes")]
    pub request_buffering: bool,
    /// True: the response is read ahead of a slow client, so that the upstream is free sooner.
    #[serde(default = "yes")]
    pub response_buffering: bool,
    /// Position in `services`; None for a route that a plugin must answer.
    #[serde(default)]
    pub service: Option<usize>,
    /// Bits of the phases that any instance which may apply to this route has.
    #[serde(default)]
    pub phases: u32,
}

/// An address, a port, or both.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddressPlan {
    /// Network; written as such or as a single address.
    #[serde(default, deserialize_with = "network")]
    pub ip: Option<IpNet>,
    /// Port.
    #[serde(default)]
    pub port: Option<u16>,
}

impl RoutePlan {
    /// The route is for streams.
    #[must_use]
    pub fn is_stream(&self) -> bool {
        let is_of_streams = |protocol: &String| matches!(protocol.as_str(), "tcp" | "tls" | "tls_passthrough" | "udp");
        self.protocols.iter().any(is_of_streams)
    }
}

/// A service: what is called.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServicePlan {
    /// Entity id.
    pub id: String,
    /// Entity name.
    #[serde(default)]
    pub name: Option<String>,
    /// `http`, `https`, `grpc`, `grpcs`, `ws` or `wss`; for streams `tcp`, `tls`, `tls_passthrough` or `udp`.
    pub protocol: String,
    /// Host name, IP address, or name of an upstream.
    pub host: String,
    /// Port, ignored when `host` names an upstream.
    pub port: u16,
    /// Base path.
    #[serde(default)]
    pub path: Option<String>,
    /// Additional attempts after the first.
    #[serde(default = "five")]
    pub retries: u32,
    /// Time to establish a connection.
    #[serde(default = "minute")]
    pub connect_timeout_ms: u64,
    /// Time between two writes.
    #[serde(default = "minute")]
    pub write_timeout_ms: u64,
    /// Time between two reads.
    #[serde(default = "minute")]
    pub read_timeout_ms: u64,
    /// Verify the upstream's certificate; None: the node's default.
    #[serde(default)]
    pub tls_verify: Option<bool>,
    /// Longest chain accepted; None: the node's default.
    #[serde(default)]
    pub tls_verify_depth: Option<u8>,
    /// Ids in `ca_certificates`; None: the node's bundle.
    #[serde(default)]
    pub ca_certificates: Option<Vec<String>>,
    /// Client certificate, position in `certificates`.
    #[serde(default)]
    pub client_certificate: Option<usize>,
}

/// A virtual host that balances over targets.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpstreamPlan {
    /// Entity id.
    pub id: String,
    /// The name that services use as host.
    pub name: String,
    /// Balancing algorithm.
    #[serde(default)]
    pub algorithm: AlgorithmPlan,
    /// What is hashed.
    #[serde(default)]
    pub hash_on: HashInput,
    /// What is hashed when a request has nothing for `hash_on`.
    #[serde(default)]
    pub hash_fallback: HashInput,
    /// Points of the ring.
    #[serde(default)]
    pub slots: u32,
    /// The cookie of sticky sessions.
    #[serde(default)]
    pub sticky_cookie: Option<CookiePlan>,
    /// Host header to send instead of the target's name.
    #[serde(default)]
    pub host_header: Option<String>,
    /// Send the name that an SRV record points to as Host.
    #[serde(default)]
    pub use_srv_name: bool,
    /// Client certificate, position in `certificates`.
    #[serde(default)]
    pub client_certificate: Option<usize>,
    /// Targets with their weights; weight 0 is never picked.
    #[serde(default)]
    pub targets: Vec<TargetPlan>,
    /// What traffic says about health; None: health checks are off and nothing is ever marked.
    #[serde(default)]
    pub passive_checks: Option<PassiveChecksPlan>,
    /// Nothing is sent unless more than this part of the weight is available.
    #[serde(default)]
    pub health_threshold_percent: f64,
    /// Limits of what this upstream may hold of a worker.
    #[serde(default)]
    pub circuit_breaking: CircuitBreakingPlan,
}

/// The balancing algorithms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AlgorithmPlan {
    /// In turn, by weight.
    #[default]
    RoundRobin,
    /// By the hash of something in the request.
    ConsistentHashing,
    /// Where the fewest requests are on their way.
    LeastConnections,
    /// Where answers come soonest.
    Latency,
    /// Where the session was before.
    StickySessions,
}

/// What is hashed (reference: balancing 2.2).
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(tag = "input", rename_all = "snake_case", deny_unknown_fields)]
pub enum HashInput {
    /// Nothing.
    #[default]
    None,
    /// Id of the consumer, else of the credential.
    Consumer,
    /// Client address after real-IP processing.
    Ip,
    /// Value of a header.
    Header {
        /// Its name.
        name: String,
    },
    /// Value of a cookie, which is made when it is missing.
    Cookie(CookiePlan),
    /// Normalised path.
    Path,
    /// Value of a query argument.
    QueryArg {
        /// Its name.
        name: String,
    },
    /// Capture of the route's path.
    UriCapture {
        /// Its name or number.
        name: String,
    },
}

/// A cookie that the gateway sets.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CookiePlan {
    /// Name.
    pub name: String,
    /// Path.
    pub path: String,
}

/// Health by traffic.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PassiveChecksPlan {
    /// When the state changes.
    pub thresholds: Thresholds,
    /// Statuses that are successes.
    pub healthy_statuses: Vec<u16>,
    /// Statuses that are failures.
    pub unhealthy_statuses: Vec<u16>,
}

/// Limits of one upstream on one worker; all off by default.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CircuitBreakingPlan {
    /// Requests on their way at a time.
    #[serde(default)]
    pub max_connections: Option<u32>,
    /// Requests that wait for one of these.
    #[serde(default)]
    pub max_pending_requests: u32,
    /// Requests on their way that are retries.
    #[serde(default)]
    pub max_concurrent_retries: Option<u32>,
    /// Putting an address out after failures in a row.
    #[serde(default)]
    pub outlier_ejection: Option<OutlierEjectionPlan>,
}

/// When an address is put out, and for how long.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutlierEjectionPlan {
    /// Failures in a row (5xx, no connection, no answer).
    pub consecutive_failures: u32,
    /// Time out of use, times the number of ejections so far.
    pub ejection_time_ms: u64,
    /// Most addresses out at a time.
    pub max_ejected_percent: u32,
}

/// One target of an upstream.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TargetPlan {
    /// Host name or IP address, without brackets.
    pub host: Arc<str>,
    /// Port.
    pub port: u16,
    /// Relative share, 0 to 65535.
    pub weight: u32,
}

/// A certificate with its key and, when given, a second pair of another key type.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertificatePlan {
    /// Entity id.
    pub id: String,
    /// PEM chain, leaf first.
    pub cert: String,
    /// PEM key.
    pub key: String,
    /// PEM chain of the other key type.
    #[serde(default)]
    pub cert_alt: Option<String>,
    /// PEM key of `cert_alt`.
    #[serde(default)]
    pub key_alt: Option<String>,
}

fn network<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<IpNet>, D::Error> {
    let Some(text) = Option::<String>::deserialize(deserializer)? else {
        return Ok(None);
    };
    let single = |_| text.parse::<IpAddr>().map(IpNet::from);
    text.parse()
        .or_else(single)
        .map(Some)
        .map_err(|_| D::Error::custom(format!("'{text}' is neither an address nor a network")))
}

fn yes() -> bool {
    true
}

fn upgrade_required() -> u16 {
    426
}

fn five() -> u32 {
    5
}

fn minute() -> u64 {
    60_000
}
