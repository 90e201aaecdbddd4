use crate::double::{Asked, Double, Reply};
use crate::{key, problem, store};
use rgpu_faas_storage::{Mode, Problem, Store, StoreError};
use std::io::Write;

async fn publish(store: &Store, size: usize, mode: Mode) -> Result<(), StoreError> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&vec![b'x'; size]).unwrap();
    store.publish(file, &key("out/a"), mode).await
}

const TAG: (&str, &str) = ("etag", "\"e\"");
const BEGUN: &str =
    "<InitiateMultipartUploadResult><UploadId>u1</UploadId></InitiateMultipartUploadResult>";
const DONE: &str =
    "<CompleteMultipartUploadResult><ETag>\"e-3\"</ETag></CompleteMultipartUploadResult>";

/// What of an upload in parts a request is.
fn step(asked: &Asked) -> &'static str {
    match (asked.method.as_str(), asked.target.as_str()) {
        ("POST", target) if target.contains("uploads") => "begin",
        ("PUT", target) if target.contains("partNumber=") => "part",
        ("POST", target) if target.contains("uploadId=u1") => "complete",
        ("DELETE", target) if target.contains("uploadId=u1") => "abort",
        ("HEAD", _) => "head",
        _ => "other",
    }
}

fn count(double: &Double, what: &str) -> usize {
    double
        .asked()
        .iter()
        .filter(|asked| step(asked) == what)
        .count()
}

#[tokio::test]
async fn parts_go_at_once_and_become_one_object() {
    let double = Double::start(|asked, _| match step(asked) {
        "begin" => Reply::new(200, &[], BEGUN),
        "complete" => Reply::new(200, &[], DONE),
        _ => Reply::new(200, &[TAG], ""),
    })
    .await;
    publish(&store("minio", &double), (2 << 20) + 5, Mode::IfAbsent)
        .await
        .unwrap();
    let asked = double.asked();
    let mut sizes: Vec<(String, usize)> = asked
        .iter()
        .filter(|asked| step(asked) == "part")
        .map(|asked| (asked.target.clone(), asked.body.len()))
        .collect();
    sizes.sort();
    assert_eq!(
        sizes.iter().map(|(_, size)| *size).collect::<Vec<_>>(),
        [1 << 20, 1 << 20, 5]
    );
    let complete = asked
        .iter()
        .find(|asked| step(asked) == "complete")
        .unwrap();
    assert_eq!(complete.header("if-none-match"), "*");
    let body = String::from_utf8_lossy(&complete.body).into_owned();
    assert_eq!(body.matches("<PartNumber>").count(), 3);
    assert_eq!(count(&double, "abort"), 0);
}

#[tokio::test]
async fn an_upload_whose_part_fails_is_taken_back() {
    let double = Double::start(|asked, _| match step(asked) {
        "begin" => Reply::new(200, &[], BEGUN),
        "part" if asked.target.contains("partNumber=2") => Reply::new(403, &[], ""),
        _ => Reply::new(200, &[TAG], ""),
    })
    .await;
    let error = problem(publish(&store("minio", &double), 3 << 20, Mode::Replace).await);
    assert!(matches!(error, Problem::Denied { .. }), "{error}");
    assert_eq!(
        (count(&double, "abort"), count(&double, "complete")),
        (1, 0)
    );
}

#[tokio::test]
async fn an_upload_that_nobody_waits_for_is_taken_back() {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let sender = std::sync::Mutex::new(Some(sender));
    let (aborted, abort) = tokio::sync::oneshot::channel();
    let aborted = std::sync::Mutex::new(Some(aborted));
    let double = Double::start(move |asked, _| match step(asked) {
        "begin" => Reply::new(200, &[], BEGUN),
        "abort" => {
            let _ = aborted.lock().unwrap().take().unwrap().send(());
            Reply::new(204, &[], "")
        }
        _ => {
            if let Some(sender) = sender.lock().unwrap().take() {
                let _ = sender.send(());
            }
            Reply::nothing()
        }
    })
    .await;
    let store = store("minio", &double);
    let publishing = tokio::spawn(async move { publish(&store, 3 << 20, Mode::Replace).await });
    receiver.await.unwrap();
    publishing.abort();
    abort.await.unwrap();
    assert_eq!(count(&double, "complete"), 0);
}

#[tokio::test]
async fn an_answer_that_is_lost_does_not_make_an_object_somebody_elses() {
    for ours in [true, false] {
        for size in [10, 3 << 20] {
            let mark = std::sync::Mutex::new(String::new());
            let taken = std::sync::atomic::AtomicBool::new(false);
            let double = Double::start(move |asked, _| {
                if let Some(said) = asked.headers.get("x-amz-meta-rgpu-publication") {
                    *mark.lock().unwrap() = said.clone();
                }
                match step(asked) {
                    "begin" => Reply::new(200, &[], BEGUN),
                    "part" => Reply::new(200, &[TAG], ""),
                    "head" => {
                        let mark = match ours {
                            true => mark.lock().unwrap().clone(),
                            false => "another".into(),
                        };
                        Reply::raw(
                            200,
                            &[
                                TAG,
                                ("content-length", "10"),
                                ("last-modified", "Mon, 05 Jan 2026 10:00:00 GMT"),
                                ("x-amz-meta-rgpu-publication", &mark),
                            ],
                            "",
                        )
                    }
                    "abort" => Reply::new(204, &[], ""),
                    // The object is made, and the answer never comes.
                    _ if !taken.swap(true, std::sync::atomic::Ordering::Relaxed) => {
                        Reply::hang_up()
                    }
                    _ => Reply::new(412, &[], "<Error><Code>PreconditionFailed</Code></Error>"),
                }
            })
            .await;
            let published = publish(&store("minio", &double), size, Mode::IfAbsent).await;
            match ours {
                true => published.unwrap(),
                false => assert!(matches!(problem(published), Problem::AlreadyExists)),
            }
            assert_eq!(count(&double, "head"), 1);
        }
    }
}

#[tokio::test]
async fn an_error_in_a_good_answer_is_seen() {
    let double = Double::start(|asked, _| match step(asked) {
        "begin" => Reply::new(200, &[], BEGUN),
        "complete" => Reply::new(
            200,
            &[],
            "<Error><Code>InternalError</Code><Message>We encountered one.</Message></Error>",
        ),
        _ => Reply::new(200, &[TAG], ""),
    })
    .await;
    let error = problem(publish(&store("minio", &double), 2 << 20, Mode::Replace).await);
    assert!(matches!(&error, Problem::Unavailable(_)), "{error}");
    assert_eq!(
        (count(&double, "complete"), count(&double, "abort")),
        (3, 1)
    );
}

#[tokio::test]
async fn a_store_that_does_not_take_bytes_is_given_up() {
    // Connections come about, and nobody reads.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let store = crate::store_at("minio", listener.local_addr().unwrap());
    let error = problem(publish(&store, 1 << 20, Mode::Replace).await);
    assert!(matches!(error, Problem::Unavailable(_)), "{error}");
}

#[tokio::test]
async fn what_is_no_file_or_too_large_for_parts_is_not_begun() {
    let double = Double::start(|_, _| Reply::new(500, &[], "")).await;
    let store = store("minio", &double);
    let pipe = std::fs::File::open("/dev/null").unwrap();
    let error = problem(store.publish(pipe, &key("out/a"), Mode::Replace).await);
    assert!(matches!(error, Problem::Source(_)), "{error}");
    let huge = tempfile::tempfile().unwrap();
    huge.set_len((1 << 20) * 10_001).unwrap();
    let error = problem(store.publish(huge, &key("out/a"), Mode::Replace).await);
    assert!(matches!(error, Problem::TooLarge { .. }), "{error}");
    assert_eq!(double.asked().len(), 0);
}
