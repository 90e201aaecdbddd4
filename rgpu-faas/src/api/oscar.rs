//! What OSCAR's own clients ask beside functions, calls and logs, and a function in OSCAR's terms (`types.Service` of grycap/oscar,
//! read 2026-06): quantities are strings, the script is its text.

use super::{Answer, App, functions};
use crate::config::Gpu;
use crate::function::Script;
use crate::journal::Filter;
use crate::registry::Entry;
use crate::state::JobState;
use crate::units;
use axum::Router;
use axum::extract::{Path, State};
use axum::response::Json;
use axum::routing::get;
use serde_json::{Value, json};

/// Jobs that are counted at most.
const MAX_COUNTED: u32 = 10_000;

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/system/info", get(info))
        .route("/system/config", get(config))
        // As OSCAR's Python client writes it.
        .route("/system/config/", get(config))
        .route("/system/status", get(status))
        .route("/system/services/{name}/deployment", get(deployment))
        .route(
            "/system/services/{name}/deployment/logs",
            get(deployment_logs),
        )
}

/// A function. Fields that OSCAR has as well are of its types; the others are ours.
pub(super) fn service(entry: &Entry) -> Value {
    let function = &*entry.function;
    let quantity = |bytes: Option<u64>| bytes.map(units::quantity).unwrap_or_default();
    let number = |cores: Option<f64>| cores.map(|it| it.to_string()).unwrap_or_default();
    let mut value = json!(function);
    let Value::Object(fields) = &mut value else {
        return value;
    };
    fields.remove("synchronous_max");
    let variables = fields.remove("variables");
    let secrets = fields.remove("secrets");
    let script = match &function.script {
        None => "",
        Some(Script::Inline(text)) => text,
        // It is changed where it is.
        Some(Script::File(path)) => path.to_str().unwrap_or_default(),
    };
    for (name, oscar) in [
        ("script", json!(script)),
        (
            "image",
            json!(function.image.as_deref().unwrap_or_default()),
        ),
        ("memory", json!(quantity(function.memory))),
        ("cpu", json!(number(function.cpu))),
        ("total_memory", json!(quantity(function.total_memory))),
        ("total_cpu", json!(number(function.total_cpu))),
        (
            "environment",
            json!({ "variables": variables, "secrets": secrets }),
        ),
        (
            "synchronous",
            json!({ "min_scale": 0, "max_scale": function.synchronous_max }),
        ),
        // Only a hash of it is kept; without one, clients show their own credentials, which do as well.
        ("token", json!("")),
        ("source", json!(entry.source)),
        ("version", json!(entry.version)),
        ("owner", json!(entry.owner)),
    ] {
        fields.insert(name.into(), oscar);
    }
    value
}

async fn info() -> Json<Value> {
    Json(json!({
        "version": concat!("rgpu-faas ", env!("CARGO_PKG_VERSION")),
        "git_commit": "",
        "architecture": std::env::consts::ARCH,
        "kubernetes_version": "none",
        "serverless_backend": { "name": "rgpu-faas", "version": env!("CARGO_PKG_VERSION") },
    }))
}

/// There is no MinIO whose credentials could be handed out.
async fn config(State(app): State<App>) -> Json<Value> {
    let has_gpu = !matches!(app.service.config.gpu, Gpu::None);
    Json(json!({
        "config": {
            "name": "rgpu-faas", "namespace": "", "services_namespace": "",
            "gpu_available": has_gpu, "interLink_available": false,
            "serverless_backend": "rgpu-faas", "yunikorn_enable": false, "kueue_enable": false,
            "volume_enable": false, "oidc_groups": [],
        },
        "minio_provider": null,
        "allowed_image_repositories": [],
    }))
}

/// This machine as a cluster of one node.
async fn status(State(app): State<App>) -> Answer {
    let count = |states: &[JobState]| {
        let filter = Filter {
            states: states.to_vec(),
            limit: MAX_COUNTED,
            ..Filter::default()
        };
        app.service.journal.jobs(&filter).map(|jobs| jobs.len())
    };
    use JobState::{Cancelled, Failed, Queued, Running, Starting, Submitted, Succeeded};
    let states = json!({
        "Pending": count(&[Submitted, Queued, Starting])?,
        "Running": count(&[Running])?,
        "Succeeded": count(&[Succeeded])?,
        "Failed": count(&[Failed, Cancelled])?,
    });
    let total: u64 = states
        .as_object()
        .into_iter()
        .flat_map(|it| it.values())
        .filter_map(Value::as_u64)
        .sum();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    Ok(Json(json!({
        "cluster": {
            "nodes_count": 1,
            "nodes": [{ "name": "rgpu-faas", "status": "Ready", "cpu": { "capacity_cores": cores } }],
        },
        "oscar": {
            "deployment_name": "rgpu-faas", "ready": true, "jobs_count": total,
            "pods": { "total": total, "states": states },
        },
        "minio": { "buckets_count": 0, "total_objects": 0 },
    })))
}

/// Nothing is deployed: a function is ready as soon as it is registered.
async fn deployment(State(app): State<App>, Path(name): Path<String>) -> Answer {
    functions::find(&app, &name)?;
    let running = app.service.journal.jobs(&Filter {
        function: Some(name.clone()),
        states: vec![JobState::Running],
        limit: MAX_COUNTED,
        ..Filter::default()
    })?;
    Ok(Json(json!({
        "service_name": name, "state": "ready", "active_instances": running.len(),
        "affected_instances": 0, "resource_kind": "process",
    })))
}

async fn deployment_logs(State(app): State<App>, Path(name): Path<String>) -> Answer {
    functions::find(&app, &name)?;
    Ok(Json(json!({
        "service_name": name, "available": false, "entries": [],
        "message": format!("nothing is deployed; what jobs print is in /system/logs/{name}"),
    })))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::function::parse;
    use crate::registry::Source;
    use std::sync::Arc;

    fn entry(text: &str) -> Entry {
        let functions = parse(text, "test", None).unwrap();
        Entry {
            function: Arc::new(functions.into_iter().next().unwrap()),
            source: Source::Request,
            version: Some(2),
            owner: "ann".into(),
        }
    }

    #[test]
    fn a_function_has_oscars_types() {
        let value = service(&entry(
            "{ name: f, image: i, script: \"echo\\n\", memory: 1536Mi, cpu: 0.5, total_cpu: '2', synchronous: { max_scale: 3 },
               environment: { variables: { A: b }, secrets: { K: k } }, input: [ { path: b/in, suffix: [.x] } ] }",
        ));
        for (pointer, expected) in [
            ("/script", json!("echo\n")),
            ("/memory", json!("1536Mi")),
            ("/cpu", json!("0.5")),
            ("/total_memory", json!("")),
            ("/total_cpu", json!("2")),
            ("/token", json!("")),
            ("/owner", json!("ann")),
            ("/version", json!(2)),
            ("/environment/variables/A", json!("b")),
            ("/environment/secrets/K", json!("k")),
            ("/synchronous/max_scale", json!(3)),
            ("/input/0/path", json!("b/in")),
            ("/enable_gpu", json!(true)),
        ] {
            assert_eq!(value.pointer(pointer), Some(&expected), "{pointer}");
        }
        let bare = service(&entry("{ name: f, command: [x] }"));
        assert_eq!((&bare["script"], &bare["memory"]), (&json!(""), &json!("")));
    }
}
