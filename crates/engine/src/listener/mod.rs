//! Accepting connections: sockets to byte streams, TLS where the listener ends it, then HTTP/1 or HTTP/2.

use std::future::{poll_fn, Future};
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::exchange::{ClientConnection, ClientTls};
use crate::gateway::{ConnectionGuard, Gateway};
use crate::http::forward::PROXY_PROTOCOL;
use crate::http::{h1, h2};
use crate::listener::prefixed::Prefixed;
use crate::listener::proxy_protocol::Proxied;
use crate::live::Live;
use crate::phase::Phase;
use crate::runner::{Handshake, HandshakeStep};
use crate::settings::ListenerSettings;
use crate::stream;
use crate::tls::negotiated;
use crate::tls::wishes::{with_wishes, HandshakeWishes};

pub mod prefixed;
pub mod proxy_protocol;

/// First bytes of a client that speaks HTTP/2 by prior knowledge (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Pause after a failed accept (out of file descriptors), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Accept connections until draining begins.
pub async fn accept(gateway: Arc<Gateway>, socket: TcpListener, settings: Arc<ListenerSettings>) {
    loop {
        let mut draining = std::pin::pin!(gateway.draining());
        let accepted = poll_fn(|context| {
            if draining.as_mut().poll(context).is_ready() {
                return Poll::Ready(None);
            }
            socket.poll_accept(context).map(Some)
        })
        .await;
        let (stream, peer) = match accepted {
            None => return,
            Some(Ok(accepted)) => accepted,
            Some(Err(error)) => {
                tracing::error!("accept on {}:{}: {error}", settings.address, settings.port);
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        gateway.counters.accepted.fetch_add(1, Ordering::Relaxed);
        let limit = gateway.settings.limits.connections;
        if limit != 0 && gateway.counters.active.load(Ordering::Relaxed) >= limit {
            tracing::warn!("connection of {peer} refused: worker_connections ({limit}) are open");
            continue;
        }
        let guard = gateway.register();
        tokio::spawn(serve(gateway.clone(), guard, stream, peer, settings.clone()));
    }
}

async fn serve(
    gateway: Arc<Gateway>,
    guard: ConnectionGuard,
    stream: TcpStream,
    peer: SocketAddr,
    settings: Arc<ListenerSettings>,
) {
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let local = stream
        .local_addr()
        .unwrap_or_else(|_| SocketAddr::new(settings.address, settings.port));
    let mut connection = connection_of(&gateway, peer, local);
    let mut stream = stream;
    let mut read_ahead = BytesMut::new();
    if settings.proxy_protocol {
        match read_proxied(&gateway, &connection, &mut stream, &mut read_ahead).await {
            Some(proxied) => connection.proxied = proxied.filter(|_| connection.is_trusted),
            None => return,
        }
    }
    if settings.stream {
        return stream::tcp::serve(&gateway, connection, stream, read_ahead, &settings).await;
    }
    if !settings.ssl {
        return plain(&gateway, &guard, connection, stream, read_ahead, settings.http2).await;
    }
    let patience = Duration::from_millis(gateway.settings.client_timeouts.handshake_ms);
    let stream = Prefixed::new(stream, read_ahead);
    let offer = Offer::Http { http2: settings.http2 };
    let secured = match timeout(patience, secure(&gateway, gateway.live(), &connection, stream, offer)).await {
        Ok(Some(secured)) => secured,
        Ok(None) => return,
        Err(_) => {
            tracing::info!(client = %connection.peer_ip_text, "TLS handshake timed out");
            return;
        }
    };
    let (is_http2, tls) = facts(&secured);
    connection.tls = Some(tls);
    let connection = Arc::new(connection);
    if is_http2 {
        h2::serve(&gateway, connection, &guard, secured).await;
    } else {
        h1::server::serve(&gateway, connection, &guard, secured, BytesMut::new()).await;
    }
}

/// What is known of a client before its first byte.
#[must_use]
pub fn connection_of(gateway: &Gateway, peer: SocketAddr, local: SocketAddr) -> ClientConnection {
    let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
    ClientConnection {
        peer,
        peer_ip_text: peer.ip().to_string(),
        is_trusted: gateway
            .settings
            .trusted_ips
            .iter()
            .any(|network| network.contains(&peer.ip())),
        local,
        mapped_port: mapped_port(gateway, local.port()),
        tls: None,
        proxied: None,
    }
}

/// Read the PROXY protocol head; None when there is no valid one in time.
async fn read_proxied(
    gateway: &Gateway,
    connection: &ClientConnection,
    stream: &mut TcpStream,
    read_ahead: &mut BytesMut,
) -> Option<Option<Proxied>> {
    let patience = Duration::from_millis(gateway.settings.client_timeouts.header_ms);
    let cause = match timeout(patience, proxy_protocol::read(stream, read_ahead)).await {
        Ok(Ok(proxied)) => return Some(proxied),
        Ok(Err(fault)) => fault.to_string(),
        Err(_) => "no PROXY protocol head in time".to_owned(),
    };
    gateway.refused_streams.write(|more| {
        tracing::warn!(client = %connection.peer_ip_text, "connection refused: {cause}{more}");
    });
    None
}

async fn plain(
    gateway: &Arc<Gateway>,
    guard: &ConnectionGuard,
    connection: ClientConnection,
    mut stream: TcpStream,
    mut read_ahead: BytesMut,
    may_be_http2: bool,
) {
    let connection = Arc::new(connection);
    if may_be_http2 {
        let patience = Duration::from_millis(gateway.settings.client_timeouts.header_ms);
        match timeout(patience, read_preface(&mut stream, &mut read_ahead)).await {
            Ok(Some(true)) => return h2::serve(gateway, connection, guard, Prefixed::new(stream, read_ahead)).await,
            Ok(Some(false)) => {}
            Ok(None) | Err(_) => return,
        }
    }
    h1::server::serve(gateway, connection, guard, stream, read_ahead).await;
}

/// Read until it is clear whether the client speaks HTTP/2; None when it left before.
async fn read_preface(stream: &mut TcpStream, read_ahead: &mut BytesMut) -> Option<bool> {
    loop {
        let length = read_ahead.len().min(PREFACE.len());
        if read_ahead.get(..length) != PREFACE.get(..length) {
            return Some(false);
        }
        if length == PREFACE.len() {
            return Some(true);
        }
        if stream.read_buf(read_ahead).await.ok()? == 0 {
            return None;
        }
    }
}

type TlsStream = tokio_rustls::server::TlsStream<Prefixed>;

/// What is agreed with a client over TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offer {
    /// HTTP/1.1, and HTTP/2 where the listener has it.
    Http {
        /// The listener's flag.
        http2: bool,
    },
    /// Nothing: the bytes are a stream.
    Stream,
}

/// The TLS handshake with its certificate phase; None when it failed.
pub async fn secure(
    gateway: &Gateway,
    live: Arc<Live>,
    connection: &ClientConnection,
    stream: Prefixed,
    offer: Offer,
) -> Option<TlsStream> {
    let acceptor = tokio_rustls::LazyConfigAcceptor::new(rustls::server::Acceptor::default(), stream);
    let start = match acceptor.await {
        Ok(start) => start,
        Err(error) => {
            tracing::info!(client = %connection.peer_ip_text, "TLS handshake failed: {error}");
            return None;
        }
    };
    let server_name = start.client_hello().server_name().map(str::to_ascii_lowercase);
    let (mut config, phases) = match offer {
        Offer::Http { http2 } => (live.tls.config_for(server_name.as_deref(), http2), live.global_phases),
        Offer::Stream => (
            live.tls.stream_config_for(server_name.as_deref()),
            live.stream_global_phases,
        ),
    };
    if phases & Phase::Certificate.bit() != 0 {
        let is_stream = offer == Offer::Stream;
        let proxied = connection.proxied.as_ref();
        let is_believed = is_stream || gateway.settings.real_ip_header == PROXY_PROTOCOL;
        let handshake = Handshake {
            live,
            server_name: server_name.clone(),
            peer: connection.peer,
            forwarded: proxied
                .filter(|_| is_believed)
                .map_or(connection.peer, |proxied| proxied.source),
            vpce_id: proxied.and_then(|proxied| proxied.vpce_id.clone()),
            local: connection.local,
            is_stream,
            is_failed: false,
            wishes: HandshakeWishes::default(),
            runner_state: None,
        };
        let mut step = gateway.runner.certificate(Box::new(handshake));
        let handshake = loop {
            match step {
                HandshakeStep::Done(handshake) => break handshake,
                HandshakeStep::Wait(next) => step = next.await?,
            }
        };
        if handshake.is_failed {
            return None;
        }
        let wishes = &handshake.wishes;
        if !wishes.is_empty() {
            match with_wishes(&config, wishes, &gateway.settings.tls) {
                Ok(changed) => config = changed,
                Err(faults) => {
                    tracing::error!(client = %connection.peer_ip_text, "TLS handshake failed: {faults:?}");
                    return None;
                }
            }
        }
    }
    match start.into_stream(config).await {
        Ok(stream) => Some(stream),
        Err(error) => {
            tracing::info!(client = %connection.peer_ip_text, server_name, "TLS handshake failed: {error}");
            None
        }
    }
}

/// (HTTP/2 was agreed, facts for requests).
pub fn facts(stream: &TlsStream) -> (bool, ClientTls) {
    let (_, session) = stream.get_ref();
    let tls = ClientTls {
        server_name: session.server_name().map(str::to_ascii_lowercase),
        version: negotiated::version_name(session),
        cipher: negotiated::cipher_name(session),
        client_certificates: session
            .peer_certificates()
            .unwrap_or_default()
            .iter()
            .map(|der| der.to_vec())
            .collect(),
    };
    (session.alpn_protocol() == Some(crate::tls::ALPN_HTTP2), tls)
}

fn mapped_port(gateway: &Gateway, port: u16) -> u16 {
    gateway
        .settings
        .port_maps
        .iter()
        .find(|(inside, _)| *inside == port)
        .map_or(port, |(_, outside)| *outside)
}
