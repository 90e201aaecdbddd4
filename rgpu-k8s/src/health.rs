//! Whether servers would let a session in, asked in turns that do not fall together.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::keeper::Keeper;
use crate::pool::Pool;

/// One server's health, by what it has answered. Pure.
#[derive(Debug, Default)]
pub struct Health {
    is_well: Option<bool>,
    /// It has failed once, and is asked again at once.
    is_doubtful: bool,
}

/// What follows from an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Same,
    Changed(bool),
    AskAgain,
}

impl Health {
    /// A server that was well is not given up for one lost answer.
    pub fn observe(&mut self, answered: bool) -> Verdict {
        if !answered && self.is_well == Some(true) && !self.is_doubtful {
            self.is_doubtful = true;
            return Verdict::AskAgain;
        }
        self.is_doubtful = false;
        match self.is_well.replace(answered) == Some(answered) {
            true => Verdict::Same,
            false => Verdict::Changed(answered),
        }
    }
}

/// `base`, up to a fifth more or less: many nodes must not ask one server at the same moment.
pub fn spread(base: Duration, random: u32) -> Duration {
    base.mul_f64(0.8 + 0.4 * f64::from(random) / f64::from(u32::MAX))
}

/// A number that nodes do not have in common.
pub fn random() -> u32 {
    let mut bytes = [0u8; 4];
    // Without randomness the turns are merely regular.
    let _ = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    u32::from_ne_bytes(bytes)
}

/// Waits until the plugin is to end.
pub async fn stopped(stop: &mut watch::Receiver<bool>) {
    // Where nobody can say so any more, it is to end as well.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Asks every server once, and tells the keeper.
pub async fn first<P: Pool>(keeper: &Arc<Keeper<P>>) {
    let mut all = JoinSet::new();
    for (name, _) in keeper.pools() {
        let (keeper, name) = (keeper.clone(), name.clone());
        all.spawn(async move {
            let is_well = ask(&keeper, &name).await;
            keeper.set_well(&name, is_well);
        });
    }
    all.join_all().await;
}

async fn ask<P: Pool>(keeper: &Keeper<P>, name: &str) -> bool {
    let pool = keeper.pools().find(|(other, _)| *other == name);
    let Some((_, pool)) = pool else {
        return false;
    };
    match pool.ready().await {
        Ok(()) => true,
        Err(error) => {
            tracing::debug!(server = name, %error, "not ready");
            false
        }
    }
}

/// Asks one server for as long as the plugin runs.
pub async fn watch<P: Pool>(keeper: Arc<Keeper<P>>, name: String, mut stop: watch::Receiver<bool>) {
    let mut health = Health::default();
    loop {
        match health.observe(ask(&keeper, &name).await) {
            Verdict::AskAgain => continue,
            Verdict::Same => {}
            Verdict::Changed(is_well) => {
                tracing::info!(server = name, is_well, "health");
                keeper.set_well(&name, is_well);
            }
        }
        tokio::select! {
            () = stopped(&mut stop) => return,
            () = tokio::time::sleep(spread(keeper.poll(), random())) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_lost_answer_is_no_illness() {
        let mut health = Health::default();
        let answers = [true, false, true, false, false, false, true, true];
        let verdicts = answers.map(|answer| health.observe(answer));
        use Verdict::*;
        assert_eq!(
            verdicts,
            [
                Changed(true),
                AskAgain,
                Same,
                AskAgain,
                Changed(false),
                Same,
                Changed(true),
                Same
            ]
        );
        assert_eq!(Health::default().observe(false), Changed(false));
    }

    #[test]
    fn turns_are_spread() {
        let base = Duration::from_secs(5);
        assert_eq!(spread(base, 0), Duration::from_secs(4));
        assert_eq!(spread(base, u32::MAX), Duration::from_secs(6));
    }
}
