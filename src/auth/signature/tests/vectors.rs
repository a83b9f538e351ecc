//! The examples of RFC 9421, byte for byte.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use openssl::pkey::PKey;
use sfv::ListEntry;

use super::super::base::signature_base;
use super::super::fields::dictionary;
use super::{Content, Credentials, Refusal, SignedRequests, Verdict, provider};

const SECRET: &str =
    "uzvJfB4u3N0Jy4T7NZ75MDVcr8zSTInedJtkgcu46YW4XByzNJjxBdtjUkdJPBtbmHhIDi6pcl8jsasjlTMtDQ==";
/// The `test-request` of appendix B.2.
const TEST_REQUEST: &str = "POST /foo?param=Value&Pet=dog\n\
    host: example.com\n\
    date: Tue, 20 Apr 2021 02:07:55 GMT\n\
    content-type: application/json\n\
    content-digest: sha-512=:WZDPaVn/7XgHaAy8pmojAkGWoRx2UFChF41A2svX+TaPm+AbwAgBWnrIiYllu7BNNyealdVLvRwEmTHWXvJwew==:\n\
    content-length: 18";
const DIGEST: &str = "\"content-digest\": sha-512=:WZDPaVn/7XgHaAy8pmojAkGWoRx2UFChF41A2svX+TaPm+AbwAgBWnrIiYllu7BNNyealdVLvRwEmTHWXvJwew==:";

struct Request {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
}

impl Request {
    fn new(text: &str) -> Self {
        let mut lines = text.lines();
        let (method, target) = lines.next().unwrap().split_once(' ').unwrap();
        let fields = lines.map(|line| {
            let (name, value) = line.split_once(':').unwrap();
            let value = HeaderValue::from_str(value.strip_prefix(' ').unwrap_or(value)).unwrap();
            (HeaderName::from_bytes(name.as_bytes()).unwrap(), value)
        });
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(name, value);
        }
        Self {
            method: method.parse().unwrap(),
            uri: target.parse().unwrap(),
            headers,
        }
    }

    fn credentials(&self, is_from_trusted_proxy: bool) -> Credentials<'_> {
        Credentials {
            method: &self.method,
            uri: &self.uri,
            headers: &self.headers,
            certificates: &[],
            is_encrypted: false,
            is_from_trusted_proxy,
            now: 1_618_884_480,
        }
    }

    /// The base of a signature with this input, without the line of the parameters.
    fn base(&self, components: &str) -> Result<String, Refusal> {
        let input = HeaderValue::from_str(&format!("s=({components})")).unwrap();
        let input = HeaderMap::from_iter([(HeaderName::from_static("x-input"), input)]);
        let mut input = dictionary(&input, "x-input").unwrap().unwrap();
        let Some(ListEntry::InnerList(covered)) = input.swap_remove("s") else {
            unreachable!("a list was written")
        };
        let base = signature_base(&covered, self.credentials(true))?;
        let (lines, last) = base.rsplit_once('\n').unwrap_or(("", &base));
        assert!(last.starts_with("\"@signature-params\": ("), "{base}");
        Ok(lines.to_owned())
    }
}

/// A provider with the shared secret of the appendix, which is no text.
fn with_shared_secret() -> SignedRequests {
    let mut provider = provider(
        "keys: {test-shared-secret: \"00000000000000000000000000000000\"}, components: [\"@authority\", date], body: optional",
    );
    let secret = PKey::hmac(&STANDARD.decode(SECRET).unwrap()).unwrap();
    provider.keys.get_mut("test-shared-secret").unwrap().secret = secret;
    provider
}

#[test]
fn the_request_that_is_signed_with_hmac_is_known() {
    let mut request = Request::new(TEST_REQUEST);
    let mut add = |name: &'static str, value: &'static str| {
        request
            .headers
            .insert(name, HeaderValue::from_static(value));
    };
    add(
        "signature-input",
        "sig-b25=(\"date\" \"@authority\" \"content-type\");created=1618884473;keyid=\"test-shared-secret\"",
    );
    add(
        "signature",
        "sig-b25=:pxcQw6G3AjtMBQjwo8XzkZf/bws5LelbaMk5rGIGtE8=:",
    );
    let verdict = with_shared_secret().authenticate(request.credentials(false));
    let Verdict::Bound(identity, Content::Any) = verdict else {
        panic!("{verdict:?}")
    };
    assert_eq!(identity.subject(), Some("test-shared-secret"));
    for (name, value) in [
        ("date", "Tue, 20 Apr 2021 02:07:56 GMT"),
        ("host", "example.org"),
        ("content-type", "text/json"),
        (
            "signature",
            "sig-b25=:pxcQw6G3AjtMBQjwo8XzkZf/bws5LelbaMk5rGIGtE4=:",
        ),
    ] {
        let mut request = Request {
            method: request.method.clone(),
            uri: request.uri.clone(),
            headers: request.headers.clone(),
        };
        request
            .headers
            .insert(name, HeaderValue::from_static(value));
        let verdict = with_shared_secret().authenticate(request.credentials(false));
        assert!(
            matches!(verdict, Verdict::Refused(Refusal::BadSignature)),
            "{name}: {verdict:?}"
        );
    }
}

#[test]
fn the_digest_of_the_example_is_that_of_its_body() {
    let request = Request::new(TEST_REQUEST);
    let mut content = Content::announced(&request.headers).unwrap();
    content.add(b"{\"hello\": ").unwrap();
    assert_eq!(content.end(), Err(Refusal::WrongContent));
    content.add(b"\"world\"}").unwrap();
    assert_eq!(content.end(), Ok(()));
}

#[test]
fn the_bases_of_the_appendix_are_made() {
    let request = Request::new(TEST_REQUEST);
    for (components, lines) in [
        ("", vec![]),
        (
            "\"@authority\" \"content-digest\" \"@query-param\";name=\"Pet\"",
            vec![
                "\"@authority\": example.com",
                DIGEST,
                "\"@query-param\";name=\"Pet\": dog",
            ],
        ),
        (
            "\"date\" \"@method\" \"@path\" \"@query\" \"@authority\" \"content-type\" \"content-digest\" \"content-length\"",
            vec![
                "\"date\": Tue, 20 Apr 2021 02:07:55 GMT",
                "\"@method\": POST",
                "\"@path\": /foo",
                "\"@query\": ?param=Value&Pet=dog",
                "\"@authority\": example.com",
                "\"content-type\": application/json",
                DIGEST,
                "\"content-length\": 18",
            ],
        ),
    ] {
        assert_eq!(request.base(components), Ok(lines.join("\n")));
    }
}

#[test]
fn fields_have_the_values_of_section_2_1() {
    let request = Request::new(
        "GET /\nhost: www.example.com\nx-ows-header:   Leading and trailing whitespace.  \n\
         cache-control: max-age=60\ncache-control:    must-revalidate\nx-empty-header: \n\
         example-dict:  a=1,    b=2;x=1;y=2,   c=(a   b    c), d\n\
         priority:  a=1,    b=2;x=1;y=2,   c=(a   b   c)\n\
         example-header: value, with, lots\nexample-header: of, commas\nx-latin: \u{e9}",
    );
    for (component, value) in [
        ("\"host\"", "www.example.com"),
        ("\"x-ows-header\"", "Leading and trailing whitespace."),
        ("\"cache-control\"", "max-age=60, must-revalidate"),
        ("\"x-empty-header\"", ""),
        (
            "\"example-dict\"",
            "a=1,    b=2;x=1;y=2,   c=(a   b    c), d",
        ),
        ("\"priority\";sf", "a=1, b=2;x=1;y=2, c=(a b c)"),
        ("\"example-dict\";key=\"a\"", "1"),
        ("\"example-dict\";key=\"d\"", "?1"),
        ("\"example-dict\";key=\"b\"", "2;x=1;y=2"),
        ("\"example-dict\";key=\"c\"", "(a b c)"),
        ("\"example-header\"", "value, with, lots, of, commas"),
        (
            "\"example-header\";bs",
            ":dmFsdWUsIHdpdGgsIGxvdHM=:, :b2YsIGNvbW1hcw==:",
        ),
        ("\"x-latin\";bs", ":w6k=:"),
    ] {
        let line = format!("{component}: {value}");
        assert_eq!(request.base(component), Ok(line));
    }
    for (component, refusal) in [
        ("\"x-absent\"", Refusal::BadSignature),
        ("\"x-absent\";bs", Refusal::BadSignature),
        ("\"content-digest\";sf", Refusal::BadSignature),
        ("\"x-latin\"", Refusal::BadSignature),
        ("\"example-dict\";key=\"e\"", Refusal::BadSignature),
        ("\"example-header\";key=\"a\"", Refusal::BadSignature),
        ("\"example-dict\";sf", Refusal::MalformedCredential),
        ("\"example-dict\";tr", Refusal::MalformedCredential),
        ("\"example-dict\";req", Refusal::MalformedCredential),
        ("\"example-dict\";other", Refusal::MalformedCredential),
        ("\"example-dict\";bs;sf", Refusal::MalformedCredential),
        ("\"example-dict\";bs=?0", Refusal::MalformedCredential),
        ("\"example-dict\";key=a", Refusal::MalformedCredential),
        ("\"Host\"", Refusal::MalformedCredential),
        ("\"a b\"", Refusal::MalformedCredential),
        ("\"\"", Refusal::MalformedCredential),
        ("host", Refusal::MalformedCredential),
        ("\"host\" \"host\"", Refusal::MalformedCredential),
    ] {
        assert_eq!(request.base(component), Err(refusal), "{component}");
    }
}

#[test]
fn derived_components_have_the_values_of_section_2_2() {
    let request = |text: &str, component: &str| {
        let base = Request::new(text).base(component)?;
        Ok(base.split_once(": ").unwrap().1.to_owned())
    };
    let path = "POST /path?param=value\nhost: www.example.com";
    let https = "POST /path?param=value\nhost: www.example.com\nx-forwarded-proto: https";
    for (text, component, value) in [
        (path, "\"@method\"", "POST"),
        (
            https,
            "\"@target-uri\"",
            "https://www.example.com/path?param=value",
        ),
        (
            path,
            "\"@target-uri\"",
            "http://www.example.com/path?param=value",
        ),
        (path, "\"@authority\"", "www.example.com"),
        (
            "GET /\nhost: WWW.Example.com:80",
            "\"@authority\"",
            "www.example.com",
        ),
        (
            "GET /\nhost: www.example.com:",
            "\"@authority\"",
            "www.example.com",
        ),
        (
            "GET /\nhost: www.example.com:8080",
            "\"@authority\"",
            "www.example.com:8080",
        ),
        (
            "GET /\nhost: www.example.com:443",
            "\"@authority\"",
            "www.example.com:443",
        ),
        ("GET /\nhost: [::1]:80", "\"@authority\"", "[::1]"),
        (
            "GET /\nhost: www.example.com:443\nx-forwarded-proto: HTTPS",
            "\"@authority\"",
            "www.example.com",
        ),
        (path, "\"@scheme\"", "http"),
        (https, "\"@scheme\"", "https"),
        (path, "\"@request-target\"", "/path?param=value"),
        (path, "\"@path\"", "/path"),
        ("GET /a%2Fb/../c", "\"@path\"", "/a%2Fb/../c"),
        (path, "\"@query\"", "?param=value"),
        ("GET /path?queryString", "\"@query\"", "?queryString"),
        ("GET /path", "\"@query\"", "?"),
        (
            "GET /path?param=value&foo=bar&baz=bat%2Dman",
            "\"@query\"",
            "?param=value&foo=bar&baz=bat%2Dman",
        ),
        ("GET /path?a=b&qux=", "\"@query-param\";name=\"qux\"", ""),
        (
            "GET /parameters?var=this%20is%20a%20big%0Amultiline%20value&bar=with+plus+whitespace",
            "\"@query-param\";name=\"var\"",
            "this%20is%20a%20big%0Amultiline%20value",
        ),
        (
            "GET /parameters?bar=with+plus+whitespace&fa%C3%A7ade%22%3A%20=something",
            "\"@query-param\";name=\"bar\"",
            "with%20plus%20whitespace",
        ),
        (
            "GET /parameters?bar=with+plus+whitespace&fa%C3%A7ade%22%3A%20=something",
            "\"@query-param\";name=\"fa%C3%A7ade%22%3A%20\"",
            "something",
        ),
    ] {
        assert_eq!(
            request(text, component).as_deref(),
            Ok(value),
            "{text} {component}"
        );
    }
    for (text, component, refusal) in [
        (path, "\"@status\"", Refusal::MalformedCredential),
        (path, "\"@signature-params\"", Refusal::MalformedCredential),
        (path, "\"@Method\"", Refusal::MalformedCredential),
        (path, "\"@method\";req", Refusal::MalformedCredential),
        (path, "\"@query-param\"", Refusal::MalformedCredential),
        (
            path,
            "\"@query-param\";name=\"a\";req",
            Refusal::MalformedCredential,
        ),
        (
            path,
            "\"@query-param\";name=\"absent\"",
            Refusal::BadSignature,
        ),
        (
            "GET /?a=1&a=2",
            "\"@query-param\";name=\"a\"",
            Refusal::BadSignature,
        ),
        ("GET /", "\"@authority\"", Refusal::BadSignature),
        (
            "GET /\nhost: a\nhost: b",
            "\"@authority\"",
            Refusal::BadSignature,
        ),
    ] {
        assert_eq!(request(text, component), Err(refusal), "{text} {component}");
    }
}

/// A proxy that nobody trusts makes no request secure.
#[test]
fn the_scheme_is_that_of_the_connection_unless_a_trusted_proxy_says_otherwise() {
    let text = "GET /\nhost: a\nx-forwarded-proto: https";
    let schemes = |text: &str, is_from_trusted_proxy| {
        let request = Request::new(text);
        let clear = request.credentials(is_from_trusted_proxy);
        let encrypted = Credentials {
            is_encrypted: true,
            ..clear
        };
        [clear.scheme(), encrypted.scheme()]
    };
    assert_eq!(schemes(text, true), ["https", "https"]);
    assert_eq!(schemes(text, false), ["http", "https"]);
    assert_eq!(schemes("GET /\nhost: a", true), ["http", "https"]);
    for told in ["https, http", "http", "", "httpss"] {
        let text = text.replace("https", told);
        assert_eq!(schemes(&text, true), ["http", "http"], "{told}");
    }
}
