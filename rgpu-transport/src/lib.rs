//! Byte pipes between client and worker: over shared memory, unix and TCP sockets, without an async runtime, since the thread that waits for
//! an answer reads the wire itself. QUIC has one, and with it a process of its own (`relay`) behind a unix socket.
//!
//! Every pipe holds what follows, and one conformance suite (`tests/conformance.rs`) asks it of each transport: reads and writes may be partial
//! and never block by themselves; the end of the stream is told apart from an error; descriptors are CLOEXEC; a write to a dead peer is
//! an error and never SIGPIPE; a wait ends at its deadline.
#![deny(unsafe_code)]

pub mod control_socket;
mod endpoint;
mod greeting;
mod pass;
mod pin;
mod pipe;
pub mod relay;
mod rings;
mod servers;
mod simulated;
mod wait;

pub use control_socket::ControlSocket;
pub use endpoint::{Endpoint, EndpointError};
pub use greeting::{GreetError, Greeted, greet, greet_and_wait};
pub use pass::{receive_with_fd, send_with_fd};
pub use pin::{Pin, PinError};
pub use pipe::{
    Capabilities, ConnectError, DEAD_PEER, Peer, Pipe, Progress, TransportKind,
    bound_unacknowledged, keep_alive,
};
pub use rings::Offer;
pub use servers::{Devices, MAX_SERVERS, ServerList, ServerListError};
pub use simulated::Link;
pub use wait::{Interest, Ready, WaitPolicy};
