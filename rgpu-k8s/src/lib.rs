//! A device plugin for nodes without GPUs: kubelet sees shares of remote GPUs as devices, and a pod that asks for one gets a lease on a server,
//! the client library and the token by which the two find each other.
//!
//! ```text
//! kubelet ── Register ◀── kubelet.rs        who is there, and again after a restart
//!         ── Allocate ──▶ plugin.rs ──▶ keeper.rs ──▶ pool.rs, http.rs: leases of the servers
//!         ── List     ◀── pods.rs   ──▶    │  ledger.rs (pure): what is to be renewed, released, claimed again
//!                         health.rs ──▶    │  handout.rs, state.rs: what pods are given; what outlasts the plugin
//! ```
#![forbid(unsafe_code)]

pub mod api;
pub mod authority;
pub mod choose;
pub mod config;
pub mod container;
pub mod handout;
pub mod health;
pub mod http;
pub mod install;
pub mod keeper;
pub mod kubelet;
pub mod ledger;
pub mod plugin;
pub mod pods;
pub mod pool;
pub mod serve;
pub mod state;
