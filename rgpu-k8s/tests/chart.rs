//! The chart and the plain manifest are the same thing; and what they configure is a configuration.
//!
//! The templates are rendered by a reimplementation of Go's language, with the few functions of Helm's that they use.

use std::path::{Path, PathBuf};

use gtmpl::{Context, FuncError, Template, Value as Go};
use serde_json::{Value, json};

fn containers() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../containers")
}

fn read(path: &str) -> String {
    std::fs::read_to_string(containers().join(path)).unwrap()
}

fn yaml(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

fn documents(text: &str) -> Vec<Value> {
    let documents = text.split("\n---\n").map(yaml);
    documents.filter(|document| !document.is_null()).collect()
}

fn to_go(value: &Value) -> Go {
    match value {
        Value::Null => Go::Nil,
        Value::Bool(value) => (*value).into(),
        Value::Number(value) => value.as_i64().unwrap().into(),
        Value::String(value) => value.as_str().into(),
        Value::Array(values) => Go::Array(values.iter().map(to_go).collect()),
        Value::Object(values) => Go::Map(
            values
                .iter()
                .map(|(key, value)| (key.clone(), to_go(value)))
                .collect(),
        ),
    }
}

fn to_json(value: &Go) -> Value {
    match value {
        Go::Bool(value) => json!(value),
        Go::String(value) => json!(value),
        Go::Number(value) => json!(value.as_i64().unwrap()),
        Go::Array(values) => values.iter().map(to_json).collect(),
        Go::Map(values) | Go::Object(values) => Value::Object(
            values
                .iter()
                .map(|(key, value)| (key.clone(), to_json(value)))
                .collect(),
        ),
        _ => Value::Null,
    }
}

fn text(value: &Go) -> Result<&str, FuncError> {
    match value {
        Go::String(text) => Ok(text),
        other => Err(FuncError::Generic(format!("{other} is no text"))),
    }
}

type Result<T, E> = std::result::Result<T, E>;

fn default(given: &[Go]) -> Result<Go, FuncError> {
    let is_empty = text(&given[1]).is_ok_and(str::is_empty);
    Ok(given[usize::from(!is_empty)].clone())
}

fn contains(given: &[Go]) -> Result<Go, FuncError> {
    Ok(text(&given[1])?.contains(text(&given[0])?).into())
}

fn quote(given: &[Go]) -> Result<Go, FuncError> {
    Ok(format!("{:?}", text(&given[0])?).into())
}

fn indent(given: &[Go]) -> Result<Go, FuncError> {
    let Go::Number(width) = &given[0] else {
        return Err(FuncError::Generic("no number".into()));
    };
    let margin = " ".repeat(width.as_i64().unwrap() as usize);
    let lines = text(&given[1])?
        .lines()
        .map(|line| format!("{margin}{line}"));
    Ok(lines.collect::<Vec<_>>().join("\n").into())
}

/// JSON is YAML.
fn to_yaml(given: &[Go]) -> Result<Go, FuncError> {
    Ok(to_json(&given[0]).to_string().into())
}

/// What `helm template` would print, with these values over the chart's own.
fn render(release: &str, change: impl FnOnce(&mut Value)) -> Vec<Value> {
    let mut values = yaml(&read("helm/rgpu-k8s/values.yaml"));
    change(&mut values);
    let chart = yaml(&read("helm/rgpu-k8s/Chart.yaml"));
    let context = json!({
        "Values": values,
        "Release": { "Name": release, "Namespace": "rgpu", "Service": "Helm" },
        "Chart": {
            "Name": chart["name"],
            "Version": chart["version"],
            "AppVersion": chart["appVersion"],
        },
    });
    let helpers = read("helm/rgpu-k8s/templates/_helpers.tpl");
    let names = [
        "serviceaccount.yaml",
        "configmap.yaml",
        "daemonset.yaml",
        "NOTES.txt",
    ];
    let rendered = names.map(|name| {
        let mut template = Template::default();
        let functions: [(&str, gtmpl::Func); 5] = [
            ("default", default),
            ("contains", contains),
            ("quote", quote),
            ("indent", indent),
            ("toYaml", to_yaml),
        ];
        template.add_funcs(&functions);
        let body = read(&format!("helm/rgpu-k8s/templates/{name}"));
        template.parse(format!("{helpers}{body}")).unwrap();
        template.render(&Context::from(to_go(&context))).unwrap()
    });
    let [manifests @ .., _notes] = &rendered;
    manifests.iter().flat_map(|text| documents(text)).collect()
}

/// Without the labels that name a release: a plain manifest has none.
fn plain(mut value: Value) -> Value {
    match &mut value {
        Value::Object(fields) => {
            for label in ["instance", "version", "managed-by"] {
                fields.remove(&format!("app.kubernetes.io/{label}"));
            }
            fields.remove("helm.sh/chart");
            for field in fields.values_mut() {
                *field = plain(field.take());
            }
        }
        Value::Array(values) => values.iter_mut().for_each(|it| *it = plain(it.take())),
        _ => {}
    }
    value
}

#[test]
fn the_charts_defaults_are_the_plain_manifest() {
    let rendered = render("rgpu-k8s", |_| {});
    let manifest = documents(&read("k8s/rgpu-k8s.yaml"));
    assert_eq!(rendered.len(), 3);
    for (rendered, manifest) in rendered.into_iter().zip(manifest) {
        assert_eq!(plain(rendered), manifest);
    }
}

#[test]
fn values_come_where_they_belong() {
    let rendered = render("gpus", |values| {
        values["image"] = json!({ "repository": "r/x", "tag": "2", "pullPolicy": "Always" });
        values["imagePullSecrets"] = json!([{ "name": "pull" }]);
        values["nodeSelector"] = json!({ "gpu": "none" });
        values["affinity"] = json!({ "nodeAffinity": {} });
        values["tolerations"] = json!([]);
        values["podAnnotations"] = json!({ "a": "b" });
        values["podSecurityContext"] = json!({ "fsGroup": 1 });
        values["hostNetwork"] = json!(true);
        values["priorityClassName"] = json!("");
        values["resources"] = json!({});
        values["kubelet"] = json!("/var/snap/kubelet");
        values["library"] = json!("/opt/other");
        values["tokenSecret"] = json!("secret");
        values["serviceAccount"] = json!({ "create": false, "name": "mine" });
    });
    let [config, set] = &rendered[..] else {
        panic!("{rendered:?}");
    };
    assert_eq!(config["metadata"]["name"], "gpus-rgpu-k8s");
    assert_eq!(
        set["metadata"]["labels"]["app.kubernetes.io/instance"],
        "gpus"
    );
    let template = &set["spec"]["template"];
    assert_eq!(template["metadata"]["annotations"], json!({ "a": "b" }));
    let pod = &template["spec"];
    assert_eq!(pod["serviceAccountName"], "mine");
    assert_eq!(pod["imagePullSecrets"], json!([{ "name": "pull" }]));
    assert_eq!(pod["nodeSelector"], json!({ "gpu": "none" }));
    assert_eq!(pod["affinity"], json!({ "nodeAffinity": {} }));
    assert_eq!(pod["securityContext"], json!({ "fsGroup": 1 }));
    assert_eq!(
        (&pod["hostNetwork"], &pod["dnsPolicy"]),
        (&json!(true), &json!("ClusterFirstWithHostNet"))
    );
    assert!(pod["tolerations"].is_null() && pod["priorityClassName"].is_null());
    for containers in [&pod["initContainers"], &pod["containers"]] {
        assert_eq!(containers[0]["image"], "r/x:2");
        assert_eq!(containers[0]["imagePullPolicy"], "Always");
        assert!(containers[0]["resources"].is_null());
    }
    let volumes = pod["volumes"].to_string();
    for part in [
        "/var/snap/kubelet/device-plugins",
        "/var/snap/kubelet/pod-resources",
        "/opt/other",
        "\"secret\"",
    ] {
        assert!(volumes.contains(part), "{part}: {volumes}");
    }
}

#[test]
fn what_the_manifest_configures_is_a_configuration() {
    let manifest = documents(&read("k8s/rgpu-k8s.yaml"));
    let text = manifest[1]["data"]["config.toml"].as_str().unwrap();
    let config = rgpu_k8s::config::Config::parse(text).unwrap();
    let pod = yaml(&read("k8s/pod.yaml"));
    let limits = &pod["spec"]["containers"][0]["resources"]["limits"];
    let (resource, _) = limits.as_object().unwrap().iter().next().unwrap();
    assert!(config.profile(resource).is_some());
    // And so is the one in the documentation.
    let page = read("../docs/kubernetes.md");
    let example = page
        .split("```toml\n")
        .nth(1)
        .unwrap()
        .split("```")
        .next()
        .unwrap();
    rgpu_k8s::config::Config::parse(example).unwrap();
}
