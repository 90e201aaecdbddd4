//! Jobs in podman's containers: with real podman where it works, and its life cycle against a double that runs the command as a process.

use crate::harness::{Runner, is_gone};
use serde_json::Value;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const IMAGE: &str = "localhost/rgpu-faas-test:1";

/// podman with a store of its own in a folder, and what this machine's kernel needs said.
struct Store {
    program: PathBuf,
}

impl Store {
    /// None, and loudly, where podman cannot run a container.
    fn make(folder: &Path) -> Option<Store> {
        let busybox = Path::new("/bin/busybox");
        if !busybox.exists() {
            eprintln!(
                "SKIPPED: there is no /bin/busybox to make an image of (package busybox-static)"
            );
            return None;
        }
        let root = folder.join("image");
        std::fs::create_dir_all(root.join("bin")).unwrap();
        std::fs::create_dir_all(root.join("home/owner")).unwrap();
        std::fs::copy(busybox, root.join("bin/busybox")).unwrap();
        for name in [
            "sh", "cat", "dirname", "cp", "echo", "env", "ls", "sleep", "dd", "touch", "true", "wc",
        ] {
            std::os::unix::fs::symlink("busybox", root.join("bin").join(name)).unwrap();
        }
        let hidden = root.join("home/owner/file");
        std::fs::write(&hidden, "of the image\n").unwrap();
        std::fs::set_permissions(&hidden, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::os::unix::fs::chown(&hidden, Some(1000), Some(1000)).unwrap_or_default();
        let archive = folder.join("image.tar");
        let mut pack = Command::new("tar");
        pack.arg("cf").arg(&archive).arg("-C").arg(&root).arg(".");
        assert!(pack.status().unwrap().success());
        // runc where it is: crun refuses some mixtures of control groups. What is said of open files must not be more than there is.
        let store = Store {
            program: folder.join("podman"),
        };
        let runtime = ["/usr/sbin/runc", "/usr/bin/runc"]
            .into_iter()
            .find(|it| Path::new(it).exists());
        let runtime = runtime.map_or(String::new(), |it| format!("--runtime {it}"));
        let script = format!(
            "#!/bin/sh\nverb=$1; shift\n[ $verb = run ] && set -- --ulimit nofile=1024:1024 --ulimit nproc=4096:4096 \"$@\"\nexec podman --root {0}/store --runroot {0}/run --storage-driver vfs --cgroup-manager cgroupfs {runtime} $verb \"$@\"\n",
            folder.display()
        );
        executable(&store.program, &script);
        let imported = store.ask(&["import", archive.to_str().unwrap(), IMAGE]);
        let tried = imported.is_some_and(|it| it.status.success()).then(|| {
            store.ask(&[
                "run",
                "--rm",
                "--pull=never",
                "--network=none",
                "--log-driver=none",
                IMAGE,
                "true",
            ])
        });
        match tried.flatten() {
            Some(output) if output.status.success() => Some(store),
            other => {
                let said = other.map(|it| String::from_utf8_lossy(&it.stderr).into_owned());
                eprintln!(
                    "SKIPPED: podman is not installed or cannot run a container here: {said:?}"
                );
                None
            }
        }
    }

    fn ask(&self, arguments: &[&str]) -> Option<Output> {
        Command::new(&self.program).args(arguments).output().ok()
    }

    fn containers(&self) -> String {
        let listed = self.ask(&["ps", "--all", "--quiet"]).unwrap();
        String::from_utf8(listed.stdout).unwrap()
    }

    fn start(&self, folder: &Path, arguments: &[&str]) -> Runner {
        start(folder, &self.program, arguments)
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // Its files are not all removable by hand.
        let _ = self.ask(&["rm", "--all", "--force", "--time=0"]);
        let _ = self.ask(&["rmi", "--all", "--force"]);
    }
}

fn executable(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

fn start(folder: &Path, podman: &Path, arguments: &[&str]) -> Runner {
    let data = folder.join("data");
    let _ = std::fs::create_dir(&data);
    let podman = podman.to_str().unwrap();
    let arguments = [arguments, &["--engine", "podman", "--podman", podman]].concat();
    Runner::start(&data, &arguments)
}

fn run(runner: &Runner, name: &str) -> Value {
    let id = runner.call("POST", &format!("/job/{name}"), &[], b"").job();
    runner.finished(&id)
}

fn with(more: &str) -> String {
    format!("image: {IMAGE}\noutput: [{{ path: b/out }}]\n{more}")
}

const ONCE: &str = "retry: { attempts: 1 }";

#[test]
fn a_container_has_the_contract_of_every_job_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let Some(store) = Store::make(folder.path()) else {
        return;
    };
    let library = folder.path().join("lib");
    std::fs::create_dir(&library).unwrap();
    std::fs::write(library.join("libcuda.so.1"), "the client").unwrap();
    let gpu = format!("direct:{}", library.display());
    let runner = store.start(folder.path(), &["--gpu", &gpu]);
    std::fs::write(runner.data.join("secrets/key"), "hidden").unwrap();
    runner.define(
        "contract",
        r#"cp "$INPUT_FILE_PATH" "$TMP_OUTPUT_DIR/copy"; pwd > "$TMP_OUTPUT_DIR/where"
echo "$WORD|$KEY|$LINES|$HOME"
cat /home/owner/file
cat "$LD_LIBRARY_PATH/libcuda.so.1"; echo
unset LD_LIBRARY_PATH; cat /usr/lib64/libcuda.so.1 /usr/lib/*-linux-gnu/libcuda.so.1; echo
touch /usr/lib64/libcuda.so.1 2>/dev/null || echo read-only
ls "$(dirname "$HOME")" | wc -l; ls /root /etc/shadow 2>/dev/null
ls -d /proc/[0-9]* | wc -l"#,
        &with(
            "input: [{ path: b/in }]\nenvironment: { variables: { WORD: ' a \"b\" # c', LINES: \"one\\ntwo\", LD_PRELOAD: '' }, secrets: { KEY: key } }",
        ),
    );
    runner.drop_file("b/in/a", "content");
    let job = runner.only_job("contract");
    let log = runner.log(&job);
    assert_eq!(job["state"], "SUCCEEDED", "{job}\n{log}");
    assert_eq!(
        std::fs::read_to_string(runner.storage("b/out/copy")).unwrap(),
        "content"
    );
    let begin = " a \"b\" # c|hidden|one\ntwo|";
    assert!(log.starts_with(begin), "{log}");
    let rest = "\nof the image\nthe client\nthe clientthe client\nread-only\n1\n";
    assert!(log.contains(rest), "{log}");
    assert_eq!(store.containers(), "");
    runner.assert_clean();
}

#[test]
fn containers_end_by_limits_codes_and_signals_and_are_removed() {
    let folder = tempfile::tempdir().unwrap();
    let Some(store) = Store::make(folder.path()) else {
        return;
    };
    let runner = store.start(folder.path(), &[]);
    runner.define("code", "echo last; exit 3", &with(ONCE));
    let job = run(&runner, "code");
    assert_eq!(
        (&job["state"], &job["exit_code"]),
        (&"FAILED".into(), &3.into()),
        "{job}"
    );
    let fields = with("timeout: 3s\nretry: { attempts: 1 }");
    runner.define(
        "stubborn",
        "trap '' TERM; echo ready; while :; do sleep 600; done",
        &fields,
    );
    let job = run(&runner, "stubborn");
    assert!(
        job["reason"].as_str().unwrap().starts_with("time limit"),
        "{job}"
    );
    runner.define(
        "bomb",
        "i=0; while [ $i -lt 200 ]; do sleep 600 & i=$((i+1)); done; echo whole",
        &with("processes: 40\nretry: { attempts: 1 }"),
    );
    let job = run(&runner, "bomb");
    assert_eq!(job["state"], "FAILED", "{job}");
    assert!(!runner.log(&job).contains("whole"));
    runner.define(
        "full",
        "dd if=/dev/zero of=big bs=65536 count=320; sleep 600",
        &with("disk: 4Mi\nretry: { attempts: 1 }"),
    );
    let job = run(&runner, "full");
    assert!(
        job["reason"].as_str().unwrap().starts_with("disk limit"),
        "{job}"
    );
    assert_eq!(store.containers(), "");
    runner.assert_clean();
}

#[test]
fn a_container_ends_with_its_runner_and_the_next_one_forgets_it() {
    let folder = tempfile::tempdir().unwrap();
    let Some(store) = Store::make(folder.path()) else {
        return;
    };
    let runner = store.start(folder.path(), &[]);
    runner.define(
        "long",
        "echo up; sleep 600",
        &with("retry: { attempts: 2, min_wait: 1h }"),
    );
    let id = runner.call("POST", "/job/long", &[], b"").job();
    let pid = runner.jobs("long", "RUNNING", 1)[0]["pid"]
        .as_i64()
        .unwrap() as i32;
    let name = format!("rgpu-{id}-1");
    let running = || {
        let said = store.ask(&[
            "inspect",
            "--format",
            "{{.State.Running}} {{.State.Pid}}",
            &name,
        ]);
        String::from_utf8(said.unwrap().stdout).unwrap()
    };
    // podman says it when the container's first process runs.
    let state = loop {
        let state = running();
        if state.starts_with("true ") {
            break state;
        }
        assert!(!is_gone(pid), "podman ended: {state}");
    };
    let first: i32 = state.trim()[5..].parse().unwrap();
    runner.kill();
    let runner = store.start(folder.path(), &[]);
    assert!(
        is_gone(pid) && is_gone(first),
        "outlived its runner and the new start"
    );
    assert_eq!(store.containers(), "");
    assert_eq!(runner.get(&format!("/jobs/{id}"))["state"], "QUEUED");
}

#[test]
fn an_image_that_cannot_be_had_is_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let Some(store) = Store::make(folder.path()) else {
        return;
    };
    let runner = store.start(folder.path(), &[]);
    let image = "image: localhost:1/no-such-image:1\nretry: { attempts: 2, min_wait: 1ms }";
    runner.define("missing", "true", image);
    let job = run(&runner, "missing");
    assert_eq!(
        (&job["state"], &job["attempt"]),
        (&"FAILED".into(), &2.into()),
        "{job}"
    );
    let reason = job["reason"].as_str().unwrap();
    assert!(
        reason.starts_with("the image localhost:1/no-such-image:1 could not be fetched: "),
        "{reason}"
    );
    runner.define("none", "true", ONCE);
    let job = run(&runner, "none");
    assert!(
        job["reason"].as_str().unwrap().contains("no `image`"),
        "{job}"
    );
}

/// Records how it is called, and runs the command where it is, in process namespaces as podman's containers have them.
const DOUBLE: &str = r#"#!/bin/sh
here=$(dirname "$0")
for word; do printf '%s\n' "$word"; done > "$here/$1.words"
env > "$here/$1.env"
case "$1" in
info) echo '[cpu memory pids]' ;;
image) exit "$(cat "$here/exists" 2>/dev/null || echo 0)" ;;
pull) echo 'Error: first line
no route to the registry' >&2; exit 125 ;;
run)
    while [ "$1" != -- ]; do
        case "$1" in
        --env-file=*) file=${1#*=} ;;
        --workdir) cd "$2" ;;
        esac
        shift
    done
    shift 2
    cp "$file" "$here/variables"
    # As podman reads it: whatever stands after the first =.
    while IFS= read -r line; do export "${line%%=*}=${line#*=}"; done < "$file"
    exec "$@" ;;
esac
"#;

#[test]
fn the_command_says_what_a_container_may_have() {
    let folder = tempfile::tempdir().unwrap();
    let podman = folder.path().join("podman");
    executable(&podman, DOUBLE);
    let shown = folder.path().join("shown");
    std::fs::create_dir(&shown).unwrap();
    let runner = start(
        folder.path(),
        &podman,
        &["--sandbox-read", shown.to_str().unwrap()],
    );
    std::fs::write(runner.data.join("secrets/key"), "hidden").unwrap();
    runner.define(
        "double",
        "echo $KEY > $TMP_OUTPUT_DIR/key",
        "image: registry.example/some/image:2
memory: 64Mi
cpu: 1.5
processes: 77
network: false
output: [{ path: b/out }]
environment: { variables: { CONTAINERS_CONF: /evil, LD_PRELOAD: '', LINES: \"a\\nb\" }, secrets: { KEY: key } }",
    );
    let job = run(&runner, "double");
    assert_eq!(job["state"], "SUCCEEDED", "{job}");
    assert_eq!(
        std::fs::read_to_string(runner.storage("b/out/key")).unwrap(),
        "hidden\n"
    );
    let words = std::fs::read_to_string(folder.path().join("run.words")).unwrap();
    let id = job["id"].as_str().unwrap();
    let attempt = runner.data.join("work").join(format!("{id}-1"));
    for expected in [
        "--rm".to_owned(),
        "--pull=never".to_owned(),
        format!("--name=rgpu-{id}-1"),
        format!("--label=io.rgpu.faas.job={id}"),
        "--network=none".to_owned(),
        "--cap-drop=all".to_owned(),
        "--security-opt=no-new-privileges".to_owned(),
        "--pids-limit=77".to_owned(),
        "--memory=67108864b".to_owned(),
        "--cpus=1.5".to_owned(),
        "--entrypoint=".to_owned(),
        "--env=LINES=a".to_owned(),
        format!("--volume={0}:{0}:ro", shown.display()),
        format!("--volume={0}:{0}:rw", attempt.display()),
        format!("--volume={}/tmp:/tmp:rw", attempt.display()),
    ] {
        assert!(
            words.lines().any(|word| word == expected),
            "{expected}\n{words}"
        );
    }
    let command: Vec<&str> = words.lines().skip_while(|word| *word != "--").collect();
    assert_eq!(
        command[..3],
        ["--", "registry.example/some/image:2", "/bin/sh"]
    );
    assert!(!words.contains("hidden"), "a secret is no argument");
    let own = std::fs::read_to_string(folder.path().join("run.env")).unwrap();
    assert!(
        !own.contains("/evil") && !own.contains("KEY=") && !own.contains("LD_PRELOAD"),
        "{own}"
    );
    let given = std::fs::read_to_string(folder.path().join("variables")).unwrap();
    assert!(
        given.contains("CONTAINERS_CONF=/evil\n") && given.contains("KEY=hidden\n"),
        "{given}"
    );
    runner.assert_clean();
}

#[test]
fn pulls_fail_and_are_tried_again_and_bad_names_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let podman = folder.path().join("podman");
    executable(&podman, DOUBLE);
    std::fs::write(folder.path().join("exists"), "1").unwrap();
    let runner = start(folder.path(), &podman, &[]);
    let retry = "retry: { attempts: 2, min_wait: 1ms }";
    runner.define("missing", "true", &format!("image: x/y\n{retry}"));
    let job = run(&runner, "missing");
    assert_eq!(
        (&job["state"], &job["attempt"]),
        (&"FAILED".into(), &2.into()),
        "{job}"
    );
    assert_eq!(
        job["reason"],
        "the image x/y could not be fetched: no route to the registry"
    );
    runner.define("option", "true", &format!("image: '--privileged'\n{retry}"));
    let job = run(&runner, "option");
    assert_eq!(
        (&job["state"], &job["attempt"]),
        (&"FAILED".into(), &1.into()),
        "{job}"
    );
    std::fs::write(folder.path().join("exists"), "0").unwrap();
    std::fs::write(runner.data.join("secrets/key"), "two\nlines").unwrap();
    let secret = "environment: { secrets: { KEY: key } }";
    runner.define("lines", "true", &format!("image: x/y\n{secret}\n{retry}"));
    let job = run(&runner, "lines");
    assert_eq!(
        (&job["state"], &job["attempt"]),
        (&"FAILED".into(), &1.into()),
        "{job}"
    );
    assert!(
        job["reason"].as_str().unwrap().contains("the secret KEY"),
        "{job}"
    );
    runner.assert_clean();
}
