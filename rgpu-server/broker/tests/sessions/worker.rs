//! A worker that does what its client tells it, a byte at a time.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};

use rgpu_proto::adoption::{FromOrphan, Side, ToOrphan};
use rgpu_proto::control::{
    self, Decoder, FromWorker, HostDevice, LAYOUT, Outlive, ToWorker, Usage,
};
use rgpu_proto::handshake::{Answer, Limits, Purpose, Welcome};
use rgpu_proto::ipc::LoanSecret;
use rgpu_proto::monitor::{DeviceSample, Question, Readings, Sample};
use rgpu_proto::snapshot::{DeviceSnapshot, Snapshot};
use rgpu_transport::control_socket::ControlError;
use rgpu_transport::{ControlSocket, Pipe};
use rgpu_worker::{Page, Row};

/// Dies by a signal.
pub const CRASH: u8 = b'c';
/// Stops listening to the broker.
pub const DEAF: u8 = b'd';
/// Answers its environment, a line a variable, and a NUL.
pub const ENVIRONMENT: u8 = b'e';
/// Writes [`FLOOD_LEN`] bytes, more than the sockets on the way hold.
pub const FLOOD: u8 = b'f';
pub const FLOOD_LEN: usize = 32 << 20;
/// Borrows of the session whose number follows, with a secret of twice that number; answers one byte, how it went.
pub const BORROW: u8 = b'b';
pub const LENT: u8 = b'y';
pub const NOT_LENT: u8 = b'n';
/// Of a session that is there, whose worker lends nothing.
pub const NOTHING: u8 = b'0';
/// Lends nothing from now on.
pub const KEEP: u8 = b'k';
/// Answers with the same byte.
pub const ECHO: u8 = b'.';

/// Counts that many MiB, the number that follows, as held; answers [`LENT`] or [`NOT_LENT`].
pub const HOLD: u8 = b'h';
/// Answers its vGPU and devices, and a NUL.
pub const VGPU: u8 = b'v';

/// As many devices of 1 GiB as SOFTGPU_DEVICES says, of which CUDA_VISIBLE_DEVICES may name one.
fn devices() -> Option<Vec<HostDevice>> {
    let count: u8 = std::env::var("SOFTGPU_DEVICES").ok()?.parse().ok()?;
    let visible = std::env::var("CUDA_VISIBLE_DEVICES").ok();
    let all = (0..count).map(|number| HostDevice {
        name: format!("device {number}"),
        uuid: [number; 16],
        memory: 1 << 30,
        ..HostDevice::default()
    });
    let is_seen = |device: &HostDevice| visible.iter().all(|uuid| *uuid == device.uuid_text());
    Some(all.filter(is_seen).collect())
}

type Control = ControlSocket<FromWorker, ToWorker>;

pub fn main(arguments: &[String]) -> ExitCode {
    // SAFETY: the broker has put the control socket there, and nothing else in this process owns it.
    let fd = unsafe { OwnedFd::from_raw_fd(0) };
    let control = Arc::new(Control::from_fd(fd).expect("the standard input"));
    if arguments.iter().any(|word| word.ends_with("broken.so")) {
        end(&control, 100, "the driver does not load");
        return ExitCode::from(1);
    }
    if let Some(devices) = devices() {
        let devices = FromWorker::Devices(devices);
        control.send(&devices, None).expect("devices");
    }
    control.send(&FromWorker::Ready, None).expect("ready");
    let mut row = None;
    let mut afterlife = None;
    let (assign, socket) = loop {
        match control.receive() {
            Ok(Some((ToWorker::Ledger { row: number }, Some(file)))) => {
                let page = Page::join(file).expect("a page");
                let number = number as usize;
                row = Some(Row { page, row: number });
            }
            Ok(Some((ToWorker::Outlive(outlive), Some(listener)))) => {
                afterlife = Some((outlive, UnixListener::from(listener)));
            }
            Ok(Some((ToWorker::Assign(assign), Some(socket)))) => break (assign, socket),
            _ => return ExitCode::from(2),
        }
    };
    assert!(
        assign.hello.token.is_empty(),
        "the token must not reach the worker"
    );
    // The options of a real worker's pipe; blocking here.
    let socket = Pipe::from_fd(socket).expect("a pipe").into_fd();
    rustix::io::ioctl_fionbio(&socket, false).expect("blocking");
    // Reads and writes of a stream do not ask which kind it is.
    let mut stream = TcpStream::from(socket);
    let welcome = Welcome {
        session: assign.session,
        secret: assign.secret,
        server: std::process::id().to_string(),
        snapshot: snapshot(),
        limits: Limits {
            memory: assign.memory_limit,
            ..Limits::default()
        },
        windows: Vec::new(),
        rings: false,
        known: Default::default(),
    };
    let welcome = Answer::Welcome(Box::new(welcome))
        .encode(assign.version)
        .expect("welcome");
    stream.write_all(&welcome).expect("welcome");
    stream.write_all(&assign.leftover).expect("leftover");
    control.send(&FromWorker::Started, None).expect("started");
    if assign.hello.purpose == Purpose::Monitor {
        return monitor(stream, &assign.leftover);
    }

    let deaf = Arc::new(Mutex::new(()));
    let keeps = Arc::new(AtomicBool::new(false));
    let (answers, lenders) = channel();
    let broker = Arc::new(Mutex::new(control.clone()));
    let (brokers, not_deaf, keeping) = (broker.clone(), deaf.clone(), keeps.clone());
    std::thread::spawn(move || {
        let mut listening = control;
        loop {
            let message = listening.receive();
            let _not_deaf = not_deaf.lock();
            match message {
                Ok(None) | Err(ControlError::Io(_)) if afterlife.is_some() => {
                    let (outlive, listener) = afterlife.as_ref().expect("it is there");
                    listening = Arc::new(adopted(outlive, listener));
                    let told = listening.send(&FromWorker::Usage(usage()), None);
                    told.expect("the next broker");
                    *brokers.lock().expect("no panic") = listening.clone();
                }
                Ok(Some((ToWorker::End { result, reason }, _))) => end(&listening, result, &reason),
                Ok(Some((ToWorker::Report, _))) => {
                    let told = listening.send(&FromWorker::Usage(usage()), None);
                    told.expect("the broker");
                }
                Ok(Some((ToWorker::Lend { secret }, Some(socket)))) => {
                    if !keeping.load(Ordering::Relaxed) {
                        let [half, whole] = secret.0.map(|word| word as u8);
                        let sent = UnixStream::from(socket).write_all(&[half, whole]);
                        sent.expect("room for two bytes");
                    }
                }
                Ok(Some((ToWorker::Lender { number, found }, socket))) => {
                    assert!(found == socket.is_some());
                    answers.send((number, socket)).expect("the other thread");
                }
                _ => std::process::exit(0),
            }
        }
    });
    let now = || broker.lock().expect("no panic").clone();
    let mut borrowed = 0;
    let mut byte = [0];
    loop {
        match stream.read(&mut byte) {
            Ok(1) => {}
            Ok(_) => end(&now(), 0, "the client closed its connection"),
            Err(error) => end(&now(), 46, &error.to_string()),
        }
        match byte[0] {
            CRASH => std::process::abort(),
            HOLD => {
                stream.read_exact(&mut byte).expect("a number");
                let bytes = u64::from(byte[0]) << 20;
                let row = row.as_ref().expect("a page");
                let got = row.claim(0, bytes, assign.memory_limit) && row.claim_of(0, 0, bytes);
                if !got {
                    row.set(0, 0, 0);
                }
                let answer = if got { LENT } else { NOT_LENT };
                stream.write_all(&[answer]).expect("an answer");
            }
            VGPU => {
                let says = format!("{} {:?}\0", assign.vgpu, assign.devices);
                stream.write_all(says.as_bytes()).expect("an answer");
            }
            KEEP => {
                keeps.store(true, Ordering::Relaxed);
                stream.write_all(&byte).expect("an answer");
            }
            BORROW => {
                stream.read_exact(&mut byte).expect("a number");
                let session = u64::from(byte[0]);
                borrowed += 1;
                let question = FromWorker::Borrow {
                    number: borrowed,
                    session,
                    secret: LoanSecret([session, 2 * session]),
                };
                now().send(&question, None).expect("a question");
                let (number, lender) = lenders.recv().expect("an answer");
                assert_eq!(number, borrowed);
                let mut lent = Vec::new();
                if let Some(lender) = lender.as_ref() {
                    let lender = lender.try_clone().expect("a descriptor");
                    let read = UnixStream::from(lender).read_to_end(&mut lent);
                    read.expect("until its end");
                }
                let answer = match (lender, lent.as_slice()) {
                    (None, _) => NOT_LENT,
                    (Some(_), []) => NOTHING,
                    (Some(_), lent) => {
                        assert_eq!(lent, [byte[0], 2 * byte[0]]);
                        LENT
                    }
                };
                stream.write_all(&[answer]).expect("an answer");
            }
            DEAF => {
                let _deaf = deaf.lock();
                stream.write_all(&byte).expect("an answer");
                loop {
                    std::thread::park();
                }
            }
            ENVIRONMENT => {
                let lines: String = std::env::vars()
                    .map(|(name, value)| format!("{name}={value}\n"))
                    .collect();
                stream
                    .write_all(format!("{lines}\0").as_bytes())
                    .expect("an answer");
            }
            FLOOD => {
                if stream.write_all(&vec![0; FLOOD_LEN]).is_err() {
                    end(&now(), 46, "the client does not take its bytes");
                }
            }
            _ => stream.write_all(&byte).expect("an answer"),
        }
    }
}

/// One device.
fn snapshot() -> Snapshot {
    Snapshot {
        devices: vec![DeviceSnapshot {
            name: "A device".into(),
            pci_bus_id: "0000:01:00.0".into(),
            total_memory: 1 << 30,
            ..DeviceSnapshot::default()
        }],
        ..Snapshot::default()
    }
}

/// What every session has used.
fn usage() -> Usage {
    Usage {
        calls: 7,
        bytes_in: 1000,
        memory: vec![2048],
        memory_peak: 4096,
        memory_mib_us: 3_000_000,
        ..Usage::default()
    }
}

/// Tells what changes about the device, as often as it is asked.
fn monitor(mut stream: TcpStream, leftover: &[u8]) -> ExitCode {
    let mut decoder = Decoder::<Question>::new();
    decoder.push(leftover);
    let mut buffer = [0; 64];
    loop {
        while let Some(Question::Sample) = decoder.pull().expect("a question") {
            let readings = Readings {
                utilization: Some((37, 1)),
                ..Readings::default()
            };
            let sample = Sample {
                devices: vec![DeviceSample {
                    free: Some(512 << 20),
                    readings: Some(readings),
                }],
                ..Sample::default()
            };
            let bytes = control::encode(&sample).expect("a sample");
            stream.write_all(&bytes).expect("an answer");
        }
        match stream.read(&mut buffer) {
            Ok(count @ 1..) => decoder.push(&buffer[..count]),
            _ => return ExitCode::SUCCESS,
        }
    }
}

/// The next broker, which is believed.
fn adopted(outlive: &Outlive, listener: &UnixListener) -> Control {
    type Next = ControlSocket<FromOrphan, ToOrphan>;
    let (socket, _) = listener.accept().expect("the next broker");
    let next = Next::from_fd(socket.into()).expect("a socket");
    let orphan = FromOrphan::Orphan {
        session: outlive.session,
        layout: LAYOUT,
        nonce: [1; 32],
    };
    next.send(&orphan, None).expect("a word");
    let Ok(Some((ToOrphan::Claim { nonce, .. }, _))) = next.receive() else {
        panic!("no claim");
    };
    let here = FromOrphan::Here {
        proof: outlive.key.prove(Side::Worker, &nonce, &[1; 32]),
        ticket: outlive.ticket.clone(),
        cell: false,
    };
    next.send(&here, None).expect("a word");
    let Ok(Some((ToOrphan::Verdict { adopted: true, .. }, _))) = next.receive() else {
        panic!("not adopted");
    };
    Control::from_fd(next.into_fd()).expect("a socket")
}

fn end(control: &Control, result: u32, reason: &str) {
    // The broker may be gone: then there is nobody to tell.
    let _ = control.send(&FromWorker::Usage(usage()), None);
    let _ = control.send(
        &FromWorker::Ended {
            result,
            reason: reason.into(),
        },
        None,
    );
    std::process::exit(0);
}
