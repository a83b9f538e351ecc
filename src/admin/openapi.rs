//! The table of operations as an OpenAPI 3.1 document, for those who make clients of it.

use http::StatusCode;
use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::access::Access;
use super::operation::{self, Content, Operation, Parameter};
use super::operations::OPERATIONS;

/// Where the schemas stand that others refer to.
const SCHEMAS: &str = "/components/schemas";
/// The name of the token among the ways to be let in.
const TOKEN: &str = "token";

const ABOUT: &str = "What operators see of a running gateway, and what they may have it do. On a loopback \
                     address reading needs no token; whatever changes something always does.";

/// The document of all operations.
pub(super) fn document() -> Value {
    let settings = SchemaSettings::draft2020_12().for_serialize();
    let settings = settings.with(|it| it.definitions_path = SCHEMAS.into());
    let mut generator = settings.into_generator();
    let mut paths: Map<String, Value> = Map::new();
    for operation in OPERATIONS {
        let methods = paths.entry(operation.path).or_insert_with(|| json!({}));
        let method = operation.method.as_str().to_ascii_lowercase();
        methods[method] = describe(operation, &mut generator);
    }
    json!({
        "openapi": "3.1.1",
        "info": {
            "title": "Tollgate's operators' address",
            "description": ABOUT,
            "version": env!("CARGO_PKG_VERSION"),
            "license": { "name": "Apache License 2.0", "identifier": "Apache-2.0" },
        },
        "paths": paths,
        "components": {
            "securitySchemes": {
                TOKEN: { "type": "http", "scheme": "bearer", "description": "The `admin.token` of the configuration." },
            },
            "schemas": generator.take_definitions(true),
        },
    })
}

fn describe(operation: &Operation, generator: &mut SchemaGenerator) -> Value {
    let mut described = json!({
        "operationId": name(operation),
        "summary": operation.summary,
        "security": match operation.access {
            Access::Anybody => json!([]),
            Access::Reader => json!([{}, { TOKEN: [] }]),
            Access::Changer => json!([{ TOKEN: [] }]),
        },
        "responses": answers(operation, generator),
    });
    if !operation.parameters.is_empty() {
        described["parameters"] = operation.parameters.iter().map(parameter).collect();
    }
    if let Some(schema) = operation.body {
        let content = json!({ "application/json": { "schema": schema(generator) } });
        described["requestBody"] = json!({ "required": true, "content": content });
    }
    described
}

/// What programs call it: `getLimits`, `deleteLimits`.
fn name(operation: &Operation) -> String {
    let mut name = operation.method.as_str().to_ascii_lowercase();
    let mut words = operation.path.split(|it: char| !it.is_ascii_alphanumeric());
    for word in words.by_ref().filter(|word| !word.is_empty()) {
        let (first, rest) = word.split_at(1);
        name.push_str(&first.to_ascii_uppercase());
        name.push_str(rest);
    }
    name
}

fn parameter(parameter: &Parameter) -> Value {
    let value = match parameter.value {
        operation::Value::Text => json!({ "type": "string" }),
        operation::Value::Number => json!({ "type": "integer", "minimum": 0 }),
    };
    let schema = match parameter.is_repeated {
        true => json!({ "type": "array", "items": value }),
        false => value,
    };
    json!({
        "name": parameter.name,
        "in": "query",
        "description": parameter.text,
        "required": parameter.is_required,
        "schema": schema,
    })
}

/// Its answers by their status, those included that go without saying in the table.
fn answers(operation: &Operation, generator: &mut SchemaGenerator) -> Value {
    let mut answers: Vec<(u16, Content)> = operation.answers.to_vec();
    let is_wrong = !operation.parameters.is_empty() || operation.body.is_some();
    let is_refused = operation.access != Access::Anybody;
    for (status, is_possible) in [(400, is_wrong), (401, is_refused), (403, is_refused)] {
        if is_possible && !answers.iter().any(|(known, _)| *known == status) {
            answers.push((status, Content::Text));
        }
    }
    answers.sort_by_key(|(status, _)| *status);
    let answers = answers.into_iter().map(|(status, content)| {
        let reason = StatusCode::from_u16(status).ok();
        let reason = reason.and_then(|it| it.canonical_reason());
        let answer = json!({
            "description": reason.unwrap_or_default(),
            "content": media(content, generator),
        });
        (status.to_string(), answer)
    });
    answers.collect()
}

fn media(content: Content, generator: &mut SchemaGenerator) -> Value {
    let text = json!({ "schema": { "type": "string" } });
    match content {
        Content::Text => json!({ "text/plain": text }),
        Content::Json(schema) => json!({ "application/json": { "schema": schema(generator) } }),
        Content::Media(types) => types.iter().map(|it| (*it, text.clone())).collect(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_operation_is_described_under_a_name_of_its_own() {
        let document = document();
        let mut names = HashSet::new();
        for operation in OPERATIONS {
            let method = operation.method.as_str().to_ascii_lowercase();
            let described = &document["paths"][operation.path][method];
            assert_eq!(described["summary"], operation.summary);
            let name = described["operationId"].as_str().unwrap().to_owned();
            assert!(names.insert(name), "{described}");
        }
        assert!(names.contains("getOpenapiJson") && names.contains("deleteLimits"));
    }

    #[test]
    fn every_reference_leads_to_a_schema() {
        let document = document();
        let mut references = Vec::new();
        collect(&document, &mut references);
        assert!(references.len() > 10);
        for reference in references {
            let pointer = reference.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{reference}");
        }
    }

    fn collect(value: &Value, references: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                let reference = fields.get("$ref").and_then(Value::as_str);
                references.extend(reference.map(str::to_owned));
                fields.values().for_each(|it| collect(it, references));
            }
            Value::Array(items) => items.iter().for_each(|it| collect(it, references)),
            _ => {}
        }
    }
}
