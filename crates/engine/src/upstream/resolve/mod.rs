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

pub use self::cache::Usage;
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
    /// By the key of the question.
    queries: FxHashMap<Box<str>, Query>,
}

/// A question that is under way.
#[derive(Debug)]
struct Query {
    answer: watch::Receiver<Option<Answer>>,
    /// How many wait for it, or did.
    waiting: u64,
}

/// What is asked: the records of a name by the set order, or those of one kind.
#[derive(Debug, Clone)]
struct Question<'host> {
    host: Cow<'host, str>,
    wanted: Option<RecordKind>,
}

impl<'host> Question<'host> {
    fn new(host: &'host str, wanted: Option<RecordKind>) -> Self {
        Self {
            host: canonical(host),
            wanted,
        }
    }

    /// Under what its answer is kept: the name, for one kind with what no name can have.
    fn key(&self) -> Cow<'_, str> {
        match self.wanted {
            None => Cow::Borrowed(&self.host),
            Some(kind) => Cow::Owned(format!("{}\0{}", self.host, kind.name())),
        }
    }
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
        self.resolve_kind(host, None).await
    }

    /// As `resolve`; `wanted`: the records of this kind only, whatever the set order is.
    ///
    /// # Errors
    /// See `ResolveError`.
    ///
    /// # Cancel safety
    /// Safe: the query goes on and its answer is kept.
    pub async fn resolve_kind(&self, host: &str, wanted: Option<RecordKind>) -> Result<Records, ResolveError> {
        match self.find(&Question::new(host, wanted), Entry::records) {
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
        let question = Question::new(host, None);
        match self.find(&question, Entry::next_record) {
            Lookup::Found(answer) => answer,
            Lookup::Asked(query) => {
                let records = await_answer(query).await?;
                // The turn is taken from the cache entry so that waiters of one query spread over the records.
                match self.lock().cache.find(&question.key(), Instant::now()) {
                    Some((_, entry)) => entry.next_record(),
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
        self.look_up(&Question::new(host, None), &mut self.lock(), Entry::records)
    }

    /// As `cached`, giving the one record whose turn it is.
    #[must_use]
    pub fn cached_next(&self, host: &str) -> Option<Result<Record, ResolveError>> {
        self.look_up(&Question::new(host, None), &mut self.lock(), Entry::next_record)
    }

    /// How the names in the cache were used, the most used first, at most `limit`; without literals and the hosts file.
    #[must_use]
    pub fn usage(&self, limit: usize) -> Vec<(String, Usage)> {
        let mut found = self.lock().cache.usage();
        found.sort_by_key(|(name, usage)| (std::cmp::Reverse(usage.lookups()), name.clone()));
        found.truncate(limit);
        found
            .into_iter()
            .map(|(key, usage)| (key.replace('\0', ":"), usage))
            .collect()
    }

    /// Find the answer in the cache or make sure that a query for it is under way.
    fn find<T>(&self, question: &Question<'_>, read: fn(&mut Entry) -> Result<T, ResolveError>) -> Lookup<T> {
        let mut state = self.lock();
        match self.look_up(question, &mut state, read) {
            Some(answer) => Lookup::Found(answer),
            None => Lookup::Asked(self.ask(question, &mut state, 1)),
        }
    }

    fn look_up<T>(
        &self,
        question: &Question<'_>,
        state: &mut State,
        read: fn(&mut Entry) -> Result<T, ResolveError>,
    ) -> Option<Result<T, ResolveError>> {
        let key = question.key();
        if let Some((freshness, entry)) = state.cache.get(&key, Instant::now()) {
            let answer = read(entry);
            if freshness == Freshness::Stale {
                self.ask(question, state, 0);
            }
            return Some(answer);
        }
        match self.fixed_records(question)? {
            Ok(fixed) => Some(read(state.cache.put_fixed(&key, fixed))),
            Err(error) => Some(Err(error)),
        }
    }

    /// Addresses that need no name server.
    fn fixed_records(&self, question: &Question<'_>) -> Option<Answer> {
        let host: &str = &question.host;
        let literal = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let addresses: Records = match literal.unwrap_or(host).parse::<IpAddr>() {
            Ok(address) => Arc::from([Record::plain(address)]),
            Err(_) => self.shared.hosts.get(host, question.wanted)?,
        };
        let is_wanted = |record: &Record| question.wanted.is_none_or(|kind| kind.has(record.address));
        Some(if addresses.iter().all(is_wanted) {
            Ok(addresses)
        } else {
            Err(ResolveError::NotFound)
        })
    }

    /// Join the query that is under way, or start one; `waiting`: how many more wait for it.
    fn ask(&self, question: &Question<'_>, state: &mut State, waiting: u64) -> watch::Receiver<Option<Answer>> {
        let key = question.key();
        if let Some(query) = state.queries.get_mut(&*key) {
            query.waiting += waiting;
            return query.answer.clone();
        }
        let (sender, receiver) = watch::channel(None);
        let query = Query {
            answer: receiver.clone(),
            waiting,
        };
        state.queries.insert(key.as_ref().into(), query);
        let shared = Arc::clone(&self.shared);
        let last = state.cache.last_kind(&key);
        let key: Box<str> = key.into();
        let (host, wanted): (Box<str>, _) = (question.host.as_ref().into(), question.wanted);
        tokio::spawn(async move {
            let asking = AskingGuard {
                shared: &shared,
                key: &key,
            };
            let timed = shared.client.query(&host, wanted, last).await;
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
    key: &'task str,
}

impl AskingGuard<'_> {
    /// Keep the answer, and give what waiting requests should see.
    fn finish(self, timed: TimedAnswer) -> Answer {
        let mut state = self.shared.lock();
        let misses = state.queries.get(self.key).map_or(0, |query| query.waiting);
        state.cache.put(self.key, timed, misses, Instant::now())
    }
}

impl Drop for AskingGuard<'_> {
    fn drop(&mut self) {
        self.shared.lock().queries.remove(self.key);
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
