//! Some thousand inputs for each check that `make fuzz` looks for a counterexample of: good ones, a little spoilt.
#![allow(missing_docs, clippy::expect_used, reason = "a test may panic")]

use proptest::prelude::*;
use proptest::sample::Index;

#[path = "../fuzz/src/lib.rs"]
#[allow(unreachable_pub, reason = "a library elsewhere")]
mod checks;

/// What is put into an input: what readers of texts stumble over.
const PIECES: [&str; 24] = [
    "",
    "\n",
    "\r\n",
    "\0",
    " ",
    "\t",
    ",",
    ";",
    ":",
    "=",
    "\"",
    "\\",
    "%",
    "%2e%2e",
    "%00",
    "/../",
    "//",
    "{",
    "[",
    "0",
    "-1",
    "18446744073709551616",
    "\u{feff}",
    "é",
];

#[derive(Debug, Clone)]
enum Edit {
    Insert(Index, Vec<u8>),
    Remove(Index, usize),
    Replace(Index, u8),
    /// A part once more, somewhere else.
    Repeat(Index, usize, Index),
}

fn edit() -> impl Strategy<Value = Edit> {
    let at = any::<Index>;
    let piece = prop_oneof![
        prop::sample::select(&PIECES[..]).prop_map(|piece| piece.as_bytes().to_vec()),
        prop::collection::vec(any::<u8>(), 1..4),
    ];
    prop_oneof![
        (at(), piece).prop_map(|(at, piece)| Edit::Insert(at, piece)),
        (at(), 1..20_usize).prop_map(|(at, count)| Edit::Remove(at, count)),
        (at(), any::<u8>()).prop_map(|(at, byte)| Edit::Replace(at, byte)),
        (at(), 1..40_usize, at()).prop_map(|(from, count, to)| Edit::Repeat(from, count, to)),
    ]
}

fn spoil(bytes: &mut Vec<u8>, edit: &Edit) {
    let part = |bytes: &[u8], at: &Index, count: usize| {
        let begin = at.index(bytes.len() + 1);
        begin..bytes.len().min(begin + count)
    };
    match edit {
        Edit::Insert(at, piece) => {
            let at = at.index(bytes.len() + 1);
            bytes.splice(at..at, piece.iter().copied());
        }
        Edit::Remove(at, count) => {
            bytes.drain(part(bytes, at, *count));
        }
        Edit::Replace(at, byte) if !bytes.is_empty() => {
            let at = at.index(bytes.len());
            bytes[at] = *byte;
        }
        Edit::Replace(..) => {}
        Edit::Repeat(from, count, to) => {
            let repeated = bytes[part(bytes, from, *count)].to_vec();
            let to = to.index(bytes.len() + 1);
            bytes.splice(to..to, repeated);
        }
    }
}

/// One of the good inputs, spoilt in a few places, or in none.
fn inputs(good: &[&'static str]) -> impl Strategy<Value = Vec<u8>> {
    let good = prop::sample::select(good.to_vec());
    (good, prop::collection::vec(edit(), 0..6)).prop_map(|(good, edits)| {
        let mut bytes = good.as_bytes().to_vec();
        for edit in &edits {
            spoil(&mut bytes, edit);
        }
        bytes
    })
}

fn texts(good: &[&'static str]) -> impl Strategy<Value = String> {
    inputs(good).prop_map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

const CONFIGURATIONS: [&str; 3] = [
    include_str!("../conf/quickstart.yaml"),
    include_str!("../conf/starter.yaml"),
    include_str!("../conf/reference.yaml"),
];
const PATHS: [&str; 4] = ["/", "/a/b%20c/d", "/a/./b/../c//d", "/%C3%A9/%2F/x;y=z"];
const CREDENTIALS: [&str; 4] = [
    "/?t=eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIiwiZXhwIjoxOTAwMDAwMDAwfQ.AAAA&k=a",
    "/\n\0Bearer eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIiwiZXhwIjoxOTAwMDAwMDAwfQ.AAAA\n\x01s=b; k=c",
    "/\n\0Basic YWxpY2U6YXZvY2Fkbw==",
    "/\n\x02key-of-nobody\n\0Bearer key-of-nobody",
];
const SIGNATURES: [&str; 2] = [
    "/orders?x=1\n\"@method\" \"@path\" \"content-digest\"\n\nsha-256=:AAAA:\nshop.example\nu=1",
    "?\ns=(\"@method\" \"@authority\");created=1800000000;keyid=\"a\"\ns=:AAAA:",
];
const KEY_SETS: [&str; 2] = [
    r#"{"keys":[{"kty":"oct","k":"MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY","alg":"HS256","kid":"a"}]}"#,
    r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"Gb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE","use":"sig"}]}"#,
];
const CERTIFICATES: [&str; 2] = [
    "0\x1f0\x08\x02\x01\x01\x06\x03+ep0\x06\x03\x04\0\x01\x02",
    "0",
];
const ADDRESSES: [&str; 4] = [
    "198.51.100.7, 10.0.0.9\n10.0.0.8",
    "for=198.51.100.7;proto=https;by=10.0.0.9, for=\"[2001:db8::1]:4711\"",
    "for=unknown, for=_hidden",
    "[2001:db8::1]:443",
];
const TRACES: [&str; 4] = [
    "\x0000-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\n\x01a=1,b@c=2",
    "\x0280f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-1-05e3ac9a4f6e3b90",
    "\x0380f198ee56343ba864fe8b2a57d3eff7\n\x04e457b5a2e4d86bd1\n\x051\n\x0705e3ac9a4f6e3b90",
    "\x020\n\x061",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn path(text in texts(&PATHS)) {
        checks::path::check(&text);
    }

    #[test]
    fn signature(bytes in inputs(&SIGNATURES)) {
        checks::signature::check(&bytes);
    }

    #[test]
    fn key_set(text in texts(&KEY_SETS)) {
        checks::key_set::check(&text);
    }

    #[test]
    fn client_certificate(bytes in inputs(&CERTIFICATES)) {
        checks::client_certificate::check(&bytes);
    }

    #[test]
    fn client_address(bytes in inputs(&ADDRESSES)) {
        checks::client_address::check(&bytes);
    }

    #[test]
    fn trace_context(bytes in inputs(&TRACES)) {
        checks::trace_context::check(&bytes);
    }
}

proptest! {
    // Passwords are slow to try, and configurations to compile.
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn authorization(bytes in inputs(&CREDENTIALS)) {
        checks::authorization::check(&bytes);
    }

    #[test]
    fn config_text(text in texts(&CONFIGURATIONS)) {
        checks::config_text::check(&text);
    }
}
