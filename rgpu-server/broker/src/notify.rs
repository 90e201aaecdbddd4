//! What the service manager is told, where one asks (`Type=notify` of a systemd unit). Nothing otherwise.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::{MissedTickBehavior, interval};

/// How often the line that `systemctl status` shows is made anew.
const STATUS: Duration = Duration::from_secs(10);

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "the service manager cannot be told");
    }
}

/// Clients are let in from now on.
pub fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// The configuration is being read again; [`ready`] follows.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => tracing::warn!(%error, "no time for the service manager"),
    }
}

pub fn stopping(status: &str) {
    tell(&[NotifyState::Stopping, NotifyState::Status(status)]);
}

/// Says now and then how things are, and that this thread is not stuck: twice as often as the manager wants to hear it.
pub async fn heartbeat(status: impl Fn() -> String) {
    if std::env::var_os("NOTIFY_SOCKET").is_none() {
        return;
    }
    let watchdog = sd_notify::watchdog_enabled();
    let pace = watchdog
        .map_or(STATUS, |within| within / 2)
        .max(Duration::from_millis(10));
    let mut beat = interval(pace);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        beat.tick().await;
        let status = status();
        let status = NotifyState::Status(&status);
        match watchdog {
            Some(_) => tell(&[NotifyState::Watchdog, status]),
            None => tell(&[status]),
        }
    }
}
