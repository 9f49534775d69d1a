//! Routes of streams: which one takes a connection or a UDP session, by addresses, server name and protocol.
//!
//! Owns the order of stream routes in all flavours and an index over ports, networks and server names, so
//! that a lookup tries the routes that share one of the session's values and not all of them. What the protocols of a
//! route allow is part of the match (own choice, where the contract's match is blind to them): a route without `udp`
//! never takes datagrams, one without `tcp` never takes plain bytes.

use std::cmp::Reverse;
use std::net::SocketAddr;

use ipnet::IpNet;
use rustc_hash::FxHashMap;

use super::atc::{self, Compiled, Needs, StreamFacts, Subsystem, Test};
use super::name::{without_trailing_dot, NamePattern};
use super::rule::{AddressRule, Flavor, RouterFault, EXPRESSIONS_UNKNOWN};

/// What a client speaks on a stream listener, as far as routes tell it apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamTransport {
    /// A connection on a listener without TLS.
    Tcp,
    /// A connection that begins with a ClientHello, on a listener with TLS.
    Tls,
    /// Datagrams.
    Udp,
}

/// The parts of one stream that select a route.
#[derive(Clone, Copy, Debug)]
pub struct StreamKey<'a> {
    /// What the listener takes.
    pub transport: StreamTransport,
    /// The client, after real-IP processing.
    pub source: SocketAddr,
    /// The local end, its port after `port_maps`.
    pub destination: SocketAddr,
    /// Server name of the ClientHello.
    pub server_name: Option<&'a str>,
}

/// The matching half of one stream route. An empty list means that the attribute is not configured.
#[derive(Clone, Debug, Default)]
pub struct StreamRule {
    /// The route's UUID in lower-case text form.
    pub id: String,
    /// Creation time in seconds; older routes win ties in the `traditional` flavour.
    pub created_at: i64,
    /// Among `tcp`, `tls`, `tls_passthrough`, `udp`.
    pub protocols: Vec<String>,
    /// Server names, optionally with a leading or trailing `*`.
    pub snis: Vec<String>,
    /// Clients.
    pub sources: Vec<AddressRule>,
    /// Local ends.
    pub destinations: Vec<AddressRule>,
    /// The expression that stands for all attributes (`expressions` only).
    pub expression: Option<String>,
    /// Order among routes with expressions, higher first.
    pub priority: u64,
}

/// 8 for a single address, 4 for a port, 1 for a network (routing reference, section 8).
fn weight_of(rule: &AddressRule) -> u8 {
    let by_network = match rule.network {
        Some(network) if network.prefix_len() == network.max_prefix_len() => 8,
        Some(_) => 1,
        None => 0,
    };
    by_network | if rule.port.is_some() { 4 } else { 0 }
}

/// One rule, compiled; its position in the list is the order in which rules are tried.
#[derive(Debug)]
struct Entry {
    route: usize,
    takes_tcp: bool,
    takes_tls: bool,
    takes_udp: bool,
    snis: Vec<NamePattern>,
    sources: Vec<AddressRule>,
    destinations: Vec<AddressRule>,
    /// Of a route with an expression.
    test: Option<Test>,
}

impl Entry {
    fn accepts(&self, key: &StreamKey<'_>, server_name: Option<&[u8]>) -> bool {
        let is_open = match key.transport {
            StreamTransport::Tcp => self.takes_tcp,
            StreamTransport::Tls => self.takes_tls,
            StreamTransport::Udp => self.takes_udp,
        };
        // Without TLS there is no name to compare: the test passes, as for routes of HTTP.
        let fits_name = self.snis.is_empty()
            || key.transport != StreamTransport::Tls
            || server_name.is_some_and(|name| self.snis.iter().any(|pattern| pattern.accepts(name)));
        let fits = |rules: &[AddressRule], address: SocketAddr| {
            rules.is_empty()
                || rules
                    .iter()
                    .any(|rule| rule.accepts(Some(address.ip()), Some(address.port())))
        };
        is_open
            && fits_name
            && fits(&self.sources, key.source)
            && fits(&self.destinations, key.destination)
            && self
                .test
                .as_ref()
                .is_none_or(|test| test.accepts(&StreamFacts { key, server_name }))
    }
}

/// Ranks by one end's port or network; each list ascending.
#[derive(Debug, Default)]
struct AddressIndex {
    ports: FxHashMap<u16, Vec<u32>>,
    networks: FxHashMap<IpNet, Vec<u32>>,
    /// Lengths that occur in `networks`.
    lengths: Vec<(bool, u8)>,
}

impl AddressIndex {
    fn add(&mut self, rules: &[AddressRule], rank: u32) {
        for rule in rules {
            let list = match (rule.network, rule.port) {
                // A single address tells most, then a port, then a network.
                (Some(network), port) if port.is_none() || weight_of(rule) & 8 != 0 => {
                    let length = (network.addr().is_ipv6(), network.prefix_len());
                    if !self.lengths.contains(&length) {
                        self.lengths.push(length);
                    }
                    self.networks.entry(network.trunc()).or_default()
                }
                (_, Some(port)) => self.ports.entry(port).or_default(),
                (_, None) => continue,
            };
            if list.last() != Some(&rank) {
                list.push(rank);
            }
        }
    }

    fn visit(&self, address: SocketAddr, visit: &mut dyn FnMut(&[u32])) {
        if let Some(list) = self.ports.get(&address.port()) {
            visit(list);
        }
        for (is_v6, length) in &self.lengths {
            if *is_v6 != address.is_ipv6() {
                continue;
            }
            let Ok(network) = IpNet::new(address.ip(), *length) else {
                continue;
            };
            if let Some(list) = self.networks.get(&network.trunc()) {
                visit(list);
            }
        }
    }
}

/// An immutable set of stream routes, ready for lookups.
#[derive(Debug, Default)]
pub struct StreamRouter {
    /// In the order they are tried.
    entries: Vec<Entry>,
    sources: AddressIndex,
    destinations: AddressIndex,
    /// Rules that only have server names: by exact name, and those with wildcards.
    names: FxHashMap<Box<[u8]>, Vec<u32>>,
    /// Ranks that no index covers.
    rest: Vec<u32>,
}

impl StreamRouter {
    /// Compile the rules.
    ///
    /// # Errors
    /// Every fault of every rule, in rule order; `RouterFault::route` is the position in `rules`.
    pub fn build(flavor: Flavor, rules: &[StreamRule]) -> Result<Self, Vec<RouterFault>> {
        let mut faults = Vec::new();
        let mut entries: Vec<Option<(Entry, Needs)>> = Vec::with_capacity(rules.len());
        for (route, rule) in rules.iter().enumerate() {
            let mut needs = Needs::default();
            let mut test = None;
            match rule.expression.as_deref().map(|source| compiled(flavor, source)) {
                Some(Ok(compiled)) => {
                    needs = compiled.needs;
                    test = Some(compiled.test);
                }
                Some(Err(messages)) => faults.extend(messages.into_iter().map(|message| RouterFault {
                    route,
                    field: "expression".to_owned(),
                    message,
                })),
                None => {}
            }
            let mut snis = Vec::with_capacity(rule.snis.len());
            for (position, sni) in rule.snis.iter().enumerate() {
                match NamePattern::parse(&without_trailing_dot(sni).to_ascii_lowercase()) {
                    Ok(name) => snis.push(name),
                    Err(message) => faults.push(RouterFault {
                        route,
                        field: format!("snis[{position}]"),
                        message,
                    }),
                }
            }
            let has = |name: &str| rule.protocols.iter().any(|protocol| protocol == name);
            let entry = Entry {
                route,
                takes_tcp: has("tcp"),
                takes_tls: has("tls") || has("tls_passthrough"),
                takes_udp: has("udp"),
                snis,
                sources: rule.sources.clone(),
                destinations: rule.destinations.clone(),
                test,
            };
            entries.push(Some((entry, needs)));
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        let mut order: Vec<usize> = (0..rules.len()).collect();
        match flavor {
            Flavor::TraditionalCompatible | Flavor::Expressions => order.sort_by_cached_key(|&route| {
                let rule = &rules[route];
                // Expressions come before all others.
                let priority = rule.expression.as_ref().map(|_| rule.priority);
                Reverse((priority, compatible_priority(rule), rule.id.clone()))
            }),
            Flavor::Traditional => order.sort_by_cached_key(|&route| traditional_key(&rules[route])),
        }
        let mut router = Self::default();
        for route in order {
            if let Some((entry, needs)) = entries.get_mut(route).and_then(Option::take) {
                router.add(entry, needs);
            }
        }
        Ok(router)
    }

    fn add(&mut self, entry: Entry, needs: Needs) {
        let rank = self.entries.len() as u32;
        let is_exact = |name: &NamePattern| matches!(name, NamePattern::Exact(_));
        let exact_names = entry.snis.iter().all(is_exact);
        if let Some(ports) = needs.destination_ports {
            // What is no port cannot be asked for.
            for port in ports.into_iter().filter_map(|port| u16::try_from(port).ok()) {
                self.destinations.ports.entry(port).or_default().push(rank);
            }
        } else if let Some(names) = needs.server_names.filter(|names| names.iter().all(is_exact)) {
            self.add_names(&names, rank);
        } else if !entry.destinations.is_empty() {
            self.destinations.add(&entry.destinations, rank);
        } else if !entry.sources.is_empty() {
            self.sources.add(&entry.sources, rank);
        } else if exact_names && !entry.snis.is_empty() && !entry.takes_tcp && !entry.takes_udp {
            self.add_names(&entry.snis, rank);
        } else {
            self.rest.push(rank);
        }
        self.entries.push(entry);
    }

    fn add_names(&mut self, names: &[NamePattern], rank: u32) {
        for name in names {
            if let NamePattern::Exact(name) = name {
                self.names.entry(name.as_slice().into()).or_default().push(rank);
            }
        }
    }

    /// The position, in the rules given to `build`, of the route that takes a stream.
    #[must_use]
    pub fn find(&self, key: &StreamKey<'_>) -> Option<usize> {
        let lowered = key
            .server_name
            .map(|name| without_trailing_dot(name).to_ascii_lowercase());
        let server_name = lowered.as_deref().map(str::as_bytes);
        let mut best = u32::MAX;
        let mut visit = |ranks: &[u32]| {
            for rank in ranks.iter().take_while(|rank| **rank < best) {
                let fits = |entry: &Entry| entry.accepts(key, server_name);
                if self.entries.get(*rank as usize).is_some_and(fits) {
                    best = *rank;
                    return;
                }
            }
        };
        self.destinations.visit(key.destination, &mut visit);
        self.sources.visit(key.source, &mut visit);
        if let Some(ranks) = server_name.and_then(|name| self.names.get(name)) {
            visit(ranks);
        }
        visit(&self.rest);
        self.entries.get(best as usize).map(|entry| entry.route)
    }
}

fn compiled(flavor: Flavor, source: &str) -> Result<Compiled, Vec<String>> {
    if flavor == Flavor::Expressions {
        atc::compile(source, Subsystem::Stream)
    } else {
        Err(vec![EXPRESSIONS_UNKNOWN.to_owned()])
    }
}

fn weight(rules: &[AddressRule]) -> u8 {
    rules.iter().fold(0, |weight, rule| weight | weight_of(rule))
}

/// Greater first (routing reference, section 8).
fn compatible_priority(rule: &StreamRule) -> (bool, u8, u8) {
    let has_both = !rule.sources.is_empty() && !rule.destinations.is_empty();
    (
        !rule.snis.is_empty() || has_both,
        weight(&rule.sources),
        weight(&rule.destinations),
    )
}

/// Smaller first: more attributes, snis before sources before destinations, entries with address and port, older routes.
fn traditional_key(rule: &StreamRule) -> (Reverse<u32>, Reverse<u8>, bool, i64) {
    let bit = |is_absent: bool, bit: u8| if is_absent { 0 } else { bit };
    let category =
        bit(rule.snis.is_empty(), 4) | bit(rule.sources.is_empty(), 2) | bit(rule.destinations.is_empty(), 1);
    let has_pair = rule
        .sources
        .iter()
        .chain(&rule.destinations)
        .any(|entry| entry.network.is_some() && entry.port.is_some());
    (
        Reverse(category.count_ones()),
        Reverse(category),
        !has_pair,
        rule.created_at,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(id: &str, protocols: &[&str]) -> StreamRule {
        StreamRule {
            id: id.to_owned(),
            protocols: protocols.iter().map(|&name| name.to_owned()).collect(),
            ..StreamRule::default()
        }
    }

    fn address(ip: &str, port: u16) -> AddressRule {
        let network = (!ip.is_empty()).then(|| {
            let single = ip.parse::<std::net::IpAddr>().map(IpNet::from);
            ip.parse().or(single).expect("address")
        });
        AddressRule {
            network,
            port: (port != 0).then_some(port),
        }
    }

    fn key<'a>(transport: StreamTransport, from: &str, to: &str, server_name: Option<&'a str>) -> StreamKey<'a> {
        StreamKey {
            transport,
            source: from.parse().expect("source"),
            destination: to.parse().expect("destination"),
            server_name,
        }
    }

    fn found(rules: &[StreamRule], key: &StreamKey<'_>) -> Option<String> {
        let both = [Flavor::Traditional, Flavor::TraditionalCompatible].map(|flavor| {
            let router = StreamRouter::build(flavor, rules).expect("router");
            router.find(key).map(|route| rules[route].id.clone())
        });
        assert_eq!(both[0], both[1]);
        both[0].clone()
    }

    #[test]
    fn entries_are_alternatives_and_both_parts_of_an_entry_must_fit() {
        let mut one = rule("one", &["tcp"]);
        one.sources = vec![address("10.0.0.0/8", 0), address("192.168.0.1", 77)];
        let rules = [one];
        let tcp = |from| key(StreamTransport::Tcp, from, "127.0.0.1:9000", None);
        assert!(found(&rules, &tcp("10.9.9.9:1")).is_some());
        assert!(found(&rules, &tcp("192.168.0.1:77")).is_some());
        assert!(found(&rules, &tcp("192.168.0.1:78")).is_none());
        assert!(found(&rules, &tcp("11.0.0.1:77")).is_none());
    }

    #[test]
    fn server_names_are_compared_over_tls_only() {
        let mut named = rule("named", &["tls", "tcp"]);
        named.snis = vec!["a.test".to_owned(), "*.b.test".to_owned()];
        let rules = [named];
        let ask = |transport, name| key(transport, "1.1.1.1:1", "2.2.2.2:2", name);
        for name in ["a.test", "A.test.", "x.y.b.test"] {
            assert!(
                found(&rules, &ask(StreamTransport::Tls, Some(name))).is_some(),
                "{name}"
            );
        }
        assert!(found(&rules, &ask(StreamTransport::Tls, Some("c.test"))).is_none());
        assert!(found(&rules, &ask(StreamTransport::Tls, None)).is_none());
        assert!(found(&rules, &ask(StreamTransport::Tcp, None)).is_some());
        assert!(found(&rules, &ask(StreamTransport::Udp, None)).is_none());
    }

    #[test]
    fn more_attributes_then_closer_addresses_win() {
        let mut by_port = rule("a-port", &["tcp"]);
        by_port.destinations = vec![address("", 9000)];
        let mut by_both = rule("b-both", &["tcp"]);
        by_both.destinations = vec![address("", 9000)];
        by_both.sources = vec![address("127.0.0.0/8", 0)];
        let mut by_pair = rule("c-pair", &["tcp"]);
        by_pair.destinations = vec![address("127.0.0.1", 9000)];
        let tcp = |from| key(StreamTransport::Tcp, from, "127.0.0.1:9000", None);
        let rules = [by_port.clone(), by_pair.clone(), by_both];
        assert_eq!(found(&rules, &tcp("127.0.0.1:1")).as_deref(), Some("b-both"));
        assert_eq!(found(&rules, &tcp("9.9.9.9:1")).as_deref(), Some("c-pair"));
        assert_eq!(found(&rules[..1], &tcp("9.9.9.9:1")).as_deref(), Some("a-port"));
    }

    #[test]
    fn expressions_come_first_by_priority_and_the_index_finds_them() {
        let written = |id: &str, protocol: &str, priority, expression: &str| StreamRule {
            priority,
            expression: Some(expression.to_owned()),
            ..rule(id, &[protocol])
        };
        let mut plain = rule("z", &["tcp", "tls", "udp"]);
        plain.sources = vec![address("127.0.0.1", 1)];
        plain.destinations = vec![address("127.0.0.1", 9000)];
        let rules = [
            plain,
            written("low", "tcp", 1, r#"net.dst.port == 9000 && net.protocol == "tcp""#),
            written(
                "high",
                "tcp",
                2,
                "net.src.ip in 10.0.0.0/8 && (net.dst.port == 9000 || net.dst.port == 99999)",
            ),
            written("name", "tls", 0, r#"tls.sni == "a.test" || tls.sni == "b.test""#),
            written("not", "tls", 0, r#"tls.sni =^ ".c.test" && !(net.src.port < 1024)"#),
            written("bare", "tls", 0, r#"net.protocol == "tcp""#),
            written("dns", "udp", 0, r#"net.protocol == "udp" && net.dst.ip == ::1"#),
        ];
        let router = StreamRouter::build(Flavor::Expressions, &rules).expect("router");
        let find = |transport, from, to, name| {
            router
                .find(&key(transport, from, to, name))
                .map(|at| rules[at].id.as_str())
        };
        let (tcp, tls, udp) = (StreamTransport::Tcp, StreamTransport::Tls, StreamTransport::Udp);
        assert_eq!(find(tcp, "10.1.1.1:1", "127.0.0.1:9000", None), Some("high"));
        assert_eq!(find(tcp, "127.0.0.1:1", "127.0.0.1:9000", None), Some("low"));
        assert_eq!(find(tcp, "127.0.0.1:1", "127.0.0.1:9001", None), None);
        assert_eq!(find(tls, "127.0.0.1:1", "127.0.0.1:9000", Some("q.test")), Some("z"));
        assert_eq!(find(tls, "9.9.9.9:9", "127.0.0.1:9000", Some("B.test.")), Some("name"));
        assert_eq!(
            find(tls, "9.9.9.9:1024", "127.0.0.1:9000", Some("x.c.test")),
            Some("not")
        );
        assert_eq!(find(tls, "9.9.9.9:9", "127.0.0.1:9000", Some("x.c.test")), None);
        assert_eq!(find(tls, "9.9.9.9:9", "127.0.0.1:9000", None), Some("bare"));
        assert_eq!(find(udp, "[::1]:9", "[::1]:53", None), Some("dns"));
        assert_eq!(find(udp, "[::2]:9", "[::2]:53", None), None);
        let faults = |flavor, source: &str| {
            let broken = [written("broken", "tcp", 0, source)];
            StreamRouter::build(flavor, &broken).expect_err("fault").remove(0)
        };
        let unknown = faults(Flavor::Expressions, r#"http.host == "a""#);
        assert_eq!(
            (unknown.field.as_str(), unknown.message.as_str()),
            ("expression", "Unknown LHS field")
        );
        let other = faults(Flavor::Traditional, "net.src.port == 1");
        assert_eq!(other.message, EXPRESSIONS_UNKNOWN);
    }

    #[test]
    fn ties_go_to_the_greater_id_or_to_the_older_route() {
        let mut old = rule("a", &["udp"]);
        old.destinations = vec![address("", 53)];
        let mut new = StreamRule {
            id: "b".to_owned(),
            created_at: 9,
            ..old.clone()
        };
        old.created_at = 1;
        new.created_at = 2;
        let rules = [old, new];
        let asked = key(StreamTransport::Udp, "[::1]:5", "[::1]:53", None);
        let find = |flavor| StreamRouter::build(flavor, &rules).expect("router").find(&asked);
        assert_eq!(find(Flavor::Traditional), Some(0));
        assert_eq!(find(Flavor::TraditionalCompatible), Some(1));
    }

    #[test]
    fn the_index_finds_what_trying_all_would() {
        let rules: Vec<StreamRule> = (0..2000_u16)
            .map(|number| {
                let mut one = rule(&format!("{number:05}"), &["tcp"]);
                match number % 4 {
                    0 => one.destinations = vec![address("", 1000 + number % 50)],
                    1 => one.sources = vec![address(&format!("10.{}.0.0/16", number % 200), 0)],
                    2 => one.destinations = vec![address(&format!("10.1.{}.7", number % 250), 0)],
                    _ => one.sources = vec![address("", number)],
                }
                one
            })
            .collect();
        let router = StreamRouter::build(Flavor::TraditionalCompatible, &rules).expect("router");
        for number in 0..500_u16 {
            let from = format!("10.{}.3.4:{}", number % 256, 3 + number * 4);
            let to = format!("10.1.{}.7:{}", number % 256, 1000 + number % 70);
            let asked = key(StreamTransport::Tcp, &from, &to, None);
            let all = router.entries.iter().find(|entry| entry.accepts(&asked, None));
            assert_eq!(router.find(&asked), all.map(|entry| entry.route), "{asked:?}");
        }
    }
}
