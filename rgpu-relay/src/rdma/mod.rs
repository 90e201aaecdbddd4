//! Sockets by RDMA: a connection for each, on a thread of its own, since a device is asked again and again before a thread sleeps.

pub mod client;
pub mod server;
mod threads;
