//! A route, compiled: what becomes of the requests it takes.

use std::sync::Arc;

use super::policies::Policies;
use crate::config::{Config, RouteFields, Service as ServiceSection, Span};
use crate::telemetry::RouteMeter;
use crate::traffic::{Redirect, Respond, Template};
use crate::upstream::{Service, Split};

/// A route.
#[derive(Debug)]
pub struct Route {
    /// Its path or prefix as written, by which logs know it.
    pub name: Box<str>,
    /// The service it belongs to.
    pub service: Arc<str>,
    /// Where it is written.
    pub span: Span,
    /// The same after a reload and on every gateway, wherever it stands in the file.
    pub id: u64,
    /// What becomes of its requests.
    pub action: Action,
    /// What they must pass.
    pub policies: Policies,
    /// Where they are counted.
    pub meter: RouteMeter,
    /// Its place in the configuration: the number of its service, and its number there.
    pub(super) place: (u32, u32),
}

/// What becomes of a request.
#[derive(Debug)]
pub enum Action {
    /// It is forwarded.
    Forward(Forward),
    /// The client is sent elsewhere.
    Redirect(Redirect),
    /// The gateway answers.
    Respond(Respond),
}

/// Where and how requests are forwarded.
#[derive(Debug)]
pub struct Forward {
    /// The services that share the requests, mostly one.
    pub split: Split,
    /// Who gets copies.
    pub mirror: Option<Mirror>,
    /// What becomes of the path.
    pub rewrite: Rewrite,
}

/// Who gets copies of requests.
#[derive(Debug)]
pub struct Mirror {
    /// The service.
    pub service: Arc<Service>,
    /// The share of the requests, in percent.
    pub share: u8,
}

/// What becomes of the path of a forwarded request.
#[derive(Debug)]
pub enum Rewrite {
    /// It stays.
    Keep,
    /// This leading part is taken away.
    Strip(Box<str>),
    /// It is replaced.
    Replace(Template),
    /// This leading part is replaced.
    ReplacePrefix(Box<str>, Template),
}

impl Route {
    /// Where requests are forwarded, unless the route answers itself.
    pub fn forward(&self) -> Option<&Forward> {
        match &self.action {
            Action::Forward(forward) => Some(forward),
            Action::Redirect(_) | Action::Respond(_) => None,
        }
    }

    /// How it is written, and the service that it stands in.
    pub fn written<'c>(&self, config: &'c Config) -> Option<(&'c ServiceSection, &'c RouteFields)> {
        let (service, number) = self.place;
        let (_, service) = config.services.get_index(service as usize)?;
        let route = service.value.routes.get(number as usize)?;
        Some((&service.value, &route.value.0))
    }
}

impl Rewrite {
    /// Appends what a request for `path` becomes. Always starts with `/`, unless `out` holds the
    /// path of a base URL already and nothing is left to append.
    pub fn render<'a>(
        &self,
        path: &'a str,
        parameter: impl Fn(usize) -> &'a str,
        out: &mut String,
    ) {
        match self {
            Self::Keep => out.push_str(path),
            Self::Strip(leading) => append(path.strip_prefix(&**leading).unwrap_or(path), out),
            Self::Replace(template) => template.render(parameter, out),
            Self::ReplacePrefix(prefix, template) => {
                let start = out.len();
                template.render(parameter, out);
                if let Some(rest) = path.strip_prefix(&**prefix)
                    && !rest.is_empty()
                {
                    let end = start + out[start..].trim_end_matches('/').len();
                    out.truncate(end);
                    append(rest, out);
                }
            }
        }
    }
}

fn append(rest: &str, out: &mut String) {
    if !rest.starts_with('/') && (!rest.is_empty() || out.is_empty()) {
        out.push('/');
    }
    out.push_str(rest);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Diagnostics;

    fn rendered(rewrite: &Rewrite, base: &str, path: &'static str) -> String {
        let mut out = base.to_owned();
        rewrite.render(path, |_| "7", &mut out);
        out
    }

    #[test]
    fn a_stripped_path_keeps_one_slash() {
        let strip = Rewrite::Strip("/api".into());
        assert_eq!(rendered(&strip, "", "/api/v1"), "/v1");
        assert_eq!(rendered(&strip, "", "/api"), "/");
        assert_eq!(rendered(&strip, "/base", "/api"), "/base");
        assert_eq!(rendered(&strip, "/base", "/api/"), "/base/");
        assert_eq!(rendered(&strip, "", "/api//x"), "//x");
    }

    #[test]
    fn a_replaced_prefix_keeps_the_rest() {
        let template =
            Template::compile("/new/", &[], Span::default(), &mut Diagnostics::default()).unwrap();
        let replace = Rewrite::ReplacePrefix("/old".into(), template);
        assert_eq!(rendered(&replace, "", "/old/a/b"), "/new/a/b");
        assert_eq!(rendered(&replace, "/base", "/old"), "/base/new/");
    }
}
