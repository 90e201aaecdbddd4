//! What happens, and what is to come of it.

/// What an event is, and so how it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A file whose content is published.
    Copied,
    /// A call whose body is published.
    Called,
    /// A file whose job fails for good.
    Failing,
    /// A file whose job is cancelled.
    Waiting,
}

#[derive(Clone, Debug)]
pub struct Event {
    pub kind: Kind,
    /// Of its file, and of the file that is published.
    pub name: String,
    pub content: String,
}

impl Kind {
    pub fn function(self) -> &'static str {
        match self {
            Kind::Copied | Kind::Called => "copies",
            Kind::Failing => "fails",
            Kind::Waiting => "waits",
        }
    }
}

impl Event {
    /// The event of this number: of each hundred one fails, one waits, ten are calls.
    pub fn new(number: usize, random: &mut fastrand::Rng) -> Event {
        let kind = match number % 100 {
            20 => Kind::Failing,
            70 => Kind::Waiting,
            place if place % 10 == 5 => Kind::Called,
            _ => Kind::Copied,
        };
        Event {
            kind,
            name: format!("event-{number}"),
            // No JSON, no base64: as a call's body it is taken as it is.
            content: format!("event {number}: {:016x}\n", random.u64(..)),
        }
    }
}
