//! What makes a request a WebSocket: the client's demand is checked, the upstream gets one of our own (RFC 6455, section 4).
//!
//! Key and accept value belong to one connection, so each side has its own pair. Subprotocols are negotiated between the
//! two ends: the client's list goes to the upstream, its choice comes back. Extensions are offered to nobody.

use data_encoding::BASE64;

use crate::error::Refusal;
use crate::exchange::Exchange;
use crate::gateway::random;
use crate::http::forward::is_websocket_upgrade;
use crate::http::h1::parse::Framing;
use crate::http::head::{Method, ResponseHead, Version};
use crate::http::headers::{list_has_token, HeaderBlock, Known};
use crate::settings::Limits;
use crate::ws::session::Session;

const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const VERSION: &[u8] = b"13";
const KEY_BYTES: usize = 16;

/// Check the client's half of the handshake and begin a session.
///
/// # Errors
/// The request is no WebSocket handshake that can be answered.
pub fn begin(exchange: &Exchange, limits: &Limits) -> Result<Session, Refusal> {
    let request = &exchange.request;
    let headers = &request.headers;
    if request.version != Version::Http11 || request.method != Method::GET || !is_websocket_upgrade(headers) {
        return Err(Refusal::WebSocketRequired);
    }
    if headers.known(Known::SecWebsocketVersion) != Some(VERSION) {
        return Err(Refusal::WebSocketVersion);
    }
    if exchange.body.framing != Framing::None {
        return Err(Refusal::WebSocketHandshake("a body"));
    }
    let mut keys = headers.known_values(Known::SecWebsocketKey);
    let key = match (keys.next(), keys.next()) {
        (Some(key), None) => key,
        _ => return Err(Refusal::WebSocketHandshake("not one Sec-WebSocket-Key")),
    };
    if !BASE64.decode(key).is_ok_and(|bytes| bytes.len() == KEY_BYTES) {
        return Err(Refusal::WebSocketHandshake("an invalid Sec-WebSocket-Key"));
    }
    Ok(Session {
        client_accept: accept_of(key),
        upstream_key: BASE64.encode(&random::<KEY_BYTES>()),
        client_limit_bytes: limits.websocket_client_payload_bytes,
        upstream_limit_bytes: limits.websocket_upstream_payload_bytes,
        message: None,
        is_dropped: false,
        farewells: None,
    })
}

/// Check the upstream's `101`.
///
/// # Errors
/// It is no answer to what was asked.
pub fn check_answer(session: &Session, request: &HeaderBlock, head: &ResponseHead) -> Result<(), &'static str> {
    let headers = &head.headers;
    if !is_websocket_upgrade(headers) {
        return Err("invalid handshake: 101 without an upgrade to websocket");
    }
    if headers.get(b"sec-websocket-accept") != Some(accept_of(session.upstream_key.as_bytes()).as_bytes()) {
        return Err("invalid handshake: wrong Sec-WebSocket-Accept");
    }
    if headers
        .known(Known::SecWebsocketExtensions)
        .is_some_and(|value| !value.is_empty())
    {
        return Err("invalid handshake: an extension that was not offered");
    }
    let mut chosen = headers.values(b"sec-websocket-protocol");
    let is_offered = match (chosen.next(), chosen.next()) {
        (None, _) => true,
        (Some(protocol), None) => request
            .values(b"sec-websocket-protocol")
            .any(|offered| list_has_token(offered, &protocol.to_ascii_lowercase())),
        (Some(_), Some(_)) => false,
    };
    if !is_offered {
        return Err("invalid handshake: a subprotocol that was not offered");
    }
    Ok(())
}

/// Make the upstream's `101` the client's.
pub fn adopt_answer(session: &Session, head: &mut ResponseHead) {
    head.headers.set(b"Connection", &["Upgrade"]);
    head.headers.set(b"Upgrade", &["websocket"]);
    head.headers.set(b"Sec-WebSocket-Accept", &[&session.client_accept]);
    head.headers.remove(b"sec-websocket-extensions");
    head.headers.remove(b"content-length");
}

fn accept_of(key: &[u8]) -> String {
    let mut hash = sha1_smol::Sha1::from(key);
    hash.update(GUID);
    BASE64.encode(&hash.digest().bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session() -> Session {
        Session {
            client_accept: String::new(),
            upstream_key: "dGhlIHNhbXBsZSBub25jZQ==".to_owned(),
            client_limit_bytes: 1,
            upstream_limit_bytes: 1,
            message: None,
            is_dropped: false,
            farewells: None,
        }
    }

    fn answer(fields: &[(&str, &str)]) -> ResponseHead {
        let mut head = ResponseHead {
            status: 101,
            headers: HeaderBlock::new(),
        };
        for (name, value) in fields {
            head.headers.add(name.as_bytes(), value.as_bytes());
        }
        head
    }

    const GOOD: [(&str, &str); 3] = [
        ("Upgrade", "WebSocket"),
        ("Connection", "upgrade"),
        ("Sec-WebSocket-Accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
    ];

    #[test]
    fn the_sample_of_the_rfc_is_accepted() {
        assert_eq!(check_answer(&session(), &HeaderBlock::new(), &answer(&GOOD)), Ok(()));
    }

    #[test]
    fn answers_to_something_else_are_refused() {
        let with = |extra: (&'static str, &'static str)| answer(&[&GOOD[..], &[extra]].concat());
        let mut request = HeaderBlock::new();
        request.add(b"Sec-WebSocket-Protocol", b"chat, json");
        let check = |head: &ResponseHead| check_answer(&session(), &request, head);
        assert_eq!(check(&with(("Sec-WebSocket-Protocol", "json"))), Ok(()));
        assert!(check(&with(("Sec-WebSocket-Protocol", "xml"))).is_err());
        assert!(check(&with(("Sec-WebSocket-Extensions", "permessage-deflate"))).is_err());
        assert!(check(&answer(&GOOD[..2])).is_err());
        assert!(check(&answer(&GOOD[1..])).is_err());
    }
}
