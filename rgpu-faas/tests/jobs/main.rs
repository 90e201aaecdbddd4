//! The runner as a process, with shell scripts as functions. Everything waits for events of the journal, never for time.

#[path = "../../storage/tests/hostile/double.rs"]
#[allow(dead_code, reason = "the storage crate's tests use all of it")]
mod double;
#[path = "../../storage/tests/real/servers.rs"]
#[allow(dead_code, reason = "the storage crate's tests use all of it")]
mod servers;

mod access;
mod calls;
mod crash;
mod dead;
mod ends;
mod events;
mod examples;
mod functions;
mod gpu;
mod harness;
mod interface;
mod links;
mod people;
mod podman;
mod polling;
mod queue;
mod sandbox;
mod schedules;
mod stores;
mod traces;
mod trigger;
mod warm;
mod workflow;
