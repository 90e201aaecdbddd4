use super::*;
use crate::runner::Stop;
use rgpu_faas_kubernetes::protocol::Report;
use tempfile::TempDir;

fn function(fields: &str) -> Function {
    let text = format!("name: f\nimage: a/b:1\n{fields}\n");
    crate::function::parse(&text, "f", None).unwrap().remove(0)
}

/// A program as the runner makes one, with what only this machine has.
fn program(function: &Function) -> (TempDir, Program) {
    let folder = tempfile::tempdir().unwrap();
    for name in ["input", "output", "tmp"] {
        std::fs::create_dir(folder.path().join(name)).unwrap();
    }
    std::fs::write(folder.path().join("script.sh"), "x").unwrap();
    let path = |name: &str| OsString::from(folder.path().join(name));
    let job = "0f0e0d0c-0b0a-4908-8706-050403020100";
    let program = Program {
        name: format!("{job}-3"),
        job: job.into(),
        function: Arc::new(function.clone()),
        argv: vec!["/bin/sh".into(), path("script.sh")],
        environment: vec![
            ("HOME".into(), folder.path().into()),
            ("PATH".into(), "/usr/bin".into()),
            ("LANG".into(), "C.UTF-8".into()),
            ("LD_LIBRARY_PATH".into(), "/lib/rgpu:/own".into()),
            ("RGPU_SERVERS".into(), "unix:///run/rgpud.sock".into()),
            ("RGPU_TOKEN_FILE".into(), "/etc/token".into()),
            ("RGPU_VGPU".into(), "job-x".into()),
            ("RGPU_FUNCTION_DIR".into(), "/opt/f".into()),
            ("TMP_OUTPUT_DIR".into(), path("output")),
            ("INPUT_FILE_PATH".into(), path("input/a b")),
            (
                "STORAGE_OBJECT_KEY".into(),
                OsString::from_vec(vec![b'a', 0xff]),
            ),
            ("KEY".into(), "hidden".into()),
            ("MODE".into(), "fast".into()),
        ],
        folder: folder.path().to_owned(),
        reads: Vec::new(),
        writes: Vec::new(),
        library: None,
        log: "logs/f/x.log".into(),
        nice: 0,
    };
    (folder, program)
}

fn described(fields: &str) -> Result<Attempt, Unfit> {
    let function = function(fields);
    let (_folder, program) = program(&function);
    let config = Config::new("/data".into(), "/nowhere".into());
    describe(&program, &config, &function)
}

const FIELDS: &str = "script: |\n  a\n  b\nenvironment: { variables: { MODE: fast, LD_LIBRARY_PATH: /own }, secrets: { KEY: k } }";

#[test]
fn a_program_leaves_this_machine_behind() {
    let attempt = described(FIELDS).unwrap();
    let environment: Vec<(String, OsString)> = attempt
        .environment
        .iter()
        .map(|(name, value)| (name.to_string_lossy().into_owned(), value.clone()))
        .collect();
    let want: [(&str, OsString); 4] = [
        ("HOME", "/rgpu-faas/job".into()),
        ("TMP_OUTPUT_DIR", "/rgpu-faas/job/output".into()),
        ("INPUT_FILE_PATH", "/rgpu-faas/job/input/a b".into()),
        ("STORAGE_OBJECT_KEY", OsString::from_vec(vec![b'a', 0xff])),
    ];
    assert_eq!(
        environment,
        want.map(|(name, value)| (name.to_owned(), value))
    );
    let variables = [("LD_LIBRARY_PATH", "/own"), ("MODE", "fast")];
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(attempt.variables, variables);
    assert_eq!(attempt.secrets, [("KEY".to_owned(), b"hidden".to_vec())]);
    assert_eq!(attempt.argv, ["/bin/sh", "/rgpu-faas/job/script.sh"]);
    let mut files = attempt.files.clone();
    files.sort();
    assert_eq!(files, ["input", "script.sh"]);
    assert_eq!(
        (attempt.number, &attempt.vgpu),
        (3, &None),
        "no GPU was asked for"
    );
    assert_eq!(attempt.check(), Ok(()));
    let plain = Path::new("/data/work/x");
    assert_eq!(moved(OsStr::new("/data/work/xy"), plain), "/data/work/xy");
}

#[test]
fn a_gpu_is_asked_for_as_the_function_says() {
    let vgpu = |fields: &str| described(&format!("{FIELDS}\n{fields}")).unwrap().vgpu;
    assert_eq!(vgpu("enable_gpu: false\nvgpu: { memory: 1Gi }"), None);
    let asked = vgpu("enable_gpu: true").unwrap();
    assert_eq!(
        (asked.profile, asked.wait, asked.preferred),
        (None, None, false)
    );
    let asked = vgpu("vgpu: { profile: small, preferred: true, wait: 3s }").unwrap();
    assert_eq!(asked.profile.as_deref(), Some("small"));
    assert_eq!(
        (asked.wait, asked.preferred),
        (Some(Duration::from_secs(3)), true)
    );
    let attempt = described(&format!("{FIELDS}\nvgpu: {{ memory: 1Gi, share: 20 }}")).unwrap();
    let has = |name: &str, value: &str| attempt.environment.contains(&(name.into(), value.into()));
    assert!(
        has("RGPU_VGPU_MEMORY", "1024")
            && has("RGPU_VGPU_SHARE", "20")
            && has("RGPU_FUNCTION", "f")
    );
    let Err(Unfit::Function(why)) = described(&format!("{FIELDS}\nvgpu: {{ count: 2 }}")) else {
        panic!("two vGPUs in a pod")
    };
    assert!(why.contains("count"), "{why}");
}

#[test]
fn what_cannot_be_kept_is_refused() {
    let Err(Unfit::Function(why)) = described(&format!("{FIELDS}\nnetwork: false")) else {
        panic!("no network policy is made")
    };
    assert!(why.contains("NetworkPolicy"), "{why}");
}

#[test]
fn a_script_of_this_machine_goes_along() {
    let beside = tempfile::tempdir().unwrap();
    std::fs::write(beside.path().join("run.sh"), "echo hello\n").unwrap();
    let text = "name: f\nimage: a\nscript: run.sh\ncommand: [./tool]\n";
    let function = crate::function::parse(text, "f", Some(beside.path()))
        .unwrap()
        .remove(0);
    let (folder, mut program) = program(&function);
    program.argv = vec![
        "/somewhere/tool".into(),
        beside.path().join("run.sh").into(),
    ];
    let config = Config::new("/data".into(), "/nowhere".into());
    let attempt = describe(&program, &config, &function).unwrap();
    assert_eq!(attempt.argv, ["./tool", "/rgpu-faas/job/script/run.sh"]);
    let copy = std::fs::read_to_string(folder.path().join("script/run.sh"));
    assert_eq!(copy.unwrap(), "echo hello\n");
    assert!(attempt.files.contains(&"script".to_owned()));
}

#[test]
fn ends() {
    let function = function("command: [x]\nmemory: 1Gi");
    let end = |ended, started, stop| ran(ended, started, stop, &function);
    let report = |change: fn(&mut Report)| {
        let mut report = Report {
            tail: "bye".into(),
            ..Report::default()
        };
        change(&mut report);
        Ended::Script(report)
    };
    let ended = |exit_code, signal, excess, forced| Ran::Ended {
        exit_code,
        signal,
        excess,
        tail: "bye".into(),
        forced,
    };
    let success = report(|it| it.exit_code = Some(0));
    assert_eq!(end(success, true, None), ended(Some(0), None, None, None));
    let memory = report(|it| (it.signal, it.over_memory) = (Some(9), true));
    let excess = Some(Excess::Memory(1 << 30));
    assert_eq!(end(memory, true, None), ended(None, Some(9), excess, None));
    let late = report(|it| (it.signal, it.timed_out) = (Some(15), true));
    assert_eq!(
        end(late, true, None),
        ended(None, Some(15), None, Some(Forced::Timeout))
    );
    let lost = report(|it| (it.exit_code, it.outputs_error) = (Some(0), Some("too much".into())));
    assert!(
        matches!(end(lost, true, None), Ran::NotStarted { reason, retry: true } if reason.contains("too much"))
    );
    let absent = report(|it| it.not_started = Some("no such file".into()));
    assert!(matches!(
        end(absent, false, None),
        Ran::NotStarted { retry: true, .. }
    ));
    assert_eq!(
        end(Ended::Stopped, false, Some(Stop::Cancel)),
        Ran::Stopped(Stop::Cancel)
    );
    assert!(matches!(
        end(Ended::Stopped, true, Some(Stop::Shutdown)),
        Ran::Ended {
            forced: Some(Forced::Stop(Stop::Shutdown)),
            ..
        }
    ));
    assert!(matches!(
        end(Ended::Timeout, true, None),
        Ran::Ended {
            forced: Some(Forced::Timeout),
            ..
        }
    ));
}
