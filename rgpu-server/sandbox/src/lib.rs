//! What a process takes away from itself before it reads what strangers send: system calls ([`Calls`]), files ([`Files`]), and rights
//! ([`rights`]). Who needs what is said where it is needed: in the relay, and in the worker.
//!
//! What the kernel does not know of is left out; [`Kernel`] says what it knows.

mod calls;
mod files;
mod kernel;
pub mod rights;

pub use calls::{Argument, Calls, Filters};
pub use files::{Confinement, Files, Prepared};
pub use kernel::{Kernel, NamespaceMap, has_filters, namespace_map, write};

/// Why a process cannot be confined.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("landlock: {0}")]
    Files(#[from] landlock::RulesetError),
    #[error("the filter of system calls: {0}")]
    Filter(#[from] seccompiler::BackendError),
    #[error("the filter of system calls cannot be set: {0}")]
    Apply(#[from] seccompiler::Error),
    #[error("{what}: {error}")]
    Rights {
        what: &'static str,
        error: std::io::Error,
    },
}

impl Error {
    fn last(what: &'static str) -> Error {
        Error::of(what, std::io::Error::last_os_error())
    }

    fn of(what: &'static str, error: impl Into<std::io::Error>) -> Error {
        let error = error.into();
        Error::Rights { what, error }
    }
}
