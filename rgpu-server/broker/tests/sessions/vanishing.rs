//! A client whose machine is gone from one moment to the next: no FIN, no RST, no answer to anything. Needs a network namespace.

use std::time::{Duration, Instant};

use rgpu_system::Namespace;

use crate::client::{Session, begin, hello, lives};
use crate::daemon::Daemon;
use crate::worker::{FLOOD, FLOOD_LEN};

/// What is promised.
const RELEASED: Duration = Duration::from_secs(30);

/// Begins a session from inside.
fn begin_within(namespace: &Namespace, daemon: &Daemon) -> Session {
    let endpoint = &daemon.listen[0];
    namespace
        .within(|| begin(endpoint, &hello()).unwrap())
        .unwrap()
}

pub fn a_client_without_a_last_word_is_released() {
    let Some(namespace) = Namespace::new() else {
        println!("skipped: network namespaces need root and iproute2");
        return;
    };
    let daemon = Daemon::with("", "driver.so", &format!("tcp://{}:0", namespace.ours));
    let idle = begin_within(&namespace, &daemon);
    // Bytes under way to the client, which nobody will ever acknowledge.
    let busy = begin_within(&namespace, &daemon);
    busy.data.write(&[FLOOD]);
    // Alive, but it reads as little: that is no reason to end it, however long it takes.
    let mut slow = begin(&daemon.listen[0], &hello()).unwrap();
    slow.data.write(&[FLOOD]);

    assert!(namespace.silence());
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
