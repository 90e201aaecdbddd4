//! A client that writes its frames by hand, and a broker of two functions. Used in this crate's own tests and by those in `tests/`.

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rgpu_proto::calls::{self, op};
use rgpu_proto::control::{Assign, FromWorker, Priority, ToWorker};
use rgpu_proto::frame::{HEADER_LEN, Header};
use rgpu_proto::handshake::{
    AddressWindow, Answer, ClientHandshake, ClientInfo, Hello, Purpose, SessionSecret, Token,
    VgpuRequest, Welcome,
};
use rgpu_proto::module_table::{self, ModuleTable};
use rgpu_transport::ControlSocket;
use zerocopy::little_endian::{I32, U32, U64};
use zerocopy::{FromBytes, IntoBytes};

pub const MIB: u64 = 1 << 20;
pub const CONTEXT: u64 = 0x1_0010;
pub const MODULE: u64 = 0x2_0010;

pub type Broker = ControlSocket<ToWorker, FromWorker>;

/// Far beyond what any test takes: a test that hangs fails here.
const PATIENCE: Duration = Duration::from_secs(60);

pub fn assignment(limit: Option<u64>, windows: Vec<AddressWindow>, leftover: Vec<u8>) -> Assign {
    Assign {
        session: 7,
        secret: SessionSecret::new([3; 16]),
        tenant: "someone".into(),
        memory_limit: limit,
        share_percent: None,
        vgpu: 7,
        devices: Vec::new(),
        weight: 100,
        cap_percent: None,
        burst_ms: 0,
        priority: Priority::Normal,
        kernel_time_limit_ms: None,
        host_memory_limit: None,
        overcommit: false,
        version: 1,
        hello: Hello {
            purpose: Purpose::Data,
            token: Token::default(),
            client: ClientInfo::default(),
            vgpu: VgpuRequest::default(),
            windows,
            environment: Vec::new(),
            rings: false,
            reuse: Default::default(),
            group: String::new(),
        },
        leftover,
        relayed: false,
        keep: 0,
        time_sharing: false,
        user: None,
    }
}

/// A reply, or the session's end.
#[derive(Debug, PartialEq, Eq)]
pub enum Incoming {
    Reply {
        seq: u64,
        status: u32,
        deferred: u32,
        body: Vec<u8>,
    },
    Ended {
        status: u32,
        reason: String,
    },
    Closed,
}

pub struct Client {
    pub stream: UnixStream,
    pub seq: u64,
}

impl Client {
    pub fn new(stream: UnixStream) -> Client {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Client { stream, seq: 0 }
    }

    /// A connected pair: this end and the worker's.
    pub fn pair() -> (Client, OwnedFd) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (Client::new(ours), theirs.into())
    }

    pub fn welcome(&mut self) -> Welcome {
        let hello = assignment(None, Vec::new(), Vec::new()).hello;
        let mut handshake = ClientHandshake::new(&hello).unwrap();
        loop {
            let mut bytes = vec![0; handshake.needed()];
            self.stream.read_exact(&mut bytes).unwrap();
            match handshake.push(&bytes).unwrap() {
                Some((_, Answer::Welcome(welcome))) => return *welcome,
                Some((_, other)) => panic!("{other:?}"),
                None => {}
            }
        }
    }

    /// A command's bytes.
    pub fn frame(&mut self, thread: u32, operation: u16, parts: &[&[u8]], waits: bool) -> Vec<u8> {
        let body = parts.concat();
        self.seq += 1;
        let header = Header::command(operation, thread, CONTEXT, self.seq, body.len(), waits);
        [header.as_bytes(), &body].concat()
    }

    pub fn send(&mut self, thread: u32, operation: u16, parts: &[&[u8]]) {
        let frame = self.frame(thread, operation, parts, false);
        self.stream.write_all(&frame).unwrap();
    }

    /// Sends a command whose reply is to come, and returns its number.
    pub fn ask(&mut self, thread: u32, operation: u16, parts: &[&[u8]]) -> u64 {
        let frame = self.frame(thread, operation, parts, true);
        self.stream.write_all(&frame).unwrap();
        self.seq
    }

    pub fn receive(&mut self) -> Incoming {
        let mut header = [0; HEADER_LEN];
        match self.stream.read(&mut header[..1]) {
            Ok(0) => return Incoming::Closed,
            Ok(_) => self.stream.read_exact(&mut header[1..]).unwrap(),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {
                return Incoming::Closed;
            }
            Err(error) => panic!("{error}"),
        }
        let header = Header::parse(&header).unwrap();
        let mut body = vec![0; header.len.get() as usize];
        self.stream.read_exact(&mut body).unwrap();
        if header.is_session_end() {
            return Incoming::Ended {
                status: header.status.get(),
                reason: String::from_utf8(body).unwrap(),
            };
        }
        // What the driver says of kernels comes ahead of replies.
        if header.prints().is_some() {
            return self.receive();
        }
        assert!(header.is_reply());
        Incoming::Reply {
            seq: header.seq.get(),
            status: header.status.get(),
            deferred: header.aux.get() as u32,
            body,
        }
    }

    /// Asks and waits; status, deferred error, body.
    pub fn call(&mut self, thread: u32, operation: u16, parts: &[&[u8]]) -> (u32, u32, Vec<u8>) {
        let asked = self.ask(thread, operation, parts);
        match self.receive() {
            Incoming::Reply {
                seq,
                status,
                deferred,
                body,
            } => {
                assert_eq!(seq, asked);
                (status, deferred, body)
            }
            other => panic!("{other:?}"),
        }
    }

    /// As [`Self::call`]; all must be well.
    pub fn must(&mut self, operation: u16, parts: &[&[u8]]) -> Vec<u8> {
        let (status, deferred, body) = self.call(1, operation, parts);
        assert_eq!(
            (status, deferred),
            (0, 0),
            "{}",
            calls::info(operation).unwrap().name
        );
        body
    }

    pub fn context(&mut self) {
        let args = calls::rgpuContextCreateArgs {
            id: U64::new(CONTEXT),
            flags: U32::new(0),
            device: I32::new(0),
        };
        self.must(op::rgpuContextCreate, &[args.as_bytes()]);
    }

    pub fn map(&mut self, address: u64, bytes: u64) -> u32 {
        let args = calls::rgpuMemoryMapArgs {
            device: I32::new(0),
            kind: U32::new(0),
            address: U64::new(address),
            bytes: U64::new(bytes),
        };
        let (status, deferred, body) = self.call(1, op::rgpuMemoryMap, &[args.as_bytes()]);
        assert_eq!(deferred, 0);
        if status == 0 {
            let reply = calls::rgpuMemoryMapReply::read_from_bytes(&body).unwrap();
            assert_eq!(reply.placed.get(), address);
        }
        status
    }

    pub fn unmap(&mut self, address: u64, bytes: u64) {
        let args = calls::rgpuMemoryUnmapArgs {
            device: I32::new(0),
            kind: U32::new(0),
            address: U64::new(address),
            bytes: U64::new(bytes),
        };
        self.send(1, op::rgpuMemoryUnmap, &[args.as_bytes()]);
    }

    pub fn memory_info(&mut self) -> calls::rgpuMemoryInfoReply {
        let args = calls::rgpuMemoryInfoArgs {
            device: I32::new(0),
        };
        let body = self.must(op::rgpuMemoryInfo, &[args.as_bytes()]);
        calls::rgpuMemoryInfoReply::read_from_bytes(&body).unwrap()
    }

    pub fn copy_in(&mut self, address: u64, data: &[u8]) {
        self.copy_in_as(1, address, data);
    }

    pub fn copy_in_as(&mut self, sync: u32, address: u64, data: &[u8]) {
        let args = calls::rgpuCopyInArgs {
            dst: U64::new(address),
            stream: U64::new(0),
            sync: U32::new(sync),
            data_len: U64::new(data.len() as u64),
        };
        self.send(1, op::rgpuCopyIn, &[args.as_bytes(), data]);
    }

    pub fn copy_out_args(address: u64, bytes: u64, stream: u64) -> calls::rgpuCopyOutArgs {
        calls::rgpuCopyOutArgs {
            src: U64::new(address),
            bytes: U64::new(bytes),
            stream: U64::new(stream),
            sync: U32::new(u32::from(stream == 0)),
        }
    }

    pub fn copy_out(&mut self, address: u64, bytes: u64) -> Vec<u8> {
        let args = Client::copy_out_args(address, bytes, 0);
        self.must(op::rgpuCopyOut, &[args.as_bytes()])
    }

    /// Loads a module; status, error log, table.
    pub fn load(&mut self, id: u64, image: &[u8]) -> (u32, String, Option<ModuleTable>) {
        let args = calls::rgpuModuleLoadArgs {
            id: U64::new(id),
            log_bytes: U32::new(4096),
            max_registers: U32::new(0),
            image_len: U64::new(image.len() as u64),
        };
        let (status, deferred, body) = self.call(1, op::rgpuModuleLoad, &[args.as_bytes(), image]);
        assert_eq!(deferred, 0);
        let (reply, rest) = calls::rgpuModuleLoadReply::read_from_prefix(&body).unwrap();
        let (_, rest) = rest.split_at(reply.info_len.get() as usize);
        let (errors, table) = rest.split_at(reply.error_len.get() as usize);
        let errors = String::from_utf8(errors.to_vec()).unwrap();
        let table = (status == 0).then(|| module_table::decode(table).unwrap());
        (status, errors, table)
    }

    pub fn bind(&mut self, id: u64, name: &str) {
        let args = calls::rgpuFunctionBindArgs {
            id: U64::new(id),
            module: U64::new(MODULE),
            name_len: U64::new(name.len() as u64),
        };
        self.send(1, op::rgpuFunctionBind, &[args.as_bytes(), name.as_bytes()]);
    }

    pub fn launch_args(
        function: u64,
        blocks: u32,
        threads: u32,
        stream: u64,
        params: &[u8],
    ) -> calls::rgpuLaunchArgs {
        let one = U32::new(1);
        calls::rgpuLaunchArgs {
            function: U64::new(function),
            grid_x: U32::new(blocks),
            grid_y: one,
            grid_z: one,
            block_x: U32::new(threads),
            block_y: one,
            block_z: one,
            shared_bytes: U32::new(0),
            stream: U64::new(stream),
            params_len: U64::new(params.len() as u64),
        }
    }

    pub fn launch(&mut self, thread: u32, function: u64, stream: u64, params: &[u8]) {
        let args = Client::launch_args(function, 1, 1, stream, params);
        self.send(thread, op::rgpuLaunch, &[args.as_bytes(), params]);
    }

    pub fn synchronize(&mut self) -> (u32, u32) {
        let (status, deferred, _) = self.call(1, op::rgpuContextSynchronize, &[]);
        (status, deferred)
    }
}
