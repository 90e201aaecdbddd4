//! The runner as a process, with shell scripts as functions. Everything waits for events of the journal, never for time.

mod access;
mod crash;
mod ends;
mod harness;
mod interface;
mod links;
mod trigger;
