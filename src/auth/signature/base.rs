//! The signature base (RFC 9421 §2.5): what of a request was signed, as text.
//!
//! An identifier or a parameter that is not known is an error: what is not understood would be left out
//! of what was signed.

use http::{HeaderName, HeaderValue, Uri, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use sfv::{BareItem, FieldType, InnerList, Item, ListEntry};

use super::super::credentials::Credentials;
use super::super::refusal::Refusal;
use super::fields::{dictionary, serialize};

/// Most components that a signature may cover.
const MOST_COMPONENTS: usize = 32;
/// Fields that are known to be dictionaries, which `sf` needs to know (§2.1.1).
const DICTIONARIES: [&str; 7] = [
    "content-digest",
    "priority",
    "repr-digest",
    "signature",
    "signature-input",
    "want-content-digest",
    "want-repr-digest",
];
/// What forms encode beside letters and digits: everything but these four (WHATWG URL §5.2).
const FORM: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'*')
    .remove(b'-')
    .remove(b'.')
    .remove(b'_');

/// What a signature over these components signs.
pub(super) fn signature_base(
    covered: &InnerList,
    request: Credentials<'_>,
) -> Result<String, Refusal> {
    let items = &covered.items;
    let is_repeated = |(index, item): (usize, &Item)| items[..index].contains(item);
    if items.len() > MOST_COMPONENTS || items.iter().enumerate().any(is_repeated) {
        return Err(Refusal::MalformedCredential);
    }
    let mut base = String::new();
    for item in items {
        base.push_str(&item.serialize());
        base.push_str(": ");
        base.push_str(&value(item, request)?);
        base.push('\n');
    }
    base.push_str("\"@signature-params\": ");
    let parameters = serialize(ListEntry::InnerList(covered.clone()));
    base.push_str(&parameters.ok_or(Refusal::MalformedCredential)?);
    Ok(base)
}

/// The value of a component. Each parameter is one of another kind of value, and no two go together.
fn value(item: &Item, request: Credentials<'_>) -> Result<String, Refusal> {
    let name = item.bare_item.as_string();
    let name = name.ok_or(Refusal::MalformedCredential)?.as_str();
    let mut parameters = item.params.iter();
    let parameter = parameters.next().map(|(key, value)| (key.as_str(), value));
    if parameters.next().is_some() {
        return Err(Refusal::MalformedCredential);
    }
    if name.starts_with('@') {
        derived(name, parameter, request)
    } else {
        field(name, parameter, request)
    }
}

/// The value of a derived component (§2.2).
fn derived(
    name: &str,
    parameter: Option<(&str, &BareItem)>,
    request: Credentials<'_>,
) -> Result<String, Refusal> {
    let uri = request.uri;
    let value = match (name, parameter) {
        ("@method", None) => request.method.to_string(),
        ("@scheme", None) => request.scheme().to_owned(),
        ("@authority", None) => authority(request)?,
        ("@path", None) => uri.path().to_owned(),
        ("@query", None) => format!("?{}", uri.query().unwrap_or_default()),
        ("@request-target", None) => target(uri).to_owned(),
        ("@target-uri", None) => {
            let scheme = request.scheme();
            format!("{scheme}://{}{}", authority(request)?, target(uri))
        }
        ("@query-param", Some(("name", BareItem::String(name)))) => {
            query_parameter(name.as_str(), uri)?
        }
        _ => return Err(Refusal::MalformedCredential),
    };
    match value.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        true => Ok(value),
        false => Err(Refusal::BadSignature),
    }
}

fn target(uri: &Uri) -> &str {
    uri.path_and_query().map_or("/", |target| target.as_str())
}

/// The host in lower case, without the port that the scheme implies (RFC 9110 §4.2.3).
fn authority(request: Credentials<'_>) -> Result<String, Refusal> {
    let mut hosts = request.headers.get_all(header::HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (Some(host), None) => host.to_str().ok(),
        _ => None,
    };
    let host = host.ok_or(Refusal::BadSignature)?.trim();
    let port = match request.scheme() {
        "https" => ":443",
        _ => ":80",
    };
    let host = host
        .strip_suffix(port)
        .or(host.strip_suffix(':'))
        .unwrap_or(host);
    Ok(host.to_ascii_lowercase())
}

/// The value of a query parameter that comes once (§2.2.8).
fn query_parameter(name: &str, uri: &Uri) -> Result<String, Refusal> {
    let encode = |text: &str| {
        let text = text.replace('+', " ");
        let decoded = percent_decode_str(&text).decode_utf8_lossy();
        utf8_percent_encode(&decoded, FORM).to_string()
    };
    let pairs = uri.query().unwrap_or_default().split('&');
    let mut values = pairs.filter_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (!pair.is_empty() && encode(key) == name).then_some(value)
    });
    match (values.next(), values.next()) {
        (Some(value), None) => Ok(encode(value)),
        _ => Err(Refusal::BadSignature),
    }
}

/// The value of a field (§2.1).
fn field(
    name: &str,
    parameter: Option<(&str, &BareItem)>,
    request: Credentials<'_>,
) -> Result<String, Refusal> {
    // Names in capitals would be other identifiers of the same field.
    let name = HeaderName::from_lowercase(name.as_bytes());
    let name = name.map_err(|_| Refusal::MalformedCredential)?;
    let lines = || request.headers.get_all(&name).iter().map(trimmed);
    let value = match parameter {
        None => lines()
            .map(ascii)
            .collect::<Option<Vec<_>>>()
            .map(|it| it.join(", ")),
        Some(("bs", BareItem::Boolean(true))) => {
            let lines = lines().map(|line| BareItem::ByteSequence(line.to_vec()).into());
            lines.collect::<Vec<ListEntry>>().serialize()
        }
        Some(("sf", BareItem::Boolean(true))) if DICTIONARIES.contains(&name.as_str()) => {
            let found = dictionary(request.headers, &name);
            found
                .map_err(|_| Refusal::BadSignature)?
                .and_then(|it| it.serialize())
        }
        Some(("key", BareItem::String(key))) => {
            let found = dictionary(request.headers, &name);
            let found = found.map_err(|_| Refusal::BadSignature)?;
            found.and_then(|mut it| serialize(it.swap_remove(key.as_str())?))
        }
        _ => return Err(Refusal::MalformedCredential),
    };
    match value {
        Some(value) if request.headers.contains_key(&name) => Ok(value),
        _ => Err(Refusal::BadSignature),
    }
}

fn trimmed(line: &HeaderValue) -> &[u8] {
    line.as_bytes().trim_ascii()
}

fn ascii(line: &[u8]) -> Option<&str> {
    std::str::from_utf8(line)
        .ok()
        .filter(|line| line.is_ascii())
}
