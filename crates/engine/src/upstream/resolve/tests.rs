use std::future::Future;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hickory_resolver::proto::op::{Message, MessageType, ResponseCode};
use hickory_resolver::proto::rr::rdata::SRV;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use tokio::net::UdpSocket;

use super::cache::{Cache, Entry, Freshness, Lifetimes};
use super::records::Turns;
use super::*;
use crate::settings::DnsOrder;

fn address(last: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 0, 0, last))
}

fn record(last: u8) -> Record {
    Record::plain(address(last))
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn cache(capacity: usize) -> Cache {
    Cache::new(
        Lifetimes {
            valid_ttl: None,
            stale_ttl: seconds(100),
            not_found_ttl: seconds(30),
            error_ttl: seconds(1),
        },
        capacity,
    )
}

fn found(last: &[u8], ttl_s: u64) -> TimedAnswer {
    TimedAnswer {
        answer: Ok(last.iter().map(|last| record(*last)).collect()),
        kind: Some(RecordKind::A),
        ttl: seconds(ttl_s),
    }
}

fn failed(error: ResolveError) -> TimedAnswer {
    TimedAnswer {
        answer: Err(error),
        kind: None,
        ttl: Duration::ZERO,
    }
}

fn broken() -> ResolveError {
    ResolveError::Other("timeout".into())
}

fn freshness(cache: &mut Cache, now: Instant) -> Option<Freshness> {
    cache.get("a.test", now).map(|(freshness, _)| freshness)
}

#[test]
fn an_answer_is_fresh_for_its_ttl_then_stale_then_gone() {
    let start = Instant::now();
    let mut cache = cache(10);
    cache.put("a.test", found(&[1], 10), 0, start).expect("answer");
    assert_eq!(freshness(&mut cache, start + seconds(9)), Some(Freshness::Fresh));
    assert_eq!(freshness(&mut cache, start + seconds(10)), Some(Freshness::Stale));
    assert_eq!(freshness(&mut cache, start + seconds(109)), Some(Freshness::Stale));
    assert_eq!(freshness(&mut cache, start + seconds(110)), None);
}

#[test]
fn the_set_ttl_overrides_the_records() {
    let start = Instant::now();
    let mut cache = Cache::new(
        Lifetimes {
            valid_ttl: Some(seconds(60)),
            stale_ttl: Duration::ZERO,
            not_found_ttl: seconds(30),
            error_ttl: seconds(1),
        },
        10,
    );
    cache.put("a.test", found(&[1], 1), 0, start).expect("answer");
    assert_eq!(freshness(&mut cache, start + seconds(59)), Some(Freshness::Fresh));
    assert_eq!(freshness(&mut cache, start + seconds(60)), None);
}

#[test]
fn failures_are_remembered_shortly_and_never_stale() {
    let start = Instant::now();
    let mut cache = cache(10);
    for (error, ttl_s) in [(ResolveError::NotFound, 30), (broken(), 1)] {
        assert!(cache.put("a.test", failed(error), 0, start).is_err());
        assert_eq!(
            freshness(&mut cache, start + seconds(ttl_s) - Duration::from_millis(1)),
            Some(Freshness::Fresh)
        );
        assert_eq!(freshness(&mut cache, start + seconds(ttl_s)), None);
    }
}

#[test]
fn a_failed_refresh_leaves_the_stale_answer_until_its_end() {
    let start = Instant::now();
    let mut cache = cache(10);
    cache.put("a.test", found(&[1], 10), 0, start).expect("answer");
    let served = cache.put("a.test", failed(broken()), 0, start + seconds(20));
    assert_eq!(served, Ok([record(1)].into()));
    assert_eq!(
        freshness(&mut cache, start + seconds(20)),
        Some(Freshness::Fresh),
        "no new query within the error time"
    );
    assert_eq!(freshness(&mut cache, start + seconds(21)), Some(Freshness::Stale));
    let late = start + Duration::from_millis(109_900);
    cache.put("a.test", failed(broken()), 0, late).expect("still stale");
    assert_eq!(freshness(&mut cache, start + seconds(111)), None);
    assert!(cache.put("a.test", failed(broken()), 0, start + seconds(111)).is_err());
}

#[test]
fn a_vanished_name_replaces_the_stale_answer() {
    let start = Instant::now();
    let mut cache = cache(10);
    cache.put("a.test", found(&[1], 10), 0, start).expect("answer");
    let now = start + seconds(20);
    let served = cache.put("a.test", failed(ResolveError::NotFound), 0, now);
    assert_eq!(served, Err(ResolveError::NotFound));
}

#[test]
fn records_take_turns_also_across_a_refresh() {
    let start = Instant::now();
    let mut cache = cache(10);
    let next = |cache: &mut Cache, now| {
        let (_, entry) = cache.get("a.test", now).expect("entry");
        Entry::next_record(entry).expect("record").address
    };
    cache.put("a.test", found(&[1, 2, 3], 10), 0, start).expect("answer");
    assert_eq!(next(&mut cache, start), address(1));
    assert_eq!(next(&mut cache, start), address(2));
    cache.put("a.test", found(&[1, 2, 3], 10), 0, start).expect("answer");
    assert_eq!(next(&mut cache, start), address(3));
    assert_eq!(next(&mut cache, start), address(1));
}

#[test]
fn a_full_cache_drops_a_name_that_was_not_used() {
    let start = Instant::now();
    let mut cache = cache(2);
    cache.put("used", found(&[1], 10), 0, start).expect("answer");
    cache.put("unused", found(&[2], 10), 0, start).expect("answer");
    assert!(cache.get("used", start).is_some());
    cache.put("new", found(&[3], 10), 0, start).expect("answer");
    assert!(cache.get("used", start).is_some());
    assert!(cache.get("unused", start).is_none());
    assert!(cache.get("new", start).is_some());
}

#[test]
fn hosts_file_gives_ipv4_before_ipv6_and_ignores_comments() {
    let hosts = Hosts::parse(
        "127.0.0.1 localhost Local # the machine\n::1 localhost\n# 10.0.0.1 out\n\n10.0.0.2 a b\n10.0.0.3\ta\n::2 six\nbad line\n",
    );
    assert_eq!(
        hosts.get("localhost", None).as_deref(),
        Some(&[Record::plain(IpAddr::V4(Ipv4Addr::LOCALHOST))][..])
    );
    assert_eq!(hosts.get("local", None).map(|found| found.len()), Some(1));
    assert_eq!(hosts.get("a", None).as_deref(), Some(&[record(2), record(3)][..]));
    assert_eq!(
        hosts.get("six", None).as_deref(),
        Some(&[Record::plain(IpAddr::V6(Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 2)))][..])
    );
    assert_eq!(hosts.get("out", None), None);
}

#[test]
fn hosts_file_gives_one_kind_of_addresses_where_that_is_asked_for() {
    let hosts = Hosts::parse("127.0.0.1 localhost four\n::1 localhost\n");
    let loopback = Record::plain(IpAddr::V6(Ipv6Addr::LOCALHOST));
    assert_eq!(
        hosts.get("localhost", Some(RecordKind::Aaaa)).as_deref(),
        Some(&[loopback][..])
    );
    assert_eq!(
        hosts.get("localhost", Some(RecordKind::A)).map(|found| found.len()),
        Some(1)
    );
    assert_eq!(
        hosts.get("four", Some(RecordKind::Aaaa)),
        None,
        "a name server may know more"
    );
}

#[test]
fn one_kind_of_records_is_asked_for_and_kept_apart_from_the_order() {
    with_name_server(|resolver, asked| async move {
        let four = resolver.resolve_kind("two.test.", Some(RecordKind::A)).await;
        assert_eq!(four, Ok([record(1), record(2)].into()));
        let six = resolver.resolve_kind("two.test.", Some(RecordKind::Aaaa)).await;
        assert_eq!(six, Err(ResolveError::NotFound));
        assert_eq!(resolver.cached("two.test."), None);
        assert_eq!(resolver.resolve_kind("two.test.", Some(RecordKind::A)).await, four);
        assert_eq!(asked.load(Ordering::SeqCst), 1);
        let literal = resolver.resolve_kind("10.0.0.1", Some(RecordKind::Aaaa)).await;
        assert_eq!(literal, Err(ResolveError::NotFound));
    });
}

#[test]
fn the_use_of_names_is_counted() {
    with_name_server(|resolver, _| async move {
        let (first, second) = tokio::join!(resolver.resolve_next("two.test."), resolver.resolve("two.test."));
        assert!(first.is_ok() && second.is_ok());
        for _ in 0..3 {
            assert!(resolver.cached("two.test.").is_some());
        }
        assert!(resolver.resolve("missing.test.").await.is_err());
        assert!(resolver.resolve("10.0.0.1").await.is_ok());
        assert!(resolver.resolve_kind("one.test.", Some(RecordKind::A)).await.is_ok());
        let used = |hits, misses, succeeded, failed| Usage {
            hits,
            stale: 0,
            misses,
            succeeded,
            failed,
        };
        let expected = [
            ("two.test.".to_owned(), used(3, 2, 1, 0)),
            ("missing.test.".to_owned(), used(0, 1, 0, 1)),
            ("one.test.:A".to_owned(), used(0, 1, 1, 0)),
        ];
        assert_eq!(resolver.usage(10), expected);
        assert_eq!(resolver.usage(1), expected[..1]);
    });
}

/// A name server on a real socket that answers by name and counts what it is asked for A records.
struct NameServer {
    address: String,
    asked: Arc<AtomicUsize>,
}

async fn name_server() -> NameServer {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("bind");
    let address = socket.local_addr().expect("address").to_string();
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&asked);
    tokio::spawn(async move {
        let mut buffer = [0; 1500];
        loop {
            let (length, peer) = socket.recv_from(&mut buffer).await.expect("receive");
            let request = Message::from_vec(&buffer[..length]).expect("message");
            let response = respond(&request, &counter);
            let bytes = response.to_vec().expect("encode");
            socket.send_to(&bytes, peer).await.expect("send");
        }
    });
    NameServer { address, asked }
}

fn respond(request: &Message, asked: &AtomicUsize) -> Message {
    let mut response = Message::new();
    response.set_id(request.id());
    response.set_message_type(MessageType::Response);
    response.set_recursion_desired(true).set_recursion_available(true);
    response.add_queries(request.queries().iter().cloned());
    let query = &request.queries()[0];
    if query.query_type() == RecordType::A {
        asked.fetch_add(1, Ordering::SeqCst);
    }
    let name = query.name().to_ascii();
    let record = |data| hickory_resolver::proto::rr::Record::from_rdata(query.name().clone(), 60, data);
    match (name.as_str(), query.query_type()) {
        ("two.test.", RecordType::A) => {
            for last in [1, 2] {
                response.add_answer(record(RData::A(Ipv4Addr::new(10, 0, 0, last).into())));
            }
        }
        ("expired.test.", RecordType::A) => {
            let mut expired = record(RData::A(Ipv4Addr::new(10, 0, 0, 9).into()));
            expired.set_ttl(0);
            response.add_answer(expired);
        }
        ("_web._tcp.test.", RecordType::SRV) => {
            for (priority, weight, port, host) in [
                (10, 3, 8001, "one.test."),
                (10, 0, 0, "two.test."),
                (20, 9, 8003, "one.test."),
                (10, 1, 8004, "missing.test."),
            ] {
                let host = Name::from_ascii(host).expect("name");
                response.add_answer(record(RData::SRV(SRV::new(priority, weight, port, host))));
            }
        }
        ("none._tcp.test.", RecordType::SRV) => {
            response.add_answer(record(RData::SRV(SRV::new(0, 0, 0, Name::root()))));
        }
        ("one.test.", RecordType::A) => {
            response.add_answer(record(RData::A(Ipv4Addr::new(10, 0, 0, 1).into())));
        }
        ("six.test.", RecordType::AAAA) => {
            response.add_answer(record(RData::AAAA(Ipv6Addr::LOCALHOST.into())));
        }
        ("one.test." | "two.test." | "six.test." | "expired.test.", _) => {}
        ("refused.test.", _) => {
            response.set_response_code(ResponseCode::Refused);
        }
        _ => {
            response.set_response_code(ResponseCode::NXDomain);
        }
    }
    response
}

fn settings(name_servers: &[&str]) -> DnsSettings {
    DnsSettings {
        resolvers: name_servers.iter().map(|text| (*text).to_owned()).collect(),
        order: vec![DnsOrder::Last, DnsOrder::Srv, DnsOrder::A, DnsOrder::Aaaa],
        hosts_file: None,
        valid_ttl_ms: None,
        stale_ttl_ms: 3_600_000,
        not_found_ttl_ms: 30_000,
        error_ttl_ms: 1_000,
        cache_size: 100,
    }
}

fn with_name_server<F: Future<Output = ()>>(test: impl FnOnce(Resolver, Arc<AtomicUsize>) -> F) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("runtime");
    runtime.block_on(async {
        let server = name_server().await;
        let resolver = Resolver::new(&settings(&[&server.address])).expect("settings");
        test(resolver, server.asked).await;
    });
}

#[test]
fn literals_need_no_name_server() {
    with_name_server(|resolver, asked| async move {
        assert_eq!(resolver.cached("10.0.0.1"), Some(Ok([record(1)].into())));
        let loopback = Record::plain(IpAddr::V6(Ipv6Addr::LOCALHOST));
        assert_eq!(resolver.resolve("::1").await, Ok([loopback.clone()].into()));
        assert_eq!(resolver.resolve_next("[::1]").await, Ok(loopback));
        assert_eq!(asked.load(Ordering::SeqCst), 0);
    });
}

#[test]
fn a_name_is_asked_once_and_then_cached_in_any_case() {
    with_name_server(|resolver, asked| async move {
        assert_eq!(resolver.cached("two.test."), None);
        let (first, second) = tokio::join!(resolver.resolve("two.test."), resolver.resolve("two.test."));
        assert_eq!(first, Ok([record(1), record(2)].into()));
        assert_eq!(first, second);
        assert_eq!(resolver.cached("TWO.test."), Some(first));
        assert_eq!(asked.load(Ordering::SeqCst), 1);
    });
}

#[test]
fn waiters_of_one_query_spread_over_the_addresses() {
    with_name_server(|resolver, asked| async move {
        let (first, second) = tokio::join!(resolver.resolve_next("two.test."), resolver.resolve_next("two.test."));
        let mut given = [first.expect("record").address, second.expect("record").address];
        given.sort();
        assert_eq!(given, [address(1), address(2)]);
        assert_eq!(resolver.cached_next("two.test."), Some(Ok(record(1))));
        assert_eq!(asked.load(Ordering::SeqCst), 1);
    });
}

#[test]
fn ipv6_serves_names_without_ipv4() {
    with_name_server(|resolver, _| async move {
        let found = resolver.resolve("six.test.").await;
        assert_eq!(found, Ok([Record::plain(IpAddr::V6(Ipv6Addr::LOCALHOST))].into()));
    });
}

#[test]
fn missing_names_and_refusals_are_told_apart_and_remembered() {
    with_name_server(|resolver, asked| async move {
        let missing = resolver.resolve("missing.test.").await;
        assert_eq!(missing, Err(ResolveError::NotFound));
        let asked_before = asked.load(Ordering::SeqCst);
        assert_eq!(resolver.cached("missing.test."), Some(missing));
        assert_eq!(asked.load(Ordering::SeqCst), asked_before);
        let refused = resolver.resolve("refused.test.").await.expect_err("refused");
        assert_eq!(refused.to_string(), "dns server error: 5 query refused");
    });
}

#[test]
fn a_stale_answer_is_served_while_one_refresh_runs() {
    with_name_server(|resolver, asked| async move {
        resolver.resolve("expired.test.").await.expect("answer");
        for _ in 0..3 {
            let stale = resolver.cached("expired.test.").expect("stale");
            assert_eq!(stale, Ok([record(9)].into()));
        }
        let refresh = resolver
            .lock()
            .queries
            .get("expired.test.")
            .map(|query| query.answer.clone());
        await_answer(refresh.expect("refresh under way")).await.expect("answer");
        assert_eq!(asked.load(Ordering::SeqCst), 2);
    });
}

#[test]
fn a_cancelled_request_does_not_cancel_the_query() {
    with_name_server(|resolver, asked| async move {
        tokio::select! {
            biased;
            _ = resolver.resolve("two.test.") => unreachable!("no answer without waiting"),
            () = std::future::ready(()) => {}
        }
        assert!(resolver.resolve("two.test.").await.is_ok());
        assert_eq!(asked.load(Ordering::SeqCst), 1);
    });
}

#[test]
fn a_name_server_must_be_an_address() {
    for good in ["10.0.0.1", "10.0.0.1:5353", "::1", "[::1]", "[::1]:5353"] {
        assert!(Resolver::new(&settings(&[good])).is_ok(), "{good}");
    }
    let fault = Resolver::new(&settings(&["dns.test"])).expect_err("a name");
    assert_eq!(
        fault.to_string(),
        "invalid name server 'dns.test', expected ip or ip:port"
    );
}

#[test]
fn srv_gives_the_hosts_of_the_lowest_priority_with_port_and_weight() {
    with_name_server(|resolver, _| async move {
        let records = resolver.resolve("_web._tcp.test.").await.expect("records");
        let seen: Vec<_> = records
            .iter()
            .map(|record| {
                let service = record.service.as_ref().expect("service record");
                (record.address, record.port(80), service.weight, service.name.as_str())
            })
            .collect();
        assert_eq!(
            seen,
            [
                (address(1), 8001, 3, "one.test"),
                (address(1), 80, 1, "two.test"),
                (address(2), 80, 1, "two.test"),
            ],
            "port 0 keeps the asked one, weight 0 counts as 1, a host without address is left out"
        );
    });
}

#[test]
fn an_srv_record_of_the_root_is_no_service() {
    with_name_server(|resolver, _| async move {
        assert_eq!(resolver.resolve("none._tcp.test.").await, Err(ResolveError::NotFound));
    });
}

#[test]
fn turns_follow_the_weights_without_runs() {
    let weighted = |last, weight| Record {
        address: address(last),
        service: Some(Arc::new(ServiceRecord {
            name: "one.test".to_owned(),
            port: None,
            weight,
        })),
    };
    let records = [weighted(1, 3), weighted(2, 1), weighted(3, 1)];
    let mut turns = Turns::default();
    let order: Vec<_> = (0..5)
        .filter_map(|_| turns.next(&records).map(|record| record.address))
        .collect();
    assert_eq!(order, [1, 2, 1, 3, 1].map(address));
    assert!(turns.next(&records[..2]).is_some(), "a refresh may take a record away");
    assert!(turns.next(&[]).is_none());
}

#[test]
fn the_kind_that_answered_is_asked_for_first_the_next_time() {
    with_name_server(|resolver, asked| async move {
        resolver.resolve("two.test.").await.expect("records");
        assert_eq!(resolver.lock().cache.last_kind("two.test."), Some(RecordKind::A));
        let mut cache = cache(10);
        let start = Instant::now();
        cache.put("a.test", found(&[1], 0), 0, start).expect("answer");
        cache.put("a.test", failed(broken()), 0, start).expect("stale");
        assert_eq!(
            cache.last_kind("a.test"),
            Some(RecordKind::A),
            "a failure does not forget it"
        );
        assert_eq!(asked.load(Ordering::SeqCst), 1);
    });
}
