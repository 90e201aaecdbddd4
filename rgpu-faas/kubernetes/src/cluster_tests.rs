use super::*;
use crate::desk::tests::Heard;
use crate::spec::tests::{attempt, settings};
use http::{Request, Response, StatusCode};
use kube::client::Body;
use serde_json::{Value, json};
use tower_test::mock::{self, SendResponse};

type Handle = mock::Handle<Request<Body>, Response<Body>>;

/// One request, in words, with its body, and where its answer goes.
async fn next(handle: &mut Handle) -> (String, Value, SendResponse<Response<Body>>) {
    let (request, send) = handle.next_request().await.expect("no more requests");
    let what = format!("{} {}", request.method(), request.uri().path());
    let query = request.uri().query().unwrap_or_default().to_owned();
    let body = request.into_body().collect_bytes().await.unwrap();
    let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let what = match query.contains("watch=true") {
        true => format!("{what} watch"),
        false => what,
    };
    (what, body, send)
}

fn answer(send: SendResponse<Response<Body>>, status: u16, body: &Value) {
    let response = Response::builder()
        .status(StatusCode::from_u16(status).unwrap())
        .body(Body::from(serde_json::to_vec(body).unwrap()))
        .unwrap();
    send.send_response(response);
}

fn refusal(code: u16, reason: &str, message: &str) -> Value {
    json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": message })
}

fn list(items: &[Value]) -> Value {
    json!({ "kind": "JobList", "apiVersion": "batch/v1", "metadata": { "resourceVersion": "1" }, "items": items })
}

const JOBS: &str = "/apis/batch/v1/namespaces/functions/jobs";
const SECRETS: &str = "/api/v1/namespaces/functions/secrets";

/// What a double of the API does with one request; None: as below.
type Reply = dyn FnMut(&str, &Value) -> Option<(u16, Value)> + Send;

/// A cluster whose API is a double. What `reply` leaves is answered as a cluster does where nothing happens. Requests are told in order,
/// but for those of watches and their lists.
async fn cluster(
    mut reply: Box<Reply>,
) -> (
    Cluster,
    tokio::sync::mpsc::UnboundedReceiver<(String, Value)>,
) {
    let (service, mut handle) = mock::pair::<Request<Body>, Response<Body>>();
    let client = Client::new(service, "functions");
    let (tell, told) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        // Watches are left without an answer, as where nothing changes.
        let mut open = Vec::new();
        loop {
            let (what, body, send) = next(&mut handle).await;
            if what.ends_with(" watch") {
                open.push(send);
                continue;
            }
            if !what.starts_with("GET") || what.split('/').count() > 7 {
                let _ = tell.send((what.clone(), body.clone()));
            }
            let (status, body) = reply(&what, &body).unwrap_or_else(|| {
                let named = what.split('/').count() > 7;
                match what.split(' ').next() {
                    Some("POST") => {
                        let mut made = body.clone();
                        made["metadata"]["uid"] = "uid-1".into();
                        (201, made)
                    }
                    Some("GET") if !named => (200, list(&[])),
                    Some("DELETE") => (
                        200,
                        json!({ "kind": "Status", "apiVersion": "v1", "status": "Success" }),
                    ),
                    _ => (404, refusal(404, "NotFound", "not found")),
                }
            });
            answer(send, status, &body);
        }
    });
    let cluster = Cluster::with_client(settings(), client, "functions".into())
        .await
        .unwrap();
    (cluster, told)
}

#[tokio::test(start_paused = true)]
async fn an_attempt_makes_its_job_and_secret_and_takes_them_away_when_it_is_stopped() {
    let (cluster, mut told) = cluster(Box::new(|_, _| None)).await;
    let heard = Arc::<Heard>::default();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let asked = attempt();
    let run = cluster.run(&asked, heard.clone(), async {
        let _ = stopped.await;
    });
    let watched = async {
        let (what, job) = told.recv().await.unwrap();
        assert_eq!(what, format!("POST {JOBS}"));
        assert_eq!(job["spec"]["backoffLimit"], 0);
        let (what, secret) = told.recv().await.unwrap();
        assert_eq!(what, format!("POST {SECRETS}"));
        assert_eq!(secret["metadata"]["ownerReferences"][0]["uid"], "uid-1");
        let _ = stop.send(());
        let (what, options) = told.recv().await.unwrap();
        assert_eq!(what, format!("DELETE {JOBS}/{}", attempt().name()));
        assert_eq!(options["propagationPolicy"], "Foreground");
        let (what, _) = told.recv().await.unwrap();
        assert_eq!(
            what,
            format!("GET {JOBS}/{}", attempt().name()),
            "until it is gone"
        );
    };
    let (ended, ()) = tokio::join!(run, watched);
    assert_eq!(ended, Ended::Stopped);
}

#[tokio::test(start_paused = true)]
async fn an_api_that_is_away_is_waited_for_and_one_that_refuses_is_not() {
    let mut tries = 0;
    let (cluster, mut told) = cluster(Box::new(move |what, _| {
        if what != format!("POST {JOBS}") {
            return None;
        }
        tries += 1;
        match tries {
            1 => Some((503, refusal(503, "ServiceUnavailable", "starting"))),
            2 => Some((403, refusal(403, "Forbidden", "exceeded quota: jobs"))),
            3 => Some((429, refusal(429, "TooManyRequests", "slow down"))),
            _ => Some((422, refusal(422, "Invalid", "spec.template: no"))),
        }
    }))
    .await;
    let heard = Arc::<Heard>::default();
    let ended = cluster
        .run(&attempt(), heard.clone(), std::future::pending())
        .await;
    let Ended::Failed { reason, retry } = ended else {
        panic!("{ended:?}")
    };
    assert!(reason.contains("spec.template: no") && !retry, "{reason}");
    let words = heard.words.lock().unwrap().clone();
    for why in ["starting", "exceeded quota", "slow down"] {
        assert!(
            words.iter().any(|word| word.contains(why)),
            "{why}: {words:?}"
        );
    }
    let mut posts = 0;
    while let Ok((what, _)) = told.try_recv() {
        posts += usize::from(what.starts_with("POST"));
    }
    assert_eq!(posts, 4, "and no secret");
}

#[tokio::test(start_paused = true)]
async fn a_job_whose_making_was_not_answered_is_found_again_and_a_strange_one_removed() {
    let mut kept: Option<Value> = None;
    let mut strange = true;
    let (cluster, mut told) = cluster(Box::new(move |what, body| {
        let conflict = || Some((409, refusal(409, "AlreadyExists", "already exists")));
        if what == format!("POST {JOBS}") {
            if strange {
                return conflict();
            }
            if kept.is_some() {
                return conflict();
            }
            // Made, and the answer lost.
            let mut made = body.clone();
            made["metadata"]["uid"] = "uid-7".into();
            kept = Some(made);
            return Some((500, refusal(500, "InternalError", "lost")));
        }
        if what.starts_with(&format!("GET {JOBS}/")) {
            if strange {
                return Some((200, json!({ "apiVersion": "batch/v1", "kind": "Job", "metadata": { "name": "x", "uid": "uid-0" } })));
            }
            return kept.take().map(|made| (200, made));
        }
        if what.starts_with(&format!("DELETE {JOBS}/")) {
            strange = false;
        }
        None
    }))
    .await;
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let heard = Arc::<Heard>::default();
    let asked = attempt();
    let run = cluster.run(&asked, heard, async {
        let _ = stopped.await;
    });
    let watched = async {
        loop {
            let (what, body) = told.recv().await.unwrap();
            if what == format!("POST {SECRETS}") {
                assert_eq!(body["metadata"]["ownerReferences"][0]["uid"], "uid-7");
                break;
            }
        }
        let _ = stop.send(());
    };
    let (ended, ()) = tokio::join!(run, watched);
    assert_eq!(ended, Ended::Stopped);
}

#[tokio::test(start_paused = true)]
async fn what_an_earlier_run_has_left_goes_before_anything_runs() {
    let left = json!({ "metadata": { "name": "left-behind", "uid": "uid-0" } });
    let mut is_there = true;
    let (cluster, mut told) = cluster(Box::new(move |what, _| {
        if what == format!("GET {JOBS}") && is_there {
            return Some((200, list(std::slice::from_ref(&left))));
        }
        if what == format!("DELETE {JOBS}/left-behind") {
            is_there = false;
        }
        None
    }))
    .await;
    let mut refused = attempt();
    refused.image = "localhost/x:1".into();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let run = cluster.run(&refused, Arc::<Heard>::default(), async {
        let _ = stopped.await;
    });
    let watched = async {
        let (what, _) = told.recv().await.unwrap();
        assert_eq!(what, format!("DELETE {JOBS}/left-behind"));
        let (what, _) = told.recv().await.unwrap();
        assert_eq!(what, format!("GET {JOBS}/left-behind"), "until it is gone");
        let (what, _) = told.recv().await.unwrap();
        assert_eq!(what, format!("POST {JOBS}"));
        let _ = stop.send(());
    };
    let (ended, ()) = tokio::join!(run, watched);
    assert_eq!(ended, Ended::Stopped);
}

#[tokio::test]
async fn a_cluster_that_refuses_is_told_at_once() {
    let (service, mut handle) = mock::pair::<Request<Body>, Response<Body>>();
    let client = Client::new(service, "functions");
    let connecting = Cluster::with_client(settings(), client, "functions".into());
    let refusing = async {
        let (what, _, send) = next(&mut handle).await;
        assert_eq!(what, format!("GET {JOBS}"));
        answer(
            send,
            403,
            &refusal(403, "Forbidden", "jobs is forbidden: User cannot list"),
        );
    };
    let (connected, ()) = tokio::join!(connecting, refusing);
    let error = connected.err().unwrap().to_string();
    assert!(
        error.contains("namespace functions") && error.contains("cannot list"),
        "{error}"
    );
}
