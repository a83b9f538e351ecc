//! What of a request tells who asks, and what its backend sees in a field.

use std::borrow::Cow;

use http::header::{AUTHORIZATION, FORWARDED};
use http::{HeaderMap, HeaderName};

use super::super::context::Context;
use super::super::forward::{X_FORWARDED_FOR, X_REQUEST_ID};
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
    for name in [AUTHORIZATION, CLIENT_CERT] {
        let is_hidden = match name == AUTHORIZATION {
            true => identity.is_some_and(|it| it.hidden.contains(&AUTHORIZATION)),
            // Certificates are a trusted proxy's to pass on.
            false => !context.is_from_trusted_proxy,
        };
        if !is_hidden {
            for value in request.get_all(&name) {
                add(name.as_str().as_bytes());
                add(value.as_bytes());
            }
        }
    }
    (!asker.is_empty()).then_some(asker)
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
    match values[..] {
        [] => None,
        [only] => Some(only.into()),
        _ => Some(values.join(&b", "[..]).into()),
    }
}
