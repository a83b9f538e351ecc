//! Each format, read as its readers do.

use std::time::{Duration, UNIX_EPOCH};

use http::{HeaderMap, HeaderValue, Method, Version};
use proptest::prelude::*;
use regex::bytes::Regex;

use crate::config::{
    AccessLog, AccessLogFormat, Diagnostics, LogSample, LogSampleFields, Ratio, Span, Spanned,
};
use crate::telemetry::record::Record;
use crate::telemetry::tracing::{SpanId, TraceId};
use crate::telemetry::{Flag, Flags, LineRules, Weight};

fn section(format: AccessLogFormat) -> AccessLog {
    let names = |names: &[&str]| names.iter().map(|it| (*it).to_owned().into()).collect();
    AccessLog {
        format,
        headers: names(&["Authorization", "User-Agent", "Referer"]),
        query: true,
        ..AccessLog::default()
    }
}

fn template(text: &str) -> AccessLogFormat {
    AccessLogFormat::Template(text.to_owned().into())
}

fn compile(section: &AccessLog) -> LineRules {
    let mut found = Diagnostics::default();
    let rules = LineRules::compile(section, &mut found);
    rules.unwrap_or_else(|| panic!("{found:?}"))
}

/// What clients choose.
#[derive(Debug, Default, Clone)]
struct Told {
    path: String,
    query: Option<String>,
    host: Vec<u8>,
    headers: HeaderMap,
}

fn write(rules: &LineRules, weight: Weight, told: &Told) -> Vec<u8> {
    let mut flags = Flags::default();
    flags.insert(Flag::RateLimited);
    flags.insert(Flag::Retried);
    let trace = TraceId::parse(b"0af7651916cd43dd8448eb211c80319c").unwrap();
    let span = SpanId::parse(b"b7ad6b7169203331").unwrap();
    let record = Record {
        time: UNIX_EPOCH + Duration::from_millis(1_700_000_000_042),
        id: "abc",
        trace: Some((trace, span)),
        client: Some("192.0.2.7"),
        method: &Method::GET,
        host: Some(&told.host),
        path: &told.path,
        query: told.query.as_deref(),
        version: Version::HTTP_11,
        route: Some("/a/{id}"),
        service: None,
        endpoint: None,
        consumer: Some("acme inc"),
        client_certificate: None,
        limit: Some("/a/{id}"),
        cache: Some(("miss", Some("no_store"))),
        status: 429,
        grpc_status: None,
        request_bytes: 1,
        response_bytes: 2,
        total: Duration::from_micros(77),
        queued: Some(Duration::from_micros(9)),
        pipeline: None,
        connected: None,
        first_byte: Some(Duration::from_micros(5)),
        attempts: 0,
        flags,
        headers: &told.headers,
    };
    let mut out = Vec::new();
    rules.write(&record, weight, &mut out);
    assert_eq!(out.pop(), Some(b'\n'));
    assert!(!out.contains(&b'\n'), "{}", out.escape_ascii());
    out
}

fn text(section: &AccessLog, told: &Told) -> String {
    String::from_utf8(write(&compile(section), Weight::ONE, told)).unwrap()
}

fn told() -> Told {
    let fields = [
        ("authorization", "Bearer secret"),
        ("user-agent", "curl/8 \"x\""),
    ];
    Told {
        path: "/a/1".into(),
        query: Some("page=2&token=t".into()),
        host: b"shop".to_vec(),
        headers: fields
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect(),
    }
}

#[test]
fn a_record_is_one_line_of_json() {
    let json: serde_json::Value =
        serde_json::from_str(&text(&section(AccessLogFormat::Json), &told())).unwrap();
    let expected = serde_json::json!({
        "time": "2023-11-14T22:13:20.042Z",
        "id": "abc",
        "trace_id": "0af7651916cd43dd8448eb211c80319c",
        "span_id": "b7ad6b7169203331",
        "client": "192.0.2.7",
        "method": "GET",
        "host": "shop",
        "path": "/a/1",
        "query": "page=2&token=[redacted]",
        "protocol": "HTTP/1.1",
        "route": "/a/{id}",
        "service": null,
        "endpoint": null,
        "consumer": "acme inc",
        "limit": "/a/{id}",
        "cache": "miss",
        "cache_reason": "no_store",
        "status": 429,
        "request_bytes": 1,
        "response_bytes": 2,
        "total_us": 77,
        "queued_us": 9,
        "first_byte_us": 5,
        "attempts": 0,
        "flags": ["rate_limited", "retried"],
        "headers": {"authorization": "[redacted]", "user-agent": "curl/8 \"x\""},
    });
    assert_eq!(json, expected);
}

#[test]
fn a_record_is_one_line_of_logfmt() {
    assert_eq!(
        text(&section(AccessLogFormat::Logfmt), &told()),
        "time=2023-11-14T22:13:20.042Z id=abc trace_id=0af7651916cd43dd8448eb211c80319c \
         span_id=b7ad6b7169203331 client=192.0.2.7 method=GET host=shop path=/a/1 \
         query=\"page=2&token=[redacted]\" protocol=HTTP/1.1 route=/a/{id} consumer=\"acme inc\" \
         limit=/a/{id} cache=miss cache_reason=no_store status=429 request_bytes=1 response_bytes=2 \
         total_us=77 queued_us=9 first_byte_us=5 attempts=0 flags=rate_limited,retried \
         request.headers.authorization=[redacted] request.headers.user-agent=\"curl/8 \\\"x\\\"\""
    );
}

#[test]
fn a_record_is_one_line_of_the_combined_format() {
    let mut section = section(AccessLogFormat::Combined);
    assert_eq!(
        text(&section, &told()),
        "192.0.2.7 - acme\\x20inc [14/Nov/2023:22:13:20 +0000] \
         \"GET /a/1?page=2&token=[redacted] HTTP/1.1\" 429 2 \"-\" \"curl/8 \\x22x\\x22\""
    );
    section.query = false;
    assert!(text(&section, &told()).contains("\"GET /a/1 HTTP/1.1\""));
}

#[test]
fn a_template_has_what_it_names_and_a_dash_for_what_is_not_there() {
    let format = template("{{{status}} {service} {query} {request.headers.Authorization} {flags}");
    assert_eq!(
        text(&section(format), &told()),
        "{429} - page=2&token=[redacted] [redacted] rate_limited,retried"
    );
}

#[test]
fn a_line_says_of_how_many_requests_it_is_one() {
    for (ratio, shown) in [("1%", "0.01"), ("0.0001%", "0.000001"), ("12.5%", "0.125")] {
        let fields = LogSampleFields {
            ratio: Ratio::parse(ratio).unwrap().into(),
            ..LogSampleFields::default()
        };
        let rules = compile(&AccessLog {
            sample: LogSample(fields),
            ..section(AccessLogFormat::Json)
        });
        let chosen = std::iter::repeat_with(|| rules.choose(false, Duration::ZERO));
        let weight = chosen.flatten().next().unwrap();
        let line = write(&rules, weight, &told());
        let line = String::from_utf8(line).unwrap();
        assert!(
            line.contains(&format!(",\"sample_ratio\":{shown},")),
            "{line}"
        );
    }
}

#[test]
fn what_a_template_can_t_be_is_reported() {
    for (text, message) in [
        ("{statsu}", "unknown field `{statsu}`"),
        (
            "{request.headers.a b}",
            "unknown field `{request.headers.a b}`",
        ),
        ("{status", "`{` without `}` in `{status`"),
        (
            "{status}\n",
            "a line break or control character in a template",
        ),
        (
            "x",
            "a template without a field: all lines would be the same",
        ),
    ] {
        let mut found = Diagnostics::default();
        let text = Spanned::new(text.to_owned(), Span::default());
        let section = section(AccessLogFormat::Template(text));
        assert!(LineRules::compile(&section, &mut found).is_none());
        assert_eq!(found.as_slice()[0].message, message);
    }
}

/// A line of logfmt as a map, by its grammar.
fn read_logfmt(line: &str) -> Vec<(String, String)> {
    let mut pairs = Vec::new();
    let mut rest = line;
    while !rest.is_empty() {
        let (name, after) = rest.split_once('=').unwrap();
        assert!(!name.contains([' ', '"']), "{line}");
        let (value, after) = if after.starts_with('"') {
            let mut values = serde_json::Deserializer::from_str(after).into_iter::<String>();
            let value = values.next().unwrap().unwrap();
            (value, &after[values.byte_offset()..])
        } else {
            let end = after.find(' ').unwrap_or(after.len());
            (after[..end].to_owned(), &after[end..])
        };
        pairs.push((name.to_owned(), value));
        rest = match after.strip_prefix(' ') {
            Some(rest) => rest,
            None => {
                assert!(after.is_empty(), "{line}");
                after
            }
        };
    }
    pairs
}

/// What `\xHH` stands for.
fn unescape(mut text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    while let Some((first, rest)) = text.split_first() {
        if *first == b'\\' {
            let digits = std::str::from_utf8(&rest[1..3]).unwrap();
            out.push(u8::from_str_radix(digits, 16).unwrap());
            text = &rest[3..];
        } else {
            out.push(*first);
            text = rest;
        }
    }
    out
}

fn anything() -> impl Strategy<Value = Told> {
    let header = proptest::collection::vec(
        any::<u8>().prop_filter("a field value", |byte| {
            *byte >= 0x20 && *byte != 0x7f || *byte == b'\t'
        }),
        0..20,
    );
    // Mostly what readers stumble over.
    let path = "(/|a|é| |\"|\\\\|=|\n|\r|\t|\u{1b}|\u{2028}|%0a|\\{|\\}|-|\\[|\\]){0,12}|.*";
    let host = proptest::collection::vec(any::<u8>(), 0..20);
    (path, proptest::option::of(path), host, header).prop_map(|(path, query, host, agent)| {
        let mut headers = HeaderMap::new();
        headers.insert("user-agent", HeaderValue::from_bytes(&agent).unwrap());
        Told {
            path,
            query,
            host,
            headers,
        }
    })
}

/// Nothing is withheld, so that all comes back.
fn open(format: AccessLogFormat) -> LineRules {
    compile(&AccessLog {
        redact_query: Vec::new(),
        ..section(format)
    })
}

proptest! {
    #[test]
    fn nothing_that_a_client_sends_breaks_json(told in anything()) {
        let line = write(&open(AccessLogFormat::Json), Weight::ONE, &told);
        let json: serde_json::Value = serde_json::from_slice(&line).unwrap();
        prop_assert_eq!(json["path"].as_str(), Some(&*told.path));
        prop_assert_eq!(json["query"].as_str(), told.query.as_deref());
        let host = String::from_utf8_lossy(&told.host);
        prop_assert_eq!(json["host"].as_str(), Some(&*host));
        let agent = String::from_utf8_lossy(told.headers["user-agent"].as_bytes());
        prop_assert_eq!(json["headers"]["user-agent"].as_str(), Some(&*agent));
    }

    #[test]
    fn nothing_that_a_client_sends_breaks_logfmt(told in anything()) {
        let line = write(&open(AccessLogFormat::Logfmt), Weight::ONE, &told);
        let pairs = read_logfmt(std::str::from_utf8(&line).unwrap());
        let names: std::collections::HashSet<_> = pairs.iter().map(|(name, _)| name).collect();
        prop_assert_eq!(names.len(), pairs.len());
        let value = |name: &str| {
            let pair = pairs.iter().find(|(known, _)| known == name);
            pair.map(|(_, value)| value.as_str())
        };
        prop_assert_eq!(value("path"), Some(&*told.path));
        prop_assert_eq!(value("query"), told.query.as_deref());
        let host = String::from_utf8_lossy(&told.host);
        prop_assert_eq!(value("host"), Some(&*host));
        prop_assert_eq!(value("status"), Some("429"));
    }

    #[test]
    fn nothing_that_a_client_sends_breaks_the_combined_format(told in anything()) {
        let line = write(&open(AccessLogFormat::Combined), Weight::ONE, &told);
        let combined = Regex::new(
            r#"^(\S+) (\S+) (\S+) \[([^\]]+)\] "(\S+) (\S+) (\S+)" (\d{3}) (\d+|-) "([^"]*)" "([^"]*)"$"#,
        );
        let parts = combined.unwrap();
        let parts = parts.captures(&line).unwrap();
        let mut target = told.path.into_bytes();
        if let Some(query) = told.query {
            target.push(b'?');
            target.extend_from_slice(query.as_bytes());
        }
        let or_dash = |bytes: Vec<u8>| if bytes.is_empty() { b"-".to_vec() } else { bytes };
        prop_assert_eq!(unescape(&parts[6]), or_dash(target));
        let agent = told.headers["user-agent"].as_bytes().to_vec();
        prop_assert_eq!(unescape(&parts[11]), or_dash(agent));
        prop_assert!(line.iter().all(|byte| (0x20..0x7f).contains(byte)));
    }

    #[test]
    fn the_separator_behind_a_field_never_stands_in_it(
        told in anything(),
        separator in "[ -,./:-@\\[\\]^_`{|}~]",
    ) {
        let in_template = separator.replace('{', "{{");
        let format = format!("{{path}}{in_template}{{host}}{in_template}{{request.headers.user-agent}}");
        let line = write(&open(template(&format)), Weight::ONE, &told);
        let separator = separator.as_bytes()[0];
        // The last one ends with the line.
        let parts: Vec<_> = line.splitn(3, |byte| *byte == separator).collect();
        let or_dash = |bytes: &[u8]| if bytes.is_empty() { b"-".to_vec() } else { bytes.to_vec() };
        prop_assert_eq!(unescape(parts[0]), or_dash(told.path.as_bytes()));
        prop_assert_eq!(unescape(parts[1]), or_dash(&told.host));
        prop_assert_eq!(unescape(parts[2]), or_dash(told.headers["user-agent"].as_bytes()));
    }
}
