use std::net::Ipv4Addr;

use super::*;

fn key(port: u16) -> PoolKey {
    PoolKey::plain(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
}

fn pool(pool_size: usize, max_requests: u64, idle_timeout_ms: u64) -> Pool<&'static str> {
    Pool::new(UpstreamKeepalive {
        pool_size,
        max_requests,
        idle_timeout_ms,
    })
}

#[test]
fn the_connection_used_last_is_given_first() {
    let pool = pool(8, 0, 0);
    pool.put_back(&key(80), "older", 1);
    pool.put_back(&key(80), "newer", 1);
    assert_eq!(pool.checkout(&key(80)), Some("newer"));
    assert_eq!(pool.checkout(&key(80)), Some("older"));
    assert_eq!(pool.checkout(&key(80)), None);
}

#[test]
fn another_key_gets_nothing() {
    let pool = pool(8, 0, 0);
    pool.put_back(&key(80), "a", 1);
    assert_eq!(pool.checkout(&key(81)), None);
    assert_eq!(pool.idle_count(), 1);
}

#[test]
fn tls_name_and_identity_are_part_of_the_key() {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 443));
    let tls = PoolKey::tls(address, "a.test".into(), 1);
    assert_eq!(tls, PoolKey::tls(address, "a.test".into(), 1));
    assert_ne!(tls, PoolKey::tls(address, "b.test".into(), 1));
    assert_ne!(tls, PoolKey::tls(address, "a.test".into(), 2));
    assert_ne!(tls, PoolKey::plain(address));
}

#[test]
fn a_full_key_closes_the_one_that_waited_longest() {
    let pool = pool(2, 0, 0);
    for name in ["first", "second", "third"] {
        pool.put_back(&key(80), name, 1);
    }
    assert_eq!(pool.idle_count(), 2);
    assert_eq!(pool.checkout(&key(80)), Some("third"));
    assert_eq!(pool.checkout(&key(80)), Some("second"));
}

#[test]
fn size_zero_keeps_nothing() {
    let pool = pool(0, 0, 0);
    pool.put_back(&key(80), "a", 1);
    assert_eq!(pool.idle_count(), 0);
}

#[test]
fn the_last_allowed_request_closes_the_connection() {
    let pool = pool(8, 3, 0);
    pool.put_back(&key(80), "a", 2);
    assert_eq!(pool.checkout(&key(80)), Some("a"));
    pool.put_back(&key(80), "a", 3);
    assert_eq!(pool.checkout(&key(80)), None);
}

#[test]
fn a_connection_idle_for_the_timeout_is_not_given_out() {
    let pool = pool(8, 0, 1_000);
    let start = Instant::now();
    pool.put_back_at(&key(80), "a", 1, start);
    let almost = start + Duration::from_millis(999);
    assert_eq!(pool.checkout_at(&key(80), almost), Some("a"));
    pool.put_back_at(&key(80), "a", 2, start);
    assert_eq!(pool.checkout_at(&key(80), start + Duration::from_secs(1)), None);
    assert_eq!(pool.idle_count(), 0);
}

#[test]
fn sweep_closes_the_expired_and_keeps_the_rest() {
    let pool = pool(8, 0, 1_000);
    let start = Instant::now();
    pool.put_back_at(&key(80), "old", 1, start);
    pool.put_back_at(&key(80), "young", 1, start + Duration::from_millis(500));
    pool.put_back_at(&key(81), "lone", 1, start);
    pool.sweep(start + Duration::from_millis(1_200));
    assert_eq!(pool.idle_count(), 1);
    assert_eq!(
        pool.checkout_at(&key(80), start + Duration::from_millis(1_200)),
        Some("young")
    );
    assert_eq!(pool.lock().len(), 1, "the empty key is gone");
}

#[test]
fn retain_closes_what_the_upstream_closed() {
    let pool = pool(8, 0, 0);
    pool.put_back(&key(80), "closed", 1);
    pool.put_back(&key(80), "open", 1);
    pool.retain(|connection| *connection == "open");
    assert_eq!(pool.idle_count(), 1);
}

#[test]
fn clear_closes_everything() {
    let pool = pool(8, 0, 0);
    pool.put_back(&key(80), "a", 1);
    pool.put_back(&key(81), "b", 1);
    pool.clear();
    assert_eq!(pool.idle_count(), 0);
}

#[test]
fn keys_without_connections_are_pruned_when_there_are_many() {
    let pool = pool(8, 0, 0);
    for port in 1..=2_000 {
        pool.put_back(&key(port), "a", 1);
        assert!(pool.checkout(&key(port)).is_some());
    }
    assert!(pool.lock().len() <= KEYS_BEFORE_PRUNING);
}
