//! Diagnostics as rustc shows them: place, source line, what is wrong and what would be right.

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};

use super::diagnostic::{Diagnostic, Severity};
use super::source::{Source, Span};

/// A source line longer than this is shown in part.
const LONGEST_LINE: usize = 400;
const WIDTH: usize = 120;

/// Renders findings about one file, with a summary at the end. Empty for none. Secrets that are written there are
/// not shown: a report may go to a log, or to operators elsewhere.
pub fn render(diagnostics: &[Diagnostic], source: &Source, is_coloured: bool) -> String {
    let renderer = if is_coloured {
        Renderer::styled()
    } else {
        Renderer::plain()
    };
    let renderer = renderer.term_width(WIDTH);
    let secrets = diagnostics.iter().filter(|it| it.is_secret);
    let source = &masked(source, secrets.map(|it| it.span));
    let mut out = String::new();
    for diagnostic in diagnostics {
        out.push_str(&render_one(diagnostic, source, &renderer));
        out.push_str("\n\n");
    }
    out.push_str(&summary(diagnostics));
    out
}

/// The same file with asterisks, byte by byte, in the place of what is secret.
fn masked(source: &Source, secrets: impl Iterator<Item = Span>) -> Source {
    let mut text = source.text.to_string();
    for secret in secrets {
        let [start, end] =
            [secret.start, secret.end].map(|offset| floor(&text, offset.min(text.len())));
        let hidden: String = text
            .get(start..end)
            .unwrap_or_default()
            .bytes()
            .map(|byte| if byte == b'\n' { '\n' } else { '*' })
            .collect();
        if start < end {
            text.replace_range(start..end, &hidden);
        }
    }
    Source::new(&source.path, text)
}

fn summary(diagnostics: &[Diagnostic]) -> String {
    let count = |severity| {
        diagnostics
            .iter()
            .filter(|d| d.severity == severity)
            .count()
    };
    let words = |count: usize, noun: &str| match count {
        0 => None,
        1 => Some(format!("1 {noun}")),
        _ => Some(format!("{count} {noun}s")),
    };
    let errors = words(count(Severity::Error), "error");
    let warnings = words(count(Severity::Warning), "warning");
    match (errors, warnings) {
        (Some(errors), Some(warnings)) => format!("{errors}, {warnings}\n"),
        (Some(only), None) | (None, Some(only)) => format!("{only}\n"),
        (None, None) => String::new(),
    }
}

fn render_one(diagnostic: &Diagnostic, source: &Source, renderer: &Renderer) -> String {
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let excerpt = Excerpt::around(source, diagnostic.span);
    let path = source.path.display().to_string();
    let mut annotation = AnnotationKind::Primary.span(excerpt.underlined.clone());
    if let Some(label) = &diagnostic.label {
        annotation = annotation.label(label.as_str());
    }
    let related: Vec<(Excerpt<'_>, &str)> = diagnostic
        .related
        .iter()
        .map(|(span, text)| (Excerpt::around(source, *span), text.as_str()))
        .collect();
    let mut group = level.primary_title(diagnostic.message.as_str()).element(
        Snippet::source(excerpt.line)
            .line_start(excerpt.number)
            .path(path.as_str())
            .annotation(annotation),
    );
    for (excerpt, text) in &related {
        group = group.element(
            Snippet::source(excerpt.line)
                .line_start(excerpt.number)
                .path(path.as_str())
                .annotation(
                    AnnotationKind::Context
                        .span(excerpt.underlined.clone())
                        .label(*text),
                ),
        );
    }
    if let Some(help) = &diagnostic.help {
        group = group.element(Level::HELP.message(help.as_str()));
    }
    renderer.render(&[group])
}

/// The line that a span starts on, and the part of it to underline.
struct Excerpt<'s> {
    line: &'s str,
    number: usize,
    underlined: std::ops::Range<usize>,
}

impl<'s> Excerpt<'s> {
    fn around(source: &'s Source, span: Span) -> Self {
        let text: &str = &source.text;
        let start = floor(text, span.start.min(text.len()));
        let line_start = text[..start].rfind('\n').map_or(0, |end| end + 1);
        let number = text[..line_start].matches('\n').count() + 1;
        let line_end = text[start..]
            .find('\n')
            .map_or(text.len(), |end| start + end);
        let mut line = text[line_start..line_end].trim_end_matches('\r');
        let mut from = start - line_start;
        let mut to = floor(text, span.end.clamp(start, line_end)) - line_start;
        if line.len() > LONGEST_LINE {
            let cut = floor(line, from.saturating_sub(LONGEST_LINE / 2));
            let end = floor(line, (cut + LONGEST_LINE).min(line.len()));
            line = &line[cut..end];
            from -= cut;
            to = to.saturating_sub(cut);
        }
        from = from.min(line.len());
        to = to.clamp(from, line.len());
        Self {
            line,
            number,
            underlined: from..to,
        }
    }
}

fn floor(text: &str, mut offset: usize) -> usize {
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    offset
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn finding(span: Span) -> Diagnostic {
        let mut finding = Diagnostic::new(Severity::Error, span, "unknown key `ratelimit`");
        finding
            .label("did you mean `rate_limit`?")
            .help("valid keys: `rate_limit`");
        finding.related(Span::new(0, 3), "related");
        finding
    }

    #[test]
    fn a_finding_points_at_its_place() {
        let source = Source::new("t.yaml", "a: 1\nratelimit: 5\n");
        let shown = render(&[finding(Span::new(5, 14))], &source, false);
        assert!(shown.contains("error: unknown key `ratelimit`"), "{shown}");
        assert!(shown.contains("t.yaml:2:1"), "{shown}");
        assert!(
            shown.contains("^^^^^^^^^ did you mean `rate_limit`?"),
            "{shown}"
        );
        assert!(shown.contains("help: valid keys"), "{shown}");
        assert!(shown.ends_with("1 error\n"), "{shown}");
    }

    #[test]
    fn no_finding_shows_a_secret() {
        let source = Source::new("t.yaml", "{ secret: hünter2, typo: 5 }\n");
        let mut warning = Diagnostic::new(Severity::Warning, Span::new(10, 18), "plain");
        warning.secret();
        let beside = Diagnostic::new(Severity::Error, Span::new(20, 24), "unknown key");
        let shown = render(&[warning, beside], &source, false);
        assert!(!shown.contains("nter2"), "{shown}");
        assert_eq!(
            shown.matches("secret: ********, typo: 5").count(),
            2,
            "{shown}"
        );
    }

    proptest! {
        #[test]
        fn no_text_and_no_span_panics(text in "[a-z:\n\r\t\u{0}äあ\u{feff}\u{202e}]{0,60}", start in 0..80usize, end in 0..80usize) {
            let source = Source::new("t.yaml", text);
            let mut secret = finding(Span::new(start, end));
            secret.secret();
            render(&[finding(Span::new(start, end)), secret], &source, true);
        }
    }

    #[test]
    fn a_line_of_a_megabyte_is_shown_in_part() {
        let source = Source::new("t.yaml", "x".repeat(1 << 20));
        assert!(render(&[finding(Span::new(500_000, 1 << 20))], &source, false).len() < 10_000);
    }
}
