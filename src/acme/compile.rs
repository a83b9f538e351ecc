//! From whom certificates come, from its section, or every reason why not.

use std::path::Path;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::Uri;
use http::uri::Scheme;
use openssl::x509::X509;

use super::storage::Storage;
use super::{Acme, Challenges, Renewals};
use crate::config::{self, AcmeChallenge, Diagnostics, Server, Spanned};

/// The authorities that are known by name, and their directories.
const KNOWN: [(&str, &str); 2] = [
    (
        "letsencrypt",
        "https://acme-v02.api.letsencrypt.org/directory",
    ),
    (
        "letsencrypt_staging",
        "https://acme-staging-v02.api.letsencrypt.org/directory",
    ),
];

/// An account that was made elsewhere.
#[derive(Clone)]
pub(super) struct ExternalAccount {
    pub(super) key_id: Box<str>,
    pub(super) key: Box<[u8]>,
}

impl std::fmt::Debug for ExternalAccount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("ExternalAccount")
            .field(&self.key_id)
            .finish()
    }
}

impl Acme {
    /// Compiles the section, or reports everything that is wrong with it. Relative paths start from `base`. What
    /// authorities look for is in `shown`, and what came of attempts in `known`.
    pub fn compile(
        section: &Spanned<config::Acme>,
        server: &Server,
        base: &Path,
        (shown, known): (&Challenges, &Renewals),
        diagnostics: &mut Diagnostics,
    ) -> Option<Self> {
        if !section.accept_terms.value {
            diagnostics
                .error(
                    section.span,
                    "the authority's terms of service are not agreed to",
                )
                .help("read them, and add `accept_terms: true`: it issues nothing before");
        }
        let directory = directory(&section.directory, diagnostics);
        let contact = section.contact.iter().filter_map(|address| {
            let has_two_ends = address.split_once('@').is_some_and(|(name, host)| {
                !name.is_empty() && !host.is_empty() && !address.contains([' ', ',', ':'])
            });
            if !has_two_ends {
                diagnostics
                    .error(address.span, format!("`{address}` is no mail address"))
                    .help("write it as `ops@example.com`");
                return None;
            }
            Some(format!("mailto:{address}"))
        });
        let contact: Box<[String]> = contact.collect();
        let external_account = section.external_account.as_ref();
        let external_account = external_account.map(|it| external_account_of(it, diagnostics));
        let authorities = section.ca.as_ref();
        let authorities = authorities.map(|file| authorities_in(file, base, diagnostics));
        let challenges = challenges(section, server, diagnostics);
        if !uses_any(server) {
            diagnostics
                .warning(section.span, "no listener gets certificates from here")
                .help("add `tls: { acme: NAME }` to one, or remove `acme`");
        } else if !server.watch_files {
            diagnostics
                .error(
                    section.span,
                    "certificates are taken up as their files change, which nobody watches",
                )
                .help("remove `server.watch_files: false`");
        }
        let folder = base.join(section.storage.as_str());
        if folder.exists() && !folder.is_dir() {
            diagnostics
                .error(
                    section.storage.span,
                    format!("`{}` is no folder", section.storage),
                )
                .help("name one that the gateway may write to");
            return None;
        }
        let (name, directory) = directory?;
        Some(Self {
            directory,
            contact,
            external_account: external_account.map_or(Some(None), |it| it.map(Some))?,
            challenges,
            authorities: authorities.map_or(Some(None), |it| it.map(Some))?,
            storage: Storage::new(&folder.join(&*name)),
            shown: shown.clone(),
            known: known.clone(),
        })
    }
}

/// Whether a listener has certificates that the gateway gets by itself.
fn uses_any(server: &Server) -> bool {
    let tls = server.listen.iter().filter_map(|it| it.tls.as_ref());
    tls.into_iter().any(|tls| !tls.acme.0.is_empty())
}

/// What the authority's folder is called, and the URL of its directory.
fn directory(
    written: &Spanned<String>,
    diagnostics: &mut Diagnostics,
) -> Option<(Box<str>, Box<str>)> {
    if let Some((name, url)) = KNOWN.iter().find(|(name, _)| *name == written.as_str()) {
        return Some(((*name).into(), (*url).into()));
    }
    let uri = written.parse::<Uri>().ok();
    let uri = uri.filter(|uri| uri.scheme() == Some(&Scheme::HTTPS) && uri.host().is_some());
    let Some(uri) = uri else {
        diagnostics
            .error(written.span, format!("`{written}` is no authority"))
            .help("`letsencrypt`, `letsencrypt_staging`, or the `https` URL of a directory");
        return None;
    };
    // A letter or digit stays, whatever else there is can't lead to another folder.
    let kept = |c: char| {
        if c.is_ascii_alphanumeric() || c == '.' {
            c
        } else {
            '_'
        }
    };
    let text = uri.to_string();
    let name: String = text["https://".len()..].chars().map(kept).collect();
    Some((name.trim_matches(['_', '.']).into(), text.into()))
}

fn external_account_of(
    section: &Spanned<config::ExternalAccount>,
    diagnostics: &mut Diagnostics,
) -> Option<ExternalAccount> {
    let text = section.hmac_key.0.text().trim().trim_end_matches('=');
    if diagnostics.has_error_within(section.hmac_key.span) {
        return None;
    }
    match URL_SAFE_NO_PAD.decode(text) {
        Ok(key) if !key.is_empty() => Some(ExternalAccount {
            key_id: section.key_id.as_str().into(),
            key: key.into(),
        }),
        _ => {
            diagnostics
                .error(section.hmac_key.span, "this is no key in base64url")
                .help("copy it as the authority shows it");
            None
        }
    }
}

fn authorities_in(
    file: &Spanned<String>,
    base: &Path,
    diagnostics: &mut Diagnostics,
) -> Option<Arc<str>> {
    let text = match std::fs::read_to_string(base.join(file.as_str())) {
        Ok(text) => text,
        Err(error) => {
            diagnostics
                .error(file.span, format!("`{file}` can't be read: {error}"))
                .help(format!("the path starts from `{}`", base.display()));
            return None;
        }
    };
    match X509::stack_from_pem(text.as_bytes()) {
        Ok(found) if !found.is_empty() => Some(text.into()),
        _ => {
            diagnostics
                .error(file.span, format!("`{file}` holds no certificate"))
                .help("it must be a PEM file with `-----BEGIN CERTIFICATE-----`");
            None
        }
    }
}

fn challenges(
    section: &Spanned<config::Acme>,
    server: &Server,
    diagnostics: &mut Diagnostics,
) -> Box<[AcmeChallenge]> {
    let written = &section.challenge;
    let has_clear = server.listen.iter().any(|it| it.tls.is_none());
    if written.0.is_empty() {
        diagnostics
            .error(written.span, "`challenge` is an empty list")
            .help("`tls_alpn`, `http`, or both");
    }
    let only_http = written.iter().all(|it| it.value == AcmeChallenge::Http);
    if only_http && !has_clear && !written.0.is_empty() {
        diagnostics
            .error(written.span, "no listener could be asked in clear")
            .help("add one at port 80, which may have `redirect_https: true`, or use `tls_alpn`");
    }
    let usable = written.iter().map(|it| it.value);
    usable
        .filter(|it| has_clear || *it == AcmeChallenge::TlsAlpn)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_has_a_name_or_the_url_of_its_directory_and_a_folder_of_its_own() {
        for (written, folder, url) in [
            (
                "letsencrypt",
                "letsencrypt",
                "https://acme-v02.api.letsencrypt.org/directory",
            ),
            (
                "letsencrypt_staging",
                "letsencrypt_staging",
                "https://acme-staging-v02.api.letsencrypt.org/directory",
            ),
            (
                "https://ca.example:14000/../dir",
                "ca.example_14000_.._dir",
                "https://ca.example:14000/../dir",
            ),
        ] {
            let mut diagnostics = Diagnostics::default();
            let found = directory(&written.to_owned().into(), &mut diagnostics);
            let found = found.as_ref().map(|(folder, url)| (&**folder, &**url));
            assert_eq!(found, Some((folder, url)));
            assert!(!diagnostics.has_errors());
        }
        for written in [
            "letsencrypt_production",
            "http://ca.example/dir",
            "https://",
            "",
        ] {
            let mut diagnostics = Diagnostics::default();
            assert!(directory(&written.to_owned().into(), &mut diagnostics).is_none());
            assert!(diagnostics.has_errors(), "{written}");
        }
    }
}
