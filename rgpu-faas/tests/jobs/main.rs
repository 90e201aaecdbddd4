//! The runner as a process, with shell scripts as functions. Everything waits for events of the journal, never for time.

mod access;
mod calls;
mod crash;
mod dead;
mod ends;
mod events;
mod functions;
mod gpu;
mod harness;
mod interface;
mod links;
mod people;
mod queue;
mod traces;
mod trigger;
mod workflow;
