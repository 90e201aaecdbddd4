//! Whatever comes in: no panic, an answer that says where, and nothing that leads elsewhere.

use proptest::prelude::*;
use rgpu_faas_events::{
    Kind, Options, Outcome, Request, Timestamp, VARIABLE_LIMIT, notification, receive,
};
use std::path::Component;

const NOW: Timestamp = Timestamp::constant(1_790_000_000, 0);

const RECORD: &str = r#"{"eventVersion":"2.1","eventSource":"aws:s3","eventTime":"2026-03-01T12:00:00.000Z","eventName":"ObjectCreated:Put","s3":{"bucket":{"name":"clips"},"object":{"key":"in%2F..%2Fa+b.dcm","size":1024,"eTag":"d41d8cd9","versionId":"v","sequencer":"0055AED6DCD90281E5"}}}"#;

/// Good messages, which are spoilt below: (headers, body).
fn corpus() -> Vec<(Vec<(&'static str, &'static str)>, String)> {
    let notification = format!(r#"{{"Records":[{RECORD},{RECORD}]}}"#);
    let text = serde_json::to_string(&notification).unwrap();
    let json = vec![("content-type", "application/cloudevents+json")];
    let event = r#"{"specversion":"1.0","type":"t","source":"/s","id":"1","time":"2026-03-01T12:00:00Z","ext":5,"datacontenttype":"text/plain","data":"x"}"#.to_owned();
    let stored = format!(
        r#"{{"specversion":"1.0","type":"com.amazonaws.s3.ObjectCreated:Put","source":"/s","id":"1","data":{RECORD}}}"#
    );
    vec![
        (vec![], notification.replace("aws:s3", "minio:s3")),
        (
            vec![],
            format!(r#"{{"httpMethod":"POST","queryStringParameters":{{"a":"b"}},"body":{text}}}"#),
        ),
        (
            vec![],
            format!(r#"{{"storage_provider":"minio.two","event":{notification}}}"#),
        ),
        (
            vec![],
            r#"{"event":{"name":"a.jpg","mask":["IN_CREATE"]},"subscription":"https://x"}"#.into(),
        ),
        (
            vec![],
            r#"{"event_type":"close","payload":{"scope":"s","name":"n"}}"#.into(),
        ),
        (
            vec![],
            r#"{"Key":"/space/a","Records":[{"objectKey":"a","eventSource":"OneTrigger"}]}"#.into(),
        ),
        (vec![], "aXQgd29ya3Mh".into()),
        (json.clone(), event.clone()),
        (json, stored.clone()),
        (
            vec![("content-type", "application/cloudevents-batch+json")],
            format!("[{event},{stored}]"),
        ),
        (
            vec![
                ("ce-specversion", "1.0"),
                ("ce-type", "com.amazonaws.s3.x"),
                ("ce-source", "/s"),
                ("ce-id", "%31"),
                ("content-type", "application/json"),
            ],
            RECORD.into(),
        ),
    ]
}

/// What must hold of every answer.
fn check(headers: &[(&str, &[u8])], body: &[u8]) {
    let options = Options {
        removed: true,
        ..Options::default()
    };
    let request = Request { headers, body };
    for answer in [
        receive(&request, NOW, &options),
        notification(body, NOW, &options),
    ] {
        let one_line = |text: &str| assert!(!text.chars().any(char::is_control), "{text:?}");
        let outcomes = match answer {
            Ok(outcomes) => outcomes,
            Err(error) => {
                one_line(&error.to_string());
                continue;
            }
        };
        for outcome in outcomes {
            match outcome {
                Outcome::Refused(error) => one_line(&error.to_string()),
                Outcome::Ignored(ignored) => one_line(&ignored.why),
                Outcome::Occurrence(occurrence) => {
                    if let Some(event) = &occurrence.event {
                        assert!(event.len() <= VARIABLE_LIMIT && !event.contains('\0'));
                    }
                    let Kind::Object(object) = &occurrence.kind else {
                        continue;
                    };
                    let event = occurrence.event.as_deref().unwrap_or("{}");
                    serde_json::from_str::<serde::de::IgnoredAny>(event).unwrap();
                    assert!((1..=1024).contains(&object.key.as_bytes().len()));
                    assert!(!object.key.as_bytes().contains(&0));
                    one_line(&object.key.to_string());
                    if let Ok(path) = object.key.relative_path() {
                        assert!(
                            path.components()
                                .all(|part| matches!(part, Component::Normal(_)))
                        );
                    }
                    if let Ok(name) = object.key.file_name() {
                        let parts: Vec<_> = std::path::Path::new(name).components().collect();
                        assert!(matches!(parts[..], [Component::Normal(_)]));
                    }
                }
            }
        }
    }
}

fn spoil(body: &mut Vec<u8>, (kind, place, value): (u8, prop::sample::Index, u8)) {
    const PIECES: [&[u8]; 12] = [
        b"\"",
        b"{",
        b"]",
        b"null",
        b"%00",
        b"%",
        b"\\u0000",
        b"\\ud800",
        b"1e999",
        b"\xff",
        b",\"key\":\"x\"",
        b"..%2F",
    ];
    if body.is_empty() {
        return;
    }
    let at = place.index(body.len());
    match kind % 5 {
        0 => body[at] = value,
        1 => drop(body.remove(at)),
        2 => body.truncate(at),
        3 => drop(body.splice(
            at..at,
            PIECES[usize::from(value) % PIECES.len()].iter().copied(),
        )),
        _ => {
            let end = (at + usize::from(value)).min(body.len());
            let copy = body[at..end].to_vec();
            body.splice(at..at, copy);
        }
    }
}

#[test]
fn the_corpus_itself_is_good() {
    for (headers, body) in corpus() {
        let headers: Vec<(&str, &[u8])> = headers.iter().map(|(n, v)| (*n, v.as_bytes())).collect();
        let request = Request {
            headers: &headers,
            body: body.as_bytes(),
        };
        let outcomes = receive(&request, NOW, &Options::default()).expect(&body);
        assert!(
            outcomes.iter().all(|o| matches!(o, Outcome::Occurrence(_))),
            "{outcomes:?}"
        );
        check(&headers, body.as_bytes());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn good_messages_spoilt(
        which: prop::sample::Index,
        changes in prop::collection::vec(any::<(u8, prop::sample::Index, u8)>(), 1..6),
    ) {
        let corpus = corpus();
        let (headers, body) = which.get(&corpus);
        let mut body = body.clone().into_bytes();
        changes.into_iter().for_each(|change| spoil(&mut body, change));
        let headers: Vec<(&str, &[u8])> = headers.iter().map(|(n, v)| (*n, v.as_bytes())).collect();
        check(&headers, &body);
    }

    #[test]
    fn any_bytes(
        headers in prop::collection::vec(("(ce-|content-type|)[a-z]{0,6}", any::<Vec<u8>>()), 0..6),
        body: Vec<u8>,
    ) {
        let headers: Vec<(&str, &[u8])> = headers.iter().map(|(n, v)| (n.as_str(), &v[..])).collect();
        check(&headers, &body);
    }

    #[test]
    fn any_key(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
        let escaped: String = bytes.iter().map(|byte| format!("%{byte:02X}")).collect();
        let body = format!(r#"{{"Records":[{}]}}"#, RECORD.replace("in%2F..%2Fa+b.dcm", &escaped));
        check(&[], body.as_bytes());
    }
}

/// Deeper than any stack, in every place where something is read.
#[test]
fn depth() {
    for (open, close) in [
        ("[", "]"),
        (r#"{"a":"#, "}"),
        (r#"{"event":"#, "}"),
        (r#"{"Records":["#, "]}"),
    ] {
        for inner in ["1", ""] {
            let deep = format!("{}{inner}{}", open.repeat(200_000), close.repeat(200_000));
            check(&[], deep.as_bytes());
            let in_key = format!(
                r#"{{"Records":[{}]}}"#,
                RECORD.replace(r#""in%2F..%2Fa+b.dcm""#, &deep)
            );
            check(&[], in_key.as_bytes());
            let headers: [(&str, &[u8]); 1] = [("content-type", b"application/cloudevents+json")];
            let data = format!(
                r#"{{"specversion":"1.0","type":"t","source":"/s","id":"1","data":{deep}}}"#
            );
            check(&headers, data.as_bytes());
            check(&headers, data.replace("data", "ext").as_bytes());
        }
    }
}
