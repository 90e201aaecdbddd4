use crate::double::{Double, Reply};
use crate::{fetch, key, problem, store};
use rgpu_faas_storage::Problem;

const DATE: (&str, &str) = ("last-modified", "Mon, 05 Jan 2026 10:00:00 GMT");
const TAG: (&str, &str) = ("etag", "\"one\"");

/// What is asked for from a range header.
fn from(range: &str) -> Option<usize> {
    range
        .strip_prefix("bytes=")?
        .strip_suffix('-')?
        .parse()
        .ok()
}

/// A right answer to any range of `object`.
fn part(object: &[u8], asked: &crate::double::Asked) -> Reply {
    match from(asked.header("range")) {
        None => Reply::new(200, &[TAG, DATE], object),
        Some(at) => {
            let range = format!("bytes {at}-{}/{}", object.len() - 1, object.len());
            Reply::new(206, &[TAG, DATE, ("content-range", &range)], &object[at..])
        }
    }
}

#[tokio::test]
async fn a_broken_connection_is_taken_up_where_it_broke() {
    let object: Vec<u8> = (0..100_000u32).flat_map(|n| n.to_le_bytes()).collect();
    let whole = object.clone();
    let double = Double::start(move |asked, before| match before {
        // Half of it, then the connection ends.
        0 => Reply::raw(
            200,
            &[("content-length", "400000"), TAG, DATE],
            &whole[..200_000],
        )
        .close(),
        1 => Reply::raw(503, &[("content-length", "0")], ""),
        _ => part(&whole, asked),
    })
    .await;
    let (fetched, bytes) = fetch(&store("minio", &double), 1 << 20).await.unwrap();
    assert_eq!((fetched.resumed, fetched.meta.size), (2, 400_000));
    assert!(bytes == object);
    let last = &double.asked()[2];
    let at = from(last.header("range")).unwrap();
    assert!(at > 0 && at <= 200_000, "{last:?}");
    assert_eq!(last.header("if-match"), "\"one\"");
}

#[tokio::test]
async fn an_object_that_is_shorter_than_said_is_found_out() {
    // The rest never comes, though each part begins as asked.
    let double = Double::start(|asked, _| match from(asked.header("range")) {
        None => Reply::raw(200, &[("content-length", "1000"), TAG, DATE], [b'x'; 400]).close(),
        Some(at) => {
            let range = format!("bytes {at}-999/1000");
            Reply::raw(
                206,
                &[
                    ("content-length", &(1000 - at).to_string()),
                    ("content-range", &range),
                    TAG,
                    DATE,
                ],
                "",
            )
            .close()
        }
    })
    .await;
    let error = problem(fetch(&store("minio", &double), 1 << 20).await);
    assert!(
        matches!(
            error,
            Problem::Truncated {
                said: 1000,
                came: 400,
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(
        double.count("GET"),
        3,
        "three tries, the one that brought something included"
    );
}

#[tokio::test]
async fn a_whole_answer_that_ends_early_is_truncated() {
    // Sent in chunks, so that the end of the body is not a broken connection; its properties say 10.
    let double = Double::start(|asked, _| match asked.method.as_str() {
        "PROPFIND" => Reply::new(207, &[], crate::dav::file("/dav/clips/in/a", 10)),
        _ => Reply::raw(
            200,
            &[("transfer-encoding", "chunked")],
            "4\r\nabcd\r\n0\r\n\r\n",
        ),
    })
    .await;
    let error = problem(fetch(&store("webdav", &double), 1 << 20).await);
    assert!(
        matches!(
            error,
            Problem::Truncated {
                said: 10,
                came: 4,
                ..
            }
        ),
        "{error}"
    );
    assert!(error.to_string().contains("lies about its size"), "{error}");
}

#[tokio::test]
async fn an_object_that_is_longer_than_said_is_found_out() {
    let double = Double::start(|asked, _| match asked.method.as_str() {
        "PROPFIND" => Reply::new(207, &[], crate::dav::file("/dav/clips/in/a", 2)),
        _ => Reply::raw(
            200,
            &[("transfer-encoding", "chunked")],
            "4\r\nabcd\r\n0\r\n\r\n",
        ),
    })
    .await;
    let error = problem(fetch(&store("webdav", &double), 1 << 20).await);
    assert!(matches!(error, Problem::SentMore { said: 2 }), "{error}");
}

#[tokio::test]
async fn too_large_an_object_is_not_begun() {
    let double = Double::start(|_, _| {
        Reply::raw(200, &[("content-length", "99999999999999"), TAG, DATE], "x").stall()
    })
    .await;
    let error = problem(fetch(&store("minio", &double), 1000).await);
    assert!(
        matches!(
            error,
            Problem::TooLarge {
                size: 99999999999999,
                limit: 1000
            }
        ),
        "{error}"
    );
    assert_eq!(double.count("GET"), 1);
}

#[tokio::test]
async fn another_version_is_not_joined_to_the_first() {
    for changed in ["precondition", "silently"] {
        let double = Double::start(move |_, before| match (before, changed) {
            (0, _) => Reply::raw(200, &[("content-length", "10"), TAG, DATE], "abcd").close(),
            (_, "precondition") => {
                Reply::new(412, &[], "<Error><Code>PreconditionFailed</Code></Error>")
            }
            _ => Reply::new(
                206,
                &[("content-range", "bytes 4-9/10"), ("etag", "\"two\""), DATE],
                "efghij",
            ),
        })
        .await;
        let error = problem(fetch(&store("minio", &double), 1000).await);
        assert!(matches!(error, Problem::Changed), "{changed}: {error}");
    }
}

#[tokio::test]
async fn ranges_that_overflow_are_nonsense() {
    for range in [
        "bytes 4-18446744073709551615/18446744073709551615",
        "bytes 9-4/10",
        "bytes x",
        "",
    ] {
        let double = Double::start(move |_, before| match before {
            0 => Reply::raw(200, &[("content-length", "10"), TAG, DATE], "abcd").close(),
            _ => Reply::new(206, &[("content-range", range), TAG, DATE], "efghij"),
        })
        .await;
        let error = problem(fetch(&store("minio", &double), 1000).await);
        assert!(matches!(error, Problem::Nonsense(_)), "{range}: {error}");
    }
}

#[tokio::test]
async fn a_store_that_is_silent_is_given_up() {
    let silent = Double::start(|_, _| Reply::nothing()).await;
    let error = problem(fetch(&store("minio", &silent), 1000).await);
    assert!(
        matches!(&error, Problem::Unavailable(why) if why.contains("no answer within")),
        "{error}"
    );
    assert_eq!(silent.count("GET"), 3);

    let stalls =
        Double::start(|_, _| Reply::raw(200, &[("content-length", "10"), DATE], "abcd").stall())
            .await;
    let error = problem(fetch(&store("minio", &stalls), 1000).await);
    assert!(
        matches!(&error, Problem::Truncated { why, .. } if why.contains("nothing arrived")),
        "{error}"
    );
    assert_eq!(stalls.count("GET"), 3);
    // Without a tag the halves could be of two versions: it begins anew.
    assert!(
        stalls
            .asked()
            .iter()
            .all(|asked| asked.header("range").is_empty())
    );
}

#[tokio::test]
async fn a_store_that_is_not_there_is_named() {
    let double = Double::start(|_, _| Reply::nothing()).await;
    let store = store("minio", &double);
    // Nobody listens where it was.
    drop(double);
    let error = problem(store.stat(&key("in/a")).await);
    assert!(
        matches!(&error, Problem::Unavailable(why) if why.contains("no connection")),
        "{error}"
    );
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let elsewhere = Double::start(|_, _| Reply::new(200, &[], "")).await;
    let address = elsewhere.address;
    for status in [301, 302, 303, 307, 308] {
        let double = Double::start(move |_, _| {
            Reply::new(
                status,
                &[("location", &format!("http://{address}/clips/in/a?token=x"))],
                "",
            )
        })
        .await;
        let error = problem(fetch(&store("minio", &double), 1000).await);
        let Problem::Redirected { to } = &error else {
            panic!("{error}")
        };
        assert_eq!(
            to,
            &format!("http://{address}"),
            "without what may be secret"
        );
        assert!(error.to_string().contains("carries credentials"), "{error}");
        assert_eq!(double.count("GET"), 1);
    }
    assert_eq!(elsewhere.asked().len(), 0);
    let bare = Double::start(|_, _| Reply::new(301, &[], "")).await;
    let error = problem(fetch(&store("minio", &bare), 1000).await);
    assert!(error.to_string().contains("region"), "{error}");
}

#[tokio::test]
async fn refusals_are_told_apart() {
    for (status, body, says) in [
        (
            403,
            "<Error><Code>SignatureDoesNotMatch</Code><Message>Check your key.</Message></Error>",
            "SignatureDoesNotMatch Check your key.",
        ),
        (401, "", "check the provider's keys"),
        (
            404,
            "<Error><Code>NoSuchBucket</Code></Error>",
            "no such bucket",
        ),
        (
            404,
            "<Error><Code>NoSuchKey</Code></Error>",
            "no such object",
        ),
        (400, "<html>\u{1b}[31m very wrong </html>", "400"),
        (418, "\0\u{7f}", "418"),
        (501, "", "501"),
    ] {
        let double = Double::start(move |_, _| Reply::new(status, &[], body)).await;
        let error = problem(fetch(&store("minio", &double), 1000).await).to_string();
        assert!(
            error.contains(says) && !error.contains('\u{1b}'),
            "{status}: {error:?}"
        );
        assert_eq!(double.count("GET"), 1, "{status} is final");
    }
    // An error's page without an end is not read to its end.
    let endless = Double::start(|_, _| {
        Reply::raw(403, &[("content-length", "999999999")], "x".repeat(1 << 20)).stall()
    })
    .await;
    assert!(matches!(
        problem(fetch(&store("minio", &endless), 1000).await),
        Problem::Denied { .. }
    ));
}

#[tokio::test]
async fn headers_that_are_nonsense_are_an_error() {
    for headers in [
        vec![("content-length", "10"), ("last-modified", "yesterday")],
        vec![("content-length", "-1")],
        vec![("content-length", "10"), ("content-length", "11")],
        vec![("etag", "\u{e9}"), ("content-length", "0"), DATE],
        vec![("transfer-encoding", "chunked")],
    ] {
        let double = Double::start({
            let headers = headers.clone();
            move |_, _| Reply::raw(200, &headers, "").close()
        })
        .await;
        let error = problem(fetch(&store("minio", &double), 1000).await);
        assert!(
            matches!(error, Problem::Nonsense(_) | Problem::Unavailable(_)),
            "{headers:?}: {error}"
        );
    }
    let noise =
        Double::start(|_, _| Reply::raw(200, &[(&"x".repeat(1 << 20), "y")], "").close()).await;
    assert!(fetch(&store("minio", &noise), 1000).await.is_err());
}
