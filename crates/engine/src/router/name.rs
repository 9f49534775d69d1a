//! Names with one optional wildcard (hosts, server names) and the split of a Host into name and
//! port, which the two flavours do differently.

use super::rule::Flavor;

/// A configured name: exact, or a text at one end when the other end is `*`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum NamePattern {
    Exact(Vec<u8>),
    /// `*.a.com`: ends with `.a.com`.
    Suffix(Vec<u8>),
    /// `a.*`: begins with `a.`.
    Prefix(Vec<u8>),
}

impl NamePattern {
    /// Reads a configured name.
    ///
    /// # Errors
    /// The text of the fault when the wildcard is not at one end or not alone.
    pub(super) fn parse(name: &str) -> Result<Self, String> {
        match name.matches('*').count() {
            0 => Ok(Self::Exact(name.into())),
            1 => name
                .strip_prefix('*')
                .map(|suffix| Self::Suffix(suffix.into()))
                .or_else(|| name.strip_suffix('*').map(|prefix| Self::Prefix(prefix.into())))
                .ok_or_else(|| "invalid wildcard: must be placed at leftmost or rightmost label".into()),
            _ => Err("invalid wildcard: must have at most one wildcard".into()),
        }
    }

    /// Whether `name` matches.
    pub(super) fn accepts(&self, name: &[u8]) -> bool {
        match self {
            Self::Exact(exact) => name == exact.as_slice(),
            Self::Suffix(suffix) => name.ends_with(suffix),
            Self::Prefix(prefix) => name.starts_with(prefix),
        }
    }
}

/// A host name and the port that was written with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct HostAndPort<'a> {
    pub(super) name: &'a str,
    pub(super) port: Option<u16>,
}

/// Splits a Host header or a configured host.
///
/// `traditional_compatible` splits at the first `:` when a number follows and knows nothing of
/// IPv6; `traditional` takes the brackets off an IPv6 address.
pub(super) fn split_port(flavor: Flavor, host: &str) -> HostAndPort<'_> {
    if flavor == Flavor::Traditional {
        if let Some((name, rest)) = host.strip_prefix('[').and_then(|inner| inner.split_once(']')) {
            let port = rest.strip_prefix(':').and_then(parse_port);
            return HostAndPort { name, port };
        }
    }
    if let Some((name, rest)) = host.split_once(':') {
        if let Some(port) = parse_port(rest) {
            return HostAndPort { name, port: Some(port) };
        }
    }
    HostAndPort { name: host, port: None }
}

/// Any run of digits is a port; one too large for a port becomes 0, which nothing listens on.
fn parse_port(text: &str) -> Option<u16> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().unwrap_or(0))
}

/// A server name without its trailing dot.
pub(super) fn without_trailing_dot(name: &str) -> &str {
    name.strip_suffix('.').unwrap_or(name)
}
