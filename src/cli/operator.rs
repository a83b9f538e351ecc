//! The running gateway, as the commands that ask it see it.
//!
//! It is found by the operators' address of its configuration. With a token it is asked there;
//! without one it is sent a signal, which only its own user and root may do, and its status is read.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use ureq::RequestBuilder;

use super::configuration::print;
use super::{ConfigFile, Failure};
use crate::admin::{LimitsReport, Reload, Report, RouteReport, ServiceReport, TrafficReport};
use crate::cache::{Purge, Purged};
use crate::config;

/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often the status is read while something is under way.
const POLL: Duration = Duration::from_millis(20);

/// Which gateway.
#[derive(Debug, Args)]
pub(super) struct Gateway {
    #[command(flatten)]
    pub(super) file: ConfigFile,
    /// The gateway's address for operators; without it, `admin.listen` of the configuration
    #[arg(long, value_name = "ADDRESS")]
    admin: Option<SocketAddr>,
}

/// What is asked of a gateway, and how its answer is printed.
#[derive(Debug, Args)]
pub(super) struct Question {
    #[command(flatten)]
    gateway: Gateway,
    /// Print all that is known, as JSON
    #[arg(long)]
    json: bool,
}

/// A running gateway.
pub(super) struct Operator {
    agent: ureq::Agent,
    address: String,
    /// Where the address is from.
    origin: String,
    token: Option<String>,
    /// How long each step of an upgrade may take.
    pub(super) upgrade_timeout: Duration,
}

impl Question {
    /// Asks, and prints the answer.
    pub(super) fn ask<T: Serialize>(
        &self,
        ask: impl FnOnce(&Operator) -> Result<T, Failure>,
        describe: impl FnOnce(&T) -> String,
    ) -> Result<(), Failure> {
        let answer = ask(&Operator::find(&self.gateway)?)?;
        if !self.json {
            return print(&describe(&answer));
        }
        let json = serde_json::to_string_pretty(&answer);
        let json = json.map_err(|error| Failure::Other(error.to_string()))?;
        print(&(json + "\n"))
    }
}

impl Operator {
    /// The gateway that the arguments name. A configuration with errors still says where it is.
    pub(super) fn find(arguments: &Gateway) -> Result<Self, Failure> {
        let path = arguments.file.path()?;
        let loaded = config::load(&path, &|name| std::env::var(name).ok())
            .map_err(|error| Failure::Other(error.to_string()))?;
        let section = loaded.config.admin.0.on();
        let written = section.map(|admin| admin.listen.value.clone());
        let (address, origin) = match (&arguments.admin, written) {
            (Some(address), _) => (address.to_string(), "--admin".to_owned()),
            (None, Some(address)) => (address, format!("`admin.listen` of {}", path.display())),
            (None, None) => {
                return Err(Failure::Other(
                    "the gateway can't be asked, since `admin` is off; it still takes signals: \
                     HUP to reload, USR2 to upgrade"
                        .to_owned(),
                ));
            }
        };
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(PATIENCE))
            .http_status_as_error(false)
            .proxy(None)
            .build();
        Ok(Self {
            agent: config.into(),
            address: reachable(&address),
            origin,
            token: section.and_then(|admin| admin.token()).map(str::to_owned),
            upgrade_timeout: loaded.config.server.upgrade_timeout.value.0,
        })
    }

    /// Whether it can be asked to change something without a signal.
    pub(super) fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// What it says of itself.
    pub(super) fn status(&self) -> Result<Report, Failure> {
        self.read(&self.get("/status")?)
    }

    /// The traffic of the last hour.
    pub(super) fn traffic(&self) -> Result<TrafficReport, Failure> {
        self.read(&self.get("/traffic")?)
    }

    /// What a reload would change.
    pub(super) fn compare(&self) -> Result<Reload, Failure> {
        self.read(&self.get("/diff")?)
    }

    /// Its routes.
    pub(super) fn routes(&self) -> Result<Vec<RouteReport>, Failure> {
        self.read(&self.get("/routes")?)
    }

    /// Its rate limits, or what a key has spent of them.
    pub(super) fn limits(&self, query: &[(&str, &str)]) -> Result<LimitsReport, Failure> {
        self.read(&self.get(&path("/limits", query))?)
    }

    /// Has a key of a rate limit begin anew.
    pub(super) fn reset_limits(&self, query: &[(&str, &str)]) -> Result<LimitsReport, Failure> {
        let path = path("/limits", query);
        let request = self.agent.delete(format!("http://{}{path}", self.address));
        let answer = self
            .with_token(request)
            .call()
            .map_err(|error| self.unreachable(&error))?;
        self.read(&self.text(answer)?)
    }

    /// Its services.
    pub(super) fn services(&self) -> Result<Vec<ServiceReport>, Failure> {
        self.read(&self.get("/services")?)
    }

    /// Takes an endpoint out of service.
    pub(super) fn drain(&self, query: &[(&str, &str)]) -> Result<ServiceReport, Failure> {
        self.post(&path("/drain", query))
    }

    /// Puts an endpoint in service again.
    pub(super) fn enable(&self, query: &[(&str, &str)]) -> Result<ServiceReport, Failure> {
        self.post(&path("/enable", query))
    }

    /// Makes it reload.
    pub(super) fn reload(&self) -> Result<Reload, Failure> {
        self.post("/reload")
    }

    fn post<T: serde::de::DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        let request = self.agent.post(format!("http://{}{path}", self.address));
        let answer = self
            .with_token(request)
            .send_empty()
            .map_err(|error| self.unreachable(&error))?;
        self.read(&self.text(answer)?)
    }

    /// Lets kept answers go.
    pub(super) fn purge(&self, purge: &Purge) -> Result<Purged, Failure> {
        let request = self.agent.post(format!("http://{}/purge", self.address));
        let answer = self
            .with_token(request)
            .send_json(purge)
            .map_err(|error| self.unreachable(&error))?;
        self.read(&self.text(answer)?)
    }

    /// Sends a signal to the process that answers.
    pub(super) fn signal(&self, report: &Report, signal: Signal) -> Result<(), Failure> {
        let pid = report.pid;
        // Whatever else answers there must not be able to have any process ended.
        if !is_tollgate(pid) {
            return Err(Failure::Other(format!(
                "process {pid}, which {} names, is not a Tollgate of this machine",
                self.address
            )));
        }
        let number = Pid::from_raw(i32::try_from(pid).unwrap_or_default());
        kill(number, signal).map_err(|error| {
            Failure::Other(format!(
                "process {pid} can't be sent {signal}: {error} (run this as its user or root)"
            ))
        })
    }

    /// Reads the status until `find` finds what it looks for.
    pub(super) fn await_status<T>(
        &self,
        patience: Duration,
        mut find: impl FnMut(&Report) -> Option<T>,
    ) -> Result<T, Failure> {
        let deadline = Instant::now() + patience;
        loop {
            // Between two processes an answer may fail to come.
            let report = self.status();
            if let Some(found) = report.as_ref().ok().and_then(&mut find) {
                return Ok(found);
            }
            if Instant::now() > deadline {
                report?;
                return Err(Failure::Other(format!(
                    "not done within {patience:?}; the gateway's log says how far it came"
                )));
            }
            std::thread::sleep(POLL);
        }
    }

    fn get(&self, path: &str) -> Result<String, Failure> {
        let request = self.agent.get(format!("http://{}{path}", self.address));
        let answer = self.with_token(request).call();
        self.text(answer.map_err(|error| self.unreachable(&error))?)
    }

    fn with_token<B>(&self, request: RequestBuilder<B>) -> RequestBuilder<B> {
        match &self.token {
            Some(token) => request.header("Authorization", format!("Bearer {token}")),
            None => request,
        }
    }

    fn text(&self, mut answer: ureq::http::Response<ureq::Body>) -> Result<String, Failure> {
        let text = answer.body_mut().read_to_string();
        text.map_err(|error| self.unreachable(&error))
    }

    fn read<T: serde::de::DeserializeOwned>(&self, text: &str) -> Result<T, Failure> {
        // What is no JSON is a sentence.
        serde_json::from_str(text)
            .map_err(|_| Failure::Other(format!("{} says: {}", self.address, text.trim())))
    }

    fn unreachable(&self, error: &ureq::Error) -> Failure {
        Failure::Other(format!(
            "no gateway answers on {} ({}): {error}",
            self.address, self.origin
        ))
    }
}

fn path(path: &str, query: &[(&str, &str)]) -> String {
    let encoded = |text| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let pairs = query
        .iter()
        .map(|(name, value)| format!("{name}={}", encoded(value)));
    format!("{path}?{}", pairs.collect::<Vec<_>>().join("&"))
}

/// A listener on every address is reached on the loopback.
fn reachable(address: &str) -> String {
    match address.parse::<SocketAddr>() {
        Ok(SocketAddr::V4(it)) if it.ip().is_unspecified() => format!("127.0.0.1:{}", it.port()),
        Ok(SocketAddr::V6(it)) if it.ip().is_unspecified() => format!("[::1]:{}", it.port()),
        _ => address.to_owned(),
    }
}

/// Whether a process runs a program of this one's name, which may have been replaced since.
fn is_tollgate(pid: u32) -> bool {
    let program = |path: PathBuf| {
        let link = std::fs::read_link(path).ok()?;
        let name = link.file_name()?.to_str()?.to_owned();
        Some(name.trim_end_matches(" (deleted)").to_owned())
    };
    let other = program(Path::new("/proc").join(pid.to_string()).join("exe"));
    other.is_some() && other == program("/proc/self/exe".into())
}
