//! Sessions that open what others have.

use rgpu_proto::handshake::{Hello, Token};

use crate::client::{Session, begin, hello};
use crate::daemon::Daemon;
use crate::worker::{BORROW, DEAF, KEEP, LENT, NOT_LENT, NOTHING};

const OTHER: &str = "another-token-of-the-tests-0123";

impl Session {
    fn borrows_of(&mut self, session: u64) -> u8 {
        self.data.write(&[BORROW, session as u8]);
        self.data.some()[0]
    }
}

pub fn sessions_of_a_tenant_are_brought_together() {
    let other = format!("[[tenant]]\nname = \"others\"\ntoken = \"{OTHER}\"\n");
    let daemon = Daemon::with(&other, "driver.so", "tcp://127.0.0.1:0");
    let ours = || begin(&daemon.listen[0], &hello()).unwrap();
    let (mut first, mut second) = (ours(), ours());
    let token = Token::new(OTHER);
    let mut stranger = begin(&daemon.listen[1], &Hello { token, ..hello() }).unwrap();
    let (one, two) = (first.welcome.session, second.welcome.session);
    assert_eq!(second.borrows_of(one), LENT);
    assert_eq!(first.borrows_of(two), LENT);
    // Another tenant learns the same as of a session that never was.
    for session in 0..32 {
        assert_eq!(stranger.borrows_of(session), NOT_LENT, "{session}");
    }
    assert_eq!(first.borrows_of(stranger.welcome.session), NOT_LENT);
    // What a session has itself it does not borrow.
    assert_eq!(first.borrows_of(one), NOT_LENT);
    // There is nothing of the kind there.
    first.data.write(&[KEEP]);
    assert_eq!(first.data.some(), [KEEP]);
    assert_eq!(second.borrows_of(one), NOTHING);
    drop(first);
    daemon.logs("session ends");
    assert_eq!(second.borrows_of(one), NOT_LENT);
    assert_eq!(
        begin(&daemon.listen[0], &hello()).unwrap().borrows_of(two),
        LENT
    );
}

/// Whose worker does not answer is waited for by who asks, alone, and until it is gone.
pub fn who_does_not_listen_holds_nobody_up() {
    let daemon = Daemon::start();
    let ours = || begin(&daemon.listen[0], &hello()).unwrap();
    let (mut deaf, mut asks, mut third) = (ours(), ours(), ours());
    let session = deaf.welcome.session;
    deaf.data.write(&[DEAF]);
    assert_eq!(deaf.data.some(), [DEAF]);
    asks.data.write(&[BORROW, session as u8]);
    third.data.echoes();
    let asked = asks.welcome.session;
    assert_eq!(third.borrows_of(asked), LENT);
    drop(deaf);
    assert_eq!(asks.data.some(), [NOTHING]);
    asks.data.echoes();
}
