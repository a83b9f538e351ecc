//! A configuration from its file: read, parsed, and complete with the secrets it names.

use std::io;
use std::path::{Path, PathBuf};

use super::admin::Admin;
use super::diagnostic::Diagnostics;
use super::interpolate::Environment;
use super::root::Config;
use super::secret::{FileText, Secret};
use super::shape::Toggle;
use super::source::{Source, Span, Spanned};
use super::{de, yaml};

/// Largest configuration file. A hundred thousand routes need a quarter of it.
const LARGEST_FILE: u64 = 128 << 20;

/// A configuration and everything found while it was read.
#[derive(Debug)]
pub struct Loaded {
    /// What could be read; complete if there are no errors.
    pub config: Config,
    /// Its text.
    pub source: Source,
    /// Errors and warnings.
    pub diagnostics: Diagnostics,
    /// The file itself and every file it names.
    pub files: Vec<PathBuf>,
}

/// Why a file could not even be looked at.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It can't be read.
    #[error("the configuration {path} can't be read: {source}")]
    Io {
        /// The file.
        path: String,
        /// The system's reason.
        source: io::Error,
    },
    /// It is not a text.
    #[error("the configuration {0} is not UTF-8 text: is it really a YAML file?")]
    NotText(String),
    /// It is far too large.
    #[error("the configuration {path} has {bytes} bytes: at most {LARGEST_FILE} are read")]
    TooLarge {
        /// The file.
        path: String,
        /// Its size.
        bytes: u64,
    },
}

/// Reads the configuration in a file.
///
/// # Errors
/// When there is no text to look at. What is wrong in the text is in [`Loaded::diagnostics`].
pub fn load(path: &Path, environment: Environment<'_>) -> Result<Loaded, LoadError> {
    let name = path.display().to_string();
    let io = |source| LoadError::Io {
        path: name.clone(),
        source,
    };
    let bytes = std::fs::metadata(path).map_err(io)?.len();
    if bytes > LARGEST_FILE {
        return Err(LoadError::TooLarge { path: name, bytes });
    }
    let bytes = std::fs::read(path).map_err(io)?;
    let text = String::from_utf8(bytes).map_err(|_| LoadError::NotText(name))?;
    Ok(parse(Source::new(path, text), environment))
}

/// Reads the configuration in a text. Files it names are looked for beside the text's path.
pub fn parse(source: Source, environment: Environment<'_>) -> Loaded {
    let mut diagnostics = Diagnostics::default();
    let mut config = match yaml::parse(&source.text, environment, &mut diagnostics) {
        Some(root) => de::read(root, &mut diagnostics),
        None => Config::default(),
    };
    let mut files = vec![source.path.clone()];
    read_files(&mut config, &source, &mut files, &mut diagnostics);
    Loaded {
        config,
        source,
        diagnostics,
        files,
    }
}

/// The folder that relative paths in a configuration start from.
pub fn base_of(path: &Path) -> &Path {
    path.parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

fn read_files(
    config: &mut Config,
    source: &Source,
    files: &mut Vec<PathBuf>,
    diagnostics: &mut Diagnostics,
) {
    let base = base_of(&source.path);
    for provider in config.auth_providers.values_mut() {
        for secret in provider.secrets() {
            let harm = "everyone who can read this file can make credentials";
            warn_if_exposed(secret, (source, base), harm, diagnostics);
            read_file(&mut secret.value.0, base, files, diagnostics);
        }
        for text in provider.texts() {
            read_file(text, base, files, diagnostics);
        }
        files.extend(provider.files().map(|file| base.join(file)));
        if let Some(key) = provider
            .forward
            .as_ref()
            .and_then(|it| it.client_key.as_ref())
        {
            warn_if_readable_by_others(&base.join(key.as_str()), key.span, diagnostics);
        }
    }
    if let Toggle::On(Admin {
        token: Some(token), ..
    }) = &mut config.admin.0
    {
        let harm = "everyone who can read this file can change what the gateway does";
        warn_if_exposed(token, (source, base), harm, diagnostics);
        read_file(&mut token.value.0, base, files, diagnostics);
    }
    if let Some(redis) = &mut config.redis {
        for secret in redis.value.secrets() {
            let harm = "everyone who can read this file can change what is counted";
            warn_if_exposed(secret, (source, base), harm, diagnostics);
            read_file(&mut secret.value.0, base, files, diagnostics);
        }
        files.extend(redis.files().map(|file| base.join(file)));
    }
    if let Some(acme) = &mut config.acme {
        for secret in acme.value.secrets() {
            let harm = "everyone who can read this file can get certificates for your account";
            warn_if_exposed(secret, (source, base), harm, diagnostics);
            read_file(&mut secret.value.0, base, files, diagnostics);
        }
        files.extend(acme.file().map(|file| base.join(file)));
    }
    if let Some(Spanned {
        value: Toggle::On(tracing),
        ..
    }) = &mut config.tracing
    {
        for secret in tracing.secrets() {
            let harm = "everyone who can read this file can send spans in the gateway's name";
            warn_if_exposed(secret, (source, base), harm, diagnostics);
            read_file(&mut secret.value.0, base, files, diagnostics);
        }
        files.extend(tracing.file().map(|file| base.join(file)));
    }
    for listener in &config.server.listen {
        files.extend(listener.files().map(|file| base.join(file)));
        for key in listener.keys() {
            warn_if_readable_by_others(&base.join(key.as_str()), key.span, diagnostics);
        }
    }
    if let Some(geoip) = &config.geoip {
        files.push(base.join(geoip.database.as_str()));
    }
    for service in config.services.values() {
        let Some(tls) = &service.tls else { continue };
        files.extend(tls.files().map(|file| base.join(file)));
        if let Some(key) = &tls.client_key {
            warn_if_readable_by_others(&base.join(key.as_str()), key.span, diagnostics);
        }
    }
}

fn read_file(
    text: &mut FileText,
    base: &Path,
    files: &mut Vec<PathBuf>,
    diagnostics: &mut Diagnostics,
) {
    let Some(file) = text.file.clone() else {
        return;
    };
    files.push(base.join(&file.value));
    if let Err(error) = text.read(base) {
        diagnostics
            .error(
                file.span,
                format!("`{}` can't be read: {error}", file.value.display()),
            )
            .help(format!("the path starts from `{}`", base.display()));
    }
}

fn warn_if_exposed(
    secret: &Spanned<Secret>,
    (source, base): (&Source, &Path),
    harm: &str,
    diagnostics: &mut Diagnostics,
) {
    match &secret.0.file {
        Some(file) => warn_if_readable_by_others(&base.join(&file.value), file.span, diagnostics),
        None => warn_if_written_plainly(source, secret.span, harm, diagnostics),
    }
}

fn warn_if_written_plainly(source: &Source, span: Span, harm: &str, diagnostics: &mut Diagnostics) {
    let is_interpolated = source
        .text
        .get(span.start..span.end)
        .is_some_and(|written| written.contains("${"));
    if !is_interpolated {
        diagnostics
            .warning(span, "a secret is written in plain text")
            .secret()
            .label(harm)
            .help("write `${NAME}` and set that variable, or `{ file: /path }`");
    }
}

fn warn_if_readable_by_others(path: &Path, span: Span, diagnostics: &mut Diagnostics) {
    use std::os::unix::fs::PermissionsExt;
    let Ok(metadata) = std::fs::metadata(path) else {
        return;
    };
    if metadata.permissions().mode() & 0o004 != 0 {
        diagnostics
            .warning(
                span,
                format!(
                    "`{}` holds a secret and every user can read it",
                    path.display()
                ),
            )
            .help(format!("run `chmod 640 {}`", path.display()));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Loaded {
        parse(Source::new("t.yaml", text), &|name| {
            (name == "S").then(|| "5s".to_owned())
        })
    }

    #[test]
    fn the_smallest_configuration_is_read() {
        let loaded = read(
            "rateLimitWindow: 5m\nrateLimitCount: 10\nservices:\n  service1:\n    base_url: https://example.com\n    routes:\n      - path: /api/v1/data\n      - /short\n",
        );
        assert!(
            loaded.diagnostics.as_slice().is_empty(),
            "{:?}",
            loaded.diagnostics
        );
        let service = &loaded.config.services["service1"];
        assert_eq!(
            service.base_url.as_ref().unwrap().value,
            "https://example.com"
        );
        assert_eq!(service.routes[1].path.as_ref().unwrap().value, "/short");
        assert_eq!(loaded.config.rate_limit_count.unwrap().value, 10);
    }

    #[test]
    fn every_problem_is_reported_in_one_run() {
        let loaded = read(
            "server: {threads: many, listn: x}\nratelimit: {}\nservices:\n  a:\n    base_url: [1]\n    routes:\n      - path: /a\n        rate_limit: {limit: 5, by: ip}\n      - pth: /b\nrateLimitCount: ten\n",
        );
        let messages: Vec<_> = loaded
            .diagnostics
            .as_slice()
            .iter()
            .map(|d| d.message.as_str())
            .collect();
        for expected in [
            "is not a number of threads",
            "unknown key `listn`",
            "unknown key `ratelimit`",
            "expected a text, found a list",
            "expected a whole number, found `ten`",
            "unknown value `ip`",
            "unknown key `pth`",
            "`window` is missing",
        ] {
            assert!(
                messages.iter().any(|m| m.contains(expected)),
                "{expected}: {messages:#?}"
            );
        }
        assert_eq!(messages.len(), 8, "{messages:#?}");
    }

    #[test]
    fn an_interpolated_value_is_not_shown() {
        let loaded = parse(
            Source::new("t.yaml", "server: {threads: \"${SECRET}\"}\n"),
            &|_| Some("hunter2".into()),
        );
        let shown = super::super::render(loaded.diagnostics.as_slice(), &loaded.source, false);
        assert!(shown.contains("is not a number of threads"), "{shown}");
        assert!(!shown.contains("hunter2"), "{shown}");
    }

    #[test]
    fn a_missing_file_says_what_is_missing() {
        let error = load(Path::new("/nowhere/tollgate.yaml"), &|_| None).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("/nowhere/tollgate.yaml can't be read")
        );
        assert!(load(Path::new("/"), &|_| None).is_err());
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "(server|services|routes|path|auth|rate_limit|limit|: |\n  |- |\\{|\\}|\\[|\\]|5m|off|\\$\\{S\\}|'|\"|&a|\\*a|<<|x|/){0,60}") {
            let loaded = read(&text);
            super::super::render(loaded.diagnostics.as_slice(), &loaded.source, false);
        }
    }
}
