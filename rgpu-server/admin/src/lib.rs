//! What an administrator, a dashboard and an orchestrator see of `rgpud`: HTTP in a thread of its own. It knows the daemon only by the
//! [`Question`]s that it asks and the plain data that it is answered with, so no request can hold the daemon up.
#![forbid(unsafe_code)]

mod address;
mod ask;
mod auth;
pub mod data;
mod failure;
mod health;
mod leases;
mod listen;
mod metrics;
mod openapi;
mod routes;
mod serve;
#[cfg(test)]
mod tests;

pub use address::Address;
pub use ask::{Answer, Asker, PATIENCE, Question, Questions, channel};
pub use auth::{Identity, Role};
pub use failure::Failure;
pub use serve::{Admin, Mount, Options};
