//! How long an upstream may take, resolved.

use std::time::Duration;

use crate::config::{self, Diagnostics, Period, Spanned, Toggle};

/// Time-outs of one route. `None` waits for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// To open a connection, TLS included.
    pub connect: Duration,
    /// From the whole request sent to the first byte of the response.
    pub first_byte: Option<Duration>,
    /// Between two reads of the response, or two writes of the request.
    pub idle: Option<Duration>,
    /// From the whole request received to the response's header, all attempts together.
    pub total: Option<Duration>,
    /// From a WebSocket's beginning to its end.
    pub websocket: Option<Duration>,
}

impl Timeouts {
    /// The time-outs of a route whose nearest `timeouts` is `policy`.
    pub fn compile(
        policy: Option<&Toggle<config::Timeouts>>,
        diagnostics: &mut Diagnostics,
    ) -> Self {
        let defaults = config::Timeouts::default();
        match policy {
            None => Self::of(&defaults),
            Some(Toggle::Off) => Self {
                first_byte: None,
                idle: None,
                total: None,
                websocket: None,
                ..Self::of(&defaults)
            },
            Some(Toggle::On(timeouts)) => {
                refuse_zero(&timeouts.connect, "connect", diagnostics);
                for (name, period) in [
                    ("first_byte", &timeouts.first_byte),
                    ("idle", &timeouts.idle),
                    ("total", &timeouts.total),
                    ("websocket", &timeouts.websocket),
                ] {
                    if let Toggle::On(value) = &period.value {
                        refuse_zero(&Spanned::new(*value, period.span), name, diagnostics);
                    }
                }
                Self::of(timeouts)
            }
        }
    }

    fn of(timeouts: &config::Timeouts) -> Self {
        let limit = |toggle: &Toggle<Period>| toggle.on().map(|period| period.0);
        Self {
            connect: timeouts.connect.0,
            first_byte: limit(&timeouts.first_byte),
            idle: limit(&timeouts.idle),
            total: limit(&timeouts.total),
            websocket: limit(&timeouts.websocket),
        }
    }
}

fn refuse_zero(period: &Spanned<Period>, name: &str, diagnostics: &mut Diagnostics) {
    if period.0.is_zero() {
        let finding = diagnostics.error(
            period.span,
            format!("`{name}` is zero, so every request would fail"),
        );
        if name == "connect" {
            finding.help("write how long to wait, such as `1s`");
        } else {
            finding.help(format!("write `{name}: off` to wait for ever"));
        }
    }
}
