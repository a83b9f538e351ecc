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
        let parameters = pairs(query)?;
        for (number, (name, _)) in parameters.iter().enumerate() {
            if !known.contains(name) {
                return Err(unknown(name, known));
            }
            if parameters[..number].iter().any(|(it, _)| it == name) {
                return Err(format!("`{name}` comes twice"));
            }
        }
        Ok(Self(parameters))
    }

    /// The value of a parameter, if it is there.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(it, _)| *it == name);
        found.map(|(_, value)| &**value)
    }

    /// The value of a parameter that has to be there.
    ///
    /// # Errors
    /// If it is not.
    pub(super) fn required(&self, name: &str) -> Result<&str, String> {
        let value = self.get(name).filter(|value| !value.is_empty());
        value.ok_or_else(|| format!("`{name}` is missing: add `{name}=…`"))
    }

    /// A number of things to show, or this one.
    ///
    /// # Errors
    /// If it is none.
    pub(super) fn count(&self, name: &str, otherwise: usize) -> Result<usize, String> {
        match self.get(name) {
            None => Ok(otherwise),
            Some(value) => value
                .parse()
                .map_err(|_| format!("`{name}={value}` is no number")),
        }
    }
}

/// Names with their values, decoded, in the order in which they come.
///
/// # Errors
/// A sentence about the first value that is no text.
pub(super) fn pairs(query: &str) -> Result<Vec<(&str, Cow<'_, str>)>, String> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let pairs = pairs.map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        match percent_decode_str(value).decode_utf8() {
            Ok(value) => Ok((name, value)),
            Err(_) => Err(format!("`{name}` is no UTF-8")),
        }
    });
    pairs.collect()
}

/// What is said of a name that means nothing here.
pub(super) fn unknown(name: &str, known: &[&str]) -> String {
    let known: Vec<_> = known.iter().map(|name| format!("`{name}`")).collect();
    format!("`{name}` is nothing to ask for: {}", known.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_read_as_they_are_meant() {
        let known = ["service", "count"];
        let query = Query::read("service=a%20b&count=3", &known).unwrap();
        assert_eq!(query.required("service"), Ok("a b"));
        assert_eq!(query.count("count", 7), Ok(3));
        let nothing = Query::read("", &known).unwrap();
        assert_eq!(nothing.count("count", 7), Ok(7));
        assert!(nothing.required("service").is_err());
        for wrong in ["services=a", "service=%ff", "service=a&service=b"] {
            assert!(Query::read(wrong, &known).is_err(), "{wrong}");
        }
        let wrong = Query::read("service=&count=many", &known).unwrap();
        assert!(wrong.required("service").is_err() && wrong.count("count", 7).is_err());
    }
}
