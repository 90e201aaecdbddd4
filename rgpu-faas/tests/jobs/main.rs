//! The runner as a process, with shell scripts as functions. Everything waits for events of the journal, never for time.

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
mod queue;
mod sandbox;
mod traces;
mod trigger;
mod warm;
mod workflow;
