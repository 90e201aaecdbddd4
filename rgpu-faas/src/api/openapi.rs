//! The description of what is served, for programs that make clients of it: `/openapi.json`, made of one table.

use super::App;
use axum::Router;
use axum::response::Json;
use axum::routing::get;
use serde_json::{Map, Value, json};

/// What a body or an answer is.
#[derive(Clone, Copy)]
enum Is {
    /// A schema of `schemas`.
    A(&'static str),
    /// JSON with this list of a schema, and more.
    Listed(&'static str, &'static str),
    /// JSON of no fixed shape.
    Object,
    Text,
    Bytes,
    Definition,
    Nothing,
}

use Is::{A, Bytes, Definition, Listed, Nothing, Object, Text};

/// Parameters of a query: name, type, meaning.
type Query = &'static [(&'static str, &'static str, &'static str)];

struct Route {
    method: &'static str,
    path: &'static str,
    about: &'static str,
    query: Query,
    takes: Is,
    answers: &'static [(u16, Is)],
}

const fn route(
    method: &'static str,
    path: &'static str,
    about: &'static str,
    query: Query,
    takes: Is,
    answers: &'static [(u16, Is)],
) -> Route {
    Route {
        method,
        path,
        about,
        query,
        takes,
        answers,
    }
}

const CALL: Query = &[
    ("filename", "string", "The input's name for the script"),
    (
        "order_key",
        "string",
        "Calls with one key run one after another",
    ),
    ("timeout", "string", "How long /run waits, as in 30s"),
];
const DEAD: Query = &[
    ("function", "string", "Only this function's"),
    ("limit", "integer", "At most so many (1000)"),
];
const PREVIEW: Query = &[(
    "preview",
    "boolean",
    "To be shown in a page, if it is of a kind that cannot run anything there; else it is saved",
)];
const JOBS: Query = &[
    ("function", "string", "Only this function's"),
    (
        "input",
        "string",
        "Only with this input, bucket/folder/name",
    ),
    ("state", "string", "A comma list of states"),
    ("owner", "string", "Only this person's"),
    ("parent", "string", "Only those that came from this job"),
    ("group", "string", "Only of this group"),
    ("limit", "integer", "At most so many (100)"),
    (
        "min",
        "integer",
        "With `wait`: answer when so many match (1)",
    ),
    (
        "wait",
        "number",
        "Seconds to wait for that; with If-None-Match, for another list than the one with that ETag",
    ),
];

#[rustfmt::skip]
const ROUTES: &[Route] = &[
    route("get", "/health", "Whether the server answers; no credentials are needed", &[], Nothing, &[(200, Object)]),
    route("get", "/", "The web page", &[], Nothing, &[(200, Text)]),
    route("get", "/ui", "The web page", &[], Nothing, &[(200, Text)]),
    route("get", "/ui/{file}", "Its files", &[], Nothing, &[(200, Text), (404, A("Error"))]),
    route("get", "/openapi.json", "This description", &[], Nothing, &[(200, Object)]),
    route("get", "/metrics", "Prometheus' text format, or OpenMetrics where Accept asks for it", &[], Nothing, &[(200, Text)]),
    route("get", "/system/info", "What OSCAR's clients ask: the version", &[], Nothing, &[(200, Object)]),
    route("get", "/system/config", "What OSCAR's clients ask: the configuration, without credentials", &[], Nothing, &[(200, Object)]),
    route("get", "/system/config/", "The same", &[], Nothing, &[(200, Object)]),
    route("get", "/system/status", "What OSCAR's clients ask: this machine as a cluster of one node", &[], Nothing, &[(200, Object)]),
    route("get", "/system/services/{name}/deployment", "What OSCAR's clients ask: whether a function is ready", &[], Nothing, &[(200, Object), (403, A("Error")), (404, A("Error"))]),
    route("get", "/system/services/{name}/deployment/logs", "What OSCAR's clients ask: there are none", &[], Nothing, &[(200, Object), (403, A("Error")), (404, A("Error"))]),
    route("post", "/access/login", "Begins a browser's session for who shows a password or a token", &[], Nothing, &[(200, A("Me")), (409, A("Error"))]),
    route("post", "/access/logout", "Ends it", &[], Nothing, &[(204, Nothing)]),
    route("get", "/access/me", "Who one is", &[], Nothing, &[(200, A("Me"))]),
    route("post", "/access/tokens/{function}", "A new token for a function, in place of the old", &[], Nothing, &[(200, Object), (404, A("Error")), (409, A("Error"))]),
    route("delete", "/access/tokens/{function}", "Makes a function's token worthless", &[], Nothing, &[(204, Nothing), (404, A("Error")), (409, A("Error"))]),
    route("get", "/system/services", "Functions", &[], Nothing, &[(200, A("Functions"))]),
    route("post", "/system/services", "Registers functions; those of the same names are replaced", &[], Definition, &[(201, Listed("functions", "Function")), (400, A("Error")), (409, A("Error"))]),
    route("put", "/system/services", "The same", &[], Definition, &[(201, Listed("functions", "Function")), (400, A("Error")), (409, A("Error"))]),
    route("get", "/system/services/{name}", "A function as it was understood", &[], Nothing, &[(200, A("Function")), (404, A("Error"))]),
    route("delete", "/system/services/{name}", "Removes it; its jobs that wait or run are cancelled", &[], Nothing, &[(204, Nothing), (404, A("Error")), (409, A("Error"))]),
    route("get", "/system/services/{name}/definition", "Its definition, scripts inlined, to be changed and registered again", &[], Nothing, &[(200, Object), (404, A("Error"))]),
    route("get", "/system/services/{name}/sample", "An input to try it with, which its annotation rgpu.io/sample names", &[], Nothing, &[(200, Bytes), (404, A("Error")), (409, A("Error")), (422, A("Error"))]),
    route("get", "/system/services/{name}/versions", "Its versions, the newest first", &[], Nothing, &[(200, Listed("versions", "Version")), (404, A("Error"))]),
    route("post", "/system/services/{name}/versions/{version}/restore", "An earlier version again, as the newest", &[], Nothing, &[(200, A("Function")), (404, A("Error"))]),
    route("post", "/system/check", "What is wrong with a definition; nothing is registered", &[], Definition, &[(200, A("Check"))]),
    route("post", "/job/{name}", "Submits a job with the body as its input, or the events in it", CALL, Bytes, &[(201, A("Submitted")), (200, A("Submitted")), (404, A("Error")), (410, A("Error")), (413, A("Error")), (507, A("Error"))]),
    route("post", "/run/{name}", "The same, and waits for its result", CALL, Bytes, &[(200, Text), (202, A("Submitted")), (404, A("Error")), (409, A("Error")), (413, A("Error")), (429, A("Error")), (500, A("Error"))]),
    route("post", "/events/{name}", "Notifications of stores, and CloudEvents", &[], Bytes, &[(201, A("Events")), (200, A("Events")), (400, A("Error")), (404, A("Error")), (413, A("Error")), (415, A("Error")), (422, A("Events"))]),
    route("get", "/jobs", "The newest jobs that match, the oldest of them first", JOBS, Nothing, &[(200, Listed("jobs", "Job")), (304, Nothing), (400, A("Error")), (503, A("Error"))]),
    route("get", "/jobs/{id}", "A job with its attempts, outputs and the jobs that came from it", &[], Nothing, &[(200, A("Job")), (404, A("Error"))]),
    route("get", "/jobs/{id}/wait", "The job when it is final, or as it is when the time is up (202)", &[("timeout", "number", "Seconds (30)")], Nothing, &[(200, A("Job")), (202, A("Job")), (404, A("Error"))]),
    route("get", "/jobs/{id}/result", "What /run would have answered", &[], Nothing, &[(200, Text), (202, A("Submitted")), (404, A("Error")), (409, A("Error")), (500, A("Error"))]),
    route("get", "/jobs/{id}/files", "The files that it has made", &[], Nothing, &[(200, Listed("files", "Made")), (404, A("Error"))]),
    route("get", "/jobs/{id}/files/{number}", "One of them", PREVIEW, Nothing, &[(200, Bytes), (404, A("Error"))]),
    route("post", "/jobs/{id}/cancel", "Ends it: 200 cancelled, 202 being ended", &[], Nothing, &[(200, A("Job")), (202, A("Job")), (404, A("Error")), (409, A("Error"))]),
    route("get", "/system/logs/{name}", "A function's jobs in OSCAR's words, the newest first", &[("page", "string", "What an earlier answer said as next_page"), ("limit", "integer", "At most so many (70)")], Nothing, &[(200, Object), (400, A("Error"))]),
    route("delete", "/system/logs/{name}", "Removes its jobs that succeeded", &[("all", "boolean", "All that have ended")], Nothing, &[(204, Nothing)]),
    route("get", "/system/logs/{name}/{job}", "What a job has printed", &[("attempt", "integer", "The last, unless it is said"), ("follow", "boolean", "As it comes, until the job has ended")], Nothing, &[(200, Text), (404, A("Error")), (503, A("Error"))]),
    route("delete", "/system/logs/{name}/{job}", "Removes a job that has ended", &[], Nothing, &[(204, Nothing), (404, A("Error")), (409, A("Error"))]),
    route("get", "/system/dead-letter", "Jobs that failed for good, the oldest first", DEAD, Nothing, &[(200, Listed("jobs", "Job"))]),
    route("delete", "/system/dead-letter", "Gives them up", DEAD, Nothing, &[(200, Object)]),
    route("post", "/system/dead-letter/replay", "Does them again", DEAD, Nothing, &[(201, Object)]),
    route("delete", "/system/dead-letter/{id}", "Gives one up", &[], Nothing, &[(204, Nothing), (404, A("Error"))]),
    route("post", "/system/dead-letter/{id}/replay", "Does one again, as a new job", &[], Nothing, &[(201, A("Job")), (404, A("Error")), (409, A("Error"))]),
    route("get", "/files", "Buckets of the runner's own storage, and the caller's own folder in them", &[], Nothing, &[(200, Object)]),
    route("get", "/files/{bucket}", "Files in a bucket, in the order of their keys",
        &[("prefix", "string", "The folder; the caller's own, or all"), ("after", "string", "What an earlier answer said as next"), ("limit", "integer", "At most so many (200)")],
        Nothing, &[(200, Listed("files", "File")), (400, A("Error"))]),
    route("get", "/files/{bucket}/{key}", "A file; its key may have slashes", PREVIEW, Nothing, &[(200, Bytes), (400, A("Error")), (404, A("Error")), (409, A("Error"))]),
    route("put", "/files/{bucket}/{key}", "Puts a file there, whole or not at all; with If-None-Match: * only if the name is free", &[], Bytes, &[(201, Object), (400, A("Error")), (409, A("Error")), (413, A("Error")), (507, A("Error"))]),
    route("delete", "/files/{bucket}/{key}", "Deletes it; one that is not there is as good", &[], Nothing, &[(204, Nothing), (400, A("Error")), (409, A("Error"))]),
    route("get", "/usage", "GPU use and cost of functions, by the GPU server's accounts",
        &[("from", "integer", "Seconds since 1970 (a day ago)"), ("to", "integer", "Seconds since 1970 (now)"), ("step", "string", "5min, hour or day: also for each of these")],
        Nothing, &[(200, Object), (400, A("Error")), (502, A("Error")), (503, A("Error"))]),
];

pub(super) fn routes() -> Router<App> {
    Router::new().route("/openapi.json", get(|| async { Json(document()) }))
}

fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

fn content(is: Is) -> Option<Value> {
    let json = |schema: Value| json!({ "application/json": { "schema": schema } });
    Some(match is {
        A(name) => json(reference(name)),
        Listed(field, name) => json(json!({
            "type": "object",
            "required": [field],
            "properties": { field: { "type": "array", "items": reference(name) } },
        })),
        Object => json(json!({ "type": "object" })),
        Text => json!({ "text/*": { "schema": { "type": "string" } } }),
        Bytes => json!({ "*/*": {} }),
        Definition => json!({
            "application/yaml": { "schema": { "type": "string" } },
            "application/json": { "schema": { "type": "object" } },
        }),
        Nothing => return None,
    })
}

fn operation(route: &Route) -> Value {
    let mut parameters = Vec::new();
    for name in route.path.split('{').skip(1) {
        let name = name.split('}').next().unwrap_or_default();
        let kind = match name {
            "number" | "version" => "integer",
            _ => "string",
        };
        parameters.push(
            json!({ "name": name, "in": "path", "required": true, "schema": { "type": kind } }),
        );
    }
    for (name, kind, about) in route.query {
        parameters.push(json!({ "name": name, "in": "query", "description": about, "schema": { "type": kind } }));
    }
    let mut responses = Map::new();
    let always = [(401, A("Error")), (403, A("Error"))];
    let is_public = matches!(
        route.path,
        "/" | "/health" | "/openapi.json" | "/ui" | "/ui/{file}"
    );
    let always = &always[..if is_public { 0 } else { 2 }];
    for (status, is) in route.answers.iter().chain(always) {
        let about = axum::http::StatusCode::from_u16(*status).ok();
        let about = about.and_then(|status| status.canonical_reason());
        let mut answer = json!({ "description": about.unwrap_or_default() });
        if let Some(content) = content(*is) {
            answer["content"] = content;
        }
        responses.insert(status.to_string(), answer);
    }
    let tag = route.path.trim_start_matches('/').split('/').next();
    let mut operation = json!({
        "summary": route.about,
        "tags": [tag.filter(|tag| !tag.is_empty()).unwrap_or("ui")],
        "parameters": parameters,
        "responses": responses,
    });
    if let Some(content) = content(route.takes) {
        operation["requestBody"] = json!({ "content": content });
    }
    if is_public {
        operation["security"] = json!([]);
    }
    operation
}

/// Fields of an object: name and type; `?` behind the type: it may be null.
fn object(about: &str, fields: &[(&str, &str)]) -> Value {
    let properties = fields.iter().map(|(name, kind)| {
        let (kind, is_optional) = match kind.strip_suffix('?') {
            Some(kind) => (kind, true),
            None => (*kind, false),
        };
        let value = match (kind, is_optional) {
            ("any", _) => json!({}),
            (kind, true) => json!({ "type": [kind, "null"] }),
            (kind, false) => json!({ "type": kind }),
        };
        ((*name).to_owned(), value)
    });
    json!({ "type": "object", "description": about, "properties": properties.collect::<Map<_, _>>() })
}

fn schemas() -> Value {
    let states: Vec<&str> = crate::state::JobState::ALL
        .map(|state| state.as_str())
        .into();
    let mut job = object(
        "A job. Times are seconds since 1970",
        &[
            ("id", "string"),
            ("function", "string"),
            ("trigger", "string"),
            ("input", "string"),
            ("owner", "string"),
            ("priority", "integer"),
            ("parent", "string?"),
            ("group", "string?"),
            ("dead", "boolean"),
            ("replaced_by", "string?"),
            ("version", "integer?"),
            ("device", "string?"),
            ("attempt", "integer"),
            ("failures", "integer"),
            ("reason", "string?"),
            ("exit_code", "integer?"),
            ("signal", "integer?"),
            ("pid", "integer?"),
            ("t_submitted", "number"),
            ("t_queued", "number?"),
            ("t_start", "number?"),
            ("t_running", "number?"),
            ("t_end", "number?"),
            ("phases", "any"),
            ("stats", "any"),
            ("attempts", "array"),
            ("outputs", "array"),
            ("children", "array"),
            ("more_children", "any"),
        ],
    );
    job["properties"]["state"] = json!({ "type": "string", "enum": states });
    job["required"] = json!(["id", "function", "state", "t_submitted"]);
    let mut function = object(
        "A function as it was understood, with what the server adds",
        &[
            ("name", "string"),
            ("source", "any"),
            ("version", "integer?"),
            ("owner", "string"),
            ("warnings", "array"),
        ],
    );
    function["required"] = json!(["name"]);
    json!({
        "Error": object("What was wrong and what to do", &[("error", "string")]),
        "Me": object("Who one is", &[("user", "string?"), ("role", "string?"), ("credentials", "boolean"), ("csrf", "string"), ("seconds_left", "integer"), ("key", "boolean")]),
        "Function": function,
        "Functions": { "type": "array", "items": reference("Function") },
        "Version": object("A version of a function", &[("version", "integer"), ("owner", "string"), ("time", "number?"), ("current", "boolean"), ("definition", "any")]),
        "Check": {
            "type": "object",
            "required": ["functions", "problems", "warnings"],
            "properties": {
                "functions": { "type": "array", "items": { "type": "string" } },
                "problems": { "type": "array", "items": object("Line and column from 1; 0 where there is no place", &[("line", "integer"), ("column", "integer"), ("message", "string")]) },
                "warnings": { "type": "array", "items": object("What is taken and has no effect", &[("function", "string"), ("message", "string")]) },
            },
        },
        "Job": job,
        "Submitted": object("A job that is not over", &[("id", "string"), ("job", "string"), ("function", "string"), ("state", "string")]),
        "Events": object("What became of a message's events", &[("function", "string"), ("jobs", "array"), ("ignored", "array"), ("refused", "array"), ("error", "string")]),
        "Made": object("A file that a job has made", &[("number", "integer"), ("name", "string"), ("kind", "string"), ("size", "integer?")]),
        "File": object("A stored file", &[("key", "string"), ("size", "integer"), ("modified", "number")]),
    })
}

pub(super) fn document() -> Value {
    let mut paths = Map::new();
    for route in ROUTES {
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        path[route.method] = operation(route);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "rgpu-faas",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Functions that files, calls and events trigger, each with a share of a remote GPU. What a caller sees and may do depends \
                            on their role. Browsers' sessions need the header X-CSRF-Token for what changes something.",
        },
        "paths": paths,
        "security": [{ "token": [] }, { "password": [] }, { "session": [] }],
        "components": {
            "schemas": schemas(),
            "securitySchemes": {
                "token": { "type": "http", "scheme": "bearer" },
                "password": { "type": "http", "scheme": "basic" },
                "session": { "type": "apiKey", "in": "cookie", "name": "rgpu-faas" },
            },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// All sources in which routes are made.
    const SOURCES: [&str; 16] = [
        include_str!("check.rs"),
        include_str!("dead.rs"),
        include_str!("events.rs"),
        include_str!("files.rs"),
        include_str!("functions.rs"),
        include_str!("invoke.rs"),
        include_str!("jobs.rs"),
        include_str!("logs.rs"),
        include_str!("made.rs"),
        include_str!("metrics.rs"),
        include_str!("mod.rs"),
        include_str!("openapi.rs"),
        include_str!("oscar.rs"),
        include_str!("page.rs"),
        include_str!("usage.rs"),
        include_str!("../../access/src/routes.rs"),
    ];

    /// `.route("PATH", get(…).post(…))`, as the sources say it.
    fn served() -> BTreeSet<(String, String)> {
        let mut served = BTreeSet::new();
        for source in SOURCES {
            let source = source.split("#[cfg(test)]").next().unwrap();
            for rest in source.split(".route(").skip(1) {
                let (_, rest) = rest.split_once('"').unwrap();
                let (path, rest) = rest.split_once('"').unwrap();
                // To the parenthesis that closes it.
                let mut depth = 1;
                let end = rest.find(|c: char| {
                    depth += match c {
                        '(' => 1,
                        ')' => -1,
                        _ => 0,
                    };
                    depth == 0
                });
                let handlers = &rest[..end.unwrap()];
                for method in ["get", "post", "put", "delete", "patch", "any"] {
                    let word = format!("{method}(");
                    let found = handlers.match_indices(&word).any(|(at, _)| {
                        !handlers[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_')
                    });
                    if found {
                        served.insert((path.replace("{*", "{"), method.to_owned()));
                    }
                }
            }
        }
        served
    }

    #[test]
    fn every_route_is_described_and_every_description_is_a_route() {
        let described: BTreeSet<_> = ROUTES
            .iter()
            .map(|route| (route.path.to_owned(), route.method.to_owned()))
            .collect();
        let served = served();
        assert!(served.len() > 40, "{served:?}");
        let missing: Vec<_> = served.difference(&described).collect();
        let invented: Vec<_> = described.difference(&served).collect();
        assert!(missing.is_empty(), "not described: {missing:?}");
        assert!(invented.is_empty(), "not served: {invented:?}");
        assert_eq!(described.len(), ROUTES.len(), "one is described twice");
        // A new file with routes must be among those that are looked at.
        let merged = include_str!("mod.rs").matches("::routes())").count();
        assert_eq!(merged + 2, SOURCES.len(), "add the new file to SOURCES");
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let document = document();
        let text = document.to_string();
        for rest in text.split("#/components/schemas/").skip(1) {
            let name = rest.split('"').next().unwrap();
            assert!(
                document["components"]["schemas"][name].is_object(),
                "{name}"
            );
        }
    }

    #[test]
    fn nothing_that_is_described_is_closed() {
        use rgpu_faas_access::{Target, target};
        for route in ROUTES {
            let path = route.path.replace(['{', '}'], "");
            let method = route.method.to_uppercase().parse().unwrap();
            let target = target::of(&method, &path);
            assert_ne!(
                target,
                Target::CLOSED,
                "{} {path}: the policy does not know it",
                route.method
            );
        }
    }
}
