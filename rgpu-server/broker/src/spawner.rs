//! A thread that starts workers. Its descriptors are its own few: a child begins with a copy of its parent's, which it closes one by one, and
//! with a thousand sessions that takes longer than all the rest of a start.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError, mpsc};

use rgpu_transport::{receive_with_fd, send_with_fd};
use rgpu_worker::threads;

/// Those before it are the standard ones.
const FIRST: u32 = 3;

pub struct Spawner(Option<Mutex<Apart>>);

/// The thread. It ends with this.
struct Apart {
    orders: mpsc::Sender<Order>,
    /// By which the descriptors of the orders go over, in their order.
    socket: UnixStream,
}

struct Order {
    command: Command,
    answer: mpsc::SyncSender<io::Result<Child>>,
}

impl Spawner {
    /// The thread has the rights of the one that calls this. Where the system does not let it have descriptors of its own, processes are
    /// started as ever.
    pub fn start() -> io::Result<Spawner> {
        let (ours, theirs) = UnixStream::pair()?;
        let (orders, incoming) = mpsc::channel();
        let (ready, is_apart) = mpsc::sync_channel(1);
        let number = theirs.as_raw_fd();
        // A handler of signals writes to a descriptor of the other threads'.
        threads::spawn("spawner", move || serve(theirs, incoming, ready))?;
        match is_apart.recv() {
            Ok(Ok(())) => {
                // SAFETY: the thread has a copy of its own, and owns that; nobody has this one.
                drop(unsafe { OwnedFd::from_raw_fd(number) });
                let socket = ours;
                Ok(Spawner(Some(Mutex::new(Apart { orders, socket }))))
            }
            Ok(Err(error)) => {
                tracing::info!(%error, "with many sessions workers start more slowly: no thread may have its own descriptors here");
                Ok(Spawner(None))
            }
            Err(error) => Err(io::Error::other(error)),
        }
    }

    /// Starts a process that has `stdin`, and of others' descriptors the standard ones.
    pub fn spawn(&self, mut command: Command, stdin: OwnedFd) -> io::Result<Child> {
        let Some(apart) = &self.0 else {
            return command.stdin(stdin).spawn();
        };
        let apart = apart.lock().unwrap_or_else(PoisonError::into_inner);
        let (answer, answered) = mpsc::sync_channel(1);
        // First what may fail: an order without its descriptor would take the next one's.
        send_with_fd(apart.socket.as_fd(), b"\0", Some(stdin.as_fd()))?;
        let order = Order { command, answer };
        apart.orders.send(order).map_err(io::Error::other)?;
        answered.recv().map_err(io::Error::other)?
    }
}

fn serve(
    socket: UnixStream,
    orders: mpsc::Receiver<Order>,
    ready: mpsc::SyncSender<io::Result<()>>,
) {
    let apart = keep_only(&socket);
    let serves = apart.is_ok();
    if ready.send(apart).is_err() || !serves {
        return;
    }
    while let Ok(Order {
        mut command,
        answer,
    }) = orders.recv()
    {
        let child = receive_with_fd(socket.as_fd(), &mut [0]).and_then(|(_, stdin)| {
            let stdin = stdin.ok_or(io::ErrorKind::UnexpectedEof)?;
            command.stdin(Stdio::from(stdin)).spawn()
        });
        // What it holds is a number of this thread's.
        drop(command);
        let _ = answer.send(child);
    }
}

/// Gives this thread a table of descriptors of its own, and closes there all but the standard ones and `socket`.
fn keep_only(socket: &UnixStream) -> io::Result<()> {
    let number = socket.as_raw_fd() as u32;
    close(number + 1, u32::MAX, libc::CLOSE_RANGE_UNSHARE)?;
    if number > FIRST {
        close(FIRST, number - 1, 0)?;
    }
    Ok(())
}

fn close(first: u32, last: u32, flags: libc::c_uint) -> io::Result<()> {
    // SAFETY: numbers only; what is closed is this thread's alone, and nothing here has it.
    match unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::{Read, Write};

    fn echo(spawner: &Spawner) -> String {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "read word; echo \"$word\" >&0; exit 3"]);
        let mut child = spawner.spawn(command, theirs.into()).unwrap();
        ours.write_all(b"hello\n").unwrap();
        let mut said = String::new();
        // Ends, as nobody here holds the other end any more.
        ours.read_to_string(&mut said).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(3));
        said
    }

    #[test]
    fn a_process_has_its_input_and_is_this_ones_child() {
        let spawner = Spawner::start().unwrap();
        for _ in 0..3 {
            assert_eq!(echo(&spawner), "hello\n");
        }
        assert_eq!(echo(&Spawner(None)), "hello\n");
        let (_ours, theirs) = UnixStream::pair().unwrap();
        let missing = spawner.spawn(Command::new("/nowhere/at/all"), theirs.into());
        assert_eq!(missing.unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(echo(&spawner), "hello\n");
    }

    #[test]
    fn the_thread_has_no_descriptors_but_its_own() {
        let files: Vec<_> = (0..100).map(|_| File::open("/dev/null").unwrap()).collect();
        let spawner = Spawner::start().unwrap();
        if spawner.0.is_none() {
            eprintln!("SKIPPED: the system has no close_range with CLOSE_RANGE_UNSHARE");
            return;
        }
        let few = std::fs::read_dir("/proc/self/task")
            .unwrap()
            .map(|task| task.unwrap().path())
            .filter(|task| std::fs::read_to_string(task.join("comm")).unwrap() == "spawner\n")
            .map(|task| std::fs::read_dir(task.join("fd")).unwrap().count())
            .min();
        assert!(few.unwrap() < 10, "{few:?}");
        // Here they are as they were.
        assert!(files.iter().all(|file| file.metadata().is_ok()));
    }
}
