//! A whole worker: its own process, with the driver that runs PTX on the CPU, served by a broker and a client of a few lines.

#[path = "../src/testing/client.rs"]
mod client;

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use client::{Broker, Client, Incoming, MIB, MODULE, assignment};
use rgpu_proto::CudaError;
use rgpu_proto::calls::{self, op};
use rgpu_proto::control::{FromWorker, ToWorker};
use rgpu_proto::handshake::{AddressWindow, Welcome};
use rgpu_worker::{Page, Row};
use zerocopy::IntoBytes;
use zerocopy::little_endian::{U32, U64};

const DRIVER: &str = "RGPU_TEST_WORKER_DRIVER";
const ADD: u64 = 0x4_0010;
const SPIN: u64 = 0x4_0020;
const WILD: u64 = 0x4_0030;
const STREAM: u64 = 0x3_0010;
/// The session's, in its vGPU's page.
const ROW: usize = 3;

/// `add`: a[i] += b[i]; `spin`: never ends; `wild`: stores where nothing is.
const PTX: &str = r#"
.version 7.0
.target sm_80
.address_size 64

.visible .global .align 4 .u32 counter = 42;

.visible .entry add(.param .u64 a, .param .u64 b, .param .u32 n)
{
    .reg .pred %p;
    .reg .b32 %r<8>;
    .reg .b64 %rd<8>;
    ld.param.u64 %rd1, [a];
    ld.param.u64 %rd2, [b];
    ld.param.u32 %r1, [n];
    mov.u32 %r2, %ctaid.x;
    mov.u32 %r3, %ntid.x;
    mov.u32 %r4, %tid.x;
    mad.lo.s32 %r5, %r2, %r3, %r4;
    setp.ge.u32 %p, %r5, %r1;
    @%p bra DONE;
    mul.wide.u32 %rd3, %r5, 4;
    add.s64 %rd4, %rd1, %rd3;
    add.s64 %rd5, %rd2, %rd3;
    ld.global.u32 %r6, [%rd4];
    ld.global.u32 %r7, [%rd5];
    add.u32 %r6, %r6, %r7;
    st.global.u32 [%rd4], %r6;
DONE:
    ret;
}

.visible .entry spin()
{
LOOP:
    bra LOOP;
}

.visible .entry wild()
{
    .reg .b32 %r<2>;
    .reg .b64 %rd<2>;
    mov.u64 %rd1, 4096;
    mov.u32 %r1, 1;
    st.global.u32 [%rd1], %r1;
    ret;
}
"#;

/// Not a test of its own: what the other tests start as a process of its own.
#[test]
fn worker_process() {
    if let Some(driver) = std::env::var_os(DRIVER) {
        let driver = PathBuf::from(driver);
        let home = std::env::var_os("SOFTGPU_HOME");
        let args = rgpu_worker::WorkerArgs {
            driver,
            files: home.into_iter().map(PathBuf::from).collect(),
            memory: None,
            clears: None,
        };
        rgpu_worker::run(args).unwrap();
    }
}

/// The driver's library lies beside this test's program: it is a dependency of it.
fn driver() -> PathBuf {
    let path = std::env::current_exe()
        .unwrap()
        .with_file_name("libsoftgpu_cuda.so");
    assert!(path.exists(), "{} is not built", path.display());
    path
}

struct Rig {
    process: Child,
    broker: Broker,
    client: Client,
    welcome: Welcome,
    home: tempfile::TempDir,
}

impl Rig {
    fn launch(driver: PathBuf) -> (Child, Broker, tempfile::TempDir) {
        Rig::launch_with(driver, &[])
    }

    fn launch_with(
        driver: PathBuf,
        environment: &[(&str, &str)],
    ) -> (Child, Broker, tempfile::TempDir) {
        let home = tempfile::tempdir().unwrap();
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", "worker_process", "--test-threads=1"])
            .env_clear()
            .env(DRIVER, driver)
            .env("SOFTGPU_HOME", home.path())
            .envs(environment.iter().copied())
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::null());
        let process = command.spawn().unwrap();
        (process, Broker::from_fd(ours.into()).unwrap(), home)
    }

    fn start(limit: u64) -> Rig {
        Rig::start_with(limit, None)
    }

    fn start_with(limit: u64, page: Option<&Page>) -> Rig {
        let (process, broker, home) = Rig::launch(driver());
        let (devices, _) = broker.receive().unwrap().unwrap();
        let FromWorker::Devices(devices) = devices else {
            panic!("{devices:?}")
        };
        assert_eq!(devices.len(), 1);
        let (ready, _) = broker.receive().unwrap().unwrap();
        assert_eq!(ready, FromWorker::Ready);
        let (mut client, socket) = Client::pair();
        let window = AddressWindow {
            base: 0x2080_0000_0000,
            len: 128 << 30,
        };
        if let Some(page) = page {
            let ledger = ToWorker::Ledger { row: ROW as u32 };
            broker.send(&ledger, Some(page.file())).unwrap();
        }
        let assign = ToWorker::Assign(Box::new(assignment(Some(limit), vec![window], Vec::new())));
        broker.send(&assign, Some(socket.as_fd())).unwrap();
        drop(socket);
        let welcome = client.welcome();
        let (started, _) = broker.receive().unwrap().unwrap();
        assert_eq!(started, FromWorker::Started);
        Rig {
            process,
            broker,
            client,
            welcome,
            home,
        }
    }

    fn ready(limit: u64) -> Rig {
        let mut rig = Rig::start(limit);
        rig.client.context();
        let (status, errors, table) = rig.client.load(MODULE, PTX.as_bytes());
        assert_eq!(status, 0, "{errors}");
        let table = table.unwrap();
        assert!(table.complete);
        let add = table.functions.iter().find(|f| f.name == "add").unwrap();
        assert_eq!(add.params, [(0, 8), (8, 8), (16, 4)]);
        for (id, name) in [(ADD, "add"), (SPIN, "spin"), (WILD, "wild")] {
            rig.client.bind(id, name);
        }
        let stream = [&STREAM.to_le_bytes()[..], &1_u32.to_le_bytes()].concat();
        rig.client.send(1, op::cuStreamCreate, &[&stream]);
        assert_eq!(rig.client.synchronize(), (0, 0));
        rig
    }

    /// Waits for the worker's last word, and for its process.
    fn ended(mut self) -> (u32, String) {
        let end = loop {
            match self.broker.receive().unwrap().unwrap().0 {
                FromWorker::Usage(_) => {}
                FromWorker::Ended { result, reason } => break (result, reason),
                other => panic!("{other:?}"),
            }
        };
        assert!(self.process.wait().unwrap().success());
        drop(self.home);
        end
    }

    /// Resident bytes of the worker.
    fn resident(&self) -> u64 {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find(|l| l.starts_with("VmRSS:")).unwrap();
        line.split_whitespace()
            .nth(1)
            .unwrap()
            .parse::<u64>()
            .unwrap()
            * 1024
    }
}

fn words(values: impl Iterator<Item = u32>) -> Vec<u8> {
    values.flat_map(u32::to_le_bytes).collect()
}

#[test]
fn a_session_maps_copies_and_computes() {
    let mut rig = Rig::ready(256 * MIB);
    assert_eq!(rig.welcome.snapshot.devices[0].total_memory, 256 * MIB);
    assert_eq!(rig.welcome.limits.memory_credit, 32 * MIB);
    let base = rig.welcome.windows[0].base;
    let client = &mut rig.client;
    let (a, b, n) = (base, base + 40 * MIB, 10_000_u32);
    assert_eq!(client.map(base + 32 * MIB, 16 * MIB), 0);
    client.copy_in(a, &words(0..n));
    client.copy_in(b, &words((0..n).map(|i| i * 3)));
    let params = [&a.to_le_bytes()[..], &b.to_le_bytes(), &n.to_le_bytes()].concat();
    let launch = Client::launch_args(ADD, n.div_ceil(128), 128, STREAM, &params);
    client.send(1, op::rgpuLaunch, &[launch.as_bytes(), &params]);
    let read = Client::copy_out_args(a, u64::from(n) * 4, STREAM);
    let sum = client.must(op::rgpuCopyOut, &[read.as_bytes()]);
    assert!(sum == words((0..n).map(|i| i * 4)));

    let global = calls::rgpuModuleGlobalArgs {
        module: U64::new(MODULE),
        name_len: U64::new(7),
    };
    let found = client.must(op::rgpuModuleGlobal, &[global.as_bytes(), b"counter"]);
    let address = u64::from_le_bytes(*found.first_chunk().unwrap());
    assert_eq!(client.copy_out(address, 4), 42_u32.to_le_bytes());

    assert_eq!(
        client.map(base + 64 * MIB, 256 * MIB),
        CudaError::OUT_OF_MEMORY.0
    );
    client.unmap(base + 32 * MIB, 16 * MIB);
    // The driver has taken 2 MiB for the module's variable.
    assert_eq!(
        client.map(base + 64 * MIB, 224 * MIB),
        CudaError::OUT_OF_MEMORY.0
    );
    assert_eq!(client.map(base + 64 * MIB, 222 * MIB), 0);
    let info = client.memory_info();
    assert_eq!((info.mapped.get(), info.free.get()), (256 * MIB, 0));
    drop(rig.client.stream.shutdown(std::net::Shutdown::Both));
    assert_eq!(rig.ended(), (0, "the client closed".into()));
}

/// What the sessions of a vGPU hold is in its page, as much as the device has given, and stays there when a worker is killed.
#[test]
fn what_is_held_is_in_the_page() {
    let page = Page::create().unwrap();
    let mut rig = Rig::start_with(64 * MIB, Some(&page));
    let base = rig.welcome.windows[0].base;
    let credit = rig.welcome.limits.memory_credit;
    let client = &mut rig.client;
    client.context();
    assert_eq!(page.held(ROW, 0), credit);
    assert_eq!(client.map(base + 32 * MIB, 16 * MIB), 0);
    assert_eq!(
        (page.held(ROW, 0), page.total()),
        (credit + 16 * MIB, credit + 16 * MIB)
    );
    // Its variable is in a piece of 2 MiB.
    assert_eq!(client.load(MODULE, PTX.as_bytes()).0, 0);
    assert_eq!(page.held(ROW, 0), credit + 18 * MIB);
    let free = 64 * MIB - page.total();
    assert_eq!(client.memory_info().free.get(), free);
    assert_eq!(
        client.map(base + 48 * MIB, free + 2 * MIB),
        CudaError::OUT_OF_MEMORY.0
    );
    assert_eq!(page.total(), credit + 18 * MIB);
    // Another session of the vGPU takes the rest.
    let file = page.file().try_clone_to_owned().unwrap();
    let other = Row {
        page: Page::join(file).unwrap(),
        row: ROW + 1,
    };
    assert!(other.claim(0, free, Some(64 * MIB)));
    assert_eq!(client.memory_info().free.get(), 0);
    assert_eq!(
        client.map(base + 48 * MIB, 2 * MIB),
        CudaError::OUT_OF_MEMORY.0
    );
    rig.process.kill().unwrap();
    rig.process.wait().unwrap();
    assert_eq!(page.total(), 64 * MIB);
    page.clear(ROW);
    assert_eq!((page.held(ROW, 0), page.total()), (0, free));
}

#[test]
fn a_worker_sees_the_device_that_it_is_told() {
    let devices = |environment: &[(&str, &str)]| {
        let (mut process, broker, _home) = Rig::launch_with(driver(), environment);
        let (told, _) = broker.receive().unwrap().unwrap();
        let (ready, _) = broker.receive().unwrap().unwrap();
        assert_eq!(ready, FromWorker::Ready);
        drop(broker);
        assert!(process.wait().unwrap().success());
        match told {
            FromWorker::Devices(devices) => devices,
            other => panic!("{other:?}"),
        }
    };
    let two = ("SOFTGPU_DEVICES", "2");
    let all = devices(&[two]);
    assert_eq!(all.len(), 2);
    let second = all[1].uuid_text();
    let only = devices(&[two, ("CUDA_VISIBLE_DEVICES", &second)]);
    assert_eq!(only, all[1..]);
}

#[test]
fn graphs_run_with_their_nodes_in_order() {
    let mut rig = Rig::ready(256 * MIB);
    let base = rig.welcome.windows[0].base;
    let client = &mut rig.client;
    let (graph, first, second, exec) = (0x6_0010_u64, 0x7_0010_u64, 0x7_0020_u64, 0x8_0010_u64);
    let n = 1000_u32;
    client.copy_in(base, &words((0..n).map(|_| 1)));
    client.send(
        1,
        op::cuGraphCreate,
        &[&graph.to_le_bytes(), &0_u32.to_le_bytes()],
    );
    // a += a, twice, the second after the first.
    let params = [
        &base.to_le_bytes()[..],
        &base.to_le_bytes(),
        &n.to_le_bytes(),
    ]
    .concat();
    for (node, after) in [(first, Vec::new()), (second, first.to_le_bytes().to_vec())] {
        let one = U32::new(1);
        let args = calls::rgpuGraphAddKernelNodeArgs {
            id: U64::new(node),
            graph: U64::new(graph),
            function: U64::new(ADD),
            grid_x: U32::new(n.div_ceil(64)),
            grid_y: one,
            grid_z: one,
            block_x: U32::new(64),
            block_y: one,
            block_z: one,
            shared_bytes: U32::new(0),
            dependencies_len: U64::new(after.len() as u64),
            params_len: U64::new(params.len() as u64),
        };
        client.send(
            1,
            op::rgpuGraphAddKernelNode,
            &[args.as_bytes(), &after, &params],
        );
    }
    client.send(
        1,
        op::rgpuGraphInstantiate,
        &[&exec.to_le_bytes(), &graph.to_le_bytes(), &[0; 8]],
    );
    for _ in 0..3 {
        client.send(
            1,
            op::rgpuGraphLaunch,
            &[&exec.to_le_bytes(), &STREAM.to_le_bytes()],
        );
    }
    assert_eq!(client.synchronize(), (0, 0));
    assert!(client.copy_out(base, u64::from(n) * 4) == words((0..n).map(|_| 64)));
}

#[test]
fn a_fault_is_sticky_and_the_session_stays() {
    let mut rig = Rig::ready(256 * MIB);
    rig.client.launch(1, WILD, STREAM, &[]);
    assert_eq!(rig.client.synchronize().0, CudaError::ILLEGAL_ADDRESS.0);
    let (status, ..) = rig
        .client
        .call(1, op::cuStreamSynchronize, &[&STREAM.to_le_bytes()]);
    assert_eq!(status, CudaError::ILLEGAL_ADDRESS.0);
    rig.client
        .stream
        .shutdown(std::net::Shutdown::Both)
        .unwrap();
    assert_eq!(rig.ended().0, 0);
}

#[test]
fn an_endless_kernel_does_not_outlive_its_session() {
    let mut rig = Rig::ready(256 * MIB);
    rig.client.launch(1, SPIN, STREAM, &[]);
    rig.client
        .ask(1, op::cuStreamSynchronize, &[&STREAM.to_le_bytes()]);
    let end = ToWorker::End {
        result: 702,
        reason: "enough".into(),
    };
    rig.broker.send(&end, None).unwrap();
    let Incoming::Ended { status: 702, .. } = rig.client.receive() else {
        panic!("not told");
    };
    assert_eq!(rig.ended(), (702, "enough".into()));
}

#[test]
fn an_idle_worker_is_small() {
    let mut rig = Rig::start(256 * MIB);
    rig.client.context();
    // After a long copy the buffers are given up again; the page tables and code of the driver stay.
    let base = rig.welcome.windows[0].base;
    rig.client.copy_in(base, &vec![1; 8 << 20]);
    rig.client.copy_out(base, 4);
    rig.client.unmap(base, 32 * MIB);
    rig.client.synchronize();
    // The buffers go when the client pauses.
    let limit = 24 * MIB;
    let patience = Instant::now() + Duration::from_secs(20);
    while rig.resident() > limit && Instant::now() < patience {
        std::thread::yield_now();
    }
    let resident = rig.resident();
    assert!(resident <= limit, "{} KiB", resident >> 10);
}

#[test]
fn a_driver_that_does_not_load_is_told_to_the_broker() {
    let (mut process, broker, _home) = Rig::launch("/nonexistent/libcuda.so.1".into());
    let Some((
        FromWorker::Ended {
            result: 100,
            reason,
        },
        _,
    )) = broker.receive().unwrap()
    else {
        panic!("not told");
    };
    assert!(
        reason.contains("/nonexistent/libcuda.so.1 cannot be loaded"),
        "{reason}"
    );
    assert!(!process.wait().unwrap().success());
}
