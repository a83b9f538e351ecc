//! The framework's messages as fields that policies can edit.

use http::{HeaderName, HeaderValue};
use pingora::http::{RequestHeader, ResponseHeader};

use crate::traffic::HeaderFields;

impl HeaderFields for ResponseHeader {
    fn set(&mut self, name: &HeaderName, value: HeaderValue) {
        // Fails only for a map of 32768 fields.
        let _ = self.insert_header(name, value);
    }

    fn add(&mut self, name: &HeaderName, value: HeaderValue) {
        let _ = self.append_header(name, value);
    }

    fn remove(&mut self, name: &HeaderName) {
        self.remove_header(name);
    }
}

impl HeaderFields for RequestHeader {
    fn set(&mut self, name: &HeaderName, value: HeaderValue) {
        let _ = self.insert_header(name, value);
    }

    fn add(&mut self, name: &HeaderName, value: HeaderValue) {
        let _ = self.append_header(name, value);
    }

    fn remove(&mut self, name: &HeaderName) {
        self.remove_header(name);
    }
}
