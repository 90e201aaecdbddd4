//! Several processes on one machine's devices; each test's in a home of their own.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::common::*;

const ROLE: &str = "SOFTGPU_TEST_ROLE";

/// This program again, to run one test.
pub fn child(test: &str, home: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--test-threads=1", "--nocapture"]);
    command.env("SOFTGPU_HOME", home).env("RUST_BACKTRACE", "0");
    command
}

struct Peer {
    process: Child,
    out: BufReader<std::process::ChildStdout>,
}

impl Peer {
    fn start(role: &str, home: &Path) -> Peer {
        let mut process = child("processes::peer", home)
            .env(ROLE, role)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let out = BufReader::new(process.stdout.take().unwrap());
        Peer { process, out }
    }

    /// The next line that begins with `>`, as the peer's own words do.
    fn hear(&mut self) -> String {
        loop {
            let mut line = String::new();
            assert!(self.out.read_line(&mut line).unwrap() > 0, "the peer ended");
            // libtest writes the test's name in front, on the same line.
            if let Some((_, words)) = line.split_once('>') {
                return words.trim().to_owned();
            }
        }
    }

    fn tell(&mut self) {
        self.process
            .stdin
            .as_mut()
            .unwrap()
            .write_all(b"go\n")
            .unwrap();
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn say(words: &str) {
    println!(">{words}");
}

fn listen() {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
}

/// Not a test of its own: what the tests here start.
#[test]
fn peer() {
    let Ok(role) = std::env::var(ROLE) else {
        return;
    };
    let program = Program::new();
    let (mut free, mut total) = (0, 0);
    ok(cuMemGetInfo_v2(Out::of(&mut free), Out::of(&mut total)));
    match role.as_str() {
        "idle" => {
            say("idle");
            listen();
        }
        "look" => say(&free.to_string()),
        "hold" => {
            let at = alloc(64 << 20);
            ok(cuMemsetD8_v2(at, 1, 64 << 20));
            say("held");
            listen();
            ok(cuMemFree_v2(at));
            say("freed");
            listen();
        }
        "exit" => {
            alloc(64 << 20);
            ok(launch(program.function("forever"), 4, 128, &[]));
            std::process::exit(0);
        }
        "forever" => {
            ok(launch(program.function("forever"), 1, 32, &[]));
            say("running");
            listen();
            std::process::exit(0);
        }
        "short" => {
            let at = upload(&[1u32]);
            for _ in 0..20 {
                ok(launch(program.function("step"), 1, 1, &[at, 10]));
                ok(cuCtxSynchronize());
            }
            say("done");
        }
        "fork" => {
            // SAFETY: the child calls the driver, which refuses, and ends.
            let pid = unsafe { libc::fork() };
            if pid == 0 {
                let result = cuCtxSynchronize();
                let again = cuInit(0);
                let good = result == NOT_INITIALIZED && again == NOT_INITIALIZED;
                // exit, not _exit: the handlers must leave the parent's ledger alone.
                std::process::exit(if good { 0 } else { 1 });
            }
            let mut status = 0;
            // SAFETY: waits for the child of above.
            unsafe { libc::waitpid(pid, &mut status, 0) };
            assert_eq!(status, 0);
            let at = upload(&[1u32]);
            ok(launch(program.function("step"), 1, 1, &[at, 10]));
            assert_eq!(download::<u32>(at, 1), [4]);
            say(&free.to_string());
        }
        _ => panic!("{role}"),
    }
}

fn look(home: &Path) -> u64 {
    Peer::start("look", home).hear().parse().unwrap()
}

#[test]
fn memory_is_the_machines() {
    let home = tempfile::tempdir().unwrap();
    let before = look(home.path());
    let mut holder = Peer::start("hold", home.path());
    assert_eq!(holder.hear(), "held");
    assert!(look(home.path()) <= before - (64 << 20));
    holder.tell();
    assert_eq!(holder.hear(), "freed");
    assert!(look(home.path()) > before - (64 << 20));
}

#[test]
fn a_killed_process_gives_its_memory_back() {
    let home = tempfile::tempdir().unwrap();
    let before = look(home.path());
    let mut holder = Peer::start("hold", home.path());
    assert_eq!(holder.hear(), "held");
    assert!(look(home.path()) <= before - (64 << 20));
    holder.process.kill().unwrap();
    holder.process.wait().unwrap();
    assert_eq!(look(home.path()), before);
}

#[test]
fn a_program_ends_while_its_kernel_runs() {
    let home = tempfile::tempdir().unwrap();
    let before = look(home.path());
    let stats = home.path().join("stats.json");
    let status = child("processes::peer", home.path())
        .env(ROLE, "exit")
        .env("SOFTGPU_STATS", &stats)
        .status();
    assert!(status.unwrap().success());
    let said = std::fs::read_to_string(&stats).unwrap();
    assert!(said.contains("\"kernel_seconds\": "), "{said}");
    assert_eq!(look(home.path()), before);
}

/// A process whose kernel never ends lets another one's kernels run, and so does one that is stopped or killed.
#[test]
fn processes_take_turns() {
    let home = tempfile::tempdir().unwrap();
    let mut hog = Peer::start("forever", home.path());
    assert_eq!(hog.hear(), "running");
    assert_eq!(Peer::start("short", home.path()).hear(), "done");
    let pid = hog.process.id() as i32;
    // SAFETY: stops a process that this test started.
    unsafe { libc::kill(pid, libc::SIGSTOP) };
    assert_eq!(Peer::start("short", home.path()).hear(), "done");
    // SAFETY: as above.
    unsafe { libc::kill(pid, libc::SIGCONT) };
    let mut waiter = Peer::start("short", home.path());
    hog.process.kill().unwrap();
    hog.process.wait().unwrap();
    assert_eq!(waiter.hear(), "done");
}

/// The next process takes the dead one's place among the processes, but not its turn.
#[test]
fn a_turn_ends_with_the_process_that_died_in_it() {
    let home = tempfile::tempdir().unwrap();
    let mut hog = Peer::start("forever", home.path());
    assert_eq!(hog.hear(), "running");
    hog.process.kill().unwrap();
    hog.process.wait().unwrap();
    let mut idle = Peer::start("idle", home.path());
    assert_eq!(idle.hear(), "idle");
    assert_eq!(Peer::start("short", home.path()).hear(), "done");
}

#[test]
fn a_forked_child_has_no_driver() {
    let home = tempfile::tempdir().unwrap();
    let mut parent = Peer::start("fork", home.path());
    parent.hear();
    assert!(parent.process.wait().unwrap().success());
}
