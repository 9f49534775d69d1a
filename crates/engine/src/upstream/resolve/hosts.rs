//! The hosts file: names with fixed addresses.
//!
//! Read once when the worker starts. As with DNS, IPv4 addresses come first and IPv6 counts only without them.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::{Record, Records};

/// Lower-case name to addresses.
#[derive(Debug, Default)]
pub(super) struct Hosts {
    names: FxHashMap<Box<str>, Records>,
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
            .map(|(name, mut addresses)| {
                if addresses.iter().any(IpAddr::is_ipv4) {
                    addresses.retain(IpAddr::is_ipv4);
                }
                (name, addresses.into_iter().map(Record::plain).collect())
            })
            .collect();
        Self { names }
    }

    pub(super) fn get(&self, name: &str) -> Option<Records> {
        self.names.get(name).map(Arc::clone)
    }
}
