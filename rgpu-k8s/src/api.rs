//! Kubelet's two APIs, generated from `api/*.proto`.

#[path = "gen/v1beta1.rs"]
pub mod v1beta1;

#[path = "gen/v1.rs"]
pub mod v1;

/// The version that a plugin registers with.
pub const VERSION: &str = "v1beta1";
pub const HEALTHY: &str = "Healthy";
pub const UNHEALTHY: &str = "Unhealthy";
