//! A configuration as it is in force: every value with its default, where it was written, and no secret.

use serde_json::{Map, Value as Json};

use super::diagnostic::Diagnostics;
use super::interpolate::Environment;
use super::mask::{MASK, url};
use super::node::{Node, Scalar, Value};
use super::root::Config;
use super::source::{Source, Span};
use super::yaml;

/// A configuration as it is in force.
#[derive(Debug)]
pub struct Effective {
    /// Every value, in the words of the language. A text that holds a variable is shown as it was written:
    /// nobody knows which of them are secret.
    pub values: Json,
    /// Where the values were written that are no defaults, by JSON Pointer (RFC 6901).
    pub origins: Vec<(String, Span)>,
}

/// The configuration that was read from a text, as it is in force.
pub fn effective(config: &Config, source: &Source, environment: Environment<'_>) -> Effective {
    let mut values = serde_json::to_value(config).unwrap_or_default();
    let mut origins = Vec::new();
    // What is wrong with the text was reported when the configuration was read.
    if let Some(root) = yaml::parse(&source.text, environment, &mut Diagnostics::default()) {
        let mut reader = Reader {
            source,
            origins: &mut origins,
        };
        reader.compare(&root, &mut values, &mut String::new());
    }
    leave_out_nothing(&mut values);
    hide_in_urls(&mut values);
    Effective { values, origins }
}

/// Goes through what was written and what came of it side by side.
struct Reader<'r> {
    source: &'r Source,
    origins: &'r mut Vec<(String, Span)>,
}

impl Reader<'_> {
    fn compare(&mut self, written: &Node, value: &mut Json, pointer: &mut String) {
        if value.is_null() {
            return;
        }
        self.origins.push((pointer.clone(), written.span));
        match (&written.value, value) {
            (Value::Map(entries), Json::Object(fields)) => {
                for (key, inner) in entries {
                    if let Value::Scalar(key) = &key.value
                        && let Some(field) = fields.get_mut(&key.text)
                    {
                        self.step(&key.text, inner, field, pointer);
                    }
                }
            }
            (Value::List(items), Json::Array(values)) => {
                for (number, (item, value)) in std::iter::zip(items, values).enumerate() {
                    self.step(&number.to_string(), item, value, pointer);
                }
            }
            // One in place of a list of one.
            (_, Json::Array(values)) => {
                if let Some(only) = values.first_mut() {
                    self.step("0", written, only, pointer);
                }
            }
            // A short form is the value of the first field.
            (Value::Scalar(_), Json::Object(fields)) => {
                if let Some((name, field)) = fields.iter_mut().next() {
                    self.step(&name.clone(), written, field, pointer);
                }
            }
            (Value::Scalar(scalar), Json::String(text)) => self.hide(scalar, written.span, text),
            _ => {}
        }
    }

    fn step(&mut self, name: &str, written: &Node, value: &mut Json, pointer: &mut String) {
        let length = pointer.len();
        pointer.push('/');
        pointer.push_str(&name.replace('~', "~0").replace('/', "~1"));
        self.compare(written, value, pointer);
        pointer.truncate(length);
    }

    /// Puts what was written in place of what a variable stands for.
    fn hide(&self, scalar: &Scalar, span: Span, text: &mut String) {
        if scalar.is_interpolated && text != MASK {
            let written = self.source.text.get(span.start..span.end);
            let written = written.unwrap_or(MASK);
            *text = written.trim().trim_matches(['"', '\'']).to_owned();
        }
    }
}

/// Takes away what is not there.
pub(super) fn leave_out_nothing(value: &mut Json) {
    match value {
        Json::Object(fields) => {
            let kept = std::mem::take(fields).into_iter();
            let kept = kept.filter(|(_, field)| !field.is_null());
            *fields = kept.collect::<Map<_, _>>();
            fields.values_mut().for_each(leave_out_nothing);
        }
        Json::Array(values) => values.iter_mut().for_each(leave_out_nothing),
        _ => {}
    }
}

fn hide_in_urls(value: &mut Json) {
    match value {
        Json::Object(fields) => fields.values_mut().for_each(hide_in_urls),
        Json::Array(values) => values.iter_mut().for_each(hide_in_urls),
        Json::String(text) => *text = url(text).into_owned(),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::{Loaded, parse};
    use super::*;

    const VARIABLES: &[(&str, &str)] = &[("PASSWORD", "hunter2"), ("PORT", "9001"), ("N", "7")];

    fn environment(name: &str) -> Option<String> {
        let mut variables = VARIABLES.iter();
        let (_, value) = variables.find(|(known, _)| *known == name)?;
        Some((*value).to_owned())
    }

    fn read(text: &str) -> Loaded {
        let loaded = parse(Source::new("t.yaml", text), &environment);
        assert!(
            !loaded.diagnostics.has_errors(),
            "{:#?}",
            loaded.diagnostics
        );
        loaded
    }

    fn of(text: &str) -> (Json, Json) {
        let loaded = read(text);
        let Effective { values, origins } = effective(&loaded.config, &loaded.source, &environment);
        let origins = origins.into_iter();
        let origins = origins.map(|(pointer, span)| (pointer, loaded.source.locate(span)));
        (values, origins.collect())
    }

    #[test]
    fn every_value_that_was_written_has_its_place_and_no_other() {
        let (values, origins) = of("server:\n  listen: 0.0.0.0:80\n  watch_files: false\n\
             services:\n  a/b:\n    base_url: http://h\n    routes:\n    - /x\n    - { path: /y, methods: [GET] }\n");
        for (pointer, value, place) in [
            ("/server/listen/0/address", json!("0.0.0.0:80"), "2:11"),
            ("/server/watch_files", json!(false), "3:16"),
            ("/services/a~1b/base_url", json!("http://h"), "6:15"),
            ("/services/a~1b/routes/0/path", json!("/x"), "8:7"),
            ("/services/a~1b/routes/1/methods/0", json!("GET"), "9:29"),
        ] {
            assert_eq!(values.pointer(pointer), Some(&value), "{pointer}");
            assert_eq!(origins[pointer], format!("t.yaml:{place}"), "{pointer}");
        }
        assert_eq!(values["server"]["upstream_pool"], 1024);
        assert_eq!(origins["/server/upstream_pool"], Json::Null);
        for pointer in origins.as_object().unwrap().keys() {
            assert!(values.pointer(pointer).is_some(), "{pointer}");
        }
    }

    #[test]
    fn a_text_with_a_variable_is_shown_as_it_was_written() {
        let (values, _) = of(
            "server:\n  upstream_pool: ${N}\ntracing: { resource: { a: \"x ${PASSWORD}\" } }\n\
             services: { a: { base_url: \"http://h:${PORT}\", targets: [] } }\n",
        );
        assert_eq!(values["server"]["upstream_pool"], 7);
        assert_eq!(values["tracing"]["resource"]["a"], "x ${PASSWORD}");
        assert_eq!(values["services"]["a"]["base_url"], "http://h:${PORT}");
        assert!(!values.to_string().contains("hunter2"));
    }

    #[test]
    fn what_is_shown_can_be_read_again_and_means_the_same() {
        let reference = include_str!("../../conf/reference.yaml");
        let loaded = parse(Source::new("t.yaml", reference), &|_| Some("x".to_owned()));
        let shown = serde_json::to_value(&loaded.config).unwrap();
        // In quotes it would be a text.
        let text = shown.to_string().replace("\"off\"", "off");
        let again = parse(Source::new("t.yaml", text), &|_| None);
        let shown_again = serde_json::to_value(&again.config).unwrap();
        assert_eq!(shown, shown_again, "{:#?}", again.diagnostics);
    }

    const SECRETS: &str = r#"
admin: { token: hunter2 }
acme: { external_account: { key_id: any, hmac_key: hunter2 } }
redis: { url: "redis://u:hunter2@h", password: hunter2, sentinel: { urls: [], master: m, password: hunter2 } }
tracing: { otlp: { endpoint: "http://u:hunter2@h?api_key=hunter2", headers: { any: hunter2 } } }
auth_providers:
  any:
    jwt: { keys: { secret: hunter2, public_key: hunter2, jwks: hunter2, jwks_url: "https://h/?token=hunter2" } }
    api_key: { keys: { any: hunter2 } }
    basic: { users: "any:hunter2" }
    signature: { keys: { any: hunter2 } }
headers: { request: { set: { Authorization: Bearer hunter2 }, add: { Cookie: hunter2 } } }
services:
  a:
    base_url: "http://u:hunter2@h"
    routes: [{ path: /, headers_match: { X-Api-Key: hunter2 }, query_match: { token: hunter2 } }]
"#;

    /// Goes by the schema, so that a key that is new is not forgotten here.
    #[test]
    fn no_secret_is_ever_shown() {
        let (values, _) = of(SECRETS);
        assert!(!values.to_string().contains("hunter2"), "{values:#}");
        let schema = super::super::schema();
        let mut paths = Vec::new();
        secrets(&schema, &schema, &mut vec![], String::new(), &mut paths);
        assert!(paths.len() >= 9, "{paths:?}");
        for path in paths {
            let shown = values
                .pointer(&path)
                .unwrap_or_else(|| panic!("{path} is not tried"));
            assert!(
                shown == MASK || *shown == json!({ "any": MASK }),
                "{path}: {shown}"
            );
        }
    }

    /// Where secrets stand, with `any` for every name.
    fn secrets<'s>(
        schema: &'s Json,
        root: &'s Json,
        inside: &mut Vec<&'s str>,
        path: String,
        found: &mut Vec<String>,
    ) {
        if let Some(reference) = schema["$ref"].as_str() {
            let name = reference.trim_start_matches("#/$defs/");
            if ["Secret", "TextOrFile", "ApiKeys"].contains(&name) {
                found.push(path);
            } else if !inside.contains(&name) {
                inside.push(name);
                secrets(&root["$defs"][name], root, inside, path, found);
                inside.pop();
            }
            return;
        }
        for choice in schema["anyOf"].as_array().into_iter().flatten() {
            secrets(choice, root, inside, path.clone(), found);
        }
        for (key, inner) in schema["properties"].as_object().into_iter().flatten() {
            secrets(inner, root, inside, format!("{path}/{key}"), found);
        }
        for (step, key) in [("any", "additionalProperties"), ("0", "items")] {
            if let Some(inner) = schema.get(key) {
                secrets(inner, root, inside, format!("{path}/{step}"), found);
            }
        }
    }
}
