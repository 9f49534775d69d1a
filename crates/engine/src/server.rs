//! The wiring: from settings, a runner and a plan to an engine that serves.
//!
//! Read `Server::run` as the table of contents: what is built, in which order, what runs beside the requests. One engine is
//! one thread with one tokio current-thread runtime; nothing here is shared with another engine but inherited sockets.

use std::any::Any;
use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::Notify;

use crate::gateway::Gateway;
use crate::listener;
use crate::live::{Foundation, Live};
use crate::plan::{Plan, PlanChange};
use crate::runner::PhaseRunner;
use crate::settings::EngineSettings;
use crate::stream::datagrams::ListeningSocket;
use crate::stream::udp;
use crate::telemetry::access_log::{AccessLog, FLUSH_INTERVAL};
use crate::telemetry::log_queue::LogQueue;
use crate::upstream::attempt::Upstreams;
use crate::upstream::http2::Http2Connections;
use crate::upstream::pool::Pool;
use crate::upstream::reports::HealthReports;
use crate::upstream::resolve::{Record, RecordKind, Records, ResolveError, Resolver};

/// Idle upstream connections are looked through this often.
const SWEEP_INTERVAL: Duration = Duration::from_secs(5);

/// The names of targets are looked at this often (reference: balancing 2).
const REFRESH_INTERVAL: Duration = Duration::from_secs(1);

/// Own choices: dropping fewer routes takes less than 0.1 ms; most requests are over within 5 s.
const LARGE_PLAN_ROUTES: usize = 500;
const RETIREMENT_INTERVAL: Duration = Duration::from_millis(50);
const RETIREMENT_LOOKS: usize = 100;

/// One engine.
pub struct Server {
    gateway: Arc<Gateway>,
    foundation: Foundation,
    stop: Notify,
    /// One plan is built at a time, so that each starts from its predecessor.
    applying: Mutex<()>,
    /// The runtime of the engine thread, once that runs.
    runtime: OnceLock<Handle>,
}

impl Server {
    /// Build everything that does not depend on a plan.
    ///
    /// # Errors
    /// All faults of the settings, each a text with its path.
    pub fn build(settings: EngineSettings, runner: Arc<dyn PhaseRunner>) -> Result<Self, Vec<String>> {
        let settings = Arc::new(settings);
        let foundation = Foundation::build(settings.clone())?;
        let resolver = Resolver::new(&settings.dns).map_err(|fault| vec![format!("dns: {fault}")])?;
        let upstreams = Upstreams {
            pool: Pool::new(settings.upstream_keepalive),
            resolver,
            http2: Http2Connections::default(),
            client_tls: foundation.client_tls.clone(),
        };
        let access_logs = (
            open_log("proxy_access_log", settings.access_log.as_deref())?,
            open_log("proxy_stream_access_log", settings.stream_access_log.as_deref())?,
        );
        let empty = Live::build(Plan::default(), &foundation, None, None)?;
        let gateway = Gateway::new(settings, runner, upstreams, access_logs, Arc::new(empty));
        Ok(Self {
            gateway: Arc::new(gateway),
            foundation,
            stop: Notify::new(),
            applying: Mutex::new(()),
            runtime: OnceLock::new(),
        })
    }

    /// Make a plan ready and put it in force; notices for the operator are returned.
    ///
    /// `attachment` is handed back with every exchange of this plan (`Live::attachment`).
    ///
    /// # Errors
    /// All faults of the plan; the running one stays in force.
    pub fn apply(
        &self,
        plan: &[u8],
        attachment: Option<Arc<dyn Any + Send + Sync>>,
    ) -> Result<Vec<String>, Vec<String>> {
        let _alone = self.applying.lock().unwrap_or_else(PoisonError::into_inner);
        let plan: Plan = serde_json::from_slice(plan).map_err(|error| vec![format!("plan: {error}")])?;
        let previous = self.gateway.live();
        let live = Live::build(plan, &self.foundation, Some(&previous), attachment)?;
        let notices = live.notices.clone();
        live.configure_balancers();
        let live = Arc::new(live);
        self.gateway.swap(live.clone());
        live.announce_balancers();
        retire(previous);
        Ok(notices)
    }

    /// Make the plan ready that a change makes of the one in force, and put it in force.
    ///
    /// # Errors
    /// The change is for another plan, or all its faults; the running one stays in force.
    pub fn apply_change(
        &self,
        change: &[u8],
        attachment: Option<Arc<dyn Any + Send + Sync>>,
    ) -> Result<(), Vec<String>> {
        let _alone = self.applying.lock().unwrap_or_else(PoisonError::into_inner);
        let change: PlanChange =
            serde_json::from_slice(change).map_err(|error| vec![format!("change of the plan: {error}")])?;
        let previous = self.gateway.live();
        let live = previous.changed(change, attachment)?;
        self.gateway.swap(Arc::new(live));
        retire(previous);
        Ok(())
    }

    /// Serve on these sockets until drained or stopped. Blocks its thread: it is the engine thread.
    ///
    /// # Errors
    /// The runtime or a socket cannot be set up.
    pub fn run(&self, sockets: Vec<OwnedFd>) -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        // Set by an earlier run, if at all: an engine runs once.
        let _ = self.runtime.set(runtime.handle().clone());
        runtime.block_on(async {
            for (socket, settings) in sockets.into_iter().zip(&self.gateway.settings.listeners) {
                let settings = Arc::new(settings.clone());
                if settings.udp {
                    let socket = ListeningSocket::new(std::net::UdpSocket::from(socket))?;
                    tokio::spawn(udp::serve(self.gateway.clone(), socket, settings));
                    continue;
                }
                let socket = std::net::TcpListener::from(socket);
                socket.set_nonblocking(true)?;
                let socket = TcpListener::from_std(socket)?;
                tokio::spawn(listener::accept(self.gateway.clone(), socket, settings));
            }
            tokio::spawn(sweep_pools(self.gateway.clone()));
            tokio::spawn(refresh_targets(self.gateway.clone()));
            tokio::spawn(flush_access_log(self.gateway.clone()));
            let drained = async {
                self.gateway.draining().await;
                self.gateway.all_closed().await;
            };
            tokio::select! {
                () = drained => {}
                () = self.stop.notified() => {}
            }
            LogQueue::hand_over(&self.gateway);
            for log in self.gateway.access_logs() {
                log.flush();
            }
            Ok(())
        })
    }

    /// Stop accepting; running requests finish, then `run` returns.
    pub fn drain(&self) {
        self.gateway.drain();
    }

    /// Make `run` return now.
    pub fn stop(&self) {
        self.gateway.drain();
        self.stop.notify_one();
    }

    /// Open log files anew.
    pub fn reopen_logs(&self) {
        for log in self.gateway.access_logs() {
            log.reopen();
        }
    }

    /// What balancers tell control; the worker's loop takes it.
    #[must_use]
    pub fn health_reports(&self) -> &Arc<HealthReports> {
        &self.foundation.health_reports
    }

    /// Resolve a name as the engine does for itself, from any thread; `wanted`: records of this kind only. `done` is
    /// called on the engine thread. Returns false, and calls nothing, while the engine does not run.
    pub fn resolve(
        &self,
        name: String,
        wanted: Option<RecordKind>,
        done: impl FnOnce(Result<Records, ResolveError>) + Send + 'static,
    ) -> bool {
        let resolver = self.gateway.upstreams.resolver.clone();
        self.on_runtime(async move { done(resolver.resolve_kind(&name, wanted).await) })
    }

    /// As `resolve`, for the one record whose turn it is.
    pub fn resolve_next(&self, name: String, done: impl FnOnce(Result<Record, ResolveError>) + Send + 'static) -> bool {
        let resolver = self.gateway.upstreams.resolver.clone();
        self.on_runtime(async move { done(resolver.resolve_next(&name).await) })
    }

    fn on_runtime(&self, work: impl Future<Output = ()> + Send + 'static) -> bool {
        match self.runtime.get() {
            Some(runtime) => {
                runtime.spawn(work);
                true
            }
            None => false,
        }
    }

    /// What all requests share.
    #[must_use]
    pub fn gateway(&self) -> &Arc<Gateway> {
        &self.gateway
    }
}

fn open_log(setting: &str, path: Option<&Path>) -> Result<Option<AccessLog>, Vec<String>> {
    let open = |path: &Path| {
        AccessLog::open(path).map_err(|error| vec![format!("{setting}: cannot open {}: {error}", path.display())])
    };
    path.map(open).transpose()
}

/// Drop a plan that is no longer in force where that holds up no request: it takes milliseconds when it is large.
///
/// Requests on their way keep it for a while; one that keeps it longer than this waits drops it itself.
fn retire(plan: Arc<Live>) {
    if plan.routes.len() < LARGE_PLAN_ROUTES {
        return;
    }
    let wait = move || {
        for _ in 0..RETIREMENT_LOOKS {
            if Arc::strong_count(&plan) == 1 {
                break;
            }
            std::thread::park_timeout(RETIREMENT_INTERVAL);
        }
        drop(plan);
    };
    if let Err(error) = std::thread::Builder::new().name("retirement".to_owned()).spawn(wait) {
        tracing::debug!("the plan before is dropped at once: {error}");
    }
}

async fn sweep_pools(gateway: Arc<Gateway>) {
    let mut ticks = tokio::time::interval(SWEEP_INTERVAL);
    loop {
        ticks.tick().await;
        gateway.upstreams.pool.sweep(Instant::now());
        let idle = Duration::from_millis(gateway.settings.upstream_keepalive.idle_timeout_ms);
        gateway.upstreams.http2.sweep(Instant::now(), idle);
        gateway.upstreams.pool.retain(|connection| connection.is_usable());
    }
}

/// Keep the addresses of targets that are names up to date.
async fn refresh_targets(gateway: Arc<Gateway>) {
    let mut ticks = tokio::time::interval(REFRESH_INTERVAL);
    loop {
        ticks.tick().await;
        for upstream in gateway.live().upstreams.values() {
            upstream.balancer.refresh(&gateway.upstreams.resolver);
        }
    }
}

async fn flush_access_log(gateway: Arc<Gateway>) {
    let mut ticks = tokio::time::interval(FLUSH_INTERVAL);
    loop {
        ticks.tick().await;
        for log in gateway.access_logs() {
            log.flush();
        }
    }
}
