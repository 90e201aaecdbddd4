//! Traces, as a collector gets them.

use crate::harness::Runner;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, channel};

/// Takes what is posted to it.
fn collector() -> (String, Receiver<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let (sender, received) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() == 1 {
                head.push(byte[0]);
            }
            let head = String::from_utf8(head).unwrap().to_lowercase();
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "));
            let mut body = vec![0; length.unwrap().parse().unwrap()];
            stream.read_exact(&mut body).unwrap();
            // Before the answer, so that all is here when the runner has gone.
            if sender.send(body).is_err() {
                return;
            }
            stream
                .write_all(b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n")
                .unwrap();
        }
    });
    (address, received)
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn events_jobs_and_attempts_are_within_one_another_and_programs_know_their_span() {
    let (address, received) = collector();
    let folder = tempfile::tempdir().unwrap();
    let variables = [("OTEL_EXPORTER_OTLP_ENDPOINT", &*address)];
    let runner = Runner::start_with(folder.path(), &["--engine", "process"], &variables);
    let tell = "echo $TRACEPARENT; [ -e $RGPU_FUNCTION_DIR/again ] || { touch $RGPU_FUNCTION_DIR/again; exit 1; }; echo x > $TMP_OUTPUT_DIR/x";
    let fields = format!(
        "directory: {}\nretry: {{ attempts: 2, min_wait: 1ms, max_wait: 1ms }}\noutput: [{{ path: first/out }}]",
        folder.path().display()
    );
    runner.define("first", tell, &fields);
    runner.define(
        "second",
        "echo $TRACEPARENT",
        "depends_on: first\neach: file",
    );
    let run = runner.call("POST", "/job/first", &[], b"");
    assert_eq!(run.status, 201);
    let first = runner.finished(&run.job());
    assert_eq!(first["state"], "SUCCEEDED", "{first}");
    let told = runner.log(&first).trim().to_owned();
    let second = runner.only_job("second");
    let told_second = runner.log(&second).trim().to_owned();
    assert!(runner.stop().success());

    let mut spans: Vec<Span> = Vec::new();
    while let Ok(body) = received.try_recv() {
        let request = ExportTraceServiceRequest::decode(&body[..]).unwrap();
        let scopes = request
            .resource_spans
            .into_iter()
            .flat_map(|it| it.scope_spans);
        spans.extend(scopes.flat_map(|it| it.spans));
    }
    let of = |job: &serde_json::Value, name: &str| {
        let id = job["id"].as_str().unwrap();
        let is_of = |span: &&Span| {
            span.name == name
                && span
                    .attributes
                    .iter()
                    .any(|it| format!("{it:?}").contains(id))
        };
        spans.iter().filter(is_of).collect::<Vec<_>>()
    };
    let (event, job, attempts) = (
        of(&first, "event"),
        of(&first, "job"),
        of(&first, "attempt"),
    );
    assert_eq!(
        (event.len(), job.len(), attempts.len()),
        (1, 1, 2),
        "{spans:?}"
    );
    assert!(event[0].parent_span_id.is_empty());
    assert_eq!(job[0].parent_span_id, event[0].span_id);
    for attempt in &attempts {
        assert_eq!(attempt.parent_span_id, job[0].span_id);
        assert!(attempt.end_time_unix_nano >= attempt.start_time_unix_nano);
    }
    // The last attempt's program was told of its own span.
    let name = |span: &Span| {
        format!(
            "00-{}-{}-01",
            hexadecimal(&span.trace_id),
            hexadecimal(&span.span_id)
        )
    };
    let names: Vec<String> = attempts.iter().map(|span| name(span)).collect();
    assert_eq!(told, names[1], "{names:?}");
    assert_ne!(names[0], names[1]);
    // What came from it is in its trace.
    assert_eq!(of(&second, "event")[0].parent_span_id, job[0].span_id);
    assert_eq!(told_second, name(of(&second, "attempt")[0]));
    assert_eq!(of(&second, "job")[0].trace_id, job[0].trace_id);
}
