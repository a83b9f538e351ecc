//! Something that can be asked for on the operators' address, and all that there is to know about it: the table
//! and its document are made of these.

use http::Method;
use schemars::{JsonSchema, Schema, SchemaGenerator};

use super::access::Access;
use super::operations::Ask;

/// Something that can be asked for.
#[derive(Debug)]
pub(super) struct Operation {
    pub(super) method: Method,
    pub(super) path: &'static str,
    pub(super) access: Access,
    pub(super) ask: Ask,
    /// What it does, in a sentence.
    pub(super) summary: &'static str,
    /// What its query may say.
    pub(super) parameters: &'static [Parameter],
    /// What is sent with it.
    pub(super) body: Option<SchemaOf>,
    /// Its answers by their status, but for those that follow from `access`, `parameters` and `body`.
    pub(super) answers: &'static [(u16, Content)],
}

/// Makes the schema of a type, and puts what that refers to among the generator's definitions.
pub(super) type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

/// What an answer holds.
#[derive(Debug, Clone, Copy)]
pub(super) enum Content {
    /// A sentence, or more.
    Text,
    /// A JSON document of this schema.
    Json(SchemaOf),
    /// Texts of these media types; which one is a matter of `Accept`.
    Media(&'static [&'static str]),
}

/// Something that a query may say.
#[derive(Debug, Clone, Copy)]
pub(super) struct Parameter {
    pub(super) name: &'static str,
    /// What it means, in a sentence.
    pub(super) text: &'static str,
    pub(super) value: Value,
    pub(super) is_required: bool,
    /// Whether it may come several times.
    pub(super) is_repeated: bool,
}

/// What the value of a parameter is.
#[derive(Debug, Clone, Copy)]
pub(super) enum Value {
    Text,
    /// A whole number, 0 or more.
    Number,
}

/// The schema of a type.
pub(super) fn schema<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

/// Shows something.
pub(super) const fn read(path: &'static str, access: Access, ask: Ask) -> Operation {
    operation(Method::GET, path, access, ask)
}

/// Changes something.
pub(super) const fn change(method: Method, path: &'static str, ask: Ask) -> Operation {
    operation(method, path, Access::Changer, ask)
}

const fn operation(method: Method, path: &'static str, access: Access, ask: Ask) -> Operation {
    Operation {
        method,
        path,
        access,
        ask,
        summary: "",
        parameters: &[],
        body: None,
        answers: &[],
    }
}

impl Operation {
    pub(super) const fn does(mut self, summary: &'static str) -> Self {
        self.summary = summary;
        self
    }

    pub(super) const fn takes(mut self, parameters: &'static [Parameter]) -> Self {
        self.parameters = parameters;
        self
    }

    pub(super) const fn reads(mut self, body: SchemaOf) -> Self {
        self.body = Some(body);
        self
    }

    pub(super) const fn answers(mut self, answers: &'static [(u16, Content)]) -> Self {
        self.answers = answers;
        self
    }
}

impl Parameter {
    /// A text that need not be there.
    pub(super) const fn text(name: &'static str, text: &'static str) -> Self {
        Self {
            name,
            text,
            value: Value::Text,
            is_required: false,
            is_repeated: false,
        }
    }

    pub(super) const fn number(mut self) -> Self {
        self.value = Value::Number;
        self
    }

    pub(super) const fn required(mut self) -> Self {
        self.is_required = true;
        self
    }

    pub(super) const fn repeated(mut self) -> Self {
        self.is_repeated = true;
        self
    }
}
