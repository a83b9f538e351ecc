//! Whoever signs tokens, and what it publishes of its keys.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use openssl::bn::{BigNum, BigNumContext};
use openssl::ec::{EcGroup, EcKey};
use openssl::nid::Nid;
use openssl::pkey::PKey;
use serde_json::{Value, json};

/// Has a key by every id that it is asked for.
#[derive(Default)]
pub struct Signer {
    keys: Mutex<BTreeMap<String, Key>>,
    published: Mutex<Vec<String>>,
    tokens: AtomicUsize,
}

struct Key {
    private: EncodingKey,
    public: Value,
}

impl Signer {
    /// Makes these the keys that it publishes.
    pub fn publish(&self, ids: &[&str]) {
        *self.published.lock().unwrap() = ids.iter().map(ToString::to_string).collect();
    }

    /// What it publishes.
    pub fn set(&self) -> Value {
        let published = self.published.lock().unwrap();
        let published = published
            .iter()
            .map(|id| self.with(id, |key| key.public.clone()));
        json!({ "keys": published.collect::<Vec<_>>() })
    }

    /// A token unlike any other, by an issuer and with more claims.
    pub fn token(&self, id: &str, issuer: &str, more: &Value) -> String {
        let number = self.tokens.fetch_add(1, Ordering::Relaxed);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let mut claims = json!({"iss": issuer, "sub": "alice", "exp": now.as_secs() + 600,
            "jti": number.to_string()});
        let more = more.as_object().unwrap().clone();
        claims.as_object_mut().unwrap().extend(more);
        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some(id.to_owned());
        self.with(id, |key| encode(&header, &claims, &key.private).unwrap())
    }

    fn with<R>(&self, id: &str, use_key: impl FnOnce(&Key) -> R) -> R {
        let mut keys = self.keys.lock().unwrap();
        use_key(keys.entry(id.to_owned()).or_insert_with(|| Key::new(id)))
    }
}

impl Key {
    fn new(id: &str) -> Self {
        let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
        let key = EcKey::generate(&group).unwrap();
        let (mut x, mut y) = (BigNum::new().unwrap(), BigNum::new().unwrap());
        let mut context = BigNumContext::new().unwrap();
        key.public_key()
            .affine_coordinates(&group, &mut x, &mut y, &mut context)
            .unwrap();
        let coordinate =
            |number: &BigNum| URL_SAFE_NO_PAD.encode(number.to_vec_padded(32).unwrap());
        let public = json!({"kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": id,
            "x": coordinate(&x), "y": coordinate(&y)});
        let pem = PKey::from_ec_key(key).unwrap().private_key_to_pem_pkcs8();
        let private = EncodingKey::from_ec_pem(&pem.unwrap()).unwrap();
        Self { private, public }
    }
}
