//! A client whose machine is gone from one moment to the next: no FIN, no RST, no answer to anything. Needs a network namespace.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::client::{Session, begin, hello, lives};
use crate::daemon::Daemon;
use crate::worker::{FLOOD, FLOOD_LEN};

/// What is promised.
const RELEASED: Duration = Duration::from_secs(30);

/// A network namespace with a cable to ours.
struct Namespace {
    name: String,
    ours: String,
    theirs: String,
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
    /// `None` without the rights or the tools.
    fn new() -> Option<Namespace> {
        let pid = std::process::id();
        // A subnet of this process's own, from the range for benchmarks (RFC 2544).
        let (a, b) = (18 + pid / 64 / 256 % 2, pid / 64 % 256);
        let first = pid % 64 * 4;
        let namespace = Namespace {
            name: format!("rgpu-test-{pid}"),
            ours: format!("198.{a}.{b}.{}", first + 1),
            theirs: format!("198.{a}.{b}.{}", first + 2),
        };
        let Namespace { name, ours, theirs } = &namespace;
        let (near, far) = (format!("rt{pid}a"), format!("rt{pid}b"));
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

    /// Begins a session from inside.
    fn begin(&self, daemon: &Daemon) -> Session {
        let endpoint = daemon.listen[0].clone();
        let file = std::fs::File::open(format!("/run/netns/{}", self.name)).unwrap();
        let inside = std::thread::spawn(move || {
            use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
            use std::os::fd::AsFd;
            // Of this thread alone; its sockets stay in the namespace when they are used elsewhere.
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            begin(&endpoint, &hello()).unwrap()
        });
        inside.join().unwrap()
    }

    /// Nothing leaves it any more.
    fn silence(&self) {
        assert!(ip(&format!(
            "-n {} route add blackhole {}/32",
            self.name, self.ours
        )));
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // The cable goes with it.
        ip(&format!("netns del {}", self.name));
    }
}

pub fn a_client_without_a_last_word_is_released() {
    let Some(namespace) = Namespace::new() else {
        println!("skipped: network namespaces need root and iproute2");
        return;
    };
    let daemon = Daemon::with("", "driver.so", &format!("tcp://{}:0", namespace.ours));
    let idle = namespace.begin(&daemon);
    // Bytes under way to the client, which nobody will ever acknowledge.
    let busy = namespace.begin(&daemon);
    busy.data.write(&[FLOOD]);
    // Alive, but it reads as little: that is no reason to end it, however long it takes.
    let mut slow = begin(&daemon.listen[0], &hello()).unwrap();
    slow.data.write(&[FLOOD]);

    namespace.silence();
    let began = Instant::now();
    for _ in 0..2 {
        daemon.logs_within("session ends", RELEASED.saturating_sub(began.elapsed()));
        println!("released after {:.1} s", began.elapsed().as_secs_f64());
    }
    assert!(!lives(idle.worker()) && !lives(busy.worker()));

    let mut got = 0;
    while got < FLOOD_LEN {
        let bytes = slow.data.some();
        assert!(
            !bytes.is_empty(),
            "the slow client was cut off after {got} bytes"
        );
        got += bytes.len();
    }
    slow.data.echoes();
}
