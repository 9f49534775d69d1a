use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::error::Refusal;
use crate::settings::{DnsOrder, DnsSettings};
use crate::upstream::health::Health;
use crate::upstream::reports::{HealthReports, Report};
use crate::upstream::resolve::Resolver;

const PICKS: usize = 100_000;

fn plan(fields: serde_json::Value, targets: &[(&str, u32)]) -> Arc<UpstreamPlan> {
    let mut document = serde_json::json!({
        "id": "u1",
        "name": "orders",
        "slots": 10_000,
        "targets": targets
            .iter()
            .map(|(host, weight)| serde_json::json!({"host": host, "port": 80, "weight": weight}))
            .collect::<Vec<_>>(),
    });
    if let (Some(document), serde_json::Value::Object(fields)) = (document.as_object_mut(), fields) {
        document.extend(fields);
    }
    Arc::new(serde_json::from_value(document).expect("an upstream"))
}

/// With a checker whose thresholds are all off: only set states count.
fn algorithm(name: &str, weights: &[u32]) -> Arc<UpstreamPlan> {
    let hosts: Vec<String> = (0..weights.len()).map(|number| format!("10.0.0.{number}")).collect();
    let targets: Vec<(&str, u32)> = hosts.iter().map(String::as_str).zip(weights.iter().copied()).collect();
    let mut fields = passive(0);
    fields["algorithm"] = name.into();
    plan(fields, &targets)
}

fn balancer(plan: &Arc<UpstreamPlan>) -> Arc<Balancer> {
    Balancer::new(plan, Arc::default())
}

fn resolver() -> Resolver {
    Resolver::new(&DnsSettings {
        resolvers: vec!["127.0.0.1:1".to_owned()],
        order: vec![DnsOrder::A],
        hosts_file: None,
        valid_ttl_ms: None,
        stale_ttl_ms: 0,
        not_found_ttl_ms: 0,
        error_ttl_ms: 0,
        cache_size: 10,
    })
    .expect("a resolver")
}

fn host_of(address: &Address) -> String {
    address.key.host.to_string()
}

/// Which address each of many hashed values goes to.
fn owners(balancer: &Balancer, values: usize) -> Vec<String> {
    (0..values)
        .map(|value| {
            let wish = Wish {
                hash: Some(xxh32(format!("client-{value}").as_bytes())),
                cookie: None,
            };
            host_of(&balancer.pick(&wish, &[]).expect("an address"))
        })
        .collect()
}

fn shares<'a>(hosts: impl IntoIterator<Item = &'a String>) -> BTreeMap<&'a str, f64> {
    let mut counts = BTreeMap::new();
    let mut all = 0.0;
    for host in hosts {
        *counts.entry(host.as_str()).or_insert(0.0) += 1.0;
        all += 1.0;
    }
    counts.values_mut().for_each(|count| *count /= all);
    counts
}

fn set_health(balancer: &Balancer, host: &str, health: Health) {
    let ip: IpAddr = host.parse().expect("an address");
    let key = AddressKey {
        host: host.into(),
        port: 80,
        ip,
    };
    balancer.set_health(&key, health, false);
}

#[test]
fn xxh32_gives_the_published_values() {
    assert_eq!(xxh32(b""), 0x02CC_5D05);
    assert_eq!(xxh32(b"a"), 0x550D_7456);
    assert_eq!(xxh32(b"abc"), 0x32D1_53FF);
    assert_eq!(xxh32(b"Nobody inspects the spammish repetition"), 0xE229_3B2F);
}

#[test]
fn round_robin_gives_each_address_its_exact_share_of_every_round() {
    let balancer = balancer(&algorithm("round-robin", &[500, 300, 200]));
    let picked: Vec<String> = (0..PICKS)
        .map(|_| host_of(&balancer.pick(&Wish::default(), &[]).expect("an address")))
        .collect();
    for round in picked.chunks(10) {
        let shares = shares(round);
        assert_eq!(shares["10.0.0.0"], 0.5);
        assert_eq!(shares["10.0.0.1"], 0.3);
    }
}

#[test]
fn equal_weights_take_turns() {
    let balancer = balancer(&algorithm("round-robin", &[7, 7, 7]));
    let picked: Vec<String> = (0..9)
        .map(|_| host_of(&balancer.pick(&Wish::default(), &[]).expect("an address")))
        .collect();
    assert_eq!(picked[..3], picked[3..6]);
    assert_eq!(shares(&picked[..3]).len(), 3);
}

#[test]
fn a_heavy_address_does_not_have_all_its_turns_in_a_row() {
    let balancer = balancer(&algorithm("round-robin", &[50, 50, 1]));
    let mut longest = 0;
    let mut run = 0;
    let mut last = String::new();
    for _ in 0..1_010 {
        let host = host_of(&balancer.pick(&Wish::default(), &[]).expect("an address"));
        run = if host == last { run + 1 } else { 1 };
        longest = longest.max(run);
        last = host;
    }
    assert!(longest <= 3, "{longest}");
}

#[test]
fn weight_zero_and_no_targets_give_nothing() {
    for name in [
        "round-robin",
        "consistent-hashing",
        "least-connections",
        "latency",
        "sticky-sessions",
    ] {
        let wish = Wish {
            hash: Some(1),
            cookie: None,
        };
        assert!(balancer(&algorithm(name, &[])).pick(&wish, &[]).is_none(), "{name}");
        assert!(balancer(&algorithm(name, &[0, 0])).pick(&wish, &[]).is_none(), "{name}");
        let picked = balancer(&algorithm(name, &[0, 5]))
            .pick(&wish, &[])
            .expect("an address");
        assert_eq!(host_of(&picked), "10.0.0.1", "{name}");
    }
}

#[test]
fn every_algorithm_avoids_what_was_tried_while_there_is_another() {
    for name in [
        "round-robin",
        "consistent-hashing",
        "least-connections",
        "latency",
        "sticky-sessions",
    ] {
        let balancer = balancer(&algorithm(name, &[10, 10, 1, 3]));
        let wish = Wish {
            hash: Some(77),
            cookie: None,
        };
        let mut tried: Vec<Arc<Address>> = Vec::new();
        for _ in 0..4 {
            let next = balancer.pick(&wish, &tried).expect("an address");
            assert!(!tried.iter().any(|address| Arc::ptr_eq(address, &next)), "{name}");
            tried.push(next);
        }
        assert!(
            balancer.pick(&wish, &tried).is_some(),
            "{name}: all were tried, one is tried again"
        );
    }
}

#[test]
fn an_unhealthy_address_is_never_picked_and_comes_back() {
    for name in ["round-robin", "consistent-hashing", "least-connections", "latency"] {
        let balancer = balancer(&algorithm(name, &[1, 1, 1]));
        set_health(&balancer, "10.0.0.1", Health::Unhealthy);
        let pick = |value: u32| {
            let wish = Wish {
                hash: Some(value.wrapping_mul(0x9E37_79B1)),
                cookie: None,
            };
            host_of(&balancer.pick(&wish, &[]).expect("an address"))
        };
        assert!((0..1_000).all(|value| pick(value) != "10.0.0.1"), "{name}");
        set_health(&balancer, "10.0.0.1", Health::MostlyHealthy);
        assert!((0..1_000).any(|value| pick(value) == "10.0.0.1"), "{name}");
    }
}

#[test]
fn nothing_is_sent_when_the_healthy_weight_is_not_above_the_threshold() {
    let plan = plan(
        serde_json::json!({"health_threshold_percent": 50.0}),
        &[("10.0.0.1", 50), ("10.0.0.2", 30), ("10.0.0.3", 20)],
    );
    let balancer = balancer(&plan);
    set_health(&balancer, "10.0.0.2", Health::Unhealthy);
    assert!(balancer.pick(&Wish::default(), &[]).is_some());
    set_health(&balancer, "10.0.0.3", Health::Unhealthy);
    assert!(balancer.pick(&Wish::default(), &[]).is_none(), "half is not above half");
}

#[test]
fn hashing_spreads_values_by_weight() {
    let balancer = balancer(&algorithm("consistent-hashing", &[100, 100, 100, 200]));
    let owners = owners(&balancer, PICKS);
    let shares = shares(&owners);
    for (host, share) in [
        ("10.0.0.0", 0.2),
        ("10.0.0.1", 0.2),
        ("10.0.0.2", 0.2),
        ("10.0.0.3", 0.4),
    ] {
        assert!((shares[host] / share - 1.0).abs() < 0.25, "{host}: {}", shares[host]);
    }
}

#[test]
fn a_target_that_leaves_moves_less_than_half_again_its_share() {
    for weights in [
        vec![100; 10],
        vec![100; 40],
        vec![100, 100, 100, 100, 300, 200, 100, 100],
    ] {
        let all = algorithm("consistent-hashing", &weights);
        // Unoptimised builds hash slowly: the first set of weights has all the picks.
        let values = if weights.len() == 10 { PICKS } else { PICKS / 5 };
        let before = owners(&balancer(&all), values);
        for gone in 0..weights.len() {
            let mut fewer = (*all).clone();
            fewer.targets.remove(gone);
            let after = owners(&balancer(&Arc::new(fewer)), values);
            let moved = before.iter().zip(&after).filter(|(old, new)| old != new).count() as f64 / values as f64;
            let ideal = f64::from(weights[gone]) / weights.iter().map(|weight| f64::from(*weight)).sum::<f64>();
            // A ring gives shares within a quarter of the weight; that much is not the move's doing.
            assert!(moved < 1.5 * ideal, "{weights:?} without {gone}: {moved} of {ideal}");
        }
    }
}

#[test]
fn an_unhealthy_target_moves_only_its_own_values() {
    let balancer = balancer(&algorithm("consistent-hashing", &[100; 10]));
    let before = owners(&balancer, 20_000);
    set_health(&balancer, "10.0.0.4", Health::Unhealthy);
    let after = owners(&balancer, 20_000);
    for (old, new) in before.iter().zip(&after) {
        assert_eq!(old != new, old == "10.0.0.4");
    }
    set_health(&balancer, "10.0.0.4", Health::Healthy);
    assert_eq!(owners(&balancer, 20_000), before);
}

#[test]
fn consistent_hashing_without_a_value_takes_turns() {
    let balancer = balancer(&algorithm("consistent-hashing", &[1, 1]));
    let hosts: Vec<String> = (0..10)
        .map(|_| host_of(&balancer.pick(&Wish::default(), &[]).expect("an address")))
        .collect();
    assert_eq!(shares(&hosts)["10.0.0.0"], 0.5);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn nodes_agree_whatever_order_targets_are_listed_in(
        weights in prop::collection::vec(1_u32..1_000, 1..30),
        turn in 0_usize..30,
        values in prop::collection::vec(any::<u32>(), 50),
    ) {
        let listed = algorithm("consistent-hashing", &weights);
        let mut turned = (*listed).clone();
        turned.targets.rotate_left(turn % weights.len());
        let (one, other) = (balancer(&listed), balancer(&Arc::new(turned)));
        for hash in values {
            let wish = Wish { hash: Some(hash), cookie: None };
            prop_assert_eq!(
                one.pick(&wish, &[]).map(|address| host_of(&address)),
                other.pick(&wish, &[]).map(|address| host_of(&address))
            );
        }
    }

    #[test]
    fn a_value_whose_target_stays_healthy_never_moves(
        weights in prop::collection::vec(1_u32..1_000, 2..20),
        sick in prop::collection::vec(any::<bool>(), 20),
        values in prop::collection::vec(any::<u32>(), 50),
    ) {
        let balancer = balancer(&algorithm("consistent-hashing", &weights));
        let pick = |hash| {
            let wish = Wish { hash: Some(hash), cookie: None };
            balancer.pick(&wish, &[]).map(|address| host_of(&address))
        };
        let before: Vec<_> = values.iter().map(|hash| pick(*hash)).collect();
        for (number, _) in weights.iter().enumerate().filter(|(number, _)| sick[*number]) {
            set_health(&balancer, &format!("10.0.0.{number}"), Health::Unhealthy);
        }
        let is_sick = |host: &String| {
            host.rsplit('.').next().and_then(|number| number.parse::<usize>().ok()).is_some_and(|number| sick[number])
        };
        for (hash, old) in values.iter().zip(before) {
            let new = pick(*hash);
            if old.as_ref().is_some_and(|host| !is_sick(host)) {
                prop_assert_eq!(new, old);
            } else if let Some(new) = new {
                prop_assert!(!is_sick(&new));
            }
        }
    }

    #[test]
    fn round_robin_is_exact_for_any_weights(weights in prop::collection::vec(0_u32..200, 1..12)) {
        let sum: u32 = weights.iter().sum();
        prop_assume!(sum > 0);
        let balancer = balancer(&algorithm("round-robin", &weights));
        let mut counts: HashMap<String, u32> = HashMap::new();
        for _ in 0..sum {
            let address = balancer.pick(&Wish::default(), &[]);
            prop_assert!(address.is_some());
            *counts.entry(address.map(|address| host_of(&address)).unwrap_or_default()).or_default() += 1;
        }
        for (number, weight) in weights.iter().enumerate() {
            prop_assert_eq!(counts.get(&format!("10.0.0.{number}")).copied().unwrap_or(0), *weight);
        }
    }
}

async fn lease(balancer: &Arc<Balancer>) -> Lease {
    let patience = Duration::from_secs(1);
    balancer
        .choose(&resolver(), &Wish::default(), &[], patience)
        .await
        .expect("a lease")
}

#[tokio::test]
async fn least_connections_fill_up_by_weight() {
    let balancer = balancer(&algorithm("least-connections", &[1, 2, 3]));
    let mut held = Vec::new();
    for _ in 0..60 {
        held.push(lease(&balancer).await);
    }
    let hosts: Vec<String> = held.iter().map(|lease| host_of(lease.address())).collect();
    let mut counts: HashMap<&str, usize> = HashMap::new();
    for host in &hosts {
        *counts.entry(host).or_default() += 1;
    }
    assert_eq!(
        (counts["10.0.0.0"], counts["10.0.0.1"], counts["10.0.0.2"]),
        (10, 20, 30)
    );
    held.retain(|lease| host_of(lease.address()) != "10.0.0.0");
    assert_eq!(
        host_of(lease(&balancer).await.address()),
        "10.0.0.0",
        "the freed address is next"
    );
}

#[tokio::test]
async fn least_connections_take_turns_when_idle() {
    let balancer = balancer(&algorithm("least-connections", &[5, 5, 5, 5]));
    let resolver = resolver();
    let mut hosts = Vec::new();
    for _ in 0..PICKS {
        let lease = balancer
            .choose(&resolver, &Wish::default(), &[], Duration::ZERO)
            .await
            .expect("a lease");
        hosts.push(host_of(lease.address()));
    }
    for share in shares(&hosts).values() {
        assert!((share - 0.25).abs() < 0.001);
    }
}

#[tokio::test(start_paused = true)]
async fn latency_prefers_the_fast_and_still_tries_the_slow() {
    let balancer = balancer(&algorithm("latency", &[1, 1, 1]));
    let resolver = resolver();
    let mut hosts = Vec::new();
    for _ in 0..PICKS {
        let lease = balancer
            .choose(&resolver, &Wish::default(), &[], Duration::ZERO)
            .await
            .expect("a lease");
        let host = host_of(lease.address());
        let latency = Duration::from_millis(if host == "10.0.0.2" { 200 } else { 20 });
        balancer.take_latency(lease.address(), latency);
        hosts.push(host);
    }
    let shares = shares(&hosts);
    assert!(shares["10.0.0.2"] < 0.01, "{shares:?}");
    assert!(shares["10.0.0.0"] > 0.3 && shares["10.0.0.1"] > 0.3, "{shares:?}");
}

#[tokio::test]
async fn a_burst_is_spread_over_equally_fast_addresses() {
    let balancer = balancer(&algorithm("latency", &[1, 1, 1, 1]));
    let mut held = Vec::new();
    for _ in 0..100 {
        held.push(lease(&balancer).await);
    }
    let hosts: Vec<String> = held.iter().map(|lease| host_of(lease.address())).collect();
    for share in shares(&hosts).values() {
        assert!((share - 0.25).abs() < 0.05);
    }
}

#[test]
fn a_session_sticks_until_its_address_is_removed() {
    let two = algorithm("sticky-sessions", &[1, 1]);
    let balancer = balancer(&two);
    let first = balancer.pick(&Wish::default(), &[]).expect("an address");
    let cookie = balancer.new_cookie(None, &first).expect("a cookie");
    let wish = Wish {
        hash: None,
        cookie: Some(&cookie),
    };
    let is_kept =
        |balancer: &Balancer| (0..10).all(|_| balancer.pick(&wish, &[]).is_some_and(|next| Arc::ptr_eq(&next, &first)));
    assert!(is_kept(&balancer));
    assert_eq!(balancer.new_cookie(Some(&cookie), &first), None);
    set_health(&balancer, &host_of(&first), Health::Unhealthy);
    assert!(is_kept(&balancer), "an unhealthy address keeps its sessions");
    let mut one = (*two).clone();
    one.targets.retain(|target| *target.host != *host_of(&first));
    balancer.configure(&Arc::new(one));
    let other = balancer.pick(&wish, &[]).expect("an address");
    assert!(!Arc::ptr_eq(&other, &first));
    assert!(balancer.new_cookie(Some(&cookie), &other).is_some());
}

#[tokio::test]
async fn a_changed_plan_keeps_connections_and_health() {
    let balancer = balancer(&algorithm("least-connections", &[1, 1]));
    let held = lease(&balancer).await;
    let other = lease(&balancer).await;
    set_health(&balancer, &host_of(other.address()), Health::Unhealthy);
    balancer.configure(&algorithm("least-connections", &[5, 5, 5]));
    assert_eq!(held.address().active(), 1);
    let mut hosts: Vec<String> = Vec::new();
    let mut more = Vec::new();
    for _ in 0..3 {
        more.push(lease(&balancer).await);
        hosts.extend(more.last().map(|lease| host_of(lease.address())));
    }
    assert_eq!(hosts[0], "10.0.0.2", "the new address has no connection yet");
    assert!(
        !hosts.contains(&host_of(other.address())),
        "what was unhealthy stays so"
    );
}

#[test]
fn an_address_that_comes_back_is_as_healthy_as_it_was() {
    let both = algorithm("round-robin", &[1, 1]);
    let balancer = balancer(&both);
    set_health(&balancer, "10.0.0.0", Health::Unhealthy);
    let mut one = (*both).clone();
    one.targets.remove(0);
    balancer.configure(&Arc::new(one));
    balancer.configure(&both);
    let hosts: Vec<String> = (0..4)
        .map(|_| host_of(&balancer.pick(&Wish::default(), &[]).expect("an address")))
        .collect();
    assert_eq!(hosts, ["10.0.0.1"; 4]);
}

#[test]
fn what_control_says_of_an_address_to_come_counts_once_it_is_there() {
    let both = algorithm("round-robin", &[1, 1]);
    let mut one = (*both).clone();
    one.targets.remove(0);
    let balancer = balancer(&Arc::new(one));
    set_health(&balancer, "10.0.0.0", Health::Unhealthy);
    balancer.configure(&both);
    let hosts: Vec<String> = (0..4)
        .map(|_| host_of(&balancer.pick(&Wish::default(), &[]).expect("an address")))
        .collect();
    assert_eq!(hosts, ["10.0.0.1"; 4]);
}

#[tokio::test]
async fn a_late_word_of_control_does_not_put_back_what_traffic_took_out() {
    let balancer = balancer(&plan(passive(1), &[("10.0.0.1", 1)]));
    balancer.announce();
    lease(&balancer).await.report(Outcome::Failed);
    set_health(&balancer, "10.0.0.1", Health::MostlyHealthy);
    assert!(balancer.pick(&Wish::default(), &[]).is_none());
    set_health(&balancer, "10.0.0.1", Health::Unhealthy);
    set_health(&balancer, "10.0.0.1", Health::Healthy);
    assert!(balancer.pick(&Wish::default(), &[]).is_some());
}

fn passive(threshold: u32) -> serde_json::Value {
    serde_json::json!({
        "passive_checks": {
            "thresholds": {"successes": 1, "http_failures": threshold, "tcp_failures": threshold, "timeouts": threshold},
            "healthy_statuses": [200],
            "unhealthy_statuses": [500],
        }
    })
}

#[tokio::test]
async fn failures_of_traffic_take_an_address_out_and_are_reported() {
    let reports = Arc::new(HealthReports::default());
    let woken = Arc::new(AtomicU64::new(0));
    let counter = woken.clone();
    reports.on_first(move || {
        counter.fetch_add(1, Ordering::Relaxed);
    });
    let balancer = Balancer::new(&plan(passive(3), &[("10.0.0.1", 1)]), reports.clone());
    assert!(reports.take(100).is_empty(), "its plan is not in force yet");
    balancer.announce();
    assert!(matches!(reports.take(100).as_slice(), [Report::Pool { .. }]));
    let lease = lease(&balancer).await;
    for outcome in [
        Outcome::Status(200),
        Outcome::Status(404),
        Outcome::Status(500),
        Outcome::Status(500),
    ] {
        lease.report(outcome);
    }
    assert!(balancer.pick(&Wish::default(), &[]).is_some());
    lease.report(Outcome::Status(500));
    assert!(balancer.pick(&Wish::default(), &[]).is_none());
    let counts: Vec<String> = reports
        .take(100)
        .iter()
        .map(|report| match report {
            Report::Observed { observation, count, .. } => format!("{observation} {count}"),
            Report::Changed { health, .. } => (*health).to_owned(),
            Report::Pool { .. } => "pool".to_owned(),
        })
        .collect();
    assert_eq!(counts, ["http_failure 3", "unhealthy"]);
    assert_eq!(woken.load(Ordering::Relaxed), 2, "once for each time the queue filled");
}

#[tokio::test]
async fn a_504_and_silence_count_as_timeouts_and_breaks_as_tcp_failures() {
    for (outcome, expected) in [
        (Outcome::Status(504), "timeout"),
        (Outcome::TimedOut, "timeout"),
        (Outcome::Failed, "tcp_failure"),
        (Outcome::Status(500), "http_failure"),
    ] {
        let reports = Arc::new(HealthReports::default());
        let balancer = Balancer::new(&plan(passive(9), &[("10.0.0.1", 1)]), reports.clone());
        drop(reports.take(100));
        lease(&balancer).await.report(outcome);
        assert!(
            matches!(reports.take(100).as_slice(), [Report::Observed { observation, .. }, ..] if *observation == expected),
            "{outcome:?}"
        );
    }
}

fn breaking(fields: serde_json::Value) -> serde_json::Value {
    serde_json::json!({ "circuit_breaking": fields })
}

#[tokio::test(start_paused = true)]
async fn connections_above_the_limit_wait_and_the_line_is_bounded() {
    let fields = breaking(serde_json::json!({"max_connections": 2, "max_pending_requests": 1}));
    let balancer = balancer(&plan(fields, &[("10.0.0.1", 1)]));
    let resolver = resolver();
    let (first, _second) = (lease(&balancer).await, lease(&balancer).await);
    let waiting = {
        let (balancer, resolver) = (balancer.clone(), resolver.clone());
        tokio::spawn(async move {
            balancer
                .choose(&resolver, &Wish::default(), &[], Duration::from_secs(60))
                .await
                .is_ok()
        })
    };
    tokio::task::yield_now().await;
    let refused = balancer
        .choose(&resolver, &Wish::default(), &[], Duration::from_secs(60))
        .await;
    assert!(matches!(refused, Err(Refusal::UpstreamBusy)));
    drop(first);
    assert!(waiting.await.expect("no panic"), "a freed slot goes to who waits");
}

#[tokio::test(start_paused = true)]
async fn waiting_for_a_slot_ends_with_the_patience() {
    let fields = breaking(serde_json::json!({"max_connections": 1, "max_pending_requests": 5}));
    let balancer = balancer(&plan(fields, &[("10.0.0.1", 1)]));
    let _held = lease(&balancer).await;
    let refused = balancer
        .choose(&resolver(), &Wish::default(), &[], Duration::from_millis(100))
        .await;
    assert!(matches!(refused, Err(Refusal::UpstreamBusy)));
}

#[test]
fn retries_stop_at_their_budget() {
    let fields = breaking(serde_json::json!({"max_concurrent_retries": 2}));
    let balancer = balancer(&plan(fields, &[("10.0.0.1", 1)]));
    let first = balancer.retry();
    let second = balancer.retry();
    assert!(first.is_some() && second.is_some());
    assert!(balancer.retry().is_none());
    drop(first);
    assert!(balancer.retry().is_some());
}

#[tokio::test(start_paused = true)]
async fn failures_in_a_row_eject_an_address_for_a_time_that_grows() {
    let outliers = serde_json::json!({"consecutive_failures": 2, "ejection_time_ms": 1_000, "max_ejected_percent": 50});
    let fields = breaking(serde_json::json!({ "outlier_ejection": outliers }));
    let balancer = balancer(&plan(fields, &[("10.0.0.1", 1), ("10.0.0.2", 1)]));
    let is_in_use = |host: &str| {
        (0..10).any(|_| {
            balancer
                .pick(&Wish::default(), &[])
                .is_some_and(|address| host_of(&address) == host)
        })
    };
    let bad = loop {
        let lease = lease(&balancer).await;
        if host_of(lease.address()) == "10.0.0.1" {
            break lease;
        }
    };
    for ejection_s in 1..3 {
        bad.report(Outcome::Status(503));
        bad.report(Outcome::Status(200));
        bad.report(Outcome::Failed);
        assert!(is_in_use("10.0.0.1"), "the success between ended the row");
        bad.report(Outcome::TimedOut);
        assert!(!is_in_use("10.0.0.1"));
        tokio::time::sleep(Duration::from_millis(ejection_s * 1_000 - 10)).await;
        assert!(!is_in_use("10.0.0.1"));
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(is_in_use("10.0.0.1"));
    }
}

#[tokio::test]
async fn not_more_than_the_allowed_part_is_ejected() {
    let outliers =
        serde_json::json!({"consecutive_failures": 1, "ejection_time_ms": 60_000, "max_ejected_percent": 50});
    let fields = breaking(serde_json::json!({ "outlier_ejection": outliers }));
    let balancer = balancer(&plan(fields, &[("10.0.0.1", 1), ("10.0.0.2", 1), ("10.0.0.3", 1)]));
    for _ in 0..20 {
        lease(&balancer).await.report(Outcome::Failed);
    }
    let hosts: Vec<String> = (0..10)
        .map(|_| host_of(&balancer.pick(&Wish::default(), &[]).expect("an address")))
        .collect();
    assert_eq!(shares(&hosts).len(), 2, "one of three is the most that half allows");
}

#[test]
fn a_retry_takes_nobodys_turn() {
    let balancer = balancer(&algorithm("round-robin", &[1, 1]));
    let mut first = Vec::new();
    for _ in 0..10 {
        let address = balancer.pick(&Wish::default(), &[]).expect("an address");
        first.push(host_of(&address));
        if first.last().is_some_and(|host| host == "10.0.0.1") {
            let next = balancer.pick(&Wish::default(), &[address]).expect("an address");
            assert_eq!(host_of(&next), "10.0.0.0");
        }
    }
    assert_eq!(shares(&first)["10.0.0.1"], 0.5);
}
