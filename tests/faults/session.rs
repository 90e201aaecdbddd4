//! See [`rgpu_system::session`].

pub use rgpu_system::session::Session;
