//! `tollgate explain`.

use std::fmt::Write;
use std::sync::Arc;

use clap::Args;
use http::{Method, Uri};

use super::configuration::{Usable, print};
use super::{ConfigFile, Failure};
use crate::admin::{
    Asked, Configured, Decided, Explained, Kept, NotTaken, Outcome, Part, PolicyLevel,
    PolicyReport, ShownCredentials, Taken, explain as decide,
};
use crate::server::fetch_keys;

/// Width of the names of policies, unless there is a longer one.
const NAME_WIDTH: usize = 11;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    file: ConfigFile,
    /// The method
    #[arg(
        short = 'X',
        long = "request",
        value_name = "METHOD",
        default_value = "GET"
    )]
    method: Method,
    /// A header field, as `Name: value`; may be repeated
    #[arg(short = 'H', long = "header", value_name = "FIELD")]
    headers: Vec<String>,
    /// The URL, or only its path
    url: Uri,
}

/// Prints what would become of a request.
pub(super) fn explain(arguments: &Arguments) -> Result<(), Failure> {
    let Usable {
        loaded,
        snapshot,
        state,
        ..
    } = arguments.file.compile()?;
    let (method, url) = (arguments.method.clone(), arguments.url.clone());
    let asked = Asked::new(method, url, &arguments.headers).map_err(Failure::Other)?;
    let configured = Configured {
        snapshot: Arc::new(snapshot),
        config: loaded.config,
        source: loaded.source,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let explained = runtime.block_on(async {
        let explained = decide(&configured, &asked).await?;
        let credentials = explained
            .taken
            .as_ref()
            .and_then(|it| it.credentials.as_ref());
        match credentials.map(|it| it.outcome) {
            // Unlike a gateway, this process has no keys but those it fetches now.
            Some(Outcome::Unavailable) => {
                fetch_keys(&state).await;
                decide(&configured, &asked).await
            }
            _ => Ok(explained),
        }
    });
    let explained =
        explained.map_err(|error| Failure::Other(format!("400 Bad request: {error}")))?;
    print(&describe(&explained, arguments))
}

fn describe(explained: &Explained, arguments: &Arguments) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(out, "{} {}", arguments.method, arguments.url);
    if explained.path != arguments.url.path() {
        let _ = writeln!(out, "  path      {} (made canonical)", explained.path);
    }
    let _ = match (explained.decision, &explained.taken) {
        (Decided::Route, Some(taken)) => describe_taken(taken, &mut out),
        (Decided::MethodNotAllowed, _) => writeln!(
            out,
            "  answer    405 Method not allowed; the path takes {}",
            explained.allow.join(", ")
        ),
        _ => writeln!(
            out,
            "  answer    404 Not found: no route takes this request"
        ),
    };
    if !explained.not_taken.is_empty() {
        let _ = writeln!(out, "\nnot taken");
    }
    for NotTaken {
        route,
        service,
        place,
        reasons,
    } in &explained.not_taken
    {
        let reasons = reasons.join(", ");
        let _ = writeln!(out, "  {route} of {service}  {place}\n    {reasons}");
    }
    let taken = explained.taken.as_ref();
    if let Some(kept) = taken.and_then(|it| it.cache.as_ref()) {
        let _ = describe_kept(kept, &mut out);
    }
    if let Some(credentials) = taken.and_then(|it| it.credentials.as_ref()) {
        let _ = describe_credentials(credentials, &mut out);
    }
    out
}

fn describe_taken(taken: &Taken, out: &mut String) -> std::fmt::Result {
    writeln!(out, "  route     {}  {}", taken.route, taken.place)?;
    writeln!(out, "  service   {}", services(taken))?;
    if let Some(Part { service, percent }) = &taken.mirror {
        writeln!(out, "  mirror    {service}, {percent}%")?;
    }
    if let Some(answer) = &taken.answer {
        match answer.bytes {
            None => writeln!(out, "  answer    redirect with {}", status(answer.status))?,
            Some(bytes) => writeln!(out, "  answer    {}, {bytes} bytes", status(answer.status))?,
        }
    }
    for (index, url) in taken.urls.iter().enumerate() {
        let word = if index == 0 { "upstream " } else { "       or" };
        writeln!(out, "  {word} {url}")?;
    }
    describe_policies(&taken.policies, out)
}

fn describe_policies(policies: &[PolicyReport], out: &mut String) -> std::fmt::Result {
    writeln!(out, "\npolicies, in the order in which they run")?;
    let longest = policies.iter().map(|policy| policy.name.len()).max();
    let width = longest.unwrap_or_default().max(NAME_WIDTH);
    for policy in policies {
        let level = match policy.level {
            PolicyLevel::Top => "top level",
            PolicyLevel::Service => "service",
            PolicyLevel::Route => "route",
            PolicyLevel::Default => "default",
        };
        let place = policy.place.as_deref().unwrap_or_default();
        writeln!(
            out,
            "  {:<width$} {}\n  {:<width$} {level}  {place}",
            policy.name, policy.text, ""
        )?;
    }
    Ok(())
}

/// The service of a route, or those that share its requests.
fn services(taken: &Taken) -> String {
    match &taken.services[..] {
        [] => taken.service.clone(),
        [only] => only.service.clone(),
        several => {
            let parts = several.iter();
            let parts = parts.map(|it| format!("{} {:.1}%", it.service, it.percent));
            parts.collect::<Vec<_>>().join(", ")
        }
    }
}

fn status(status: u16) -> String {
    let known = http::StatusCode::from_u16(status);
    known.map_or_else(|_| status.to_string(), |it| it.to_string())
}

fn describe_kept(kept: &Kept, out: &mut String) -> std::fmt::Result {
    writeln!(out, "\nkept answers")?;
    if let Some(why) = &kept.bypass {
        return writeln!(out, "  none is looked for: {why}");
    }
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    writeln!(out, "  looked for  {}", text(&kept.location))?;
    writeln!(out, "  apart by    {}", kept.apart_by.join(", "))?;
    writeln!(out, "  fresh       {}", text(&kept.fresh))?;
    match &kept.disk {
        Some(folder) => writeln!(out, "  where       in memory, and on disk in {folder}"),
        None => Ok(()),
    }
}

fn describe_credentials(shown: &ShownCredentials, out: &mut String) -> std::fmt::Result {
    writeln!(out, "\ncredentials")?;
    let provider = shown.provider.as_deref().unwrap_or("none");
    let reason = shown.reason.as_deref().unwrap_or_default();
    match shown.outcome {
        Outcome::Anonymous => return writeln!(out, "  {provider:<11} which this route admits"),
        Outcome::Refused => {
            return writeln!(out, "  {provider:<11} 401 Unauthorized: {reason}");
        }
        Outcome::Unavailable => {
            return writeln!(out, "  {provider:<11} 503 Service unavailable: {reason}");
        }
        Outcome::Elsewhere => {
            let target = shown.target.as_deref().unwrap_or_default();
            return writeln!(
                out,
                "  {provider:<11} is asked about the request at {target}"
            );
        }
        Outcome::Accepted | Outcome::Forbidden => {}
    }
    let subject = shown
        .subject
        .as_deref()
        .unwrap_or("somebody without a name");
    write!(out, "  {provider:<11} {subject}")?;
    match &shown.consumer {
        Some(consumer) => writeln!(out, ", the consumer {consumer}")?,
        None => writeln!(out)?,
    }
    for condition in &shown.conditions {
        let mark = if condition.holds { '✓' } else { '✗' };
        let indent = condition.depth * 2;
        writeln!(out, "    {mark} {:indent$}{}", "", condition.text)?;
    }
    if shown.outcome == Outcome::Forbidden {
        writeln!(
            out,
            "              403 Forbidden: it lacks what is marked ✗"
        )?;
    }
    Ok(())
}
