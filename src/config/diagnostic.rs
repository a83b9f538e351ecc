//! What is wrong, or suspicious, in a configuration: collected, all of it, with its place.

use super::source::Span;

/// Whether a diagnostic keeps the configuration from being used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// It can't be used.
    Error,
    /// It can, but probably does not do what was meant.
    Warning,
}

/// One finding, as rustc would show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// Error or warning.
    pub severity: Severity,
    /// What is wrong, in one lower-case sentence without a full stop.
    pub message: String,
    /// Where; underlined in the source line.
    pub span: Span,
    /// A few words under the underlined text.
    pub label: Option<String>,
    /// Other places that matter, such as the first of two routes in conflict.
    pub related: Vec<(Span, String)>,
    /// What would be right.
    pub help: Option<String>,
    /// Whether what stands there is not to be shown, by this finding or another.
    pub is_secret: bool,
}

impl Diagnostic {
    /// A finding at `span`.
    pub fn new(severity: Severity, span: Span, message: impl Into<String>) -> Self {
        Self {
            severity,
            message: message.into(),
            span,
            label: None,
            related: Vec::new(),
            help: None,
            is_secret: false,
        }
    }

    /// Sets the words under the underlined text.
    pub fn label(&mut self, text: impl Into<String>) -> &mut Self {
        self.label = Some(text.into());
        self
    }

    /// Points at another place.
    pub fn related(&mut self, span: Span, text: impl Into<String>) -> &mut Self {
        self.related.push((span, text.into()));
        self
    }

    /// Keeps what stands there from being shown.
    pub fn secret(&mut self) -> &mut Self {
        self.is_secret = true;
        self
    }

    /// Says what would be right.
    pub fn help(&mut self, text: impl Into<String>) -> &mut Self {
        self.help = Some(text.into());
        self
    }
}

/// The place of no map.
const NOWHERE: Span = Span::new(usize::MAX, usize::MAX);

/// Everything found so far. Checks add to it and go on, so that one run reports all.
#[derive(Debug, Default)]
pub struct Diagnostics {
    found: Vec<Diagnostic>,
    /// Entries that could not be read: the place of their map, and their key.
    lost: Vec<(Span, String)>,
}

impl Diagnostics {
    /// Adds an error; the returned finding can be completed.
    pub fn error(&mut self, span: Span, message: impl Into<String>) -> &mut Diagnostic {
        self.push(Diagnostic::new(Severity::Error, span, message))
    }

    /// Adds a warning; the returned finding can be completed.
    pub fn warning(&mut self, span: Span, message: impl Into<String>) -> &mut Diagnostic {
        self.push(Diagnostic::new(Severity::Warning, span, message))
    }

    /// Adds a finding made elsewhere.
    pub fn push(&mut self, diagnostic: Diagnostic) -> &mut Diagnostic {
        self.found.push(diagnostic);
        let last = self.found.len() - 1;
        &mut self.found[last]
    }

    /// Remembers an entry that was wrong and is missing for that reason, as in
    /// [`Diagnostics::has_lost`].
    pub(super) fn lose(&mut self, map: Span, key: &str) {
        self.lost.push((map, key.to_owned()));
    }

    /// Remembers a name that has errors of its own, so that uses of it are not reported as unknown.
    pub fn lose_name(&mut self, name: &str) {
        self.lose(NOWHERE, name);
    }

    /// Whether an entry under the key `name` has been reported as wrong already.
    pub fn has_lost_key(&self, name: &str) -> bool {
        self.lost.iter().any(|(_, key)| key == name)
    }

    /// Whether what would be at `span`, or under the key `name` anywhere, has been reported as
    /// wrong already, so that its absence is no news.
    pub fn has_lost(&self, span: Span, name: &str) -> bool {
        self.lost
            .iter()
            .any(|(map, key)| *map == span || key == name)
    }

    /// Whether an error has been found inside `span`, so that what is missing there is no news.
    pub fn has_error_within(&self, span: Span) -> bool {
        self.found.iter().any(|finding| {
            finding.severity == Severity::Error
                && (span.start..=span.end).contains(&finding.span.start)
                && finding.span.end <= span.end
        })
    }

    /// Whether there is an error among the findings.
    pub fn has_errors(&self) -> bool {
        self.found
            .iter()
            .any(|finding| finding.severity == Severity::Error)
    }

    /// The findings, in the order of the file.
    pub fn into_sorted(mut self) -> Vec<Diagnostic> {
        self.found
            .sort_by_key(|finding| (finding.span.start, finding.severity));
        self.found
    }

    /// The findings, in the order in which they were made.
    pub fn as_slice(&self) -> &[Diagnostic] {
        &self.found
    }
}

/// The candidate that a mistyped word was most likely meant to be, if any is near.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = word.to_lowercase();
    candidates
        .into_iter()
        .map(|candidate| {
            (
                strsim::damerau_levenshtein(&lower, &candidate.to_lowercase()),
                candidate,
            )
        })
        .filter(|(distance, candidate)| *distance <= (candidate.len().max(word.len()) / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}
