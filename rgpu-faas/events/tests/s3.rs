//! Notifications as MinIO and Amazon S3 send them, and as nobody should.

use rgpu_faas_events::{
    Change, EventError, Identity, Kind, Object, Occurrence, Options, Outcome, Reason, Request,
    Store, Timestamp, notification, receive,
};
use std::cmp::Ordering;

const NOW: Timestamp = Timestamp::constant(1_790_000_000, 0);

/// As MinIO's webhook target writes it: keys in this order, the key escaped in the record alone.
const MINIO: &str = r#"{"EventName":"s3:ObjectCreated:Put","Key":"echo/in/heart beat +1.dcm","Records":[{"eventVersion":"2.0","eventSource":"minio:s3","awsRegion":"","eventTime":"2026-03-01T12:00:00.123Z","eventName":"s3:ObjectCreated:Put","userIdentity":{"principalId":"minioadmin"},"requestParameters":{"principalId":"minioadmin","region":"","sourceIPAddress":"10.42.0.7"},"responseElements":{"x-amz-id-2":"dd9025bab4ad464b049177c95eb6ebf374d3b3fd1af9251148b658df7ac2e3e8","x-amz-request-id":"17D2C7B64F9CD2F2","x-minio-deployment-id":"5c1d7c2d-9c4b-4f6a-a7ae-3a2f4f0a1f55","x-minio-origin-endpoint":"http://10.42.0.3:9000"},"s3":{"s3SchemaVersion":"1.0","configurationId":"Config","bucket":{"name":"echo","ownerIdentity":{"principalId":"minioadmin"},"arn":"arn:aws:s3:::echo"},"object":{"key":"in%2Fheart+beat+%2B1.dcm","size":1019645,"eTag":"dd20b7e4b74467ff16ce2d901c054419","contentType":"application/dicom","userMetadata":{"content-type":"application/dicom"},"versionId":"9d4b1a1e-4a73-4a77-8b1f-2f7a9b6e6d3b","sequencer":"17D2C7B650BC4F6E"}},"source":{"host":"10.42.0.7","port":"","userAgent":"MinIO (linux; amd64) minio-go/v7.0.66"}}]}"#;

fn aws(records: &[String]) -> String {
    format!(r#"{{"Records":[{}]}}"#, records.join(","))
}

fn alone(record: &str) -> String {
    format!(r#"{{"Records":[{record}]}}"#)
}

/// A record as S3 sends it, version 2.6, with a key that has been escaped.
fn record(name: &str, key: &str, sequencer: &str) -> String {
    format!(
        r#"{{"eventVersion":"2.6","eventSource":"aws:s3","awsRegion":"eu-west-1","eventTime":"2026-03-01T12:00:00.000Z","eventName":"{name}","userIdentity":{{"principalId":"AWS:AIDAEXAMPLE"}},"requestParameters":{{"sourceIPAddress":"192.0.2.7"}},"responseElements":{{"x-amz-request-id":"C3D13FE58DE4C810","x-amz-id-2":"FMyUVURIY8/IgAtTv8xRjskZQpcIZ9KG4V5Wp6S7S/JRWeUWerMUE5JgHvANOjpD"}},"s3":{{"s3SchemaVersion":"1.0","configurationId":"frames","bucket":{{"name":"clips","ownerIdentity":{{"principalId":"A3NL1KOZZKExample"}},"arn":"arn:aws:s3:::clips"}},"object":{{"key":"{key}","size":1024,"eTag":"d41d8cd98f00b204e9800998ecf8427e","sequencer":"{sequencer}"}}}}}}"#
    )
}

fn read(body: &str) -> Result<Vec<Outcome>, EventError> {
    let request = Request {
        headers: &[("Content-Type", b"application/json")],
        body: body.as_bytes(),
    };
    let both = receive(&request, NOW, &Options::default());
    assert_eq!(
        both,
        notification(body.as_bytes(), NOW, &Options::default())
    );
    both
}

fn occurrence(outcome: &Outcome) -> &Occurrence {
    match outcome {
        Outcome::Occurrence(occurrence) => occurrence,
        other => panic!("{other:?}"),
    }
}

fn object(outcome: &Outcome) -> &Object {
    match &occurrence(outcome).kind {
        Kind::Object(object) => object,
        other => panic!("{other:?}"),
    }
}

fn refused(outcome: &Outcome) -> &EventError {
    match outcome {
        Outcome::Refused(error) => error,
        other => panic!("{other:?}"),
    }
}

fn why(outcome: &Outcome) -> &str {
    match outcome {
        Outcome::Ignored(ignored) => &ignored.why,
        other => panic!("{other:?}"),
    }
}

fn identity(body: &str) -> Identity {
    occurrence(&read(body).unwrap()[0])
        .identity
        .clone()
        .unwrap()
}

#[test]
fn minio() {
    let outcomes = read(MINIO).unwrap();
    assert_eq!(outcomes.len(), 1);
    let happened = occurrence(&outcomes[0]);
    assert_eq!(happened.time.as_millisecond(), 1_772_366_400_123);
    assert_eq!(happened.event.as_deref(), Some(MINIO), "byte for byte");
    assert!(happened.variables.is_empty());
    let object = object(&outcomes[0]);
    assert_eq!(object.store, Store::Minio);
    assert_eq!(object.change, Change::Created);
    assert_eq!(object.bucket.as_deref(), Some("echo"));
    assert_eq!(object.key.as_str(), Some("in/heart beat +1.dcm"));
    assert_eq!(object.size, Some(1_019_645));
    assert_eq!(
        object.etag.as_deref(),
        Some("dd20b7e4b74467ff16ce2d901c054419")
    );
    assert_eq!(
        object.version.as_deref(),
        Some("9d4b1a1e-4a73-4a77-8b1f-2f7a9b6e6d3b")
    );
    assert_eq!(
        object.sequencer.as_ref().unwrap().to_string(),
        "17D2C7B650BC4F6E"
    );
    assert_eq!(object.provider, None);
}

#[test]
fn aws_with_all_its_records() {
    let records = [
        record("ObjectCreated:Put", "in/red+flower.jpg", "0A1B"),
        record("ObjectTagging:Put", "in/red+flower.jpg", "0A1C"),
        record(
            "ObjectCreated:CompleteMultipartUpload",
            "in/b%C3%BC.jpg",
            "0A1D",
        ),
    ];
    let outcomes = read(&aws(&records)).unwrap();
    assert_eq!(outcomes.len(), 3);
    assert_eq!(object(&outcomes[0]).key.as_str(), Some("in/red flower.jpg"));
    assert_eq!(object(&outcomes[0]).store, Store::S3);
    assert!(why(&outcomes[1]).contains("ObjectTagging:Put"));
    assert_eq!(object(&outcomes[2]).key.as_str(), Some("in/bü.jpg"));
    // Scripts written for OSCAR read the first record.
    for (outcome, record) in [(&outcomes[0], &records[0]), (&outcomes[2], &records[2])] {
        let event = occurrence(outcome).event.clone().unwrap();
        assert_eq!(event, alone(record));
        assert_eq!(read(&event).unwrap(), std::slice::from_ref(outcome));
    }
}

#[test]
fn several_records_of_minio_become_notifications_of_one() {
    let record = &MINIO[MINIO.find("[{").unwrap() + 1..MINIO.len() - 2];
    let two = format!(r#"{{"EventName":"x","Key":"y","Records":[{record},{record}]}}"#);
    let outcomes = read(&two).unwrap();
    assert_eq!(occurrence(&outcomes[1]).event.as_deref(), Some(MINIO));
    assert_eq!(
        occurrence(&outcomes[0]).identity,
        occurrence(&outcomes[1]).identity
    );
}

#[test]
fn what_asks_for_nothing_says_why() {
    let test = r#"{"Service":"Amazon S3","Event":"s3:TestEvent","Time":"2026-03-01T12:00:00.000Z","Bucket":"clips","RequestId":"5582815E1AEA5ADF","HostId":"8cLeGAmw098X5cv4Zkwcmo8vvZa3eH3eKxsPzbB9wrR"}"#;
    assert!(why(&read(test).unwrap()[0]).contains("TestEvent"));
    for name in [
        "ObjectAcl:Put",
        "ObjectTagging:Delete",
        "ObjectRestore:Completed",
        "ObjectRemoved:NoOP",
        "LifecycleTransition",
        "s3:LifecycleDelMarkerExpiration:Delete",
        "s3:ObjectCreated:PutTagging",
        "s3:ObjectCreated:DeleteTagging",
        "s3:ObjectCreated:PutRetention",
        "s3:ObjectCreated:PutLegalHold",
        "s3:ObjectAccessed:Get",
        "s3:Replication:OperationCompletedReplication",
        "s3:BucketCreated:*",
        "s3:Scanner:BigPrefix",
        "s3:TestEvent",
        "Future:Thing",
        "",
    ] {
        let outcomes = read(&aws(&[record(name, "a", "1")])).unwrap();
        assert!(
            why(&outcomes[0]).starts_with(&format!("{name:?}: ")),
            "{name}"
        );
    }
    // Events of a bucket have no object at all.
    let bucket = r#"{"Records":[{"eventVersion":"2.0","eventSource":"minio:s3","eventName":"s3:BucketRemoved:*","s3":{"bucket":{"name":"clips"}}}]}"#;
    assert!(why(&read(bucket).unwrap()[0]).contains("BucketRemoved"));
}

#[test]
fn folder_markers_and_what_looks_like_them() {
    let marker = record("ObjectCreated:Put", "in/", "1").replace(r#""size":1024"#, r#""size":0"#);
    assert!(why(&read(&alone(&marker)).unwrap()[0]).contains("folder"));
    let unsized_marker = marker.replace(r#""size":0,"#, "");
    assert!(why(&read(&aws(&[unsized_marker])).unwrap()[0]).contains("folder"));
    let full = read(&aws(&[record("ObjectCreated:Put", "in/", "1")])).unwrap();
    assert!(object(&full[0]).key.relative_path().is_err());
}

#[test]
fn removals_are_ignored_unless_asked_for() {
    for name in [
        "ObjectRemoved:Delete",
        "s3:ObjectRemoved:DeleteMarkerCreated",
        "s3:ObjectRemoved:DeleteAllVersions",
        "LifecycleExpiration:Delete",
    ] {
        let body = aws(&[record(name, "in/a", "1")]);
        assert_eq!(why(&read(&body).unwrap()[0]), "\"in/a\" was removed");
        let asked = Options {
            removed: true,
            ..Options::default()
        };
        let outcomes = notification(body.as_bytes(), NOW, &asked).unwrap();
        assert_eq!(object(&outcomes[0]).change, Change::Removed);
        let created = identity(&aws(&[record("ObjectCreated:Put", "in/a", "1")]));
        assert_ne!(occurrence(&outcomes[0]).identity, Some(created));
    }
}

#[test]
fn the_same_event_twice_has_one_identity_and_no_other_has_it() {
    let base = record("ObjectCreated:Put", "in/a", "0055AED6DCD90281E5");
    let first = identity(&alone(&base));
    assert_eq!(first, identity(&alone(&base)));
    // What differs between deliveries, or between ways to write the same.
    for (from, to) in [
        ("C3D13FE58DE4C810", "AAAAAAAAAAAAAAAA"),
        ("in/a", "in%2Fa"),
        ("0055AED6DCD90281E5", "55aed6dcd90281e5"),
        ("2026-03-01T12:00:00.000Z", "2026-03-01T12:00:05.000Z"),
        ("ObjectCreated:Put", "ObjectCreated:Copy"),
        (
            r#""eTag":"d41d8cd98f00b204e9800998ecf8427e""#,
            r#""eTag":"\"d41d8cd98f00b204e9800998ecf8427e\"""#,
        ),
    ] {
        let changed = base.replace(from, to);
        assert_ne!(changed, base);
        assert_eq!(first, identity(&aws(&[changed])), "{to}");
    }
    for (from, to) in [
        ("in/a", "in/b"),
        (r#""name":"clips""#, r#""name":"clips2""#),
        ("81E5", "81E6"),
        ("d41d8cd9", "d41d8cd8"),
        (r#""size":1024"#, r#""size":1024,"versionId":"v1""#),
    ] {
        let changed = base.replace(from, to);
        assert_ne!(first, identity(&aws(&[changed])), "{to}");
    }
}

#[test]
fn without_a_sequencer_the_time_tells_events_apart() {
    let base = record("ObjectCreated:Put", "in/a", "1").replace(r#","sequencer":"1""#, "");
    let later = base.replace("12:00:00.000Z", "12:00:01.000Z");
    assert_eq!(identity(&alone(&base)), identity(&alone(&base)));
    assert_ne!(identity(&alone(&base)), identity(&aws(&[later])));
    let neither = base.replace(r#""eventTime":"2026-03-01T12:00:00.000Z","#, "");
    let outcomes = read(&aws(&[neither])).unwrap();
    assert_eq!(occurrence(&outcomes[0]).identity, None);
    assert_eq!(occurrence(&outcomes[0]).time, NOW);
}

#[test]
fn events_of_one_key_are_ordered() {
    let of = |key: &str, sequencer: &str| {
        let outcomes = read(&aws(&[record("ObjectCreated:Put", key, sequencer)])).unwrap();
        object(&outcomes[0]).clone()
    };
    assert_eq!(of("a", "FF").order(&of("a", "100")), Some(Ordering::Less));
    assert_eq!(
        of("a", "0100").order(&of("a", "100")),
        Some(Ordering::Equal)
    );
    assert_eq!(of("a", "1").order(&of("b", "2")), None);
    let mut without = of("a", "1");
    without.sequencer = None;
    assert_eq!(without.order(&of("a", "1")), None);
}

#[test]
fn one_bad_record_takes_no_other_with_it() {
    let good = record("ObjectCreated:Put", "in/a", "1");
    let bad = record("ObjectCreated:Put", "in/100%", "1");
    let outcomes = read(&aws(&[good.clone(), "7".into(), good.clone(), bad])).unwrap();
    assert_eq!(object(&outcomes[0]), object(&outcomes[2]));
    assert_eq!(refused(&outcomes[1]).path, "Records[1]");
    assert_eq!(refused(&outcomes[3]).path, "Records[3].s3.object.key");
    assert!(
        refused(&outcomes[3])
            .to_string()
            .starts_with("Records[3].s3.object.key: has \"%\" at 6")
    );
}

#[test]
fn a_bad_field_is_named() {
    let base = record("ObjectCreated:Put", "KEY", "5EC");
    let long = "x".repeat(1025);
    for (from, to, path, what) in [
        (r#""KEY""#, r#""""#, "s3.object.key", "empty"),
        (r#""KEY""#, r#""a%00b""#, "s3.object.key", "NUL"),
        (r#""KEY""#, r#""a\u0000b""#, "s3.object.key", "NUL"),
        (r#""KEY""#, r#""\ud800""#, "s3.object.key", "no string"),
        (r#""KEY""#, "7", "s3.object.key", "a number, where a string"),
        (r#""KEY""#, "null", "s3.object.key", "missing"),
        ("KEY", &long, "s3.object.key", "1025 bytes"),
        (
            r#""size":1024"#,
            r#""size":-1"#,
            "s3.object.size",
            "whole number",
        ),
        (
            r#""size":1024"#,
            r#""size":1.5"#,
            "s3.object.size",
            "whole number",
        ),
        (
            r#""size":1024"#,
            r#""size":1e400"#,
            "s3.object.size",
            "whole number",
        ),
        (
            r#""size":1024"#,
            r#""size":99999999999999999999"#,
            "s3.object.size",
            "whole number",
        ),
        (
            r#""size":1024"#,
            r#""size":"1024""#,
            "s3.object.size",
            "a string, where a number",
        ),
        ("5EC", "0x5", "s3.object.sequencer", "hexadecimal"),
        ("d41d8cd9", "d41d\\n8cd9", "s3.object.eTag", "printable"),
        (
            r#""name":"clips""#,
            r#""name":"../clips""#,
            "s3.bucket.name",
            "bucket's name",
        ),
        (
            r#""name":"clips""#,
            r#""name":"..""#,
            "s3.bucket.name",
            "bucket's name",
        ),
        (
            r#""name":"clips""#,
            r#""other":"clips""#,
            "s3.bucket.name",
            "missing",
        ),
        (
            r#""eventVersion":"2.6""#,
            r#""eventVersion":"3.0""#,
            "eventVersion",
            "2.x is",
        ),
        (
            r#""eventVersion":"2.6""#,
            r#""eventVersion":"2""#,
            "eventVersion",
            "no version",
        ),
        ("12:00:00.000Z", "noon", "eventTime", "RFC 3339"),
        (
            r#""eventName":"#,
            r#""eventName":[],"x":"#,
            "eventName",
            "an array",
        ),
        (
            r#""key":"KEY""#,
            r#""key":"KEY","key":"b""#,
            "s3.object",
            "\"key\" more than once",
        ),
        (
            r#""s3":{"#,
            r#""s3":1,"x":{"#,
            "s3",
            "a number, where an object",
        ),
        (
            r#""awsRegion""#,
            r#""\u0065ventTime""#,
            "",
            "\"eventTime\" more than once",
        ),
    ] {
        let changed = base.replace(from, to);
        assert_ne!(changed, base, "{from}");
        let outcomes = read(&aws(&[changed])).unwrap();
        let error = refused(&outcomes[0]);
        let path = format!("Records[0]{}{path}", if path.is_empty() { "" } else { "." });
        assert_eq!(error.path, path, "{error}");
        assert!(error.what.contains(what), "{error}");
    }
    // Where the source is not one that OSCAR knows, only the address for stores takes it for a record.
    for (source, path) in [
        ("\"narnia\"", "Records[0].eventSource"),
        ("7", "Records[0].eventSource"),
    ] {
        let body = aws(&[base.replace("\"aws:s3\"", source)]);
        let outcomes = notification(body.as_bytes(), NOW, &Options::default()).unwrap();
        assert_eq!(refused(&outcomes[0]).path, path);
    }
    let ceph = aws(&[base.replace("aws:s3", "ceph:s3")]);
    let outcomes = notification(ceph.as_bytes(), NOW, &Options::default()).unwrap();
    assert_eq!(object(&outcomes[0]).store, Store::OtherS3);
}

#[test]
fn messages_that_are_no_notifications() {
    let read = |body: &[u8]| notification(body, NOW, &Options::default()).unwrap_err();
    for (body, path, what) in [
        (&b""[..], "", "no JSON"),
        (b"{", "", "no JSON"),
        (b"[]", "", "an array, where an object"),
        (b"{}", "Records", "missing"),
        (br#"{"Records":[]}"#, "Records", "empty"),
        (br#"{"Records":{}}"#, "Records", "an object, where an array"),
        (br#"{"Records":[1]} x"#, "", "no JSON"),
        (b"{\"a\":\"\xff\"}", "", "no UTF-8 at byte 6"),
    ] {
        let error = read(body);
        assert_eq!(error.path, path, "{error}");
        assert!(error.what.contains(what), "{error}");
        assert_eq!(error.reason, Reason::Malformed);
    }
    for end in 0..MINIO.len() {
        read(&MINIO.as_bytes()[..end]);
    }
}

#[test]
fn bounds() {
    let record = record("ObjectCreated:Put", "a", "1");
    let body = aws(&vec![record.clone(); 1001]);
    let error = read(&body).unwrap_err();
    assert_eq!(
        (error.reason, error.path.as_str()),
        (Reason::TooLarge, "Records")
    );
    assert_eq!(read(&aws(&vec![record.clone(); 1000])).unwrap().len(), 1000);

    let small = Options {
        body: 100,
        ..Options::default()
    };
    let error = notification(alone(&record).as_bytes(), NOW, &small).unwrap_err();
    assert_eq!(error.reason, Reason::TooLarge);

    // An event that no variable can hold is an event all the same.
    let wide = record.replace("C3D13FE58DE4C810", &"x".repeat(200_000));
    let outcomes = read(&aws(&[wide])).unwrap();
    assert_eq!(occurrence(&outcomes[0]).event, None);
}
