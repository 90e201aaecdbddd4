//! Functions that files trigger, each run as a process with a share of a remote GPU.
//!
//! The journal (SQLite) is the truth: whatever stops, at whatever point, a new start reads it and goes on, so that no
//! event is lost and no output is published twice. `state`, `retry`, `precedence`, `units` and `outputs`' filters are pure; `runner`
//! makes processes; `service` ties them together; `api` speaks HTTP.

pub mod api;
pub mod apply;
mod beneath;
pub mod config;
pub mod event;
pub mod fdl;
pub mod function;
pub mod http_client;
pub mod journal;
pub mod outputs;
pub mod precedence;
pub mod recovery;
pub mod registry;
pub mod retry;
pub mod runner;
pub mod serve;
pub mod service;
pub mod state;
pub mod time;
pub mod trigger;
pub mod units;
