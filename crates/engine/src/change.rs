//! From the plan in force to one that differs in a few routes of HTTP.
//!
//! Everything that a `PlanChange` does not name is shared with the plan before: nothing of it is parsed, checked or built
//! anew; balancers, their health and addresses, TLS and the routes of streams are the same ones. The rule to keep: the
//! outcome serves exactly as `Live::build` of the whole plan would.

use std::any::Any;
use std::sync::Arc;

use crate::live::{fault_texts, rule_of, unknown_service, Live, LiveRoute};
use crate::plan::PlanChange;

impl Live {
    /// Make the plan ready that a change makes of this one.
    ///
    /// # Errors
    /// The change is for another plan, or all its faults, each a text with its path.
    pub fn changed(
        &self,
        change: PlanChange,
        attachment: Option<Arc<dyn Any + Send + Sync>>,
    ) -> Result<Self, Vec<String>> {
        if change.base != self.revision {
            return Err(vec![format!(
                "plan: a change of revision {} does not fit revision {}",
                change.base, self.revision
            )]);
        }
        let (http_routes, stream_routes) = self.routes.split_at(self.first_stream_route);
        let mut routes = http_routes.to_vec();
        let mut faults = Vec::new();
        // Positions at which requests may match otherwise than before.
        let mut touched = Vec::new();
        for (position, plan) in change.routes {
            if plan.is_stream() {
                faults.push(format!("routes.{}: a route of streams among those of HTTP", plan.id));
                continue;
            }
            if plan.service.is_some_and(|service| service >= self.services.len()) {
                faults.push(unknown_service(&plan));
                continue;
            }
            let changed = Arc::new(LiveRoute::of(plan, &self.services));
            let count = routes.len();
            if let Some(known) = routes.get_mut(position) {
                if rule_of(&known.plan) != rule_of(&changed.plan) {
                    touched.push(position);
                }
                *known = changed;
            } else if position == count {
                touched.push(position);
                routes.push(changed);
            } else {
                faults.push(format!(
                    "routes.{}: position {position} leaves a gap behind {count} routes",
                    changed.plan.id
                ));
            }
        }
        let count = change.route_count;
        if count > routes.len() {
            faults.push(format!("routes: there are {} of {count} routes", routes.len()));
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        routes.truncate(count);
        let router = if touched.is_empty() && count == self.first_stream_route {
            self.router.clone()
        } else {
            let rule = |position: usize| {
                routes
                    .get(position)
                    .map(|route| rule_of(&route.plan))
                    .unwrap_or_default()
            };
            Arc::new(
                self.router
                    .after(&touched, count, rule)
                    .map_err(|found| fault_texts(&found, |position| routes.get(position).map(|route| &route.plan)))?,
            )
        };
        routes.extend_from_slice(stream_routes);
        Ok(Self {
            revision: change.revision,
            global_phases: change.global_phases,
            stream_global_phases: self.stream_global_phases,
            settings: self.settings.clone(),
            routes,
            services: self.services.clone(),
            upstreams: self.upstreams.clone(),
            balancers: self.balancers.clone(),
            router,
            first_stream_route: count,
            stream_router: self.stream_router.clone(),
            tls: self.tls.clone(),
            given_pairs: self.given_pairs.clone(),
            default_client_tls: self.default_client_tls.clone(),
            attachment,
            notices: Vec::new(),
        })
    }
}
