//! `rgpu usage` against an administration that is played here.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::process::{Command, Output};
use std::thread::JoinHandle;

const TOKEN: &str = "a-token-of-the-tests-0123456789";

/// Answers each of these once, in this order; the requests' first lines.
fn serve(answers: Vec<(&'static str, String)>) -> (String, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("tcp://{}", listener.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        let one = |(status, body): (&str, String)| {
            let (stream, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(stream);
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                assert!(reader.read_line(&mut head).unwrap() > 0, "{head}");
            }
            assert!(
                head.contains(&format!("Authorization: Bearer {TOKEN}\r\n")),
                "{head}"
            );
            write!(reader.get_mut(), "HTTP/1.0 {status}\r\n\r\n{body}").unwrap();
            head.lines().next().unwrap().to_owned()
        };
        answers.into_iter().map(one).collect()
    });
    (address, server)
}

fn usage(address: &str, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_rgpu"))
        .arg("usage")
        .args(arguments)
        .args(["--admin", address])
        .env_remove("RGPU_TOKEN_FILE")
        .env("RGPU_TOKEN", TOKEN)
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn row(tenant: &str) -> String {
    format!(
        r#"{{"tenant":"{tenant}","sessions":2,"seconds":9000.0,"gpu_seconds":1.5,"memory_mib_seconds":3686400.0,"bytes_in":1536,
            "bytes_out":12,"calls":7,"launches":3,"peak_mib":512.0,"cost":0.25,"currency":"EUR"}}"#
    )
}

#[test]
fn sums_are_a_table_of_all_parts_of_the_answer() {
    let (address, server) = serve(vec![
        (
            "200 OK",
            format!("{{\"rows\":[{}],\"next\":1}}", row("alice")),
        ),
        ("200 OK", format!("{{\"rows\":[{}]}}", row("b\\u001b[2Job"))),
    ]);
    let output = usage(
        &address,
        &[
            "--from",
            "2026-01-01",
            "--by",
            "tenant,hour",
            "--tenant",
            "a&b",
        ],
    );
    let asked = server.join().unwrap();
    let path = "GET /v1/usage?tenant=a%26b&from=2026-01-01&group_by=tenant,hour&limit=10000";
    assert_eq!(
        asked,
        [
            format!("{path} HTTP/1.1"),
            format!("{path}&offset=1 HTTP/1.1")
        ]
    );
    let table = text(&output.stdout);
    let lines: Vec<&str> = table.lines().collect();
    assert!(
        lines[0].starts_with("tenant ") && lines[0].contains("GPU") && lines[0].contains("cost"),
        "{table}"
    );
    assert!(lines[1].starts_with("alice"), "{table}");
    for words in [
        "2.5 h",
        "1.50 s",
        "1.000 GiB·h",
        "512.0 MiB",
        "1.5 KiB",
        "12 B",
        "0.250000  EUR",
    ] {
        assert!(lines[1].contains(words), "{words}: {table}");
    }
    // What a client calls itself does nothing to a terminal.
    assert!(lines[2].starts_with("b\u{fffd}[2Job"), "{table}");
}

#[test]
fn other_lists_and_formats() {
    let (address, server) = serve(vec![("200 OK", "{\"rows\":[],\"seconds\":300.0}".into())]);
    let output = usage(&address, &["idle"]);
    assert_eq!(
        text(&output.stdout),
        "no session holds memory and has done nothing for 300.0 s\n"
    );
    assert_eq!(server.join().unwrap(), ["GET /v1/usage/idle? HTTP/1.1"]);
    let (address, server) = serve(vec![("200 OK", "record,session\r\n2,5\r\n".into())]);
    let output = usage(&address, &["sessions", "--last", "1h", "--format", "csv"]);
    assert_eq!(text(&output.stdout), "record,session\r\n2,5\r\n");
    assert!(server.join().unwrap()[0].contains("&format=csv&limit=10000"));
    let (address, _) = serve(vec![("200 OK", "{\"rows\":[1]}".into())]);
    let output = usage(&address, &["alerts", "--format", "json"]);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["rows"][0], 1);
}

#[test]
fn what_is_wrong_is_said() {
    let body = r#"{"error":"group_by=x: one of tenant, function","code":"invalid"}"#;
    let (address, _) = serve(vec![("400 Bad Request", body.into())]);
    let output = usage(&address, &["--by", "x"]);
    assert!(!output.status.success());
    assert!(
        text(&output.stderr).contains("group_by=x: one of tenant"),
        "{output:?}"
    );
    let nobody = usage("tcp://127.0.0.1:1", &[]);
    assert!(text(&nobody.stderr).contains("--admin"), "{nobody:?}");
    for (arguments, says) in [
        (&["--last", "1y"][..], "write a number and m, h, d or w"),
        (
            &["--last", "1h", "--from", "2026-01-01"],
            "cannot be used with",
        ),
        (&["idle", "--last", "1h"], "are for sums and sessions"),
        (
            &["everything"],
            "possible values: sums, sessions, idle, alerts",
        ),
    ] {
        let output = usage("tcp://127.0.0.1:1", arguments);
        assert!(
            text(&output.stderr).contains(says),
            "{arguments:?}: {output:?}"
        );
    }
}
