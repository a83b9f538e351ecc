//! One certificate from the authority: an order, a proof for each name, and what is issued (RFC 8555 §7.4).

use std::time::Duration;

use instant_acme::{
    Account, AuthorizationStatus, ChallengeType, Identifier, NewOrder, Order, OrderStatus,
    RetryPolicy,
};

use super::issued::Issued;
use super::storage::{Kind, Posted, Storage};
use crate::config::AcmeChallenge;
use crate::tls::{Automatic, proof};

/// Until proofs are shown by everybody who has the folder: each looks at it once a second.
const POSTED: Duration = Duration::from_secs(3);
/// How long the authority may take to look at them, and then to issue.
const PATIENCE: RetryPolicy = RetryPolicy::new().timeout(Duration::from_secs(120));

/// Gets a certificate in place of `replaced`; with its key, in PEM.
///
/// # Errors
/// Why there is none, as far as the authority says.
pub(super) async fn order(
    account: &Account,
    wanted: &Automatic,
    replaced: Option<&Issued>,
    challenge: AcmeChallenge,
    storage: &Storage,
) -> Result<String, String> {
    let names = wanted.names.iter();
    let names: Vec<_> = names
        .map(|name| Identifier::Dns(name.to_string()))
        .collect();
    let mut order = begin(account, &names, replaced).await?;
    // They are shown until the authority has looked.
    let _posted = prove(&mut order, challenge, storage).await?;
    let status = order.poll_ready(&PATIENCE).await;
    match status.map_err(|error| error.to_string())? {
        OrderStatus::Ready | OrderStatus::Valid => {}
        _ => return Err(refusal(&mut order).await),
    }
    let key = order.finalize().await.map_err(|error| error.to_string())?;
    let chain = order.poll_certificate(&PATIENCE).await;
    Ok(key + &chain.map_err(|error| error.to_string())?)
}

async fn begin(
    account: &Account,
    names: &[Identifier],
    replaced: Option<&Issued>,
) -> Result<Order, String> {
    // One that the authority does not know, or has replaced already, must not be in the way.
    if let Some(id) = replaced.and_then(Issued::id)
        && let Ok(order) = account.new_order(&NewOrder::new(names).replaces(id)).await
    {
        return Ok(order);
    }
    let order = account.new_order(&NewOrder::new(names)).await;
    order.map_err(|error| error.to_string())
}

/// Has every name that is not proved yet looked at.
async fn prove(
    order: &mut Order,
    challenge: AcmeChallenge,
    storage: &Storage,
) -> Result<Vec<Posted>, String> {
    let (wanted, called) = match challenge {
        AcmeChallenge::TlsAlpn => (ChallengeType::TlsAlpn01, "TLS-ALPN-01"),
        AcmeChallenge::Http => (ChallengeType::Http01, "HTTP-01"),
    };
    let mut posted = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(found) = authorizations.next().await {
        let mut found = found.map_err(|error| error.to_string())?;
        if found.status != AuthorizationStatus::Pending {
            continue;
        }
        let name = found.identifier().to_string();
        let challenge = found.challenge(wanted.clone());
        let challenge =
            challenge.ok_or_else(|| format!("the authority does not offer {called} for {name}"))?;
        let key = challenge.key_authorization();
        let post = match wanted {
            ChallengeType::TlsAlpn01 => {
                storage.post(Kind::Tls, &name, &proof(&name, key.as_str())?)
            }
            _ if is_token(&challenge.token) => {
                storage.post(Kind::Http, &challenge.token, key.as_str())
            }
            _ => return Err(format!("the authority's token for {name} is none")),
        };
        posted.push(post.map_err(|error| error.to_string())?);
    }
    if posted.is_empty() {
        return Ok(posted);
    }
    tokio::time::sleep(POSTED).await;
    let mut authorizations = order.authorizations();
    while let Some(found) = authorizations.next().await {
        let mut found = found.map_err(|error| error.to_string())?;
        if found.status != AuthorizationStatus::Pending {
            continue;
        }
        if let Some(mut challenge) = found.challenge(wanted.clone()) {
            let ready = challenge.set_ready().await;
            ready.map_err(|error| error.to_string())?;
        }
    }
    Ok(posted)
}

/// Letters that are safe in the name of a file (base64url, §8.3).
fn is_token(text: &str) -> bool {
    let is_safe = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    (1..=200).contains(&text.len()) && text.bytes().all(is_safe)
}

/// What the authority found when it looked.
async fn refusal(order: &mut Order) -> String {
    let mut authorizations = order.authorizations();
    while let Some(found) = authorizations.next().await {
        let Ok(mut found) = found else { continue };
        let name = found.identifier().to_string();
        let Ok(state) = found.refresh().await else {
            continue;
        };
        let mut errors = state.challenges.iter().filter_map(|it| it.error.as_ref());
        if let Some(error) = errors.next_back() {
            return format!("{name}: {error}");
        }
    }
    "the authority refused the order and does not say why".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_name_no_other_file() {
        assert!(is_token("LoqXcYV8q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEuX0"));
        for text in ["", "..", "a/b", "a\0", &"a".repeat(201)] {
            assert!(!is_token(text), "{text:?}");
        }
    }
}
