//! Streams over TCP: plain, with TLS ended here, or passed through with the server name read.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::exchange::{ClientConnection, Exchange};
use crate::gateway::Gateway;
use crate::listener::prefixed::Prefixed;
use crate::listener::{facts, secure, Offer};
use crate::live::Live;
use crate::router::stream::StreamTransport;
use crate::settings::ListenerSettings;
use crate::stream::relay::{relay, Moved};
use crate::stream::session::{
    begin, enter_route, find_route, finish, preread, refuse, refuse_without_route, take_answer, StreamProtocol,
};
use crate::stream::{client_hello, connect};

/// The contract's text for a stream that no route takes.
const NO_ROUTE: &str = "no Route found with those values";
/// The contract's text for a stream whose route is for something else.
const UNEXPECTED_PROTOCOLS: &str = "unexpected protocols in matched Route";
/// Time for the bytes of an answer in preread to leave.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Serve one connection; `read_ahead` are bytes that came behind a PROXY protocol head.
pub async fn serve(
    gateway: &Arc<Gateway>,
    connection: ClientConnection,
    mut stream: TcpStream,
    mut read_ahead: BytesMut,
    settings: &ListenerSettings,
) {
    let live = gateway.live();
    if !settings.ssl {
        let route = find_route(&live, &connection, StreamTransport::Tcp, None);
        let exchange = begin(gateway, live, Arc::new(connection), StreamProtocol::Tcp, None);
        return run(
            gateway,
            exchange,
            route,
            NO_ROUTE,
            &mut Prefixed::new(stream, read_ahead),
        )
        .await;
    }
    let patience = Duration::from_millis(gateway.settings.client_timeouts.handshake_ms);
    let client = connection.peer_ip_text.clone();
    let server_name = match timeout(patience, client_hello::read(&mut stream, &mut read_ahead)).await {
        Ok(Ok(server_name)) => server_name,
        Ok(Err(fault)) => {
            tracing::info!(%client, "TLS stream refused: {fault}");
            return;
        }
        Err(_) => {
            tracing::info!(%client, "TLS stream refused: no ClientHello in time");
            return;
        }
    };
    let name = server_name.as_deref();
    let route = find_route(&live, &connection, StreamTransport::Tls, name);
    let mut stream = Prefixed::new(stream, read_ahead);
    let Some(position) = route else {
        let is_plain_route = find_route(&live, &connection, StreamTransport::Tcp, name).is_some();
        let cause = if is_plain_route { UNEXPECTED_PROTOCOLS } else { NO_ROUTE };
        let exchange = begin(gateway, live, Arc::new(connection), StreamProtocol::Tls, server_name);
        return run(gateway, exchange, None, cause, &mut stream).await;
    };
    if is_passthrough(&live, position) {
        let exchange = begin(
            gateway,
            live,
            Arc::new(connection),
            StreamProtocol::TlsPassthrough,
            server_name,
        );
        return run(gateway, exchange, route, NO_ROUTE, &mut stream).await;
    }
    let mut connection = connection;
    let secured = timeout(
        patience,
        secure(gateway, live.clone(), &connection, stream, Offer::Stream),
    )
    .await;
    let mut secured = match secured {
        Ok(Some(secured)) => secured,
        Ok(None) => return,
        Err(_) => {
            tracing::info!(%client, "TLS handshake timed out");
            return;
        }
    };
    connection.tls = Some(facts(&secured).1);
    let exchange = begin(gateway, live, Arc::new(connection), StreamProtocol::Tls, server_name);
    run(gateway, exchange, route, NO_ROUTE, &mut secured).await;
}

fn is_passthrough(live: &Live, route: usize) -> bool {
    let route = live.routes.get(route);
    route.is_some_and(|route| {
        route
            .plan
            .protocols
            .iter()
            .any(|protocol| protocol == "tls_passthrough")
    })
}

/// All stages behind the client's side: preread, connect, copy, log.
async fn run<C>(
    gateway: &Arc<Gateway>,
    mut exchange: Box<Exchange>,
    route: Option<usize>,
    without_route: &str,
    client: &mut C,
) where
    C: AsyncRead + AsyncWrite + Unpin,
{
    let Some(route) = route else {
        refuse_without_route(gateway, &mut exchange, without_route);
        return finish(gateway, exchange);
    };
    enter_route(&mut exchange, route);
    let Some(mut exchange) = preread(gateway, exchange).await else {
        return;
    };
    if let Some(answer) = take_answer(gateway, &mut exchange) {
        let sending = async {
            client.write_all(&answer).await?;
            client.shutdown().await
        };
        if let Ok(Ok(())) = timeout(ANSWER_TIMEOUT, sending).await {
            exchange.response_bytes = answer.len() as u64;
        }
        return finish(gateway, exchange);
    }
    let connected = match connect::open(gateway, &mut exchange).await {
        Ok(connected) => connected,
        Err(refusal) => {
            refuse(gateway, &mut exchange, &refusal);
            return finish(gateway, exchange);
        }
    };
    let mut upstream = connected.stream;
    let mut moved = Moved::default();
    let cause = tokio::select! {
        is_ended = relay(client, &mut upstream, connected.idle, &mut moved) => match is_ended {
            true => None,
            false => Some(format!("{} ms without a byte", connected.idle.as_millis())),
        },
        () = gateway.out_of_time() => Some("the worker is going away".to_owned()),
    };
    if let Some(cause) = cause {
        let client = exchange.forwarded_client.0;
        tracing::info!(request_id = exchange.id_text(), %client, "stream closed: {cause}");
    }
    count(&mut exchange, &moved);
    finish(gateway, exchange);
}

fn count(exchange: &mut Exchange, moved: &Moved) {
    exchange.request_bytes = moved.received;
    exchange.response_bytes = moved.sent;
    if let Some(session) = &mut exchange.session {
        session.upstream_received = moved.upstream_received;
        session.upstream_sent = moved.upstream_sent;
    }
}
