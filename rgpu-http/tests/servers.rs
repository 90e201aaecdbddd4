//! Against servers that are played here: what they say, and what they do not.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rgpu_http::{Body, Credential, Error, Request, Server};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

/// Reads one request, its body too if it says how long it is, and answers.
fn serve(stream: impl Read + Write, answer: &[u8]) -> String {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert!(reader.read_line(&mut head).unwrap() > 0, "{head}");
    }
    if head.contains("Transfer-Encoding: chunked") {
        while !head.ends_with("\r\n0\r\n\r\n") {
            assert!(reader.read_line(&mut head).unwrap() > 0, "{head}");
        }
    }
    reader.get_mut().write_all(answer).unwrap();
    reader.get_mut().flush().unwrap();
    head
}

/// A server that answers once; what it was asked.
fn once(answer: &'static [u8]) -> (String, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let server = std::thread::spawn(move || serve(listener.accept().unwrap().0, answer));
    (address, server)
}

fn server(address: &str) -> Server {
    let token = Credential::Token("s3cret-of-the-test".into());
    Server::new(address, &token, None).unwrap()
}

#[test]
fn an_answer_without_a_length_ends_with_the_connection() {
    let (address, asked) =
        once(b"HTTP/1.0 404 Not Found\r\nX-Job-Id: j1\r\n\r\n{\"error\":\"no \x1b[2J\"}");
    let request = Request::get("/system/services/a?b=c").accept("application/json");
    let answer = server(&address).ask(request).unwrap();
    assert_eq!(answer.status, 404);
    assert_eq!(answer.headers["x-job-id"], "j1");
    // A character that would do something to a terminal makes it no JSON.
    assert_eq!(answer.reason(), "HTTP status 404");
    let asked = asked.join().unwrap();
    assert!(
        asked.starts_with("GET /system/services/a?b=c HTTP/1.1\r\n"),
        "{asked}"
    );
    assert!(
        asked.contains("Authorization: Bearer s3cret-of-the-test\r\n"),
        "{asked}"
    );
    assert!(
        asked.contains(&format!("Host: {}\r\n", &address[7..])),
        "{asked}"
    );
}

#[test]
fn pieces_come_as_they_are_sent_and_a_broken_end_is_no_end() {
    let (address, asked) = once(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
    );
    let mut stream = server(&address).open(Request::get("/")).unwrap();
    let mut all = Vec::new();
    while let Some(piece) = stream.piece().unwrap() {
        all.extend(piece);
    }
    assert_eq!(all, b"abcde");
    asked.join().unwrap();
    let (address, asked) =
        once(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n9\r\nde");
    let error = server(&address).ask(Request::get("/")).unwrap_err();
    assert!(matches!(error, Error::Broken(..)), "{error}");
    asked.join().unwrap();
}

#[test]
fn a_body_is_sent_as_it_is_read() {
    let (address, asked) = once(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n");
    let body = Body::Base64(Box::new(&b"hello"[..]));
    let request = Request::new(rgpu_http::Method::POST, "/run/f").body(body);
    assert_eq!(server(&address).ask(request).unwrap().status, 201);
    assert!(asked.join().unwrap().contains("\r\naGVsbG8=\r\n"));
}

#[test]
fn unix_sockets() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let listener = UnixListener::bind(&path).unwrap();
    let asked = std::thread::spawn(move || {
        serve(
            listener.accept().unwrap().0,
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        )
    });
    let server = server(&format!("unix://{}", path.display()));
    assert_eq!(server.ask(Request::get("/health")).unwrap().text(), "ok");
    assert!(asked.join().unwrap().contains("Host: localhost\r\n"));
}

#[test]
fn redirections_are_answers_and_not_followed() {
    let (elsewhere, _) = once(b"HTTP/1.1 200 OK\r\n\r\n");
    let answer =
        format!("HTTP/1.1 302 Found\r\nLocation: {elsewhere}/\r\nContent-Length: 0\r\n\r\n");
    let answer: &'static str = answer.leak();
    let (address, _) = once(answer.as_bytes());
    assert_eq!(server(&address).ask(Request::get("/")).unwrap().status, 302);
}

#[test]
fn silence_too_much_and_nonsense_are_errors() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let silent = server(&address).patience(Duration::from_millis(50));
    let error = silent.ask(Request::get("/")).unwrap_err().to_string();
    assert!(error.contains("nothing within"), "{error}");
    let (address, _) = once(b"HTTP/1.0 200 OK\r\n\r\n12345");
    let error = server(&address).most(4).ask(Request::get("/")).unwrap_err();
    assert!(matches!(error, Error::TooLong(_, 4)), "{error}");
    for odd in [&b"SSH-2.0-x\r\n\r\n"[..], b"HTTP/1.1 \xff\r\n\r\n", b""] {
        let (address, _) = once(odd);
        let error = server(&address).ask(Request::get("/")).unwrap_err();
        assert!(matches!(error, Error::Broken(..)), "{error}");
        assert!(!format!("{error} {error:?}").contains("s3cret"));
    }
    let error = server("http://127.0.0.1:1")
        .ask(Request::get("/"))
        .unwrap_err();
    assert!(matches!(error, Error::Unreachable(..)), "{error}");
}

#[test]
fn nothing_is_sent_that_would_begin_a_line_of_its_own() {
    let server = server("http://127.0.0.1:1");
    for path in ["/a\r\nX: y", "/a b", "/\0"] {
        let error = server.ask(Request::get(path)).unwrap_err();
        assert!(matches!(error, Error::Input(_)), "{path:?}: {error}");
    }
    assert!(Request::get("/").header("idempotency-key", "a\nb").is_err());
    assert!(Server::new("http://h", &Credential::Token("a\nb".into()), None).is_err());
    let shown = format!("{server:?}");
    assert!(!shown.contains("s3cret"), "{shown}");
}

#[test]
fn a_server_with_a_certificate_is_believed_for_its_authority_alone() {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    let lines = STANDARD.encode(made.cert.der());
    let lines: Vec<_> = lines
        .as_bytes()
        .chunks(64)
        .map(String::from_utf8_lossy)
        .collect();
    let pem = format!(
        "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
        lines.join("\n")
    );
    std::fs::write(&ca, pem).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!(
        "https://localhost:{}",
        listener.local_addr().unwrap().port()
    );
    let asked = std::thread::spawn(move || {
        let connect = || {
            let connection = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            rustls::StreamOwned::new(connection, listener.accept().unwrap().0)
        };
        // Who does not believe it asks nothing.
        let mut doubted = connect();
        assert!(doubted.read(&mut [0; 1]).is_err());
        drop(doubted);
        serve(connect(), b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    });
    let error = server(&address).ask(Request::get("/")).unwrap_err();
    assert!(error.to_string().contains("certificate"), "{error}");
    let believing = Server::new(&address, &Credential::None, Some(&ca)).unwrap();
    assert_eq!(believing.ask(Request::get("/health")).unwrap().text(), "ok");
    assert!(
        asked
            .join()
            .unwrap()
            .starts_with("GET /health HTTP/1.1\r\n")
    );
    std::fs::write(&ca, "nothing").unwrap();
    assert!(Server::new(&address, &Credential::None, Some(&ca)).is_err());
}
