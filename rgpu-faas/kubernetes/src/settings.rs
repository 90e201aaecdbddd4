//! What the engine is told once, at the runner's start.

use crate::names;
use k8s_openapi::api::core::v1::PodTemplateSpec;
pub use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// The resource of functions that name no profile, as rgpu-k8s offers it unless told otherwise.
pub const RESOURCE: &str = "rgpu.io/vgpu";

/// Where jobs run, and how they reach the runner.
#[derive(Clone, Debug)]
pub struct Settings {
    /// None: as the runner's pod says, else the variable KUBECONFIG, else `~/.kube/config`.
    pub kubeconfig: Option<PathBuf>,
    /// None: that of the kubeconfig, or of the runner's own pod.
    pub namespace: Option<String>,
    /// Tells this runner's jobs from those of others in the namespace; a label's value.
    pub instance: String,
    /// The image that has this program, at least.
    pub agent_image: String,
    /// Always, IfNotPresent or Never, of all images; None: as Kubernetes chooses.
    pub pull_policy: Option<String>,
    /// `http://HOST[:PORT]`, by which pods reach the runner.
    pub agent_url: String,
    /// What pods of jobs have beside what is their own here: node selectors, tolerations, …
    pub template: PodTemplateSpec,
    /// The runner's own pod, in the same namespace.
    pub owner: Option<OwnerReference>,
    /// The resource of each vGPU profile that has another one than `rgpu.io/vgpu-PROFILE`.
    pub resources: BTreeMap<String, String>,
    /// What an attempt may hand back, in bytes.
    pub max_output: u64,
    /// How long an attempt may take to begin.
    pub start_limit: Duration,
    /// How long an image may fail to come.
    pub pull_limit: Duration,
    /// Jobs whose runner has gone are removed by Kubernetes so long after their end.
    pub keep: Duration,
}

impl Settings {
    /// The defaults.
    pub fn new(instance: String, agent_image: String, agent_url: String) -> Settings {
        Settings {
            kubeconfig: None,
            namespace: None,
            instance,
            agent_image,
            pull_policy: None,
            agent_url,
            template: PodTemplateSpec::default(),
            owner: None,
            resources: BTreeMap::new(),
            max_output: 16 << 30,
            start_limit: Duration::from_secs(3600),
            pull_limit: Duration::from_secs(300),
            keep: Duration::from_secs(600),
        }
    }

    /// What is wrong with them, and what instead.
    pub fn check(&self) -> Result<(), String> {
        if let Some(namespace) = &self.namespace
            && !names::is_label(namespace)
        {
            return Err(format!(
                "namespace {namespace:?}: 1 to 63 small letters, digits and inner hyphens"
            ));
        }
        if !names::is_value(&self.instance) || self.instance.is_empty() {
            return Err(format!(
                "instance {:?}: must be a label's value",
                self.instance
            ));
        }
        names::check_image(&self.agent_image).map_err(|why| format!("agent {why}"))?;
        if let Some(policy) = &self.pull_policy
            && !["Always", "IfNotPresent", "Never"].contains(&policy.as_str())
        {
            return Err(format!(
                "pull policy {policy:?}: Always, IfNotPresent or Never"
            ));
        }
        crate::agent::Address::parse(&self.agent_url).map_err(|why| format!("agent URL: {why}"))?;
        for (profile, resource) in &self.resources {
            if !names::is_resource(resource) {
                return Err(format!(
                    "resource {resource:?} of profile {profile}: write DOMAIN/NAME, as rgpu-k8s has it"
                ));
            }
        }
        check_template(&self.template)
    }

    /// The resource that a pod asks for.
    pub fn resource(&self, profile: Option<&str>) -> Result<String, String> {
        let Some(profile) = profile else {
            return Ok(RESOURCE.to_owned());
        };
        if let Some(resource) = self.resources.get(profile) {
            return Ok(resource.clone());
        }
        let resource = format!("{RESOURCE}-{profile}");
        if !names::is_resource(&resource) {
            return Err(format!(
                "vGPU profile {profile:?}: {resource} is no resource's name; the runner can be told another"
            ));
        }
        Ok(resource)
    }
}

/// Reads a template of pods: the beginning of a Pod, in YAML, with `metadata` and `spec`.
pub fn read_template(text: &str) -> Result<PodTemplateSpec, String> {
    let value: serde_json::Value =
        serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
    if let Some(unknown) = value
        .as_object()
        .into_iter()
        .flat_map(|fields| fields.keys())
        .find(|name| !["apiVersion", "kind", "metadata", "spec"].contains(&name.as_str()))
    {
        return Err(format!("{unknown}: a template has metadata and spec"));
    }
    let template = serde_json::from_value(value.clone()).map_err(|error| error.to_string())?;
    // A field that was written and is not in what was understood is a mistake in its name.
    let understood = serde_json::to_value(&template).map_err(|error| error.to_string())?;
    for part in ["metadata", "spec"] {
        if let Some(lost) = lost(&value[part], &understood[part]) {
            return Err(format!("{part}.{lost}: there is no such field"));
        }
    }
    check_template(&template)?;
    Ok(template)
}

/// The path of a field that has been left out.
fn lost(written: &serde_json::Value, understood: &serde_json::Value) -> Option<String> {
    use serde_json::Value;
    match (written, understood) {
        (Value::Object(written), Value::Object(understood)) => written.iter().find_map(
            |(name, value)| match (value.is_null(), understood.get(name)) {
                (true, _) => None,
                (false, None) => Some(name.clone()),
                (false, Some(kept)) => lost(value, kept).map(|rest| format!("{name}.{rest}")),
            },
        ),
        (Value::Array(written), Value::Array(understood)) => written
            .iter()
            .zip(understood)
            .find_map(|(value, kept)| lost(value, kept)),
        _ => None,
    }
}

fn check_template(template: &PodTemplateSpec) -> Result<(), String> {
    let none = Default::default();
    let metadata = template.metadata.as_ref().unwrap_or(&none);
    names::check_labels(metadata.labels.iter().flatten())?;
    names::check_annotations(metadata.annotations.iter().flatten())?;
    let Some(spec) = &template.spec else {
        return Ok(());
    };
    let set = [
        ("containers", !spec.containers.is_empty()),
        ("initContainers", spec.init_containers.is_some()),
        ("ephemeralContainers", spec.ephemeral_containers.is_some()),
        ("volumes", spec.volumes.is_some()),
        ("restartPolicy", spec.restart_policy.is_some()),
        (
            "activeDeadlineSeconds",
            spec.active_deadline_seconds.is_some(),
        ),
        (
            "terminationGracePeriodSeconds",
            spec.termination_grace_period_seconds.is_some(),
        ),
        (
            // The agent ends what a script leaves behind by being first in its own process namespace.
            "shareProcessNamespace",
            spec.share_process_namespace == Some(true),
        ),
        ("hostPID", spec.host_pid == Some(true)),
    ];
    match set.into_iter().find(|(_, is_set)| *is_set) {
        Some((name, _)) => Err(format!("spec.{name}: the runner sets this itself")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        Settings::new(
            "one".into(),
            "rgpu-faas:1".into(),
            "http://runner:8080".into(),
        )
    }

    #[test]
    fn what_is_wrong_is_named() {
        let wrong = |change: fn(&mut Settings)| {
            let mut settings = settings();
            change(&mut settings);
            settings.check().unwrap_err()
        };
        assert_eq!(settings().check(), Ok(()));
        assert!(wrong(|s| s.namespace = Some("A".into())).contains("namespace"));
        assert!(wrong(|s| s.instance = "a b".into()).contains("instance"));
        assert!(wrong(|s| s.agent_image = "A".into()).contains("agent image"));
        assert!(wrong(|s| s.agent_url = "https://runner".into()).contains("http://"));
        assert!(wrong(|s| s.pull_policy = Some("Sometimes".into())).contains("Always"));
        let resource = |s: &mut Settings| {
            s.resources.insert("a".into(), "vgpu".into());
        };
        assert!(wrong(resource).contains("DOMAIN/NAME"));
    }

    #[test]
    fn profiles_have_resources() {
        let mut settings = settings();
        settings
            .resources
            .insert("big".into(), "example.com/gpu".into());
        assert_eq!(settings.resource(None).unwrap(), "rgpu.io/vgpu");
        assert_eq!(
            settings.resource(Some("small")).unwrap(),
            "rgpu.io/vgpu-small"
        );
        assert_eq!(settings.resource(Some("big")).unwrap(), "example.com/gpu");
        assert!(settings.resource(Some("a_")).is_err());
    }

    #[test]
    fn templates() {
        let good = "spec:\n  hostNetwork: true\n  nodeSelector: { disk: ssd }\n  tolerations: [ { key: gpu, operator: Exists } ]\n";
        let template = read_template(good).unwrap();
        assert_eq!(template.spec.unwrap().host_network, Some(true));
        for (bad, why) in [
            ("spec: { containers: [ { name: a } ] }", "spec.containers"),
            ("spec: { hostNetwrk: true }", "hostNetwrk"),
            ("spec: { tolerations: [ { kee: gpu } ] }", "tolerations.kee"),
            ("spec: { shareProcessNamespace: true }", "shareProcess"),
            ("metadata: { labels: { rgpu.io/job: a } }", "rgpu.io/job"),
            ("template: {}", "template"),
            ("spec: { hostNetwork: perhaps }", "bool"),
            ("spec: [", ""),
        ] {
            let error = read_template(bad).unwrap_err();
            assert!(error.contains(why), "{bad}: {error}");
        }
    }
}
