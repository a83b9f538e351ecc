//! What `tollgate explain` says of a request's credentials.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use super::Failure;
use crate::auth::{Credentials, Identity, Refusal, Rule, Verdict};
use crate::proxy::{Admission, Origin, admission};
use crate::server::fetch_keys;
use crate::snapshot::State;

/// Seconds since 1970.
pub(super) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_secs()
}

/// What becomes of the credentials under a rule: who vouches, which conditions hold, and the answer.
/// `parameter` is what the path has in place of one.
pub(super) fn describe<'p>(
    rule: &Rule,
    credentials: Credentials<'_>,
    parameter: &impl Fn(usize) -> &'p str,
    state: &State,
) -> Result<String, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let needs_keys = rule.ways().iter().any(|way| {
        let verdict = way.provider.authenticate(credentials);
        matches!(verdict, Verdict::Refused(Refusal::KeysUnavailable))
    });
    let admission = runtime.block_on(async {
        if needs_keys {
            fetch_keys(state).await;
        }
        // Whoever explains a request sends none.
        let nobody = Origin {
            arrived: Instant::now(),
            client: IpAddr::V4(Ipv4Addr::LOCALHOST),
            failures: None,
        };
        admission(rule, credentials, nobody, parameter).await
    });
    let mut out = String::from("\ncredentials\n");
    // Writing to a String cannot fail.
    let _ = match admission {
        Admission::Anonymous => writeln!(out, "  none        which this route admits"),
        Admission::Identified(way, identity, _) | Admission::Forbidden(way, identity) => {
            describe_identity(rule, way, &identity, parameter, &mut out)
        }
        Admission::Throttled(seconds) => writeln!(out, "  429 for {seconds} s"),
        Admission::Elsewhere(way, decider) => {
            let name = rule.ways()[way].provider.name();
            writeln!(
                out,
                "  {name:<11} is asked about the request at {}",
                decider.target
            )
        }
        Admission::Refused(None, refusal) => {
            writeln!(
                out,
                "  none        401 Unauthorized: {}",
                refusal.description()
            )
        }
        Admission::Refused(Some(way), refusal) => {
            let status = match refusal.is_unavailability() {
                true => "503 Service unavailable",
                false => "401 Unauthorized",
            };
            let name = rule.ways()[way].provider.name();
            writeln!(out, "  {name:<11} {status}: {}", refusal.description())
        }
    };
    Ok(out)
}

fn describe_identity<'p>(
    rule: &Rule,
    way: usize,
    identity: &Identity,
    parameter: &impl Fn(usize) -> &'p str,
    out: &mut String,
) -> std::fmt::Result {
    let way = &rule.ways()[way];
    let subject = identity.subject().unwrap_or("somebody without a name");
    write!(out, "  {:<11} {subject}", way.provider.name())?;
    match identity.consumer() {
        Some(consumer) => writeln!(out, ", the consumer {}", consumer.name)?,
        None => writeln!(out)?,
    }
    let Some(requirement) = way.requirement() else {
        return Ok(());
    };
    for finding in requirement.explain(identity, parameter) {
        let mark = if finding.holds { '✓' } else { '✗' };
        writeln!(
            out,
            "    {mark} {:1$}{2}",
            "",
            finding.depth * 2,
            finding.text
        )?;
    }
    if !way.admits(identity, parameter) {
        writeln!(
            out,
            "              403 Forbidden: it lacks what is marked ✗"
        )?;
    }
    Ok(())
}
