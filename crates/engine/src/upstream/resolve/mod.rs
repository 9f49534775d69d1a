//! Names to addresses: literals, the hosts file, then DNS through a cache of our own.
//!
//! Owns when a name is asked for anew: one query per name at a time, in a task of its own so that an impatient request
//! does not cancel it for others; expired answers serve while the new one is under way. `cache` holds the rules of
//! ageing, `hosts` the file, `query` the DNS client, `records` what a name stands for. Called by `upstream` before each
//! connect; the records of a name are handed out in turn.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;
use tokio::sync::watch;

mod cache;
mod hosts;
mod query;
mod records;

#[cfg(test)]
mod tests;

use self::cache::{Cache, Entry, Freshness, Lifetimes};
use self::hosts::Hosts;
use self::query::DnsClient;
pub use self::records::{Record, RecordKind, Records, ServiceRecord};
use crate::settings::DnsSettings;

/// Why a name has no addresses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// The name does not exist or has no addresses.
    #[error("dns server error: 3 name error")]
    NotFound,
    /// Everything else: name servers silent, refusing or broken.
    #[error("{0}")]
    Other(Arc<str>),
}

/// A setting of name resolution that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResolverFault {
    /// Not an address with an optional port.
    #[error("invalid name server '{0}', expected ip or ip:port")]
    InvalidNameServer(String),
}

/// What asking for a name gave.
type Answer = Result<Records, ResolveError>;

/// An answer and how long its records said it is good for.
#[derive(Debug, Clone)]
struct TimedAnswer {
    answer: Answer,
    /// Which kind of records answered, to be asked for first the next time.
    kind: Option<RecordKind>,
    ttl: Duration,
}

/// Resolves names for one worker; a clone shares the cache.
#[derive(Debug, Clone)]
pub struct Resolver {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    hosts: Hosts,
    client: DnsClient,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    cache: Cache,
    queries: FxHashMap<Box<str>, watch::Receiver<Option<Answer>>>,
}

impl Resolver {
    /// Read the hosts file and the system's resolver settings.
    ///
    /// A hosts file or `/etc/resolv.conf` that cannot be read is logged and taken as empty.
    ///
    /// # Errors
    /// A given name server is no address.
    pub fn new(settings: &DnsSettings) -> Result<Self, ResolverFault> {
        let client = DnsClient::new(settings)?;
        let hosts = match &settings.hosts_file {
            Some(path) => Hosts::read(path),
            None => Hosts::default(),
        };
        let cache = Cache::new(Lifetimes::from(settings), settings.cache_size);
        Ok(Self {
            shared: Arc::new(Shared {
                hosts,
                client,
                state: Mutex::new(State {
                    cache,
                    queries: FxHashMap::default(),
                }),
            }),
        })
    }

    /// The records of `host`, from the cache or by asking.
    ///
    /// # Errors
    /// See `ResolveError`; errors are remembered for the set time.
    ///
    /// # Cancel safety
    /// Safe: the query goes on and its answer is kept.
    pub async fn resolve(&self, host: &str) -> Result<Records, ResolveError> {
        match self.find(host, Entry::records) {
            Lookup::Found(answer) => answer,
            Lookup::Asked(query) => await_answer(query).await,
        }
    }

    /// The record of `host` whose turn it is, from the cache or by asking.
    ///
    /// # Errors
    /// See `ResolveError`.
    ///
    /// # Cancel safety
    /// Safe: the query goes on and its answer is kept.
    pub async fn resolve_next(&self, host: &str) -> Result<Record, ResolveError> {
        match self.find(host, Entry::next_record) {
            Lookup::Found(answer) => answer,
            Lookup::Asked(query) => {
                let records = await_answer(query).await?;
                // The turn is taken from the cache entry so that waiters of one query spread over the records.
                match self.cached_next(host) {
                    Some(next) => next,
                    None => records.first().cloned().ok_or(ResolveError::NotFound),
                }
            }
        }
    }

    /// What the cache holds for `host`, without waiting and without allocating once a name is known.
    ///
    /// None: `resolve` has to ask. An expired answer that may still be served starts its own refresh.
    #[must_use]
    pub fn cached(&self, host: &str) -> Option<Result<Records, ResolveError>> {
        self.look_up(host, &mut self.lock(), Entry::records)
    }

    /// As `cached`, giving the one record whose turn it is.
    #[must_use]
    pub fn cached_next(&self, host: &str) -> Option<Result<Record, ResolveError>> {
        self.look_up(host, &mut self.lock(), Entry::next_record)
    }

    /// Find `host` in the cache or make sure that a query for it is under way.
    fn find<T>(&self, host: &str, read: fn(&mut Entry) -> Result<T, ResolveError>) -> Lookup<T> {
        let mut state = self.lock();
        match self.look_up(host, &mut state, read) {
            Some(answer) => Lookup::Found(answer),
            None => Lookup::Asked(self.ask(&canonical(host), &mut state)),
        }
    }

    fn look_up<T>(
        &self,
        host: &str,
        state: &mut State,
        read: fn(&mut Entry) -> Result<T, ResolveError>,
    ) -> Option<Result<T, ResolveError>> {
        let host = canonical(host);
        let now = Instant::now();
        if let Some((freshness, entry)) = state.cache.get(&host, now) {
            let answer = read(entry);
            if freshness == Freshness::Stale {
                self.ask(&host, state);
            }
            return Some(answer);
        }
        let fixed = self.fixed_records(&host)?;
        Some(read(state.cache.put_fixed(&host, fixed)))
    }

    /// Addresses that need no name server.
    fn fixed_records(&self, host: &str) -> Option<Records> {
        let literal = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        if let Ok(address) = literal.unwrap_or(host).parse::<IpAddr>() {
            return Some(Arc::from([Record::plain(address)]));
        }
        self.shared.hosts.get(host)
    }

    /// Join the query for `host` that is under way, or start one.
    fn ask(&self, host: &str, state: &mut State) -> watch::Receiver<Option<Answer>> {
        if let Some(query) = state.queries.get(host) {
            return query.clone();
        }
        let (sender, receiver) = watch::channel(None);
        state.queries.insert(host.into(), receiver.clone());
        let shared = Arc::clone(&self.shared);
        let last = state.cache.last_kind(host);
        let host: Box<str> = host.into();
        tokio::spawn(async move {
            let asking = AskingGuard {
                shared: &shared,
                host: &host,
            };
            let timed = shared.client.query(&host, last).await;
            let answer = asking.finish(timed);
            // No receiver: every request that waited has gone.
            sender.send(Some(answer)).ok();
        });
        receiver
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.lock()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes the query off the list however it ends, so that a name is never stuck as being asked for.
struct AskingGuard<'task> {
    shared: &'task Shared,
    host: &'task str,
}

impl AskingGuard<'_> {
    /// Keep the answer, and give what waiting requests should see.
    fn finish(self, timed: TimedAnswer) -> Answer {
        let mut state = self.shared.lock();
        state.cache.put(self.host, timed, Instant::now())
    }
}

impl Drop for AskingGuard<'_> {
    fn drop(&mut self) {
        self.shared.lock().queries.remove(self.host);
    }
}

enum Lookup<T> {
    Found(Result<T, ResolveError>),
    Asked(watch::Receiver<Option<Answer>>),
}

async fn await_answer(mut query: watch::Receiver<Option<Answer>>) -> Answer {
    match query.wait_for(Option::is_some).await {
        Ok(answer) => answer.clone().unwrap_or(Err(ResolveError::NotFound)),
        Err(_closed) => Err(ResolveError::Other("the query was given up".into())),
    }
}

/// The form under which a name is kept: lower case.
fn canonical(host: &str) -> Cow<'_, str> {
    if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        host.to_ascii_lowercase().into()
    } else {
        host.into()
    }
}
