//! A provider: a way in which requests prove who they are.

use std::sync::Arc;
use std::time::Instant;

use http::{HeaderName, HeaderValue};

use super::api_key::ApiKeys;
use super::basic::Users;
use super::certificate::{self, Certificates};
use super::consumer::Members;
use super::credentials::{Credentials, Verdict};
use super::decider::Decider;
use super::jwt::{Awaited, Tokens};
use super::refusal::Refusal;
use super::results;
use super::signature::SignedRequests;
use super::surroundings::Surroundings;
use super::work::Labour;
use crate::config::{self, Diagnostics, Spanned};

const API_KEY_CHALLENGE: HeaderValue = HeaderValue::from_static("ApiKey realm=\"tollgate\"");
const SIGNATURE_CHALLENGE: HeaderValue = HeaderValue::from_static("Signature realm=\"tollgate\"");

/// A way in which requests prove who they are.
pub struct Provider {
    name: Box<str>,
    mechanism: Mechanism,
}

enum Mechanism {
    Jwt(Arc<Tokens>),
    ApiKey(ApiKeys),
    Basic(Arc<Users>),
    Signature(SignedRequests),
    Forward(Arc<Decider>),
    ClientCertificate(Arc<Certificates>),
}

impl Provider {
    /// Compiles a provider, or reports everything that is wrong with it.
    pub fn compile(
        name: &Spanned<String>,
        section: &config::AuthProvider,
        surroundings: Surroundings<'_>,
        diagnostics: &mut Diagnostics,
    ) -> Option<Self> {
        check_mechanisms(name, section, diagnostics)?;
        let members = surroundings.consumers.of(name);
        Some(Self {
            name: name.as_str().into(),
            mechanism: Mechanism::compile(name, section, members, surroundings, diagnostics)?,
        })
    }

    /// How it has requests prove who they are, for counting.
    pub fn counted_as(&self) -> results::Mechanism {
        match &self.mechanism {
            Mechanism::Jwt(_) => results::Mechanism::Jwt,
            Mechanism::ApiKey(_) => results::Mechanism::ApiKey,
            Mechanism::Basic(_) => results::Mechanism::Basic,
            Mechanism::Signature(_) => results::Mechanism::Signature,
            Mechanism::Forward(_) => results::Mechanism::Forward,
            Mechanism::ClientCertificate(_) => results::Mechanism::ClientCertificate,
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it verifies with the keys that the other one does, as far as they are not a part of its
    /// section, and asks nobody else.
    pub fn has_same_keys(&self, other: &Self) -> bool {
        match (&self.mechanism, &other.mechanism) {
            (Mechanism::Jwt(this), Mechanism::Jwt(that)) => this.has_same_keys(that),
            (Mechanism::Forward(this), Mechanism::Forward(that)) => this.number == that.number,
            (Mechanism::ClientCertificate(this), Mechanism::ClientCertificate(that)) => {
                this.has_same_authorities(that)
            }
            _ => true,
        }
    }

    /// Goes on where a predecessor of the same name ends that was configured otherwise.
    pub fn succeed(mut self, before: &Self) -> Self {
        if let (Mechanism::Signature(this), Mechanism::Signature(before)) =
            (&mut self.mechanism, &before.mechanism)
        {
            this.succeed(before);
        }
        self
    }

    /// The headers in which it tells backends who comes; clients' own are never passed on.
    pub fn forwarded_headers(&self) -> Vec<HeaderName> {
        match &self.mechanism {
            Mechanism::Jwt(tokens) => tokens.forwarded_headers().cloned().collect(),
            Mechanism::ApiKey(keys) => keys.forwarded_header().cloned().into_iter().collect(),
            Mechanism::Basic(users) => users.forwarded_header().cloned().into_iter().collect(),
            Mechanism::Signature(it) => it.forwarded_header().cloned().into_iter().collect(),
            Mechanism::Forward(decider) => decider.forwarded_headers().to_vec(),
            Mechanism::ClientCertificate(certificates) => {
                certificates.forwarded_headers().collect()
            }
        }
    }

    /// Whether it has the keys that it verifies with, if it fetches them.
    pub fn has_keys(&self) -> bool {
        match &self.mechanism {
            Mechanism::Jwt(tokens) => tokens.has_keys(),
            _ => true,
        }
    }

    /// Whether some of its credentials take long to verify.
    pub fn may_be_costly(&self) -> bool {
        match &self.mechanism {
            Mechanism::Jwt(tokens) => tokens.may_be_costly(),
            Mechanism::Basic(_) | Mechanism::ClientCertificate(_) => true,
            Mechanism::ApiKey(_) | Mechanism::Signature(_) | Mechanism::Forward(_) => false,
        }
    }

    /// Whom a request comes from.
    pub fn authenticate(&self, credentials: Credentials<'_>) -> Verdict {
        self.authenticate_unless(credentials, |_| None)
    }

    /// Whom a request comes from. `wait` tells for how many seconds its address may not send credentials
    /// that take such work: those that always do are not even read then, unless they are remembered.
    pub fn authenticate_unless(
        &self,
        credentials: Credentials<'_>,
        wait: impl Fn(Labour) -> Option<u64>,
    ) -> Verdict {
        match &self.mechanism {
            Mechanism::Jwt(tokens) => tokens.authenticate(credentials, wait),
            Mechanism::ApiKey(keys) => keys.authenticate(credentials).into(),
            Mechanism::Basic(users) => users.authenticate(credentials),
            Mechanism::Signature(requests) => requests.authenticate(credentials),
            Mechanism::Forward(decider) => decider.authenticate(credentials),
            Mechanism::ClientCertificate(certificates) => certificates.authenticate(credentials),
        }
    }

    /// Whom a request would come from, if it came: a signature that may be used only once is not used up.
    pub fn rehearse(&self, credentials: Credentials<'_>) -> Verdict {
        match &self.mechanism {
            Mechanism::Signature(requests) => requests.rehearse(credentials),
            _ => self.authenticate(credentials),
        }
    }

    /// What is to be waited for before a request that was refused for this, after a look at `looked`, is
    /// asked once more.
    pub fn remedy(&self, refusal: Refusal, looked: Instant) -> Option<Awaited> {
        match &self.mechanism {
            Mechanism::Jwt(tokens) => tokens.remedy(refusal, looked),
            _ => None,
        }
    }

    /// The `WWW-Authenticate` for a request that was refused; `None` if nobody here knows it.
    pub fn challenge(&self, refusal: Refusal) -> Option<HeaderValue> {
        Some(match &self.mechanism {
            Mechanism::Jwt(_) => refusal.bearer_challenge(),
            Mechanism::ApiKey(_) => API_KEY_CHALLENGE,
            Mechanism::Basic(users) => users.challenge(),
            Mechanism::Signature(_) => SIGNATURE_CHALLENGE,
            Mechanism::Forward(_) => return None,
            Mechanism::ClientCertificate(_) => certificate::CHALLENGE,
        })
    }

    /// Whether it decides about every request, with or without a credential.
    pub(super) fn always_decides(&self) -> bool {
        matches!(self.mechanism, Mechanism::Forward(_))
    }

    /// Whether its credentials are bearer tokens.
    pub(super) fn is_bearer(&self) -> bool {
        matches!(self.mechanism, Mechanism::Jwt(_))
    }
}

impl Mechanism {
    fn compile(
        name: &str,
        section: &config::AuthProvider,
        members: Members,
        surroundings: Surroundings<'_>,
        diagnostics: &mut Diagnostics,
    ) -> Option<Self> {
        if let Some(jwt) = &section.jwt {
            let tokens = Tokens::compile(name, jwt, members, surroundings, diagnostics)?;
            return Some(Self::Jwt(Arc::new(tokens)));
        }
        if let Some(keys) = &section.api_key {
            return ApiKeys::compile(name, keys, members, diagnostics).map(Self::ApiKey);
        }
        if let Some(users) = &section.basic {
            let users = Users::compile(name, users, members, surroundings, diagnostics)?;
            return Some(Self::Basic(Arc::new(users)));
        }
        if let Some(signature) = &section.signature {
            let requests = SignedRequests::compile(name, signature, members, diagnostics);
            return requests.map(Self::Signature);
        }
        if let Some(forward) = &section.forward {
            let number = surroundings.deciders;
            let decider = Decider::compile(name, forward, members, number, diagnostics)?;
            return Some(Self::Forward(Arc::new(decider)));
        }
        let section = section.client_certificate.as_ref()?;
        let certificates =
            Certificates::compile(name, section, members, surroundings, diagnostics)?;
        Some(Self::ClientCertificate(Arc::new(certificates)))
    }
}

/// A provider has one mechanism; a route that takes several names several providers.
fn check_mechanisms(
    name: &Spanned<String>,
    section: &config::AuthProvider,
    diagnostics: &mut Diagnostics,
) -> Option<()> {
    let mechanisms = section.mechanisms();
    let written = mechanisms.iter().filter(|(_, is_written)| *is_written);
    let count = written.count();
    let is_lost = mechanisms
        .iter()
        .any(|(key, _)| diagnostics.has_lost_key(key));
    if count != 1 && !is_lost {
        let known = mechanisms.map(|(key, _)| format!("`{key}`")).join(", ");
        diagnostics
            .error(name.span, format!("`{name}` needs exactly one mechanism"))
            .help(format!(
                "one of {known}; a route that takes several names several providers under `any_of`"
            ));
    }
    (count == 1).then_some(())
}

impl std::fmt::Debug for Provider {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Provider")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
