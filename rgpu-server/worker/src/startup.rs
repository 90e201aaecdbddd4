//! From an exec'ed process to a session: load the driver, wait for the broker's assignment, welcome the client.

use std::collections::HashSet;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail, ensure};
use rgpu_proto::CudaError;
use rgpu_proto::content::Known;
use rgpu_proto::control::{Assign, FromWorker, HostDevice, ToWorker, reason};
use rgpu_proto::frame::MAX_BODY;
use rgpu_proto::handshake::{
    AddressWindow, Answer, CREDIT_GRANULE, Hello, Limits, Purpose, VERSION_4, Welcome, credit_parts,
};
use rgpu_proto::snapshot::{DeviceSnapshot, Snapshot};
use rgpu_transport::control_socket::ControlError;
use rgpu_transport::{Offer, Pipe};

use crate::WorkerArgs;
use crate::calls::memory;
use crate::clearing::{self, Clearing};
use crate::content::{self, Contents, Given};
pub use crate::control::Control;
use crate::control::{Afterlife, Socket};
use crate::driver::Driver;
use crate::gate::{Gates, Terms};
use crate::held::Told;
use crate::isolation;
use crate::memory_map::{MemoryMap, Range, Window};
use crate::monitor::Monitor;
use crate::page::{Page, Row};
use crate::reader::Reader;
use crate::readings::Host;
use crate::session::Session;
use crate::snapshot;
use crate::state::Shared;
use crate::swap::Swap;
use crate::threads;

/// Bounds of an address window in bytes.
const WINDOW_LEN: std::ops::RangeInclusive<u64> = 64 << 20..=1 << 40;
const PAGE: u64 = 4096;
/// Memory that is mapped ahead, so that a program's first allocations need not wait.
const CREDIT: u64 = 32 << 20;
/// What this program calls itself.
const SERVER: &str = concat!("rgpud ", env!("CARGO_PKG_VERSION"));
/// How long a client may take to read its welcome.
const WELCOME: Duration = Duration::from_secs(20);

/// The broker's socket, which is this process's standard input until now: a child that needs no other descriptor is spawned without a copy of the
/// daemon's page tables.
fn control_socket() -> anyhow::Result<OwnedFd> {
    let given = std::io::stdin();
    let is_socket = rustix::fs::fstat(&given)
        .is_ok_and(|it| rustix::fs::FileType::from_raw_mode(it.st_mode).is_socket());
    ensure!(
        is_socket,
        "a worker is started by rgpud, which gives it its control socket as standard input"
    );
    let control = given.as_fd().try_clone_to_owned()?;
    let nothing = std::fs::File::open("/dev/null").context("/dev/null")?;
    // SAFETY: nobody reads the standard input through a buffer of std's.
    let replaced = unsafe { libc::dup2(nothing.as_raw_fd(), 0) };
    ensure!(replaced == 0, "the standard input stays as it is");
    Ok(control)
}

pub fn run(args: &WorkerArgs) -> anyhow::Result<()> {
    threads::take_signals();
    let driver = args.driver.as_path();
    isolation::begin(args.memory).context("the worker's limits")?;
    spare_memory();
    name("rgpud-ready".into());
    let control = control_socket()?;
    let control: Arc<Control> = Arc::new(
        Control::from_fd(control)
            .context("the standard input must be the broker's control socket")?,
    );
    let mut given = Given {
        driver: content::driver(driver),
        ..Given::default()
    };
    let before = clearing::open_devices();
    told(
        &control,
        isolation::before_driver(driver, &args.files).map(drop),
    )?;
    let (loaded, snapshot, books) = match load(driver) {
        Ok(loaded) => loaded,
        Err((result, error)) => {
            let ended = FromWorker::Ended {
                result: result.0,
                reason: reason(format!("{error:#}")),
            };
            control.send(&ended, None)?;
            return Err(error);
        }
    };
    let devices = snapshot.devices.iter().map(host_device).collect();
    control.send(&FromWorker::Devices(devices), None)?;
    let clears = args.clears.unwrap_or_else(|| has_devices(&before));
    let isolated = told(&control, isolation::Session::prepare(driver, &args.files))?;
    let driver = loaded;
    control.send(&FromWorker::Ready, None)?;
    given.held = books.map(|books| books.devices(snapshot.devices.len()));
    let word = loop {
        match control.receive()? {
            Some((ToWorker::Content { number }, Some(file))) => given.segments.push((number, file)),
            Some((ToWorker::Ledger { row }, Some(file))) => {
                let page = Page::join(file).context("the vGPU's page")?;
                // The next broker counts in the same one.
                let again = page.file().try_clone_to_owned();
                control.hand_on(again.context("the vGPU's page")?);
                let row = row as usize;
                given.row = Some(Row { page, row });
            }
            Some((ToWorker::Outlive(outlive), Some(listener))) => {
                control.outlive(Afterlife { listener, outlive });
            }
            word => break word,
        }
    };
    let (assign, socket) = match word {
        Some((ToWorker::Assign(assign), Some(socket))) => (assign, socket),
        Some((ToWorker::Assign(_), None)) => bail!("the broker's assignment came without a socket"),
        Some((ToWorker::End { reason, .. }, _)) => {
            tracing::debug!(reason, "ended before a session came");
            return Ok(());
        }
        Some(_) => bail!("the broker's first word is no assignment"),
        None => return Ok(()),
    };
    // The library that it reads is the host's, like the driver.
    let host = (assign.hello.purpose == Purpose::Monitor).then(Host::open);
    told(&control, isolated.enter(assign.user))?;
    if let Some(host) = host {
        name("rgpud-monitor".into());
        let control = control.socket();
        return watch(driver, host, snapshot, *assign, socket, control);
    }
    name(format!("rgpud-s{}", assign.session));
    let span = tracing::info_span!("session", session = assign.session, tenant = assign.tenant);
    let _of_session = span.entered();
    crate::printed::begin().context("no pipe for what kernels print")?;
    let clearing = Clearing::new(clears);
    let driver = Arc::new(driver);
    let (session, reader) = begin(driver, snapshot, *assign, given, clearing, socket, control)?;
    session.serve(reader);
    // Nobody takes it, but the log has it.
    drop(crate::printed::take());
    // Not the usual way out: the driver's own exit handlers may wait for threads that are still inside it. The system frees the rest.
    // SAFETY: nothing is left to do in this process.
    unsafe { libc::_exit(0) }
}

/// The broker is told why there will be no session.
fn told<T>(control: &Control, confined: Result<T, rgpu_sandbox::Error>) -> anyhow::Result<T> {
    let confined = confined.context("the worker cannot be confined");
    if let Err(error) = &confined {
        let ended = FromWorker::Ended {
            result: CudaError::UNKNOWN.0,
            reason: reason(format!("{error:#}")),
        };
        control.send(&ended, None)?;
    }
    confined
}

/// Whether the driver has opened a device since: one that has not gives the session pages of the system's.
fn has_devices(before: &HashSet<(RawFd, PathBuf)>) -> bool {
    !clearing::open_devices().is_subset(before)
}

/// What `ps` and `top` show.
fn name(name: String) {
    if let Ok(name) = std::ffi::CString::new(name) {
        let _ = rustix::thread::set_name(&name);
    }
}

/// One arena, and freed memory goes back soon: many workers share a host. But not what softgpu takes for each kernel: new pages for every launch
/// took an eighth of the time of a program with many small ones.
fn spare_memory() {
    const KEPT: i32 = 4 << 20;
    #[cfg(target_env = "gnu")]
    // SAFETY: before any other thread exists.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
        libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT);
        libc::mallopt(libc::M_MMAP_THRESHOLD, KEPT);
    }
}

fn host_device(device: &DeviceSnapshot) -> HostDevice {
    HostDevice {
        name: device.name.clone(),
        uuid: device.uuid,
        pci_bus_id: device.pci_bus_id.clone(),
        memory: device.total_memory,
    }
}

type Loaded = (Driver, Snapshot, Option<Told>);

fn load(path: &Path) -> Result<Loaded, (CudaError, anyhow::Error)> {
    use libloading::os::unix;
    // SAFETY: a CUDA driver's initialisers may run in this process; that is what it is for.
    let library = unsafe { unix::Library::open(Some(path), unix::RTLD_NOW | unix::RTLD_LOCAL) }
        .map_err(|error| {
            use std::error::Error as _;
            // The loader's own words: which library it has not found.
            let words = match error.source() {
                Some(source) => source.to_string(),
                None => error.to_string(),
            };
            let error = anyhow!(
                "the driver {} cannot be loaded: {words}; --driver must name a libcuda.so.1, and --worker-files what it needs beside its own folder",
                path.display()
            );
            (CudaError::NO_DEVICE, error)
        })?;
    let told = Told::of(&library);
    let driver = Driver::from_library(library.into());
    // SAFETY: no pointers.
    unsafe { driver_call!(driver.cuInit(0)) }.map_err(|result| {
        let error = anyhow!(
            "the driver {} does not start: cuInit returned {result}",
            path.display()
        );
        (result, error)
    })?;
    let snapshot = snapshot::take(&driver).map_err(|result| {
        let error = anyhow!(
            "the driver {} does not describe its devices: {result}",
            path.display()
        );
        (result, error)
    })?;
    Ok((driver, snapshot, told))
}

/// Welcomes a monitor and serves it.
fn watch(
    driver: Driver,
    host: Host,
    mut snapshot: Snapshot,
    assign: Assign,
    socket: OwnedFd,
    control: Arc<Socket>,
) -> anyhow::Result<()> {
    let pipe = client_pipe(&assign, socket)?;
    bound_memory(&mut snapshot, assign.memory_limit);
    let welcome = Welcome {
        session: assign.session,
        secret: assign.secret,
        server: SERVER.into(),
        limits: Limits {
            memory: assign.memory_limit,
            ..Limits::default()
        },
        windows: Vec::new(),
        snapshot: snapshot.clone(),
        rings: false,
        known: Known::default(),
    };
    let bytes = Answer::Welcome(Box::new(welcome)).encode(assign.version)?;
    pipe.write_all(&bytes, Instant::now() + WELCOME)
        .context("the client does not take its welcome")?;
    control.send(&FromWorker::Started, None)?;
    let monitor = Monitor {
        driver,
        host,
        snapshot,
        pipe,
        control: control.clone(),
    };
    let (result, reason) = match monitor.serve(&assign.leftover) {
        Ok(()) => (0, "the monitor closed".to_owned()),
        Err(error) => (CudaError::UNKNOWN.0, reason(format!("{error:#}"))),
    };
    // Nobody may be listening.
    let _ = control.send(&FromWorker::Ended { result, reason }, None);
    // SAFETY: nothing is left to do in this process; the driver's exit handlers need not run.
    unsafe { libc::_exit(0) }
}

fn client_pipe(assign: &Assign, socket: OwnedFd) -> anyhow::Result<Pipe> {
    match assign.relayed {
        true => Pipe::from_relayed_fd(socket),
        false => Pipe::from_fd(socket),
    }
    .context("the client's socket")
}

/// A device has no more memory than the session may hold.
fn bound_memory(snapshot: &mut Snapshot, limit: Option<u64>) {
    for device in &mut snapshot.devices {
        device.total_memory = device.total_memory.min(limit.unwrap_or(u64::MAX));
    }
}

/// Welcomes the client. What the session may use is settled here, once.
pub fn begin(
    driver: Arc<Driver>,
    mut snapshot: Snapshot,
    assign: Assign,
    mut given: Given,
    clearing: Clearing,
    socket: OwnedFd,
    control: Arc<Control>,
) -> anyhow::Result<(Arc<Session>, Reader)> {
    let mut pipe = client_pipe(&assign, socket)?;
    let limit = assign.memory_limit;
    bound_memory(&mut snapshot, limit);
    let windows = reserve_windows(&driver, &assign.hello, snapshot.devices.len());
    let mut map = MemoryMap::new(limit, windows.clone());
    if let Some(row) = given.row.take() {
        map.ledger.share(row);
    }
    map.ask(given.held.take());
    let total = snapshot
        .devices
        .first()
        .map_or(0, |device| device.total_memory);
    let memory_credit = match assign.may_move() {
        // All that may be moved has asked for room.
        true => 0,
        false => {
            let parts = credit_parts((total / 4).min(CREDIT), assign.version);
            map_credit(&driver, &mut map, &clearing, windows.first(), parts)
        }
    };
    let rings = rings(&assign, &pipe);
    given.budget = assign.keep;
    let content = Contents::begin(given, assign.hello.reuse.wanted, &snapshot);
    let (content, known) = content.map_or((None, Known::default()), |(content, known)| {
        (Some(content), known)
    });
    let welcome = Welcome {
        session: assign.session,
        secret: assign.secret,
        server: SERVER.into(),
        limits: Limits {
            memory: limit,
            share_percent: assign.share_percent,
            max_body: MAX_BODY,
            memory_credit,
        },
        windows: windows.iter().map(|window| window.range).collect(),
        snapshot,
        rings: rings.is_some(),
        known,
    };
    let devices = welcome.snapshot.devices.len();
    let bytes = Answer::Welcome(Box::new(welcome)).encode(assign.version)?;
    let deadline = Instant::now() + WELCOME;
    match rings {
        Some(rings) => pipe.invite(rings, &bytes, deadline),
        None => pipe.write_all(&bytes, deadline),
    }
    .context("the client does not take its welcome")?;
    pipe.simulate_as_asked().map_err(anyhow::Error::msg)?;
    let pipe = Arc::new(pipe);
    match control.send(&FromWorker::Started, None) {
        // The next broker knows by itself.
        Err(ControlError::Io(_)) if control.outlives() => {}
        told => told?,
    }
    tracing::info!(
        session = assign.session,
        tenant = assign.tenant,
        program = assign.hello.client.program,
        host = assign.hello.client.host,
        pid = assign.hello.client.pid,
        devices,
        windows = windows.len(),
        transport = ?pipe.capabilities().kind,
        "session begins"
    );
    let shared = Shared::new(driver, map, clearing);
    let gates = gates(&shared, &assign, devices);
    gates.connect(control.clone());
    if assign.may_move() {
        let (driver, handles) = (shared.driver.clone(), shared.handles.clone());
        let (gates, control) = (gates.clone(), control.clone());
        let swap = Swap::new(driver, handles, shared.memory_map(), gates, control);
        // A failed exchange: there was none before.
        let _ = shared.swap.set(swap);
    }
    // A failed exchange: there was none before.
    let _ = shared.gates.set(gates);
    if let Some(content) = content {
        // A failed exchange: there was none before.
        let _ = shared.content.set(content);
    }
    let descriptors = shared.descriptors.clone();
    if assign.version < VERSION_4 {
        descriptors.expect();
    }
    let session = Session::new(shared, pipe.clone(), control, assign.version);
    Ok((session, Reader::new(pipe, &assign.leftover, descriptors)))
}

/// What the session may use of devices, and when.
fn gates(shared: &Shared, assign: &Assign, devices: usize) -> Arc<Gates> {
    let limit = assign.kernel_time_limit_ms;
    let terms = Terms {
        devices,
        scheduled: assign.time_sharing,
        limit: limit.map(|millis| Duration::from_millis(millis.into())),
    };
    let (driver, handles) = (shared.driver.clone(), shared.handles.clone());
    let (hosts, stands) = (shared.hosts.clone(), shared.stands.clone());
    Gates::new(driver, handles, hosts, stands, terms)
}

/// Shared memory, if the client can use it.
fn rings(assign: &Assign, pipe: &Pipe) -> Option<Offer> {
    let wanted = assign.hello.rings && pipe.capabilities().passes_fds;
    // Bytes that came ahead by the socket would be lost.
    let wanted = wanted && assign.leftover.is_empty();
    let made = wanted.then(Offer::new)?;
    made.inspect_err(|error| tracing::warn!(%error, "no shared memory for the client"))
        .ok()
}

/// Reserves the windows that the client has proposed, one a device; none unless the driver gives every one of them as it was asked for.
fn reserve_windows(driver: &Driver, hello: &Hello, devices: usize) -> Vec<Window> {
    let mut reserved = Vec::new();
    for (device, window) in hello.windows.iter().take(devices).enumerate() {
        match reserve(driver, device as i32, *window) {
            Ok(granularity) => reserved.push(Window {
                range: *window,
                granularity,
            }),
            Err(why) => {
                tracing::info!(
                    device,
                    why,
                    "the driver chooses the addresses of device memory"
                );
                for window in &reserved {
                    free_window(driver, window.range.base, window.range.len);
                }
                return Vec::new();
            }
        }
    }
    reserved
}

/// Reserves one window; returns the granularity of mappings in it.
fn reserve(driver: &Driver, device: i32, window: AddressWindow) -> Result<u64, String> {
    if window.base == 0
        || !window.base.is_multiple_of(PAGE)
        || !window.len.is_multiple_of(PAGE)
        || !WINDOW_LEN.contains(&window.len)
        || window.base.checked_add(window.len).is_none()
    {
        return Err(format!(
            "the client's window of {:#x} bytes at {:#x} is not one of whole pages, 64 MiB to 1 TiB",
            window.len, window.base
        ));
    }
    let properties = memory::shareable(driver, device);
    let mut granularity = 0;
    // SAFETY: a place for the number; `properties` is cuda.h's struct. 0: the least granularity.
    unsafe {
        driver_call!(driver.cuMemGetAllocationGranularity(
            &mut granularity,
            (&raw const properties).cast(),
            0
        ))
    }
    .map_err(|error| format!("no virtual memory management: {error}"))?;
    if granularity == 0 {
        return Err("the driver's granularity is 0".into());
    }
    let mut base = 0;
    // SAFETY: a place for the address.
    unsafe {
        driver_call!(driver.cuMemAddressReserve(&mut base, window.len as usize, 0, window.base, 0))
    }
    .map_err(|error| format!("no reservation: {error}"))?;
    if base != window.base {
        free_window(driver, base, window.len);
        return Err(format!(
            "the driver gives {base:#x} where {:#x} was asked for",
            window.base
        ));
    }
    Ok(granularity as u64)
}

fn free_window(driver: &Driver, base: u64, len: u64) {
    // SAFETY: a whole reservation, made above, in which nothing is mapped.
    if let Err(error) = unsafe { driver_call!(driver.cuMemAddressFree(base, len as usize)) } {
        tracing::warn!(%error, "a reservation of addresses cannot be freed");
    }
}

/// Maps the first device's credit at the start of its window; returns how many bytes came about.
fn map_credit(
    driver: &Driver,
    map: &mut MemoryMap,
    clearing: &Clearing,
    window: Option<&Window>,
    parts: impl Iterator<Item = u64>,
) -> u64 {
    // The client does not hear of another granularity.
    let window = window.filter(|it| CREDIT_GRANULE.is_multiple_of(it.granularity));
    let Some(window) = window else {
        return 0;
    };
    let mut done = 0;
    for bytes in parts {
        let range = Range {
            address: window.range.base + done,
            bytes,
        };
        let planned = map.plan(0, range);
        if let Err(error) = planned.and_then(|()| memory::map(driver, 0, range)) {
            tracing::info!(%error, "less memory than usual is mapped ahead");
            if planned.is_ok() {
                map.unmapped(range.address);
            }
            break;
        }
        map.mapped(range.address);
        // There is no context yet.
        clearing.later(0, range);
        done += bytes;
    }
    done
}
