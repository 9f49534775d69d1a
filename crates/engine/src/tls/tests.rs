use std::collections::BTreeMap;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519,
};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::client::{ClientTls, UpstreamAlpn};
use super::server::ServerTls;
use super::sessions::ServerSessions;
use super::*;
use crate::plan::{CertificatePlan, Plan, ServicePlan, UpstreamPlan};
use crate::settings::TlsSettings;

type PemPair = (String, String);

/// A certificate authority for tests; `chain` leads from it to its root, which comes last.
pub(crate) struct Authority {
    certificate: rcgen::Certificate,
    key: KeyPair,
    above: Vec<String>,
}

pub(crate) fn authority() -> Authority {
    let key = KeyPair::generate().expect("key");
    Authority {
        certificate: authority_params("root").self_signed(&key).expect("root"),
        key,
        above: Vec::new(),
    }
}

fn authority_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).expect("params");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    params
}

impl Authority {
    pub(crate) fn pem(&self) -> String {
        self.certificate.pem()
    }

    /// A certificate for `name` with its chain (root included) and its key.
    pub(crate) fn issue(&self, name: &str) -> PemPair {
        self.issue_with(name, &PKCS_ECDSA_P256_SHA256)
    }

    fn issue_with(&self, name: &str, algorithm: &'static rcgen::SignatureAlgorithm) -> PemPair {
        let key = KeyPair::generate_for(algorithm).expect("key");
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("params");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let leaf = params.signed_by(&key, &self.certificate, &self.key).expect("leaf");
        let chain = [leaf.pem(), self.pem()]
            .into_iter()
            .chain(self.above.iter().cloned())
            .collect();
        (chain, key.serialize_pem())
    }

    fn subordinate(&self, name: &str) -> Self {
        let key = KeyPair::generate().expect("key");
        let certificate = authority_params(name)
            .signed_by(&key, &self.certificate, &self.key)
            .expect("subordinate");
        let mut above = vec![self.pem()];
        above.extend(self.above.iter().cloned());
        Self {
            certificate,
            key,
            above,
        }
    }
}

pub(crate) fn tls_settings() -> TlsSettings {
    TlsSettings {
        default_certificates: Vec::new(),
        protocols: vec!["TLSv1.2".to_owned(), "TLSv1.3".to_owned()],
        cipher_suites: vec![
            "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384".to_owned(),
            "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256".to_owned(),
        ],
        prefers_server_order: true,
        session_tickets: true,
        session_timeout_s: 86_400,
        session_cache_entries: 128,
        session_ticket_secret: ticket_secret(),
        session_ticket_period: 0,
        trusted_certificates: String::new(),
        verify_depth: 1,
        client_certificate: None,
    }
}

/// One per node: a server that reads another one's tickets passes for it.
fn ticket_secret() -> String {
    let mut secret = [0_u8; 32];
    getrandom::fill(&mut secret).expect("random bytes");
    secret.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn service() -> ServicePlan {
    serde_json::from_value(serde_json::json!({
        "id": "s1", "protocol": "https", "host": "a.test", "port": 443
    }))
    .expect("service")
}

fn certificate(id: &str, (cert, key): PemPair) -> CertificatePlan {
    CertificatePlan {
        id: id.to_owned(),
        cert,
        key,
        cert_alt: None,
        key_alt: None,
    }
}

fn trusting(authority: &Authority) -> pem::TrustedCertificates {
    let mut trusted = pem::TrustedCertificates::none();
    trusted.add(&authority.pem(), "root").expect("root");
    trusted
}

fn snis(names: &[(&str, usize)]) -> BTreeMap<String, usize> {
    names
        .iter()
        .map(|(name, position)| ((*name).to_owned(), *position))
        .collect()
}

struct Handshake {
    leaf_of_server: Vec<u8>,
    certificates_of_client: usize,
    alpn: Option<Vec<u8>>,
    version: rustls::ProtocolVersion,
    kind: rustls::HandshakeKind,
}

/// Run a handshake over an in-memory pipe; Err is the client's view.
fn handshake(client: &Arc<ClientConfig>, server: Arc<ServerConfig>, name: &str) -> Result<Handshake, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("runtime");
    runtime.block_on(async {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let name = ServerName::try_from(name.to_owned()).expect("name");
        let (client, server) = tokio::join!(
            async {
                let mut stream = TlsConnector::from(Arc::clone(client)).connect(name, near).await?;
                // TLS 1.3: session tickets and the server's refusal of a client certificate come after the handshake.
                let mut byte = [0];
                tokio::io::AsyncReadExt::read(&mut stream, &mut byte).await?;
                Ok::<_, std::io::Error>(stream)
            },
            async {
                let mut stream = TlsAcceptor::from(server).accept(far).await?;
                tokio::io::AsyncWriteExt::write_all(&mut stream, b"x").await?;
                tokio::io::AsyncWriteExt::flush(&mut stream).await?;
                Ok::<_, std::io::Error>(stream)
            }
        );
        let client = client.map_err(|error| error.to_string())?;
        let server = server.map_err(|error| error.to_string())?;
        let session = client.get_ref().1;
        Ok(Handshake {
            leaf_of_server: session
                .peer_certificates()
                .and_then(|chain| chain.first())
                .map(|leaf| leaf.to_vec())
                .unwrap_or_default(),
            certificates_of_client: server.get_ref().1.peer_certificates().map_or(0, <[_]>::len),
            alpn: session.alpn_protocol().map(<[u8]>::to_vec),
            version: session.protocol_version().expect("version"),
            kind: session.handshake_kind().expect("kind"),
        })
    })
}

fn any_client() -> Arc<ClientConfig> {
    client(&tls_settings(), &Plan::default(), &service())
}

fn client(settings: &TlsSettings, plan: &Plan, service: &ServicePlan) -> Arc<ClientConfig> {
    let tls = ClientTls::new(settings).expect("settings");
    let built = tls
        .config_for(plan, service, None, UpstreamAlpn::Http1)
        .expect("config");
    Arc::clone(&built.config)
}

fn leaf(pair: &PemPair) -> Vec<u8> {
    pem::read_certificates(&pair.0, "test").expect("chain")[0].to_vec()
}

struct Listener {
    settings: TlsSettings,
    sessions: ServerSessions,
}

impl Listener {
    fn new(settings: TlsSettings) -> Self {
        let sessions = ServerSessions::new(&settings).expect("sessions");
        Self { settings, sessions }
    }

    fn build(
        &self,
        certificates: &[CertificatePlan],
        names: &[(&str, usize)],
        previous: Option<&ServerTls>,
    ) -> Result<ServerTls, Vec<TlsFault>> {
        ServerTls::build(certificates, &snis(names), &self.settings, &self.sessions, previous)
    }
}

/// A listener with a default certificate, which is returned too.
fn listener_with_default() -> (Listener, PemPair) {
    let default = authority().issue("default.test");
    let mut settings = tls_settings();
    settings.default_certificates = vec![default.clone()];
    (Listener::new(settings), default)
}

#[test]
fn names_are_found_exactly_then_by_wildcards_then_by_star() {
    let authority = authority();
    let (listener, default) = listener_with_default();
    let pairs: Vec<_> = ["exact", "left", "right", "star"]
        .map(|name| authority.issue(name))
        .into();
    let certificates: Vec<_> = pairs
        .iter()
        .enumerate()
        .map(|(position, pair)| certificate(&position.to_string(), pair.clone()))
        .collect();
    let names = [
        ("www.Example.com", 0),
        ("*.example.com", 1),
        ("www.*", 2),
        ("*.deep.example.com", 0),
    ];
    let tls = listener.build(&certificates, &names, None).expect("build");
    let served = |tls: &ServerTls, sni: Option<&str>| {
        let config = tls.config_for(sni, false);
        handshake(&any_client(), config, "any.test")
            .expect("handshake")
            .leaf_of_server
    };
    assert_eq!(served(&tls, Some("WWW.example.com")), leaf(&pairs[0]));
    assert_eq!(served(&tls, Some("api.example.com")), leaf(&pairs[1]));
    assert_eq!(served(&tls, Some("x.deep.example.com")), leaf(&pairs[0]));
    assert_eq!(served(&tls, Some("www.org")), leaf(&pairs[2]));
    assert_eq!(served(&tls, Some("a.b.example.com")), leaf(&default));
    assert_eq!(served(&tls, Some("localhost")), leaf(&default));
    assert_eq!(served(&tls, None), leaf(&default));

    let with_star = listener
        .build(&certificates, &[("*", 3), ("*.example.com", 1)], Some(&tls))
        .expect("build");
    assert_eq!(served(&with_star, Some("a.b.example.com")), leaf(&pairs[3]));
    assert_eq!(served(&with_star, Some("api.example.com")), leaf(&pairs[1]));
    assert_eq!(served(&with_star, None), leaf(&default));
}

#[test]
fn http2_is_offered_on_http2_listeners_only() {
    let (listener, _) = listener_with_default();
    let tls = listener.build(&[], &[], None).expect("build");
    let mut client = ClientConfig::clone(&any_client());
    client.alpn_protocols = vec![ALPN_HTTP2.to_vec(), ALPN_HTTP1.to_vec()];
    let client = Arc::new(client);
    let agreed = |http2| {
        let config = tls.config_for(None, http2);
        handshake(&client, config, "a.test").expect("handshake").alpn
    };
    assert_eq!(agreed(true).as_deref(), Some(ALPN_HTTP2));
    assert_eq!(agreed(false).as_deref(), Some(ALPN_HTTP1));
}

#[test]
fn the_pair_that_the_client_can_verify_is_chosen() {
    let authority = authority();
    let (ecdsa, ed25519) = (authority.issue("a.test"), authority.issue_with("a.test", &PKCS_ED25519));
    let both = CertificatePlan {
        cert_alt: Some(ed25519.0.clone()),
        key_alt: Some(ed25519.1.clone()),
        ..certificate("c", ecdsa.clone())
    };
    let (listener, _) = listener_with_default();
    let tls = listener.build(&[both], &[("a.test", 0)], None).expect("build");

    let mut provider = rustls::crypto::ring::default_provider();
    let all = provider.signature_verification_algorithms;
    let only_ed25519 = all
        .mapping
        .iter()
        .filter(|(scheme, _)| *scheme == rustls::SignatureScheme::ED25519)
        .copied()
        .collect::<Vec<_>>();
    provider.signature_verification_algorithms.mapping = Box::leak(only_ed25519.into_boxed_slice());
    let verifier = super::verify::BoundedChain {
        trusted: Arc::new(trusting(&authority)),
        max_depth: 1,
        algorithms: provider.signature_verification_algorithms,
    };
    let picky = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    let served = |client: &Arc<ClientConfig>| {
        let config = tls.config_for(Some("a.test"), false);
        handshake(client, config, "a.test").expect("handshake").leaf_of_server
    };
    assert_eq!(served(&Arc::new(picky)), leaf(&ed25519));
    assert_eq!(served(&any_client()), leaf(&ecdsa));
}

#[test]
fn all_faults_are_reported_at_once_by_field() {
    let authority = authority();
    let mut settings = tls_settings();
    settings.protocols.push("TLSv1".to_owned());
    settings.default_certificates = vec![("junk".to_owned(), "junk".to_owned())];
    let listener = Listener::new(settings);
    let (cert, _) = authority.issue("a.test");
    let (_, other_key) = authority.issue("b.test");
    let certificates = [
        certificate("swapped", (cert, other_key)),
        CertificatePlan {
            cert_alt: Some(authority.issue("a.test").0),
            ..certificate("half", authority.issue("a.test"))
        },
    ];
    let faults = listener
        .build(&certificates, &[("a.test", 0), ("b.test", 9)], None)
        .expect_err("faults");
    let paths: Vec<_> = faults.iter().map(|fault| fault.path.as_str()).collect();
    assert_eq!(
        paths,
        [
            "tls.protocols",
            "certificates.swapped.key",
            "certificates.half.key_alt",
            "tls.default_certificates[0].cert",
            "tls.default_certificates[0].key",
            "snis.b.test",
        ]
    );
    assert_eq!(faults[1].message, "does not match the certificate");
}

#[test]
fn a_new_plan_takes_over_unchanged_certificates_and_replaces_changed_ones() {
    let authority = authority();
    let (listener, _) = listener_with_default();
    let kept = certificate("kept", authority.issue("kept.test"));
    let names = [("kept.test", 0), ("changed.test", 1)];
    let old = [kept.clone(), certificate("changed", authority.issue("changed.test"))];
    let new = [kept, certificate("changed", authority.issue("changed.test"))];
    let first = listener.build(&old, &names, None).expect("build");
    let second = listener.build(&new, &names, Some(&first)).expect("build");
    let is_same = |sni| Arc::ptr_eq(&first.config_for(sni, true), &second.config_for(sni, true));
    assert!(is_same(Some("kept.test")));
    assert!(is_same(None));
    assert!(!is_same(Some("changed.test")));
}

#[test]
fn a_new_plan_forgets_no_session() {
    for (tickets, protocol) in [
        (true, "TLSv1.3"),
        (true, "TLSv1.2"),
        (false, "TLSv1.3"),
        (false, "TLSv1.2"),
    ] {
        let (mut listener, _) = listener_with_default();
        listener.settings.session_tickets = tickets;
        listener.settings.protocols = vec![protocol.to_owned()];
        listener.sessions = ServerSessions::new(&listener.settings).expect("sessions");
        let client = any_client();
        let kind = |tls: &ServerTls| {
            let config = tls.config_for(Some("a.test"), false);
            handshake(&client, config, "a.test").expect("handshake").kind
        };
        let first = listener.build(&[], &[], None).expect("build");
        assert_eq!(kind(&first), rustls::HandshakeKind::Full);
        let new = [certificate("new", authority().issue("a.test"))];
        let second = listener.build(&new, &[("a.test", 0)], Some(&first)).expect("build");
        assert_eq!(
            kind(&second),
            rustls::HandshakeKind::Resumed,
            "{protocol}, tickets: {tickets}"
        );
    }
}

#[test]
fn only_set_protocol_versions_are_spoken() {
    let (mut listener, _) = listener_with_default();
    listener.settings.protocols = vec!["TLSv1.2".to_owned()];
    let tls = listener.build(&[], &[], None).expect("build");
    let done = handshake(&any_client(), tls.config_for(None, false), "a.test").expect("handshake");
    assert_eq!(done.version, rustls::ProtocolVersion::TLSv1_2);
}

#[test]
fn without_any_certificate_the_handshake_is_refused() {
    let tls = Listener::new(tls_settings()).build(&[], &[], None).expect("build");
    assert!(handshake(&any_client(), tls.config_for(None, false), "a.test").is_err());
}

/// An upstream server that presents `pair`.
fn upstream_server(pair: PemPair) -> Arc<ServerConfig> {
    let mut settings = tls_settings();
    settings.default_certificates = vec![pair];
    let tls = Listener::new(settings).build(&[], &[], None).expect("build");
    tls.config_for(None, false)
}

fn verified_service(depth: Option<u8>, ca_ids: Option<&[&str]>) -> ServicePlan {
    ServicePlan {
        tls_verify: Some(true),
        tls_verify_depth: depth,
        ca_certificates: ca_ids.map(|ids| ids.iter().map(|id| (*id).to_owned()).collect()),
        ..service()
    }
}

#[test]
fn verification_is_off_unless_the_service_turns_it_on() {
    let server = upstream_server(authority().issue("other.test"));
    assert!(handshake(&any_client(), Arc::clone(&server), "a.test").is_ok());
    let on = client(&tls_settings(), &Plan::default(), &verified_service(None, None));
    let error = handshake(&on, server, "a.test").map(|_| ()).expect_err("no roots");
    assert!(error.contains("UnknownIssuer"), "{error}");
}

#[test]
fn the_services_own_authorities_replace_the_bundle() {
    let (bundled, own) = (authority(), authority());
    let mut settings = tls_settings();
    settings.trusted_certificates = bundled.pem();
    let mut plan = Plan::default();
    plan.ca_certificates.insert("own".to_owned(), own.pem());
    let with_bundle = client(&settings, &plan, &verified_service(None, None));
    let with_own = client(&settings, &plan, &verified_service(None, Some(&["own"])));
    let accepts = |client, authority: &Authority, name| {
        handshake(client, upstream_server(authority.issue("a.test")), name).is_ok()
    };
    assert!(accepts(&with_bundle, &bundled, "a.test"));
    assert!(!accepts(&with_bundle, &own, "a.test"));
    assert!(accepts(&with_own, &own, "a.test"));
    assert!(!accepts(&with_own, &bundled, "a.test"));
    assert!(!accepts(&with_own, &own, "b.test"), "wrong name");
}

#[test]
fn the_chain_may_have_as_many_intermediates_as_the_depth_says() {
    let root = authority();
    let leaf_of_two = root.subordinate("one").subordinate("two").issue("a.test");
    let mut settings = tls_settings();
    settings.trusted_certificates = root.pem();
    let accepts = |depth, pair: &PemPair| {
        let service = verified_service(depth, None);
        let client = client(&settings, &Plan::default(), &service);
        handshake(&client, upstream_server(pair.clone()), "a.test").map(|_| ())
    };
    assert_eq!(accepts(Some(2), &leaf_of_two), Ok(()));
    let error = accepts(Some(1), &leaf_of_two).expect_err("too long");
    assert!(error.contains("ChainTooLong"), "{error}");
    assert!(accepts(None, &leaf_of_two).is_err(), "the node's depth is 1");
    let leaf_of_root = root.issue("a.test");
    assert_eq!(
        accepts(Some(0), &leaf_of_root),
        Ok(()),
        "a root that is sent along does not count"
    );
}

#[test]
fn a_trusted_self_signed_certificate_is_accepted_for_its_name_and_dates() {
    let self_signed = |change: fn(&mut CertificateParams)| {
        let key = KeyPair::generate().expect("key");
        let mut params = authority_params("a.test");
        params.subject_alt_names = vec![rcgen::SanType::DnsName("a.test".try_into().expect("name"))];
        change(&mut params);
        (
            params.self_signed(&key).expect("certificate").pem(),
            key.serialize_pem(),
        )
    };
    let result = |presented: &PemPair, trusted: &PemPair, name| {
        let mut settings = tls_settings();
        settings.trusted_certificates = trusted.0.clone();
        let client = client(&settings, &Plan::default(), &verified_service(None, None));
        handshake(&client, upstream_server(presented.clone()), name).map(|_| ())
    };
    let pair = self_signed(|_| {});
    let other = self_signed(|_| {});
    let expired = self_signed(|params| params.not_after = rcgen::date_time_ymd(2001, 1, 1));
    assert_eq!(result(&pair, &pair, "a.test"), Ok(()));
    assert!(result(&pair, &pair, "b.test").is_err(), "wrong name");
    assert!(result(&other, &pair, "a.test").is_err(), "not the trusted one");
    assert!(result(&expired, &expired, "a.test").is_err(), "expired");
}

#[test]
fn the_client_certificate_comes_from_service_then_upstream_then_node() {
    let authority = authority();
    let mut settings = tls_settings();
    settings.client_certificate = Some(authority.issue("node"));
    let plan = Plan {
        certificates: vec![
            certificate("c0", authority.issue("service")),
            certificate("c1", authority.issue("upstream")),
        ],
        ..Plan::default()
    };
    let upstream: UpstreamPlan = serde_json::from_value(serde_json::json!({
        "id": "u", "name": "u", "client_certificate": 1
    }))
    .expect("upstream");
    let with_own = ServicePlan {
        client_certificate: Some(0),
        ..service()
    };
    let tls = ClientTls::new(&settings).expect("settings");
    let config = |service: &ServicePlan, upstream| {
        tls.config_for(&plan, service, upstream, UpstreamAlpn::Http1)
            .expect("config")
    };
    let presented = |config: &ClientConfig| {
        let pair = config
            .client_auth_cert_resolver
            .resolve(&[], &[rustls::SignatureScheme::ECDSA_NISTP256_SHA256])
            .expect("pair");
        pair.cert[0].to_vec()
    };
    let of = |pair: &PemPair| leaf(pair);
    let pair_of = |position: usize| {
        let certificate = &plan.certificates[position];
        (certificate.cert.clone(), certificate.key.clone())
    };
    assert_eq!(presented(&config(&with_own, Some(&upstream)).config), of(&pair_of(0)));
    assert_eq!(presented(&config(&service(), Some(&upstream)).config), of(&pair_of(1)));
    assert_eq!(
        presented(&config(&service(), None).config),
        of(settings.client_certificate.as_ref().expect("set"))
    );

    let roots = trusting(&authority).anchors;
    let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
        .build()
        .expect("verifier");
    let (chain, key) = authority.issue("a.test");
    let pair = pem::read_pair(&chain, &key, &pem::PairPaths::under("test", ""), &provider()).expect("pair");
    let server = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(pair)));
    let server = Arc::new(server);
    let done = handshake(&config(&with_own, None).config, Arc::clone(&server), "a.test");
    assert_eq!(done.expect("handshake").certificates_of_client, 2);
    assert!(handshake(&any_client(), server, "a.test").is_err());
}

#[test]
fn equal_demands_share_a_configuration_while_a_plan_holds_it() {
    let tls = ClientTls::new(&tls_settings()).expect("settings");
    let mut plan = Plan::default();
    plan.ca_certificates.insert("ca".to_owned(), authority().pem());
    let service = verified_service(None, Some(&["ca"]));
    let get = |plan: &Plan, service: &ServicePlan, alpn| tls.config_for(plan, service, None, alpn).expect("config");
    let first = get(&plan, &service, UpstreamAlpn::Http1);
    let again = get(&plan, &service, UpstreamAlpn::Http1);
    assert!(Arc::ptr_eq(&first, &again));
    assert_ne!(first.identity, get(&plan, &service, UpstreamAlpn::Http2).identity);
    assert_ne!(
        first.identity,
        get(&plan, &verified_service(Some(7), Some(&["ca"])), UpstreamAlpn::Http1).identity
    );
    plan.ca_certificates.insert("ca".to_owned(), authority().pem());
    assert_ne!(
        first.identity,
        get(&plan, &service, UpstreamAlpn::Http1).identity,
        "same id, other text"
    );
}

#[test]
fn faults_of_upstream_certificates_name_their_entity() {
    let tls = ClientTls::new(&tls_settings()).expect("settings");
    let mut plan = Plan::default();
    plan.ca_certificates.insert("bad".to_owned(), "junk".to_owned());
    let paths = |service: &ServicePlan| {
        let faults = tls
            .config_for(&plan, service, None, UpstreamAlpn::Http1)
            .expect_err("faults");
        faults.into_iter().map(|fault| fault.path).collect::<Vec<_>>()
    };
    let mut missing = verified_service(None, Some(&["gone"]));
    missing.client_certificate = Some(4);
    assert_eq!(
        paths(&missing),
        ["services.s1.ca_certificates", "services.s1.client_certificate"]
    );
    assert_eq!(paths(&verified_service(None, Some(&["bad"]))), ["ca_certificates.bad"]);

    let mut settings = tls_settings();
    settings.trusted_certificates = "junk".to_owned();
    settings.client_certificate = Some(("junk".to_owned(), "junk".to_owned()));
    let faults = ClientTls::new(&settings).expect_err("faults");
    let paths: Vec<_> = faults.iter().map(|fault| fault.path.as_str()).collect();
    assert_eq!(
        paths,
        [
            "tls.trusted_certificates",
            "tls.client_certificate.cert",
            "tls.client_certificate.key"
        ]
    );
}
