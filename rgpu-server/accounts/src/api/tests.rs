use std::time::Duration;

use axum::body::{Body as HttpBody, to_bytes};
use axum::http::Request;
use serde_json::Value;
use tempfile::TempDir;
use tower_service::Service;

use super::*;
use crate::config::FileAccounts;
use crate::price::FilePrice;
use crate::record::{Device, Outcome, Sample, Who};
use crate::{Amounts, Config};

const PATIENCE: Duration = Duration::from_secs(30);

/// Accounts of two tenants, over their routes.
struct Fixture {
    accounts: Accounts,
    router: Router,
    _folder: TempDir,
}

fn config() -> Config {
    let price = FilePrice {
        device: None,
        from: None,
        gpu_second: 0.25,
        memory_mib_second: 0.0,
        gib_sent: 0.0,
    };
    let file = FileAccounts {
        currency: Some("EUR".into()),
        idle_seconds: Some(0),
        ..FileAccounts::default()
    };
    file.resolve(&[price]).unwrap()
}

fn who(tenant: &str, function: &str) -> Who {
    Who {
        tenant: tenant.into(),
        function: function.into(),
        job: format!("job-of-{tenant}"),
        host: "node-1".into(),
        program: "python3".into(),
        device: Device {
            uuid: "GPU-1".into(),
            model: "softgpu".into(),
        },
        ..Who::default()
    }
}

fn sample(gpu_us: u64, held_bytes: u64) -> Sample {
    Sample {
        amounts: Amounts {
            gpu_us,
            calls: 10,
            bytes_in: 1000,
            ..Amounts::default()
        },
        held_bytes,
        peak_bytes: held_bytes,
    }
}

impl Fixture {
    fn new() -> Fixture {
        let folder = tempfile::tempdir().unwrap();
        let accounts = Accounts::start(folder.path().join("accounts.db"), config()).unwrap();
        for (session, tenant, function) in [
            (1, "alice", "echo"),
            (2, "alice", "=cmd"),
            (3, "bob", "echo"),
        ] {
            accounts.begin(session, who(tenant, function));
            accounts.used(session, &sample(session * 4_000_000, 2 << 20));
        }
        accounts.end(2, Outcome::new(0, "bye"));
        assert!(accounts.flush(PATIENCE));
        Fixture {
            router: router(accounts.clone()),
            accounts,
            _folder: folder,
        }
    }

    async fn ask(&self, caller: Option<(&str, bool)>, path: &str) -> (u16, Option<String>, String) {
        let mut request = Request::get(path).body(HttpBody::empty()).unwrap();
        if let Some((tenant, is_admin)) = caller {
            request.extensions_mut().insert(Caller {
                tenant: tenant.into(),
                is_admin,
            });
        }
        let answer = self.router.clone().call(request).await.unwrap();
        let status = answer.status().as_u16();
        let link = answer
            .headers()
            .get("link")
            .map(|it| it.to_str().unwrap().to_owned());
        let body = to_bytes(answer.into_body(), 1 << 20).await.unwrap();
        (status, link, String::from_utf8(body.to_vec()).unwrap())
    }

    async fn rows(&self, caller: (&str, bool), path: &str) -> Vec<Value> {
        let (status, _, body) = self.ask(Some(caller), path).await;
        assert_eq!(status, 200, "{path}: {body}");
        let body: Value = serde_json::from_str(&body).unwrap();
        body["rows"].as_array().unwrap().clone()
    }
}

const ADMIN: (&str, bool) = ("root", true);
const ALICE: (&str, bool) = ("alice", false);

fn texts<'a>(rows: &'a [Value], name: &str) -> Vec<&'a str> {
    rows.iter().map(|row| row[name].as_str().unwrap()).collect()
}

#[tokio::test]
async fn use_is_added_up_as_asked() {
    let fixture = Fixture::new();
    let rows = fixture.rows(ADMIN, "/v1/usage?group_by=tenant").await;
    assert_eq!(texts(&rows, "tenant"), ["alice", "bob"]);
    assert_eq!(rows[0]["gpu_seconds"], 12.0);
    assert_eq!(rows[0]["cost"], 3.0);
    assert_eq!(rows[0]["currency"], "EUR");
    assert_eq!(rows[0]["sessions"], 2);
    assert_eq!(rows[0]["peak_mib"], 2.0);
    let rows = fixture.rows(ADMIN, "/v1/usage").await;
    assert_eq!(
        (rows.len(), &rows[0]["gpu_seconds"]),
        (1, &Value::from(24.0))
    );
    let rows = fixture
        .rows(ADMIN, "/v1/usage?group_by=job&tenant=bob")
        .await;
    assert_eq!(texts(&rows, "job"), ["job-of-bob"]);
    assert_eq!(rows[0]["cost"], 3.0);
    let by = "/v1/usage?group_by=5min,function&device=softgpu&function=echo";
    let rows = fixture.rows(ADMIN, by).await;
    assert_eq!(rows[0]["gpu_seconds"], 16.0);
    let rows = fixture.rows(ADMIN, "/v1/usage?group_by=session").await;
    assert_eq!(rows.len(), 3);
    // Long ago there was nothing.
    let rows = fixture
        .rows(ADMIN, "/v1/usage?from=2001-01-01&to=2001-01-02")
        .await;
    assert!(rows.is_empty());
}

#[tokio::test]
async fn a_tenant_sees_its_own() {
    let fixture = Fixture::new();
    let paths = ["", "/sessions", "/idle?seconds=0", "/alerts"];
    for path in paths {
        let path = format!("/v1/usage{path}");
        let (status, ..) = fixture.ask(None, &path).await;
        assert_eq!(status, 401, "{path}");
        let asks = if path.contains('?') { '&' } else { '?' };
        let other = format!("{path}{asks}tenant=bob");
        let (status, _, body) = fixture.ask(Some(ALICE), &other).await;
        assert_eq!(status, 403, "{body}");
        let (_, _, body) = fixture.ask(Some(ALICE), &path).await;
        assert!(!body.contains("bob"), "{path}: {body}");
        let (status, _, own) = fixture
            .ask(Some(ALICE), &format!("{path}{asks}tenant=alice"))
            .await;
        assert_eq!(status, 200, "{own}");
    }
    let rows = fixture.rows(ALICE, "/v1/usage?group_by=tenant").await;
    assert_eq!(texts(&rows, "tenant"), ["alice"]);
}

#[tokio::test]
async fn sessions_and_the_idle_are_listed() {
    let fixture = Fixture::new();
    let rows = fixture.rows(ADMIN, "/v1/usage/sessions").await;
    assert_eq!(rows.len(), 3);
    let ended = fixture.rows(ADMIN, "/v1/usage/sessions?state=ended").await;
    assert_eq!(ended.len(), 1);
    assert_eq!(ended[0]["session"], 2);
    assert_eq!(ended[0]["reason"], "bye");
    assert_eq!(ended[0]["result"], 0);
    assert_eq!(ended[0]["host"], "node-1");
    let running = fixture
        .rows(ADMIN, "/v1/usage/sessions?state=running&function=echo")
        .await;
    assert_eq!(running.len(), 2);
    assert!(running[0].get("end").is_none());
    let idle = fixture.rows(ADMIN, "/v1/usage/idle").await;
    assert_eq!(idle.len(), 2);
    assert_eq!(idle[0]["held_mib"], 2.0);
    let none = fixture
        .ask(Some(ADMIN), "/v1/usage/idle?seconds=9999")
        .await;
    let none = none.2;
    assert!(
        none.contains("\"rows\":[]") && none.contains("\"held_mib\":0.0"),
        "{none}"
    );
}

#[tokio::test]
async fn answers_come_in_parts() {
    let fixture = Fixture::new();
    let (_, _, body) = fixture
        .ask(Some(ADMIN), "/v1/usage?group_by=session&limit=2")
        .await;
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(
        (&body["next"], body["rows"].as_array().unwrap().len()),
        (&Value::from(2), 2)
    );
    let path = "/v1/usage?group_by=function,tenant&format=csv&limit=2";
    let (_, link, body) = fixture.ask(Some(ADMIN), path).await;
    assert_eq!(
        link.as_deref(),
        Some("<?group_by=function,tenant&format=csv&limit=2&offset=2>; rel=\"next\"")
    );
    let lines: Vec<&str> = body.lines().collect();
    assert!(
        lines[0].starts_with("function,tenant,sessions,seconds,gpu_seconds,"),
        "{body}"
    );
    assert!(lines[1].starts_with("\"'=cmd\",alice,1,"), "{body}");
    let (_, link, body) = fixture.ask(Some(ADMIN), &format!("{path}&offset=2")).await;
    assert_eq!((link, body.lines().count()), (None, 2));
    let (_, link, body) = fixture
        .ask(Some(ADMIN), "/v1/usage/sessions?limit=2&format=csv")
        .await;
    assert_eq!(
        link.as_deref(),
        Some("<?limit=2&format=csv&before=2>; rel=\"next\"")
    );
    assert_eq!(body.lines().count(), 3);
    let rows = fixture
        .rows(ADMIN, "/v1/usage/sessions?limit=2&before=2")
        .await;
    assert_eq!(rows.len(), 1);
}

#[tokio::test]
async fn what_is_wrong_is_said() {
    let fixture = Fixture::new();
    let long = format!("function={}", "x".repeat(200));
    for (path, says) in [
        (
            "?group_by=colour",
            "group_by=colour: one of tenant, function",
        ),
        ("?group_by=tenant,tenant", "named twice"),
        ("?group_by=hour,day", "only one of 5min, hour and day"),
        ("?from=yesterday", "from: \"yesterday\" is no time"),
        ("?from=2026-01-02&to=2026-01-01", "is not before to"),
        (
            "?from=1900-01-01&to=2026-01-01",
            "more than 3660 days apart",
        ),
        ("?limit=0", "limit=0: a number from 1 to 10000"),
        ("?limit=99999", "limit=99999"),
        ("?offset=-1", "offset=-1"),
        ("?format=xml", "format=xml: json or csv"),
        ("?tenat=x", "unknown field `tenat`"),
        ("?tenant=a&tenant=b", "duplicate field"),
        (&format!("?{long}"), "up to 128 bytes"),
        ("/sessions?state=odd", "state=odd: running or ended"),
        ("/sessions?before=x", "before=x"),
        ("/idle?seconds=-1", "seconds=-1"),
        ("/alerts?limit=x", "limit=x"),
    ] {
        let (status, _, body) = fixture.ask(Some(ADMIN), &format!("/v1/usage{path}")).await;
        let error: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(
            (status, &error["code"]),
            (400, &Value::from("invalid")),
            "{path}: {body}"
        );
        assert!(
            error["error"].as_str().unwrap().contains(says),
            "{path}: {body}"
        );
    }
    let hostile = "/v1/usage?function=%27%20OR%201=1--&group_by=tenant";
    assert!(fixture.rows(ADMIN, hostile).await.is_empty());
}

#[tokio::test]
async fn without_a_database_it_is_said_and_who_is_idle_is_known() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("not-there/accounts.db");
    let accounts = Accounts::start(path.clone(), config()).unwrap();
    accounts.begin(1, who("alice", "echo"));
    accounts.used(1, &sample(1, 1 << 20));
    assert!(!accounts.flush(PATIENCE));
    let fixture = Fixture {
        router: router(accounts.clone()),
        accounts,
        _folder: folder,
    };
    let (status, _, body) = fixture.ask(Some(ADMIN), "/v1/usage").await;
    assert_eq!(status, 503, "{body}");
    assert_eq!(fixture.rows(ADMIN, "/v1/usage/idle").await.len(), 1);
    assert!(fixture.accounts.health().failing.is_some());
    // It recovers by itself, and nothing is lost.
    std::fs::create_dir(path.parent().unwrap()).unwrap();
    assert!(fixture.accounts.flush(PATIENCE));
    let rows = fixture.rows(ADMIN, "/v1/usage").await;
    assert_eq!(rows[0]["calls"], 10);
}

/// Every route is described, and every parameter that it takes.
#[test]
fn the_document_is_of_these_routes() {
    let document: Value = serde_json::from_str(&openapi().to_json().unwrap()).unwrap();
    let parameters = |path: &str| -> Vec<String> {
        let listed = document["paths"][path]["get"]["parameters"]
            .as_array()
            .unwrap();
        listed
            .iter()
            .map(|it| it["name"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(
        parameters("/v1/usage"),
        [
            "tenant", "function", "job", "device", "from", "to", "group_by", "format", "limit",
            "offset"
        ]
    );
    assert_eq!(
        parameters("/v1/usage/idle"),
        ["tenant", "seconds", "format"]
    );
    assert_eq!(
        parameters("/v1/usage/alerts"),
        ["tenant", "format", "limit", "before"]
    );
    assert!(parameters("/v1/usage/sessions").contains(&"before".to_owned()));
    let row = &document["components"]["schemas"]["UsageRow"]["properties"];
    for name in usage_columns(&[
        By::Tenant,
        By::Device,
        By::Session,
        By::Day,
        By::Job,
        By::Function,
        By::Profile,
    ]) {
        assert!(row[name].is_object(), "{name}");
    }
    assert_eq!(document["paths"].as_object().unwrap().len(), 4);
}
