use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::thread::scope;

use rgpu_proto::control::encode;
use rgpu_proto::handshake::{
    Answer, Purpose, ServerEvent, ServerHandshake, SessionSecret, VERSION_MAX,
};
use rgpu_transport::Endpoint;

use super::*;

const PATIENCE: Option<Duration> = Some(Duration::from_secs(60));
/// Beyond the tests' own sessions, of which none is remembered.
const NUMBER: usize = rgpu_transport::MAX_SERVERS - 1;

struct Rig {
    path: PathBuf,
    /// Both ends of the session's data.
    data: Pipe,
    worker: UnixStream,
    _folder: tempfile::TempDir,
}

fn purpose() -> Purpose {
    Purpose::Control {
        session: 9,
        secret: SessionSecret::new([4; 16]),
    }
}

impl Rig {
    fn new() -> Rig {
        let folder = tempfile::tempdir().unwrap();
        let (ours, worker) = UnixStream::pair().unwrap();
        Rig {
            path: folder.path().join("rgpud.sock"),
            data: Pipe::from_fd(ours.into()).unwrap(),
            worker,
            _folder: folder,
        }
    }

    fn way(&self) -> Option<Way> {
        let endpoint = Endpoint::Unix(self.path.clone());
        Way::beside(&self.data, &endpoint, &purpose(), NUMBER)
    }

    /// A control connection, and the broker's end.
    fn attached(&self) -> (Control, UnixStream) {
        let (ours, broker) = UnixStream::pair().unwrap();
        let pipe = Pipe::from_fd(ours.into()).unwrap();
        (Control::new(pipe, &[], self.way()), broker)
    }

    fn listen(&self) -> UnixListener {
        let _ = std::fs::remove_file(&self.path);
        UnixListener::bind(&self.path).unwrap()
    }

    /// Waits for the worker's next byte, and takes it.
    fn next(&self, control: &Control) -> Result<u8, Lost> {
        let ready = control.wait_for(&self.data, Interest::Read, PATIENCE)?;
        assert!(ready.read, "nothing within {PATIENCE:?}");
        let mut byte = [0];
        assert_eq!(self.data.try_read(&mut byte).unwrap(), Progress::Bytes(1));
        Ok(byte[0])
    }
}

/// The greeting of a client that attaches its control connection.
fn greeted(listener: &UnixListener) -> UnixStream {
    let (mut stream, _) = listener.accept().unwrap();
    let mut handshake = ServerHandshake::new();
    let mut buffer = [0; 1024];
    loop {
        let count = stream.read(&mut buffer).unwrap();
        assert!(count > 0, "closed");
        if let ServerEvent::Hello { hello, .. } = handshake.push(&buffer[..count]) {
            assert_eq!(hello.purpose, purpose());
            return stream;
        }
    }
}

fn attach(listener: &UnixListener) -> UnixStream {
    attach_with(listener, &[])
}

/// The same; with the answer comes more.
fn attach_with(listener: &UnixListener, more: &[u8]) -> UnixStream {
    let mut stream = greeted(listener);
    let answer = Answer::Attached.encode(VERSION_MAX).unwrap();
    stream.write_all(&[&answer[..], more].concat()).unwrap();
    stream
}

fn ended(stream: &mut UnixStream, reason: &str) {
    let event = ControlEvent::Ended {
        result: 46,
        reason: reason.into(),
    };
    stream.write_all(&encode(&event).unwrap()).unwrap();
}

#[test]
fn a_session_whose_broker_is_followed_by_another_hears_that_one() {
    let rig = Rig::new();
    let (control, broker) = rig.attached();
    drop(broker);
    scope(|scope| {
        let waits = scope.spawn(|| {
            assert_eq!(rig.next(&control).unwrap(), 1);
            rig.next(&control)
        });
        // Nobody is there at first; then one that goes away, one that refuses, and one that stays.
        std::thread::sleep(Duration::from_millis(50));
        let listener = rig.listen();
        drop(greeted(&listener));
        let mut refuses = greeted(&listener);
        let code = rgpu_proto::handshake::RefusalCode::UnknownSession;
        let refusal = rgpu_proto::handshake::refusal(code, "not yet");
        refuses.write_all(&refusal).unwrap();
        let mut stays = attach(&listener);
        // Data goes on meanwhile, and comes first.
        (&rig.worker).write_all(&[1]).unwrap();
        ended(&mut stays, "told by the second");
        let lost = waits.join().unwrap().unwrap_err();
        assert!(matches!(lost, Lost::Broken(_)), "{lost:?}");
    });
    let words = control.last_words().unwrap();
    assert_eq!(words, (46, "told by the second".into()));
}

#[test]
fn the_end_may_come_with_the_answer() {
    let rig = Rig::new();
    let (control, broker) = rig.attached();
    drop(broker);
    let listener = rig.listen();
    let event = encode(&ControlEvent::Ended {
        result: 46,
        reason: "at once".into(),
    })
    .unwrap();
    scope(|scope| {
        let waits = scope.spawn(|| rig.next(&control));
        let _stays = attach_with(&listener, &event);
        let lost = waits.join().unwrap().unwrap_err();
        assert!(matches!(lost, Lost::Broken(_)), "{lost:?}");
    });
    assert_eq!(control.last_words(), Some((46, "at once".into())));
    // Nor is it missed behind the first greeting.
    let (ours, _broker) = UnixStream::pair().unwrap();
    let control = Control::new(Pipe::from_fd(ours.into()).unwrap(), &event, None);
    assert!(matches!(rig.next(&control), Err(Lost::Broken(_))));
}

#[test]
fn a_later_call_attaches_it_too() {
    let rig = Rig::new();
    let listener = rig.listen();
    let (control, broker) = rig.attached();
    drop(broker);
    let mut next = None;
    // Each wait of a busy program ends at once, since there is data.
    while next.is_none() {
        (&rig.worker).write_all(&[7]).unwrap();
        let ready = control
            .wait_for(&rig.data, Interest::Read, PATIENCE)
            .unwrap();
        assert!(ready.read);
        let mut byte = [0];
        rig.data.try_read(&mut byte).unwrap();
        // An idle look, as a writer's.
        control
            .wait_for(&rig.data, Interest::Read, Some(Duration::from_millis(1)))
            .unwrap();
        listener.set_nonblocking(true).unwrap();
        next = listener.accept().ok();
    }
}

#[test]
fn one_that_was_never_attached_is_attached_later() {
    let rig = Rig::new();
    let control = Control::absent(rig.way());
    assert!(!control.is_attached());
    let listener = rig.listen();
    scope(|scope| {
        let waits = scope.spawn(|| rig.next(&control));
        let mut broker = attach(&listener);
        (&rig.worker).write_all(&[1]).unwrap();
        assert_eq!(waits.join().unwrap().unwrap(), 1);
        ended(&mut broker, "the end");
    });
    // The answer may have been taken in already, or is now.
    assert_eq!(control.last_words().unwrap().1, "the end");
}

#[test]
fn the_next_broker_is_asked_for_last_words_once() {
    let rig = Rig::new();
    let (control, broker) = rig.attached();
    drop(broker);
    // Nobody is there to be waited for.
    assert_eq!(control.last_words(), None);
    let listener = rig.listen();
    scope(|scope| {
        scope.spawn(|| {
            let mut broker = attach(&listener);
            ended(&mut broker, "told late");
        });
        assert_eq!(control.last_words().unwrap().1, "told late");
    });
}

#[test]
fn without_a_way_only_the_data_tells() {
    let quic = Endpoint::parse("quic://127.0.0.1:1").unwrap();
    let rig = Rig::new();
    assert!(Way::beside(&rig.data, &quic, &purpose(), NUMBER).is_none());
    let (ours, broker) = UnixStream::pair().unwrap();
    let control = Control::new(Pipe::from_fd(ours.into()).unwrap(), &[], None);
    drop(broker);
    scope(|scope| {
        let waits = scope.spawn(|| rig.next(&control));
        (&rig.worker).write_all(&[3]).unwrap();
        assert_eq!(waits.join().unwrap().unwrap(), 3);
    });
    assert_eq!(control.last_words(), None);
}
