//! Messages and descriptors between broker and worker.

use rgpu_proto::control::{self, FromWorker, MAX_MESSAGE, ToWorker, Usage};
use rgpu_transport::{ControlSocket, receive_with_fd, send_with_fd};
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

type Worker = ControlSocket<FromWorker, ToWorker>;

fn end(reason: &str) -> ToWorker {
    ToWorker::End {
        result: 999,
        reason: reason.into(),
    }
}

#[test]
fn messages_and_descriptors_arrive_whole_and_in_order() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let worker = Worker::from_fd(theirs.into()).unwrap();
    let broker = ControlSocket::<ToWorker, FromWorker>::from_fd(ours.into()).unwrap();
    let lender = |number| ToWorker::Lender {
        number,
        found: true,
    };
    let (mut near, far): (Vec<UnixStream>, Vec<UnixStream>) =
        (0..3).map(|_| UnixStream::pair().unwrap()).unzip();

    std::thread::scope(|scope| {
        // More than a socket buffer holds, so that sending blocks until the other side reads.
        scope.spawn(|| {
            for i in 0..200 {
                broker.send(&end(&"x".repeat(i * 10)), None).unwrap();
                if let Some(far) = far.get(i.wrapping_sub(100)) {
                    broker.send(&lender(i as u64), Some(far.as_fd())).unwrap();
                }
            }
        });
        let receive = || worker.receive().unwrap().unwrap();
        for i in 0..200 {
            let (message, fd) = receive();
            assert!(message == end(&"x".repeat(i * 10)) && fd.is_none());
            if (100..103).contains(&i) {
                let (message, fd) = receive();
                assert_eq!(message, lender(i as u64));
                let fd = fd.unwrap();
                let flags = rustix::io::fcntl_getfd(&fd).unwrap();
                assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
                UnixStream::from(fd).write_all(&[i as u8]).unwrap();
            }
        }
    });
    // Each came with its own message.
    for (number, near) in near.iter_mut().enumerate() {
        let mut byte = [0];
        near.read_exact(&mut byte).unwrap();
        assert_eq!(byte[0] as usize, 100 + number);
    }

    let usage = FromWorker::Usage(Usage {
        calls: 3,
        ..Usage::default()
    });
    worker.send(&usage, None).unwrap();
    assert_eq!(broker.receive().unwrap().unwrap().0, usage);
    drop(broker);
    assert!(worker.receive().unwrap().is_none());
}

#[test]
fn a_peer_that_breaks_the_protocol_is_an_error() {
    for (bytes, words) in [
        (
            &control::encode(&end("cut")).unwrap()[..7],
            "within a message",
        ),
        (&(MAX_MESSAGE as u32 + 1).to_le_bytes()[..], "the bound is"),
        (&[1, 0, 0, 0, 200][..], "cannot be decoded"),
    ] {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let worker = Worker::from_fd(theirs.into()).unwrap();
        ours.write_all(bytes).unwrap();
        drop(ours);
        let error = worker.receive().unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn descriptors_that_no_message_carries_are_not_gathered() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let worker = Worker::from_fd(theirs.into()).unwrap();
    let extra: OwnedFd = std::fs::File::open("/dev/null").unwrap().into();
    let message = control::encode(&end("x")).unwrap();
    for _ in 0..32 {
        send_with_fd(ours.as_fd(), &message, Some(extra.as_fd())).unwrap();
    }
    let mut taken = 0;
    let error = loop {
        match worker.receive() {
            Ok(Some((_, fd))) => assert!(fd.is_none()),
            Ok(None) => panic!("no end was sent"),
            Err(error) => break error.to_string(),
        }
        taken += 1;
    };
    assert!(
        taken < 32 && error.contains("no message carries"),
        "{error}"
    );
    // Without the one that it carries, it is the receiver's to refuse.
    let lend = control::encode(&ToWorker::Lender {
        number: 1,
        found: true,
    })
    .unwrap();
    let (ours, theirs) = UnixStream::pair().unwrap();
    let worker = Worker::from_fd(theirs.into()).unwrap();
    send_with_fd(ours.as_fd(), &lend, None).unwrap();
    assert!(worker.receive().unwrap().unwrap().1.is_none());
}

#[test]
fn a_message_with_two_descriptors_is_refused() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let extra: OwnedFd = std::fs::File::open("/dev/null").unwrap().into();
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut ancillary = rustix::net::SendAncillaryBuffer::new(&mut space);
    let fds = [extra.as_fd(), extra.as_fd()];
    assert!(ancillary.push(rustix::net::SendAncillaryMessage::ScmRights(&fds)));
    rustix::net::sendmsg(
        &ours,
        &[std::io::IoSlice::new(b"x")],
        &mut ancillary,
        rustix::net::SendFlags::empty(),
    )
    .unwrap();
    assert!(receive_with_fd(theirs.as_fd(), &mut [0; 8]).is_err());

    assert_eq!(send_with_fd(ours.as_fd(), b"plain", None).unwrap(), 5);
    let mut buffer = [0; 8];
    let (count, fd) = receive_with_fd(theirs.as_fd(), &mut buffer).unwrap();
    assert!(count == 5 && fd.is_none());
}
