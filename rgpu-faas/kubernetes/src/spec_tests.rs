use super::*;
use crate::attempt::Vgpu;
use crate::settings::read_template;
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;

pub fn settings() -> Settings {
    Settings::new(
        "runner-1".into(),
        "registry.example/rgpu-faas:1".into(),
        "http://rgpu-faas.functions:8080".into(),
    )
}

pub fn attempt() -> Attempt {
    let folder: OwnedFd = std::fs::File::open("/").unwrap().into();
    let map = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        let pairs = pairs.iter();
        pairs
            .map(|(name, value)| ((*name).into(), (*value).into()))
            .collect()
    };
    Attempt {
        function: "echo".into(),
        job: "0f0e0d0c-0b0a-4908-8706-050403020100".into(),
        number: 2,
        image: "ghcr.io/grycap/echo:1.0".into(),
        pull_secrets: vec!["regcred".into()],
        labels: map(&[("team", "imaging")]),
        annotations: map(&[("example.com/contact", "someone@example.com")]),
        variables: vec![
            ("MODEL".into(), "resnet $(HOME)".into()),
            ("DEV".into(), "CUDA".into()),
        ],
        environment: vec![("EVENT".into(), "{}".into())],
        secrets: vec![("API_KEY".into(), b"hidden\xff".to_vec())],
        argv: vec!["/bin/sh".into(), "script.sh".into()],
        folder: Arc::new(folder),
        files: Vec::new(),
        cpu: Some(0.5),
        memory: Some(1 << 30),
        scratch: 16 << 30,
        vgpu: Some(Vgpu {
            profile: Some("small".into()),
            wait: None,
            preferred: false,
        }),
        timeout: Duration::from_millis(300_500),
        log_limit: 1 << 20,
        term_grace: Duration::from_secs(2),
    }
}

/// Compares with a file that a person can read; everything of it must be there and nothing else.
fn golden(object: &impl serde::Serialize, text: &str) {
    let want: serde_json::Value = serde_saphyr::from_str(text).unwrap();
    let got = serde_json::to_value(object).unwrap();
    let pretty = |value: &serde_json::Value| serde_json::to_string_pretty(value).unwrap();
    assert!(got == want, "{}\nis not\n{}", pretty(&got), pretty(&want));
}

#[test]
fn a_job_with_everything() {
    let mut settings = settings();
    settings.pull_policy = Some("IfNotPresent".into());
    settings.owner = Some(OwnerReference {
        api_version: "v1".into(),
        kind: "Pod".into(),
        name: "rgpu-faas-0".into(),
        uid: "3f2a".into(),
        ..OwnerReference::default()
    });
    let template = "metadata: { labels: { zone: a } }\nspec: { nodeSelector: { disk: ssd }, imagePullSecrets: [ { name: mirror } ], securityContext: { runAsNonRoot: true } }";
    settings.template = read_template(template).unwrap();
    let made = job(&settings, &attempt(), "abc", true).unwrap();
    golden(&made, include_str!("golden/job.yaml"));
    let text = serde_json::to_string(&made).unwrap();
    assert!(!text.contains("hidden") && !text.contains("API_KEY"));
}

#[test]
fn a_secret_goes_with_its_job() {
    let made = secret(&settings(), &attempt(), "t0ken", "uid-1");
    golden(&made, include_str!("golden/secret.yaml"));
}

#[test]
fn a_job_with_nothing() {
    let mut plain = attempt();
    plain.cpu = None;
    plain.memory = None;
    plain.vgpu = None;
    plain.variables.clear();
    let made = job(&settings(), &plain, "abc", true).unwrap();
    let pod = made.spec.unwrap().template.spec.unwrap();
    let resources = pod.containers[0].resources.clone().unwrap();
    assert_eq!((resources.limits, resources.requests), (None, None));
    assert_eq!(made.metadata.owner_references, None);
}

#[test]
fn without_a_gpu_the_resource_is_not_asked_for() {
    let made = job(&settings(), &attempt(), "abc", false).unwrap();
    let pod = made.spec.unwrap().template.spec.unwrap();
    let limits = pod.containers[0].resources.clone().unwrap().limits.unwrap();
    assert_eq!(limits.keys().collect::<Vec<_>>(), ["cpu", "memory"]);
}

#[test]
fn what_kubernetes_would_refuse_is_refused_here() {
    let wrong = |change: fn(&mut Attempt)| {
        let mut attempt = attempt();
        change(&mut attempt);
        job(&settings(), &attempt, "abc", true).unwrap_err()
    };
    assert!(wrong(|a| a.image = "Not An Image".into()).contains("image"));
    assert!(wrong(|a| a.pull_secrets.push("A".into())).contains("image_pull_secrets"));
    let label = |a: &mut Attempt| {
        a.labels.insert("rgpu.io/job".into(), "other".into());
    };
    assert!(wrong(label).contains("rgpu.io/job"));
    let note = |a: &mut Attempt| {
        a.annotations.insert("a b".into(), String::new());
    };
    assert!(wrong(note).contains("annotation"));
    assert!(wrong(|a| a.memory = Some(1 << 20)).contains("16 MiB"));
    assert!(wrong(|a| a.cpu = Some(1e9)).contains("cpu"));
    assert!(wrong(|a| a.function = "A".into()).contains("function"));
    assert!(wrong(|a| a.variables.push(("A-B".into(), String::new()))).contains("A-B"));
    assert!(wrong(|a| a.variables.push(("A".into(), "x".repeat(600 << 10)))).contains("bytes"));
    assert!(wrong(|a| a.secrets.push(("A".into(), vec![0; 1 << 20]))).contains("Secret takes"));
    let profile = |a: &mut Attempt| a.vgpu.as_mut().unwrap().profile = Some("a..".into());
    assert!(wrong(profile).contains("profile"));
}

#[test]
fn the_longest_limits_are_numbers_that_kubernetes_takes() {
    let mut attempt = attempt();
    attempt.timeout = Duration::MAX;
    let made = job(&settings(), &attempt, "abc", true).unwrap();
    let deadline = made.spec.unwrap().active_deadline_seconds;
    assert_eq!(deadline, Some(i64::from(i32::MAX)));
}
