//! The fields of expressions and their values in a request or a stream (reference: routing 7.2).

use std::net::IpAddr;

use super::super::index::RequestHost;
use super::super::name::without_trailing_dot;
use super::super::request::RequestKey;
use super::super::stream::{StreamKey, StreamTransport};

/// What an expression may ask for, its name parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::router) enum Field {
    Protocol,
    ServerName,
    Method,
    Host,
    Path,
    /// Segments of the path from the first to the last, joined with `/`.
    Segments(usize, usize),
    SegmentCount,
    /// Lower case, with dashes.
    Header(Box<str>),
    Query(Box<str>),
    SourceIp,
    SourcePort,
    DestinationIp,
    DestinationPort,
}

impl Field {
    /// Reads a field's name, which the schema knows.
    ///
    /// # Errors
    /// The text for a name that no request can have.
    pub(super) fn parse(name: &str) -> Result<Self, String> {
        let field = match name {
            "net.protocol" => Self::Protocol,
            "tls.sni" => Self::ServerName,
            "http.method" => Self::Method,
            "http.host" => Self::Host,
            "http.path" => Self::Path,
            "http.path.segments.len" => Self::SegmentCount,
            "net.src.ip" => Self::SourceIp,
            "net.src.port" => Self::SourcePort,
            "net.dst.ip" => Self::DestinationIp,
            "net.dst.port" => Self::DestinationPort,
            _ => {
                if let Some(rest) = name.strip_prefix("http.path.segments.") {
                    let (first, last) =
                        segment_range(rest).ok_or_else(|| "illformed http.path.segments.* field".to_owned())?;
                    Self::Segments(first, last)
                } else if let Some(rest) = name.strip_prefix("http.headers.") {
                    Self::Header(rest.to_ascii_lowercase().replace('_', "-").into())
                } else if let Some(rest) = name.strip_prefix("http.queries.") {
                    Self::Query(rest.into())
                } else {
                    return Err("Unknown LHS field".to_owned());
                }
            }
        };
        Ok(field)
    }
}

fn segment_range(text: &str) -> Option<(usize, usize)> {
    let number = |text: &str| {
        text.bytes()
            .all(|byte| byte.is_ascii_digit())
            .then(|| text.parse().ok())?
    };
    match text.split_once('_') {
        None => number(text).map(|only| (only, only)),
        Some((first, last)) => {
            let (first, last) = (number(first)?, number(last)?);
            (first < last).then_some((first, last))
        }
    }
}

/// What tests read; a field that has no value says so.
pub(in crate::router) trait Values {
    /// Calls `visit` with each value of a text field until it returns false.
    fn texts(&self, field: &Field, visit: &mut dyn FnMut(&[u8]) -> bool);
    /// The value of a number field.
    fn number(&self, field: &Field) -> Option<i64>;
    /// The value of an address field.
    fn address(&self, field: &Field) -> Option<IpAddr>;
}

/// A stream, as tests read it.
#[derive(Clone, Copy)]
pub(in crate::router) struct StreamFacts<'a> {
    pub(in crate::router) key: &'a StreamKey<'a>,
    /// The key's name in lower case, without a dot at its end.
    pub(in crate::router) server_name: Option<&'a [u8]>,
}

impl Values for StreamFacts<'_> {
    fn texts(&self, field: &Field, visit: &mut dyn FnMut(&[u8]) -> bool) {
        let value = match field {
            Field::Protocol => Some(match (self.key.transport, self.server_name) {
                (StreamTransport::Udp, _) => &b"udp"[..],
                // Documented behaviour: TLS without a server name counts as plain.
                (StreamTransport::Tcp, _) | (StreamTransport::Tls, None) => b"tcp",
                (StreamTransport::Tls, Some(_)) => b"tls",
            }),
            Field::ServerName => self.server_name,
            _ => None,
        };
        if let Some(value) = value {
            visit(value);
        }
    }

    fn number(&self, field: &Field) -> Option<i64> {
        match field {
            Field::SourcePort => Some(i64::from(self.key.source.port())),
            Field::DestinationPort => Some(i64::from(self.key.destination.port())),
            _ => None,
        }
    }

    fn address(&self, field: &Field) -> Option<IpAddr> {
        match field {
            Field::SourceIp => Some(self.key.source.ip()),
            Field::DestinationIp => Some(self.key.destination.ip()),
            _ => None,
        }
    }
}

/// A request with its host split, as tests read it.
#[derive(Clone, Copy)]
pub(in crate::router) struct Facts<'a> {
    pub(in crate::router) request: &'a RequestKey<'a>,
    pub(in crate::router) host: RequestHost<'a>,
}

impl Values for Facts<'_> {
    fn texts(&self, field: &Field, visit: &mut dyn FnMut(&[u8]) -> bool) {
        let request = self.request;
        let single: Option<&[u8]> = match field {
            Field::Protocol => Some(if request.is_tls { b"https" } else { b"http" }),
            Field::ServerName => request.sni.map(|sni| without_trailing_dot(sni).as_bytes()),
            Field::Method => Some(request.method.as_bytes()),
            Field::Host => Some(self.host.name),
            Field::Path => Some(request.path),
            Field::Segments(first, last) => self.segments(*first, *last),
            Field::Header(name) => return request.headers.values(name, visit),
            Field::Query(name) => return query_values(request.query, name.as_bytes(), visit),
            Field::SegmentCount
            | Field::SourceIp
            | Field::SourcePort
            | Field::DestinationIp
            | Field::DestinationPort => None,
        };
        if let Some(value) = single {
            visit(value);
        }
    }

    fn number(&self, field: &Field) -> Option<i64> {
        match field {
            Field::SegmentCount => Some(self.bounds().count() as i64),
            Field::SourcePort => self.request.client.map(|(_, port)| i64::from(port)),
            Field::DestinationPort => Some(i64::from(self.host.port)),
            _ => None,
        }
    }

    fn address(&self, field: &Field) -> Option<IpAddr> {
        match field {
            Field::SourceIp => self.request.client.map(|(address, _)| address),
            Field::DestinationIp => self.request.listener_ip,
            _ => None,
        }
    }
}

impl<'a> Facts<'a> {
    fn segments(&self, first: usize, last: usize) -> Option<&'a [u8]> {
        let (start, end) = self.bounds().nth(first)?;
        let end = if last > first {
            self.bounds().nth(last).map(|(_, end)| end)?
        } else {
            end
        };
        self.request.path.get(start..end)
    }

    /// Where segments begin and end in the path; empty ones at its end do not count.
    fn bounds(&self) -> impl Iterator<Item = (usize, usize)> + 'a {
        let path = self.request.path;
        let end = path.iter().rposition(|byte| *byte != b'/').map_or(0, |at| at + 1);
        let mut next = usize::from(path.first() == Some(&b'/'));
        std::iter::from_fn(move || {
            if next >= end {
                return None;
            }
            let start = next;
            let length = path[start..end].iter().position(|byte| *byte == b'/');
            let stop = length.map_or(end, |length| start + length);
            next = stop + 1;
            Some((start, stop))
        })
    }
}

/// Decoded values of a query argument, `""` for one without `=`.
fn query_values(query: &[u8], name: &[u8], visit: &mut dyn FnMut(&[u8]) -> bool) {
    for pair in query.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty()) {
        let (given, value) = match pair.iter().position(|byte| *byte == b'=') {
            Some(at) => (&pair[..at], &pair[at + 1..]),
            None => (pair, &b""[..]),
        };
        if decoded(given).as_ref() == name && !visit(&decoded(value)) {
            return;
        }
    }
}

/// A part of a query string with `+` and percent escapes resolved; broken escapes stay as they are.
fn decoded(text: &[u8]) -> std::borrow::Cow<'_, [u8]> {
    if !text.iter().any(|byte| matches!(byte, b'%' | b'+')) {
        return text.into();
    }
    let digit = |at: usize| char::from(*text.get(at)?).to_digit(16);
    let mut plain = Vec::with_capacity(text.len());
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        at += 1;
        match (byte, digit(at), digit(at + 1)) {
            (b'%', Some(high), Some(low)) => {
                plain.push((high * 16 + low) as u8);
                at += 2;
            }
            (b'+', _, _) => plain.push(b' '),
            _ => plain.push(byte),
        }
    }
    plain.into()
}
