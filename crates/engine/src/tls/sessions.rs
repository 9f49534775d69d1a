//! What lets clients resume: session tickets that all workers of a node read, and a worker's stored sessions.
//!
//! The supervisor makes one secret and gives it to every worker. A ratchet turns it into one ticket key per period (the
//! sessions' lifetime); the secret before a turn is forgotten, and with the key of the period before last nobody can
//! read what was sent then. So a ticket serves for one to two periods, and forward secrecy begins after that.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use ring::aead::{Aad, LessSafeKey, Nonce, UnboundKey, AES_256_GCM, NONCE_LEN};
use ring::hmac;
use rustls::server::{ProducesTickets, ServerSessionMemoryCache, StoresServerSessions};

use super::TlsFault;
use crate::settings::TlsSettings;

const SECRET_BYTES: usize = 32;
const PERIOD_BYTES: usize = 8;
/// Expiry in front of a stored session: Unix seconds.
const EXPIRY_BYTES: usize = 8;

/// What lets clients resume: made once per process and shared by the configurations of all plans.
#[derive(Debug, Clone)]
pub struct ServerSessions {
    pub(super) ticketer: Option<Arc<dyn ProducesTickets>>,
    pub(super) storage: Arc<dyn StoresServerSessions>,
}

impl ServerSessions {
    /// The node's ticket keys (unless tickets are off) and an empty session store.
    ///
    /// # Errors
    /// The secret of the settings is none.
    pub fn new(settings: &TlsSettings) -> Result<Self, TlsFault> {
        let lifetime_s = settings.session_timeout_s.max(1);
        let ticketer: Option<Arc<dyn ProducesTickets>> = if settings.session_tickets {
            let secret = secret_of(&settings.session_ticket_secret).ok_or_else(|| {
                let text = format!("expected {} hex digits", SECRET_BYTES * 2);
                TlsFault::new("tls.session_ticket_secret", text)
            })?;
            let ratchet = Ratchet::new(secret, settings.session_ticket_period)
                .ok_or_else(|| TlsFault::new("tls.session_ticket_secret", "no key can be made of it"))?;
            Some(Arc::new(SharedTickets {
                lifetime_s,
                ratchet: Mutex::new(ratchet),
            }))
        } else {
            None
        };
        Ok(Self {
            ticketer,
            storage: Arc::new(TimedSessions {
                lifetime_s,
                sessions: ServerSessionMemoryCache::new(settings.session_cache_entries),
            }),
        })
    }
}

fn secret_of(text: &str) -> Option<[u8; SECRET_BYTES]> {
    let mut secret = [0; SECRET_BYTES];
    if text.len() != SECRET_BYTES * 2 || !text.is_ascii() {
        return None;
    }
    for (byte, at) in secret.iter_mut().zip((0..).step_by(2)) {
        *byte = u8::from_str_radix(text.get(at..at + 2)?, 16).ok()?;
    }
    Some(secret)
}

fn unix_seconds() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// Keys of the current period and of the one before.
struct Ratchet {
    secret: [u8; SECRET_BYTES],
    period: u64,
    current: LessSafeKey,
    previous: Option<LessSafeKey>,
}

impl Ratchet {
    fn new(secret: [u8; SECRET_BYTES], period: u64) -> Option<Self> {
        Some(Self {
            secret,
            period,
            current: ticket_key(&secret)?,
            previous: None,
        })
    }

    /// Turn to a later period; a clock that goes back turns nothing.
    fn turn_to(&mut self, period: u64) -> Option<()> {
        while self.period < period {
            let next = derived(&self.secret, b"next");
            let key = ticket_key(&next)?;
            self.secret = next;
            self.previous = Some(std::mem::replace(&mut self.current, key));
            self.period += 1;
        }
        Some(())
    }

    fn key(&self, period: u64) -> Option<&LessSafeKey> {
        if period == self.period {
            Some(&self.current)
        } else if period.checked_add(1) == Some(self.period) {
            self.previous.as_ref()
        } else {
            None
        }
    }
}

/// The same derivation is in `headgate.node.ticket_secret`.
fn derived(secret: &[u8], label: &[u8]) -> [u8; SECRET_BYTES] {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    let mut next = [0; SECRET_BYTES];
    next.copy_from_slice(hmac::sign(&key, label).as_ref());
    next
}

fn ticket_key(secret: &[u8]) -> Option<LessSafeKey> {
    UnboundKey::new(&AES_256_GCM, &derived(secret, b"key"))
        .ok()
        .map(LessSafeKey::new)
}

/// Tickets under the keys of a ratchet: period, nonce, then the sealed session.
struct SharedTickets {
    lifetime_s: u64,
    ratchet: Mutex<Ratchet>,
}

impl fmt::Debug for SharedTickets {
    /// Without keys.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("SharedTickets").finish_non_exhaustive()
    }
}

impl SharedTickets {
    fn with_ratchet<T>(&self, use_it: impl FnOnce(&Ratchet) -> Option<T>) -> Option<T> {
        let mut ratchet = self.ratchet.lock().unwrap_or_else(PoisonError::into_inner);
        ratchet.turn_to(unix_seconds() / self.lifetime_s)?;
        use_it(&ratchet)
    }
}

impl ProducesTickets for SharedTickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        u32::try_from(self.lifetime_s).unwrap_or(u32::MAX)
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let mut nonce = [0; NONCE_LEN];
        getrandom::fill(&mut nonce).ok()?;
        self.with_ratchet(|ratchet| {
            let period = ratchet.period.to_be_bytes();
            let mut sealed = plain.to_vec();
            let nonce_used = Nonce::assume_unique_for_key(nonce);
            ratchet
                .current
                .seal_in_place_append_tag(nonce_used, Aad::from(period), &mut sealed)
                .ok()?;
            Some([&period[..], &nonce[..], &sealed[..]].concat())
        })
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        let (period, rest) = cipher.split_first_chunk::<PERIOD_BYTES>()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>()?;
        self.with_ratchet(|ratchet| {
            let key = ratchet.key(u64::from_be_bytes(*period))?;
            let mut sealed = sealed.to_vec();
            let nonce = Nonce::assume_unique_for_key(*nonce);
            let length = key.open_in_place(nonce, Aad::from(*period), &mut sealed).ok()?.len();
            sealed.truncate(length);
            Some(sealed)
        })
    }
}

/// Stored sessions that end after their time.
#[derive(Debug)]
struct TimedSessions {
    lifetime_s: u64,
    sessions: Arc<ServerSessionMemoryCache>,
}

fn unexpired(stored: Vec<u8>) -> Option<Vec<u8>> {
    let (expiry, session) = stored.split_first_chunk::<EXPIRY_BYTES>()?;
    (unix_seconds() < u64::from_be_bytes(*expiry)).then(|| session.to_vec())
}

impl StoresServerSessions for TimedSessions {
    fn put(&self, key: Vec<u8>, value: Vec<u8>) -> bool {
        let expiry = unix_seconds().saturating_add(self.lifetime_s).to_be_bytes();
        self.sessions.put(key, [&expiry[..], &value[..]].concat())
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        unexpired(self.sessions.get(key)?)
    }

    fn take(&self, key: &[u8]) -> Option<Vec<u8>> {
        unexpired(self.sessions.take(key)?)
    }

    fn can_cache(&self) -> bool {
        self.sessions.can_cache()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tickets(period: u64) -> SharedTickets {
        // A period that never ends: the clock turns nothing.
        SharedTickets {
            lifetime_s: u64::MAX,
            ratchet: Mutex::new(Ratchet::new([7; SECRET_BYTES], period).unwrap()),
        }
    }

    fn turned(tickets: &SharedTickets, period: u64) {
        tickets.ratchet.lock().unwrap().turn_to(period).unwrap();
    }

    #[test]
    fn a_ticket_of_one_worker_is_read_by_another() {
        let ticket = tickets(5).encrypt(b"session").unwrap();
        assert_eq!(tickets(5).decrypt(&ticket).as_deref(), Some(&b"session"[..]));
        let late = tickets(5);
        turned(&late, 6);
        assert_eq!(late.decrypt(&ticket).as_deref(), Some(&b"session"[..]));
        turned(&late, 7);
        assert_eq!(late.decrypt(&ticket), None);
    }

    #[test]
    fn whatever_is_no_ticket_of_ours_is_refused() {
        let own = tickets(5);
        let ticket = own.encrypt(b"session").unwrap();
        for at in 0..ticket.len() {
            let mut bent = ticket.clone();
            bent[at] ^= 1;
            assert_eq!(own.decrypt(&bent), None, "{at}");
            assert_eq!(own.decrypt(&ticket[..at]), None, "{at}");
        }
    }

    #[test]
    fn the_derivation_is_that_of_the_supervisor() {
        // HMAC-SHA256 of "next" under 32 bytes 0x07, as `headgate.node.ticket_secret` has it.
        let hex: String = derived(&[7; SECRET_BYTES], b"next")
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(hex, NEXT_OF_SEVENS);
        assert_eq!(
            secret_of(&hex).as_ref().map(|secret| secret[0]),
            u8::from_str_radix(&hex[..2], 16).ok()
        );
        assert_eq!(secret_of("07"), None);
    }

    #[test]
    fn a_stored_session_ends_with_its_time() {
        let store = |lifetime_s| TimedSessions {
            lifetime_s,
            sessions: ServerSessionMemoryCache::new(4),
        };
        let (lasting, ended) = (store(60), store(0));
        for sessions in [&lasting, &ended] {
            sessions.put(b"id".to_vec(), b"session".to_vec());
        }
        assert_eq!(lasting.get(b"id").as_deref(), Some(&b"session"[..]));
        assert_eq!(ended.get(b"id"), None);
        assert_eq!(lasting.take(b"id").as_deref(), Some(&b"session"[..]));
        assert_eq!(lasting.get(b"id"), None);
    }

    const NEXT_OF_SEVENS: &str = "da8d92982995cfc695d5bf0aee71e67be0d4b328f6a11d8231635d2ca8a7496f";
}
