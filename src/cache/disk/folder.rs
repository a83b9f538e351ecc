//! The folder with the files of kept answers: their names, and whose it is. Whatever else is in it is left
//! alone.

use std::ffi::OsStr;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::process::geteuid;

/// What an answer is called while it is written. One is written at a time.
const INCOMING: &str = "incoming";
/// Whoever has this file locked writes into the folder.
const LOCK: &str = "lock";
/// Folders in the folder, so that none gets very large.
pub(super) const PARTS: u16 = 256;

/// Where answers are.
#[derive(Debug, Clone)]
pub(super) struct Folder(PathBuf);

/// The name of a file: the key of its answer and when that was kept, in nanoseconds since 1970. No other
/// one ever has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) key: u128,
    pub(super) stamp: u64,
}

/// The right to write into the folder, until it is dropped.
#[derive(Debug)]
pub(super) struct Lock(#[expect(dead_code, reason = "it is locked while it is open")] File);

impl Name {
    fn read(name: &OsStr) -> Option<Self> {
        let (key, stamp) = name.to_str()?.split_once('-')?;
        let is_ours = key.len() == 32 && stamp.len() == 16;
        is_ours.then_some(Self {
            key: u128::from_str_radix(key, 16).ok()?,
            stamp: u64::from_str_radix(stamp, 16).ok()?,
        })
    }

    /// The part of the folder that it is in.
    pub(super) fn part(self) -> u8 {
        (self.key >> 120) as u8
    }
}

impl Folder {
    /// Takes a folder, which is made if it is not there.
    ///
    /// # Errors
    /// When it can't be made, others may write there, or this user may not.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        make(path)?;
        let found = std::fs::metadata(path)?;
        if found.uid() != geteuid().as_raw() || found.mode() & 0o022 != 0 {
            // Whoever may write there could put answers in the place of others.
            let text = "it has to be the gateway's own, and nobody else may write there";
            return Err(io::Error::other(text));
        }
        let folder = Self(path.to_owned());
        folder.lock_file()?;
        Ok(folder)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// The right to write there; `None` if another process has it and this one does not wait for it.
    pub(super) fn lock(&self, waits: bool) -> io::Result<Option<Lock>> {
        let file = self.lock_file()?;
        let operation = match waits {
            true => FlockOperation::LockExclusive,
            false => FlockOperation::NonBlockingLockExclusive,
        };
        loop {
            match flock(&file, operation) {
                Ok(()) => return Ok(Some(Lock(file))),
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The file of an answer.
    pub(super) fn file(&self, name: Name) -> PathBuf {
        let mut path = self.part(name.part().into());
        path.push(format!("{:032x}-{:016x}", name.key, name.stamp));
        path
    }

    /// What to write an answer to, before it gets its name.
    pub(super) fn incoming(&self) -> io::Result<(PathBuf, File)> {
        let path = self.0.join(INCOMING);
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(true).mode(0o600);
        Ok((path.clone(), file.open(path)?))
    }

    /// Gives what was written its name.
    pub(super) fn admit(&self, incoming: &Path, name: Name) -> io::Result<()> {
        let to = self.file(name);
        match std::fs::rename(incoming, &to) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                make(&self.part(name.part().into()))?;
                std::fs::rename(incoming, to)
            }
            result => result,
        }
    }

    /// The answers in a part of the folder.
    pub(super) fn names(&self, part: u16) -> Vec<Name> {
        let entries = std::fs::read_dir(self.part(part));
        let entries = entries.into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| Name::read(&entry.file_name()));
        names
            .filter(|name| u16::from(name.part()) == part)
            .collect()
    }

    /// Has what was removed from a part stay removed when the power fails.
    pub(super) fn sync(&self, part: u8) -> io::Result<()> {
        File::open(self.part(part.into()))?.sync_all()
    }

    fn part(&self, part: u16) -> PathBuf {
        self.0.join(format!("{part:02x}"))
    }

    fn lock_file(&self) -> io::Result<File> {
        let mut options = OpenOptions::new();
        let options = options.write(true).create(true).truncate(false).mode(0o600);
        options.open(self.0.join(LOCK))
    }
}

/// Makes a folder that nobody but this user can read, unless it is there.
///
/// # Errors
/// When it can't be made.
pub fn make(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn only_the_names_of_answers_are_ours() {
        let name = Name {
            key: 0xab << 120 | 1,
            stamp: 2,
        };
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::open(&root.path().join("answers")).unwrap();
        let (path, _) = folder.incoming().unwrap();
        folder.admit(&path, name).unwrap();
        for other in ["notes.txt", "-", "0-0"] {
            std::fs::write(folder.path().join("ab").join(other), "").unwrap();
        }
        assert_eq!(folder.names(0xab), [name]);
        assert_eq!(folder.names(0xac), []);
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(folder.path()), 0o700);
        assert_eq!(mode(&folder.file(name)), 0o600);
    }

    #[test]
    fn a_folder_that_others_may_write_to_is_none() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("answers");
        Folder::open(&path).unwrap();
        for mode in [0o770, 0o702] {
            std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
            assert!(Folder::open(&path).is_err());
        }
    }

    #[test]
    fn one_at_a_time_may_write() {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::open(root.path()).unwrap();
        let lock = folder.lock(false).unwrap().unwrap();
        assert!(folder.lock(false).unwrap().is_none());
        drop(lock);
        assert!(folder.lock(true).unwrap().is_some());
    }
}
