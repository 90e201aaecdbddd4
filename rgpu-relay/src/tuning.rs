//! The connection's parameters, of both halves.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use quinn::congestion::BbrConfig;
use quinn::{EndpointConfig, IdleTimeout, MtuDiscoveryConfig, TransportConfig, VarInt};
use quinn_proto::HashedConnectionIdGenerator;
use ring::hmac;

/// How long a silent peer counts as alive.
pub const DEAD_PEER: Duration = Duration::from_secs(20);
/// The client asks so often, so that a live peer is never silent for longer. Three questions or answers may be lost.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// Bytes under way in one direction: 1 Gbit/s over 50 ms are 6.25 MB, 10 Gbit/s over 1 ms are 1.25 MB, and twice that since a lost packet is sent
/// again a round trip later, while those behind it wait for it.
const WINDOW: u32 = 16 << 20;
/// The same of all streams together: one whose reader stands still must not hold up the others.
pub const CONNECTION_WINDOW: u32 = 2 * WINDOW;
/// What a client may have under way to a server that has not taken it in: little more than a greeting.
pub const STRANGERS_WINDOW: u32 = 256 << 10;
/// Largest UDP payload that is tried: a loopback device takes so much in one packet (8900 stalls there), and so do jumbo frames. What the path
/// takes is found out by probes.
const LARGEST_PAYLOAD: u16 = 6000;
/// Streams of a connection: a session's three, and some room.
const STREAMS: u32 = 16;
/// Bytes of the system's socket buffers, where it allows so many: a burst that does not fit is lost.
const SOCKET_BUFFER: usize = 4 << 20;

fn transport() -> TransportConfig {
    let mut discovery = MtuDiscoveryConfig::default();
    discovery.upper_bound(LARGEST_PAYLOAD);
    let mut config = TransportConfig::default();
    config
        .max_idle_timeout(IdleTimeout::try_from(DEAD_PEER).ok())
        .stream_receive_window(VarInt::from_u32(WINDOW))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW))
        .send_window(WINDOW.into())
        .max_concurrent_bidi_streams(VarInt::from_u32(0))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None)
        .mtu_discovery_config(Some(discovery))
        // A loss is no sign of a full path on the networks that this is for: at 20 ms each way and 1 % Cubic sends 0.5 MB/s, BBR 10 to 60.
        .congestion_controller_factory(Arc::new(BbrConfig::default()));
    config
}

pub fn client() -> TransportConfig {
    let mut config = transport();
    config.keep_alive_interval(Some(KEEP_ALIVE));
    config
}

pub fn server() -> TransportConfig {
    let mut config = transport();
    config
        .receive_window(VarInt::from_u32(STRANGERS_WINDOW))
        .max_concurrent_bidi_streams(VarInt::from_u32(STREAMS));
    config
}

/// `secret`: by it an endpoint knows a connection of another's that had the same, and tells the peer that it is gone.
pub fn endpoint(secret: &[u8; 32]) -> EndpointConfig {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    let ids = hmac::sign(&key, b"connection ids");
    let mut config = EndpointConfig::new(Arc::new(key));
    let ids = ids.as_ref().first_chunk().copied().map(u64::from_le_bytes);
    config.cid_generator(move || {
        Box::new(ids.map_or_else(
            HashedConnectionIdGenerator::new,
            HashedConnectionIdGenerator::from_key,
        ))
    });
    // The bound is within what QUIC allows.
    let _ = config.max_udp_payload_size(LARGEST_PAYLOAD);
    config
}

/// Asks for larger buffers; what the system gives will do.
pub fn enlarge_buffers(udp: impl AsFd) {
    let _ = rustix::net::sockopt::set_socket_recv_buffer_size(&udp, SOCKET_BUFFER);
    let _ = rustix::net::sockopt::set_socket_send_buffer_size(&udp, SOCKET_BUFFER);
}
