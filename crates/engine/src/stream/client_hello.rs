//! Reading a ClientHello without answering it: the bytes stay as they came, for whoever ends TLS.

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt};

/// Most bytes read while looking for the end of a ClientHello (own choice): with post-quantum key shares it takes some
/// two thousand.
const MAX_BYTES: usize = 32 * 1024;
const READ_BYTES: usize = 4096;

/// Why there is no ClientHello.
#[derive(Debug, thiserror::Error)]
pub enum HelloFault {
    /// The client left.
    #[error("the client left before its ClientHello was complete")]
    Ended,
    /// Not TLS, or broken.
    #[error("no TLS ClientHello: {0}")]
    Malformed(String),
    /// No end in sight.
    #[error("ClientHello longer than {MAX_BYTES} bytes")]
    TooLong,
}

/// Read until the ClientHello is complete; `buffer` keeps all bytes, those that were in it before included.
///
/// Gives the server name, lower case.
///
/// # Errors
/// See `HelloFault`. The caller bounds the time.
pub async fn read<S: AsyncRead + Unpin>(stream: &mut S, buffer: &mut BytesMut) -> Result<Option<String>, HelloFault> {
    let mut acceptor = rustls::server::Acceptor::default();
    let mut seen = 0;
    loop {
        let mut fresh = buffer.get(seen..).unwrap_or_default();
        while !fresh.is_empty() {
            let taken = acceptor
                .read_tls(&mut fresh)
                .map_err(|error| HelloFault::Malformed(error.to_string()))?;
            match acceptor.accept() {
                Ok(Some(accepted)) => {
                    return Ok(accepted.client_hello().server_name().map(str::to_ascii_lowercase));
                }
                Ok(None) if taken > 0 => {}
                Ok(None) => break,
                Err((error, _alert)) => return Err(HelloFault::Malformed(error.to_string())),
            }
        }
        seen = buffer.len();
        if seen >= MAX_BYTES {
            return Err(HelloFault::TooLong);
        }
        buffer.reserve(READ_BYTES);
        match stream.read_buf(buffer).await {
            Ok(0) | Err(_) => return Err(HelloFault::Ended),
            Ok(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::provider;
    use std::sync::Arc;

    fn hello(name: &str) -> Vec<u8> {
        let config = rustls::ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        let name = rustls_pki_types::ServerName::try_from(name.to_owned()).expect("name");
        let mut client = rustls::ClientConnection::new(Arc::new(config), name).expect("client");
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).expect("hello");
        bytes
    }

    #[tokio::test]
    async fn the_name_is_found_however_the_bytes_arrive_and_no_byte_is_lost() {
        let mut sent = hello("Echo.Test");
        sent.extend(b"more");
        for piece in [1, 7, 4096] {
            let (mut client, mut server) = tokio::io::duplex(piece);
            let bytes = sent.clone();
            let writing = tokio::spawn(async move {
                let _ = tokio::io::AsyncWriteExt::write_all(&mut client, &bytes).await;
            });
            let mut buffer = BytesMut::new();
            let name = read(&mut server, &mut buffer).await.expect("hello");
            assert_eq!(name.as_deref(), Some("echo.test"));
            assert_eq!(buffer, sent[..buffer.len()]);
            writing.abort();
        }
        let mut buffer = BytesMut::new();
        let name = read(&mut hello("127.0.0.1").as_slice(), &mut buffer)
            .await
            .expect("hello");
        assert_eq!(name, None);
    }

    #[tokio::test]
    async fn what_is_no_hello_is_refused() {
        let mut buffer = BytesMut::new();
        let fault = read(&mut b"GET / HTTP/1.1\r\n\r\n".as_slice(), &mut buffer).await;
        assert!(matches!(fault, Err(HelloFault::Malformed(_))), "{fault:?}");
        let mut buffer = BytesMut::new();
        let fault = read(&mut hello("a.test")[..50].to_vec().as_slice(), &mut buffer).await;
        assert!(matches!(fault, Err(HelloFault::Ended)), "{fault:?}");
        // A record of a handshake message that goes on for ever.
        let mut endless = vec![22, 3, 1, 64, 0, 1, 0, 255, 255];
        endless.resize(5 + 16_384, 0);
        let endless: Vec<u8> = endless
            .iter()
            .copied()
            .chain([22, 3, 1, 64, 0])
            .chain([0; 16_384])
            .collect();
        let mut buffer = BytesMut::new();
        assert!(read(&mut endless.as_slice(), &mut buffer).await.is_err());
    }
}
