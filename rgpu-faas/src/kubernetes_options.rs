//! `serve`'s options about the cluster where jobs may run.

use crate::{id, units};
use anyhow::{Context, bail};
use rgpu_faas_kubernetes::settings::{self, Settings};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The file in the data folder that tells this runner's Jobs from another's.
const INSTANCE: &str = "kubernetes-runner";
/// A template of pods has no more bytes than this.
const MAX_TEMPLATE: u64 = 1 << 20;

#[derive(clap::Args)]
pub struct Arguments {
    /// The image with this program, which brings it into pods; with it, functions may run as Kubernetes Jobs.
    #[arg(long, requires = "agent_url")]
    kubernetes_agent_image: Option<String>,
    /// http://HOST[:PORT]: how pods reach this server.
    #[arg(long, requires = "kubernetes_agent_image")]
    agent_url: Option<String>,
    /// The namespace of jobs [default: the kubeconfig's, or this pod's].
    #[arg(long, requires = "kubernetes_agent_image")]
    kubernetes_namespace: Option<String>,
    /// A kubeconfig [default: KUBECONFIG, ~/.kube/config, or this pod's service account].
    #[arg(long, requires = "kubernetes_agent_image")]
    kubeconfig: Option<PathBuf>,
    /// A file with what pods of jobs have beside their own: `spec: { nodeSelector: …, tolerations: … }`.
    #[arg(long, requires = "kubernetes_agent_image")]
    kubernetes_pod: Option<PathBuf>,
    /// PROFILE=RESOURCE: what pods ask for with this vGPU profile [default: rgpu.io/vgpu-PROFILE; without a profile rgpu.io/vgpu].
    #[arg(long, requires = "kubernetes_agent_image")]
    kubernetes_resource: Vec<String>,
    /// Always, IfNotPresent or Never [default: as Kubernetes chooses].
    #[arg(long, requires = "kubernetes_agent_image")]
    kubernetes_pull: Option<String>,
    /// How long a job may take to begin, with its place and its image.
    #[arg(long, default_value = "1h", value_parser = units::duration)]
    kubernetes_start: Duration,
    /// What a job may hand back.
    #[arg(long, default_value = "16Gi", value_parser = units::bytes)]
    kubernetes_max_output: u64,
}

impl Arguments {
    /// None: there is no cluster.
    pub fn settings(&self, data: &Path) -> anyhow::Result<Option<Settings>> {
        let (Some(image), Some(url)) = (&self.kubernetes_agent_image, &self.agent_url) else {
            return Ok(None);
        };
        let mut settings = Settings::new(instance(data)?, image.clone(), url.clone());
        settings.kubeconfig = self.kubeconfig.clone();
        settings.namespace = self.kubernetes_namespace.clone();
        settings.pull_policy = self.kubernetes_pull.clone();
        settings.start_limit = self.kubernetes_start;
        settings.max_output = self.kubernetes_max_output;
        if let Some(file) = &self.kubernetes_pod {
            let named = || format!("--kubernetes-pod {}", file.display());
            if fs::metadata(file).with_context(named)?.len() > MAX_TEMPLATE {
                bail!("{}: more than {MAX_TEMPLATE} bytes", named());
            }
            let text = fs::read_to_string(file).with_context(named)?;
            settings.template = settings::read_template(&text)
                .map_err(|why| anyhow::anyhow!("{}: {why}", named()))?;
        }
        for pair in &self.kubernetes_resource {
            let (profile, resource) = pair
                .split_once('=')
                .filter(|(profile, _)| !profile.is_empty())
                .with_context(|| {
                    format!("--kubernetes-resource {pair:?}: write PROFILE=RESOURCE")
                })?;
            settings
                .resources
                .insert(profile.to_owned(), resource.to_owned());
        }
        settings.owner = own_pod(settings.namespace.as_deref());
        settings.check().map_err(anyhow::Error::msg)?;
        Ok(Some(settings))
    }
}

/// What this runner is called on the cluster, always the same for one data folder.
fn instance(data: &Path) -> anyhow::Result<String> {
    let file = data.join(INSTANCE);
    match fs::read_to_string(&file) {
        Ok(text) if id::is_id(text.trim()) => return Ok(text.trim().to_owned()),
        Ok(_) => bail!("{}: it holds no name of a runner", file.display()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(|| file.display().to_string()),
    }
    let name = id::new()?;
    let part = data.join(format!(".{INSTANCE}"));
    fs::create_dir_all(data)
        .and_then(|()| fs::write(&part, format!("{name}\n")))
        .and_then(|()| fs::rename(&part, &file))
        .with_context(|| file.display().to_string())?;
    Ok(name)
}

/// The pod that this runs in, if its description tells (POD_NAME, POD_UID, POD_NAMESPACE) and jobs are in its namespace: they go with it.
fn own_pod(namespace: Option<&str>) -> Option<settings::OwnerReference> {
    let said = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let (name, uid, own) = (said("POD_NAME")?, said("POD_UID")?, said("POD_NAMESPACE")?);
    if namespace.is_some_and(|namespace| namespace != own) {
        return None;
    }
    Some(settings::OwnerReference {
        api_version: "v1".into(),
        kind: "Pod".into(),
        name,
        uid,
        ..settings::OwnerReference::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runner_keeps_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let name = instance(&data).unwrap();
        assert_eq!(instance(&data).unwrap(), name);
        fs::write(data.join(INSTANCE), "another\n").unwrap();
        assert!(instance(&data).is_err(), "its Jobs would be nobody's");
    }
}
