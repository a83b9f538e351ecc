//! What of a request tells who asks, and what its backend sees in a field.

use std::borrow::Cow;

use http::header::{AUTHORIZATION, FORWARDED};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::super::context::Context;
use super::super::forward::{X_FORWARDED_FOR, X_REQUEST_ID, certificate, is_of_certificate};
use crate::auth::CLIENT_CERT;

/// Who asks, as far as a backend could tell: by the verified identity and by what else it sees of the
/// credential, or by the credential that nobody verified. `None` for anybody.
pub(super) fn asker(request: &HeaderMap, context: &Context) -> Option<Vec<u8>> {
    let mut asker = Vec::new();
    let mut add = |part: &[u8]| {
        asker.extend_from_slice(&(part.len() as u64).to_be_bytes());
        asker.extend_from_slice(part);
    };
    let identity = context.identity.as_deref();
    if let Some(identity) = identity {
        add(b"identity");
        add(identity.provider().as_bytes());
        add(identity.subject().unwrap_or_default().as_bytes());
        for (name, value) in &identity.forward {
            add(name.as_str().as_bytes());
            add(value.as_bytes());
        }
    }
    let is_hidden = identity.is_some_and(|it| it.hidden.contains(&AUTHORIZATION));
    if !is_hidden {
        for value in request.get_all(AUTHORIZATION) {
            add(AUTHORIZATION.as_str().as_bytes());
            add(value.as_bytes());
        }
    }
    for value in certificates(&CLIENT_CERT, request, context) {
        add(CLIENT_CERT.as_str().as_bytes());
        add(value.as_bytes());
    }
    (!asker.is_empty()).then_some(asker)
}

/// What a backend sees in a field about certificates: what a trusted proxy says, or the client's own.
fn certificates<'f>(
    name: &HeaderName,
    request: &'f HeaderMap,
    context: &'f Context,
) -> impl Iterator<Item = &'f HeaderValue> {
    let is_passed_on = context.is_from_trusted_proxy;
    let passed_on = is_passed_on.then(|| request.get_all(name).iter());
    let own = certificate(context).filter(|_| !is_passed_on && *name == CLIENT_CERT);
    passed_on.into_iter().flatten().chain(own)
}

/// What a backend sees in a field, whatever the client sent there.
pub(super) fn field<'f>(
    name: &HeaderName,
    request: &'f HeaderMap,
    context: &'f Context,
) -> Option<Cow<'f, [u8]>> {
    if *name == X_REQUEST_ID {
        return Some(context.id().as_bytes().into());
    }
    if *name == X_FORWARDED_FOR || *name == FORWARDED {
        return Some(context.client().to_string().into_bytes().into());
    }
    if is_of_certificate(name) {
        let values = certificates(name, request, context).map(|value| value.as_bytes());
        return joined(&values.collect::<Vec<_>>());
    }
    let identity = context.identity.as_deref();
    let forwarded = identity.into_iter().flat_map(|it| &it.forward);
    let forwarded = forwarded
        .filter(|(it, _)| it == name)
        .map(|(_, value)| value.as_bytes());
    let values: Vec<&[u8]> = match context.snapshot.carries_identity(name) {
        true => forwarded.collect(),
        false => request
            .get_all(name)
            .iter()
            .map(|value| value.as_bytes())
            .collect(),
    };
    joined(&values)
}

fn joined<'f>(values: &[&'f [u8]]) -> Option<Cow<'f, [u8]>> {
    match *values {
        [] => None,
        [only] => Some(only.into()),
        _ => Some(values.join(&b", "[..]).into()),
    }
}
