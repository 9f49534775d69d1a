//! What makes a request a WebSocket: the client's demand is checked, the upstream gets one of our own (RFC 6455, section 4).
//!
//! Key and accept value belong to one connection, so each side has its own pair. Subprotocols are negotiated between the
//! two ends: the client's list goes to the upstream, its choice comes back. Compression is agreed on with each side by
//! itself, as `websocket_compression` says. Over HTTP/2 (RFC 8441) `http::h2` makes the client's demand look like that of
//! HTTP/1.1.

use data_encoding::BASE64;

use crate::error::Refusal;
use crate::exchange::Exchange;
use crate::gateway::random;
use crate::http::forward::is_websocket_upgrade;
use crate::http::h1::parse::Framing;
use crate::http::head::{Method, ResponseHead, Version};
use crate::http::headers::{list_has_token, HeaderBlock, Known};
use crate::settings::{EngineSettings, WebSocketCompression};
use crate::ws::deflate;
use crate::ws::session::Session;

const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const VERSION: &[u8] = b"13";
const KEY_BYTES: usize = 16;

/// Check the client's half of the handshake and begin a session.
///
/// # Errors
/// The request is no WebSocket handshake that can be answered.
pub fn begin(exchange: &Exchange, settings: &EngineSettings) -> Result<Session, Refusal> {
    let request = &exchange.request;
    let headers = &request.headers;
    let is_late_enough = matches!(request.version, Version::Http11 | Version::Http2);
    if !is_late_enough || request.method != Method::GET || !is_websocket_upgrade(headers) {
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
    let limits = &settings.limits;
    Ok(Session {
        client_accept: accept_of(key),
        upstream_key: new_key(),
        offers_deflate: settings.websocket_compression == WebSocketCompression::Both,
        client_deflate: None,
        upstream_deflate: None,
        client_limit_bytes: limits.websocket_client_payload_bytes,
        upstream_limit_bytes: limits.websocket_upstream_payload_bytes,
        message: None,
        is_dropped: false,
        farewells: None,
    })
}

/// A key that no other connection has.
#[must_use]
pub fn new_key() -> String {
    BASE64.encode(&random::<KEY_BYTES>())
}

/// Check that a `101` answers the handshake with this key.
///
/// # Errors
/// It answers something else.
pub fn check_accept(key: &[u8], headers: &HeaderBlock) -> Result<(), &'static str> {
    if !is_websocket_upgrade(headers) {
        return Err("invalid handshake: 101 without an upgrade to websocket");
    }
    if headers.get(b"sec-websocket-accept") != Some(accept_of(key).as_bytes()) {
        return Err("invalid handshake: wrong Sec-WebSocket-Accept");
    }
    Ok(())
}

/// Check the upstream's `101` and keep what it agreed to.
///
/// # Errors
/// It is no answer to what was asked.
pub fn take_answer(session: &mut Session, request: &HeaderBlock, head: &ResponseHead) -> Result<(), &'static str> {
    let headers = &head.headers;
    check_accept(session.upstream_key.as_bytes(), headers)?;
    let accepted = deflate::adopt(headers.known_values(Known::SecWebsocketExtensions));
    session.upstream_deflate = match accepted {
        Ok(Some(_)) if !session.offers_deflate => return Err("invalid handshake: an extension that was not offered"),
        Ok(accepted) => accepted,
        Err(_) => return Err("invalid handshake: extensions that were not offered"),
    };
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

/// Make the upstream's `101` the client's, with what is agreed on with the client (its head as plugins left it).
pub fn adopt_answer(
    session: &mut Session,
    compression: WebSocketCompression,
    request: &HeaderBlock,
    head: &mut ResponseHead,
) {
    head.headers.set(b"Connection", &["Upgrade"]);
    head.headers.set(b"Upgrade", &["websocket"]);
    head.headers.set(b"Sec-WebSocket-Accept", &[&session.client_accept]);
    head.headers.remove(b"sec-websocket-extensions");
    head.headers.remove(b"content-length");
    if compression == WebSocketCompression::Off {
        return;
    }
    if let Some((accepted, answer)) = deflate::accept(request.known_values(Known::SecWebsocketExtensions)) {
        session.client_deflate = Some(accepted);
        head.headers.add(b"Sec-WebSocket-Extensions", answer.as_bytes());
    }
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
            offers_deflate: false,
            client_deflate: None,
            upstream_deflate: None,
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
        let mut session = session();
        assert_eq!(take_answer(&mut session, &HeaderBlock::new(), &answer(&GOOD)), Ok(()));
    }

    #[test]
    fn answers_to_something_else_are_refused() {
        let with = |extra: (&'static str, &'static str)| answer(&[&GOOD[..], &[extra]].concat());
        let mut request = HeaderBlock::new();
        request.add(b"Sec-WebSocket-Protocol", b"chat, json");
        let check = |head: &ResponseHead| take_answer(&mut session(), &request, head);
        assert_eq!(check(&with(("Sec-WebSocket-Protocol", "json"))), Ok(()));
        assert!(check(&with(("Sec-WebSocket-Protocol", "xml"))).is_err());
        assert!(check(&with(("Sec-WebSocket-Extensions", "permessage-deflate"))).is_err());
        assert!(check(&answer(&GOOD[..2])).is_err());
        assert!(check(&answer(&GOOD[1..])).is_err());
    }

    #[test]
    fn compression_is_agreed_on_with_each_side_by_itself() {
        let mut session = session();
        session.offers_deflate = true;
        let request = HeaderBlock::new();
        let accepting = answer(&[&GOOD[..], &[("Sec-WebSocket-Extensions", deflate::OFFER)]].concat());
        assert_eq!(take_answer(&mut session, &request, &accepting), Ok(()));
        assert!(session.upstream_deflate.is_some());
        assert_eq!(take_answer(&mut session, &request, &answer(&GOOD)), Ok(()));
        assert!(session.upstream_deflate.is_none());

        let mut offering = HeaderBlock::new();
        offering.add(b"Sec-WebSocket-Extensions", b"permessage-deflate");
        for (compression, request, is_agreed) in [
            (WebSocketCompression::Off, &offering, false),
            (WebSocketCompression::Client, &request, false),
            (WebSocketCompression::Client, &offering, true),
            (WebSocketCompression::Both, &offering, true),
        ] {
            let mut head = answer(&GOOD);
            session.client_deflate = None;
            adopt_answer(&mut session, compression, request, &mut head);
            assert_eq!(session.client_deflate.is_some(), is_agreed);
            let extensions = head.headers.known(Known::SecWebsocketExtensions);
            assert_eq!(extensions, is_agreed.then_some(deflate::OFFER.as_bytes()));
        }
    }
}
