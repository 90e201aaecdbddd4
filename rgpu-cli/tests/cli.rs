//! The command as users type it, against a server that is played here.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};
use std::thread::JoinHandle;

use rgpu_proto::handshake::{
    Answer, Hello, Limits, RefusalCode, ServerEvent, ServerHandshake, SessionSecret, Welcome,
    refusal,
};
use rgpu_proto::snapshot::{DeviceSnapshot, Snapshot};

const TOKEN: &str = "a-token-of-the-tests-0123456789";

fn rgpu() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rgpu"));
    for name in [
        "RGPU_SERVERS",
        "RGPU_TOKEN",
        "RGPU_TOKEN_FILE",
        "RGPU_CLIENT_LIB",
        "LD_LIBRARY_PATH",
    ] {
        command.env_remove(name);
    }
    command
}

fn words(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// A folder with a client library and a token file.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("lib")).unwrap();
    std::fs::write(folder.path().join("lib/libcuda.so.1"), "").unwrap();
    std::fs::write(folder.path().join("token"), format!("{TOKEN}\n")).unwrap();
    folder
}

/// Answers one greeting as a server with one device would; gives the greeting back.
fn serve() -> (String, JoinHandle<Hello>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("tcp://{}", listener.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut handshake = ServerHandshake::new();
        let mut buffer = [0; 1024];
        let (version, hello) = loop {
            let count = stream.read(&mut buffer).unwrap();
            match handshake.push(&buffer[..count]) {
                ServerEvent::Hello { version, hello } => break (version, hello),
                ServerEvent::NeedMore if count > 0 => {}
                other => panic!("{other:?}"),
            }
        };
        let device = DeviceSnapshot {
            name: "Test Device".into(),
            uuid: *b"\x12\x34\x56\x78\x9a\xbc\xde\xf0\x12\x34\x56\x78\x9a\xbc\xde\xf0",
            pci_bus_id: "0000:07:00.0".into(),
            total_memory: 512 << 20,
            attributes: vec![(75, 8), (76, 6), (16, 4)],
            ..DeviceSnapshot::default()
        };
        let welcome = Welcome {
            session: 1,
            secret: SessionSecret::new([1; 16]),
            server: "rgpud of the tests".into(),
            snapshot: Snapshot {
                driver_version: 12080,
                devices: vec![device],
                p2p: Vec::new(),
            },
            limits: Limits {
                memory: Some(512 << 20),
                ..Limits::default()
            },
            windows: Vec::new(),
            rings: false,
            known: Default::default(),
        };
        let answer = if hello.token.expose() == TOKEN.as_bytes() {
            Answer::Welcome(Box::new(welcome)).encode(version).unwrap()
        } else {
            refusal(RefusalCode::Unauthenticated, "the token is not known here")
        };
        stream.write_all(&answer).unwrap();
        *hello
    });
    (address, server)
}

fn run(folder: &Path, arguments: &[&str]) -> Output {
    rgpu()
        .env("RGPU_CLIENT_LIB", folder.join("lib"))
        .args(arguments)
        .output()
        .unwrap()
}

#[test]
fn run_becomes_the_program() {
    let folder = folder();
    let path = folder.path();
    let token = path.join("token");
    let script = "echo $RGPU_SERVERS; echo $LD_LIBRARY_PATH; echo $RGPU_TOKEN_FILE; echo .$RGPU_TOKEN.; exit 7";
    let output = rgpu()
        .env("RGPU_CLIENT_LIB", path.join("lib"))
        .env("LD_LIBRARY_PATH", "/before")
        .env("RGPU_TOKEN", "another")
        .args([
            "run",
            "--server",
            "tcp://a:1",
            "--server",
            "unix:///b",
            "--transport",
            "unix",
            "--token-file",
        ])
        .arg(&token)
        .args(["--", "sh", "-c", script])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(7));
    let lib = path.join("lib");
    let expected = format!(
        "unix:///b\n{}:/before\n{}\n..\n",
        lib.display(),
        token.display()
    );
    assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
}

#[test]
fn run_tells_its_own_failures_apart() {
    let folder = folder();
    let path = folder.path();
    for (arguments, code, said) in [
        (&["run", "--", "true"][..], 125, "no server"),
        (
            &["run", "--server", "gpu:1", "--", "true"],
            125,
            "tcp://HOST:PORT",
        ),
        (
            &[
                "run",
                "--server",
                "tcp://h:1",
                "--transport",
                "unix",
                "--",
                "true",
            ],
            125,
            "none of the servers",
        ),
        (
            &[
                "run",
                "--server",
                "tcp://h:1",
                "--token-file",
                "/no/such",
                "--",
                "true",
            ],
            125,
            "/no/such",
        ),
        (
            &["run", "--server", "tcp://h:1", "--", "no-such-program-here"],
            127,
            "no-such-program-here",
        ),
        (&["run", "--server", "tcp://h:1", "--", "/"], 126, "denied"),
        (&["run", "--server", "tcp://h:1"], 2, "COMMAND"),
    ] {
        let output = run(path, arguments);
        assert_eq!(
            output.status.code(),
            Some(code),
            "{arguments:?}: {}",
            words(&output)
        );
        assert!(
            words(&output).contains(said),
            "{said:?} is not in: {}",
            words(&output)
        );
    }
    std::fs::remove_file(path.join("lib/libcuda.so.1")).unwrap();
    let output = run(path, &["run", "--server", "tcp://h:1", "--", "true"]);
    assert!(
        words(&output).contains("RGPU_CLIENT_LIB"),
        "{}",
        words(&output)
    );
}

#[test]
fn devices_are_listed() {
    let folder = folder();
    let token = folder.path().join("token");
    for json in [false, true] {
        let (address, server) = serve();
        let mut command = rgpu();
        command
            .args(["devices", "--server", &address, "--token-file"])
            .arg(&token);
        if json {
            command.arg("--json");
        }
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", words(&output));
        assert_eq!(server.join().unwrap().client.program, "rgpu");
        let text = words(&output);
        for part in [
            "Test Device",
            "512",
            "8.6",
            "0000:07:00.0",
            "GPU-12345678-9abc-def0-1234-56789abcdef0",
        ] {
            assert!(text.contains(part), "{part:?} is not in: {text}");
        }
        if json {
            let value: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!(value["memory_mib"], 512);
        }
    }
    let (address, server) = serve();
    let output = rgpu()
        .args(["devices", "--server", &address])
        .env("RGPU_TOKEN", "wrong")
        .output()
        .unwrap();
    assert!(!output.status.success());
    assert!(
        words(&output).contains("not known here") && words(&output).contains("800"),
        "{}",
        words(&output)
    );
    server.join().unwrap();
}

#[test]
fn doctor_says_what_is_wrong() {
    let folder = folder();
    let (address, server) = serve();
    let output = rgpu()
        .env("RGPU_CLIENT_LIB", folder.path().join("lib"))
        .env("RGPU_SERVERS", &address)
        .env("RGPU_TOKEN_FILE", folder.path().join("token"))
        .arg("doctor")
        .output()
        .unwrap();
    server.join().unwrap();
    let text = words(&output);
    assert!(output.status.success() && !text.contains("wrong"), "{text}");
    assert!(
        text.contains("CUDA 12.8, 1 device(s), 512 MiB a session"),
        "{text}"
    );

    // Below the ephemeral range: a port that was just given back could be another test's by now.
    let closed = "tcp://127.0.0.1:1";
    let output = rgpu()
        .env("RGPU_CLIENT_LIB", "/no/such")
        .env("RGPU_SERVERS", closed)
        .arg("doctor")
        .output()
        .unwrap();
    let text = words(&output);
    assert!(!output.status.success());
    for part in ["RGPU_CLIENT_LIB", "no token", "is rgpud running there"] {
        assert!(text.contains(part), "{part:?} is not in: {text}");
    }
}

/// What `rgpu doctor` says of a program, without a server.
fn examined(program: &Path, variables: &[(&str, &Path)]) -> String {
    let folder = folder();
    let output = rgpu()
        .args(["doctor", "--server", "unix:///nowhere"])
        .arg(program)
        .env("RGPU_CLIENT_LIB", folder.path().join("lib"))
        .env("RGPU_TOKEN", TOKEN)
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    words(&output)
}

fn gcc(arguments: &[&str], program: &Path) {
    let source = program.with_extension("c");
    std::fs::write(&source, "int main(void) { return 0; }").unwrap();
    let status = Command::new("gcc")
        .args(["-o"])
        .arg(program)
        .arg(source)
        .args(arguments)
        .status();
    assert!(status.unwrap().success());
}

#[test]
fn doctor_explains_what_a_program_would_load() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    gcc(&[], &path("plain"));
    let said = examined(&path("plain"), &[]);
    assert!(said.contains("libcuda.so.1, if asked for: ours"), "{said}");

    gcc(&["-static"], &path("static"));
    let said = examined(&path("static"), &[]);
    assert!(said.contains("linked statically"), "{said}");

    // As PyTorch's: a folder of the program's own comes before LD_LIBRARY_PATH.
    std::fs::write(path("libcuda.so.1"), "").unwrap();
    gcc(&["-Wl,--disable-new-dtags,-rpath,$ORIGIN"], &path("own"));
    let said = examined(&path("own"), &[]);
    assert!(said.contains("comes before `rgpu run`'s"), "{said}");
    gcc(&["-Wl,--enable-new-dtags,-rpath,$ORIGIN"], &path("runpath"));
    let said = examined(&path("runpath"), &[]);
    assert!(
        said.contains("ours under `rgpu run`; without it, "),
        "{said}"
    );
    let said = examined(&path("plain"), &[("LD_PRELOAD", &path("libcuda.so.1"))]);
    assert!(said.contains("comes before `rgpu run`'s"), "{said}");

    use std::os::unix::fs::PermissionsExt;
    let script = |text: &str| {
        std::fs::write(path("script"), text).unwrap();
        std::fs::set_permissions(path("script"), PermissionsExt::from_mode(0o755)).unwrap();
        examined(&path("script"), &[])
    };
    let said = script("#!/usr/bin/env -S A=b sh -e\n");
    assert!(said.contains("what a shell starts is not seen"), "{said}");
    let said = script("#!/no/such/python\n");
    assert!(
        said.contains("its interpreter \"/no/such/python\" is not there"),
        "{said}"
    );
    let said = script("#!");
    assert!(said.contains("its interpreter \"\" is not there"), "{said}");
    let said = script("neither this nor that");
    assert!(said.contains("not a 64-bit ELF file"), "{said}");
    let said = examined(Path::new("no-such-program"), &[]);
    assert!(said.contains("no such program in PATH"), "{said}");
}
