//! What systemd is told (sd_notify(3)); nothing where there is no systemd.

use std::time::Duration;

use sd_notify::NotifyState;

/// How often systemd wants to hear that the process is well; twice as often as it would act.
pub(super) fn watchdog_interval() -> Option<Duration> {
    Some(sd_notify::watchdog_enabled()? / 2).filter(|interval| !interval.is_zero())
}

/// The process serves.
pub(super) fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// A configuration is being loaded; [`ready`] says that it is.
pub(super) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => log::debug!("systemd was not told of the reload: {error}"),
    }
}

/// The process ends.
pub(super) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// The process is well.
pub(super) fn alive() {
    tell(&[NotifyState::Watchdog]);
}

/// Another process is the service from now on.
pub(super) fn succeeded_by(pid: u32) {
    tell(&[NotifyState::MainPid(pid), NotifyState::Ready]);
}

fn tell(what: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(what) {
        log::warn!("systemd was not told: {error}");
    }
}
