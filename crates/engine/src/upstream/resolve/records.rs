//! What a name stands for: addresses, with the port, weight and name that SRV records add; and whose turn it is.
//!
//! No I/O and no clock. `query` makes records, `cache` keeps them and their turns.

use std::net::IpAddr;
use std::sync::Arc;

/// One address of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Where to connect.
    pub address: IpAddr,
    /// What an SRV record says beside the address; None: A, AAAA, a literal or the hosts file.
    pub service: Option<Arc<ServiceRecord>>,
}

/// The part of an SRV record that counts (RFC 2782).
#[derive(Debug, PartialEq, Eq)]
pub struct ServiceRecord {
    /// The host that the record names, without the final dot.
    pub name: String,
    /// Its port; None: the record says 0, so the port asked for stays.
    pub port: Option<u16>,
    /// Its share; at least 1, since 0 counts as 1 (reference: balancing, section 2).
    pub weight: u32,
}

impl Record {
    /// An address without anything beside it.
    #[must_use]
    pub fn plain(address: IpAddr) -> Self {
        Self { address, service: None }
    }

    /// The port to connect to where `asked` is what the entity says.
    #[must_use]
    pub fn port(&self, asked: u16) -> u16 {
        self.service.as_ref().and_then(|service| service.port).unwrap_or(asked)
    }

    fn weight(&self) -> i64 {
        self.service.as_ref().map_or(1, |service| i64::from(service.weight))
    }
}

/// The records of a name, never empty, in the order the name server gave.
pub type Records = Arc<[Record]>;

/// The kinds of records that are asked for. CNAME is no kind: it is followed with each of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordKind {
    /// Host, port and weight.
    Srv,
    /// IPv4.
    A,
    /// IPv6.
    Aaaa,
}

impl RecordKind {
    /// The name of the record type.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Srv => "SRV",
            Self::A => "A",
            Self::Aaaa => "AAAA",
        }
    }

    /// The kind of a name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        [Self::Srv, Self::A, Self::Aaaa]
            .into_iter()
            .find(|kind| kind.name() == name)
    }

    /// Whether records of this kind lead to such an address.
    pub(super) fn has(self, address: IpAddr) -> bool {
        match self {
            Self::Srv => true,
            Self::A => address.is_ipv4(),
            Self::Aaaa => address.is_ipv6(),
        }
    }
}

/// Whose turn it is among a name's records: each as often as its weight says, without runs.
///
/// As `balance::round_robin`: every record gets its weight as credit, the one with the most is taken and pays the sum.
/// With equal weights that is the order of the records.
#[derive(Debug, Default, Clone)]
pub(super) struct Turns {
    credits: Vec<i64>,
}

impl Turns {
    /// The record whose turn it is; None: there are no records.
    pub(super) fn next<'records>(&mut self, records: &'records [Record]) -> Option<&'records Record> {
        if let [only] = records {
            return Some(only);
        }
        // A refresh may change the number of records; those that stay keep their credit, so that not every refresh
        // sends to the first one again.
        self.credits.resize(records.len(), 0);
        let mut sum = 0;
        let mut best: Option<usize> = None;
        for (position, record) in records.iter().enumerate() {
            sum += record.weight();
            self.credits[position] += record.weight();
            if best.is_none_or(|leader| self.credits[position] > self.credits[leader]) {
                best = Some(position);
            }
        }
        let best = best?;
        self.credits[best] -= sum;
        records.get(best)
    }
}
