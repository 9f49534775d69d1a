//! A plan made ready to serve: router, TLS, balancers, client configurations.
//!
//! Built whole beside the running one, with all faults reported at once, and never changed afterwards. What did not change
//! since the previous plan is taken over (compiled expressions, TLS configurations, balancer positions).

use std::any::Any;
use std::collections::HashMap;
use std::sync::Arc;

use crate::plan::{AddressPlan, Plan, RoutePlan, ServicePlan, UpstreamPlan};
use crate::router::stream::{StreamRouter, StreamRule};
use crate::router::{AddressRule, Flavor, RouteRule, Router, RouterFault};
use crate::settings::EngineSettings;
use crate::tls::client::{ClientTls, UpstreamAlpn, UpstreamTls};
use crate::tls::given::GivenPairs;
use crate::tls::server::ServerTls;
use crate::tls::sessions::ServerSessions;
use crate::upstream::balance::Balancer;
use crate::upstream::reports::HealthReports;

/// What is built once per process and shared by all plans.
pub struct Foundation {
    /// The engine's settings.
    pub settings: Arc<EngineSettings>,
    /// TLS sessions of clients.
    pub sessions: ServerSessions,
    /// TLS configurations towards upstreams.
    pub client_tls: Arc<ClientTls>,
    /// What balancers tell control.
    pub health_reports: Arc<HealthReports>,
    /// Certificates that plugins gave.
    pub given_pairs: Arc<GivenPairs>,
}

impl Foundation {
    /// Read the certificates of the settings.
    ///
    /// # Errors
    /// All faults, each with its path.
    pub fn build(settings: Arc<EngineSettings>) -> Result<Self, Vec<String>> {
        let sessions = ServerSessions::new(&settings.tls).map_err(|fault| vec![fault.to_string()])?;
        let client_tls = ClientTls::new(&settings.tls)
            .map(Arc::new)
            .map_err(|faults| faults.iter().map(ToString::to_string).collect::<Vec<_>>())?;
        Ok(Self {
            settings,
            sessions,
            client_tls,
            health_reports: Arc::default(),
            given_pairs: Arc::default(),
        })
    }
}

/// A plan in force. What is large is shared with the plans before and after that have the same.
pub struct Live {
    /// Revision of the plan.
    pub revision: u64,
    /// Phases with global handlers.
    pub global_phases: u32,
    /// The same for streams.
    pub stream_global_phases: u32,
    /// Settings of the process.
    pub settings: Arc<EngineSettings>,
    /// Routes by position.
    pub routes: Vec<Arc<LiveRoute>>,
    /// Services by position.
    pub services: Arc<Vec<LiveService>>,
    /// Upstreams by name.
    pub upstreams: Arc<HashMap<String, LiveUpstream>>,
    /// Their balancers by the upstream's id.
    pub balancers: Arc<HashMap<String, Arc<Balancer>>>,
    /// Finds routes of HTTP requests.
    pub router: Arc<Router>,
    /// Position of the first stream route in `routes`.
    pub first_stream_route: usize,
    /// Finds routes of streams, by position behind `first_stream_route`.
    pub stream_router: Arc<StreamRouter>,
    /// Certificates by SNI.
    pub tls: Arc<ServerTls>,
    /// Certificates that plugins gave, of all plans.
    pub given_pairs: Arc<GivenPairs>,
    /// TLS towards targets that a plugin chose on a route whose service is plain.
    pub default_client_tls: Arc<UpstreamTls>,
    /// What the runner gave along with the plan.
    pub attachment: Option<Arc<dyn Any + Send + Sync>>,
    /// What the operator should be told about this plan.
    pub notices: Vec<String>,
}

/// One route in force.
pub struct LiveRoute {
    /// As planned.
    pub plan: RoutePlan,
    /// Plain http is answered with a redirect or 426.
    pub is_https_only: bool,
    /// Its service is a WebSocket endpoint.
    pub is_websocket: bool,
    /// Takes gRPC requests only.
    pub is_grpc: bool,
    /// Takes gRPC requests over TLS only.
    pub is_grpcs_only: bool,
}

/// One service in force.
pub struct LiveService {
    /// As planned.
    pub plan: ServicePlan,
    /// HTTP/2 is spoken with it (grpc, grpcs).
    pub is_http2: bool,
    /// WebSocket messages are exchanged with it (ws, wss).
    pub is_websocket: bool,
    /// TLS towards it, when its protocol asks for it.
    pub tls: Option<Arc<UpstreamTls>>,
}

/// One upstream in force.
pub struct LiveUpstream {
    /// As planned.
    pub plan: Arc<UpstreamPlan>,
    /// Picks addresses; the same one in all plans that have this upstream.
    pub balancer: Arc<Balancer>,
}

impl Live {
    /// Make a plan ready.
    ///
    /// # Errors
    /// All faults of the plan, each a text with its path.
    pub fn build(
        plan: Plan,
        foundation: &Foundation,
        previous: Option<&Self>,
        attachment: Option<Arc<dyn Any + Send + Sync>>,
    ) -> Result<Self, Vec<String>> {
        let mut faults = Vec::new();
        let notices = Vec::new();
        let first_stream_route = plan
            .routes
            .iter()
            .position(RoutePlan::is_stream)
            .unwrap_or(plan.routes.len());
        let (http_routes, stream_routes) = plan.routes.split_at(first_stream_route);
        let stream_router = stream_router(plan.router_flavor, stream_routes);
        if let Err(found) = &stream_router {
            faults.extend(found.iter().cloned());
        }
        let rules: Vec<RouteRule> = http_routes.iter().map(rule_of).collect();
        let router = Router::build_after(plan.router_flavor, &rules, previous.map(|old| old.router.as_ref()));
        if let Err(found) = &router {
            faults.extend(fault_texts(found, |position| plan.routes.get(position)));
        }
        let tls = ServerTls::build(
            &plan.certificates,
            &plan.snis,
            &foundation.settings.tls,
            &foundation.sessions,
            previous.map(|old| old.tls.as_ref()),
        );
        if let Err(found) = &tls {
            faults.extend(found.iter().map(ToString::to_string));
        }
        let by_name: HashMap<&str, usize> = plan
            .upstreams
            .iter()
            .enumerate()
            .map(|(index, upstream)| (upstream.name.as_str(), index))
            .collect();
        let mut services = Vec::with_capacity(plan.services.len());
        for service in &plan.services {
            let upstream = by_name
                .get(service.host.as_str())
                .and_then(|index| plan.upstreams.get(*index));
            let mut client_tls = None;
            let is_http2 = matches!(service.protocol.as_str(), "grpc" | "grpcs");
            let alpn = match service.protocol.as_str() {
                "grpc" | "grpcs" => UpstreamAlpn::Http2,
                "tls" => UpstreamAlpn::Nothing,
                _ => UpstreamAlpn::Http1,
            };
            if matches!(service.protocol.as_str(), "https" | "grpcs" | "wss" | "tls") {
                match foundation.client_tls.config_for(&plan, service, upstream, alpn) {
                    Ok(config) => client_tls = Some(config),
                    Err(found) => faults.extend(found.iter().map(|fault| format!("services.{}: {fault}", service.id))),
                }
            }
            services.push(LiveService {
                plan: service.clone(),
                is_http2,
                is_websocket: matches!(service.protocol.as_str(), "ws" | "wss"),
                tls: client_tls,
            });
        }
        let bare = bare_https_service();
        let default_client_tls = foundation
            .client_tls
            .config_for(&plan, &bare, None, UpstreamAlpn::Http1);
        if let Err(found) = &default_client_tls {
            faults.extend(found.iter().map(ToString::to_string));
        }
        let mut upstreams = HashMap::with_capacity(plan.upstreams.len());
        let mut balancers = HashMap::with_capacity(plan.upstreams.len());
        for upstream in &plan.upstreams {
            let upstream = Arc::new(upstream.clone());
            let balancer = match previous.and_then(|old| old.upstreams.get(&upstream.name)) {
                Some(old) if old.plan.id == upstream.id => old.balancer.clone(),
                _ => Balancer::new(&upstream, foundation.health_reports.clone()),
            };
            balancers.insert(upstream.id.clone(), balancer.clone());
            upstreams.insert(
                upstream.name.clone(),
                LiveUpstream {
                    plan: upstream,
                    balancer,
                },
            );
        }
        for route in &plan.routes {
            if route.service.is_some_and(|service| service >= plan.services.len()) {
                faults.push(unknown_service(route));
            }
        }
        match (router, stream_router, tls, default_client_tls) {
            (Ok(router), Ok(stream_router), Ok(tls), Ok(default_client_tls)) if faults.is_empty() => Ok(Self {
                revision: plan.revision,
                global_phases: plan.global_phases,
                stream_global_phases: plan.stream_global_phases,
                settings: foundation.settings.clone(),
                routes: plan
                    .routes
                    .into_iter()
                    .map(|route| Arc::new(LiveRoute::of(route, &services)))
                    .collect(),
                services: Arc::new(services),
                upstreams: Arc::new(upstreams),
                balancers: Arc::new(balancers),
                router: Arc::new(router),
                first_stream_route,
                stream_router: Arc::new(stream_router),
                tls: Arc::new(tls),
                given_pairs: foundation.given_pairs.clone(),
                default_client_tls,
                attachment,
                notices,
            }),
            _ => Err(faults),
        }
    }
}

impl Live {
    /// Bring the balancers that were taken over in line with this plan, when it is put in force.
    pub fn configure_balancers(&self) {
        for upstream in self.upstreams.values() {
            upstream.balancer.configure(&upstream.plan);
        }
    }

    /// Have the balancers that are new report what they have, once this plan is in force.
    pub fn announce_balancers(&self) {
        for balancer in self.balancers.values() {
            balancer.announce();
        }
    }
}

impl LiveRoute {
    /// A planned route made ready; `services` are those of its plan.
    pub(crate) fn of(plan: RoutePlan, services: &[LiveService]) -> Self {
        let has = |name: &str| plan.protocols.iter().any(|protocol| protocol == name);
        let is_https_only = has("https") && !has("http") || has("wss") && !has("ws");
        let is_websocket = plan
            .service
            .and_then(|service| services.get(service))
            .is_some_and(|service| service.is_websocket);
        let is_grpc = has("grpc") || has("grpcs");
        let is_grpcs_only = has("grpcs") && !has("grpc");
        Self {
            plan,
            is_https_only,
            is_websocket,
            is_grpc,
            is_grpcs_only,
        }
    }
}

/// The router of the stream routes of a plan.
fn stream_router(flavor: Flavor, routes: &[RoutePlan]) -> Result<StreamRouter, Vec<String>> {
    let mut faults = Vec::new();
    let rules: Vec<_> = routes.iter().map(stream_rule_of).collect();
    for route in routes.iter().filter(|route| !route.is_stream()) {
        faults.push(format!("routes.{}: a route of HTTP behind those of streams", route.id));
    }
    let router = StreamRouter::build(flavor, &rules);
    if let Err(found) = &router {
        faults.extend(fault_texts(found, |position| routes.get(position)));
    }
    match router {
        Ok(router) if faults.is_empty() => Ok(router),
        _ => Err(faults),
    }
}

/// What is said of the faults of a router; `route` gives the route at a position.
pub(crate) fn fault_texts<'a>(faults: &[RouterFault], route: impl Fn(usize) -> Option<&'a RoutePlan>) -> Vec<String> {
    let text = |fault: &RouterFault| {
        let id = route(fault.route).map_or("?", |route| route.id.as_str());
        format!("routes.{id}.{}: {}", fault.field, fault.message)
    };
    faults.iter().map(text).collect()
}

/// What is said of a route without the service that it names.
pub(crate) fn unknown_service(route: &RoutePlan) -> String {
    format!("routes.{}.service: no service at this position", route.id)
}

/// The matching half of a planned stream route.
#[must_use]
pub fn stream_rule_of(route: &RoutePlan) -> StreamRule {
    StreamRule {
        id: route.id.clone(),
        created_at: route.created_at,
        protocols: route.protocols.clone(),
        snis: route.snis.clone().unwrap_or_default(),
        sources: addresses_of(route.sources.as_deref()),
        destinations: addresses_of(route.destinations.as_deref()),
        expression: route.expression.clone(),
        priority: route.priority,
    }
}

/// The matching half of a planned route.
#[must_use]
pub fn rule_of(route: &RoutePlan) -> RouteRule {
    RouteRule {
        id: route.id.clone(),
        created_at: route.created_at,
        methods: route.methods.clone().unwrap_or_default(),
        hosts: route.hosts.clone(),
        paths: route.paths.clone().unwrap_or_default(),
        headers: route.headers.clone().unwrap_or_default().into_iter().collect(),
        snis: route.snis.clone().unwrap_or_default(),
        sources: addresses_of(route.sources.as_deref()),
        destinations: addresses_of(route.destinations.as_deref()),
        expression: route.expression.clone(),
        priority: route.priority,
        protocols: route.protocols.clone(),
        regex_priority: route.regex_priority,
        strip_path: route.strip_path,
        path_handling: route.path_handling,
    }
}

fn addresses_of(planned: Option<&[AddressPlan]>) -> Vec<AddressRule> {
    let rule = |entry: &AddressPlan| AddressRule {
        network: entry.ip,
        port: entry.port,
    };
    planned.unwrap_or_default().iter().map(rule).collect()
}

/// The TLS demands of a target that no service describes: the node's defaults.
fn bare_https_service() -> ServicePlan {
    ServicePlan {
        id: String::new(),
        name: None,
        protocol: "https".to_owned(),
        host: String::new(),
        port: 443,
        path: None,
        retries: 0,
        connect_timeout_ms: 0,
        write_timeout_ms: 0,
        read_timeout_ms: 0,
        tls_verify: None,
        tls_verify_depth: None,
        ca_certificates: None,
        client_certificate: None,
    }
}
