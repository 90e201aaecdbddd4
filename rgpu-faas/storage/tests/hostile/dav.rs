use crate::double::{Double, Reply};
use crate::{SECRET, key, problem, store};
use rgpu_faas_storage::{Folder, Mode, Problem};
use std::io::Write;

/// The properties of a file.
pub fn file(href: &str, size: u64) -> String {
    format!(
        "<D:multistatus xmlns:D=\"DAV:\"><D:response><D:href>{href}</D:href><D:propstat><D:prop><D:resourcetype/><D:getcontentlength>{size}</D:getcontentlength></D:prop><D:status>HTTP/1.1 200 OK</D:status></D:propstat></D:response></D:multistatus>"
    )
}

fn ten() -> std::fs::File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(b"0123456789").unwrap();
    file
}

#[tokio::test]
async fn half_an_upload_is_not_published() {
    // The server took what it got for the whole.
    let double = Double::start(|asked, _| match asked.method.as_str() {
        "PROPFIND" => Reply::new(207, &[], file(&asked.target, 4)),
        _ => Reply::new(201, &[], ""),
    })
    .await;
    let error = problem(
        store("webdav", &double)
            .publish(ten(), &key("out/a"), Mode::Replace)
            .await,
    );
    assert!(
        error
            .to_string()
            .contains("of 10 bytes that were sent it has 4"),
        "{error}"
    );
    assert_eq!(double.count("MOVE"), 0);
    let asked = double.asked();
    let put = asked.iter().find(|asked| asked.method == "PUT").unwrap();
    assert!(
        put.target.starts_with("/dav/clips/out/.rgpu-") && put.target.ends_with(".part"),
        "{put:?}"
    );
    assert_eq!(put.body, b"0123456789");
}

#[tokio::test]
async fn it_is_uploaded_beside_and_renamed() {
    let double = Double::start(|asked, before| match asked.method.as_str() {
        "PUT" if before == 0 => Reply::new(409, &[], ""),
        "PROPFIND" => Reply::new(207, &[], file(&asked.target, 10)),
        "MKCOL" if !asked.target.ends_with("/deep/") => Reply::new(405, &[], ""),
        // Renamed, but the answer is lost; the second time nothing is there to be renamed.
        "MOVE" if before == 6 => Reply::hang_up(),
        "MOVE" => Reply::new(404, &[], ""),
        _ => Reply::new(201, &[], ""),
    })
    .await;
    let key = key("out/deep/ü %.txt");
    store("webdav", &double)
        .publish(ten(), &key, Mode::IfAbsent)
        .await
        .unwrap();
    let asked = double.asked();
    let methods: Vec<&str> = asked.iter().map(|asked| asked.method.as_str()).collect();
    assert_eq!(
        methods,
        [
            "PUT", "MKCOL", "MKCOL", "MKCOL", "PUT", "PROPFIND", "MOVE", "MOVE", "PROPFIND"
        ]
    );
    let rename = &asked[6];
    assert_eq!(
        rename.header("destination"),
        format!(
            "http://{}/dav/clips/out/deep/%C3%BC%20%25.txt",
            double.address
        )
    );
    assert_eq!(rename.header("overwrite"), "F");
    assert!(rename.header("authorization").starts_with("Basic "));
}

#[tokio::test]
async fn a_name_that_is_taken_is_told_and_nothing_stays() {
    let double = Double::start(|asked, _| match asked.method.as_str() {
        "PROPFIND" => Reply::new(207, &[], file(&asked.target, 10)),
        "MOVE" => Reply::new(412, &[], ""),
        _ => Reply::new(201, &[], ""),
    })
    .await;
    let store = store("webdav", &double);
    let error = problem(store.publish(ten(), &key("out/a"), Mode::IfAbsent).await);
    assert!(matches!(error, Problem::AlreadyExists), "{error}");
    assert_eq!(double.count("DELETE"), 1);
}

#[tokio::test]
async fn a_server_that_shouts_the_password_is_not_repeated() {
    for status in [200, 207, 302, 400, 401, 404, 500, 503] {
        let body = format!("<Error><Code>{SECRET}</Code><Message>{SECRET}</Message></Error>");
        let double = Double::start(move |_, _| {
            Reply::new(
                status,
                &[
                    ("location", &format!("http://{SECRET}/")),
                    ("etag", SECRET),
                    ("content-range", SECRET),
                ],
                &body,
            )
        })
        .await;
        let store = store("webdav", &double);
        // `problem` looks that it is not shown.
        problem(store.stat(&key("in/a")).await);
        match store.list(&Folder::default(), None).await {
            // A collection that is not there is empty.
            Ok(page) => assert!(status == 404 && page.entries.is_empty()),
            listed => drop(problem(listed)),
        }
        problem(store.publish(ten(), &key("out/a"), Mode::Replace).await);
    }
}

#[tokio::test]
async fn listings_that_are_no_listings_are_errors() {
    for body in [
        "",
        "<html/>",
        "<multistatus><response><href>/elsewhere</href></response></multistatus>",
    ] {
        let double = Double::start(move |_, _| Reply::new(207, &[], body)).await;
        let error = problem(
            store("webdav", &double)
                .list(&Folder::default(), None)
                .await,
        );
        assert!(matches!(error, Problem::Nonsense(_)), "{body}: {error}");
    }
    let endless = Double::start(|_, _| {
        Reply::raw(
            207,
            &[("content-length", "999999999")],
            "<multistatus>".repeat(1 << 17),
        )
        .stall()
    })
    .await;
    let error = problem(
        store("webdav", &endless)
            .list(&Folder::default(), None)
            .await,
    );
    assert!(
        error.to_string().contains("more than 1048576 bytes"),
        "{error}"
    );
}

#[tokio::test]
async fn a_rename_to_another_name_is_noticed() {
    // As WsgiDAV does with a question mark.
    let double = Double::start(|asked, _| match asked.method.as_str() {
        "PROPFIND" if asked.target.ends_with(".part") => {
            Reply::new(207, &[], file(&asked.target, 10))
        }
        "PROPFIND" => Reply::new(404, &[], ""),
        _ => Reply::new(201, &[], ""),
    })
    .await;
    let store = store("webdav", &double);
    let error = problem(store.publish(ten(), &key("out/a?b"), Mode::Replace).await);
    assert!(
        error.to_string().contains("none of the new name"),
        "{error}"
    );
}

#[tokio::test]
async fn an_upload_that_nobody_waits_for_is_removed() {
    let (begun, begin) = tokio::sync::oneshot::channel();
    let (removed, remove) = tokio::sync::oneshot::channel();
    let told = std::sync::Mutex::new((Some(begun), Some(removed)));
    let double = Double::start(move |asked, _| {
        let mut told = told.lock().unwrap();
        let sender = match asked.method.as_str() {
            "PUT" => told.0.take(),
            _ => told.1.take(),
        };
        let _ = sender.unwrap().send(asked.clone());
        match asked.method.as_str() {
            "PUT" => Reply::nothing(),
            _ => Reply::new(204, &[], ""),
        }
    })
    .await;
    let store = store("webdav", &double);
    let publishing =
        tokio::spawn(async move { store.publish(ten(), &key("out/a"), Mode::Replace).await });
    let put = begin.await.unwrap();
    publishing.abort();
    let removed = remove.await.unwrap();
    assert_eq!(
        (removed.method.as_str(), removed.target),
        ("DELETE", put.target)
    );
}
