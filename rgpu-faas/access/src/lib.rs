//! Who may do what over the runner's HTTP interface, and what keeps its web page safe.
//!
//! `policy` decides, from one table, what a principal may do; `target` says what a request is about. Both are pure, and so are
//! `throttle`, `sessions`, `users`' parser, `oidc::keys` and `oidc::claims`: time is handed in. I/O is at the edge: `functions`
//! (who owns which function, and the hashes of tokens) in SQLite, `oidc::source` fetches keys. `Access` ties them together as a
//! tower layer. A secret is never kept where it need not be, never logged, and never compared in a time that depends on it.

mod access;
mod authority;
mod browser;
pub mod clock;
pub mod config;
pub mod content;
mod credential;
pub mod functions;
mod headers;
pub mod oidc;
pub mod policy;
mod refusal;
mod remembered;
mod routes;
mod secret;
mod sessions;
pub mod target;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod throttle;
mod users;

pub use access::{Access, Answer as HostAnswer, Figures, Host, Settings};
pub use config::Config;
pub use functions::{Claims, Functions};
pub use headers::SecurityHeaders;
pub use policy::{Action, Decision, Principal, Resource, Role, decide};
pub use refusal::Refusal;
pub use secret::Token;
pub use target::{Subject, Target};
pub use users::user_line;

/// A lock's content, also after a thread that held it has panicked: what is kept in them is whole between any two statements.
fn lock<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}
