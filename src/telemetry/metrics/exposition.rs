//! What is counted, as Prometheus reads it: its text format (0.0.4), or OpenMetrics (1.0).
//!
//! Both are lines of text that differ in a few words. Libraries for it know one of the two, or build every
//! sample as an object first, which takes longer than a scrape of ten thousand routes may.

/// Lines between two rests: some 30 µs of work.
const STEPS: u32 = 256;

/// In which words samples are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// The text format of Prometheus.
    Text,
    /// OpenMetrics.
    OpenMetrics,
}

impl Format {
    /// The one that a client asks for by its `Accept`. As those who scrape do, whoever names OpenMetrics
    /// prefers it.
    pub fn wanted(accept: Option<&str>) -> Self {
        let is_wanted = |range: &str| {
            let mut parts = range.split(';').map(str::trim);
            let is_named = parts
                .next()
                .is_some_and(|kind| kind.eq_ignore_ascii_case("application/openmetrics-text"));
            let weight = parts.find_map(|part| part.strip_prefix("q="));
            is_named && weight.is_none_or(|weight| weight.parse().is_ok_and(|it: f32| it > 0.0))
        };
        match accept.is_some_and(|accept| accept.split(',').any(is_wanted)) {
            true => Self::OpenMetrics,
            false => Self::Text,
        }
    }

    /// Its media type.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// A page of samples.
#[derive(Debug)]
pub struct Exposition {
    format: Format,
    page: Page,
}

/// What is written of it, and how its writer gives way.
#[derive(Debug)]
struct Page {
    text: String,
    rest: fn(),
    /// Since the last rest.
    steps: u32,
}

/// The samples of one name. All of them must be written before the next name begins.
#[derive(Debug)]
pub struct Family<'e> {
    page: &'e mut Page,
    name: &'static str,
}

/// Labels as they are written, without braces.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::telemetry) struct Labels(Box<str>);

impl Labels {
    /// The labels of these names and values.
    pub(in crate::telemetry) fn new(pairs: &[(&str, &str)]) -> Self {
        let mut text = String::new();
        write_labels(&mut text, pairs);
        Self(text.into())
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl Page {
    fn push(&mut self, parts: &[&str]) {
        push(&mut self.text, parts);
    }

    fn step(&mut self) {
        self.steps += 1;
        if self.steps == STEPS {
            self.steps = 0;
            (self.rest)();
        }
    }
}

impl Exposition {
    /// An empty page, with room for so many bytes.
    pub fn new(format: Format, room: usize) -> Self {
        Self {
            format,
            page: Page {
                text: String::with_capacity(room),
                rest: || {},
                steps: 0,
            },
        }
    }

    /// Has whoever writes a long page take a `rest` now and then.
    #[must_use]
    pub fn with_rests(mut self, rest: fn()) -> Self {
        self.page.rest = rest;
        self
    }

    /// Something was done for this page that takes as long as a line of it.
    pub(in crate::telemetry) fn step(&mut self) {
        self.page.step();
    }

    /// Begins a counter. Its name ends in `_total`.
    pub fn counter(&mut self, name: &'static str, help: &str) -> Family<'_> {
        self.family(name, "counter", help)
    }

    /// Begins a gauge.
    pub fn gauge(&mut self, name: &'static str, help: &str) -> Family<'_> {
        self.family(name, "gauge", help)
    }

    /// Begins a histogram.
    pub(super) fn histogram(&mut self, name: &'static str, help: &str) -> Family<'_> {
        self.family(name, "histogram", help)
    }

    /// The whole page.
    pub fn finish(mut self) -> String {
        if self.format == Format::OpenMetrics {
            self.page.push(&["# EOF\n"]);
        }
        self.page.text
    }

    fn family(&mut self, name: &'static str, kind: &str, help: &str) -> Family<'_> {
        let is_open = self.format == Format::OpenMetrics;
        // There the name is that of the family, whose samples have an ending.
        let family = match name.strip_suffix("_total") {
            Some(family) if is_open => family,
            _ => name,
        };
        let page = &mut self.page;
        page.push(&["# HELP ", family, " ", help, "\n"]);
        page.push(&["# TYPE ", family, " ", kind, "\n"]);
        let unit = ["seconds", "bytes"]
            .into_iter()
            .find(|unit| family.ends_with(unit));
        if let (true, Some(unit)) = (is_open, unit) {
            page.push(&["# UNIT ", family, " ", unit, "\n"]);
        }
        Family { page, name }
    }
}

impl Family<'_> {
    /// Writes a sample.
    pub fn sample(&mut self, labels: &[(&str, &str)], value: u64) {
        let text = &mut self.page.text;
        text.push_str(self.name);
        if !labels.is_empty() {
            text.push('{');
            write_labels(text, labels);
            text.push('}');
        }
        self.value(value);
    }

    /// Writes a sample that is a duration, of which the microseconds are known.
    pub fn sample_micros(&mut self, labels: &[(&str, &str)], micros: u64) {
        self.seconds("", Labels::new(labels).as_str(), micros);
    }

    /// Writes a sample with labels that are there already.
    pub(in crate::telemetry) fn of(&mut self, labels: &Labels, value: u64) {
        self.plain("", labels.as_str(), value);
    }

    /// Writes a sample with labels that are there already, and another one. That needs no escaping.
    pub(in crate::telemetry) fn with(&mut self, labels: &Labels, more: (&str, &str), value: u64) {
        self.part("", labels.as_str(), more, value);
    }

    /// Writes a sample with labels that are there already, and others that are written as they come.
    pub(super) fn both(&mut self, labels: &Labels, more: &str, value: u64) {
        self.page
            .push(&[self.name, "{", labels.as_str(), ",", more, "}"]);
        self.value(value);
    }

    pub(super) fn part(&mut self, ending: &str, labels: &str, more: (&str, &str), value: u64) {
        let comma = if labels.is_empty() { "" } else { "," };
        let (name, text) = more;
        self.page.push(&[
            self.name, ending, "{", labels, comma, name, "=\"", text, "\"}",
        ]);
        self.value(value);
    }

    pub(super) fn plain(&mut self, ending: &str, labels: &str, value: u64) {
        self.begin(ending, labels);
        self.value(value);
    }

    pub(super) fn seconds(&mut self, ending: &str, labels: &str, micros: u64) {
        self.begin(ending, labels);
        let (whole, part) = (micros / 1_000_000, micros % 1_000_000);
        let (mut before, mut after) = (itoa::Buffer::new(), itoa::Buffer::new());
        // The one in front keeps the zeros behind the point.
        let digits = after.format(1_000_000 + part)[1..].trim_end_matches('0');
        let digits = if digits.is_empty() { "0" } else { digits };
        self.page
            .push(&[" ", before.format(whole), ".", digits, "\n"]);
        self.page.step();
    }

    fn begin(&mut self, ending: &str, labels: &str) {
        match labels {
            "" => self.page.push(&[self.name, ending]),
            _ => self.page.push(&[self.name, ending, "{", labels, "}"]),
        }
    }

    fn value(&mut self, value: u64) {
        let mut digits = itoa::Buffer::new();
        self.page.push(&[" ", digits.format(value), "\n"]);
        self.page.step();
    }
}

fn push(text: &mut String, parts: &[&str]) {
    for part in parts {
        text.push_str(part);
    }
}

fn write_labels(text: &mut String, pairs: &[(&str, &str)]) {
    for (index, (name, value)) in pairs.iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        push(text, &[name, "=\""]);
        for character in value.chars() {
            match character {
                '\\' => text.push_str("\\\\"),
                '"' => text.push_str("\\\""),
                '\n' => text.push_str("\\n"),
                other => text.push(other),
            }
        }
        text.push('"');
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    fn page(format: Format) -> String {
        let mut page = Exposition::new(format, 0);
        let mut bytes = page.counter("a_bytes_total", "Bytes.");
        bytes.sample(&[("name", "x\"y\\z\n")], 7);
        bytes.with(&Labels::new(&[("name", "b")]), ("kind", "c"), 8);
        page.gauge("b", "Things.").sample(&[], 1);
        let mut seconds = page.gauge("c_seconds", "Time.");
        for micros in [1_500_000, 2_000_000, 7] {
            seconds.sample_micros(&[], micros);
        }
        page.finish()
    }

    #[test]
    fn the_text_format_names_samples() {
        assert_eq!(
            page(Format::Text),
            "# HELP a_bytes_total Bytes.\n# TYPE a_bytes_total counter\n\
             a_bytes_total{name=\"x\\\"y\\\\z\\n\"} 7\na_bytes_total{name=\"b\",kind=\"c\"} 8\n\
             # HELP b Things.\n# TYPE b gauge\nb 1\n\
             # HELP c_seconds Time.\n# TYPE c_seconds gauge\n\
             c_seconds 1.5\nc_seconds 2.0\nc_seconds 0.000007\n"
        );
    }

    #[test]
    fn openmetrics_names_families_and_their_units_and_has_an_end() {
        assert_eq!(
            page(Format::OpenMetrics),
            "# HELP a_bytes Bytes.\n# TYPE a_bytes counter\n# UNIT a_bytes bytes\n\
             a_bytes_total{name=\"x\\\"y\\\\z\\n\"} 7\na_bytes_total{name=\"b\",kind=\"c\"} 8\n\
             # HELP b Things.\n# TYPE b gauge\nb 1\n\
             # HELP c_seconds Time.\n# TYPE c_seconds gauge\n# UNIT c_seconds seconds\n\
             c_seconds 1.5\nc_seconds 2.0\nc_seconds 0.000007\n\
             # EOF\n"
        );
    }

    #[test]
    fn whoever_writes_many_lines_rests_in_between() {
        static RESTS: AtomicU32 = AtomicU32::new(0);
        let count = || {
            RESTS.fetch_add(1, Ordering::Relaxed);
        };
        let mut page = Exposition::new(Format::Text, 0).with_rests(count);
        for _ in 0..STEPS {
            page.step();
        }
        let mut things = page.gauge("b", "Things.");
        let mut rests = || {
            things.sample(&[], 1);
            things.plain("", "", 1);
            things.sample_micros(&[], 1);
            RESTS.load(Ordering::Relaxed)
        };
        assert_eq!((1..STEPS / 3).map(|_| rests()).max(), Some(1));
        assert_eq!((1..=STEPS / 3).map(|_| rests()).max(), Some(2));
    }

    #[test]
    fn openmetrics_is_for_who_names_it() {
        let prometheus = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;\
                          version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        assert_eq!(Format::wanted(Some(prometheus)), Format::OpenMetrics);
        for accept in [
            None,
            Some("*/*"),
            Some("text/plain;version=0.0.4"),
            Some("application/openmetrics-text;q=0, text/plain"),
        ] {
            assert_eq!(Format::wanted(accept), Format::Text, "{accept:?}");
        }
    }
}
