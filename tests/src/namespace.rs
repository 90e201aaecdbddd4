//! A network namespace with a cable to this one, for peers that are gone from one moment to the next: no FIN, no RST, no answer
//! to anything.

use std::fs::File;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// Removed, its cable too, when the value goes.
pub struct Namespace {
    name: String,
    /// The cable's end inside.
    far: String,
    /// This side's address.
    pub ours: String,
    /// The namespace's.
    pub theirs: String,
}

fn ip(arguments: &str) -> bool {
    let status = Command::new("ip")
        .args(arguments.split_whitespace())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    status.is_ok_and(|status| status.success())
}

impl Namespace {
    /// `None` without the rights or the tools (root and iproute2).
    pub fn new() -> Option<Namespace> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let pid = std::process::id();
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        // A subnet of this process's own, from the range for benchmarks (RFC 2544).
        let subnet = pid.wrapping_add(count << 13);
        let (a, b) = (18 + subnet / 64 / 256 % 2, subnet / 64 % 256);
        let first = subnet % 64 * 4;
        let (near, far) = (format!("rt{pid}a{count}"), format!("rt{pid}b{count}"));
        let namespace = Namespace {
            name: format!("rgpu-test-{pid}-{count}"),
            far: far.clone(),
            ours: format!("198.{a}.{b}.{}", first + 1),
            theirs: format!("198.{a}.{b}.{}", first + 2),
        };
        let Namespace {
            name, ours, theirs, ..
        } = &namespace;
        let made = ip(&format!("netns add {name}"))
            && ip(&format!(
                "link add {near} type veth peer name {far} netns {name}"
            ))
            && ip(&format!("addr add {ours}/30 dev {near}"))
            && ip(&format!("link set {near} up"))
            && ip(&format!("-n {name} addr add {theirs}/30 dev {far}"))
            && ip(&format!("-n {name} link set {far} up"));
        made.then_some(namespace)
    }

    /// The program, to be run inside.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", &self.name])
            .arg(program.as_ref());
        command
    }

    /// Runs `work` on a thread inside; sockets that it makes stay there when they are used elsewhere.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> std::io::Result<T> {
        use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
        use std::os::fd::AsFd;
        let file = File::open(format!("/run/netns/{}", self.name))?;
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                // Of this thread alone.
                move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))?;
                Ok(work())
            });
            inside
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Pulls the cable out, or plugs it in again: meanwhile what either side sends is lost. False if that could not be done.
    #[must_use]
    pub fn cable(&self, plugged: bool) -> bool {
        let to = if plugged { "up" } else { "down" };
        ip(&format!("-n {} link set {} {to}", self.name, self.far))
    }

    /// Nothing leaves it any more. False if that could not be done.
    #[must_use]
    pub fn silence(&self) -> bool {
        ip(&format!(
            "-n {} route add blackhole {}/32",
            self.name, self.ours
        ))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        ip(&format!("netns del {}", self.name));
    }
}
