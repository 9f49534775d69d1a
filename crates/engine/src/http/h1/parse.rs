//! HTTP/1 heads: from bytes to a head, or to the one reason why not.
//!
//! Owns the grammar that httparse leaves open: anything that two parsers could read in two ways is refused (RFC 9112,
//! sections 2.2, 6.1, 6.3, 11.2). No I/O here; the caller brings all bytes it has and asks again when more came.

use std::mem::MaybeUninit;
use std::ops::Range;

use crate::http::head::{Method, RequestHead, ResponseHead, Version};
use crate::http::headers::{list_has_token, HeaderBlock, Known};
use crate::settings::Limits;

/// Most fields httparse is given room for; `Limits::request_header_count` is checked on top.
const FIELD_SLOTS: usize = 256;

/// How many bytes of body follow a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// No body.
    None,
    /// Exactly this many bytes.
    Length(u64),
    /// Chunks, then trailers.
    Chunked,
    /// All bytes until the connection ends (responses only).
    UntilClose,
}

/// Why a request head was refused; `respond.rs` gives each its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeadFault {
    /// Not HTTP/1, or readable in two ways.
    #[error("malformed request: {0}")]
    Malformed(&'static str),
    /// The request line exceeds its limit.
    #[error("request line too long")]
    TargetTooLong,
    /// A header line, their number, or the whole head exceeds its limit.
    #[error("request header too large")]
    HeaderTooLarge,
    /// A transfer coding other than chunked.
    #[error("unknown transfer coding")]
    UnknownTransferCoding,
    /// A major version other than 1.
    #[error("unsupported HTTP version")]
    UnsupportedVersion,
    /// TRACE or CONNECT.
    #[error("method not allowed")]
    MethodNotAllowed,
}

/// A whole head was found.
#[derive(Debug)]
pub struct Parsed<H> {
    /// The head.
    pub head: H,
    /// What follows it.
    pub framing: Framing,
    /// Bytes of the buffer it took.
    pub length: usize,
    /// The sender wants the connection closed, or its version knows no better.
    pub closes: bool,
}

/// Parse the request head at the start of `input`; `Ok(None)` means more bytes are needed.
///
/// # Errors
/// The fault to answer with; the connection cannot be used further, except after `MethodNotAllowed`.
pub fn parse_request(input: &[u8], limits: &Limits) -> Result<Option<Parsed<RequestHead>>, HeadFault> {
    let mut slots = [const { MaybeUninit::<httparse::Header<'_>>::uninit() }; FIELD_SLOTS];
    let mut request = httparse::Request::new(&mut []);
    let length =
        match httparse::ParserConfig::default().parse_request_with_uninit_headers(&mut request, input, &mut slots) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) => return incomplete(input, limits),
            Err(httparse::Error::TooManyHeaders) => return Err(HeadFault::HeaderTooLarge),
            Err(httparse::Error::Version) => return Err(version_fault(input)),
            Err(error) => return Err(HeadFault::Malformed(describe(error))),
        };
    let bytes = input.get(..length).unwrap_or_default();
    check_lines(bytes, limits)?;
    if request.headers.len() > limits.request_header_count {
        return Err(HeadFault::HeaderTooLarge);
    }
    let (Some(method), Some(target), Some(minor)) = (request.method, request.path, request.version) else {
        return Err(HeadFault::Malformed("incomplete request line"));
    };
    let version = if minor == 0 { Version::Http10 } else { Version::Http11 };
    let method = Method::from_bytes(method.as_bytes()).map_err(|_| HeadFault::Malformed("invalid method"))?;
    let mut headers = HeaderBlock::new();
    let kept = headers.keep(bytes);
    let base = bytes.as_ptr() as usize;
    for field in request.headers.iter() {
        headers.add_within(kept, range_in(base, field.name.as_bytes()), range_in(base, field.value));
    }
    let target_range = range_in(base, target.as_bytes());
    let target_text = headers.keep(bytes.get(target_range).unwrap_or_default());
    let framing = request_framing(&headers, version)?;
    let closes = closes(&headers, version);
    let head = RequestHead {
        method,
        target: target_text,
        version,
        headers,
    };
    check_host(&head)?;
    check_target(&head)?;
    Ok(Some(Parsed {
        head,
        framing,
        length,
        closes,
    }))
}

/// Parse the response head at the start of `input`; `Ok(None)` means more bytes are needed.
///
/// `to_head_request`: the answer of a HEAD request has no body whatever it says.
///
/// # Errors
/// A text for the log: the upstream's answer is invalid (502).
pub fn parse_response(
    input: &[u8],
    to_head_request: bool,
    limit_bytes: usize,
) -> Result<Option<Parsed<ResponseHead>>, &'static str> {
    let mut slots = [const { MaybeUninit::<httparse::Header<'_>>::uninit() }; FIELD_SLOTS];
    let mut response = httparse::Response::new(&mut []);
    let length =
        match httparse::ParserConfig::default().parse_response_with_uninit_headers(&mut response, input, &mut slots) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) if input.len() > limit_bytes => return Err("response head too large"),
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(error) => return Err(describe(error)),
        };
    if length > limit_bytes {
        return Err("response head too large");
    }
    let bytes = input.get(..length).unwrap_or_default();
    let (Some(status), Some(minor)) = (response.code, response.version) else {
        return Err("incomplete status line");
    };
    let version = if minor == 0 { Version::Http10 } else { Version::Http11 };
    let mut headers = HeaderBlock::new();
    let kept = headers.keep(bytes);
    let base = bytes.as_ptr() as usize;
    for field in response.headers.iter() {
        headers.add_within(kept, range_in(base, field.name.as_bytes()), range_in(base, field.value));
    }
    let framing = response_framing(&headers, status, to_head_request)?;
    let closes = framing == Framing::UntilClose || closes(&headers, version);
    Ok(Some(Parsed {
        head: ResponseHead { status, headers },
        framing,
        length,
        closes,
    }))
}

/// Parse a digits-only length (RFC 9110, section 8.6): no sign, no space, no list.
#[must_use]
pub fn parse_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() || value.len() > 19 || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(value).ok()?.parse().ok()
}

fn request_framing(headers: &HeaderBlock, version: Version) -> Result<Framing, HeadFault> {
    let mut lengths = headers.known_values(Known::ContentLength);
    let length = lengths.next();
    if lengths.next().is_some() {
        return Err(HeadFault::Malformed("more than one Content-Length"));
    }
    let mut codings = headers.known_values(Known::TransferEncoding);
    if let Some(coding) = codings.next() {
        if length.is_some() {
            return Err(HeadFault::Malformed("Content-Length beside Transfer-Encoding"));
        }
        if version == Version::Http10 {
            return Err(HeadFault::Malformed("Transfer-Encoding in HTTP/1.0"));
        }
        if codings.next().is_some() {
            return Err(HeadFault::Malformed("more than one Transfer-Encoding"));
        }
        if coding.eq_ignore_ascii_case(b"chunked") {
            return Ok(Framing::Chunked);
        }
        return Err(HeadFault::UnknownTransferCoding);
    }
    match length {
        None => Ok(Framing::None),
        Some(value) => match parse_length(value) {
            Some(0) => Ok(Framing::None),
            Some(length) => Ok(Framing::Length(length)),
            None => Err(HeadFault::Malformed("invalid Content-Length")),
        },
    }
}

fn response_framing(headers: &HeaderBlock, status: u16, to_head_request: bool) -> Result<Framing, &'static str> {
    let mut lengths = headers.known_values(Known::ContentLength);
    let length = lengths.next();
    if lengths.any(|other| Some(other) != length) {
        return Err("different Content-Length values");
    }
    let coding = headers.known(Known::TransferEncoding);
    if to_head_request || status == 204 || status == 304 || status < 200 {
        return Ok(Framing::None);
    }
    match (coding, length) {
        (Some(_), Some(_)) => Err("Content-Length beside Transfer-Encoding"),
        (Some(coding), None) if coding.eq_ignore_ascii_case(b"chunked") => Ok(Framing::Chunked),
        (Some(_), None) => Err("unknown transfer coding"),
        (None, Some(value)) => match parse_length(value) {
            Some(0) => Ok(Framing::None),
            Some(length) => Ok(Framing::Length(length)),
            None => Err("invalid Content-Length"),
        },
        (None, None) => Ok(Framing::UntilClose),
    }
}

fn closes(headers: &HeaderBlock, version: Version) -> bool {
    let mut keeps_alive = version == Version::Http11;
    for value in headers.known_values(Known::Connection) {
        if list_has_token(value, b"close") {
            return true;
        }
        keeps_alive |= list_has_token(value, b"keep-alive");
    }
    !keeps_alive
}

/// RFC 9112, section 3.2: exactly one Host in HTTP/1.1, and a valid one.
fn check_host(head: &RequestHead) -> Result<(), HeadFault> {
    let mut hosts = head.headers.known_values(Known::Host);
    match (hosts.next(), hosts.next()) {
        (_, Some(_)) => Err(HeadFault::Malformed("more than one Host")),
        (None, _) if head.version == Version::Http10 => Ok(()),
        (None, _) => Err(HeadFault::Malformed("no Host")),
        (Some(host), None) => {
            if is_valid_authority(host) {
                Ok(())
            } else {
                Err(HeadFault::Malformed("invalid Host"))
            }
        }
    }
}

/// True for `name`, `name:port`, `[address]:port`; empty is legal for an absent authority.
#[must_use]
pub fn is_valid_authority(host: &[u8]) -> bool {
    let (name, port) = match host.iter().rposition(|byte| *byte == b':') {
        Some(colon) if !host.ends_with(b"]") => (host.get(..colon), host.get(colon + 1..)),
        _ => (Some(host), None),
    };
    let name = name.unwrap_or_default();
    let is_name = if name.starts_with(b"[") {
        name.ends_with(b"]")
            && name
                .iter()
                .skip(1)
                .rev()
                .skip(1)
                .all(|b| b.is_ascii_hexdigit() || matches!(b, b':' | b'.'))
    } else {
        name.iter()
            .all(|b| b.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=%".contains(b))
    };
    is_name && port.is_none_or(|port| port.len() <= 5 && port.iter().all(u8::is_ascii_digit))
}

fn check_target(head: &RequestHead) -> Result<(), HeadFault> {
    let target = head.target();
    if head.method == Method::CONNECT || head.method == Method::TRACE {
        return Err(HeadFault::MethodNotAllowed);
    }
    if target.starts_with(b"/") {
        return Ok(());
    }
    let lower: Vec<u8> = target.iter().take(8).map(u8::to_ascii_lowercase).collect();
    if lower.starts_with(b"http://") || lower.starts_with(b"https://") {
        let rest = target.split(|byte| *byte == b'/').nth(2).unwrap_or_default();
        let authority = rest
            .split(|byte| matches!(byte, b'?' | b'#'))
            .next()
            .unwrap_or_default();
        return if !authority.is_empty() && is_valid_authority(authority) {
            Ok(())
        } else {
            Err(HeadFault::Malformed("invalid authority in request target"))
        };
    }
    Err(HeadFault::Malformed("invalid request target"))
}

/// Every line ends in CRLF and fits its limit. httparse also takes a bare LF, which other parsers do not see as an end.
fn check_lines(head: &[u8], limits: &Limits) -> Result<(), HeadFault> {
    let mut start = 0;
    let mut is_first = true;
    for end in memchr::memchr_iter(b'\n', head) {
        if end == 0 || head.get(end - 1) != Some(&b'\r') {
            return Err(HeadFault::Malformed("line without CR"));
        }
        let length = end - start;
        if is_first && length > limits.request_line_bytes {
            return Err(HeadFault::TargetTooLong);
        }
        if length > limits.header_line_bytes {
            return Err(HeadFault::HeaderTooLarge);
        }
        is_first = false;
        start = end + 1;
    }
    if head.len() > limits.request_head_bytes {
        return Err(HeadFault::HeaderTooLarge);
    }
    Ok(())
}

fn incomplete<H>(input: &[u8], limits: &Limits) -> Result<Option<H>, HeadFault> {
    let first_line = memchr::memchr(b'\n', input);
    if first_line.is_none() && input.len() > limits.request_line_bytes {
        return Err(HeadFault::TargetTooLong);
    }
    let last_line = input.len() - memchr::memrchr(b'\n', input).map_or(0, |end| end + 1);
    if first_line.is_some() && (last_line > limits.header_line_bytes || input.len() > limits.request_head_bytes) {
        return Err(HeadFault::HeaderTooLarge);
    }
    Ok(None)
}

fn version_fault(input: &[u8]) -> HeadFault {
    let line = input
        .split(|byte| *byte == b'\r' || *byte == b'\n')
        .next()
        .unwrap_or_default();
    let mut words = line.split(|byte| *byte == b' ').skip(2);
    let version = words.next().unwrap_or_default();
    let is_version = words.next().is_none()
        && version.len() == 8
        && version.starts_with(b"HTTP/")
        && version.get(5).is_some_and(u8::is_ascii_digit)
        && version.get(6) == Some(&b'.')
        && version.get(7).is_some_and(u8::is_ascii_digit);
    if is_version {
        HeadFault::UnsupportedVersion
    } else {
        HeadFault::Malformed("invalid HTTP version")
    }
}

fn describe(error: httparse::Error) -> &'static str {
    match error {
        httparse::Error::HeaderName => "invalid header name",
        httparse::Error::HeaderValue => "invalid header value",
        httparse::Error::NewLine => "invalid line end",
        httparse::Error::Status => "invalid status",
        httparse::Error::Token => "invalid token",
        httparse::Error::TooManyHeaders => "too many header fields",
        httparse::Error::Version => "invalid HTTP version",
    }
}

fn range_in(base: usize, part: &[u8]) -> Range<usize> {
    if part.is_empty() {
        return 0..0;
    }
    let start = (part.as_ptr() as usize).wrapping_sub(base);
    start..start + part.len()
}

#[cfg(test)]
#[path = "parse_tests.rs"]
mod tests;
