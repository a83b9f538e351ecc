//! From when on there is too much to do, so that requests are shed.

use std::time::Duration;

use crate::config::{Diagnostics, Overload, Policy, Toggle};

/// When there is too much to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OverloadRule {
    /// How late workers may be.
    pub lag: Duration,
    /// Share of the memory, in percent.
    pub memory: u8,
    /// Share of the file descriptors, in percent.
    pub descriptors: u8,
}

impl OverloadRule {
    pub(super) fn compile(
        written: &Policy<Overload>,
        diagnostics: &mut Diagnostics,
    ) -> Option<Self> {
        let defaults = Overload::default();
        let section = match written.as_deref() {
            Some(Toggle::Off) => return None,
            None => &defaults,
            Some(Toggle::On(section)) => section,
        };
        if section.lag.0.is_zero() {
            diagnostics
                .error(
                    section.lag.span,
                    "`lag` is zero, so every request would be shed",
                )
                .help("20ms is usual; `overload: off` sheds nothing");
        }
        for (name, share) in [
            ("memory", &section.memory),
            ("descriptors", &section.descriptors),
        ] {
            if share.0 == 0 {
                diagnostics
                    .error(
                        share.span,
                        format!("`{name}` is zero, so every request would be shed"),
                    )
                    .help("1% to 100%; `overload: off` sheds nothing");
            }
        }
        Some(Self {
            lag: section.lag.0,
            memory: section.memory.0,
            descriptors: section.descriptors.0,
        })
    }
}
