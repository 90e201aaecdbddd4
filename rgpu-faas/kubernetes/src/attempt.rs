//! One attempt of one job, as the runner asks for it.

use crate::names;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

/// The most bytes of variables in a pod's description; the API's own limit for a whole object is 1.5 MiB.
const MAX_VARIABLES: usize = 512 << 10;
/// A Secret's limit is 1 MiB.
const MAX_SECRETS: usize = 1_000_000;
/// The least memory of a container: agent and a shell.
const MIN_MEMORY: u64 = 16 << 20;

/// A share of a GPU, from the device plugin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vgpu {
    /// As the runner knows it; its resource is a matter of the settings.
    pub profile: Option<String>,
    /// How long a place is waited for before the attempt fails, or goes on without; None: until the attempt's time to begin is over.
    pub wait: Option<Duration>,
    /// Without a place in time, it runs without one.
    pub preferred: bool,
}

/// What is to be run.
#[derive(Clone, Debug)]
pub struct Attempt {
    pub function: String,
    /// The job's id: small letters, digits, hyphens.
    pub job: String,
    pub number: u32,
    pub image: String,
    pub pull_secrets: Vec<String>,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    /// What the container has as variables; can be read by whoever may read pods.
    pub variables: Vec<(String, String)>,
    /// What the script finds beside them and wins; sent to the agent alone.
    pub environment: Vec<(OsString, OsString)>,
    /// Variables and their values; in a Secret.
    pub secrets: Vec<(String, Vec<u8>)>,
    pub argv: Vec<OsString>,
    /// The attempt's folder, on the runner's side. What lies in `files` of it goes along, outputs come into `output`.
    pub folder: Arc<OwnedFd>,
    pub files: Vec<String>,
    pub cpu: Option<f64>,
    pub memory: Option<u64>,
    /// What its folder may hold in the pod, in bytes.
    pub scratch: u64,
    pub vgpu: Option<Vgpu>,
    /// From the script's start.
    pub timeout: Duration,
    pub log_limit: u64,
    pub term_grace: Duration,
}

impl Attempt {
    /// Of the job, and of all that belongs to it.
    pub fn name(&self) -> String {
        names::job_name(&self.function, &self.job, self.number)
    }

    /// Why Kubernetes would not take it.
    pub fn check(&self) -> Result<(), String> {
        if !names::is_label(&self.function) || !names::is_label(&self.job) {
            return Err(format!(
                "function {:?}, job {:?}: small letters, digits and inner hyphens, at most 63",
                self.function, self.job
            ));
        }
        names::check_image(&self.image)?;
        for name in &self.pull_secrets {
            if !names::is_subdomain(name) {
                return Err(format!(
                    "image_pull_secrets: {name:?} is no name of a Secret: small letters, digits, - and ."
                ));
            }
        }
        names::check_labels(self.labels.iter())?;
        names::check_annotations(self.annotations.iter())?;
        if let Some(memory) = self.memory
            && memory < MIN_MEMORY
        {
            return Err(format!(
                "memory {memory}: a container needs {} MiB at least",
                MIN_MEMORY >> 20
            ));
        }
        if let Some(cpu) = self.cpu {
            names::cpu_quantity(cpu)?;
        }
        let all = self
            .variables
            .iter()
            .map(|(name, value)| (name, value.len()));
        let secrets = self.secrets.iter().map(|(name, value)| (name, value.len()));
        if let Some((name, _)) = all
            .clone()
            .chain(secrets.clone())
            .find(|(name, _)| !is_variable(name))
        {
            return Err(format!("{name:?} is no variable's name"));
        }
        let (variables, secrets) = (size(all), size(secrets));
        if variables > MAX_VARIABLES {
            return Err(format!(
                "the variables have {variables} bytes together; a pod takes {MAX_VARIABLES}"
            ));
        }
        if secrets > MAX_SECRETS {
            return Err(format!(
                "the secrets have {secrets} bytes together; a Secret takes {MAX_SECRETS}"
            ));
        }
        Ok(())
    }
}

/// Bytes of names and values.
fn size<'a>(variables: impl Iterator<Item = (&'a String, usize)>) -> usize {
    variables.map(|(name, value)| name.len() + value).sum()
}

fn is_variable(name: &str) -> bool {
    let first = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
    name.bytes().next().is_some_and(first)
        && name
            .bytes()
            .all(|byte| first(byte) || byte.is_ascii_digit())
        && name.len() <= 253
}
