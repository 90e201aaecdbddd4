//! Functions: OSCAR's `/system/services`.

use super::{Answer, ApiError, App, files, is_known, name_of, not_found, oscar};
use crate::function::{self, Function};
use crate::registry::{Entry, Source};
use crate::schedules;
use crate::service::Service;
use axum::Router;
use axum::extract::{Extension, Path, State};
use axum::http::StatusCode;
use axum::response::Json;
use axum::routing::{get, post};
use rgpu_faas_access::{Action, Principal};
use serde_json::{Value, json};

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route(
            "/system/services",
            get(list_functions).post(register).put(register),
        )
        .route(
            "/system/services/{name}",
            get(show_function).delete(remove_function),
        )
        .route("/system/services/{name}/versions", get(list_versions))
        .route(
            "/system/services/{name}/versions/{version}/restore",
            post(restore),
        )
}

/// As OSCAR's clients read it, with what is ours beside.
fn describe(service: &Service, entry: &Entry) -> Answer<Value> {
    let mut value = oscar::service(entry);
    if let Value::Object(fields) = &mut value {
        // With when they are due next.
        let schedules = schedules::describe(service, &entry.function)?;
        fields.insert("schedule".into(), Value::Array(schedules));
        if let Some(instances) = service.warm.describe(entry) {
            fields.insert("instances".into(), instances);
        }
    }
    Ok(value)
}

async fn list_functions(State(app): State<App>, Extension(caller): Extension<Principal>) -> Answer {
    let mut all = app.service.registry.all();
    all.retain(|entry| {
        let name = &entry.function.name;
        app.access.sees(&caller, Action::FunctionList, name)
    });
    let all = all.iter().map(|entry| describe(&app.service, entry));
    Ok(Json(Value::Array(all.collect::<Answer<_>>()?)))
}

/// A definition (YAML or JSON): a whole file or one function, scripts inlined.
async fn register(
    State(app): State<App>,
    Extension(caller): Extension<Principal>,
    body: String,
) -> Answer<(StatusCode, Json<Value>)> {
    let claims = match app.access.functions() {
        Some(owners) => {
            let named = app.service.read(&body, "request", None)?;
            check_providers(&caller, &named)?;
            let names = named.iter().map(|function| function.name.clone());
            let taken = |name: &str| {
                is_known(&app.service, name) || is_awaited(&app.service, name, name_of(&caller))
            };
            let claims = owners.claim(&caller, names, taken)?;
            check_request(&app, &caller, &named)?;
            Some(claims)
        }
        None => None,
    };
    let functions = app.service.register_request(&body, name_of(&caller))?;
    let functions: Vec<&Function> = functions.iter().map(|f| &**f).collect();
    let mut answer = json!({ "functions": functions });
    if let (Some(claims), Value::Object(fields)) = (claims, &mut answer) {
        // Shown here, and never again.
        let tokens = claims.keep()?;
        let tokens = tokens
            .iter()
            .map(|(name, token)| (name.clone(), json!(token.reveal())));
        fields.insert("tokens".into(), Value::Object(tokens.collect()));
    }
    Ok((StatusCode::CREATED, Json(answer)))
}

/// Whether a function of somebody else's would get the outputs of a function of this name.
fn is_awaited(service: &Service, name: &str, caller: &str) -> bool {
    service.registry.all().iter().any(|entry| {
        let on = entry.function.depends_on.as_ref();
        on.is_some_and(|on| on.function == name) && entry.owner != caller
    })
}

/// Whether the caller may have such functions.
pub(super) fn check_request(app: &App, caller: &Principal, functions: &[Function]) -> Answer<()> {
    if app.access.functions().is_some() {
        check_providers(caller, functions)?;
        check_dependencies(app, caller, functions)?;
        files::check_folders(app, caller, functions)?;
    }
    Ok(())
}

/// The server's own variables and files are not everybody's to hand out.
fn check_providers(caller: &Principal, functions: &[Function]) -> Answer<()> {
    if caller.is_administrator() {
        return Ok(());
    }
    for function in functions {
        if let Some(provider) = function.storage_providers.of_the_server() {
            let message = format!(
                "{}: the storage provider {provider} has credentials in env: or file:, which only an administrator may name; write secret:NAME, or have the provider defined for all (--storage)",
                function.name
            );
            return Err(ApiError(StatusCode::FORBIDDEN, message));
        }
    }
    Ok(())
}

/// Who depends on a function gets what it makes: so that must be the caller's too.
fn check_dependencies(app: &App, caller: &Principal, functions: &[Function]) -> Answer<()> {
    for function in functions {
        if let Some(on) = &function.depends_on
            && !app.access.sees(caller, Action::FunctionWrite, &on.function)
        {
            let message = format!(
                "{} depends on {}, which is not yours, or does not exist",
                function.name, on.function
            );
            return Err(ApiError(StatusCode::FORBIDDEN, message));
        }
    }
    Ok(())
}

pub(super) fn find(app: &App, name: &str) -> Answer<Entry> {
    let entry = app.service.registry.get(name);
    entry.ok_or_else(|| not_found(format!("there is no function {name}")))
}

async fn show_function(State(app): State<App>, Path(name): Path<String>) -> Answer {
    Ok(Json(describe(&app.service, &find(&app, &name)?)?))
}

async fn remove_function(State(app): State<App>, Path(name): Path<String>) -> Answer<StatusCode> {
    if let Some(entry) = app.service.registry.get(&name)
        && let Source::File(path) = entry.source
    {
        let message = format!("{name} is defined by {}; remove that file", path.display());
        return Err(ApiError(StatusCode::CONFLICT, message));
    }
    app.service.unregister(&name)?;
    // The name stays its owner's, as its jobs do.
    if let Some(owners) = app.access.functions() {
        owners.revoke_token(&name)?;
    }
    Ok(StatusCode::NO_CONTENT)
}

/// The newest first. Those of a file are its author's to keep.
async fn list_versions(State(app): State<App>, Path(name): Path<String>) -> Answer {
    let current = find(&app, &name)?.version;
    let versions = app.service.journal.versions(&name)?;
    let versions = versions.iter().map(|kept| {
        let mut value = json!(kept);
        if let Value::Object(fields) = &mut value {
            fields.insert("current".into(), json!(current == Some(kept.version)));
            // It was JSON when it was written.
            let mut definition: Option<Value> = serde_json::from_str(&kept.definition).ok();
            let providers = definition
                .as_mut()
                .and_then(|it| it.get_mut("storage_providers"));
            if let Some(providers) = providers {
                function::mask(providers);
            }
            fields.insert("definition".into(), json!(definition));
        }
        value
    });
    let versions: Vec<Value> = versions.collect();
    Ok(Json(json!({ "versions": versions })))
}

async fn restore(
    State(app): State<App>,
    Extension(caller): Extension<Principal>,
    Path((name, version)): Path<(String, u32)>,
) -> Answer {
    find(&app, &name)?;
    check_request(&app, &caller, &[app.service.earlier(&name, version)?])?;
    app.service.restore(&name, version, name_of(&caller))?;
    Ok(Json(describe(&app.service, &find(&app, &name)?)?))
}
