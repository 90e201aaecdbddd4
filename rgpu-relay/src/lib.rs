//! QUIC for clients and servers that know only sockets: two processes that carry unix stream sockets as streams of a QUIC connection.
//!
//! ```text
//! libcuda.so.1 ══ unix ══▶ rgpu relay ══ QUIC ══▶ rgpud relay ══ unix ══▶ rgpud, then its worker
//! ```
//!
//! A client process and a server have one connection, in which its data and its control connection are streams: a packet that is lost delays
//! one of them. Bytes are carried as they are. Of what a peer sends, nothing is kept beyond the flow-control windows.
//!
//! The client's half believes a server by its certificate, before a byte of the program's goes out. The server's half has no privileges but its
//! sockets, and the server's key.
//!
//! With the feature `rdma` the same two processes carry sockets by RDMA, too.

mod channel;
pub mod client;
mod manners;
mod pump;
#[cfg(feature = "rdma")]
pub mod rdma;
mod sandbox;
pub mod server;
pub mod tls;
mod tuning;

pub use channel::Channel;

use quinn::VarInt;

/// What a stream begins with: it shows the stream to the server before the client has said anything, and what follows.
const PREAMBLE: u8 = 1;

/// Why a connection was closed, for the peer. The words beside it say more.
const DONE: VarInt = VarInt::from_u32(0);
const REFUSED: VarInt = VarInt::from_u32(1);
