//! The JSON Schema of the language, from the same types that read it.

use super::effective::leave_out_nothing;
use super::root::Config;

/// The schema (draft 2020-12) that editors complete and check configurations by.
pub fn schema() -> serde_json::Value {
    let mut schema = schemars::schema_for!(Config).to_value();
    if let Some(root) = schema.as_object_mut() {
        root.insert("title".into(), "Tollgate configuration".into());
    }
    // A key that may be left out has no default that anybody would write.
    leave_out_nothing(&mut schema);
    allow_variables(&mut schema);
    schema
}

/// Numbers and booleans may come from the environment.
fn allow_variables(schema: &mut serde_json::Value) {
    match schema {
        serde_json::Value::Object(object) => {
            let is_bare = object.get("type").is_some_and(|kind| {
                matches!(kind.as_str(), Some("integer" | "number" | "boolean"))
            });
            for (_, inner) in object.iter_mut() {
                allow_variables(inner);
            }
            if is_bare {
                let description = object.remove("description");
                let default = object.remove("default");
                let bare = serde_json::Value::Object(std::mem::take(object));
                object.extend(description.map(|text| ("description".to_owned(), text)));
                object.extend(default.map(|value| ("default".to_owned(), value)));
                let variable = serde_json::json!({ "type": "string", "pattern": "\\$\\{" });
                object.insert("anyOf".into(), serde_json::json!([bare, variable]));
            }
        }
        serde_json::Value::Array(list) => list.iter_mut().for_each(allow_variables),
        _ => {}
    }
}
