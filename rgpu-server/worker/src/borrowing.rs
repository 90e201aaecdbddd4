//! The way to what another session lends: the broker makes a socket to its worker, over which that one answers.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use rgpu_proto::CudaError;
use rgpu_proto::control::FromWorker;
use rgpu_proto::ipc::{Loan, LoanSecret};
use rgpu_transport::ControlSocket;
use rustix::net::sockopt::{Timeout, set_socket_timeout};

use crate::startup::Control;

/// How long the broker, and then the other worker, may take.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Default)]
pub struct Borrowing {
    broker: OnceLock<Arc<Control>>,
    /// Number of the last question; held until it is answered, so that one is asked at a time.
    asking: Mutex<u64>,
    answer: Mutex<Answer>,
    heard: Condvar,
}

#[derive(Default)]
struct Answer {
    /// The question that is being asked.
    number: u64,
    lender: Option<Option<OwnedFd>>,
}

/// What comes from the lender.
pub struct Lender(ControlSocket<Loan, Loan>);

impl Borrowing {
    pub fn connect(&self, broker: Arc<Control>) {
        // A session has one.
        let _ = self.broker.set(broker);
    }

    /// The broker's answer to the question of this number. One that comes too late is nobody's.
    pub fn answered(&self, number: u64, lender: Option<OwnedFd>) {
        let mut answer = self.answer.lock().unwrap_or_else(PoisonError::into_inner);
        if answer.number == number {
            answer.lender = Some(lender);
            self.heard.notify_all();
        }
    }

    /// INVALID_VALUE if there is no such session of the tenant's.
    pub fn ask(&self, session: u64, secret: LoanSecret) -> Result<Lender, CudaError> {
        let failed = CudaError::MAP_FAILED;
        let broker = self.broker.get().ok_or(failed)?;
        let mut asking = self.asking.lock().unwrap_or_else(PoisonError::into_inner);
        *asking += 1;
        let number = *asking;
        *self.answer.lock().unwrap_or_else(PoisonError::into_inner) = Answer {
            number,
            lender: None,
        };
        let question = FromWorker::Borrow {
            number,
            session,
            secret,
        };
        // A broker that is gone has a successor, as a rule.
        broker.send_soon(&question, PATIENCE).map_err(|_| failed)?;
        let answer = self.answer.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut answer, _) = self
            .heard
            .wait_timeout_while(answer, PATIENCE, |answer| answer.lender.is_none())
            .unwrap_or_else(PoisonError::into_inner);
        let socket = answer.lender.take().ok_or(failed)?;
        let socket = socket.ok_or(CudaError::INVALID_VALUE)?;
        set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE)).map_err(|_| failed)?;
        let socket = ControlSocket::from_fd(socket).map_err(|_| failed)?;
        Ok(Lender(socket))
    }
}

impl Lender {
    /// The next word; INVALID_VALUE where the lender has nothing of the kind, or is gone.
    pub fn next(&self) -> Result<(Loan, Option<OwnedFd>), CudaError> {
        match self.0.receive() {
            Ok(Some(loan)) => Ok(loan),
            Ok(None) => Err(CudaError::INVALID_VALUE),
            Err(error) => {
                tracing::debug!(%error, "a loan does not come");
                Err(CudaError::MAP_FAILED)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rgpu_proto::control::ToWorker;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    type Broker = ControlSocket<ToWorker, FromWorker>;

    fn pair() -> (Arc<Borrowing>, Broker) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let borrowing = Arc::new(Borrowing::default());
        borrowing.connect(Arc::new(Control::from_fd(ours.into()).unwrap()));
        (borrowing, Broker::from_fd(theirs.into()).unwrap())
    }

    #[test]
    fn an_answer_belongs_to_its_question() {
        let (borrowing, broker) = pair();
        let secret = LoanSecret([1, 2]);
        let asking = borrowing.clone();
        let asked = std::thread::spawn(move || {
            let none = asking.ask(3, secret).map(drop);
            let found = asking.ask(4, secret).unwrap();
            (none, found.next().unwrap().0, found.next().map(drop))
        });
        for (session, found) in [(3, false), (4, true)] {
            let (question, _) = broker.receive().unwrap().unwrap();
            let FromWorker::Borrow {
                number,
                session: of,
                ..
            } = question
            else {
                panic!("{question:?}");
            };
            assert_eq!(of, session);
            // Of no question.
            borrowing.answered(number + 7, None);
            let (near, far) = UnixStream::pair().unwrap();
            borrowing.answered(number, found.then(|| far.into()));
            let event = Loan::Event { handle: [5; 8] };
            if found {
                let lender = ControlSocket::<Loan, Loan>::from_fd(near.into()).unwrap();
                lender.send(&event, None).unwrap();
            }
        }
        let invalid = CudaError::INVALID_VALUE;
        let (none, event, end) = asked.join().unwrap();
        assert_eq!((none, end), (Err(invalid), Err(invalid)));
        assert_eq!(event, Loan::Event { handle: [5; 8] });
    }

    #[test]
    fn what_is_no_loan_is_an_error() {
        let (near, far) = UnixStream::pair().unwrap();
        rgpu_transport::send_with_fd(near.as_fd(), &[1, 0, 0, 0, 200], None).unwrap();
        drop(near);
        let lender = Lender(ControlSocket::from_fd(far.into()).unwrap());
        assert_eq!(lender.next().map(drop), Err(CudaError::MAP_FAILED));
    }

    #[test]
    fn without_a_broker_nothing_is_to_be_had() {
        let asked = Borrowing::default().ask(1, LoanSecret([0; 2])).map(drop);
        assert_eq!(asked, Err(CudaError::MAP_FAILED));
    }
}
