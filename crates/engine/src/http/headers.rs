//! One header section: fields in their order and spelling, on one buffer.
//!
//! Owns the representation that every part of the engine reads and edits: request and response heads, of clients and
//! upstreams, HTTP/1 and HTTP/2. Names and values are spans of one byte buffer; a change appends to the buffer, so a head
//! costs one allocation and forwarding it is a walk over spans. Well-known names carry a tag found once while parsing.
//! It knows nothing of framing or of which fields may be forwarded (`forward.rs`).

use std::fmt;
use std::ops::Range;

/// A range of the block's buffer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Span {
    start: u32,
    end: u32,
}

macro_rules! known_headers {
    ($($variant:ident = $name:literal),+ $(,)?) => {
        /// Names that the engine itself looks at.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[allow(missing_docs, reason = "each variant is the header of that name")]
        pub enum Known { Other, $($variant),+ }

        impl Known {
            /// The tag of a name, `Other` for most.
            #[must_use]
            pub fn of(name: &[u8]) -> Self {
                match name.len() {
                    $(n if n == $name.len() && name.eq_ignore_ascii_case($name.as_bytes()) => Self::$variant,)+
                    _ => Self::Other,
                }
            }
        }
    };
}

// A table, not behaviour: the macro only spares writing each name twice.
known_headers! {
    Accept = "accept",
    Connection = "connection",
    ContentLength = "content-length",
    ContentType = "content-type",
    Date = "date",
    Expect = "expect",
    Host = "host",
    KeepAlive = "keep-alive",
    KongDebug = "kong-debug",
    Proxy = "proxy",
    ProxyConnection = "proxy-connection",
    SecWebsocketExtensions = "sec-websocket-extensions",
    SecWebsocketKey = "sec-websocket-key",
    SecWebsocketVersion = "sec-websocket-version",
    Server = "server",
    Te = "te",
    Trailer = "trailer",
    TransferEncoding = "transfer-encoding",
    Upgrade = "upgrade",
    UserAgent = "user-agent",
    Referer = "referer",
    Via = "via",
    XForwardedFor = "x-forwarded-for",
    XForwardedHost = "x-forwarded-host",
    XForwardedPath = "x-forwarded-path",
    XForwardedPort = "x-forwarded-port",
    XForwardedPrefix = "x-forwarded-prefix",
    XForwardedProto = "x-forwarded-proto",
    XKongRequestId = "x-kong-request-id",
    XKongProxyLatency = "x-kong-proxy-latency",
    XKongUpstreamLatency = "x-kong-upstream-latency",
    XRealIp = "x-real-ip",
}

/// One field of a block.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    name: Span,
    value: Span,
    known: Known,
}

/// An ordered header section.
#[derive(Default, Clone)]
pub struct HeaderBlock {
    text: Vec<u8>,
    fields: Vec<Field>,
}

impl HeaderBlock {
    /// An empty block with room for a usual head.
    #[must_use]
    pub fn new() -> Self {
        Self {
            text: Vec::with_capacity(1024),
            fields: Vec::with_capacity(24),
        }
    }

    /// Forget everything, keep the memory.
    pub fn clear(&mut self) {
        self.text.clear();
        self.fields.clear();
    }

    /// Number of fields.
    #[must_use]
    pub fn len(&self) -> usize {
        self.fields.len()
    }

    /// True without any field.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// Keep `bytes` in the block's buffer, for parts of a head that are no fields (the request target).
    pub fn keep(&mut self, bytes: &[u8]) -> Span {
        let start = self.text.len() as u32;
        self.text.extend_from_slice(bytes);
        Span {
            start,
            end: self.text.len() as u32,
        }
    }

    /// The bytes of a span made by this block.
    #[must_use]
    pub fn text(&self, span: Span) -> &[u8] {
        self.text
            .get(span.start as usize..span.end as usize)
            .unwrap_or_default()
    }

    /// Append a field.
    pub fn add(&mut self, name: &[u8], value: &[u8]) {
        let name_span = self.keep(name);
        let value_span = self.keep(value);
        self.fields.push(Field {
            name: name_span,
            value: value_span,
            known: Known::of(name),
        });
    }

    /// Append a field whose name and value lie in `kept`, a span made by `keep`, at these offsets of it.
    ///
    /// Parsing uses it: the head is kept once and its fields are spans of it.
    pub fn add_within(&mut self, kept: Span, name: Range<usize>, value: Range<usize>) {
        let span = |range: Range<usize>| Span {
            start: kept.start + range.start as u32,
            end: kept.start + range.end as u32,
        };
        let (name, value) = (span(name), span(value));
        let known = Known::of(self.text(name));
        self.fields.push(Field { name, value, known });
    }

    /// Replace all fields of this name by one per value; the first keeps the old position.
    pub fn set<V: AsRef<[u8]>>(&mut self, name: &[u8], values: &[V]) {
        let position = self.position(name);
        self.remove(name);
        let added_from = self.fields.len();
        for value in values {
            self.add(name, value.as_ref());
        }
        if let Some(position) = position {
            if position < added_from {
                let count = self.fields.len() - added_from;
                if let Some(tail) = self.fields.get_mut(position..) {
                    tail.rotate_right(count);
                }
            }
        }
    }

    /// Remove all fields of this name; true when there was one.
    pub fn remove(&mut self, name: &[u8]) -> bool {
        let before = self.fields.len();
        let text = std::mem::take(&mut self.text);
        self.fields.retain(|field| !names_equal(slice(&text, field.name), name));
        self.text = text;
        self.fields.len() != before
    }

    /// Keep only the fields for which `keep` says so.
    pub fn retain(&mut self, mut keep: impl FnMut(Known, &[u8], &[u8]) -> bool) {
        let text = std::mem::take(&mut self.text);
        self.fields
            .retain(|field| keep(field.known, slice(&text, field.name), slice(&text, field.value)));
        self.text = text;
    }

    /// First value of this name (case-insensitive, `-` and `_` equal).
    #[must_use]
    pub fn get(&self, name: &[u8]) -> Option<&[u8]> {
        self.values(name).next()
    }

    /// All values of this name, in order.
    pub fn values<'a, 'n>(&'a self, name: &'n [u8]) -> impl Iterator<Item = &'a [u8]> + use<'a, 'n> {
        self.fields
            .iter()
            .filter(move |field| names_equal(self.text(field.name), name))
            .map(|field| self.text(field.value))
    }

    /// First value of a well-known name.
    #[must_use]
    pub fn known(&self, known: Known) -> Option<&[u8]> {
        self.known_values(known).next()
    }

    /// All values of a well-known name.
    pub fn known_values(&self, known: Known) -> impl Iterator<Item = &[u8]> + '_ {
        self.fields
            .iter()
            .filter(move |field| field.known == known)
            .map(|field| self.text(field.value))
    }

    /// (tag, name, value) of every field in order.
    pub fn iter(&self) -> impl Iterator<Item = (Known, &[u8], &[u8])> + '_ {
        self.fields
            .iter()
            .map(|field| (field.known, self.text(field.name), self.text(field.value)))
    }

    /// The fields of a `http::HeaderMap`, in its order.
    #[must_use]
    pub fn from_map(map: &http::HeaderMap) -> Self {
        let mut block = Self::new();
        for (name, value) in map {
            block.add(name.as_str().as_bytes(), value.as_bytes());
        }
        block
    }

    /// The fields as a `http::HeaderMap`; what it does not take is left out.
    #[must_use]
    pub fn to_map(&self) -> http::HeaderMap {
        let mut map = http::HeaderMap::with_capacity(self.len());
        for (_, name, value) in self.iter() {
            if let (Ok(name), Ok(value)) = (http::HeaderName::from_bytes(name), http::HeaderValue::from_bytes(value)) {
                map.append(name, value);
            }
        }
        map
    }

    fn position(&self, name: &[u8]) -> Option<usize> {
        self.fields
            .iter()
            .position(|field| names_equal(self.text(field.name), name))
    }
}

impl fmt::Debug for HeaderBlock {
    /// Names only: values may be secrets.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_list()
            .entries(self.iter().map(|(_, name, _)| String::from_utf8_lossy(name)))
            .finish()
    }
}

/// Case-insensitive equality in which `-` and `_` are the same (PDK reference 3.4).
#[must_use]
pub fn names_equal(left: &[u8], right: &[u8]) -> bool {
    left.len() == right.len()
        && left
            .iter()
            .zip(right)
            .all(|(a, b)| a == b || fold_name_byte(*a) == fold_name_byte(*b))
}

fn fold_name_byte(byte: u8) -> u8 {
    match byte {
        b'_' => b'-',
        other => other.to_ascii_lowercase(),
    }
}

fn slice(text: &[u8], span: Span) -> &[u8] {
    text.get(span.start as usize..span.end as usize).unwrap_or_default()
}

/// True when a comma-separated list value has this token (case-insensitive).
#[must_use]
pub fn list_has_token(value: &[u8], token: &[u8]) -> bool {
    value
        .split(|byte| *byte == b',')
        .any(|part| part.trim_ascii().eq_ignore_ascii_case(token))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn set_keeps_the_first_position_and_drops_the_rest() {
        let mut block = HeaderBlock::new();
        block.add(b"A", b"1");
        block.add(b"X-Token", b"old");
        block.add(b"B", b"2");
        block.add(b"x_token", b"older");
        block.set(b"x-token", &[b"new", b"two"]);
        let fields: Vec<_> = block
            .iter()
            .map(|(_, name, value)| (name.to_vec(), value.to_vec()))
            .collect();
        assert_eq!(
            fields,
            vec![
                (b"A".to_vec(), b"1".to_vec()),
                (b"x-token".to_vec(), b"new".to_vec()),
                (b"x-token".to_vec(), b"two".to_vec()),
                (b"B".to_vec(), b"2".to_vec()),
            ]
        );
    }

    #[test]
    fn lookup_treats_dash_and_underscore_alike() {
        let mut block = HeaderBlock::new();
        block.add(b"X_Custom", b"v");
        assert_eq!(block.get(b"x-custom"), Some(&b"v"[..]));
        assert_eq!(block.get(b"x-custo"), None);
    }

    #[test]
    fn debug_output_has_no_values() {
        let mut block = HeaderBlock::new();
        block.add(b"Authorization", b"secret");
        assert!(!format!("{block:?}").contains("secret"));
    }

    #[test]
    fn tokens_are_found_in_lists() {
        assert!(list_has_token(b"keep-alive, Upgrade", b"upgrade"));
        assert!(!list_has_token(b"upgraded", b"upgrade"));
    }
}
