//! Opening a connection to an upstream: TCP, then TLS where the scheme asks for it.
//!
//! Owns the two kinds of stream and what went wrong while opening one; whether to try elsewhere is decided by the
//! caller from `ConnectErrorKind`. Delays of small writes are off (TCP_NODELAY).

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::exchange::UpstreamTls;
use crate::tls::negotiated;

#[cfg(test)]
mod tests;

/// A connection to an upstream.
#[derive(Debug)]
pub enum UpstreamStream {
    /// Plain.
    Tcp(TcpStream),
    /// Encrypted; boxed, as it is many times larger.
    Tls(Box<tokio_rustls::client::TlsStream<TcpStream>>),
}

/// Why no connection came about.
#[derive(Debug, thiserror::Error)]
#[error("{kind} ({address})")]
pub struct ConnectError {
    /// What to decide by.
    pub kind: ConnectErrorKind,
    /// Whom we tried.
    pub address: SocketAddr,
}

/// The kinds of failure.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectErrorKind {
    /// Nobody listens.
    #[error("connection refused")]
    Refused,
    /// No connection, or no end of the TLS handshake, in the given time.
    #[error("connection timed out")]
    Timeout,
    /// The TLS handshake failed, e.g. for the certificate; the text is for the log.
    #[error("TLS handshake failed: {0}")]
    Tls(String),
    /// No way to the host, no free port, ...
    #[error("connection failed: {0}")]
    Other(String),
}

/// Connect to `address`, over TLS if a configuration and the name to ask for and verify are given.
///
/// `timeout` bounds the TCP connect and the TLS handshake each, as nginx's `proxy_connect_timeout` does.
///
/// # Errors
/// See `ConnectErrorKind`.
///
/// # Cancel safety
/// Safe: dropping the future closes what was opened.
pub async fn connect(
    address: SocketAddr,
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    timeout: Duration,
) -> Result<UpstreamStream, ConnectError> {
    let failed = |kind| ConnectError { kind, address };
    let tcp = within(timeout, TcpStream::connect(address), tcp_kind)
        .await
        .map_err(failed)?;
    tcp.set_nodelay(true).map_err(|error| failed(tcp_kind(&error)))?;
    let Some((config, server_name)) = tls else {
        return Ok(UpstreamStream::Tcp(tcp));
    };
    let handshake = TlsConnector::from(config).connect(server_name, tcp);
    let stream = within(timeout, handshake, |error| ConnectErrorKind::Tls(error.to_string()))
        .await
        .map_err(failed)?;
    Ok(UpstreamStream::Tls(Box::new(stream)))
}

async fn within<T>(
    timeout: Duration,
    step: impl Future<Output = io::Result<T>>,
    kind: impl Fn(&io::Error) -> ConnectErrorKind,
) -> Result<T, ConnectErrorKind> {
    match tokio::time::timeout(timeout, step).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => Err(kind(&error)),
        Err(_elapsed) => Err(ConnectErrorKind::Timeout),
    }
}

fn tcp_kind(error: &io::Error) -> ConnectErrorKind {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => ConnectErrorKind::Refused,
        io::ErrorKind::TimedOut => ConnectErrorKind::Timeout,
        _ => ConnectErrorKind::Other(error.to_string()),
    }
}

impl UpstreamStream {
    /// The protocol agreed by ALPN, if any.
    #[must_use]
    pub fn alpn_protocol(&self) -> Option<&[u8]> {
        match self {
            Self::Tcp(_) => None,
            Self::Tls(stream) => stream.get_ref().1.alpn_protocol(),
        }
    }

    /// TLS facts of the connection; None without TLS.
    #[must_use]
    pub fn tls_facts(&self) -> Option<UpstreamTls> {
        let Self::Tls(stream) = self else { return None };
        let session = stream.get_ref().1;
        let certificate = session.peer_certificates().and_then(|chain| chain.first());
        Some(UpstreamTls {
            version: negotiated::version_name(session),
            cipher: negotiated::cipher_name(session),
            certificate: certificate.map(|leaf| leaf.to_vec()),
        })
    }

    /// The TCP connection below.
    #[must_use]
    pub fn tcp(&self) -> &TcpStream {
        match self {
            Self::Tcp(stream) => stream,
            Self::Tls(stream) => stream.get_ref().0,
        }
    }
}

impl AsyncRead for UpstreamStream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for UpstreamStream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(context, slices),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_write_vectored(context, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_shutdown(context),
        }
    }
}
