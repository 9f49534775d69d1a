//! What a request brings to the choice of an address: the hash of what its upstream hashes on, and its session's cookie.
//!
//! Reference: balancing 2.2. Reads the exchange; `balance` knows nothing of HTTP. A request without the input of `hash_on` is
//! asked for that of `hash_fallback`; with neither, the empty text is hashed and all such requests go one way.

use std::borrow::Cow;

use crate::exchange::Exchange;
use crate::http::headers::HeaderBlock;
use crate::plan::{AlgorithmPlan, CookiePlan, HashInput, UpstreamPlan};
use crate::router::Captures;
use crate::upstream::balance::{xxh32, Lease, Wish};

#[cfg(test)]
mod tests;

/// What was found in one request, kept for all of its attempts.
#[derive(Debug, Default)]
pub struct Wishes {
    hash: Option<u32>,
    cookie: Option<String>,
    /// `Set-Cookie` for the client, when a cookie had to be made.
    pub set_cookie: Option<String>,
}

impl Wishes {
    /// Read what `upstream` balances by.
    #[must_use]
    pub fn of(exchange: &Exchange, upstream: &UpstreamPlan) -> Self {
        match upstream.algorithm {
            AlgorithmPlan::ConsistentHashing => Self::hashed(upstream, |input| value_of(exchange, input)),
            AlgorithmPlan::StickySessions => Self {
                cookie: upstream
                    .sticky_cookie
                    .as_ref()
                    .and_then(|cookie| cookie_of(&exchange.request.headers, &cookie.name))
                    .map(|value| String::from_utf8_lossy(value).into_owned()),
                ..Self::default()
            },
            AlgorithmPlan::RoundRobin | AlgorithmPlan::LeastConnections | AlgorithmPlan::Latency => Self::default(),
        }
    }

    fn hashed<'a>(upstream: &UpstreamPlan, value_of: impl Fn(&HashInput) -> Option<Cow<'a, [u8]>>) -> Self {
        if upstream.hash_on == HashInput::None {
            return Self::default();
        }
        for input in [&upstream.hash_on, &upstream.hash_fallback] {
            if let Some(value) = value_of(input) {
                return Self {
                    hash: Some(xxh32(&value)),
                    ..Self::default()
                };
            }
            if let HashInput::Cookie(cookie) = input {
                let value = new_uuid();
                return Self {
                    hash: Some(xxh32(value.as_bytes())),
                    set_cookie: Some(set_cookie(cookie, &value)),
                    ..Self::default()
                };
            }
        }
        Self {
            hash: Some(xxh32(b"")),
            ..Self::default()
        }
    }

    /// Have the client keep to the address of `lease`, where sessions stick and it has no cookie that does.
    pub fn stick(&mut self, upstream: &UpstreamPlan, lease: &Lease) {
        let value = lease.balancer().new_cookie(self.cookie.as_deref(), lease.address());
        if let (Some(value), Some(cookie)) = (value, &upstream.sticky_cookie) {
            self.set_cookie = Some(set_cookie(cookie, &value));
        }
    }

    /// What the balancer is given.
    #[must_use]
    pub fn wish(&self) -> Wish<'_> {
        Wish {
            hash: self.hash,
            cookie: self.cookie.as_deref(),
        }
    }
}

/// A `Set-Cookie` value (reference: balancing 2.2; `Same-Site` is spelled as the contract has it).
#[must_use]
fn set_cookie(cookie: &CookiePlan, value: &str) -> String {
    format!("{}={value}; Path={}; Same-Site=Lax; HttpOnly", cookie.name, cookie.path)
}

fn value_of<'a>(exchange: &'a Exchange, input: &HashInput) -> Option<Cow<'a, [u8]>> {
    match input {
        HashInput::None => None,
        HashInput::Consumer => exchange
            .balancing_identity
            .as_ref()
            .map(|identity| Cow::Borrowed(identity.as_bytes())),
        HashInput::Ip => Some(Cow::Owned(exchange.forwarded_client.0.to_string().into_bytes())),
        HashInput::Header { name } => joined(exchange.request.headers.values(name.as_bytes()), b""),
        HashInput::Cookie(cookie) => cookie_of(&exchange.request.headers, &cookie.name).map(Cow::Borrowed),
        HashInput::Path => Some(Cow::Borrowed(&exchange.path)),
        HashInput::QueryArg { name } => query_argument(exchange.query()?, name.as_bytes()).map(Cow::Owned),
        HashInput::UriCapture { name } => {
            let captures = exchange.matched.as_ref()?.captures.as_ref()?;
            capture(captures, name).map(Cow::Borrowed)
        }
    }
}

/// One value as it is, several joined.
fn joined<'a>(mut values: impl Iterator<Item = &'a [u8]>, separator: &[u8]) -> Option<Cow<'a, [u8]>> {
    let first = values.next()?;
    let mut all = Cow::Borrowed(first);
    for value in values {
        all.to_mut().extend_from_slice(separator);
        all.to_mut().extend_from_slice(value);
    }
    Some(all)
}

/// The value of a cookie (RFC 6265, section 4.2.1), the first of that name.
fn cookie_of<'a>(headers: &'a HeaderBlock, name: &str) -> Option<&'a [u8]> {
    headers
        .values(b"cookie")
        .flat_map(|line| line.split(|byte| *byte == b';'))
        .find_map(|pair| {
            let pair = pair.trim_ascii();
            let (found, value) = pair.split_at_checked(name.len())?;
            (found == name.as_bytes()).then(|| value.strip_prefix(b"=")).flatten()
        })
}

/// The values of a query argument: several sorted and joined by commas, a flag without value as `true`.
fn query_argument(query: &[u8], name: &[u8]) -> Option<Vec<u8>> {
    let mut values: Vec<Vec<u8>> = query
        .split(|byte| *byte == b'&')
        .filter_map(|pair| {
            let (key, value) = match memchr::memchr(b'=', pair) {
                Some(equals) => (&pair[..equals], Some(&pair[equals + 1..])),
                None => (pair, None),
            };
            (!pair.is_empty() && unescape(key) == name).then(|| value.map_or_else(|| b"true".to_vec(), unescape))
        })
        .collect();
    if values.is_empty() {
        return None;
    }
    values.sort();
    Some(values.join(&b","[..]))
}

fn unescape(text: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        let escaped = (byte == b'%')
            .then(|| after.get(..2))
            .flatten()
            // What reads numbers would take a sign.
            .filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        if let Some(escaped) = escaped {
            plain.push(escaped);
            rest = &after[2..];
        } else {
            plain.push(if byte == b'+' { b' ' } else { byte });
            rest = after;
        }
    }
    plain
}

/// A named or numbered capture of the matched path.
fn capture<'a>(captures: &'a Captures, name: &str) -> Option<&'a [u8]> {
    match name.parse::<usize>() {
        Ok(number) => captures.unnamed.get(number)?.as_deref(),
        Err(_) => captures
            .named
            .iter()
            .find(|(known, _)| known == name)
            .and_then(|(_, value)| value.as_deref()),
    }
}

/// A random UUID (RFC 9562, version 4).
fn new_uuid() -> String {
    let mut bytes = [0_u8; 16];
    if getrandom::fill(&mut bytes).is_err() {
        // It spreads clients, it protects nothing: the clock does when the kernel has no entropy.
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap_or_default();
        bytes = now.as_nanos().to_le_bytes();
    }
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!(
        "{}-{}-{}-{}-{}",
        &digits[..8],
        &digits[8..12],
        &digits[12..16],
        &digits[16..20],
        &digits[20..]
    )
}
