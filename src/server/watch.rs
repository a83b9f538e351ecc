//! Whether files have changed: the configuration and all that it names.
//!
//! They are looked at, not subscribed to: a look sees editors that rename, links that are swapped
//! (as Kubernetes does with mounted secrets) and network file systems alike, and costs a few
//! microseconds twice a second.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

/// How often files are looked at.
pub(super) const INTERVAL: Duration = Duration::from_millis(500);

/// Files, and what they looked like when they were read.
#[derive(Debug)]
pub(super) struct Watched {
    files: Vec<PathBuf>,
    read: Vec<Look>,
    last: Vec<Look>,
}

/// Device, inode, length and time of change of what a path leads to; `None` if it leads nowhere.
type Look = Option<(u64, u64, u64, SystemTime)>;

impl Watched {
    /// Files that are about to be read.
    pub(super) fn new(mut files: Vec<PathBuf>) -> Self {
        files.sort();
        files.dedup();
        let read = look(&files);
        Self {
            files,
            last: read.clone(),
            read,
        }
    }

    /// Watches other files from now on. Those that stay are held against what they looked like.
    pub(super) fn replace(&mut self, files: Vec<PathBuf>) {
        let mut next = Self::new(files);
        for (index, file) in next.files.iter().enumerate() {
            if let Ok(known) = self.files.binary_search(file) {
                next.read[index] = self.read[known];
            }
        }
        *self = next;
    }

    /// The files.
    pub(super) fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// Whether they differ from what was read and have come to rest: a file that is just being
    /// written is not read in halves.
    pub(super) fn have_changed(&mut self) -> bool {
        let now = look(&self.files);
        let is_at_rest = now == self.last;
        self.last = now;
        is_at_rest && self.last != self.read
    }
}

fn look(files: &[PathBuf]) -> Vec<Look> {
    let look = |path: &PathBuf| {
        let metadata = std::fs::metadata(path).ok()?;
        let modified = metadata.modified().ok()?;
        Some((metadata.dev(), metadata.ino(), metadata.len(), modified))
    };
    files.iter().map(look).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    /// The number of looks after which a change is reported, if it is within a few.
    fn reported(watched: &mut Watched) -> Option<usize> {
        (1..5).find(|_| watched.have_changed())
    }

    #[test]
    fn every_way_of_changing_a_file_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir(path("v1")).unwrap();
        fs::create_dir(path("v2")).unwrap();
        fs::write(path("v1/file"), "1").unwrap();
        fs::write(path("v2/file"), "2").unwrap();
        symlink("v1", path("data")).unwrap();
        symlink("data/file", path("file")).unwrap();
        let watch = || Watched::new(vec![path("file")]);

        let mut watched = watch();
        assert_eq!(reported(&mut watched), None);
        fs::write(path("v1/file"), "longer").unwrap();
        assert_eq!(reported(&mut watched), Some(2), "written in place");

        let mut watched = watch();
        symlink("v2", path("swap")).unwrap();
        fs::rename(path("swap"), path("data")).unwrap();
        assert_eq!(
            reported(&mut watched),
            Some(2),
            "a link in the way was swapped"
        );

        let mut watched = watch();
        fs::write(path("new"), "2").unwrap();
        fs::rename(path("new"), path("v2/file")).unwrap();
        assert_eq!(reported(&mut watched), Some(2), "renamed over");

        let mut watched = watch();
        fs::remove_file(path("v2/file")).unwrap();
        assert_eq!(reported(&mut watched), Some(2), "removed");
    }

    #[test]
    fn a_file_is_waited_for_while_it_grows() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "").unwrap();
        let mut watched = Watched::new(vec![path.clone()]);
        for length in 1..10 {
            fs::write(&path, "x".repeat(length)).unwrap();
            assert!(!watched.have_changed());
        }
        assert!(watched.have_changed());
    }
}
