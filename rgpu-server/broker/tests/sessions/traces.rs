//! Traces, as a collector gets them.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use prost::Message;

use crate::client::{begin, hello};
use crate::daemon::{Daemon, PATIENCE, command, folder};
use rgpu_proto::handshake::{Hello, Token};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";

/// Takes what is posted to it; each body with its path.
fn collector() -> (String, Receiver<(String, Vec<u8>)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let (sender, received) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut bytes = Vec::new();
            let mut byte = [0];
            while !bytes.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() == 1 {
                bytes.push(byte[0]);
            }
            let head = String::from_utf8(bytes).unwrap();
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(": ")?;
                name.eq_ignore_ascii_case("content-length")
                    .then(|| value.parse().unwrap())
            });
            let mut body = vec![0; length.unwrap()];
            stream.read_exact(&mut body).unwrap();
            let path = head.split(' ').nth(1).unwrap().to_owned();
            // Before the answer, so that all is here when the daemon has gone.
            if sender.send((path, body)).is_err() {
                return;
            }
            stream
                .write_all(b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n")
                .unwrap();
        }
    });
    (address, received)
}

/// All spans that have come, until the collector has been left alone.
fn spans(received: &Receiver<(String, Vec<u8>)>) -> Vec<Span> {
    let mut all = Vec::new();
    let mut patience = PATIENCE;
    while let Ok((path, body)) = received.recv_timeout(patience) {
        assert_eq!(path, "/v1/traces");
        let request = ExportTraceServiceRequest::decode(&body[..]).unwrap();
        let resources = request.resource_spans.into_iter();
        let scopes = resources.flat_map(|it| it.scope_spans);
        all.extend(scopes.flat_map(|it| it.spans));
        // The daemon has gone: what it had to send is here.
        patience = Duration::ZERO;
    }
    all
}

fn text(span: &Span, name: &str) -> String {
    let found = span.attributes.iter().find(|it| it.key == name);
    match found.and_then(|it| it.value.as_ref()?.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        Some(other) => format!("{other:?}"),
        None => String::new(),
    }
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits = hex.as_bytes().chunks(2);
    let text = digits.map(|two| std::str::from_utf8(two).unwrap());
    text.map(|two| u8::from_str_radix(two, 16).unwrap())
        .collect()
}

/// Once with a session, once with one that is refused.
pub fn sessions_are_children_of_their_callers() {
    let (address, received) = collector();
    let folder = folder("");
    let path = folder.path();
    let mut command = command(path, "driver.so");
    command
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", &address)
        .args(["--listen", "tcp://127.0.0.1:0"])
        .arg("--config")
        .arg(path.join("rgpud.toml"));
    let mut daemon = Daemon::from(command, folder);
    let hello = Hello {
        environment: vec![("TRACEPARENT".into(), format!("00-{TRACE}-{CALLER}-01"))],
        ..hello()
    };
    let session = begin(&daemon.listen[0], &hello).unwrap();
    drop(session);
    daemon.logs("session ends");
    let stranger = Hello {
        token: Token::new("a-token-that-is-nobodys"),
        ..hello
    };
    assert!(begin(&daemon.listen[0], &stranger).is_err());
    // What has not been sent goes out at the end.
    assert!(daemon.stop().success());
    let spans = spans(&received);
    let named = |name: &str| {
        spans
            .iter()
            .filter(|it| it.name == name)
            .collect::<Vec<_>>()
    };
    let (sessions, admissions) = (named("session"), named("admission"));
    assert_eq!((sessions.len(), admissions.len()), (2, 2), "{spans:?}");
    for (session, admission) in sessions.iter().zip(admissions) {
        assert_eq!(session.trace_id, bytes(TRACE));
        assert_eq!(session.parent_span_id, bytes(CALLER));
        assert_eq!(session.kind, SpanKind::Server as i32);
        assert_eq!(text(session, "rgpu.client.program"), "test");
        let parents = sessions.iter().map(|it| &it.span_id);
        assert!(
            parents
                .into_iter()
                .any(|it| *it == admission.parent_span_id)
        );
        assert_eq!(admission.trace_id, bytes(TRACE));
    }
    let of = |name: &str, value: &str| {
        let found = sessions.iter().find(|it| text(it, name) == value);
        *found.unwrap_or_else(|| panic!("no session with {name} {value}: {spans:?}"))
    };
    let served = of("rgpu.tenant", "tests");
    assert_eq!(text(served, "rgpu.calls"), "IntValue(7)");
    let refused = of("rgpu.refusal", "unauthenticated");
    let status = refused.status.as_ref().unwrap();
    assert!(
        status.message.contains("the token is not known here"),
        "{status:?}"
    );
}
