//! A double of a GPU server's administration: readiness and leases, over HTTP.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::extract::{Path, Query, Request, State};
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

pub const TOKEN: &str = "the-plugins-own-token";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Granted {
    pub id: String,
    pub holder: String,
    pub token: String,
    pub renewals: u32,
}

#[derive(Debug)]
pub struct Book {
    pub capacity: usize,
    pub is_ready: bool,
    pub leases: Vec<Granted>,
    /// Most that there ever were at once, and how many have been granted.
    pub most: usize,
    pub granted: u32,
    /// Answers a claim with this instead.
    pub nonsense: Option<(u16, String)>,
}

pub type Shared = Arc<Mutex<Book>>;

pub struct GpuServer {
    pub book: Shared,
    pub address: SocketAddr,
    task: JoinHandle<()>,
}

impl GpuServer {
    pub async fn start(capacity: usize) -> GpuServer {
        let book = Arc::new(Mutex::new(Book {
            capacity,
            is_ready: true,
            leases: Vec::new(),
            most: 0,
            granted: 0,
            nonsense: None,
        }));
        let router = Router::new()
            .route("/readyz", get(ready))
            .route("/v1/leases", post(claim).get(list))
            .route("/v1/leases/{id}", put(renew).delete(release))
            .layer(axum::middleware::from_fn(guard))
            .with_state(book.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(async move {
            axum::serve(listener, router).await.unwrap();
        });
        GpuServer {
            book,
            address,
            task,
        }
    }

    pub fn leases(&self) -> Vec<Granted> {
        self.book.lock().unwrap().leases.clone()
    }
}

impl Drop for GpuServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn guard(request: Request, next: axum::middleware::Next) -> Response {
    let given = request.headers().get(header::AUTHORIZATION);
    let is_ours = given.is_some_and(|given| given == &format!("Bearer {TOKEN}"));
    let has_type = request.method() != Method::POST
        || request
            .headers()
            .get(header::CONTENT_TYPE)
            .is_some_and(|it| it == "application/json");
    match is_ours && has_type {
        true => next.run(request).await,
        false => refuse(StatusCode::UNAUTHORIZED, "unauthenticated", "no such token"),
    }
}

fn refuse(status: StatusCode, code: &str, error: &str) -> Response {
    (status, Json(json!({ "error": error, "code": code }))).into_response()
}

async fn ready(State(book): State<Shared>) -> StatusCode {
    match book.lock().unwrap().is_ready {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    }
}

async fn claim(State(book): State<Shared>, Json(wish): Json<Value>) -> Response {
    let mut book = book.lock().unwrap();
    if let Some((status, text)) = &book.nonsense {
        return (StatusCode::from_u16(*status).unwrap(), text.clone()).into_response();
    }
    if wish["profile"] != "small" || wish["ttl_seconds"].as_u64().is_none() {
        return refuse(
            StatusCode::NOT_FOUND,
            "not_found",
            "there is no such profile",
        );
    }
    if book.leases.len() >= book.capacity {
        return refuse(StatusCode::CONFLICT, "no_capacity", "all is taken");
    }
    book.granted += 1;
    let granted = Granted {
        id: format!("l{}", book.granted),
        holder: wish["holder"].as_str().unwrap().to_owned(),
        token: format!("token-of-lease-{:04}", book.granted),
        renewals: 0,
    };
    let answer = json!({ "id": granted.id, "token": granted.token, "server": "tcp://127.0.0.1:1", "expires": 1 });
    book.leases.push(granted);
    book.most = book.most.max(book.leases.len());
    (StatusCode::CREATED, Json(answer)).into_response()
}

async fn list(
    State(book): State<Shared>,
    Query(query): Query<HashMap<String, String>>,
) -> Json<Value> {
    let book = book.lock().unwrap();
    let leases = book
        .leases
        .iter()
        .filter(|it| Some(&it.holder) == query.get("holder"));
    let leases = leases.map(|it| json!({ "id": it.id, "holder": it.holder, "profile": "small" }));
    let leases: Vec<Value> = leases.collect();
    Json(json!({ "leases": leases }))
}

async fn renew(State(book): State<Shared>, Path(id): Path<String>) -> Response {
    let mut book = book.lock().unwrap();
    match book.leases.iter_mut().find(|lease| lease.id == id) {
        Some(lease) => {
            lease.renewals += 1;
            Json(json!({ "id": id })).into_response()
        }
        None => refuse(StatusCode::NOT_FOUND, "not_found", "no such lease"),
    }
}

async fn release(State(book): State<Shared>, Path(id): Path<String>) -> StatusCode {
    let mut book = book.lock().unwrap();
    let before = book.leases.len();
    book.leases.retain(|lease| lease.id != id);
    match book.leases.len() < before {
        true => StatusCode::NO_CONTENT,
        false => StatusCode::NOT_FOUND,
    }
}
