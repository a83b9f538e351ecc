//! The dashboard: one page that shows what the rest of this address tells, and asks for what it can be asked. It is
//! in the program and needs nothing from elsewhere.
//!
//! The page holds nothing that is secret: whoever reaches the address gets it. What it shows it asks for like any
//! client, with the token where that is needed.

use http::{HeaderName, HeaderValue, Method, StatusCode, header};

use super::answer::Answer;

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const IMAGE: &str = "image/svg+xml";

/// Nothing but its own files and this address; no script and no style within the page, and no text that becomes a
/// part of it as markup.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
                      require-trusted-types-for 'script'; trusted-types 'none'";
const PERMISSIONS: HeaderName = HeaderName::from_static("permissions-policy");
const NO_PERMISSIONS: &str = "camera=(), geolocation=(), microphone=(), payment=(), usb=()";

/// A file of the page.
#[derive(Debug)]
struct File {
    path: &'static str,
    kind: &'static str,
    text: &'static str,
}

macro_rules! files {
    ($($name:literal $kind:ident,)*) => {
        [$(File {
            path: concat!("/dashboard/", $name),
            kind: $kind,
            text: include_str!(concat!("dashboard/", $name)),
        },)*]
    };
}

static PAGE: File = File {
    path: "/",
    kind: HTML,
    text: include_str!("dashboard/index.html"),
};
static FILES: [File; 28] = files! {
    "icon.svg" IMAGE,
    "tokens.css" CSS,
    "layout.css" CSS,
    "controls.css" CSS,
    "states.css" CSS,
    "charts.css" CSS,
    "tables.css" CSS,
    "theme.js" SCRIPT,
    "main.js" SCRIPT,
    "cache.js" SCRIPT,
    "chart.js" SCRIPT,
    "configuration.js" SCRIPT,
    "dialog.js" SCRIPT,
    "element.js" SCRIPT,
    "errors.js" SCRIPT,
    "events.js" SCRIPT,
    "explain.js" SCRIPT,
    "format.js" SCRIPT,
    "gateway.js" SCRIPT,
    "limits.js" SCRIPT,
    "live.js" SCRIPT,
    "map.js" SCRIPT,
    "panel.js" SCRIPT,
    "refusals.js" SCRIPT,
    "routes.js" SCRIPT,
    "services.js" SCRIPT,
    "states.js" SCRIPT,
    "traffic.js" SCRIPT,
};

/// The answer to a request for a file of the page, if it is one.
pub(super) fn file(method: &Method, path: &str) -> Option<Answer> {
    let file = match path {
        "/" => &PAGE,
        _ => FILES.iter().find(|it| it.path == path)?,
    };
    if method != Method::GET && method != Method::HEAD {
        let answer = Answer::text(StatusCode::METHOD_NOT_ALLOWED, "only GET, HEAD");
        return Some(answer.with(header::ALLOW, HeaderValue::from_static("GET, HEAD")));
    }
    let kind = HeaderValue::from_static(file.kind);
    let answer = Answer::of(StatusCode::OK, kind, file.text)
        .with(
            header::CONTENT_SECURITY_POLICY,
            HeaderValue::from_static(POLICY),
        )
        .with(
            header::REFERRER_POLICY,
            HeaderValue::from_static("no-referrer"),
        )
        .with(PERMISSIONS, HeaderValue::from_static(NO_PERMISSIONS));
    Some(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_that_the_page_asks_for_is_there_and_no_other() {
        let texts = FILES.iter().chain([&PAGE]).map(|it| it.text);
        let texts = texts.collect::<Vec<_>>().concat();
        for file in &FILES {
            let name = file.path.trim_start_matches("/dashboard/");
            let is_used = texts.contains(&format!("\"{}\"", file.path))
                || texts.contains(&format!("from \"./{name}\""));
            assert!(is_used, "{name} is of no use");
        }
        for name in texts.split("from \"./").skip(1) {
            let name = name.split('"').next().unwrap();
            let path = format!("/dashboard/{name}");
            assert!(file(&Method::GET, &path).is_some(), "{name} is missing");
        }
        let mut folder: Vec<_> = std::fs::read_dir("src/admin/dashboard").unwrap().collect();
        folder.retain(|it| it.is_ok());
        assert_eq!(folder.len(), FILES.len() + 1);
    }

    #[test]
    fn the_page_is_all_in_its_own_files() {
        for foreign in [
            "<style",
            "style=\"",
            "onclick",
            "innerHTML",
            "eval(",
            "//cdn",
        ] {
            for file in FILES.iter().chain([&PAGE]) {
                assert!(!file.text.contains(foreign), "{foreign} in {}", file.path);
            }
        }
        let scripts = PAGE.text.matches("<script").count();
        assert_eq!(
            PAGE.text.matches("<script src=").count()
                + PAGE.text.matches("<script type=\"module\" src=").count(),
            scripts
        );
    }
}
