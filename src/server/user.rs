//! Becoming a user who may do little, once what only root may do is done.

use std::ffi::CString;
use std::io;
use std::os::unix::fs::chown;
use std::path::Path;

use nix::unistd::{Uid, User, geteuid, initgroups, setgid, setuid};

/// Becomes the user of this name for good, all threads of the process. `own` are files that the user
/// goes on writing to.
///
/// # Errors
/// When there is no such user, or it is another one and the process is not root's.
pub(super) fn become_user<'p>(
    name: &str,
    own: impl IntoIterator<Item = &'p Path>,
) -> io::Result<()> {
    let user = User::from_name(name)?
        .ok_or_else(|| io::Error::other("this system has no such user (`server.user`)"))?;
    if user.uid == geteuid() {
        return Ok(());
    }
    if geteuid() != Uid::from_raw(0) {
        return Err(io::Error::other(
            "only a process that root started can become another user (`server.user`)",
        ));
    }
    for path in own {
        chown(path, Some(user.uid.as_raw()), Some(user.gid.as_raw()))?;
    }
    initgroups(&CString::new(name)?, user.gid)?;
    setgid(user.gid)?;
    setuid(user.uid)?;
    // The commands of this user recognise the process by what it runs, which is hidden from a user
    // whose process was root's (prctl(2)).
    #[cfg(target_os = "linux")]
    nix::sys::prctl::set_dumpable(true)?;
    Ok(())
}
