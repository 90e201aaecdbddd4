//! Jobs whose functions say what they need of a GPU, against servers that greet and do nothing else.

use crate::harness::Runner;
use rgpu_proto::handshake::{
    Answer, Hello, Limits, RefusalCode, ServerEvent, ServerHandshake, SessionSecret, Welcome,
    refusal,
};
use rgpu_proto::snapshot::{DeviceSnapshot, Snapshot};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};

/// A runner whose functions are to use the server at `address`.
fn start(folder: &Path, address: &str) -> Runner {
    let library = folder.join("lib");
    std::fs::create_dir(&library).unwrap();
    std::fs::write(library.join("libcuda.so.1"), "").unwrap();
    std::fs::write(folder.join("token"), "t").unwrap();
    let data = folder.join("data");
    std::fs::create_dir(&data).unwrap();
    Runner::start(
        &data,
        &[
            "--server",
            address,
            "--client-lib",
            library.to_str().unwrap(),
            "--profile",
            &format!("small={}", folder.join("token").display()),
        ],
    )
}

fn run(runner: &Runner, name: &str) -> Value {
    let id = runner.call("POST", &format!("/job/{name}"), &[], b"").job();
    runner.finished(&id)
}

/// Refuses the first `busy` clients and welcomes all others to four devices; tells what they said.
fn serve(busy: usize, code: RefusalCode) -> (String, Receiver<Hello>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("tcp://{}", listener.local_addr().unwrap());
    let (sender, greetings) = channel();
    std::thread::spawn(move || {
        for (count, stream) in listener.incoming().enumerate() {
            let mut stream = stream.unwrap();
            let (version, hello) = greeting(&mut stream);
            let answer = if count < busy {
                refusal(code, "no room in this test")
            } else {
                welcome(version)
            };
            let _ = sender.send(hello);
            let _ = stream.write_all(&answer);
        }
    });
    (address, greetings)
}

fn greeting(stream: &mut TcpStream) -> (u16, Hello) {
    let mut handshake = ServerHandshake::new();
    let mut buffer = [0; 4096];
    loop {
        let count = stream.read(&mut buffer).unwrap();
        assert!(count > 0, "the client went away");
        match handshake.push(&buffer[..count]) {
            ServerEvent::Hello { version, hello } => return (version, *hello),
            ServerEvent::NeedMore => {}
            ServerEvent::Refuse { reason, .. } => panic!("{reason}"),
        }
    }
}

fn welcome(version: u16) -> Vec<u8> {
    let welcome = Welcome {
        session: 1,
        secret: SessionSecret::new([0; 16]),
        server: "a test".into(),
        snapshot: Snapshot {
            driver_version: 12_000,
            devices: vec![DeviceSnapshot::default(); 4],
            p2p: Vec::new(),
        },
        limits: Limits::default(),
        windows: Vec::new(),
        rings: false,
        known: Default::default(),
    };
    Answer::Welcome(Box::new(welcome)).encode(version).unwrap()
}

#[test]
fn where_no_server_answers_a_function_that_may_runs_on_the_cpu() {
    let folder = tempfile::tempdir().unwrap();
    // Nobody listens at an address that was free a moment ago.
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("tcp://{}", free.local_addr().unwrap());
    drop(free);
    let runner = start(folder.path(), &address);
    let script =
        "echo \"[$RGPU_SERVERS] [$CUDA_VISIBLE_DEVICES] $RGPU_TOKEN_FILE $LD_LIBRARY_PATH\"";
    runner.define(
        "may",
        script,
        "vgpu: { profile: small, preferred: true, wait: 30s }",
    );
    runner.define(
        "must",
        script,
        "vgpu: { required: true, wait: 1ms }\nretry: { attempts: 1 }",
    );
    let job = run(&runner, "may");
    assert_eq!(
        (&job["state"], &job["device"]),
        (&"SUCCEEDED".into(), &"cpu".into())
    );
    let (token, library) = (folder.path().join("token"), folder.path().join("lib"));
    let expected = format!("[] [] {} {}\n", token.display(), library.display());
    assert_eq!(runner.log(&job), expected);
    let job = run(&runner, "must");
    assert_eq!(job["state"], "FAILED");
    let reason = job["reason"].as_str().unwrap();
    assert!(reason.starts_with("no GPU: "), "{reason}");
    let (status, answer) = runner.ask(
        "POST",
        "/system/services",
        "name: f\ncommand: [x]\nvgpu: { profile: huge }",
    );
    let error = answer["error"].as_str().unwrap();
    assert!(
        status == 400 && error.contains("it has small"),
        "{status} {error}"
    );
}

#[test]
fn room_is_waited_for_and_devices_are_chosen() {
    let folder = tempfile::tempdir().unwrap();
    let (address, greetings) = serve(2, RefusalCode::NoCapacity);
    let runner = start(folder.path(), &address);
    runner.define(
        "f",
        "echo $RGPU_SERVERS $CUDA_VISIBLE_DEVICES $RGPU_VGPU",
        "vgpu: { count: 2, memory: 64Mi, share: 10, preferred: true, wait: 60s }",
    );
    let job = run(&runner, "f");
    assert_eq!(
        (&job["state"], &job["device"]),
        (&"SUCCEEDED".into(), &"gpu".into())
    );
    let group = format!("job-{}", job["id"].as_str().unwrap());
    assert_eq!(runner.log(&job), format!("{address} 0,1 {group}\n"));
    let asked: Vec<Hello> = greetings.try_iter().collect();
    assert_eq!(asked.len(), 3, "refused twice");
    for hello in asked {
        assert_eq!(hello.group, group);
        assert_eq!(
            (hello.vgpu.memory_mib, hello.vgpu.share_percent),
            (Some(64), Some(10))
        );
    }
    runner.define("five", "true", "vgpu: { count: 5 }\nretry: { attempts: 1 }");
    let reason = run(&runner, "five")["reason"].to_string();
    assert!(
        reason.contains("5 devices are asked for, and the servers have 4"),
        "{reason}"
    );
}

#[test]
fn a_refusal_that_will_not_pass_is_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let (address, _greetings) = serve(usize::MAX, RefusalCode::Unauthenticated);
    let runner = start(folder.path(), &address);
    runner.define("may", "true", "vgpu: { preferred: true, wait: 1h }");
    let job = run(&runner, "may");
    assert_eq!(
        (&job["state"], &job["device"]),
        (&"SUCCEEDED".into(), &"cpu".into())
    );
}

#[test]
fn a_job_that_waits_for_a_gpu_can_be_cancelled() {
    let folder = tempfile::tempdir().unwrap();
    let (address, greetings) = serve(usize::MAX, RefusalCode::NoCapacity);
    let runner = start(folder.path(), &address);
    runner.define("must", "true", "vgpu: { required: true, wait: 1h }");
    let id = runner.call("POST", "/job/must", &[], b"").job();
    greetings.recv().unwrap();
    assert_eq!(runner.get(&format!("/jobs/{id}"))["state"], "STARTING");
    assert_eq!(runner.ask("POST", &format!("/jobs/{id}/cancel"), "").0, 202);
    assert_eq!(runner.finished(&id)["state"], "CANCELLED");
    runner.assert_clean();
}
