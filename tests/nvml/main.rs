//! NVML beside CUDA: a C program that knows nothing of us asks both, in the process that uses the GPU and beside it.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, ensure};
use rgpu_system::c::{compile, gcc};
use rgpu_system::cleanup::Folder;
use rgpu_system::daemon::clean;
use rgpu_system::fleet::Fleet;
use rgpu_system::{Programs, Server, ServerOptions};

type Environment = Vec<(String, String)>;

fn value(text: &str, fact: &str) -> i64 {
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix(fact)?.strip_prefix(' '));
    value
        .and_then(|value| value.parse().ok())
        .unwrap_or_else(|| panic!("no {fact} in\n{text}"))
}

fn says(text: &str, facts: &[(&str, i64)]) -> Result<()> {
    for (fact, expected) in facts {
        let found = value(text, fact);
        ensure!(
            found == *expected,
            "{fact}: {found}, not {expected}\n{text}"
        );
    }
    Ok(())
}

fn watch(program: &Path, environment: &Environment) -> Result<String> {
    let mut command = Command::new(program);
    let output = clean(&mut command)
        .arg("watch")
        .envs(environment.iter().cloned())
        .output()?;
    ensure!(output.status.success(), "{output:?}");
    Ok(String::from_utf8(output.stdout)?)
}

/// A process that has allocated memory, and goes on when it is told to.
struct Holder {
    child: Child,
    output: BufReader<ChildStdout>,
    said: String,
}

impl Holder {
    fn start(program: &Path, environment: &Environment) -> Result<Holder> {
        let mut command = Command::new(program);
        let mut child = clean(&mut command)
            .arg("hold")
            .envs(environment.iter().cloned())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut output = BufReader::new(child.stdout.take().context("no output")?);
        let mut said = String::new();
        while !said.ends_with("ready\n") {
            ensure!(output.read_line(&mut said)? > 0, "it ended early\n{said}");
        }
        Ok(Holder {
            child,
            output,
            said,
        })
    }

    /// All that it has said.
    fn end(mut self) -> Result<String> {
        let mut input = self.child.stdin.take().context("no input")?;
        input.write_all(b"\n")?;
        self.output.read_to_string(&mut self.said)?;
        ensure!(self.child.wait()?.success(), "{}", self.said);
        Ok(self.said)
    }
}

/// What both kinds of process find, whatever the device.
const SAME: &[(&str, i64)] = &[
    ("before_init", 1),
    ("shutdown_before_init", 1),
    ("init", 0),
    ("init_again", 0),
    ("shutdown_once", 0),
    ("count", 0),
    ("devices", 1),
    ("handle", 0),
    ("handle_beyond", 2),
    ("name", 0),
    ("name_is_there", 1),
    ("name_short", 7),
    ("name_null", 2),
    ("name_no_device", 2),
    ("name_bad_device", 2),
    ("uuid", 0),
    ("by_uuid", 0),
    ("by_uuid_same", 1),
    ("by_uuid_none", 6),
    ("pci", 0),
    ("by_pci", 0),
    ("by_pci_same", 1),
    ("index", 0),
    ("index_value", 0),
    ("cores", 0),
    ("cores_some", 1),
    ("memory", 0),
    ("memory_total", 512),
    ("memory_sum", 0),
    ("memory_v2", 0),
    ("memory_v2_same", 1),
    ("memory_v2_version", 25),
    ("processes_listed", 0),
    // softgpu has no thermometer and no links.
    ("temperature", 3),
    ("serial", 3),
    ("by_serial", 6),
    ("persistence", 3),
    ("bar1", 3),
    ("ecc", 3),
    ("mig", 3),
    ("not_served", 3),
    ("table", 0),
    ("table_other", 13),
    ("table_null", 2),
    ("table_length", 1),
    ("table_handle", 0),
    ("table_handle_same", 1),
    ("table_unknown", 3),
    ("table_processes", 0),
    ("table_graphics", 0),
    ("table_graphics_none", 0),
    ("events", 0),
    ("events_register", 3),
    ("events_wait", 10),
    ("events_wait_nowhere", 2),
    ("events_free", 0),
    ("shutdown", 0),
    ("after_shutdown", 1),
];

#[test]
fn nvml_shows_the_vgpu_and_its_own_processes() -> Result<()> {
    let programs = Programs::for_tests()?;
    let folder = Folder::new("rgpu-nvml-")?;
    let program = compile(folder.path(), "nvml")?;
    let tenant = |name: &str| {
        format!(
            "[[tenant]]\nname = \"{name}\"\ntoken = \"{name}-token-{name}-token\"\nmemory_mib = 512\n"
        )
    };
    let options = ServerOptions {
        config: Some(tenant("first") + &tenant("second")),
        ..ServerOptions::default()
    };
    let server = Server::start(&programs, folder.path(), &options)?;
    let of = |name: &str| -> Result<Environment> {
        let mut environment = server.client(&programs, "unix")?;
        environment.retain(|(name, _)| name != "RGPU_TOKEN_FILE");
        environment.push(("RGPU_TOKEN".into(), format!("{name}-token-{name}-token")));
        Ok(environment)
    };
    let (first, second) = (of("first")?, of("second")?);
    let idle = watch(&program, &first)?;
    says(&idle, SAME)?;
    says(
        &idle,
        &[("memory_used", 0), ("processes_asked", 0), ("processes", 0)],
    )?;

    let holder = Holder::start(&program, &first)?;
    let pid = i64::from(holder.child.id());
    let beside = watch(&program, &first)?;
    let foreign = watch(&program, &second)?;
    let inside = holder.end()?;

    says(&inside, SAME)?;
    says(
        &inside,
        &[("cuMemAlloc", 0), ("cuda_total", 512), ("cuda_used", 200)],
    )?;
    for text in [&inside, &beside] {
        says(
            text,
            &[
                ("memory_used", 200),
                ("processes_asked", 7),
                ("processes", 1),
                ("process_pid", pid),
                ("process_memory", 200),
                ("table_process_pid", pid),
                ("table_process_memory", 200),
                ("table_process_name", 1),
            ],
        )?;
    }
    says(&foreign, SAME)?;
    says(&foreign, &[("memory_used", 0), ("processes", 0)])
}

/// Two tenants on a server of two devices: each has a part of one, which is all that its programs see.
#[test]
fn a_vgpu_is_one_device_to_cuda_and_to_nvml() -> Result<()> {
    let programs = Programs::for_tests()?;
    let folder = Folder::new("rgpu-nvml-")?;
    let program = compile(folder.path(), "nvml")?;
    let tenant = |name: &str| {
        format!(
            "[[tenant]]\nname = \"{name}\"\ntoken = \"{name}-token-{name}-token\"\nprofile = \"part\"\n"
        )
    };
    let profile =
        "[placement]\npolicy = \"spread\"\n[[profile]]\nname = \"part\"\nmemory_mib = 512\n";
    let options = ServerOptions {
        config: Some(profile.to_owned() + &tenant("first") + &tenant("second")),
        environment: vec![("SOFTGPU_DEVICES".into(), "2".into())],
        ..ServerOptions::default()
    };
    let server = Server::start(&programs, folder.path(), &options)?;
    let of = |name: &str, group: &str| -> Result<Environment> {
        let mut environment = server.client(&programs, "unix")?;
        environment.retain(|(name, _)| name != "RGPU_TOKEN_FILE");
        environment.push(("RGPU_TOKEN".into(), format!("{name}-token-{name}-token")));
        environment.push(("RGPU_VGPU".into(), group.into()));
        Ok(environment)
    };
    let holders = [
        Holder::start(&program, &of("first", "job")?)?,
        Holder::start(&program, &of("second", "job")?)?,
        // On the vGPU of the first.
        Holder::start(&program, &of("first", "job")?)?,
    ];
    let beside = watch(&program, &of("first", "job")?)?;
    let [first, second, with_first] = holders;
    let (with_first, first) = (with_first.end()?, first.end()?);
    let second = second.end()?;
    for text in [&first, &second] {
        says(text, SAME)?;
        let used = [
            ("cuda_total", 512),
            ("cuda_used", 200),
            ("memory_used", 200),
        ];
        says(text, &used)?;
    }
    // Beside its own there is what the other has and what is kept for that one's program, which this one cannot have.
    let used = value(&with_first, "cuda_used");
    ensure!((400..=464).contains(&used), "{used}\n{with_first}");
    says(&with_first, SAME)?;
    says(&with_first, &[("cuda_total", 512), ("memory_used", used)])?;
    says(&beside, SAME)?;
    says(&beside, &[("memory_used", 400), ("processes", 2)])
}

/// The daemon's host has an NVML of its own, so its readings are the tenant's.
#[test]
fn nvml_tells_what_the_hosts_own_one_reads() -> Result<()> {
    let programs = Programs::for_tests()?;
    let folder = Folder::new("rgpu-nvml-")?;
    let program = compile(folder.path(), "nvml")?;
    let host = folder.path().join("host");
    std::fs::create_dir(&host)?;
    let library = host.join("libnvidia-ml.so.1");
    gcc(&["-shared", "-fPIC"], "host_nvml", &library)?;
    let options = ServerOptions {
        environment: vec![("LD_LIBRARY_PATH".into(), host.display().to_string())],
        ..ServerOptions::default()
    };
    let server = Server::start(&programs, folder.path(), &options)?;
    let text = watch(&program, &server.client(&programs, "unix")?)?;
    says(
        &text,
        &[
            // Its form of the memory is too old: the driver is asked instead.
            ("memory_total", 4096),
            ("memory_used", 0),
            ("temperature", 0),
            ("serial", 0),
            ("serial_length", 13),
            ("serial_short", 7),
            ("by_serial", 0),
            ("by_serial_same", 1),
            ("by_serial_none", 6),
            ("vbios", 0),
            ("persistence", 0),
            ("persistence_value", 1),
            ("bar1", 0),
            ("bar1_used", 2),
            // Uncorrected ones since the driver was loaded.
            ("ecc", 0),
            ("ecc_value", 15),
            ("ecc_kind", 1),
            ("reasons", 0),
            ("reasons_value", 4),
            ("power_limits", 0),
            ("power_limits_value", 200_700),
            // A tenant's share is not cut, whatever the host's mode is.
            ("mig", 0),
            ("mig_value", 0),
        ],
    )
}

#[test]
fn without_a_server_nvml_has_no_driver() -> Result<()> {
    let programs = Programs::for_tests()?;
    let folder = Folder::new("rgpu-nvml-")?;
    let program = compile(folder.path(), "nvml")?;
    let nowhere = folder.path().join("nobody.sock");
    let text = watch(
        &program,
        &vec![
            (
                "LD_LIBRARY_PATH".into(),
                programs.client_lib().display().to_string(),
            ),
            (
                "RGPU_SERVERS".into(),
                format!("unix://{}", nowhere.display()),
            ),
        ],
    )?;
    says(&text, &[("init", 9), ("count", 1), ("shutdown", 1)])
}

/// What holds for the first device of the list, and that there are those of all servers.
#[test]
fn nvml_lists_the_devices_of_all_servers() -> Result<()> {
    let programs = Programs::for_tests()?;
    let folder = Folder::new("rgpu-nvml-")?;
    let program = compile(folder.path(), "nvml")?;
    let fleet = Fleet::start(&programs, folder.path(), 2)?;
    let list = [("unix", 0, "/0"), ("tcp", 1, "/1")];
    let text = watch(&program, &fleet.client(&programs, &list)?)?;
    let whole: Vec<(&str, i64)> = SAME
        .iter()
        .map(|&(fact, value)| match fact {
            "devices" => (fact, 2),
            // Without a limit a device is shown with all its memory.
            "memory_total" => (fact, 4096),
            fact => (fact, value),
        })
        .collect();
    says(&text, &whole)
}
