use std::net::Ipv4Addr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::plan::Plan;
use crate::tls::client::{ClientTls, UpstreamAlpn};
use crate::tls::server::ServerTls;
use crate::tls::sessions::ServerSessions;
use crate::tls::tests::{authority, service, tls_settings};

const LONG: Duration = Duration::from_secs(20);

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("runtime")
        .block_on(future)
}

async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("bind");
    let address = listener.local_addr().expect("address");
    (listener, address)
}

#[test]
fn a_closed_port_refuses() {
    block_on(async {
        let (listener, address) = listen().await;
        drop(listener);
        let error = connect(address, None, LONG).await.expect_err("refused");
        assert_eq!(error.kind, ConnectErrorKind::Refused);
        assert_eq!(error.to_string(), format!("connection refused ({address})"));
    });
}

#[test]
fn a_plain_connection_carries_bytes_without_delay() {
    block_on(async {
        let (listener, address) = listen().await;
        let (client, server) = tokio::join!(connect(address, None, LONG), listener.accept());
        let (mut client, mut server) = (client.expect("connect"), server.expect("accept").0);
        assert!(client.tcp().nodelay().expect("option"));
        assert!(client.is_write_vectored());
        client.write_all(b"ping").await.expect("write");
        let mut got = [0; 4];
        server.read_exact(&mut got).await.expect("read");
        assert_eq!(&got, b"ping");
    });
}

#[test]
fn a_server_that_never_answers_the_handshake_times_out() {
    block_on(async {
        let (listener, address) = listen().await;
        let tls = ClientTls::new(&tls_settings()).expect("settings");
        let config = tls
            .config_for(&Plan::default(), &service(), None, UpstreamAlpn::Http1)
            .expect("config");
        let name = ServerName::try_from("a.test").expect("name");
        let connecting = connect(
            address,
            Some((Arc::clone(&config.config), name)),
            Duration::from_millis(50),
        );
        let (client, server) = tokio::join!(connecting, listener.accept());
        assert_eq!(client.expect_err("silence").kind, ConnectErrorKind::Timeout);
        drop(server);
    });
}

#[test]
fn tls_verifies_the_name_and_takes_in_session_tickets_while_idle() {
    block_on(async {
        let authority = authority();
        let mut settings = tls_settings();
        settings.default_certificates = vec![authority.issue("a.test")];
        settings.trusted_certificates = authority.pem();
        let sessions = ServerSessions::new(&settings).expect("sessions");
        let server_tls = ServerTls::build(&[], &Default::default(), &settings, &sessions, None).expect("build");
        let mut service = service();
        service.tls_verify = Some(true);
        let config = ClientTls::new(&settings)
            .expect("settings")
            .config_for(&Plan::default(), &service, None, UpstreamAlpn::Http1)
            .expect("config");

        let (listener, address) = listen().await;
        for (name, is_accepted) in [("a.test", true), ("b.test", false)] {
            let acceptor = TlsAcceptor::from(server_tls.config_for(None, false));
            let serving = async {
                let (tcp, _) = listener.accept().await?;
                acceptor.accept(tcp).await
            };
            let name = ServerName::try_from(name).expect("name");
            let connecting = connect(address, Some((Arc::clone(&config.config), name)), LONG);
            let (client, server) = tokio::join!(connecting, serving);
            if !is_accepted {
                let kind = client.expect_err("wrong name").kind;
                assert!(
                    matches!(&kind, ConnectErrorKind::Tls(text) if text.contains("not valid for name")),
                    "{kind}"
                );
                continue;
            }
            let (mut client, mut server) = (client.expect("client"), server.expect("server"));
            assert_eq!(client.alpn_protocol(), Some(&b"http/1.1"[..]));
            server.write_all(b"x").await.expect("write");
            server.flush().await.expect("flush");
            let mut got = [0];
            client.read_exact(&mut got).await.expect("read");
            assert_eq!(&got, b"x");
        }
    });
}
