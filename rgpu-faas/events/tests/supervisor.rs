//! The same bodies to OSCAR's supervisor and to this crate: what it made of them is recorded by `supervisor.py`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rgpu_faas_events::{Kind, Options, Outcome, Request, Store, Timestamp, receive};
use serde_json::Value;

/// JSON is compared as such: the supervisor writes it anew.
fn same(ours: &[u8], theirs: &[u8]) -> bool {
    let json = |text| serde_json::from_slice::<Value>(text).ok();
    ours == theirs || json(ours).is_some_and(|ours| Some(ours) == json(theirs))
}

#[test]
fn bodies_are_taken_as_the_supervisor_takes_them() {
    let recorded: Vec<Value> = serde_json::from_str(include_str!("supervisor.json")).unwrap();
    let mut compared = 0;
    for theirs in &recorded {
        let body = theirs["body"].as_str().unwrap();
        let request = Request {
            headers: &[],
            body: body.as_bytes(),
        };
        let ours = receive(&request, Timestamp::UNIX_EPOCH, &Options::default());
        if theirs.get("error").is_some() {
            // It ends with an exception; here the sender is told, or a number is the input that it is.
            let number = |text: &[u8]| text.iter().all(u8::is_ascii_digit);
            let told = match &ours {
                Err(_) => true,
                Ok(outcomes) => matches!(
                    &outcomes[..],
                    [Outcome::Occurrence(one)] if matches!(&one.kind, Kind::Message(message) if number(&message.body))
                ),
            };
            assert!(told, "{body}: {ours:?}");
            continue;
        }
        let ours = match &ours.expect(body)[..] {
            [Outcome::Occurrence(one)] => one.clone(),
            other => panic!("{body}: {other:?}"),
        };
        match &ours.kind {
            Kind::Message(message) => {
                assert_eq!(theirs["type"], "UNKNOWN", "{body}");
                let input = STANDARD.decode(theirs["input"].as_str().unwrap()).unwrap();
                assert!(same(&message.body, &input), "{body}: {message:?}");
            }
            Kind::Object(object) => {
                let (store, whole) = match object.store {
                    Store::S3 => ("S3", true),
                    Store::Minio => ("MINIO", true),
                    Store::Onedata => ("ONEDATA", false),
                    Store::Rucio => ("RUCIO", false),
                    other => panic!("{body}: {other:?}"),
                };
                assert_eq!(theirs["type"], store, "{body}");
                assert_eq!(theirs["key"].as_str(), object.key.as_str(), "{body}");
                // Of the others' events it keeps neither scope nor provider.
                if whole {
                    assert_eq!(
                        theirs["bucket"].as_str(),
                        object.bucket.as_deref(),
                        "{body}"
                    );
                    let provider = object.provider.as_deref().unwrap_or("default");
                    assert_eq!(theirs["provider"], provider, "{body}");
                }
            }
            Kind::Tick(_) => panic!("{body}"),
        }
        let event = theirs["event"].as_str().unwrap_or(body);
        let told = ours.event.as_deref().unwrap();
        assert!(same(told.as_bytes(), event.as_bytes()), "{body}: {told}");
        let variables: Value = ours
            .variables
            .into_iter()
            .map(|(name, value)| (name, Value::from(value)))
            .collect();
        assert_eq!(theirs["variables"], variables, "{body}");
        compared += 1;
    }
    assert!(compared > 70, "{compared} of {}", recorded.len());
}
