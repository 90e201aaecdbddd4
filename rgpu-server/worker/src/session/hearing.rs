//! What the session hears of beside its commands: from the broker, from devices, and of the client's going away. Each in a thread of its own.

use std::os::fd::OwnedFd;
use std::sync::PoisonError;
use std::time::Duration;

use rgpu_proto::CudaError;
use rgpu_proto::control::ToWorker;
use rgpu_proto::ipc::LoanSecret;
use rgpu_transport::control_socket::ControlError;
use rgpu_transport::{Pipe, TransportKind};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::time::Timespec;

use super::{End, GRACE, Session, lock};
use crate::exports;
use crate::gate::Overrun;

impl Session {
    /// Watches what the session has under way on devices. A kernel that takes too long is the end.
    pub(super) fn watch_devices(&self) {
        if let Some(Overrun { limit }) = self.shared.gates.get().and_then(|gates| gates.watch()) {
            self.finish(End {
                result: CudaError::LAUNCH_TIMEOUT.0,
                reason: format!(
                    "a kernel took longer than {} ms, the limit of the profile",
                    limit.as_millis()
                ),
            });
        }
    }

    /// Moves the session's memory away and back, as the broker wants it.
    pub(super) fn move_memory(&self) {
        if let Some(why) = self.shared.swap.get().and_then(|swap| swap.run()) {
            self.finish(End::unavailable(why));
        }
    }

    /// What the broker says of the session's memory.
    fn moves(&self, message: &ToWorker, file: Option<OwnedFd>) {
        let Some(swap) = self.shared.swap.get() else {
            return;
        };
        match (message, file) {
            (ToWorker::PutAway { idle_us, on_disk }, Some(file)) => {
                swap.asked_away(file, *on_disk, Duration::from_micros(*idle_us));
            }
            (ToWorker::Room { bytes }, _) => swap.given(*bytes),
            _ => {}
        }
    }

    /// What the broker says of a device's lease.
    fn lease(&self, message: &ToWorker) {
        let Some(gates) = self.shared.gates.get() else {
            return;
        };
        match *message {
            ToWorker::Lease {
                device,
                slice_us,
                shared,
            } => gates.granted(device, slice_us.map(Duration::from_micros), shared),
            ToWorker::Yield { device, within_us } => {
                gates.asked(device, Duration::from_micros(within_us));
            }
            _ => {}
        }
    }

    /// Notices that the client is gone while no thread reads, because a call is busy in the driver.
    pub(super) fn watch_client(&self) {
        let mut fds = [PollFd::new(&*self.pipe, PollFlags::RDHUP)];
        while let Err(error) = poll(&mut fds, None) {
            if error != rustix::io::Errno::INTR {
                tracing::warn!(%error, "the client's connection cannot be watched");
                return;
            }
        }
        // The one who reads comes to the end of the stream by itself, after what was sent before.
        let end = lock(&self.end);
        let (end, waited) = self
            .ended
            .wait_timeout_while(end, GRACE, |end| end.is_none())
            .unwrap_or_else(PoisonError::into_inner);
        drop(end);
        if waited.timed_out() {
            self.finish(End {
                result: 0,
                reason: "the client closed while a call was running".into(),
            });
        }
    }

    /// Waits for the broker's word, and for the next broker where this one is gone.
    pub(super) fn watch_control(&self) {
        let end = loop {
            match self.control.receive() {
                Ok(Some((ToWorker::Report, _))) => self.tell_usage(),
                Ok(Some((ToWorker::Lend { secret }, Some(socket)))) => self.lend(secret, socket),
                Ok(Some((ToWorker::Bulk, Some(socket)))) => {
                    if let Err(error) = self.attach_bulk(socket) {
                        break End::broken(format_args!("no bulk connection: {error:#}"));
                    }
                }
                Ok(Some((ToWorker::Lender { number, .. }, socket))) => {
                    self.shared.borrowing.answered(number, socket);
                }
                Ok(Some((message @ (ToWorker::Lease { .. } | ToWorker::Yield { .. }), _))) => {
                    self.lease(&message)
                }
                Ok(Some((message @ (ToWorker::PutAway { .. } | ToWorker::Room { .. }), file))) => {
                    self.moves(&message, file);
                }
                Ok(None) | Err(ControlError::Io(_) | ControlError::Truncated) => {
                    if let Err(why) = self.wait_for_broker() {
                        // As for every device that goes away: the client has done nothing wrong.
                        break End::unavailable(why);
                    }
                }
                Ok(Some((last, _))) => break last_word(last),
                Err(error) => {
                    break End::unavailable(format_args!("the server cannot be heard: {error}"));
                }
            }
        };
        self.finish(end);
    }

    /// This broker is gone: the session goes on, and tells the next one how it is. The error says why there is none.
    fn wait_for_broker(&self) -> Result<(), String> {
        let gates = self.shared.gates.get();
        let gates = gates.filter(|_| self.control.outlives());
        if let Some(gates) = gates {
            gates.orphaned();
        }
        self.control.next_broker()?;
        self.tell_usage();
        if let Some(swap) = self.shared.swap.get() {
            swap.adopted();
        }
        if let Some(end) = &*lock(&self.end) {
            self.tell_end(end);
        }
        if let Some(gates) = gates {
            gates.adopted();
        }
        Ok(())
    }

    fn attach_bulk(&self, socket: OwnedFd) -> anyhow::Result<()> {
        let mut pipe = match self.pipe.capabilities().kind {
            TransportKind::Relayed => Pipe::from_relayed_fd(socket)?,
            _ => Pipe::from_fd(socket)?,
        };
        pipe.simulate_as_asked().map_err(anyhow::Error::msg)?;
        // A system that cannot do that keeps more.
        let _ = pipe.keep_little_unsent();
        self.bulk.attach(pipe)?;
        tracing::info!("a second connection, for what is large");
        Ok(())
    }

    /// What a process had, others find no more when it is gone, even if nobody here has noticed its end.
    fn lend(&self, secret: LoanSecret, socket: OwnedFd) {
        let mut fds = [PollFd::new(&*self.pipe, PollFlags::RDHUP)];
        if poll(&mut fds, Some(&Timespec::default())) == Ok(0) {
            exports::lend(&self.shared, secret, socket);
        }
    }
}

/// The end that the broker's last word means.
fn last_word(word: ToWorker) -> End {
    match word {
        ToWorker::End { result, reason } => End { result, reason },
        ToWorker::Assign(_) => End::broken("the broker assigned a second session to this worker"),
        _ => End::broken("the broker says what no session asks for"),
    }
}
