//! An attempt as objects of Kubernetes: pure.

use crate::attempt::Attempt;
use crate::names::{bytes_quantity, cpu_quantity, literal};
use crate::settings::Settings;
use k8s_openapi::ByteString;
use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::{
    Container, EmptyDirVolumeSource, EnvVar, LocalObjectReference, PodSpec, PodTemplateSpec,
    ResourceRequirements, SeccompProfile, Secret, SecretVolumeSource, SecurityContext, Volume,
    VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use std::collections::BTreeMap;
use std::time::Duration;

/// The runner that a job belongs to.
pub const RUNNER: &str = "rgpu.io/runner";
const FUNCTION: &str = "rgpu.io/function";
const JOB: &str = "rgpu.io/job";
const ATTEMPT: &str = "rgpu.io/attempt";
/// Tells what was asked for now from what an earlier attempt of the same name has left.
pub const NONCE: &str = "rgpu.io/nonce";
const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "rgpu-faas");

/// The attempt's folder in the container.
pub const FOLDER: &str = "/rgpu-faas/job";
/// The agent with its libraries.
pub const PROGRAM: &str = "/rgpu-faas/agent";
/// The attempt's secrets, one file each.
pub const SECRETS: &str = "/rgpu-faas/secrets";
/// The file among them that the agent shows the runner. No variable has this name.
pub const TOKEN: &str = "attempt.token";

/// Beyond the runner's own limit, so that it is the first to say so.
const SLACK: Duration = Duration::from_secs(120);
/// Between kubelet's SIGTERM and SIGKILL, beyond what the script has: for the agent's last words.
const LAST_WORDS: Duration = Duration::from_secs(3);
/// What the agent's copying needs.
const INIT_MEMORY: &str = "64Mi";
const INIT_CPU: &str = "100m";

/// The Job of an attempt. `with_gpu`: whether it gets the vGPU that it asks for.
pub fn job(
    settings: &Settings,
    attempt: &Attempt,
    nonce: &str,
    with_gpu: bool,
) -> Result<Job, String> {
    attempt.check()?;
    let template = &settings.template;
    let none = ObjectMeta::default();
    let given = template.metadata.as_ref().unwrap_or(&none);
    let labels = labels(settings, attempt);
    let mut annotations = attempt.annotations.clone();
    annotations.insert(NONCE.into(), nonce.to_owned());
    let mut pod_labels = given.labels.clone().unwrap_or_default();
    pod_labels.extend(labels.clone());
    let mut pod_annotations = given.annotations.clone().unwrap_or_default();
    pod_annotations.extend(attempt.annotations.clone());
    let deadline = deadline(settings, attempt);
    Ok(Job {
        metadata: ObjectMeta {
            name: Some(attempt.name()),
            labels: Some(labels),
            annotations: Some(annotations),
            owner_references: settings.owner.clone().map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        spec: Some(JobSpec {
            // Retries are the runner's.
            backoff_limit: Some(0),
            active_deadline_seconds: Some(seconds(deadline)),
            ttl_seconds_after_finished: Some(
                i32::try_from(settings.keep.as_secs()).unwrap_or(i32::MAX),
            ),
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta {
                    labels: Some(pod_labels),
                    annotations: (!pod_annotations.is_empty()).then_some(pod_annotations),
                    ..ObjectMeta::default()
                }),
                spec: Some(pod(settings, attempt, with_gpu)?),
            },
            ..JobSpec::default()
        }),
        ..Job::default()
    })
}

/// The Secret of an attempt, which goes with its Job.
pub fn secret(settings: &Settings, attempt: &Attempt, token: &str, uid: &str) -> Secret {
    let mut data: BTreeMap<String, ByteString> = attempt
        .secrets
        .iter()
        .map(|(name, value)| (name.clone(), ByteString(value.clone())))
        .collect();
    data.insert(TOKEN.into(), ByteString(token.as_bytes().to_vec()));
    Secret {
        metadata: ObjectMeta {
            name: Some(attempt.name()),
            labels: Some(labels(settings, attempt)),
            owner_references: Some(vec![OwnerReference {
                api_version: "batch/v1".into(),
                kind: "Job".into(),
                name: attempt.name(),
                uid: uid.to_owned(),
                ..OwnerReference::default()
            }]),
            ..ObjectMeta::default()
        },
        data: Some(data),
        immutable: Some(true),
        type_: Some("Opaque".into()),
        ..Secret::default()
    }
}

fn deadline(settings: &Settings, attempt: &Attempt) -> Duration {
    let limits = settings.start_limit.saturating_add(attempt.timeout);
    limits.saturating_add(SLACK)
}

fn labels(settings: &Settings, attempt: &Attempt) -> BTreeMap<String, String> {
    let mut labels = attempt.labels.clone();
    let own = [
        MANAGED_BY,
        (RUNNER, &settings.instance),
        (FUNCTION, &attempt.function),
        (JOB, &attempt.job),
        (ATTEMPT, &attempt.number.to_string()),
    ];
    labels.extend(own.map(|(name, value)| (name.to_owned(), value.to_owned())));
    labels
}

fn pod(settings: &Settings, attempt: &Attempt, with_gpu: bool) -> Result<PodSpec, String> {
    let template = settings.template.spec.clone().unwrap_or_default();
    let mut pull_secrets = template.image_pull_secrets.clone().unwrap_or_default();
    for name in &attempt.pull_secrets {
        let reference = LocalObjectReference { name: name.clone() };
        if !pull_secrets.contains(&reference) {
            pull_secrets.push(reference);
        }
    }
    let grace = attempt.term_grace + LAST_WORDS;
    Ok(PodSpec {
        containers: vec![container(settings, attempt, with_gpu)?],
        init_containers: Some(vec![installer(settings)]),
        volumes: Some(vec![
            Volume {
                name: "agent".into(),
                empty_dir: Some(EmptyDirVolumeSource::default()),
                ..Volume::default()
            },
            Volume {
                name: "job".into(),
                empty_dir: Some(EmptyDirVolumeSource {
                    size_limit: Some(Quantity(bytes_quantity(attempt.scratch))),
                    ..EmptyDirVolumeSource::default()
                }),
                ..Volume::default()
            },
            Volume {
                name: "secrets".into(),
                secret: Some(SecretVolumeSource {
                    secret_name: Some(attempt.name()),
                    // The container may run as any user.
                    default_mode: Some(0o444),
                    ..SecretVolumeSource::default()
                }),
                ..Volume::default()
            },
        ]),
        restart_policy: Some("Never".into()),
        image_pull_secrets: (!pull_secrets.is_empty()).then_some(pull_secrets),
        termination_grace_period_seconds: Some(seconds(grace)),
        automount_service_account_token: Some(
            template.automount_service_account_token.unwrap_or(false),
        ),
        enable_service_links: Some(template.enable_service_links.unwrap_or(false)),
        ..template
    })
}

/// Brings the agent into the pod.
fn installer(settings: &Settings) -> Container {
    let resources = BTreeMap::from([
        ("cpu".to_owned(), Quantity(INIT_CPU.into())),
        ("memory".to_owned(), Quantity(INIT_MEMORY.into())),
    ]);
    Container {
        name: "agent".into(),
        image: Some(settings.agent_image.clone()),
        image_pull_policy: settings.pull_policy.clone(),
        command: Some(words(&["rgpu-faas", "agent", "install", PROGRAM])),
        // So that the pod's quality of service is the function's own.
        resources: Some(ResourceRequirements {
            limits: Some(resources.clone()),
            requests: Some(resources),
            ..ResourceRequirements::default()
        }),
        security_context: Some(security()),
        volume_mounts: Some(vec![mount("agent", PROGRAM, false)]),
        ..Container::default()
    }
}

fn container(settings: &Settings, attempt: &Attempt, with_gpu: bool) -> Result<Container, String> {
    let mut limits = BTreeMap::new();
    if let Some(cpu) = attempt.cpu {
        limits.insert("cpu".to_owned(), Quantity(cpu_quantity(cpu)?));
    }
    if let Some(memory) = attempt.memory {
        limits.insert("memory".to_owned(), Quantity(bytes_quantity(memory)));
    }
    let mut requests = limits.clone();
    if let (Some(vgpu), true) = (&attempt.vgpu, with_gpu) {
        let resource = settings.resource(vgpu.profile.as_deref())?;
        // Both, as Kubernetes wants of what is counted in whole.
        for list in [&mut limits, &mut requests] {
            list.insert(resource.clone(), Quantity("1".into()));
        }
    }
    let loader = format!("{PROGRAM}/{}", crate::agent::LOADER);
    let program = format!("{PROGRAM}/{}", crate::agent::NAME);
    let patience = seconds(deadline(settings, attempt)).to_string();
    let list = |resources: BTreeMap<_, _>| (!resources.is_empty()).then_some(resources);
    Ok(Container {
        name: "function".into(),
        image: Some(attempt.image.clone()),
        image_pull_policy: settings.pull_policy.clone(),
        // With its own loader and libraries, since an image may have others or none.
        command: Some(words(&[
            &loader,
            "--inhibit-cache",
            "--library-path",
            PROGRAM,
            &program,
            "agent",
            "run",
        ])),
        args: Some(words(&[
            "--url",
            &settings.agent_url,
            "--attempt",
            &attempt.name(),
            "--folder",
            FOLDER,
            "--secrets",
            SECRETS,
            "--patience",
            &patience,
        ])),
        env: Some(
            attempt
                .variables
                .iter()
                .map(|(name, value)| EnvVar {
                    name: name.clone(),
                    value: Some(literal(value)),
                    ..EnvVar::default()
                })
                .collect(),
        ),
        resources: Some(ResourceRequirements {
            limits: list(limits),
            requests: list(requests),
            ..ResourceRequirements::default()
        }),
        security_context: Some(security()),
        volume_mounts: Some(vec![
            mount("agent", PROGRAM, true),
            mount("job", FOLDER, false),
            mount("secrets", SECRETS, true),
        ]),
        ..Container::default()
    })
}

fn security() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        seccomp_profile: Some(SeccompProfile {
            type_: "RuntimeDefault".into(),
            ..SeccompProfile::default()
        }),
        ..SecurityContext::default()
    }
}

fn mount(name: &str, path: &str, read_only: bool) -> VolumeMount {
    VolumeMount {
        name: name.into(),
        mount_path: path.into(),
        read_only: read_only.then_some(true),
        ..VolumeMount::default()
    }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// Whole seconds, rounded up; no more than what Kubernetes can count with.
fn seconds(duration: Duration) -> i64 {
    let whole = duration
        .as_secs()
        .saturating_add(u64::from(duration.subsec_nanos() > 0));
    i64::from(i32::try_from(whole).unwrap_or(i32::MAX))
}

#[cfg(test)]
#[path = "spec_tests.rs"]
pub(crate) mod tests;
