//! RDMA devices: libibverbs and librdmacm.

mod cm;
mod connection;
mod memory;

pub use cm::{Listener, Request, load_providers, open_devices};
pub use connection::Connection;
