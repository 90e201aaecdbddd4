use crate::double::{Double, Reply};
use crate::{problem, store};
use rgpu_faas_storage::{Entry, Folder, Found, PollOptions, Poller, Problem, Seen};
use std::time::Duration;
use tokio::sync::mpsc;

fn folder() -> Folder {
    Folder::parse("in").unwrap()
}

fn object(key: &str, time: &str) -> String {
    format!(
        "<Contents><Key>{key}</Key><LastModified>{time}</LastModified><ETag>\"e\"</ETag><Size>1</Size></Contents>"
    )
}

fn listing(objects: &str, next: Option<&str>) -> String {
    let next = next.map(|token| {
        format!(
            "<IsTruncated>true</IsTruncated><NextContinuationToken>{token}</NextContinuationToken>"
        )
    });
    format!(
        "<ListBucketResult>{objects}{}</ListBucketResult>",
        next.unwrap_or_default()
    )
}

const TIME: &str = "2026-01-05T10:00:00Z";

#[tokio::test]
async fn what_is_no_listing_is_an_error_and_not_an_empty_one() {
    let huge = format!("<ListBucketResult>{}", "<x/>".repeat(1 << 19));
    for (body, says) in [
        (
            "<html><body>Please log in</body></html>".to_owned(),
            "no ListBucketResult",
        ),
        (String::new(), "no ListBucketResult"),
        ("<ListBucketResult><Contents>".to_owned(), "cannot be read"),
        (huge, "more than 1048576 bytes"),
        (
            listing(&object("in/a", TIME).repeat(1001), None),
            "a page of 1001 keys",
        ),
        (
            listing(&object("secret/of/another", TIME), None),
            "secret/of/another",
        ),
        (listing(&object("inner/x", TIME), None), "inner/x"),
    ] {
        let double = Double::start(move |_, _| Reply::new(200, &[], &body)).await;
        let error = problem(store("minio", &double).list(&folder(), None).await);
        assert!(
            matches!(&error, Problem::Nonsense(why) if why.contains(says)),
            "{error}"
        );
        assert_eq!(double.count("GET"), 1);
    }
}

#[tokio::test]
async fn names_that_cannot_be_used_do_not_hide_the_others() {
    let double = Double::start(|_, _| {
        let objects =
            ["in/", "in/a//b", "in/../x", "in/good", "in/sub/"].map(|key| object(key, TIME));
        Reply::new(200, &[], listing(&objects.concat(), None))
    })
    .await;
    let page = store("minio", &double).list(&folder(), None).await.unwrap();
    let keys: Vec<&str> = page
        .entries
        .iter()
        .map(|entry| entry.key.as_str())
        .collect();
    assert_eq!((keys, page.unusable), (vec!["in/good"], 2));
    assert!(page.example.unwrap().contains("in/a//b"));
}

#[tokio::test]
async fn a_listing_that_stands_still_ends() {
    let double = Double::start(|_, _| Reply::new(200, &[], listing("", Some("again")))).await;
    let store = store("minio", &double);
    let page = store.list(&folder(), None).await.unwrap();
    let error = problem(store.list(&folder(), page.next.as_ref()).await);
    assert!(
        error.to_string().contains("goes on where it began"),
        "{error}"
    );
}

/// The next word of a poller.
async fn next(found: &mut mpsc::Receiver<Found>) -> Found {
    tokio::time::timeout(Duration::from_secs(20), found.recv())
        .await
        .unwrap()
        .unwrap()
}

#[tokio::test]
async fn a_store_without_an_end_of_keys_is_given_up_within_bounds() {
    // Ten million and more: a new token each time, a thousand keys a page, or none.
    for keys in [1000, 0] {
        let double = Double::start(move |_, before| {
            let objects: String = (0..keys)
                .map(|n| object(&format!("in/{before:07}-{n:04}"), TIME))
                .collect();
            Reply::new(200, &[], listing(&objects, Some(&format!("t{before}"))))
        })
        .await;
        let (sender, mut found) = mpsc::channel(4);
        let poller = Poller::new(
            store("minio", &double),
            folder(),
            PollOptions::default(),
            Seen::nothing(),
        );
        let running = tokio::spawn(poller.run(sender));
        let error = loop {
            match next(&mut found).await {
                Found::New(_) => {}
                Found::Trouble { error, .. } => break error,
                pass => panic!("{pass:?}"),
            }
        };
        assert!(
            matches!(error.problem, Problem::TooMany { limit: 5000, .. }),
            "{error}"
        );
        assert!(double.count("GET") <= 5002);
        drop(found);
        running.await.unwrap();
    }
}

#[tokio::test]
async fn a_poller_waits_longer_while_the_store_is_down_and_finds_all_after() {
    // Down for two passes of three tries each, then there; between passes one object more comes about.
    let double = Double::start(|_, before| match before {
        0..6 => Reply::new(503, &[], "<Error><Code>SlowDown</Code></Error>"),
        6 => Reply::new(200, &[], listing(&object("in/a", TIME), None)),
        _ => Reply::new(
            200,
            &[],
            listing(&(object("in/a", TIME) + &object("in/b", TIME)), None),
        ),
    })
    .await;
    let options = PollOptions {
        interval: Duration::from_millis(10),
        longest: Duration::from_millis(15),
        overlap: Duration::from_secs(1),
    };
    let (sender, mut found) = mpsc::channel(1);
    let poller = Poller::new(store("minio", &double), folder(), options, Seen::nothing());
    let running = tokio::spawn(poller.run(sender));
    for expected in [10, 15] {
        let Found::Trouble { error, again } = next(&mut found).await else {
            panic!()
        };
        assert!(matches!(error.problem, Problem::Unavailable(_)), "{error}");
        assert_eq!(again, Duration::from_millis(expected));
    }
    let mut told = Vec::new();
    let mut passes = Vec::new();
    while passes.len() < 3 {
        match next(&mut found).await {
            Found::New(new) => {
                told.extend(new.into_iter().map(|entry: Entry| entry.key.to_string()))
            }
            Found::Pass { seen, keys, .. } => passes.push((seen, keys)),
            trouble => panic!("{trouble:?}"),
        }
    }
    assert_eq!(told, ["in/a", "in/b"]);
    assert_eq!([passes[0].1, passes[1].1, passes[2].1], [1, 2, 2]);
    assert_eq!(passes[1].0, passes[2].0);
    drop(found);
    running.await.unwrap();
}
