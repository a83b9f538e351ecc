//! The folder of an authority: the account, the certificates, what authorities look for, and what came of
//! attempts.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// What authorities have not looked for in this time they do not look for any more.
const FORGOTTEN: Duration = Duration::from_secs(3600);
/// Most proofs at a time.
const MOST_PROOFS: usize = 1000;

/// The folder. It holds keys, and nobody but the gateway's user gets to see them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Storage {
    certificates: PathBuf,
    proofs: PathBuf,
    account: PathBuf,
}

/// A lock that ends with the process that holds it.
pub(super) struct Locked {
    _file: File,
}

/// Something that authorities look for, as long as this lives.
pub(super) struct Posted(PathBuf);

impl Drop for Posted {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.0) {
            log::debug!("a proof stays for an hour: {error}");
        }
    }
}

/// Where a proof is found: by the name that an authority shakes hands for, or by a token that it asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Tls,
    Http,
}

impl Kind {
    fn prefix(self) -> &'static str {
        match self {
            Self::Tls => "tls-",
            Self::Http => "http-",
        }
    }
}

impl Storage {
    pub(super) fn new(folder: &Path) -> Self {
        Self {
            certificates: folder.join("certificates"),
            proofs: folder.join("proofs"),
            account: folder.join("account.json"),
        }
    }

    pub(super) fn certificates(&self) -> &Path {
        &self.certificates
    }

    pub(super) fn account(&self) -> &Path {
        &self.account
    }

    /// Makes the folders, if they are not there.
    pub(super) fn prepare(&self) -> io::Result<()> {
        for folder in [&self.certificates, &self.proofs] {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(folder)
                .map_err(|error| naming(folder, &error))?;
        }
        Ok(())
    }

    /// Keeps others from the same work, unless one of them is at it.
    pub(super) fn lock(&self, file: &Path) -> io::Result<Option<Locked>> {
        let path = file.with_extension("lock");
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(&path).map_err(|error| naming(&path, &error))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Locked { _file: file })),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(naming(&path, &error.into())),
        }
    }

    /// Has everybody with this folder show a proof.
    pub(super) fn post(&self, kind: Kind, name: &str, text: &str) -> io::Result<Posted> {
        let path = self.proofs.join(format!("{}{name}", kind.prefix()));
        write(&path, text.as_bytes())?;
        Ok(Posted(path))
    }

    /// All proofs, with what they are found by.
    pub(super) fn proofs(&self, now: SystemTime) -> Vec<(Kind, String, String)> {
        let Ok(entries) = fs::read_dir(&self.proofs) else {
            return Vec::new();
        };
        let read = |entry: fs::DirEntry| {
            let name = entry.file_name().into_string().ok()?;
            let kind = [Kind::Tls, Kind::Http]
                .into_iter()
                .find(|kind| name.starts_with(kind.prefix()))?;
            let written = entry.metadata().and_then(|it| it.modified()).ok()?;
            if now.duration_since(written).is_ok_and(|age| age > FORGOTTEN) {
                drop(Posted(entry.path()));
                return None;
            }
            let text = fs::read_to_string(entry.path()).ok()?;
            Some((kind, name[kind.prefix().len()..].to_owned(), text))
        };
        let entries = entries.filter_map(Result::ok).take(MOST_PROOFS);
        entries.filter_map(read).collect()
    }
}

/// What is written in a file; `None` if there is none.
pub(super) fn read<T: DeserializeOwned>(file: &Path) -> io::Result<Option<T>> {
    let text = match fs::read(file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(naming(file, &error)),
    };
    let value = serde_json::from_slice(&text);
    value.map(Some).map_err(|error| naming(file, &error.into()))
}

pub(super) fn save(file: &Path, value: &impl Serialize) -> io::Result<()> {
    write(file, &serde_json::to_vec_pretty(value)?)
}

/// Writes a file that is there as a whole or not at all, and that only this user can read.
pub(super) fn write(file: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let next = file.with_file_name(name);
    let written = || {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let mut out = options.open(&next)?;
        out.write_all(bytes)?;
        out.sync_all()?;
        fs::rename(&next, file)
    };
    written().map_err(|error| naming(file, &error))
}

fn naming(file: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", file.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    fn storage() -> (tempfile::TempDir, Storage) {
        let folder = tempfile::tempdir().unwrap();
        let storage = Storage::new(&folder.path().join("authority"));
        storage.prepare().unwrap();
        (folder, storage)
    }

    #[test]
    fn nobody_else_can_read_what_is_written() {
        let (_folder, storage) = storage();
        let file = storage.certificates().join("a.pem");
        write(&file, b"key").unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!(mode(&file), 0o600);
        assert_eq!(mode(storage.certificates()), 0o700);
        write(&file, b"other").unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"other");
        assert_eq!(fs::read_dir(storage.certificates()).unwrap().count(), 1);
    }

    #[test]
    fn one_at_a_time_has_the_lock() {
        let (_folder, storage) = storage();
        let file = storage.certificates().join("a.pem");
        let first = storage.lock(&file).unwrap();
        assert!(first.is_some());
        assert!(storage.lock(&file).unwrap().is_none());
        drop(first);
        assert!(storage.lock(&file).unwrap().is_some());
    }

    #[test]
    fn a_proof_is_found_as_long_as_it_is_posted_and_not_forgotten() {
        let (_folder, storage) = storage();
        let now = SystemTime::now();
        let posted = storage.post(Kind::Http, "token", "text").unwrap();
        let other = storage.post(Kind::Tls, "a.example", "pem").unwrap();
        let mut found = storage.proofs(now);
        found.sort_by(|a, b| a.1.cmp(&b.1));
        assert_eq!(found[0], (Kind::Tls, "a.example".into(), "pem".into()));
        assert_eq!(found[1], (Kind::Http, "token".into(), "text".into()));
        drop(posted);
        assert_eq!(storage.proofs(now).len(), 1);
        assert_eq!(storage.proofs(now + 2 * FORGOTTEN), []);
        assert_eq!(storage.proofs(now), []);
        drop(other);
    }
}
