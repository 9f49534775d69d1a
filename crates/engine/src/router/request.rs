//! What a lookup is given and what it gives back.

use std::net::IpAddr;

use super::rule::PathHandling;

/// The request's headers, as far as routes need them.
pub trait HeaderLookup {
    /// Calls `visit` with each value of the header until `visit` returns false.
    ///
    /// `name_lower_dashed` is lower case with dashes. Implementations compare names without regard
    /// to case and take `_` for `-`.
    fn values(&self, name_lower_dashed: &str, visit: &mut dyn FnMut(&[u8]) -> bool);
}

/// The parts of one request that select a route.
#[derive(Clone, Copy)]
pub struct RequestKey<'a> {
    /// The method as received.
    pub method: &'a str,
    /// The Host header as received, with its port if any; empty when absent.
    pub host: &'a str,
    /// The path without query after [`super::path::normalize`].
    pub path: &'a [u8],
    /// The query string as received, without `?`.
    pub query: &'a [u8],
    /// The client's address after real-IP processing, and its port.
    pub client: Option<(IpAddr, u16)>,
    /// The address that was connected to.
    pub listener_ip: Option<IpAddr>,
    /// The server name of the TLS handshake.
    pub sni: Option<&'a str>,
    /// Whether the connection is encrypted.
    pub is_tls: bool,
    /// The listener's port after `port_maps`.
    pub listener_port: u16,
    /// The request's headers.
    pub headers: &'a dyn HeaderLookup,
}

/// The route that answers a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteMatch {
    /// Position of the route in the rules given to `Router::build`.
    pub route: usize,
    /// How many bytes of the path the route's `paths` matched; `None` for a route without paths.
    pub matched_prefix_len: Option<usize>,
    /// Whether the matched text is to be removed from the upstream path.
    pub strip_path: bool,
    /// The path handling in force for this route.
    pub path_handling: PathHandling,
    /// The groups of the regular expression that matched; `None` when it has no groups.
    pub captures: Option<Captures>,
}

/// Text captured by the regular expression of a path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Captures {
    /// Groups by number. Number 0 is the whole match, `None` in the `traditional` flavour, which
    /// does not expose it; other groups are `None` when they took no part in the match.
    pub unnamed: Vec<Option<Vec<u8>>>,
    /// Named groups in order of appearance.
    pub named: Vec<(String, Option<Vec<u8>>)>,
}
