//! The hosts file: names with fixed addresses.
//!
//! Read once when the worker starts. As with DNS, IPv4 addresses come first and IPv6 counts only without them, unless it
//! is asked for.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::{Record, RecordKind, Records};

/// Lower-case name to addresses.
#[derive(Debug, Default)]
pub(super) struct Hosts {
    names: FxHashMap<Box<str>, Named>,
}

/// The addresses of one name.
#[derive(Debug)]
struct Named {
    v4: Records,
    v6: Records,
}

impl Hosts {
    /// Read the file; one that cannot be read is logged and counts as empty.
    pub(super) fn read(path: &Path) -> Self {
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&text),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "hosts file not read");
                Self::default()
            }
        }
    }

    /// Lines of `address name name...`; `#` starts a comment, lines without address are skipped.
    pub(super) fn parse(text: &str) -> Self {
        let mut found: FxHashMap<Box<str>, Vec<IpAddr>> = FxHashMap::default();
        for line in text.lines() {
            let mut words = line
                .split_once('#')
                .map_or(line, |(before, _)| before)
                .split_ascii_whitespace();
            let Some(Ok(address)) = words.next().map(str::parse::<IpAddr>) else {
                continue;
            };
            for name in words {
                let addresses = found.entry(name.to_ascii_lowercase().into_boxed_str()).or_default();
                if !addresses.contains(&address) {
                    addresses.push(address);
                }
            }
        }
        let names = found
            .into_iter()
            .map(|(name, addresses)| {
                let of = |is_wanted: fn(&IpAddr) -> bool| {
                    let wanted = addresses.iter().copied().filter(&is_wanted);
                    wanted.map(Record::plain).collect::<Records>()
                };
                let named = Named {
                    v4: of(IpAddr::is_ipv4),
                    v6: of(IpAddr::is_ipv6),
                };
                (name, named)
            })
            .collect();
        Self { names }
    }

    /// The addresses of a name; `wanted`: those that such records would have. Never empty.
    pub(super) fn get(&self, name: &str, wanted: Option<RecordKind>) -> Option<Records> {
        let named = self.names.get(name)?;
        let chosen = match wanted {
            Some(RecordKind::Aaaa) => &named.v6,
            Some(RecordKind::A) => &named.v4,
            _ if named.v4.is_empty() => &named.v6,
            _ => &named.v4,
        };
        Some(chosen).filter(|addresses| !addresses.is_empty()).map(Arc::clone)
    }
}
