//! Attempts of jobs as Kubernetes Jobs.
//!
//! Two halves that speak HTTP: beside the runner a [`Cluster`], which makes each attempt a Job, follows it by watches ([`board`]) and by what
//! its agent says ([`desk`]), and decides by both ([`course`]) how it goes on; and in the pod the [`agent`], which fetches the attempt's files,
//! runs its script, and hands back its output. Objects ([`spec`]), states ([`status`]) and decisions are pure.

pub mod agent;
pub mod archive;
pub mod attempt;
pub mod board;
pub mod cluster;
pub mod course;
pub mod desk;
pub mod names;
mod pipe;
pub mod protocol;
pub mod settings;
pub mod spec;
pub mod status;

pub use attempt::{Attempt, Vgpu};
pub use cluster::{Cluster, ConnectError};
pub use course::Ended;
pub use desk::Follower;
pub use settings::Settings;
