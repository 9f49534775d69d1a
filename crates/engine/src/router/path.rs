//! Request paths: taken out of the request target, brought to normal form for matching, joined
//! with the service's path and encoded for the upstream.
//!
//! Works on bytes, for a decoded path need not be UTF-8. Every function gives its input back
//! without copying when there is nothing to change.

use super::rule::PathHandling;
use memchr::{memchr, memrchr};
use std::borrow::Cow;

/// The parts of a request target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target<'a> {
    /// Host and port of an absolute-form target, without user information.
    pub authority: Option<&'a [u8]>,
    /// The raw path; `/` when an absolute-form target has none.
    pub path: &'a [u8],
    /// What follows the first `?`; empty but present in `/foo?`.
    pub query: Option<&'a [u8]>,
}

/// Splits a request target in origin form (`/path?query`) or absolute form
/// (`http://host/path?query`); anything else, such as `*`, is a path.
///
/// Source: RFC 9112 clause 3.2. The `?` is searched from the second byte, as the matched contract does.
pub fn split_target(target: &[u8]) -> Target<'_> {
    let (authority, rest) = match after_scheme(target) {
        Some(rest) => {
            let end = rest
                .iter()
                .position(|byte| matches!(byte, b'/' | b'?'))
                .unwrap_or(rest.len());
            let (authority, rest) = rest.split_at(end);
            let host = memrchr(b'@', authority).map_or(authority, |at| &authority[at + 1..]);
            (Some(host), rest)
        }
        None => (None, target),
    };
    if authority.is_some() && !rest.starts_with(b"/") {
        return Target {
            authority,
            path: b"/",
            query: rest.strip_prefix(b"?"),
        };
    }
    let question_mark = rest.get(1..).and_then(|tail| memchr(b'?', tail)).map(|at| at + 1);
    let (path, query) = match question_mark {
        Some(at) => (&rest[..at], Some(&rest[at + 1..])),
        None => (rest, None),
    };
    Target { authority, path, query }
}

/// What follows `http://` or `https://`, in any case.
fn after_scheme(target: &[u8]) -> Option<&[u8]> {
    [b"http://".as_slice(), b"https://"].into_iter().find_map(|scheme| {
        let (start, rest) = target.split_at_checked(scheme.len())?;
        start.eq_ignore_ascii_case(scheme).then_some(rest)
    })
}

/// Brings a raw path (without query) to the form that routes are matched against and that is sent
/// upstream: escapes decoded save for reserved characters, dot segments removed, slashes merged.
///
/// Reserved escapes stay, in upper case; a `%` that begins no escape stays as it is. Normalising
/// the result again changes nothing, unless such a stray `%` came to stand before decoded digits.
pub fn normalize(raw_path: &[u8]) -> Cow<'_, [u8]> {
    if is_normal(raw_path) {
        return Cow::Borrowed(raw_path);
    }
    Cow::Owned(merge_segments(&decode(raw_path)))
}

/// Whether the path surely needs no change: no escape, no empty and no dot segment.
fn is_normal(path: &[u8]) -> bool {
    let mut at_segment_start = false;
    for (at, &byte) in path.iter().enumerate() {
        match byte {
            b'%' => return false,
            b'/' if at_segment_start => return false,
            b'.' if at == 0 || at_segment_start => {
                let after = &path[at + 1..];
                let after = after.strip_prefix(b".").unwrap_or(after);
                if matches!(after.first(), None | Some(b'/')) {
                    return false;
                }
            }
            _ => {}
        }
        at_segment_start = byte == b'/';
    }
    true
}

fn decode(path: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some(at) = memchr(b'%', rest) {
        decoded.extend_from_slice(&rest[..at]);
        rest = &rest[at..];
        match escaped_byte(rest) {
            Some(byte) if is_reserved(byte) => {
                decoded.extend(rest[..3].iter().map(u8::to_ascii_uppercase));
                rest = &rest[3..];
            }
            Some(byte) => {
                decoded.push(byte);
                rest = &rest[3..];
            }
            None => {
                decoded.push(b'%');
                rest = &rest[1..];
            }
        }
    }
    decoded.extend_from_slice(rest);
    decoded
}

/// The byte of the escape that the text begins with.
fn escaped_byte(text: &[u8]) -> Option<u8> {
    let digit = |at: usize| text.get(at).and_then(|&byte| char::from(byte).to_digit(16));
    Some((digit(1)? * 16 + digit(2)?) as u8)
}

/// The characters of RFC 3986 clause 2.2 and `%`.
fn is_reserved(byte: u8) -> bool {
    matches!(
        byte,
        b'!' | b'*'
            | b'\''
            | b'('
            | b')'
            | b';'
            | b':'
            | b'@'
            | b'&'
            | b'='
            | b'+'
            | b'$'
            | b','
            | b'/'
            | b'?'
            | b'%'
            | b'#'
            | b'['
            | b']'
    )
}

/// Drops empty and `.` segments, and each `..` with the segment before it.
fn merge_segments(path: &[u8]) -> Vec<u8> {
    let mut merged: Vec<u8> = Vec::with_capacity(path.len());
    let is_absolute = path.first() == Some(&b'/');
    let mut ends_in_slash = false;
    for segment in path.split(|&byte| byte == b'/') {
        // What comes after a dropped segment is a directory: `/a/.` is `/a/`.
        ends_in_slash = matches!(segment, b"" | b"." | b"..");
        match segment {
            b"" | b"." => {}
            b".." => merged.truncate(memrchr(b'/', &merged).unwrap_or(0)),
            _ => {
                if is_absolute || !merged.is_empty() {
                    merged.push(b'/');
                }
                merged.extend_from_slice(segment);
            }
        }
    }
    if ends_in_slash && (is_absolute || !merged.is_empty()) {
        merged.push(b'/');
    }
    merged
}

/// Escapes what may not stand in a request target; existing escapes stay.
pub fn encode_for_upstream(path: &[u8]) -> Cow<'_, [u8]> {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let Some(first) = path.iter().position(|&byte| !is_sent_as_is(byte)) else {
        return Cow::Borrowed(path);
    };
    let (clean, rest) = path.split_at(first);
    let mut encoded = Vec::with_capacity(path.len() + 2 * rest.len());
    encoded.extend_from_slice(clean);
    for &byte in rest {
        if is_sent_as_is(byte) {
            encoded.push(byte);
        } else {
            encoded.extend_from_slice(&[b'%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        }
    }
    Cow::Owned(encoded)
}

fn is_sent_as_is(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$&'()*+,/:;=?@[\\]-_.~%".contains(&byte)
}

/// The path sent upstream, before encoding.
///
/// `base` is the service's path. `request_path` is normal; its first `matched_prefix_len` bytes
/// are removed when `strip_path` is set and the route matched by path.
pub fn upstream_path<'a>(
    base: Option<&'a [u8]>,
    request_path: &'a [u8],
    matched_prefix_len: Option<usize>,
    strip_path: bool,
    handling: PathHandling,
) -> Cow<'a, [u8]> {
    let base = base.unwrap_or(b"/");
    let stripped = matched_prefix_len
        .filter(|_| strip_path)
        .map(|len| without_leading_dots(request_path.get(len..).unwrap_or_default()));
    match (handling, stripped) {
        (PathHandling::V0, Some(postfix)) => join_stripped(base, request_path, postfix),
        (PathHandling::V0, None) => join_whole(base, request_path),
        (PathHandling::V1, Some(postfix)) if base.ends_with(b"/") => concat(base, without_first_slash(postfix)),
        (PathHandling::V1, Some(postfix)) => concat(base, postfix),
        (PathHandling::V1, None) => concat(base, without_first_slash(request_path)),
    }
}

/// Joins with one slash after the matched prefix was removed.
fn join_stripped<'a>(base: &'a [u8], request_path: &[u8], postfix: &'a [u8]) -> Cow<'a, [u8]> {
    let request_ends_in_slash = request_path.ends_with(b"/");
    match (base.strip_suffix(b"/"), postfix.first()) {
        (Some(b""), None) => Cow::Borrowed(b"/"),
        (Some(bare), None) => Cow::Borrowed(if request_ends_in_slash { base } else { bare }),
        (Some(bare), Some(b'/')) => concat(bare, postfix),
        (Some(_), Some(_)) => concat(base, postfix),
        (None, None) if request_ends_in_slash && request_path.len() > 1 => concat(base, b"/"),
        (None, None) => Cow::Borrowed(base),
        (None, Some(b'/')) => concat(base, postfix),
        (None, Some(_)) => Cow::Owned([base, b"/", postfix].concat()),
    }
}

/// Joins with one slash when nothing is removed.
fn join_whole<'a>(base: &'a [u8], request_path: &'a [u8]) -> Cow<'a, [u8]> {
    match base.strip_suffix(b"/") {
        Some(bare) if request_path.starts_with(b"/") => concat(bare, request_path),
        Some(_) => concat(base, request_path),
        None if request_path == b"/" => Cow::Borrowed(base),
        None => concat(base, request_path),
    }
}

fn concat<'a>(head: &'a [u8], tail: &'a [u8]) -> Cow<'a, [u8]> {
    if head.is_empty() {
        Cow::Borrowed(tail)
    } else if tail.is_empty() {
        Cow::Borrowed(head)
    } else {
        Cow::Owned([head, tail].concat())
    }
}

fn without_first_slash(path: &[u8]) -> &[u8] {
    path.strip_prefix(b"/").unwrap_or(path)
}

/// A prefix that ends inside a segment can leave a dot segment behind: it must not reach the upstream.
fn without_leading_dots(postfix: &[u8]) -> &[u8] {
    match postfix {
        b"." | b".." => b"",
        _ => postfix
            .strip_prefix(b"./")
            .or_else(|| postfix.strip_prefix(b"../"))
            .unwrap_or(postfix),
    }
}
