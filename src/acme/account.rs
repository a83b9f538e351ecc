//! The account with an authority (RFC 8555 §7.3), which is made once.

use std::sync::Arc;

use instant_acme::{Account, AccountCredentials, ExternalAccountKey, NewAccount};
use serde::{Deserialize, Serialize};

use super::Acme;
use super::client::Client;
use super::storage::{read, save};
use crate::upstream::Backends;

/// What is kept of it.
#[derive(Serialize, Deserialize)]
struct Saved {
    contact: Vec<String>,
    credentials: AccountCredentials,
}

/// The account, which is made if there is none.
///
/// # Errors
/// Why there is none.
pub(super) async fn account(acme: &Acme, backends: &Arc<Backends>) -> Result<Account, String> {
    let builder = || {
        Account::builder_with_http(Box::new(Client {
            backends: backends.clone(),
            authorities: acme.authorities.clone(),
        }))
    };
    let contact: Vec<&str> = acme.contact.iter().map(String::as_str).collect();
    let file = acme.storage.account();
    if let Some(saved) = read::<Saved>(file).map_err(|error| error.to_string())? {
        let account = builder().from_credentials(saved.credentials).await;
        let account = account.map_err(|error| error.to_string())?;
        if saved.contact != contact {
            let updated = account.update_contacts(&contact).await;
            updated.map_err(|error| error.to_string())?;
            let saved = read::<Saved>(file).map_err(|error| error.to_string())?;
            let saved = saved.map(|saved| Saved {
                contact: acme.contact.to_vec(),
                ..saved
            });
            save(file, &saved).map_err(|error| error.to_string())?;
        }
        return Ok(account);
    }
    let new = NewAccount {
        contact: &contact,
        terms_of_service_agreed: true,
        only_return_existing: false,
    };
    let external = acme.external_account.as_ref();
    let external = external.map(|it| ExternalAccountKey::new(it.key_id.to_string(), &it.key));
    let made = builder().create(&new, acme.directory.to_string(), external.as_ref());
    let (account, credentials) = made.await.map_err(|error| error.to_string())?;
    let saved = Saved {
        contact: acme.contact.to_vec(),
        credentials,
    };
    save(file, &saved).map_err(|error| error.to_string())?;
    log::info!(
        "account with the authority made: directory={} id={}",
        acme.directory,
        account.id()
    );
    Ok(account)
}
