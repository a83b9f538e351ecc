//! Signs requests as RFC 9421 says, by putting the text together that is signed.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use openssl::hash::MessageDigest;
use openssl::pkey::PKey;
use openssl::sign::Signer as Mac;

use super::answer::Request;

/// Somebody with a secret.
#[derive(Debug, Clone, Copy)]
pub struct MessageSigner {
    pub key: &'static str,
    pub secret: &'static str,
}

/// The fields of a signature.
#[derive(Debug, Clone)]
pub struct Signature {
    pub input: String,
    pub value: String,
}

impl MessageSigner {
    /// Signs components and their values, now.
    pub fn sign(&self, components: &[(&str, &str)]) -> Signature {
        self.sign_at(now(), components)
    }

    pub fn sign_at(&self, created: u64, components: &[(&str, &str)]) -> Signature {
        let names: Vec<String> = components.iter().map(|(name, _)| quoted(name)).collect();
        let lines = components
            .iter()
            .map(|(name, value)| format!("{}: {value}\n", quoted(name)));
        let parameters = format!(
            "({});created={created};keyid=\"{}\";nonce=\"{:x}\"",
            names.join(" "),
            self.key,
            fastrand::u64(..)
        );
        let base = format!(
            "{}\"@signature-params\": {parameters}",
            lines.collect::<String>()
        );
        let key = PKey::hmac(self.secret.as_bytes()).unwrap();
        let mut mac = Mac::new(MessageDigest::sha256(), &key).unwrap();
        let value = mac.sign_oneshot_to_vec(base.as_bytes()).unwrap();
        Signature {
            input: format!("sig1={parameters}"),
            value: format!("sig1=:{}:", STANDARD.encode(value)),
        }
    }
}

/// `name`, or `name;parameter`.
fn quoted(name: &str) -> String {
    match name.split_once(';') {
        Some((name, parameter)) => format!("\"{name}\";{parameter}"),
        None => format!("\"{name}\""),
    }
}

fn now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.unwrap().as_secs()
}

/// A `Content-Digest`.
pub fn digest(body: &[u8]) -> String {
    format!("sha-256=:{}:", STANDARD.encode(openssl::sha::sha256(body)))
}

impl Request {
    pub fn signature(self, signature: &Signature) -> Self {
        self.header("signature-input", &signature.input)
            .header("signature", &signature.value)
    }
}
