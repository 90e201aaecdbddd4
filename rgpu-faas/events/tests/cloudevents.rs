//! The CloudEvents specification's examples (`formats/json-format.md`, `bindings/http-protocol-binding.md`,
//! `adapters/aws-s3.md`), and what it forbids.

use rgpu_faas_events::{
    EventError, Kind, Message, Object, Occurrence, Options, Outcome, Reason, Request, Store,
    Timestamp, receive,
};
use std::collections::BTreeMap;

const NOW: Timestamp = Timestamp::constant(1_790_000_000, 0);
const JSON: &str = "application/cloudevents+json; charset=UTF-8";
const BATCH: &str = "application/cloudevents-batch+json";

/// What an example says about the event in it.
struct Example {
    json: &'static str,
    id: &'static str,
    content_type: Option<&'static str>,
    data: &'static [u8],
}

/// The JSON format's examples: their attributes and data, and what the same event is in binary mode.
const EXAMPLES: [Example; 6] = [
    Example {
        json: r#"{"specversion":"1.0","type":"com.example.someevent","source":"/mycontext","id":"A234-1234-1234","time":"2018-04-05T17:31:00Z","comexampleextension1":"value","comexampleothervalue":5,"datacontenttype":"application/vnd.apache.thrift.binary","data_base64":"AAEC/w=="}"#,
        id: "A234-1234-1234",
        content_type: Some("application/vnd.apache.thrift.binary"),
        data: b"\x00\x01\x02\xff",
    },
    Example {
        json: r#"{"specversion":"1.0","type":"com.example.someevent","source":"/mycontext","id":"B234-1234-1234","time":"2018-04-05T17:31:00Z","comexampleextension1":"value","comexampleothervalue":5,"unsetextension":null,"datacontenttype":"application/xml","data":"<much wow=\"xml\"/>"}"#,
        id: "B234-1234-1234",
        content_type: Some("application/xml"),
        data: br#"<much wow="xml"/>"#,
    },
    Example {
        json: r#"{"specversion":"1.0","type":"com.example.someevent","source":"/mycontext","subject":null,"id":"C234-1234-1234","time":"2018-04-05T17:31:00Z","comexampleextension1":"value","comexampleothervalue":5,"datacontenttype":"application/json","data":{"appinfoA":"abc","appinfoB":123,"appinfoC":true}}"#,
        id: "C234-1234-1234",
        content_type: Some("application/json"),
        data: br#"{"appinfoA":"abc","appinfoB":123,"appinfoC":true}"#,
    },
    Example {
        json: r#"{"specversion":"1.0","type":"com.example.someevent","source":"/mycontext","subject":null,"id":"C234-1234-1234","time":"2018-04-05T17:31:00Z","comexampleextension1":"value","comexampleothervalue":5,"datacontenttype":"application/json","data":1.5}"#,
        id: "C234-1234-1234",
        content_type: Some("application/json"),
        data: b"1.5",
    },
    Example {
        json: r#"{"specversion":"1.0","type":"com.example.someevent","source":"/mycontext","subject":null,"id":"D234-1234-1234","time":"2018-04-05T17:31:00Z","comexampleextension1":"value","comexampleothervalue":5,"data":"I'm just a string"}"#,
        id: "D234-1234-1234",
        content_type: Some("application/json"),
        data: br#""I'm just a string""#,
    },
    Example {
        json: r#"{"specversion":"1.0","type":"com.example.someevent","source":"/mycontext","id":"D234-1234-1234","data_base64":"eyAieHl6IjogMTIzIH0="}"#,
        id: "D234-1234-1234",
        content_type: None,
        data: br#"{ "xyz": 123 }"#,
    },
];

fn send(headers: &[(&str, &str)], body: &[u8]) -> Result<Vec<Outcome>, EventError> {
    let headers: Vec<(&str, &[u8])> = headers.iter().map(|(n, v)| (*n, v.as_bytes())).collect();
    let request = Request {
        headers: &headers,
        body,
    };
    receive(&request, NOW, &Options::default())
}

fn structured(body: &str) -> Result<Vec<Outcome>, EventError> {
    send(&[("content-type", JSON)], body.as_bytes())
}

fn one(outcomes: Result<Vec<Outcome>, EventError>) -> Occurrence {
    match &outcomes.unwrap()[..] {
        [Outcome::Occurrence(occurrence)] => (**occurrence).clone(),
        other => panic!("{other:?}"),
    }
}

fn message(occurrence: &Occurrence) -> &Message {
    match &occurrence.kind {
        Kind::Message(message) => message,
        other => panic!("{other:?}"),
    }
}

fn object(occurrence: &Occurrence) -> &Object {
    match &occurrence.kind {
        Kind::Object(object) => object,
        other => panic!("{other:?}"),
    }
}

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(n, v)| (n.to_string(), v.to_string()))
        .collect()
}

#[test]
fn structured_examples_and_the_same_in_binary_mode() {
    for example in &EXAMPLES {
        let event = one(structured(example.json));
        let message = message(&event);
        assert_eq!(message.body, example.data);
        assert_eq!(message.content_type.as_deref(), example.content_type);
        assert_eq!(event.event.as_deref(), Some(example.json));
        assert_eq!(message.attributes["id"], example.id);
        assert_eq!(message.attributes["source"], "/mycontext");
        assert_eq!(message.attributes["type"], "com.example.someevent");
        let full = message.attributes.contains_key("time");
        if full {
            assert_eq!(event.time.to_string(), "2018-04-05T17:31:00Z");
            assert_eq!(message.attributes["comexampleextension1"], "value");
            assert_eq!(message.attributes["comexampleothervalue"], "5");
        } else {
            assert_eq!(event.time, NOW);
        }
        assert!(!message.attributes.contains_key("unsetextension"));
        assert!(!message.attributes.contains_key("subject"));

        let names: Vec<String> = message
            .attributes
            .keys()
            .map(|name| format!("ce-{name}"))
            .collect();
        let headers: Vec<(&str, &str)> = message
            .attributes
            .iter()
            .zip(&names)
            .map(|((name, value), header)| match name.as_str() {
                "datacontenttype" => ("content-type", value.as_str()),
                _ => (header.as_str(), value.as_str()),
            })
            .collect();
        let binary = one(send(&headers, example.data));
        assert_eq!(
            (&binary.kind, &binary.identity, binary.time),
            (&event.kind, &event.identity, event.time)
        );
        // What a script is told of it is an event in the JSON format, and the same one.
        let told = one(structured(binary.event.as_deref().unwrap()));
        assert_eq!((told.kind, told.identity), (event.kind, event.identity));
    }
}

#[test]
fn the_binding_s_binary_example() {
    let event = one(send(
        &[
            ("Host", "webhook.example.com"),
            ("ce-specversion", "1.0"),
            ("CE-Type", "com.example.someevent"),
            ("ce-time", "2018-04-05T03:56:24Z"),
            ("ce-id", "1234-1234-1234"),
            ("ce-source", "/mycontext/subcontext"),
            ("Ce-Note", "Euro%20%E2%82%AC%20%F0%9F%98%80"),
            ("Content-Type", "application/json; charset=utf-8"),
        ],
        b"{ \"n\": 1.50 }",
    ));
    assert_eq!(event.time.to_string(), "2018-04-05T03:56:24Z");
    let attributes = map(&[
        ("specversion", "1.0"),
        ("type", "com.example.someevent"),
        ("time", "2018-04-05T03:56:24Z"),
        ("id", "1234-1234-1234"),
        ("source", "/mycontext/subcontext"),
        ("note", "Euro € 😀"),
        ("datacontenttype", "application/json; charset=utf-8"),
    ]);
    assert_eq!(message(&event).attributes, attributes);
    assert_eq!(message(&event).body, b"{ \"n\": 1.50 }");
    assert!(event.event.unwrap().contains(r#""data":{ "n": 1.50 }"#));
}

#[test]
fn batches() {
    assert_eq!(send(&[("content-type", BATCH)], b"[]"), Ok(vec![]));
    let batch = format!("[{},\n {}]", EXAMPLES[0].json, EXAMPLES[2].json);
    let outcomes = send(&[("content-type", BATCH)], batch.as_bytes()).unwrap();
    let alone = [
        one(structured(EXAMPLES[0].json)),
        one(structured(EXAMPLES[2].json)),
    ];
    assert_eq!(
        outcomes,
        alone.map(|event| Outcome::Occurrence(Box::new(event)))
    );

    // One that is wrong takes no other with it.
    let batch = format!(
        "[{},7,{{\"specversion\":\"1.0\"}},{}]",
        EXAMPLES[0].json, EXAMPLES[1].json
    );
    let outcomes = send(&[("content-type", BATCH)], batch.as_bytes()).unwrap();
    let paths = outcomes.iter().map(|outcome| match outcome {
        Outcome::Refused(error) => error.path.as_str(),
        _ => "good",
    });
    assert_eq!(paths.collect::<Vec<_>>(), ["good", "[1]", "[2].id", "good"]);

    let error = send(&[("content-type", BATCH)], EXAMPLES[0].json.as_bytes()).unwrap_err();
    assert!(error.what.contains("an object, where an array"), "{error}");
    let many = format!("[{}1]", "1,".repeat(1000));
    let error = send(&[("content-type", BATCH)], many.as_bytes()).unwrap_err();
    assert_eq!(error.reason, Reason::TooLarge);
}

#[test]
fn identity_is_source_and_id() {
    let of = |source: &str, id: &str, rest: &str| {
        let body =
            format!(r#"{{"specversion":"1.0","type":"t","source":"{source}","id":"{id}"{rest}}}"#);
        one(structured(&body)).identity.unwrap()
    };
    assert_eq!(
        of("/a", "1", ""),
        of("/a", "1", r#","data":1,"time":"2018-04-05T03:56:24Z""#)
    );
    assert_ne!(of("/a", "1", ""), of("/a", "2", ""));
    assert_ne!(of("/a", "11", ""), of("/a1", "1", ""));
}

#[test]
fn structured_events_that_are_wrong() {
    let base = r#"{"specversion":"1.0","type":"t","source":"/s","id":"1","data":1}"#;
    assert!(structured(base).is_ok());
    for (from, to, path, what) in [
        (r#""id":"1","#, "", "id", "missing"),
        (r#""id":"1""#, r#""id":null"#, "id", "missing"),
        (r#""id":"1""#, r#""id":"""#, "id", "empty"),
        (r#""id":"1""#, r#""id":7"#, "id", "a number, where a string"),
        (r#""id":"1""#, r#""id":"a\nb""#, "id", "U+000A"),
        (r#""id":"1""#, r#""id":"a\u0085b""#, "id", "U+0085"),
        (r#""id":"1""#, r#""id":"a\ufdd0b""#, "id", "U+FDD0"),
        (r#""id":"1""#, r#""id":"\ud83f\udfff""#, "id", "U+1FFFF"),
        (r#""id":"1""#, r#""id":"\udead""#, "id", "no string"),
        (
            r#""id":"1""#,
            r#""id":"1","id":"2""#,
            "",
            "\"id\" more than once",
        ),
        (r#""type":"t""#, r#""type":"""#, "type", "empty"),
        (
            r#""source":"/s""#,
            r#""source":"""#,
            "source",
            "URI reference",
        ),
        (
            r#""source":"/s""#,
            r#""source":"/a b""#,
            "source",
            "URI reference",
        ),
        (
            r#""source":"/s""#,
            r#""source":"/%zz""#,
            "source",
            "URI reference",
        ),
        (
            r#""specversion":"1.0""#,
            r#""specversion":"0.3""#,
            "specversion",
            "1.0 is",
        ),
        (
            r#""specversion":"1.0""#,
            r#""specversion":1.0"#,
            "specversion",
            "a number, where a string",
        ),
        (
            r#""data":1"#,
            r#""data":1,"time":"yesterday""#,
            "time",
            "RFC 3339",
        ),
        (
            r#""data":1"#,
            r#""data":1,"subject":"""#,
            "subject",
            "empty",
        ),
        (
            r#""data":1"#,
            r#""data":1,"dataschema":"/relative""#,
            "dataschema",
            "URI",
        ),
        (
            r#""data":1"#,
            r#""data":1,"datacontenttype":"json""#,
            "datacontenttype",
            "media type",
        ),
        (
            r#""data":1"#,
            r#""data":1,"Ext":"x""#,
            "",
            "has \"Ext\", which is no attribute's name",
        ),
        (
            r#""data":1"#,
            r#""data":1,"ex_t":"x""#,
            "",
            "no attribute's name",
        ),
        (
            r#""data":1"#,
            r#""data":1,"":"x""#,
            "",
            "no attribute's name",
        ),
        (r#""data":1"#, r#""data":1,"ext":1.5"#, "ext", "32 bits"),
        (
            r#""data":1"#,
            r#""data":1,"ext":2147483648"#,
            "ext",
            "32 bits",
        ),
        (
            r#""data":1"#,
            r#""data":1,"ext":{}"#,
            "ext",
            "an object, where a string",
        ),
        (
            r#""data":1"#,
            r#""data":1,"data_base64":"AA==""#,
            "data",
            "beside data_base64",
        ),
        (
            r#""data":1"#,
            r#""data_base64":"A""#,
            "data_base64",
            "no base64",
        ),
        (
            r#""data":1"#,
            r#""data_base64":"AA""#,
            "data_base64",
            "no base64",
        ),
        (
            r#""data":1"#,
            r#""data_base64":"A A=""#,
            "data_base64",
            "no base64",
        ),
        (
            r#""data":1"#,
            r#""data_base64":1"#,
            "data_base64",
            "a number, where a string",
        ),
        (
            r#""data":1"#,
            r#""data":1,"datacontenttype":"text/plain""#,
            "data",
            "a number, where a string",
        ),
        (
            r#""data":1"#,
            r#""data":"x","datacontenttype":"text/plain;charset=latin1""#,
            "data",
            "data_base64",
        ),
    ] {
        let body = base.replace(from, to);
        assert_ne!(body, base, "{from}");
        let error = structured(&body).expect_err(&body);
        assert_eq!(error.path, path, "{body}: {error}");
        assert!(error.what.contains(what), "{body}: {error}");
    }
    for body in ["", "7", "[]", "{", base.strip_suffix('}').unwrap()] {
        assert!(structured(body).is_err(), "{body}");
    }
    let long = base.replace(r#""id":"1""#, &format!(r#""id":"{}""#, "x".repeat(4097)));
    assert_eq!(structured(&long).unwrap_err().reason, Reason::TooLarge);
    let many: String = (0..100).map(|n| format!(r#""e{n}":"x","#)).collect();
    let many = base.replace(r#""id":"1""#, &format!(r#"{many}"id":"1""#));
    assert_eq!(structured(&many).unwrap_err().reason, Reason::TooLarge);
}

#[test]
fn extensions_have_canonical_strings() {
    let event = one(structured(
        r#"{"specversion":"1.0","type":"t","source":"/s","id":"1","a":true,"b":-2147483648,"c":-0,"d":"","data":null}"#,
    ));
    let attributes = &message(&event).attributes;
    let values = ["a", "b", "c", "d"].map(|name| attributes[name].as_str());
    assert_eq!(values, ["true", "-2147483648", "0", ""]);
    assert_eq!(message(&event).body, b"null", "an explicit null is data");
}

#[test]
fn binary_events_that_are_wrong() {
    let base = [
        ("ce-specversion", "1.0"),
        ("ce-type", "t"),
        ("ce-source", "/s"),
        ("ce-id", "1"),
    ];
    assert!(send(&base, b"").is_ok());
    for missing in 0..base.len() {
        let headers: Vec<_> = (0..4).filter(|n| *n != missing).map(|n| base[n]).collect();
        let error = send(&headers, b"").unwrap_err();
        assert_eq!(error.path, base[missing].0);
    }
    for (name, value, path, what) in [
        ("ce-id", "2", "ce-id", "more than once"),
        ("CE-ID", "2", "ce-id", "more than once"),
        (
            "ce-datacontenttype",
            "text/plain",
            "ce-datacontenttype",
            "Content-Type",
        ),
        ("ce-data", "x", "ce-data", "no attribute's name"),
        ("ce-", "x", "ce-", "no attribute's name"),
        ("ce-a-b", "x", "ce-a-b", "no attribute's name"),
        ("ce-x", "%C0%A0", "ce-x", "no UTF-8"),
        ("ce-x", "%0A", "ce-x", "U+000A"),
        ("ce-x", "%", "ce-x", "%25"),
        ("ce-x", "\"", "ce-x", "quoted string"),
        ("ce-time", "1", "ce-time", "RFC 3339"),
        ("content-type", "nonsense", "Content-Type", "media type"),
    ] {
        let mut headers = base.to_vec();
        headers.push((name, value));
        let error = send(&headers, b"").expect_err(name);
        assert_eq!(error.path, path, "{error}");
        assert!(error.what.contains(what), "{error}");
    }
    let long = "x".repeat(20_000);
    let mut headers = base.to_vec();
    headers.push(("ce-x", &long));
    assert_eq!(send(&headers, b"").unwrap_err().reason, Reason::TooLarge);
    for format in [
        "application/cloudevents+avro",
        "application/cloudevents-batch+xml",
    ] {
        let error = send(&[("content-type", format)], b"").unwrap_err();
        assert_eq!(
            (error.reason, error.path.as_str()),
            (Reason::Unsupported, "Content-Type")
        );
    }
}

#[test]
fn data_of_any_size_is_passed_on_and_told_of() {
    let base = [
        ("ce-specversion", "1.0"),
        ("ce-type", "t"),
        ("ce-source", "/s"),
        ("ce-id", "1"),
    ];
    let large = vec![0xff; 1 << 20];
    let event = one(send(&base, &large));
    assert_eq!(message(&event).body, large);
    let told = event.event.unwrap();
    assert!(told.len() < 200 && told.contains(r#""id":"1""#), "{told}");

    let body = format!(
        r#"{{"specversion":"1.0","type":"t","source":"/s","id":"1","data":[{}1]}}"#,
        "1,".repeat(500_000)
    );
    let event = one(structured(&body));
    assert_eq!(message(&event).body.len(), 1_000_003);
    assert!(event.event.unwrap().len() < 200);

    let body = vec![b' '; (16 << 20) + 1];
    assert_eq!(send(&base, &body).unwrap_err().reason, Reason::TooLarge);
}

const RECORD: &str = r#"{"eventVersion":"2.1","eventSource":"aws:s3","awsRegion":"us-west-2","eventTime":"2026-03-01T12:00:00.000Z","eventName":"ObjectCreated:Put","responseElements":{"x-amz-request-id":"C3D13FE58DE4C810","x-amz-id-2":"FMyUVURIY8"},"s3":{"s3SchemaVersion":"1.0","bucket":{"name":"clips"},"object":{"key":"in%2Fa+b.dcm","size":1024,"eTag":"d41d8cd9","sequencer":"0055AED6DCD90281E5"}}}"#;

/// As `adapters/aws-s3.md` makes them.
fn adapted(data: &str) -> String {
    format!(
        r#"{{"specversion":"1.0","id":"C3D13FE58DE4C810.FMyUVURIY8","source":"aws:s3.us-west-2.clips","type":"com.amazonaws.s3.ObjectCreated:Put","datacontenttype":"application/json","subject":"in%2Fa+b.dcm","time":"2026-03-01T12:00:00.000Z","data":{data}}}"#
    )
}

#[test]
fn events_of_s3_s_adapter_are_events_of_s3() {
    let notification = format!(r#"{{"Records":[{RECORD}]}}"#);
    let direct = one(send(&[], notification.as_bytes()));
    assert_eq!(object(&direct).store, Store::S3);
    assert_eq!(object(&direct).key.as_str(), Some("in/a b.dcm"));
    for data in [RECORD, &notification] {
        let event = one(structured(&adapted(data)));
        assert_eq!(
            event, direct,
            "the same by either way, so that it is worked on once"
        );
    }
    let binary = one(send(
        &[
            ("ce-specversion", "1.0"),
            ("ce-id", "C3D13FE58DE4C810.FMyUVURIY8"),
            ("ce-source", "aws:s3.us-west-2.clips"),
            ("ce-type", "com.amazonaws.s3.ObjectCreated:Put"),
            ("content-type", "application/json"),
        ],
        RECORD.as_bytes(),
    ));
    assert_eq!(binary, direct);

    let tagged = adapted(&RECORD.replace("ObjectCreated:Put", "ObjectTagging:Put"));
    assert!(matches!(
        &structured(&tagged).unwrap()[..],
        [Outcome::Ignored(_)]
    ));
    // Where the record has neither sequencer nor time, the envelope says which event it is.
    let bare = RECORD
        .replace(r#","sequencer":"0055AED6DCD90281E5""#, "")
        .replace(r#""eventTime":"2026-03-01T12:00:00.000Z","#, "");
    let event = one(structured(&adapted(&bare)));
    assert!(event.identity.is_some());
    assert_eq!(event.time, direct.time);

    for (data, path) in [
        ("7", "data"),
        ("{}", "data.eventSource"),
        (&*RECORD.replace("in%2Fa", "in%2"), "data.s3.object.key"),
    ] {
        let error = structured(&adapted(data)).unwrap_err();
        assert_eq!(error.path, path, "{error}");
    }
    let error = structured(&adapted("7").replace(r#","data":7"#, "")).unwrap_err();
    assert!(error.what.contains("missing"), "{error}");
    let twice = adapted(&format!(
        r#"{{"Records":[{RECORD},{}]}}"#,
        RECORD.replace("in%2F", "%zz")
    ));
    match &structured(&twice).unwrap()[..] {
        [Outcome::Occurrence(_), Outcome::Refused(error)] => {
            assert_eq!(error.path, "data.Records[1].s3.object.key");
        }
        other => panic!("{other:?}"),
    }
}
