use super::*;

const LIMITS: Limits = Limits {
    request_line_bytes: 64,
    header_line_bytes: 64,
    request_head_bytes: 256,
    request_header_count: 8,
    response_head_bytes: 256,
    request_body_bytes: 0,
    request_body_buffer_bytes: 8192,
    request_body_memory_bytes: 1 << 20,
    response_buffer_bytes: 1 << 20,
    response_read_ahead_bytes: 1 << 16,
    keepalive_requests: 0,
    connections: 0,
    websocket_client_payload_bytes: 0,
    websocket_upstream_payload_bytes: 0,
    http2_concurrent_streams: 100,
    udp_sessions: 8,
    udp_waiting_bytes: 65_536,
};

fn fault(input: &str) -> HeadFault {
    match parse_request(input.as_bytes(), &LIMITS) {
        Err(fault) => fault,
        Ok(parsed) => panic!("accepted {input:?}: {parsed:?}"),
    }
}

fn accepted(input: &str) -> Parsed<RequestHead> {
    parse_request(input.as_bytes(), &LIMITS).unwrap().unwrap()
}

#[test]
fn a_plain_head_is_taken_apart() {
    let parsed = accepted("GET /a?b HTTP/1.1\r\nHost: h\r\nX-A: 1\r\n\r\nrest");
    assert_eq!(parsed.head.method, Method::GET);
    assert_eq!(parsed.head.target(), b"/a?b");
    assert_eq!(parsed.head.headers.get(b"x-a"), Some(&b"1"[..]));
    assert_eq!(parsed.framing, Framing::None);
    assert_eq!(parsed.length, "GET /a?b HTTP/1.1\r\nHost: h\r\nX-A: 1\r\n\r\n".len());
    assert!(!parsed.closes);
}

#[test]
fn whole_and_split_input_agree() {
    let whole = "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\n";
    for end in 0..whole.len() {
        assert!(
            parse_request(&whole.as_bytes()[..end], &LIMITS).unwrap().is_none(),
            "at {end}"
        );
    }
    assert_eq!(accepted(whole).framing, Framing::Length(3));
}

#[test]
fn two_readings_are_refused() {
    for head in [
        "Content-Length: 3\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 3",
        "Content-Length: 3\r\nContent-Length: 3",
        "Content-Length: 3\r\nContent-Length: 4",
        "Content-Length: +3",
        "Content-Length: 3, 3",
        "Content-Length: 0x3",
        "Content-Length:",
        "Content-Length: 99999999999999999999",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Host: other",
        "X : 1",
        "X: a\r\n folded",
        "X: a\0b",
        "X: a\rb",
    ] {
        let input = format!("POST / HTTP/1.1\r\nHost: h\r\n{head}\r\n\r\n");
        assert!(matches!(fault(&input), HeadFault::Malformed(_)), "{head}");
    }
}

#[test]
fn other_transfer_codings_are_not_implemented() {
    for coding in ["gzip", "xchunked", "chunked, chunked", "identity", "\x0bchunked"] {
        let input = format!("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: {coding}\r\n\r\n");
        let fault = fault(&input);
        assert!(
            matches!(fault, HeadFault::UnknownTransferCoding | HeadFault::Malformed(_)),
            "{coding}: {fault:?}"
        );
    }
}

#[test]
fn chunked_in_http_1_0_is_refused() {
    assert!(matches!(
        fault("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"),
        HeadFault::Malformed(_)
    ));
}

#[test]
fn bare_line_feeds_are_refused() {
    assert_eq!(
        fault("GET / HTTP/1.1\nHost: h\n\n"),
        HeadFault::Malformed("line without CR")
    );
    assert_eq!(
        fault("GET / HTTP/1.1\r\nHost: h\nX: 1\r\n\r\n"),
        HeadFault::Malformed("line without CR")
    );
}

#[test]
fn host_is_needed_once_and_valid() {
    assert_eq!(fault("GET / HTTP/1.1\r\n\r\n"), HeadFault::Malformed("no Host"));
    assert!(matches!(
        fault("GET / HTTP/1.1\r\nHost: a b\r\n\r\n"),
        HeadFault::Malformed(_)
    ));
    assert!(matches!(
        fault("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"),
        HeadFault::Malformed(_)
    ));
    assert!(matches!(
        fault("GET / HTTP/1.1\r\nHost: a:b\r\n\r\n"),
        HeadFault::Malformed(_)
    ));
    assert!(accepted("GET / HTTP/1.0\r\n\r\n").closes);
    accepted("GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n");
    accepted("GET http://example.com/x HTTP/1.1\r\nHost: example.com\r\n\r\n");
}

#[test]
fn targets_of_other_forms_are_refused() {
    assert_eq!(
        fault("OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n"),
        HeadFault::Malformed("invalid request target")
    );
    assert_eq!(
        fault("CONNECT a:1 HTTP/1.1\r\nHost: h\r\n\r\n"),
        HeadFault::MethodNotAllowed
    );
    assert_eq!(
        fault("TRACE / HTTP/1.1\r\nHost: h\r\n\r\n"),
        HeadFault::MethodNotAllowed
    );
    assert!(matches!(
        fault("GET ftp://h/ HTTP/1.1\r\nHost: h\r\n\r\n"),
        HeadFault::Malformed(_)
    ));
}

#[test]
fn other_versions_are_told_apart_from_nonsense() {
    assert_eq!(
        fault("GET / HTTP/2.0\r\nHost: h\r\n\r\n"),
        HeadFault::UnsupportedVersion
    );
    assert!(matches!(
        fault("GET / HTPP/1.1\r\nHost: h\r\n\r\n"),
        HeadFault::Malformed(_)
    ));
}

#[test]
fn limits_hold_before_and_after_the_head_is_complete() {
    let long = "a".repeat(100);
    assert_eq!(fault(&format!("GET /{long}")), HeadFault::TargetTooLong);
    assert_eq!(
        fault(&format!("GET /{long} HTTP/1.1\r\nHost: h\r\n\r\n")),
        HeadFault::TargetTooLong
    );
    assert_eq!(
        fault(&format!("GET / HTTP/1.1\r\nHost: h\r\nX: {long}")),
        HeadFault::HeaderTooLarge
    );
    assert_eq!(
        fault(&format!("GET / HTTP/1.1\r\nHost: h\r\nX: {long}\r\n\r\n")),
        HeadFault::HeaderTooLarge
    );
    let many = "X: 1\r\n".repeat(9);
    assert_eq!(
        fault(&format!("GET / HTTP/1.1\r\nHost: h\r\n{many}\r\n")),
        HeadFault::HeaderTooLarge
    );
    let lines = format!("X: {}\r\n", "b".repeat(50)).repeat(6);
    assert_eq!(
        fault(&format!("GET / HTTP/1.1\r\nHost: h\r\n{lines}\r\n")),
        HeadFault::HeaderTooLarge
    );
}

#[test]
fn keep_alive_follows_version_and_connection() {
    assert!(accepted("GET / HTTP/1.1\r\nHost: h\r\nConnection: a, Close\r\n\r\n").closes);
    assert!(!accepted("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").closes);
}

fn response(input: &str) -> Result<Option<Parsed<ResponseHead>>, &'static str> {
    parse_response(input.as_bytes(), false, 256)
}

#[test]
fn responses_know_where_they_end() {
    let framing = |text: &str| response(text).unwrap().unwrap().framing;
    assert_eq!(
        framing("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"),
        Framing::Length(5)
    );
    assert_eq!(
        framing("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
        Framing::Chunked
    );
    assert_eq!(framing("HTTP/1.1 200 OK\r\n\r\n"), Framing::UntilClose);
    assert_eq!(framing("HTTP/1.1 204 No Content\r\n\r\n"), Framing::None);
    assert_eq!(
        framing("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n"),
        Framing::None
    );
    let head = parse_response(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", true, 256)
        .unwrap()
        .unwrap();
    assert_eq!(head.framing, Framing::None);
}

#[test]
fn ambiguous_responses_are_invalid() {
    assert!(response("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n").is_err());
    assert!(response("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n").is_err());
    assert!(response("nonsense\r\n\r\n").is_err());
    assert!(parse_response(&vec![b'a'; 300], false, 256).is_err());
}

proptest::proptest! {
    #[test]
    fn any_bytes_are_accepted_or_refused_with_a_fault(input: Vec<u8>) {
        let _ = parse_request(&input, &LIMITS);
        let _ = parse_response(&input, false, 256);
    }
}
