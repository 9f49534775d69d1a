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
use headgate_engine::router::{HeaderLookup, RequestKey};
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

/// A route that has the id of its number.
fn route(number: usize, path: &str, phases: u32) -> String {
    format!(
        r#"{{"id": "00000000-0000-4000-8000-{number:012}", "protocols": ["http"], "paths": ["{path}"], "service": 0,
            "phases": {phases}}}"#
    )
}

const SERVICE: &str = r#"{"id": "s", "protocol": "http", "host": "127.0.0.1", "port": 80}"#;

/// Routes of HTTP, then one of streams, over one service and an upstream.
fn plan_of(revision: u64, routes: &[String]) -> String {
    let stream = r#"{"id": "st", "protocols": ["tcp"], "destinations": [{"port": 9}], "service": 0, "phases": 2}"#;
    let routes: Vec<&str> = routes.iter().map(String::as_str).chain([stream]).collect();
    format!(
        r#"{{"revision": {revision}, "services": [{SERVICE}], "routes": [{}],
            "upstreams": [{{"id": "u", "name": "u", "targets": [{{"host": "127.0.0.1", "port": 1, "weight": 1}}]}}]}}"#,
        routes.join(",")
    )
}

fn change_of(base: u64, named: &[(usize, String)], count: usize) -> String {
    let named: Vec<String> = named
        .iter()
        .map(|(position, route)| format!("[{position}, {route}]"))
        .collect();
    format!(
        r#"{{"base": {base}, "revision": {}, "global_phases": 4, "routes": [{}], "route_count": {count}}}"#,
        base + 1,
        named.join(",")
    )
}

struct NoHeaders;

impl HeaderLookup for NoHeaders {
    fn values(&self, _name: &str, _visit: &mut dyn FnMut(&[u8]) -> bool) {}
}

/// The id and the phases of the route that a path takes.
fn taken(server: &Server, path: &str) -> Option<(String, u32)> {
    let live = server.gateway().live();
    let matched = live.router.find(&RequestKey {
        method: "GET",
        host: "h",
        path: path.as_bytes(),
        query: b"",
        client: None,
        listener_ip: None,
        sni: None,
        is_tls: false,
        listener_port: 80,
        headers: &NoHeaders,
    })?;
    live.routes
        .get(matched.route)
        .map(|route| (route.plan.id.clone(), route.plan.phases))
}

fn built() -> Server {
    Server::build(serde_json::from_str(&settings(80)).unwrap(), Arc::new(NoHandlers)).unwrap()
}

#[test]
fn changes_one_after_the_other_serve_as_the_whole_plan_does() {
    let (changed, whole) = (built(), built());
    let mut routes: Vec<String> = (0..40).map(|number| route(number, &format!("/{number}"), 0)).collect();
    changed.apply(plan_of(1, &routes).as_bytes(), None).unwrap();
    let mut state = 7_usize;
    let mut draw = |below: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    for revision in 1..60_u64 {
        // Prefixes of one another, so that the order of routes counts; some are regular expressions.
        let path = ["/a", "/a/b", "/a/b/c", "~/a/[b-d]", "/x"][draw(5)];
        let made = route(100 + draw(1000), path, u32::try_from(draw(3)).unwrap());
        let mut named = Vec::new();
        let position = draw(routes.len() + 1);
        if draw(4) == 0 && position < routes.len() {
            // The last takes the place of one that goes.
            let last = routes.pop().unwrap();
            if position < routes.len() {
                routes[position].clone_from(&last);
                named.push((position, last));
            }
        } else {
            routes.truncate(routes.len().max(position));
            if position == routes.len() {
                routes.push(made.clone());
            } else {
                routes[position].clone_from(&made);
            }
            named.push((position, made));
        }
        let change = change_of(revision, &named, routes.len());
        changed.apply_change(change.as_bytes(), None).unwrap();
        whole.apply(plan_of(revision + 1, &routes).as_bytes(), None).unwrap();
        for path in ["/a", "/a/b", "/a/b/c", "/a/c", "/x/y", "/3", "/17", "/none"] {
            assert_eq!(taken(&changed, path), taken(&whole, path), "{path} at {revision}");
        }
        let live = changed.gateway().live();
        assert_eq!(live.first_stream_route, routes.len());
        assert_eq!(live.routes[live.first_stream_route].plan.id, "st");
        assert_eq!(live.routes.len(), routes.len() + 1);
    }
}

#[test]
fn a_change_shares_all_that_it_does_not_name() {
    let server = built();
    let routes: Vec<String> = (0..100).map(|number| route(number, &format!("/{number}"), 0)).collect();
    server.apply(plan_of(1, &routes).as_bytes(), None).unwrap();
    let before = server.gateway().live();
    let change = change_of(1, &[(0, route(0, "/0", 8)), (7, route(7, "/new", 0))], 100);
    server.apply_change(change.as_bytes(), None).unwrap();
    let after = server.gateway().live();
    assert_eq!((after.revision, after.global_phases), (2, 4));
    assert_eq!(taken(&server, "/0").unwrap().1, 8);
    assert_eq!(before.routes[0].plan.phases, 0);
    assert!(after.router.shares_with(&before.router));
    assert!(Arc::ptr_eq(&before.routes[1], &after.routes[1]));
    assert!(Arc::ptr_eq(&before.balancers["u"], &after.balancers["u"]));
    assert!(Arc::ptr_eq(&before.tls, &after.tls));
    assert!(Arc::ptr_eq(&before.stream_router, &after.stream_router));
    // What matches the same needs no other router at all.
    server
        .apply_change(change_of(2, &[(0, route(0, "/0", 0))], 100).as_bytes(), None)
        .unwrap();
    assert!(Arc::ptr_eq(&after.router, &server.gateway().live().router));
}

#[test]
fn a_bad_change_leaves_the_plan_in_force() {
    let server = built();
    server
        .apply(plan_of(1, &[route(1, "/a", 0), route(2, "/b", 0)]).as_bytes(), None)
        .unwrap();
    let before = server.gateway().live();
    let refused = |base: u64, named: &[(usize, String)], count: usize| {
        let change = change_of(base, named, count);
        server.apply_change(change.as_bytes(), None).unwrap_err().join("; ")
    };
    assert_eq!(
        refused(9, &[], 2),
        "plan: a change of revision 9 does not fit revision 1"
    );
    assert_eq!(refused(1, &[], 3), "routes: there are 2 of 3 routes");
    assert!(refused(1, &[(5, route(3, "/c", 0))], 2).contains("leaves a gap"));
    assert!(refused(1, &[(0, route(1, "~/(", 0))], 2).contains("paths[0]: invalid regex"));
    let stream = r#"{"id": "t", "protocols": ["tcp"]}"#.to_owned();
    assert!(refused(1, &[(0, stream)], 2).contains("a route of streams"));
    let unknown = r#"{"id": "t", "protocols": ["http"], "service": 4}"#.to_owned();
    assert_eq!(
        refused(1, &[(0, unknown)], 2),
        "routes.t.service: no service at this position"
    );
    assert!(Arc::ptr_eq(&before, &server.gateway().live()));
}
