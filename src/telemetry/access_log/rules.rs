//! Which requests have a line, how it is written, and where it goes: the section of the configuration, resolved.

use std::net::IpAddr;
use std::time::Duration;

use super::destination::Destination;
use super::field::Line;
use super::format::Format;
use super::privacy::{Privacy, truncated};
use super::sampler::{Sampler, Weight};
use crate::config::{self, Diagnostics};
use crate::telemetry::record::Record;

/// The access log as configured.
#[derive(Debug)]
pub struct LineRules {
    sampler: Sampler,
    privacy: Privacy,
    format: Format,
    destination: Destination,
}

impl LineRules {
    /// Resolves the section, or reports what is wrong with it.
    pub fn compile(section: &config::AccessLog, diagnostics: &mut Diagnostics) -> Option<Self> {
        let privacy = Privacy::compile(section, diagnostics);
        let format = Format::compile(&section.format, &privacy, diagnostics);
        let sampler = Sampler::compile(&section.sample.0, diagnostics);
        let destination = Destination::compile(&section.output, diagnostics);
        Some(Self {
            sampler,
            privacy,
            format: format?,
            destination: destination?,
        })
    }

    /// Whether a request that `took` so long has a line, and for how many it stands.
    pub fn choose(&self, is_failure: bool, took: Duration) -> Option<Weight> {
        self.sampler.choose(is_failure, took)
    }

    /// Where lines go.
    pub fn destination(&self) -> &Destination {
        &self.destination
    }

    /// As much of a client's address as the log tells, for whoever else tells of requests. Where nothing is
    /// logged, that is what many clients have in common.
    pub fn told(rules: Option<&Self>, client: IpAddr) -> Option<IpAddr> {
        match rules {
            Some(rules) => rules.privacy.address(client),
            None => truncated(client),
        }
    }

    /// Appends the line of a request, its end included.
    pub fn write(&self, record: &Record<'_>, weight: Weight, out: &mut Vec<u8>) {
        let line = Line {
            record,
            weight,
            privacy: &self.privacy,
        };
        self.format.write(&line, out);
    }
}
