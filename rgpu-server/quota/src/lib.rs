//! What tenants may have, what their sessions hold of it, where vGPUs go, who waits for one, and whose memory leaves a device for others'. Pure: no I/O, no
//! clock.
#![forbid(unsafe_code)]

mod admission;
pub mod leases;
mod placement;
mod profile;
mod queue;
pub mod residency;

pub use admission::{Admission, MAX_ROWS, VgpuState};
pub use placement::{Placement, Policy};
pub use profile::{Denied, Entitlement, Grant, Lacks, Profile, Request};
pub use queue::{Ahead, Bounds, Queue, QueueFull};
pub use rgpu_proto::control::Priority;
