//! Bodies as OSCAR's supervisor takes them: the shapes are those of its own tests and of its documentation.

use rgpu_faas_events::{
    Change, EventError, Kind, Message, Object, Occurrence, Options, Outcome, Reason, Request,
    Store, Timestamp, receive,
};

const NOW: Timestamp = Timestamp::constant(1_790_000_000, 0);

const MINIO: &str = r#"{"Key": "images/nature-wallpaper-229.jpg", "Records": [{"s3": {"object": {"key": "nature-wallpaper-229.jpg"}, "bucket": {"name": "images", "arn": "arn:aws:s3:::images"}}, "eventSource": "minio:s3", "eventTime": "2018-06-29T10:23:44Z"}]}"#;
const S3: &str = r#"{"Records": [{"awsRegion": "us-east-1", "eventSource": "aws:s3", "eventTime": "2018-06-29T10:23:44Z", "s3": {"bucket": {"arn": "arn:aws:s3:::darknet-bucket", "name": "darknet-bucket"}, "object": {"key": "darknet-s3/input/dog.jpg"}}}]}"#;

fn read(body: &str) -> Result<Vec<Outcome>, EventError> {
    let request = Request {
        headers: &[],
        body: body.as_bytes(),
    };
    receive(&request, NOW, &Options::default())
}

/// The one event in a body.
fn one(body: &str) -> Occurrence {
    match &read(body).unwrap()[..] {
        [Outcome::Occurrence(occurrence)] => (**occurrence).clone(),
        other => panic!("{body}: {other:?}"),
    }
}

fn object(occurrence: &Occurrence) -> &Object {
    match &occurrence.kind {
        Kind::Object(object) => object,
        other => panic!("{other:?}"),
    }
}

fn input(occurrence: &Occurrence) -> &[u8] {
    match &occurrence.kind {
        Kind::Message(Message { body, .. }) => body,
        other => panic!("{other:?}"),
    }
}

fn json(text: &str) -> String {
    serde_json::to_string(text).unwrap()
}

#[test]
fn events_of_stores_with_little_in_them() {
    let minio = one(MINIO);
    assert_eq!(object(&minio).store, Store::Minio);
    assert_eq!(object(&minio).bucket.as_deref(), Some("images"));
    assert_eq!(
        object(&minio).key.as_str(),
        Some("nature-wallpaper-229.jpg")
    );
    assert_eq!(object(&minio).change, Change::Created);
    assert_eq!(minio.event.as_deref(), Some(MINIO));
    let s3 = one(S3);
    assert_eq!(object(&s3).store, Store::S3);
    assert_eq!(object(&s3).key.file_name().unwrap(), "dog.jpg");
}

#[test]
fn a_delegated_event_is_the_one_inside() {
    let text = format!(
        r#"{{"storage_provider": "minio.cluster2", "event": {}}}"#,
        json(MINIO)
    );
    let nested = format!(r#"{{"storage_provider": "minio.cluster2", "event": {MINIO}}}"#);
    for body in [text, nested] {
        let event = one(&body);
        assert_eq!(object(&event).provider.as_deref(), Some("minio.cluster2"));
        assert_eq!(
            event.event.as_deref(),
            Some(MINIO),
            "what the script would see at home"
        );
        assert_eq!(event.identity, one(MINIO).identity);
    }
    let input_alone = format!(r#"{{"event": {}}}"#, json("aXQgd29ya3Mh"));
    let event = one(&input_alone);
    assert_eq!(input(&event), b"it works!");
    assert_eq!(event.event.as_deref(), Some(&*input_alone));
}

#[test]
fn an_api_gateway_s_request_gives_body_and_parameters() {
    let body = r#"{"body": "aXQgd29ya3Mh", "headers": {"Content-Type": "application/octet-stream"}, "httpMethod": "POST", "isBase64Encoded": false, "queryStringParameters": null}"#;
    let event = one(body);
    assert_eq!(input(&event), b"it works!");
    assert_eq!(event.event.as_deref(), Some(body));
    assert!(event.variables.is_empty());

    let inner = format!(
        r#"{{"storage_provider": "minio.cluster2", "event": {}}}"#,
        json(MINIO)
    );
    let body = format!(
        r#"{{"body": {}, "headers": {{"Content-Type": "application/json"}}, "httpMethod": "POST", "queryStringParameters": {{"q1": "v1", "q2": "v2"}}}}"#,
        json(&inner)
    );
    let event = one(&body);
    assert_eq!(object(&event).provider.as_deref(), Some("minio.cluster2"));
    let variables = [("CONT_VAR_q1", "v1"), ("CONT_VAR_q2", "v2")];
    assert_eq!(
        event.variables,
        variables.map(|(n, v)| (n.to_owned(), v.to_owned()))
    );

    let object_body = format!(r#"{{"httpMethod": "POST", "body": {S3}}}"#);
    assert_eq!(object(&one(&object_body)).store, Store::S3);
    for nothing in [
        r#"{"httpMethod":"GET"}"#,
        r#"{"httpMethod":"GET","body":""}"#,
        r#"{"httpMethod":null,"body":null}"#,
    ] {
        assert_eq!(input(&one(nothing)), b"");
    }
}

#[test]
fn dcache_before_delegation() {
    let body = r#"{"event": {"name": "image2.jpg", "mask": ["IN_CREATE"]}, "subscription": "https://dcache.example.org:3880/api/v1/events/channels/oyG/subscriptions/inotify/AAC"}"#;
    let event = one(body);
    assert_eq!(object(&event).store, Store::Dcache);
    assert_eq!(object(&event).key.as_str(), Some("image2.jpg"));
    assert_eq!(event.event.as_deref(), Some(body));
    // Nothing in it tells the next upload from a repeated delivery.
    assert_eq!(event.identity, None);
    for (mask, why) in [
        (r#"["IN_CREATE","IN_ISDIR"]"#, "folder"),
        (r#"["IN_DELETE"]"#, "removed"),
        (r#"["IN_ATTRIB"]"#, "no file"),
        ("[]", "no file"),
    ] {
        match &read(&body.replace(r#"["IN_CREATE"]"#, mask)).unwrap()[..] {
            [Outcome::Ignored(ignored)] => assert!(ignored.why.contains(why), "{ignored:?}"),
            other => panic!("{other:?}"),
        }
    }
    // The key is no escaped one.
    let event = one(&body.replace("image2.jpg", "100%25+.jpg"));
    assert_eq!(object(&event).key.as_str(), Some("100%25+.jpg"));
}

#[test]
fn onedata_and_rucio() {
    let event = one(
        r#"{"Key": "/my-onedata-space/files/file.txt", "Records": [{"objectKey": "file.txt", "eventSource": "OneTrigger", "eventTime": "2019-02-07T09:51:04.347823"}]}"#,
    );
    assert_eq!(object(&event).store, Store::Onedata);
    assert_eq!(
        object(&event).key.as_str(),
        Some("/my-onedata-space/files/file.txt")
    );
    assert_eq!(object(&event).key.file_name().unwrap(), "file.txt");
    let event = one(
        r#"{"event_type": "close", "payload": {"name": "dataset_name", "scope": "user.jdoe"}}"#,
    );
    assert_eq!(object(&event).store, Store::Rucio);
    assert_eq!(object(&event).bucket.as_deref(), Some("user.jdoe"));
    assert_eq!(object(&event).key.as_str(), Some("dataset_name"));
}

#[test]
fn anything_else_is_the_input() {
    // JSON as it stands, with the numbers as they were written.
    for body in [
        r#"{"Records": [{"eventSource": "narnia"}]}"#,
        r#"{"a": 123456789012345678901234567890.10, "a": 1}"#,
        r#"{"Records": []}"#,
        r#"{"Records": {"eventSource": "aws:s3"}}"#,
        r#"{"event_type": "close"}"#,
        "[1, 2]",
        "7",
        "null",
        "true",
    ] {
        let event = one(body);
        assert_eq!(input(&event), body.as_bytes());
        assert_eq!(event.event.as_deref(), Some(body));
        assert_eq!((event.identity, event.time), (None, NOW));
    }
    assert_eq!(input(&one(" \n{\"a\":1}\n")), br#"{"a":1}"#);
    // What is no JSON is base64, in lines too, as the command base64 writes it.
    assert_eq!(input(&one("aXQgd29ya3Mh")), b"it works!");
    assert_eq!(input(&one("aXQgd2\r\n9ya3\nMh\n")), b"it works!");
    assert_eq!(input(&one("/w==")), b"\xff");
    assert_eq!(input(&one("/x==")), b"\xff", "surplus bits, as Python");
    assert_eq!(input(&one("")), b"");
    // A string that is JSON itself is taken out of its quotes.
    assert_eq!(input(&one(r#""aXQgd29ya3Mh""#)), b"it works!");
    assert_eq!(input(&one(r#""{\"a\":1}""#)), br#"{"a":1}"#);
    // Digits alone are a number before they are base64.
    assert_eq!(input(&one("1234")), b"1234");
}

#[test]
fn neither_json_nor_base64() {
    for body in [
        "hello world",
        "{",
        "{'a': 1}",
        "aXQ",
        "data:image/png;base64,aXQ=",
        "%",
    ] {
        let error = read(body).unwrap_err();
        assert_eq!((error.reason, error.path.as_str()), (Reason::Malformed, ""));
        assert!(
            error.what.contains("neither JSON (") && error.what.contains("nor base64 ("),
            "{error}"
        );
    }
    let request = Request {
        headers: &[],
        body: b"\x89PNG",
    };
    let error = receive(&request, NOW, &Options::default()).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("the message is no UTF-8 at byte 0; send"),
        "{error}"
    );
}

#[test]
fn wrong_ones_are_refused_with_the_field() {
    for (body, path) in [
        (r#"{"httpMethod":"POST","body":7}"#, "body"),
        (r#"{"httpMethod":"POST","body":"{"}"#, "body"),
        (r#"{"httpMethod":"POST","httpMethod":"GET"}"#, ""),
        (
            r#"{"httpMethod":"POST","queryStringParameters":{"a=b":"1"}}"#,
            "queryStringParameters",
        ),
        (
            r#"{"httpMethod":"POST","queryStringParameters":{"a\n":"1"}}"#,
            "queryStringParameters",
        ),
        (
            r#"{"httpMethod":"POST","queryStringParameters":{"a":1}}"#,
            "queryStringParameters.a",
        ),
        (
            r#"{"httpMethod":"POST","queryStringParameters":{"a":"\u0000"}}"#,
            "queryStringParameters.a",
        ),
        (
            r#"{"httpMethod":"POST","queryStringParameters":[]}"#,
            "queryStringParameters",
        ),
        (r#"{"event":7}"#, "event"),
        (r#"{"event":{},"event":{}}"#, ""),
        (r#"{"event":"aXQ","storage_provider":"minio"}"#, "event"),
        (
            r#"{"event":{},"storage_provider":"../minio"}"#,
            "storage_provider",
        ),
        (r#"{"event":{"name":""},"subscription":"x"}"#, "event.name"),
        (
            r#"{"event":{"name":"a","mask":"IN_CREATE"},"subscription":"x"}"#,
            "event.mask",
        ),
        (
            r#"{"event":{"name":"a","mask":[1]},"subscription":"x"}"#,
            "event.mask[0]",
        ),
        (r#"{"event":"x","subscription":"x"}"#, "event"),
        (
            r#"{"event_type":"close","payload":{"scope":"a"}}"#,
            "payload.name",
        ),
        (
            r#"{"Key":7,"Records":[{"eventSource":"OneTrigger"}]}"#,
            "Key",
        ),
        (
            r#"{"event":{"Records":[],"Records":[{"eventSource":"aws:s3"}]}}"#,
            "event",
        ),
    ] {
        let error = read(body).expect_err(body);
        assert_eq!(error.path, path, "{body}: {error}");
    }
    // Of a name that comes twice the last counts, as in Python, and its last word here is no event.
    let body = r#"{"Records":[{"eventSource":"aws:s3"}],"Records":[]}"#;
    assert_eq!(input(&one(body)), body.as_bytes());
    let inner = S3.replace("darknet-s3", "100%");
    let body = format!(r#"{{"event":{}}}"#, json(&inner));
    match &read(&body).unwrap()[..] {
        [Outcome::Refused(error)] => assert_eq!(error.path, "event.Records[0].s3.object.key"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn events_in_events_end_somewhere() {
    let nest = |depth: usize| {
        let mut body = S3.to_owned();
        for _ in 0..depth {
            body = format!(r#"{{"event":{}}}"#, json(&body));
        }
        body
    };
    assert_eq!(object(&one(&nest(4))).store, Store::S3);
    let error = read(&nest(5)).unwrap_err();
    assert_eq!(error.reason, Reason::TooLarge);
    assert_eq!(error.path, "event.event.event.event.event");
}

#[test]
fn too_many_parameters_and_members() {
    let parameters: Vec<String> = (0..65).map(|n| format!(r#""p{n}":"x""#)).collect();
    let body = format!(
        r#"{{"httpMethod":"GET","queryStringParameters":{{{}}}}}"#,
        parameters.join(",")
    );
    assert_eq!(read(&body).unwrap_err().reason, Reason::TooLarge);

    // No event has so many members: it is somebody's data, whatever else is in it.
    let members: Vec<String> = (0..1000).map(|n| format!(r#""m{n}":1"#)).collect();
    let body = format!(r#"{{"httpMethod":"GET",{}}}"#, members.join(","));
    assert_eq!(input(&one(&body)), body.as_bytes());
}

#[test]
fn what_is_too_long_for_a_variable_is_in_the_input_alone() {
    let body = "QUJD".repeat(40_000);
    let event = one(&body);
    assert_eq!(input(&event).len(), 120_000);
    assert_eq!(event.event, None);
}
