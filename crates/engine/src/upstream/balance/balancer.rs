//! The balancer of one upstream: which addresses it has, which may be picked, and what becomes of outcomes.
//!
//! Lives from the first plan that has the upstream to the first that has not; `configure` takes each new plan. Picking
//! reads one immutable `Rotation`; everything else (a changed plan, name, health) makes a new one beside it under a lock that
//! no request takes. Addresses keep connections, latency and health over all of that.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use rustc_hash::FxHashMap;
use tokio::task::JoinSet;

use super::lease::{Lease, Outcome};
use super::limits::{Limits, RetryToken};
use super::passive::PassiveChecks;
use super::round_robin::RoundRobin;
use super::sticky::cookie_of;
use super::{Address, AddressKey, Algorithm, Entry, Rotation, Wish};
use crate::error::Refusal;
use crate::plan::{CircuitBreakingPlan, TargetPlan, UpstreamPlan};
use crate::upstream::health::{Health, Observation};
use crate::upstream::reports::{HealthReports, PoolAddress, PoolTarget};
use crate::upstream::resolve::{Records, ResolveError, Resolver};

/// An address that is gone keeps its health for this long (reference: balancing 2).
const REMEMBERED: Duration = Duration::from_secs(300);

/// One upstream's balancer on this worker.
#[derive(Debug)]
pub struct Balancer {
    id: Arc<str>,
    epoch: Instant,
    reports: Arc<HealthReports>,
    rotation: ArcSwap<Rotation>,
    checks: ArcSwap<Checks>,
    limits: ArcSwap<Limits>,
    turn: AtomicU64,
    members: Mutex<Members>,
}

/// How outcomes are judged.
#[derive(Debug, Default)]
struct Checks {
    passive: Option<PassiveChecks>,
}

/// What the rotation is made of.
#[derive(Debug)]
struct Members {
    plan: Arc<UpstreamPlan>,
    names: FxHashMap<Arc<str>, Result<Records, ResolveError>>,
    addresses: FxHashMap<AddressKey, Known>,
    /// What control said of addresses that are not known here yet, and when.
    told: FxHashMap<AddressKey, (Health, Instant)>,
    /// As reported last.
    pool: Vec<PoolTarget>,
    /// The plan that made this balancer is in force: what control answers to a report finds it.
    is_announced: bool,
}

#[derive(Debug)]
struct Known {
    address: Arc<Address>,
    gone_since: Option<Instant>,
}

impl Balancer {
    /// The balancer of an upstream that no plan had before.
    #[must_use]
    pub fn new(plan: &Arc<UpstreamPlan>, reports: Arc<HealthReports>) -> Arc<Self> {
        let rotation = Rotation {
            entries: Vec::new(),
            algorithm: Algorithm::RoundRobin(RoundRobin::new(&[])),
            is_healthy: true,
        };
        let this = Self {
            id: plan.id.as_str().into(),
            epoch: Instant::now(),
            reports,
            rotation: ArcSwap::from_pointee(rotation),
            checks: ArcSwap::default(),
            limits: ArcSwap::from_pointee(Limits::new(CircuitBreakingPlan::default())),
            turn: AtomicU64::new(random_turn()),
            members: Mutex::new(Members {
                plan: plan.clone(),
                names: FxHashMap::default(),
                addresses: FxHashMap::default(),
                told: FxHashMap::default(),
                pool: Vec::new(),
                is_announced: false,
            }),
        };
        this.take_plan(plan, &mut this.lock());
        Arc::new(this)
    }

    /// Take a plan in force; addresses that stay keep what is known of them.
    pub fn configure(&self, plan: &Arc<UpstreamPlan>) {
        let mut members = self.lock();
        if members.plan != *plan {
            self.take_plan(plan, &mut members);
        }
    }

    fn take_plan(&self, plan: &Arc<UpstreamPlan>, members: &mut Members) {
        let passive = plan.passive_checks.as_ref().map(PassiveChecks::new);
        if passive.is_none() {
            // Without checks nothing is ever marked.
            for known in members.addresses.values() {
                known.address.health.set(Health::Healthy);
            }
        }
        self.checks.store(Arc::new(Checks { passive }));
        if self.limits.load().plan != plan.circuit_breaking {
            self.limits.store(Arc::new(Limits::new(plan.circuit_breaking.clone())));
        }
        members.plan = plan.clone();
        let wanted = &members.plan.clone().targets;
        members
            .names
            .retain(|name, _| wanted.iter().any(|target| *target.host == **name));
        self.rebuild(members, false);
    }

    /// Pick an address and hold it. Names are asked for only while no address is known; waits for a free slot for up to
    /// `patience` where the upstream has `max_connections`.
    ///
    /// # Errors
    /// No address may be used, or the upstream's limit is reached.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn choose(
        self: &Arc<Self>,
        resolver: &Resolver,
        wish: &Wish<'_>,
        tried: &[Arc<Address>],
        patience: Duration,
    ) -> Result<Lease, Refusal> {
        if self.rotation.load().entries.is_empty() {
            self.resolve_unknown(resolver).await;
        }
        let limits = self.limits.load_full();
        let slot = limits.enter(patience).await.map_err(|_busy| Refusal::UpstreamBusy)?;
        let address = self.pick(wish, tried).ok_or(Refusal::NoPeer)?;
        let lease = Lease::new(self.clone(), address, slot);
        self.changed(lease.address());
        Ok(lease)
    }

    /// The address that is next; None: none may be used.
    #[must_use]
    pub fn pick(&self, wish: &Wish<'_>, tried: &[Arc<Address>]) -> Option<Arc<Address>> {
        let rotation = self.rotation.load();
        if !rotation.is_healthy {
            return None;
        }
        // A retry takes nobody's turn: with two targets, each request would meet the faulty one first.
        let take_turn = || {
            if tried.is_empty() {
                self.turn.fetch_add(1, Ordering::Relaxed)
            } else {
                self.turn.load(Ordering::Relaxed)
            }
        };
        rotation.pick(wish, tried, take_turn).map(|entry| entry.address.clone())
    }

    /// Begin a retry; None: the upstream's budget of concurrent retries is used up.
    #[must_use]
    pub fn retry(&self) -> Option<RetryToken> {
        self.limits.load().retry()
    }

    /// The cookie to set so that the session stays with `address`; None: the client has a good one, or none is used.
    #[must_use]
    pub fn new_cookie(&self, had: Option<&str>, address: &Address) -> Option<String> {
        let rotation = self.rotation.load();
        match &rotation.algorithm {
            Algorithm::Sticky(sticky) if !had.is_some_and(|cookie| sticky.knows(cookie)) => {
                Some(cookie_of(&address.key))
            }
            _ => None,
        }
    }

    /// Bring the addresses of names up to date, as the cache has them; asks for those it has not. Never waits.
    pub fn refresh(self: &Arc<Self>, resolver: &Resolver) {
        let mut members = self.lock();
        let now = Instant::now();
        let is_recent = |since: Instant| now.saturating_duration_since(since) < REMEMBERED;
        members
            .addresses
            .retain(|_, known| known.gone_since.is_none_or(is_recent));
        members.told.retain(|_, (_, since)| is_recent(*since));
        let mut has_changed = false;
        for name in names_of(&members.plan) {
            match resolver.cached(&name) {
                Some(answer) => has_changed |= members.take_answer(name, answer),
                None => {
                    let (this, resolver) = (self.clone(), resolver.clone());
                    tokio::spawn(async move {
                        let answer = resolver.resolve(&name).await;
                        this.take_answer(name, answer);
                    });
                }
            }
        }
        if has_changed {
            self.rebuild(&mut members, false);
        }
    }

    /// Take over what control says of an address, known here or not yet. Its counters go on when the state is the same,
    /// unless `is_reset`. A decision of this worker that control has not heard of is kept (`HealthCell`).
    pub fn set_health(&self, key: &AddressKey, health: Health, is_reset: bool) {
        let mut members = self.lock();
        let Some(known) = members.addresses.get(key) else {
            if health.is_healthy() {
                members.told.remove(key);
            } else {
                members.told.insert(key.clone(), (health, Instant::now()));
            }
            return;
        };
        if known.address.health.take(health, is_reset) {
            self.rebuild(&mut members, true);
        }
    }

    /// Report the pool from now on: the plan that made this balancer is in force.
    pub fn announce(&self) {
        if !self.lock().is_announced {
            self.report_pool();
        }
    }

    /// Report the whole pool again, for a control that knows nothing yet.
    pub fn report_pool(&self) {
        let mut members = self.lock();
        members.is_announced = true;
        // Before the states are read: what traffic decides from here on is reported behind the pool.
        for known in members.addresses.values() {
            known.address.health.confirm();
        }
        self.reports.pool(&self.id, pool_of(&members));
    }

    pub(super) fn take_outcome(self: &Arc<Self>, address: &Arc<Address>, outcome: Outcome) {
        self.count_outlier(address, outcome);
        let checks = self.checks.load();
        let Some(passive) = &checks.passive else {
            return;
        };
        let Some(observation) = passive.observation(outcome) else {
            return;
        };
        let (before, after) = address.health.observe(observation, &passive.thresholds);
        let is_ignored = match observation {
            Observation::Success => before == Health::Healthy || passive.thresholds.successes == 0,
            Observation::HttpFailure => passive.thresholds.http_failures == 0,
            Observation::TcpFailure => passive.thresholds.tcp_failures == 0,
            Observation::Timeout => passive.thresholds.timeouts == 0,
        };
        if is_ignored || (before == Health::Unhealthy && observation != Observation::Success) {
            return;
        }
        self.reports.observed(&self.id, &address.key, observation);
        if before.is_healthy() != after.is_healthy() {
            self.reports.changed(&self.id, &address.key, after);
            self.rebuild(&mut self.lock(), true);
        }
    }

    pub(super) fn take_latency(&self, address: &Arc<Address>, latency: Duration) {
        address.latency.add(latency, Instant::now());
        self.changed(address);
    }

    pub(super) fn changed(&self, address: &Arc<Address>) {
        self.rotation.load().changed(address);
    }

    /// Failures in a row put an address out for a while, where the upstream asks for that.
    fn count_outlier(self: &Arc<Self>, address: &Arc<Address>, outcome: Outcome) {
        let limits = self.limits.load();
        let Some(outliers) = &limits.plan.outlier_ejection else {
            return;
        };
        let is_failure = !matches!(outcome, Outcome::Status(status) if status < 500);
        let failures = address.count_outcome(is_failure);
        if failures < outliers.consecutive_failures || address.is_ejected() {
            return;
        }
        let mut members = self.lock();
        let entries = &self.rotation.load_full().entries;
        let ejected = entries.iter().filter(|entry| entry.address.is_ejected()).count() + 1;
        if ejected * 100 > entries.len() * outliers.max_ejected_percent as usize {
            return;
        }
        let times = address.eject();
        self.rebuild(&mut members, true);
        drop(members);
        let pause = Duration::from_millis(outliers.ejection_time_ms).saturating_mul(times);
        tracing::warn!(
            "upstream {}: {} is out for {} ms after {failures} failures in a row",
            self.id,
            address.socket_address(),
            pause.as_millis()
        );
        let (this, address) = (Arc::downgrade(self), address.clone());
        tokio::spawn(async move {
            tokio::time::sleep(pause).await;
            address.readmit();
            if let Some(this) = this.upgrade() {
                this.rebuild(&mut this.lock(), true);
            }
        });
    }

    /// Ask for the names that were never asked for, until one gives addresses.
    async fn resolve_unknown(self: &Arc<Self>, resolver: &Resolver) {
        let mut asking = JoinSet::new();
        {
            let members = self.lock();
            for name in names_of(&members.plan) {
                if !members.names.contains_key(&name) {
                    let resolver = resolver.clone();
                    asking.spawn(async move {
                        let answer = resolver.resolve(&name).await;
                        (name, answer)
                    });
                }
            }
        }
        while let Some(done) = asking.join_next().await {
            let Ok((name, answer)) = done else {
                continue;
            };
            self.take_answer(name, answer);
            if !self.rotation.load().entries.is_empty() {
                // The others arrive with the next refresh.
                asking.detach_all();
                return;
            }
        }
    }

    fn take_answer(&self, name: Arc<str>, answer: Result<Records, ResolveError>) {
        let mut members = self.lock();
        if members.take_answer(name, answer) {
            self.rebuild(&mut members, false);
        }
    }

    /// Make a new rotation; `is_health_only`: the addresses and their weights are the same.
    fn rebuild(&self, members: &mut Members, is_health_only: bool) {
        let old = self.rotation.load_full();
        let now = Instant::now();
        if !is_health_only {
            members.renew_addresses(self.epoch, now);
        }
        let pool = pool_of(members);
        let mut entries: Vec<Entry> = Vec::new();
        for target in &pool {
            for listed in &target.addresses {
                let key = AddressKey {
                    host: target.host.clone(),
                    port: listed.port,
                    ip: listed.ip,
                };
                if let Some(known) = members.addresses.get(&key).filter(|_| listed.weight > 0) {
                    entries.push(Entry {
                        address: known.address.clone(),
                        weight: listed.weight,
                    });
                }
            }
        }
        entries.sort_by(|one, other| one.address.key.cmp(&other.address.key));
        for (position, entry) in entries.iter().enumerate() {
            entry.address.set_position(position);
        }
        let plan = &members.plan;
        let ring = old.ring().filter(|_| is_health_only).cloned();
        let algorithm = Rotation::algorithm(plan, &entries, ring, now);
        let weight_of = |is_counted: &dyn Fn(&Entry) -> bool| -> u64 {
            entries
                .iter()
                .filter(|entry| is_counted(entry))
                .map(|entry| u64::from(entry.weight))
                .sum()
        };
        let total = weight_of(&|_| true);
        let available = weight_of(&|entry| entry.address.health.is_healthy());
        let is_healthy = total > 0 && available as f64 * 100.0 / total as f64 > plan.health_threshold_percent;
        if is_healthy != old.is_healthy {
            let state = if is_healthy { "HEALTHY" } else { "UNHEALTHY" };
            tracing::warn!(
                "[healthchecks] balancer {} reported health status changed to {state}",
                plan.name
            );
        }
        self.rotation.store(Arc::new(Rotation {
            entries,
            algorithm,
            is_healthy,
        }));
        if !is_health_only && pool != members.pool {
            members.pool.clone_from(&pool);
            if members.is_announced {
                self.reports.pool(&self.id, pool);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Members> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Members {
    /// Keep what a name stands for; returns whether that is something else now.
    fn take_answer(&mut self, name: Arc<str>, answer: Result<Records, ResolveError>) -> bool {
        if self.names.get(&name).is_some_and(|known| same_set(known, &answer)) {
            return false;
        }
        if let Err(error) = &answer {
            tracing::warn!("upstream {}: target {name} has no addresses: {error}", self.plan.name);
        }
        self.names.insert(name, answer);
        true
    }

    /// Make the addresses that are new, mark those that are gone.
    fn renew_addresses(&mut self, epoch: Instant, now: Instant) {
        let is_checked = self.plan.passive_checks.is_some();
        let mut wanted: FxHashMap<AddressKey, Option<Arc<str>>> = FxHashMap::default();
        for target in &self.plan.targets {
            for (key, _, srv_name) in addresses_of(target, &self.names) {
                wanted.insert(key, srv_name);
            }
        }
        for (key, known) in &mut self.addresses {
            known.gone_since = match (wanted.contains_key(key), known.gone_since) {
                (true, _) => None,
                (false, since) => Some(since.unwrap_or(now)),
            };
        }
        for (key, srv_name) in wanted {
            let told = self.told.remove(&key);
            self.addresses.entry(key.clone()).or_insert_with(|| {
                let address = Address::new(key, srv_name, epoch);
                if let (Some((health, _)), true) = (told, is_checked) {
                    address.health.set(health);
                }
                Known {
                    address: Arc::new(address),
                    gone_since: None,
                }
            });
        }
    }
}

/// The addresses of a target with their weights.
fn addresses_of(
    target: &TargetPlan,
    names: &FxHashMap<Arc<str>, Result<Records, ResolveError>>,
) -> Vec<(AddressKey, u32, Option<Arc<str>>)> {
    let key = |ip, port| AddressKey {
        host: target.host.clone(),
        port,
        ip,
    };
    if let Ok(ip) = target.host.parse::<IpAddr>() {
        return vec![(key(ip, target.port), target.weight, None)];
    }
    let Some(Ok(set)) = names.get(&target.host) else {
        return Vec::new();
    };
    let mut found: Vec<(AddressKey, u32, Option<Arc<str>>)> = set
        .iter()
        .map(|record| {
            // A record's weight replaces the target's, but not the decision to take the target out of use.
            let weight = match &record.service {
                Some(service) if target.weight > 0 => service.weight,
                _ => target.weight,
            };
            let srv_name = record.service.as_ref().map(|service| service.name.as_str().into());
            (key(record.address, record.port(target.port)), weight, srv_name)
        })
        .collect();
    // Records of two names may lead to one address: it is in the pool once, with both weights.
    found.sort_by(|one, other| one.0.cmp(&other.0));
    found.dedup_by(|later, first| {
        let is_same = later.0 == first.0;
        if is_same && later.2.is_some() {
            first.1 = first.1.saturating_add(later.1);
        }
        is_same
    });
    found
}

/// The names among the targets of a plan.
fn names_of(plan: &UpstreamPlan) -> Vec<Arc<str>> {
    plan.targets
        .iter()
        .filter(|target| target.host.parse::<IpAddr>().is_err())
        .map(|target| target.host.clone())
        .collect()
}

/// The pool as it is told to control.
fn pool_of(members: &Members) -> Vec<PoolTarget> {
    members
        .plan
        .targets
        .iter()
        .map(|target| PoolTarget {
            host: target.host.clone(),
            port: target.port,
            weight: target.weight,
            dns: kind_of(target, members),
            addresses: addresses_of(target, &members.names)
                .into_iter()
                .map(|(key, weight, _)| PoolAddress {
                    ip: key.ip,
                    port: key.port,
                    weight,
                    health: members
                        .addresses
                        .get(&key)
                        .map_or(Health::Healthy, |known| known.address.health.get())
                        .name(),
                })
                .collect(),
        })
        .collect()
}

/// The kind of records behind a target, as the Admin API shows it.
fn kind_of(target: &TargetPlan, members: &Members) -> &'static str {
    match members.names.get(&target.host) {
        Some(Ok(records)) if records.iter().any(|record| record.service.is_some()) => "SRV",
        Some(Ok(records)) if records.iter().all(|record| record.address.is_ipv6()) => "AAAA",
        _ => "A",
    }
}

/// The same addresses, in whatever order a name server turned them.
fn same_set(one: &Result<Records, ResolveError>, other: &Result<Records, ResolveError>) -> bool {
    match (one, other) {
        (Ok(one), Ok(other)) => one.len() == other.len() && one.iter().all(|address| other.contains(address)),
        (Err(_), Err(_)) => true,
        _ => false,
    }
}

/// Workers begin at different places, so that their first requests do not all go to the first address.
fn random_turn() -> u64 {
    let mut bytes = [0; 4];
    // Without entropy all begin at the first: nothing depends on it.
    let _ = getrandom::fill(&mut bytes);
    u64::from(u32::from_ne_bytes(bytes))
}
