//! Metrics as Prometheus reads them: what was counted since the start, and what is so now.

use super::{Answer, ApiError, App};
use crate::figures::Labels;
use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::encoding::{prometheus_text, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use rgpu_faas_access::Figures;

const OPEN: &str = "application/openmetrics-text";

pub(super) fn routes() -> Router<App> {
    Router::new().route("/metrics", get(scrape))
}

/// Counts each request by its route, also those that are refused before their handler runs.
pub(super) async fn count(State(app): State<App>, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().cloned();
    let method = known(request.method());
    let response = next.run(request).await;
    let route = route.as_ref().map_or("(none)", MatchedPath::as_str);
    let figures = &app.service.journal.figures;
    figures.request(method, route, response.status().as_u16());
    response
}

/// A client may make methods up, without end.
fn known(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

async fn scrape(State(app): State<App>, headers: HeaderMap) -> Answer<Response> {
    let accept = headers.get(header::ACCEPT).and_then(|it| it.to_str().ok());
    let wanted = accept.unwrap_or_default().split(',');
    let mut wanted = wanted.filter_map(|range| range.split(';').next().map(str::trim));
    let open = wanted.find(|range| [OPEN, "text/plain"].contains(range)) == Some(OPEN);
    // The journal is asked.
    let done = tokio::task::spawn_blocking(move || page(&app, open)).await;
    let broken = |error: String| ApiError(StatusCode::INTERNAL_SERVER_ERROR, error);
    let text = done.map_err(|error| broken(error.to_string()))??;
    let kind = match open {
        true => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        false => prometheus_text::CONTENT_TYPE,
    };
    Ok(([(header::CONTENT_TYPE, kind)], text).into_response())
}

fn page(app: &App, open: bool) -> Answer<String> {
    let mut registry = Registry::with_prefix("rgpu_faas");
    app.service.journal.figures.register(&mut registry);
    jobs(app, &mut registry)?;
    access(&app.access.figures(), &mut registry);
    own(app, &mut registry);
    let mut out = String::new();
    match open {
        true => text::encode(&mut out, &registry),
        false => prometheus_text::encode(&mut out, &registry),
    }
    .map_err(|error| ApiError(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
    Ok(out)
}

fn gauge(registry: &mut Registry, name: &str, help: &str, value: i64) {
    let gauge: Gauge = Gauge::default();
    gauge.set(value);
    registry.register(name, help, gauge);
}

fn counter(registry: &mut Registry, name: &str, help: &str, value: u64) {
    let counter: Counter = Counter::default();
    counter.inc_by(value);
    registry.register(name, help, counter);
}

/// Jobs that are not over, and dead letters.
fn jobs(app: &App, registry: &mut Registry) -> Answer<()> {
    let journal = &app.service.journal;
    let (jobs, dead) = (
        Family::<Labels, Gauge>::default(),
        Family::<Labels, Gauge>::default(),
    );
    let mut waiting = 0;
    for (function, state, count) in journal.unfinished()? {
        if matches!(&*state, "SUBMITTED" | "QUEUED") {
            waiting += count;
        }
        let labels = vec![
            ("function", journal.figures.label(&function)),
            ("state", state),
        ];
        jobs.get_or_create(&labels).inc_by(count);
    }
    for (function, count) in journal.dead_letters()? {
        let labels = vec![("function", journal.figures.label(&function))];
        dead.get_or_create(&labels).inc_by(count);
    }
    registry.register("jobs", "Jobs that are not over, by state", jobs);
    registry.register(
        "dead_letters",
        "Jobs that failed for good and wait for somebody",
        dead,
    );
    gauge(
        registry,
        "queue_length",
        "Jobs that wait for their turn",
        waiting,
    );
    Ok(())
}

fn access(figures: &Figures, registry: &mut Registry) {
    let decisions = Family::<Labels, Counter>::default();
    for (outcome, count) in [
        ("allowed", figures.allowed),
        ("unauthorized", figures.unauthorized),
        ("forbidden", figures.forbidden),
        ("slowed", figures.slowed),
        ("other", figures.refused_otherwise),
    ] {
        let labels = vec![("outcome", outcome.to_owned())];
        decisions.get_or_create(&labels).inc_by(count);
    }
    registry.register("access", "Requests that were let in or refused", decisions);
    counter(
        registry,
        "logins",
        "Sessions of browsers that have begun",
        figures.logins,
    );
    let sessions = i64::try_from(figures.sessions).unwrap_or(i64::MAX);
    gauge(
        registry,
        "browser_sessions",
        "Sessions of browsers",
        sessions,
    );
    let fetches = "Keys of OpenID Connect issuers that were asked for";
    counter(registry, "key_fetches", fetches, figures.key_fetches);
    let failures = "Keys of OpenID Connect issuers that could not be had";
    counter(registry, "key_failures", failures, figures.key_failures);
}

fn own(app: &App, registry: &mut Registry) {
    let config = &app.service.config;
    let whole = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let functions = app.service.registry.all().len() as u64;
    gauge(
        registry,
        "functions",
        "Functions that are registered",
        whole(functions),
    );
    gauge(
        registry,
        "jobs_limit",
        "Jobs at once, of all functions together",
        whole(config.max_jobs as u64),
    );
    let size = |path: std::path::PathBuf| std::fs::metadata(path).map_or(0, |it| it.len());
    let journal = config.journal();
    let log = journal.with_extension("db-wal");
    let bytes: Gauge = Gauge::default();
    bytes.set(whole(size(journal) + size(log)));
    registry.register_with_unit("journal", "The journal's files", Unit::Bytes, bytes);
    let bytes: Gauge = Gauge::default();
    bytes.set(whole(app.service.payloads.size()));
    registry.register_with_unit(
        "payloads",
        "Bodies that are kept for jobs",
        Unit::Bytes,
        bytes,
    );
    let uptime: Gauge<f64, std::sync::atomic::AtomicU64> = Gauge::default();
    uptime.set(app.begun.elapsed().as_secs_f64());
    registry.register_with_unit("uptime", "Since the start", Unit::Seconds, uptime);
    let build = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
    registry.register("build", "The program", build);
}
