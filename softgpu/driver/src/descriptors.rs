//! Files of this process for others that have a handle. An abstract socket, made with the first handle, gives them out to whoever knows a secret of
//! the handle's: processes of other users, and such as may not look into this one, can have them.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use crate::host;

/// How long one side waits for the other, which answers at once if it lives.
const PATIENCE: Duration = Duration::from_secs(5);
/// A secret, and a descriptor's number.
const QUESTION: usize = 12;

/// A file of a process, as handles name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    pub process: u32,
    pub file: u32,
    /// 56 bits.
    pub secret: u64,
}

struct Shop {
    secret: u64,
    /// What may be given out.
    files: Mutex<BTreeSet<RawFd>>,
}

static SHOP: OnceLock<Option<&'static Shop>> = OnceLock::new();

impl Shop {
    fn files(&self) -> MutexGuard<'_, BTreeSet<RawFd>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open() -> io::Result<&'static Shop> {
        let mut random = [0; 8];
        File::open("/dev/urandom")?.read_exact(&mut random)?;
        let secret = u64::from_le_bytes(random) >> 8;
        let listener = UnixListener::bind_addr(&address(std::process::id(), secret)?)?;
        let shop: &'static Shop = Box::leak(Box::new(Shop {
            secret,
            files: Mutex::default(),
        }));
        host::spawn("softgpu-files", move || shop.serve(&listener))?;
        Ok(shop)
    }

    fn serve(&self, listener: &UnixListener) {
        loop {
            match listener.accept() {
                Ok((stream, _)) => {
                    // Whoever asks for what there is not, or says nothing, is left with a closed socket.
                    let _ = self.answer(stream);
                }
                // Without descriptors, most likely.
                Err(_) => std::thread::sleep(Duration::from_millis(10)),
            }
        }
    }

    fn answer(&self, mut stream: UnixStream) -> io::Result<()> {
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut question = [0; QUESTION];
        stream.read_exact(&mut question)?;
        let (secret, file) = question.split_at(8);
        let file = RawFd::from_le_bytes(file.try_into().unwrap_or([0xff; 4]));
        // What is in the list is open as long as the lock is held.
        let files = self.files();
        if secret == self.secret.to_le_bytes() && files.contains(&file) {
            // SAFETY: see above.
            send(&stream, unsafe { BorrowedFd::borrow_raw(file) })?;
        }
        Ok(())
    }
}

/// A name that nobody else can have taken: of the secret only a part is in it.
fn address(process: u32, secret: u64) -> io::Result<SocketAddr> {
    SocketAddr::from_abstract_name(format!("softgpu-{process}-{:06x}", secret & 0xff_ffff))
}

/// From now on others can have this file, until [`withdraw`].
pub fn offer(file: RawFd) -> Option<Owner> {
    let shop = (*SHOP.get_or_init(|| Shop::open().ok()))?;
    shop.files().insert(file);
    Some(Owner {
        process: std::process::id(),
        file: file as u32,
        secret: shop.secret,
    })
}

/// Before it is closed.
pub fn withdraw(file: RawFd) {
    if let Some(Some(shop)) = SHOP.get() {
        shop.files().remove(&file);
    }
}

/// The file, if its process lives and still offers it.
pub fn fetch(owner: Owner) -> io::Result<OwnedFd> {
    let stream = UnixStream::connect_addr(&address(owner.process, owner.secret)?)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut question = [0; QUESTION];
    question[..8].copy_from_slice(&owner.secret.to_le_bytes());
    question[8..].copy_from_slice(&owner.file.to_le_bytes());
    // SAFETY: bytes that live meanwhile. No signal: the program is not ours.
    let sent = unsafe {
        let bytes = question.as_ptr().cast();
        libc::send(stream.as_raw_fd(), bytes, QUESTION, libc::MSG_NOSIGNAL)
    };
    match usize::try_from(sent) {
        Ok(QUESTION) => receive(&stream),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Room for a descriptor beside a byte, aligned as a header of control messages.
#[repr(C, align(8))]
struct Beside([u8; 32]);

fn message(byte: &mut libc::iovec, beside: &mut Beside) -> libc::msghdr {
    // SAFETY: plain data.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = byte;
    message.msg_iovlen = 1;
    message.msg_control = beside.0.as_mut_ptr().cast();
    // SAFETY: arithmetic.
    message.msg_controllen = unsafe { libc::CMSG_SPACE(size_of::<RawFd>() as u32) } as _;
    message
}

fn send(stream: &UnixStream, file: BorrowedFd<'_>) -> io::Result<()> {
    let (mut byte, mut beside) = ([1u8], Beside([0; 32]));
    let mut part = libc::iovec {
        iov_base: byte.as_mut_ptr().cast(),
        iov_len: 1,
    };
    let message = message(&mut part, &mut beside);
    // SAFETY: the header and its data lie in `beside`, which is large enough.
    let sent = unsafe {
        let header = libc::CMSG_FIRSTHDR(&message);
        (*header).cmsg_level = libc::SOL_SOCKET;
        (*header).cmsg_type = libc::SCM_RIGHTS;
        (*header).cmsg_len = libc::CMSG_LEN(size_of::<RawFd>() as u32) as _;
        let place = libc::CMSG_DATA(header).cast::<RawFd>();
        place.write_unaligned(file.as_raw_fd());
        libc::sendmsg(stream.as_raw_fd(), &message, libc::MSG_NOSIGNAL)
    };
    match sent {
        1 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn receive(stream: &UnixStream) -> io::Result<OwnedFd> {
    let (mut byte, mut beside) = ([0u8], Beside([0; 32]));
    let mut part = libc::iovec {
        iov_base: byte.as_mut_ptr().cast(),
        iov_len: 1,
    };
    let mut message = message(&mut part, &mut beside);
    // SAFETY: places for a byte and a descriptor.
    let count = unsafe { libc::recvmsg(stream.as_raw_fd(), &mut message, libc::MSG_CMSG_CLOEXEC) };
    let none = || io::Error::from(io::ErrorKind::NotFound);
    if count != 1 {
        return Err(none());
    }
    // SAFETY: the kernel has filled the header, if there is one.
    unsafe {
        let header = libc::CMSG_FIRSTHDR(&message);
        if header.is_null()
            || (*header).cmsg_level != libc::SOL_SOCKET
            || (*header).cmsg_type != libc::SCM_RIGHTS
        {
            return Err(none());
        }
        let file = libc::CMSG_DATA(header).cast::<RawFd>().read_unaligned();
        Ok(OwnedFd::from_raw_fd(file))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_for_those_who_know_the_secret() {
        let file: OwnedFd = File::open("/dev/null").unwrap().into();
        let owner = offer(file.as_raw_fd()).unwrap();
        let fetched = fetch(owner).unwrap();
        let link = format!("/proc/self/fd/{}", fetched.as_raw_fd());
        assert_eq!(
            std::fs::read_link(link).unwrap().to_str(),
            Some("/dev/null")
        );
        let wrong = Owner {
            // The part that is in the name is right.
            secret: owner.secret ^ (1 << 40),
            ..owner
        };
        assert!(fetch(wrong).is_err());
        assert!(fetch(Owner { file: 0, ..owner }).is_err(), "not offered");
        let nobody = Owner {
            process: 1,
            ..owner
        };
        assert!(fetch(nobody).is_err());
        withdraw(file.as_raw_fd());
        assert!(fetch(owner).is_err());
    }
}
