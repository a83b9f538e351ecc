//! The parameters of what is asked.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

/// The parameters of a query, each with its value.
#[derive(Debug)]
pub(super) struct Query<'q>(Vec<(&'q str, Cow<'q, str>)>);

impl<'q> Query<'q> {
    /// Those of `query`, which may be these.
    ///
    /// # Errors
    /// What is wrong with it, as a sentence.
    pub(super) fn read(query: &'q str, known: &[&str]) -> Result<Self, String> {
        let mut parameters = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            if !known.contains(&name) {
                let known: Vec<_> = known.iter().map(|name| format!("`{name}`")).collect();
                return Err(format!(
                    "`{name}` is nothing to ask for: {}",
                    known.join(", ")
                ));
            }
            if parameters.iter().any(|(it, _)| *it == name) {
                return Err(format!("`{name}` comes twice"));
            }
            let value = percent_decode_str(value).decode_utf8();
            let value = value.map_err(|_| format!("`{name}` is no UTF-8"))?;
            parameters.push((name, value));
        }
        Ok(Self(parameters))
    }

    /// The value of a parameter that has to be there.
    ///
    /// # Errors
    /// If it is not.
    pub(super) fn required(&self, name: &str) -> Result<&str, String> {
        let found = self.0.iter().find(|(it, value)| *it == name && !value.is_empty());
        let value = found.map(|(_, value)| &**value);
        value.ok_or_else(|| format!("`{name}` is missing: add `{name}=…`"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_read_as_they_are_meant() {
        let known = ["service", "endpoint"];
        let query = Query::read("service=a%20b&endpoint=3", &known).unwrap();
        assert_eq!(query.required("service"), Ok("a b"));
        let nothing = Query::read("", &known).unwrap();
        assert!(nothing.required("service").is_err());
        for wrong in ["services=a", "service=%ff", "service=a&service=b"] {
            assert!(Query::read(wrong, &known).is_err(), "{wrong}");
        }
        let empty = Query::read("service=", &known).unwrap();
        assert!(empty.required("service").is_err());
    }
}
