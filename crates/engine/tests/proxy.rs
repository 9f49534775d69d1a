//! The engine as a whole, without Python: real sockets, runners written in Rust.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use headgate_engine::exchange::Exchange;
use headgate_engine::http::respond::answer_exit;
use headgate_engine::phase::Phase;
use headgate_engine::runner::{Finished, Handshake, HandshakeStep, NoHandlers, PhaseRunner, Step};
use headgate_engine::server::Server;

/// An engine on its own thread, drained when dropped.
struct Running {
    server: Arc<Server>,
    address: SocketAddr,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    fn start(runner: Arc<dyn PhaseRunner>, upstream: SocketAddr, phases: u32) -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let settings = settings(address.port());
        let server = Arc::new(Server::build(serde_json::from_str(&settings).unwrap(), runner).unwrap());
        let plan = format!(
            r#"{{"revision": 1, "services": [{{"id": "s", "protocol": "http", "host": "127.0.0.1", "port": {}}}],
                "routes": [{{"id": "r", "protocols": ["http"], "paths": ["/"], "service": 0, "phases": {phases}}}]}}"#,
            upstream.port()
        );
        server.apply(plan.as_bytes(), None).unwrap();
        let serving = server.clone();
        let thread = std::thread::spawn(move || serving.run(vec![socket.into()]).unwrap());
        Self {
            server,
            address,
            thread: Some(thread),
        }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream
    }

    /// Send one request on a connection of its own: (status line, body).
    fn ask(&self, target: &str) -> (String, Vec<u8>) {
        let mut stream = self.connect();
        write!(
            stream,
            "GET {target} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"
        )
        .unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let end = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
        let head = String::from_utf8_lossy(&answer[..end]).into_owned();
        (head.lines().next().unwrap().to_owned(), answer[end + 4..].to_vec())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.server.stop();
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn settings(port: u16) -> String {
    format!(
        r#"{{"server_token": "headgate/test",
        "listeners": [{{"fd": -1, "address": "127.0.0.1", "port": {port}, "ssl": false, "http2": false, "proxy_protocol": false,
            "stream": false, "udp": false}}],
        "trusted_ips": [], "real_ip_header": "x-real-ip", "real_ip_recursive": false, "port_maps": [],
        "response_headers": {{"server": true, "via": true, "proxy_latency": false, "upstream_latency": false,
            "response_latency": false, "upstream_status": false, "request_id": true}},
        "upstream_request_id": true, "allow_debug_header": false, "error_default_type": "text/plain",
        "websocket_compression": "off",
        "error_templates": {{}},
        "limits": {{"request_line_bytes": 8192, "header_line_bytes": 8192, "request_head_bytes": 32768,
            "request_header_count": 100, "response_head_bytes": 65536, "request_body_bytes": 0,
            "request_body_buffer_bytes": 8192, "request_body_memory_bytes": 1048576,
            "response_buffer_bytes": 1048576, "response_read_ahead_bytes": 65536, "keepalive_requests": 0, "connections": 0,
            "http2_concurrent_streams": 100, "websocket_client_payload_bytes": 1048576,
            "websocket_upstream_payload_bytes": 1048576, "udp_sessions": 8, "udp_waiting_bytes": 65536}},
        "client_timeouts": {{"header_ms": 10000, "body_ms": 10000, "send_ms": 10000, "keepalive_ms": 10000,
            "handshake_ms": 10000, "drain_ms": 10000}},
        "upstream_keepalive": {{"pool_size": 8, "max_requests": 0, "idle_timeout_ms": 0}},
        "tls": {{"default_certificates": [], "protocols": ["TLSv1.3"], "cipher_suites": [],
            "prefers_server_order": true, "session_tickets": false, "session_timeout_s": 86400,
            "session_cache_entries": 0, "session_ticket_secret": "", "session_ticket_period": 0,
            "trusted_certificates": "", "verify_depth": 1, "client_certificate": null}},
        "dns": {{"resolvers": ["127.0.0.1:9"], "order": ["a"], "hosts_file": null, "valid_ttl_ms": null, "stale_ttl_ms": 0,
            "not_found_ttl_ms": 0, "error_ttl_ms": 0, "cache_size": 10}},
        "access_log": null, "stream_access_log": null}}"#
    )
}

/// An upstream that answers each request with its target; counts the requests.
fn echo_upstream() -> (SocketAddr, Arc<AtomicUsize>) {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    let counter = count.clone();
    std::thread::spawn(move || {
        for stream in socket.incoming() {
            let counter = counter.clone();
            std::thread::spawn(move || {
                let mut stream = stream.unwrap();
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                loop {
                    let mut first = String::new();
                    if reader.read_line(&mut first).unwrap_or(0) == 0 {
                        return;
                    }
                    let mut line = String::new();
                    while reader.read_line(&mut line).unwrap_or(0) > 2 {
                        line.clear();
                    }
                    counter.fetch_add(1, Ordering::SeqCst);
                    let target = first.split(' ').nth(1).unwrap_or_default();
                    let length = target.len();
                    if write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{target}").is_err() {
                        return;
                    }
                }
            });
        }
    });
    (address, count)
}

/// What the access phase does with a request, by its path.
struct Scripted {
    logged: Arc<AtomicUsize>,
}

impl PhaseRunner for Scripted {
    fn preread(&self, exchange: Box<Exchange>) -> Step {
        Step::Done(exchange)
    }
    fn certificate(&self, handshake: Box<Handshake>) -> HandshakeStep {
        HandshakeStep::Done(handshake)
    }

    fn rewrite(&self, exchange: Box<Exchange>) -> Step {
        Step::Done(exchange)
    }

    fn access(&self, mut exchange: Box<Exchange>) -> Step {
        match exchange.path.as_slice() {
            b"/panic" => panic!("a handler's fault"),
            b"/answer" => answer_exit(&mut exchange, 403, Some(Bytes::from_static(b"no")), &[], false),
            b"/wait" => {
                return Step::Wait(Box::pin(async move {
                    tokio::task::yield_now().await;
                    Some(Step::Done(exchange))
                }));
            }
            b"/lost" => return Step::Wait(Box::pin(async { None })),
            _ => {}
        }
        Step::Done(exchange)
    }

    fn response(&self, exchange: Box<Exchange>) -> Step {
        Step::Done(exchange)
    }

    fn header_filter(&self, mut exchange: Box<Exchange>) -> Step {
        exchange.response.headers.set(b"X-Filtered", &[b"yes"]);
        Step::Done(exchange)
    }

    fn body_filter(&self, exchange: Box<Exchange>) -> Step {
        Step::Done(exchange)
    }

    fn ws_handshake(&self, exchange: Box<Exchange>) -> Step {
        Step::Done(exchange)
    }

    fn client_frame(&self, exchange: Box<Exchange>) -> Step {
        Step::Done(exchange)
    }

    fn upstream_frame(&self, exchange: Box<Exchange>) -> Step {
        Step::Done(exchange)
    }

    fn log(&self, exchanges: Finished) {
        self.logged.fetch_add(exchanges.len(), Ordering::SeqCst);
    }

    fn resume(&self, exchange: Box<Exchange>) -> Step {
        Step::Done(exchange)
    }
}

fn scripted() -> (Running, Arc<AtomicUsize>, Arc<AtomicUsize>) {
    let (upstream, count) = echo_upstream();
    let logged = Arc::new(AtomicUsize::new(0));
    let phases = Phase::Access.bit() | Phase::HeaderFilter.bit() | Phase::Log.bit();
    let running = Running::start(Arc::new(Scripted { logged: logged.clone() }), upstream, phases);
    (running, count, logged)
}

#[test]
fn requests_reach_the_upstream_over_one_kept_connection() {
    let (upstream, count) = echo_upstream();
    let running = Running::start(Arc::new(NoHandlers), upstream, 0);
    assert_eq!(
        running.ask("/first?q"),
        ("HTTP/1.1 200 OK".to_owned(), b"/first?q".to_vec())
    );
    assert_eq!(running.ask("/second").1, b"/second");
    assert_eq!(count.load(Ordering::SeqCst), 2);
    assert_eq!(running.server.gateway().upstreams.pool.idle_count(), 1);
}

#[test]
fn an_answer_in_access_spares_the_upstream() {
    let (running, count, _) = scripted();
    assert_eq!(
        running.ask("/answer"),
        ("HTTP/1.1 403 Forbidden".to_owned(), b"no".to_vec())
    );
    assert_eq!(count.load(Ordering::SeqCst), 0);
}

#[test]
fn a_phase_may_wait() {
    let (running, _, _) = scripted();
    assert_eq!(running.ask("/wait").1, b"/wait");
}

#[test]
fn a_panic_ends_its_request_with_500_and_nothing_else() {
    let (running, _, _) = scripted();
    assert_eq!(running.ask("/panic").0, "HTTP/1.1 500 Internal Server Error");
    assert_eq!(running.ask("/next").1, b"/next");
}

#[test]
fn a_lost_exchange_cuts_its_connection_and_nothing_else() {
    let (running, _, _) = scripted();
    let mut stream = running.connect();
    stream.write_all(b"GET /lost HTTP/1.1\r\nHost: test\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    assert_eq!(stream.read_to_end(&mut answer).unwrap_or(0), 0);
    assert_eq!(running.ask("/next").1, b"/next");
}

#[test]
fn every_request_is_logged_once() {
    let (mut running, _, logged) = scripted();
    for _ in 0..5 {
        running.ask("/answer");
    }
    running.server.drain();
    running.thread.take().unwrap().join().unwrap();
    assert_eq!(logged.load(Ordering::SeqCst), 5);
}

#[test]
fn a_bad_plan_leaves_the_old_one_in_force() {
    let (upstream, _) = echo_upstream();
    let running = Running::start(Arc::new(NoHandlers), upstream, 0);
    let faults = running
        .server
        .apply(
            br#"{"revision": 2, "routes": [{"id": "bad", "protocols": ["http"], "paths": ["~/(", "~/["]}]}"#,
            None,
        )
        .unwrap_err();
    assert_eq!(faults.len(), 2, "{faults:?}");
    assert!(faults[0].starts_with("routes.bad.paths[0]: "), "{faults:?}");
    assert_eq!(running.ask("/still").1, b"/still");
    assert_eq!(running.server.gateway().live().revision, 1);
}
