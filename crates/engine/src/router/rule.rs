//! What a route asks for, as plain data, and the faults found while compiling it.
//!
//! The caller fills `RouteRule` from the route entities of a plan; this module neither reads nor
//! stores entities. Attribute rules (which wildcards are legal, which paths are normal) are the
//! schema's; only what would make a rule impossible to compile is reported here.

use std::net::IpAddr;

use ipnet::IpNet;

/// What is said of an expression in another flavour.
pub(super) const EXPRESSIONS_UNKNOWN: &str = "expressions are only known with router_flavor = expressions";

/// The order in which routes are tried, named as in the `router_flavor` setting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Flavor {
    /// One number per route made of its attributes; ties go to the greater UUID.
    #[default]
    TraditionalCompatible,
    /// Categories of attributes, then the older route.
    Traditional,
    /// Expressions by their own priority, then as `traditional_compatible`.
    Expressions,
}

impl Flavor {
    /// Reads the setting's text; `None` when it is no flavour.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "traditional_compatible" => Some(Self::TraditionalCompatible),
            "traditional" => Some(Self::Traditional),
            "expressions" => Some(Self::Expressions),
            _ => None,
        }
    }
}

/// How the service's path and the request's path are joined.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PathHandling {
    /// Joined with exactly one slash between them.
    #[default]
    V0,
    /// Concatenated; honoured by the `traditional` flavour only.
    V1,
}

impl Flavor {
    /// The path handling in force: only `traditional` knows `v1`.
    pub fn effective_path_handling(self, configured: PathHandling) -> PathHandling {
        match self {
            Self::TraditionalCompatible | Self::Expressions => PathHandling::V0,
            Self::Traditional => configured,
        }
    }
}

/// An address and a port, both of which must fit where they are given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressRule {
    /// Network or single address.
    pub network: Option<IpNet>,
    /// Port.
    pub port: Option<u16>,
}

impl AddressRule {
    /// Whether an address fits; one that is not known fits nothing.
    pub(super) fn accepts(&self, address: Option<IpAddr>, port: Option<u16>) -> bool {
        self.network
            .is_none_or(|network| address.is_some_and(|address| network.contains(&address)))
            && self.port.is_none_or(|wanted| port == Some(wanted))
    }
}

/// The matching half of one route entity. An empty list means the attribute is not configured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteRule {
    /// The route's UUID in lower-case text form.
    pub id: String,
    /// Creation time in seconds; older routes win ties in the `traditional` flavour.
    pub created_at: i64,
    /// Upper-case methods.
    pub methods: Vec<String>,
    /// Host names, optionally with a leading or trailing `*` and a port. `Some` of an empty list
    /// (possible in declarative files) is no attribute but still counts as "plain hosts only".
    pub hosts: Option<Vec<String>>,
    /// Plain prefixes, or regular expressions after a `~`.
    pub paths: Vec<String>,
    /// Header name to accepted values; a value starting `~*` is a regular expression.
    pub headers: Vec<(String, Vec<String>)>,
    /// Server names, optionally with a leading or trailing `*` (not in `traditional`).
    pub snis: Vec<String>,
    /// Order among routes with regular-expression paths, higher first.
    pub regex_priority: i64,
    /// Client addresses (`expressions` only).
    pub sources: Vec<AddressRule>,
    /// Listener addresses (`expressions` only).
    pub destinations: Vec<AddressRule>,
    /// The expression that stands for all attributes (`expressions` only).
    pub expression: Option<String>,
    /// Order among routes with expressions, higher first.
    pub priority: u64,
    /// Protocols served; a criterion in `expressions` only.
    pub protocols: Vec<String>,
    /// Whether the matched path text is removed before the request goes upstream.
    pub strip_path: bool,
    /// How the upstream path is joined.
    pub path_handling: PathHandling,
}

impl RouteRule {
    /// The configured hosts, none when the attribute is absent.
    pub(super) fn host_names(&self) -> &[String] {
        self.hosts.as_deref().unwrap_or_default()
    }

    /// Whether `hosts` is given and holds no wildcard.
    pub(super) fn has_only_plain_hosts(&self) -> bool {
        self.hosts
            .as_ref()
            .is_some_and(|hosts| hosts.iter().all(|host| !host.contains('*')))
    }
}

/// One reason why a set of rules cannot become a router.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouterFault {
    /// Position of the route in the rules given to `Router::build`.
    pub route: usize,
    /// The field at fault, for example `paths[1]` or `headers.x-version[0]`.
    pub field: String,
    /// What is wrong with it.
    pub message: String,
}
