//! Where answers are kept on disk, and how much of it they may have.

use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

use crate::config::Diagnostics;

/// Bytes that kept answers may have together.
const SIZES: std::ops::RangeInclusive<u64> = 1 << 20..=1 << 50;

/// A folder that keeps answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheDisk {
    /// Where it is.
    pub path: PathBuf,
    /// Bytes that they may have together.
    pub max_size: u64,
}

impl CacheDisk {
    pub(super) fn compile(
        section: &crate::config::CacheDisk,
        base: &Path,
        diagnostics: &mut Diagnostics,
    ) -> Self {
        if !SIZES.contains(&section.max_size.value.0) {
            let text = format!("`max_size` of {} is out of range", section.max_size);
            diagnostics
                .error(section.max_size.span, text)
                .help("1MiB to 1PiB");
        }
        let path = base.join(section.path.as_str());
        if let Err((place, error)) = check_folder(&path) {
            let text = format!("answers can't be kept in `{}`: {error}", place.display());
            diagnostics.error(section.path.span, text).help(
                "write a folder in which the gateway's user may make files, such as `/var/cache/tollgate`",
            );
        }
        Self {
            path,
            max_size: section.max_size.value.0,
        }
    }
}

/// Whether files can be made in a folder, or the folder itself where it is to be.
fn check_folder(path: &Path) -> Result<(), (&Path, std::io::Error)> {
    let place = match path.symlink_metadata() {
        Ok(_) => path,
        Err(_) => path.parent().unwrap_or(path),
    };
    let failed = |error: std::io::Error| (place, error);
    if !place.metadata().map_err(failed)?.is_dir() {
        return Err(failed(std::io::ErrorKind::NotADirectory.into()));
    }
    access(place, Access::WRITE_OK | Access::EXEC_OK).map_err(|error| failed(error.into()))
}
