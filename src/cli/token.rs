//! `tollgate token`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Args;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Map, Value, json};

use super::configuration::print;
use super::{ConfigFile, Failure};
use crate::config::{Config, Jwt, JwtAlgorithm, Period};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    file: ConfigFile,
    /// The provider under `auth_providers`; not needed if there is only one
    #[arg(long, value_name = "NAME")]
    provider: Option<String>,
    /// A claim, as `name=value`; the value is JSON if it can be; may be repeated
    #[arg(long = "claim", value_name = "CLAIM")]
    claims: Vec<String>,
    /// How long the token is valid
    #[arg(long, value_name = "DURATION", default_value = "1h")]
    expires: String,
}

/// Prints a token that the provider accepts.
pub(super) fn token(arguments: &Arguments) -> Result<(), Failure> {
    let usable = arguments.file.compile()?;
    let (name, jwt) = provider(&usable.loaded.config, arguments.provider.as_deref())?;
    let secret = jwt.keys.as_ref().and_then(|keys| keys.secret.as_ref());
    let Some(secret) = secret else {
        return Err(Failure::Other(format!(
            "`{name}` has no shared secret: its tokens are signed by who has the private key"
        )));
    };
    let algorithm = jwt
        .algorithms
        .iter()
        .flat_map(|written| written.iter())
        .find_map(|algorithm| match algorithm.value {
            JwtAlgorithm::HS256 => Some(Algorithm::HS256),
            JwtAlgorithm::HS384 => Some(Algorithm::HS384),
            JwtAlgorithm::HS512 => Some(Algorithm::HS512),
            _ => None,
        });
    let Some(algorithm) = algorithm else {
        return Err(Failure::Other(format!(
            "`{name}` accepts no algorithm with a shared secret"
        )));
    };
    let lifetime = Period::parse(&arguments.expires).map_err(Failure::Other)?;
    let claims = claims(jwt, &arguments.claims, lifetime.0)?;
    let key = EncodingKey::from_secret(secret.expose().as_bytes());
    let token = jsonwebtoken::encode(&Header::new(algorithm), &Value::Object(claims), &key)
        .map_err(|error| Failure::Other(error.to_string()))?;
    print(&format!("{token}\n"))
}

fn provider<'c>(config: &'c Config, name: Option<&str>) -> Result<(&'c str, &'c Jwt), Failure> {
    let providers = &config.auth_providers;
    let found = match name {
        Some(name) => providers.get_key_value(name),
        None if providers.len() == 1 => providers.first(),
        None => None,
    };
    match found {
        Some((name, provider)) => match &provider.jwt {
            Some(jwt) => Ok((name.as_str(), jwt)),
            None => Err(Failure::Other(format!("`{name}` is not about tokens"))),
        },
        None => {
            let names: Vec<&str> = providers.keys().map(|name| name.as_str()).collect();
            Err(Failure::Other(if names.is_empty() {
                "the configuration has no `auth_providers`".to_owned()
            } else {
                format!(
                    "name one of the providers with --provider: {}",
                    names.join(", ")
                )
            }))
        }
    }
}

fn claims(jwt: &Jwt, given: &[String], lifetime: Duration) -> Result<Map<String, Value>, Failure> {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let mut claims = Map::new();
    claims.insert("iat".into(), json!(now.as_secs()));
    claims.insert("exp".into(), json!((now + lifetime).as_secs()));
    if let Some(issuer) = &jwt.issuer {
        claims.insert("iss".into(), json!(issuer.value));
    }
    if let Some(audience) = jwt.audiences.iter().next() {
        claims.insert("aud".into(), json!(audience.value));
    }
    for claim in given {
        let Some((name, value)) = claim.split_once('=') else {
            return Err(Failure::Other(format!(
                "`{claim}` is not a claim: write `name=value`"
            )));
        };
        let value = serde_json::from_str(value).unwrap_or_else(|_| json!(value));
        claims.insert(name.to_owned(), value);
    }
    Ok(claims)
}
