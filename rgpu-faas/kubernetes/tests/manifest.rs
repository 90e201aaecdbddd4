//! The manifest that the documentation applies: its objects are what Kubernetes knows, and its Role is what the engine asks, no more.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::rbac::v1::Role;
use serde_json::Value;
use std::collections::BTreeSet;

fn objects() -> Vec<Value> {
    let file = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../containers/k8s/rgpu-faas.yaml"
    );
    let text = std::fs::read_to_string(file).unwrap();
    text.split("\n---\n")
        .map(|part| serde_saphyr::from_str(part).unwrap())
        .collect()
}

/// The one object of a kind, in which nothing is lost when it is understood.
fn object<T: serde::Serialize + serde::de::DeserializeOwned>(kind: &str) -> T {
    let written = objects().into_iter().find(|it| it["kind"] == kind).unwrap();
    let understood: T = serde_json::from_value(written.clone()).unwrap();
    let again = serde_json::to_value(&understood).unwrap();
    is_within(&written, &again, kind);
    understood
}

fn is_within(written: &Value, understood: &Value, path: &str) {
    match written {
        Value::Object(fields) => {
            for (name, value) in fields {
                is_within(value, &understood[name], &format!("{path}.{name}"));
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                is_within(item, &understood[index], &format!("{path}[{index}]"));
            }
        }
        _ => assert_eq!(written, understood, "{path}"),
    }
}

#[test]
fn the_role_is_what_is_asked() {
    let role: Role = object("Role");
    let mut may = BTreeSet::new();
    for rule in role.rules.unwrap() {
        for resource in rule.resources.iter().flatten() {
            for verb in &rule.verbs {
                may.insert(format!("{verb} {resource}"));
            }
        }
    }
    let asked = [
        "create jobs",
        "get jobs",
        "list jobs",
        "watch jobs",
        "delete jobs",
        "list pods",
        "watch pods",
        "get pods/log",
        "create secrets",
        "delete secrets",
        "list events",
    ];
    assert_eq!(may, asked.map(str::to_owned).into());
}

#[test]
fn the_runner_is_told_who_it_is() {
    let set: StatefulSet = object("StatefulSet");
    let pod = set.spec.unwrap().template.spec.unwrap();
    assert_eq!(pod.service_account_name.as_deref(), Some("rgpu-faas"));
    let container = &pod.containers[0];
    let names: BTreeSet<&str> = container
        .env
        .iter()
        .flatten()
        .map(|it| it.name.as_str())
        .collect();
    let want = ["POD_NAME", "POD_NAMESPACE", "POD_UID", "RGPU_FAAS_TOKEN"];
    assert_eq!(names, want.into());
    assert!(
        container
            .args
            .iter()
            .flatten()
            .any(|it| it == "--engine=kubernetes")
    );
}
