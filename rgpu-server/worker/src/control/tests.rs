use super::*;
use rgpu_proto::adoption::Key;
use rgpu_proto::control::Usage;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::thread::{JoinHandle, spawn};

type Next = ControlSocket<ToOrphan, FromOrphan>;

const FOLDER: [u8; 32] = [7; 32];
const BROKER: [u8; 32] = [1; 32];

struct Rig {
    control: Arc<Control>,
    path: PathBuf,
    waits: JoinHandle<Result<(), String>>,
    _folder: tempfile::TempDir,
}

/// A worker whose broker is gone.
fn orphan(seconds: u32) -> Rig {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let listener = UnixListener::bind(&path).unwrap();
    let (ours, theirs) = UnixStream::pair().unwrap();
    let control = Arc::new(Control::from_fd(theirs.into()).unwrap());
    control.outlive(Afterlife {
        listener: listener.into(),
        outlive: Box::new(Outlive {
            session: 5,
            key: Key::of_session(&FOLDER, 5),
            ticket: vec![42; 9],
            seconds,
        }),
    });
    drop(ours);
    assert!(matches!(control.receive(), Ok(None)));
    let waiting = control.clone();
    Rig {
        waits: spawn(move || waiting.next_broker()),
        control,
        path,
        _folder: folder,
    }
}

impl Rig {
    /// A broker that has come, and the worker's number.
    fn comes(&self) -> (Next, [u8; 32]) {
        let next = Next::from_fd(UnixStream::connect(&self.path).unwrap().into()).unwrap();
        let (word, _) = next.receive().unwrap().unwrap();
        let FromOrphan::Orphan {
            session: 5,
            layout: LAYOUT,
            nonce,
        } = word
        else {
            panic!("{word:?}");
        };
        (next, nonce)
    }

    fn claims(&self, next: &Next, key: &Key, worker: &[u8; 32]) {
        let claim = ToOrphan::Claim {
            layout: LAYOUT,
            nonce: BROKER,
            proof: key.prove(Side::Broker, &BROKER, worker),
        };
        next.send(&claim, None).unwrap();
    }
}

const LONG: Duration = Duration::from_secs(600);

#[test]
fn the_next_broker_is_heard_and_told() {
    let rig = orphan(600);
    let key = Key::of_session(&FOLDER, 5);
    let (next, nonce) = rig.comes();
    assert!(rig.control.is_orphaned());
    assert!(rig.control.send(&FromWorker::Ready, None).is_err());
    let telling = rig.control.clone();
    let soon = spawn(move || telling.send_soon(&FromWorker::Neighbours, LONG));
    rig.claims(&next, &key, &nonce);
    let (word, _) = next.receive().unwrap().unwrap();
    let FromOrphan::Here {
        proof,
        ticket,
        cell: false,
    } = word
    else {
        panic!("{word:?}");
    };
    assert_eq!(proof, key.prove(Side::Worker, &BROKER, &nonce));
    assert_eq!(ticket, [42; 9]);
    let verdict = ToOrphan::Verdict {
        adopted: true,
        reason: String::new(),
    };
    next.send(&verdict, None).unwrap();
    assert_eq!(rig.waits.join().unwrap(), Ok(()));
    assert!(!rig.control.is_orphaned());
    soon.join().unwrap().unwrap();
    let broker = ControlSocket::<ToWorker, FromWorker>::from_fd(next.into_fd()).unwrap();
    assert_eq!(broker.receive().unwrap().unwrap().0, FromWorker::Neighbours);
    let usage = FromWorker::Usage(Usage::default());
    rig.control.send(&usage, None).unwrap();
    assert_eq!(broker.receive().unwrap().unwrap().0, usage);
    broker.send(&ToWorker::Report, None).unwrap();
    assert_eq!(rig.control.receive().unwrap().unwrap().0, ToWorker::Report);
}

#[test]
fn who_does_not_know_the_key_learns_nothing_and_changes_nothing() {
    let rig = orphan(600);
    for stranger in [Key::of_session(&FOLDER, 6), Key::of_session(&[8; 32], 5)] {
        let (next, nonce) = rig.comes();
        rig.claims(&next, &stranger, &nonce);
        assert!(matches!(next.receive(), Ok(None)), "no ticket");
    }
    // Nor does one that says something else, or goes.
    let (next, _) = rig.comes();
    let verdict = ToOrphan::Verdict {
        adopted: true,
        reason: String::new(),
    };
    next.send(&verdict, None).unwrap();
    assert!(matches!(next.receive(), Ok(None)));
    drop(rig.comes());
    // The proof of one exchange is none in another.
    let key = Key::of_session(&FOLDER, 5);
    let (first, nonce) = rig.comes();
    drop(first);
    let (next, _) = rig.comes();
    rig.claims(&next, &key, &nonce);
    assert!(matches!(next.receive(), Ok(None)));
    // The right one still finds it.
    let (next, nonce) = rig.comes();
    rig.claims(&next, &key, &nonce);
    assert!(matches!(
        next.receive().unwrap().unwrap().0,
        FromOrphan::Here { .. }
    ));
    next.send(&verdict, None).unwrap();
    assert_eq!(rig.waits.join().unwrap(), Ok(()));
}

#[test]
fn nobody_is_waited_for_longer_than_was_said() {
    let rig = orphan(0);
    let why = rig.waits.join().unwrap().unwrap_err();
    assert!(why.contains("within 0 s"), "{why}");
    let (ours, theirs) = UnixStream::pair().unwrap();
    let control = Control::from_fd(theirs.into()).unwrap();
    drop(ours);
    assert_eq!(control.next_broker(), Err("the server has stopped".into()));
}

#[test]
fn a_server_that_understands_nothing_says_so() {
    let rig = orphan(1);
    let (next, nonce) = rig.comes();
    rig.claims(&next, &Key::of_session(&FOLDER, 5), &nonce);
    next.receive().unwrap().unwrap();
    let verdict = ToOrphan::Verdict {
        adopted: false,
        reason: "another layout".into(),
    };
    next.send(&verdict, None).unwrap();
    let why = rig.waits.join().unwrap().unwrap_err();
    assert!(why.ends_with("another layout"), "{why}");
}
