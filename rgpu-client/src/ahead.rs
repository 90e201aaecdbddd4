//! A result that is read with the wait for it. Programs wait for their context and then copy a few bytes out, again and again the same ones: at the
//! end of a far link the second is a round trip more. So where that has happened before, the copy is asked for behind the wait, and its bytes are
//! kept for the program's own copy, as long as nothing at all has been sent meanwhile: nothing on the device can have changed.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Longest copy that is read ahead.
const MOST: usize = 64 << 10;
/// How often the program must have done it in a row.
const OFTEN: u32 = 2;

/// Bytes of the device's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    pub at: u64,
    pub bytes: usize,
}

struct Read {
    place: Place,
    data: Vec<u8>,
}

#[derive(Default)]
struct State {
    /// What followed the last wait, and how often it did.
    usual: Place,
    times: u32,
    /// Number of the last command, when the context was found to be done.
    waited: Option<u64>,
    read: Option<Read>,
}

#[derive(Default)]
pub struct Ahead(Mutex<State>);

impl Ahead {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the program will probably copy out once its context is done.
    pub fn expected(&self) -> Option<Place> {
        let mut state = self.state();
        // What nobody came for was no good guess.
        if state.read.take().is_some() {
            state.times = 0;
        }
        (state.times >= OFTEN).then_some(state.usual)
    }

    /// The context is done, and this was read behind that. `sent`: number of the last command.
    pub fn waited(&self, sent: u64, read: Option<(Place, Vec<u8>)>) {
        let mut state = self.state();
        state.waited = Some(sent);
        state.read = read.map(|(place, data)| Read { place, data });
    }

    /// The program copies out: the bytes, if they are here. `sent`: number of the last command.
    pub fn take(&self, place: Place, sent: u64) -> Option<Vec<u8>> {
        let mut state = self.state();
        if state.waited.take() != Some(sent) || place.bytes > MOST {
            return None;
        }
        state.times = match state.usual == place {
            true => state.times.saturating_add(1),
            false => 1,
        };
        state.usual = place;
        let read = state.read.take()?;
        (read.place == place).then_some(read.data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOSS: Place = Place {
        at: 0x7000,
        bytes: 4,
    };

    /// The program waits, and copies something out behind it; whether it was there.
    fn step(ahead: &Ahead, sent: u64, copied: Place) -> bool {
        let read = ahead
            .expected()
            .map(|place| (place, vec![sent as u8; place.bytes]));
        ahead.waited(sent, read);
        let data = ahead.take(copied, sent);
        if let Some(data) = &data {
            assert_eq!(*data, vec![sent as u8; copied.bytes]);
        }
        data.is_some()
    }

    #[test]
    fn what_is_copied_each_time_is_read_with_the_wait() {
        let ahead = Ahead::default();
        let there: Vec<bool> = (1..=5).map(|sent| step(&ahead, sent, LOSS)).collect();
        assert_eq!(there, [false, false, true, true, true]);
        // Something else once, and it has to be shown anew.
        let other = Place { at: 0x8000, ..LOSS };
        assert!(!step(&ahead, 6, other));
        assert_eq!(ahead.expected(), None);
    }

    #[test]
    fn nothing_is_had_from_before_a_command() {
        let ahead = Ahead::default();
        for sent in 1..=3 {
            step(&ahead, sent, LOSS);
        }
        ahead.waited(4, Some((LOSS, vec![0; 4])));
        assert_eq!(ahead.take(LOSS, 5), None);
        // And not at all any more.
        assert_eq!(ahead.take(LOSS, 4), None);
    }

    #[test]
    fn what_nobody_comes_for_is_not_read_again() {
        let ahead = Ahead::default();
        for sent in 1..=3 {
            step(&ahead, sent, LOSS);
        }
        assert_eq!(ahead.expected(), Some(LOSS));
        ahead.waited(4, Some((LOSS, vec![0; 4])));
        assert_eq!(ahead.expected(), None);
    }

    #[test]
    fn large_copies_are_left_alone() {
        let ahead = Ahead::default();
        let large = Place {
            bytes: MOST + 1,
            ..LOSS
        };
        for sent in 1..=5 {
            assert!(!step(&ahead, sent, large));
        }
        assert_eq!(ahead.expected(), None);
    }
}
