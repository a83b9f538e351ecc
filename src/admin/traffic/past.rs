//! What was counted, second by second.

use std::sync::{Arc, Weak};
use std::time::{SystemTime, UNIX_EPOCH};

use super::history::{History, Second};
use super::query::Question;
use super::refusals::{is_by_policy, is_refusal};
use super::report::{
    CredentialsRefused, EndpointTraffic, Figures, Live, LiveEndpoint, LiveRoute, Refused,
    RouteTraffic, ServiceTraffic, TrafficReport,
};
use super::track::{Reading, Track, Tracks, window};
use crate::snapshot::Snapshot;
use crate::telemetry::{Outcomes, Phase, RouteMeter, Tally};

/// Routes, and endpoints, that are told of each second.
const MOST_LIVE: usize = 500;
/// What those are called that no route takes.
const NO_ROUTE: (&str, &str) = ("none", "none");
/// What those are called that are counted together.
const OTHERS: (&str, &str) = ("other", "other");

/// What is remembered.
#[derive(Debug, Default)]
pub(super) struct Past {
    ticks: u64,
    /// The configuration that was in force at the last tick, which nothing here keeps alive.
    snapshot: Weak<Snapshot>,
    history: History,
    routes: Tracks<Tally>,
    /// Under the first name of nothing.
    services: Tracks<Tally>,
    endpoints: Tracks<Outcomes>,
    refusals: Tracks<Outcomes>,
    credentials: Tracks<Outcomes>,
}

impl Past {
    /// Reads all counts.
    pub(super) fn tick(&mut self, snapshot: &Arc<Snapshot>, now: SystemTime) -> Live {
        let is_first = self.ticks == 0;
        self.ticks += 1;
        let is_same = std::ptr::eq(self.snapshot.as_ptr(), Arc::as_ptr(snapshot));
        self.snapshot = Arc::downgrade(snapshot);
        let since_1970 = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut second = Second {
            at: since_1970.as_secs(),
            ..Second::default()
        };
        let routes = self.read_routes(snapshot, is_first || is_same, &mut second);
        let endpoints = self.read_services(snapshot, is_first);
        self.read_refusals(snapshot, &mut second);
        self.history.push(second);
        Live {
            sample: second.sample(),
            routes: busiest(routes, |it| it.requests),
            endpoints: busiest(endpoints, |it| it.requests),
        }
    }

    /// `is_known` says that the routes are those of the tick before: what is counted for the first time came
    /// just now. Otherwise it may be what was counted when the route was there before.
    fn read_routes(
        &mut self,
        snapshot: &Snapshot,
        is_known: bool,
        second: &mut Second,
    ) -> Vec<LiveRoute> {
        let mut live = Vec::new();
        let mut read = |names: (&str, &str), meter: &RouteMeter| {
            let (reading, in_flight) = meter.read();
            // Thousands of routes that nobody asks for take no memory.
            if reading == Tally::default() && in_flight == 0 && !self.routes.contains(names) {
                return;
            }
            let first = if is_known { Tally::default() } else { reading };
            let Some(came) = self.routes.note(names, reading, first, self.ticks) else {
                return;
            };
            second.in_flight += in_flight;
            second.tally.add(&came);
            if came.outcomes.requests > 0 {
                live.push(LiveRoute {
                    service: names.0.to_owned(),
                    route: names.1.to_owned(),
                    requests: came.outcomes.requests,
                    errors: came.outcomes.errors,
                });
            }
        };
        for route in snapshot.routes() {
            let names = match route.meter.is_own() {
                true => (&*route.service, &*route.name),
                false => OTHERS,
            };
            read(names, &route.meter);
        }
        read(NO_ROUTE, &snapshot.unrouted_meter);
        self.routes.forget_others(self.ticks);
        live
    }

    fn read_services(&mut self, snapshot: &Snapshot, is_first: bool) -> Vec<LiveEndpoint> {
        let mut live = Vec::new();
        for service in snapshot.services().iter().filter(|it| it.meter.is_own()) {
            // Not the sum of what its endpoints have counted: they come and go.
            let mut outcomes = self.services.total(("", &service.name)).outcomes;
            for endpoint in service.endpoints() {
                let Some(reading) = endpoint.attempts() else {
                    continue;
                };
                let names = (&*service.name, endpoint.as_str());
                let first = if is_first {
                    Outcomes::default()
                } else {
                    reading
                };
                let Some(came) = self.endpoints.note(names, reading, first, self.ticks) else {
                    continue;
                };
                outcomes.add(&came);
                if came.requests > 0 {
                    live.push(LiveEndpoint {
                        service: names.0.to_owned(),
                        endpoint: names.1.to_owned(),
                        requests: came.requests,
                        errors: came.errors,
                    });
                }
            }
            let reading = Tally {
                outcomes,
                durations: service.meter.durations(Phase::FirstByte),
            };
            let first = if is_first { Tally::default() } else { reading };
            self.services
                .note(("", &service.name), reading, first, self.ticks);
        }
        self.services.forget_others(self.ticks);
        self.endpoints.forget_others(self.ticks);
        live
    }

    fn read_refusals(&mut self, snapshot: &Snapshot, second: &mut Second) {
        let counted = |requests| Outcomes {
            requests,
            ..Outcomes::default()
        };
        let none = Outcomes::default();
        for (flag, count) in snapshot.meters.flag_counts() {
            if count == 0 || !is_refusal(flag) {
                continue;
            }
            let names = ("", flag.word());
            let came = self.refusals.note(names, counted(count), none, self.ticks);
            if is_by_policy(flag) {
                second.refused += came.unwrap_or_default().requests;
            }
        }
        for (mechanism, reason, count) in snapshot.auth_results.refused() {
            let names = (mechanism, reason);
            self.credentials
                .note(names, counted(count), none, self.ticks);
        }
    }

    /// What is asked for.
    pub(super) fn report(&self, question: &Question) -> TrafficReport {
        let credentials = self.credentials.iter().map(|(mechanism, reason, track)| {
            let refused = refused(reason, track);
            CredentialsRefused {
                mechanism: mechanism.to_owned(),
                refused,
            }
        });
        TrafficReport {
            step_s: question.step,
            samples: self.history.samples(question.last, question.step),
            window_s: window(self.ticks),
            recent: self.recent(),
            routes: self.routes_report(),
            services: self.services_report(),
            refusals: self
                .refusals
                .of("")
                .map(|(reason, track)| refused(reason, track))
                .collect(),
            credentials: credentials.collect(),
        }
    }

    fn recent(&self) -> Figures {
        let mut all = Tally::default();
        for (_, _, track) in self.routes.iter() {
            all.add(&track.recent());
        }
        Figures::new(&all)
    }

    fn routes_report(&self) -> Vec<RouteTraffic> {
        let busy = self.routes.iter().filter(|(_, _, track)| !track.is_quiet());
        let routes = busy.map(|(service, route, track)| {
            let minutes = track.minutes();
            RouteTraffic {
                service: service.to_owned(),
                route: route.to_owned(),
                figures: Figures::new(&track.recent()),
                requests_by_minute: minutes.iter().map(|it| it.requests).collect(),
                errors_by_minute: minutes.iter().map(|it| it.errors).collect(),
            }
        });
        routes.collect()
    }

    fn services_report(&self) -> Vec<ServiceTraffic> {
        let services = self.services.of("").map(|(service, track)| {
            let endpoints = self.endpoints.of(service).map(|(endpoint, track)| {
                let recent = track.recent();
                EndpointTraffic {
                    endpoint: endpoint.to_owned(),
                    requests: recent.requests,
                    errors: recent.errors,
                }
            });
            ServiceTraffic {
                service: service.to_owned(),
                figures: Figures::new(&track.recent()),
                endpoints: endpoints.collect(),
            }
        });
        services.collect()
    }
}

fn refused(reason: &str, track: &Track<Outcomes>) -> Refused {
    Refused {
        reason: reason.to_owned(),
        requests: track.recent().outcomes().requests,
        total: track.total().requests,
    }
}

fn busiest<T>(mut all: Vec<T>, requests: impl Fn(&T) -> u64) -> Vec<T> {
    if all.len() > MOST_LIVE {
        all.sort_unstable_by_key(|it| std::cmp::Reverse(requests(it)));
        all.truncate(MOST_LIVE);
    }
    all
}
