//! Both relays with a connection between them, in threads of the test: as a transport, on bad networks, and with bad peers.

mod hostile;
mod networks;
mod rig;
#[path = "../../../rgpu-transport/tests/conformance/suite.rs"]
mod suite;

use rig::{Server, client};
use suite::Pair;

/// Gives a test two ends of a stream.
fn each_transport(test: impl Fn(Pair)) {
    let server = Server::start("127.0.0.1").unwrap();
    let relay = client(&server.address());
    test(rig::pair(&relay, &server));
}

#[test]
fn both_families_of_addresses_are_reached() {
    // A machine without IPv6 has no ::1.
    for server in ["127.0.0.1", "::1"].into_iter().filter_map(Server::start) {
        let pair = rig::pair(&client(&server.address()), &server);
        suite::write_all(&pair.client, b"there");
        assert_eq!(suite::read_some(&pair.server, &mut [0; 8]), 5);
    }
}
