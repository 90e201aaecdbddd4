//! How long a device was at work for one context: the union of stretches that overlap where streams do.

/// Milliseconds on the device's own clock, from some event on.
pub type Moment = f64;

#[derive(Debug, Default)]
pub struct Busy {
    /// Up to where time has been counted.
    covered: Moment,
    /// What has been counted and not been taken yet, in ms.
    counted: f64,
}

impl Busy {
    /// From nothing.
    pub fn new() -> Busy {
        Busy {
            covered: f64::NEG_INFINITY,
            counted: 0.0,
        }
    }

    /// The device was at work from one moment to the other.
    pub fn add(&mut self, from: Moment, to: Moment) {
        let new = to - from.max(self.covered);
        if new > 0.0 {
            self.counted += new;
        }
        self.covered = self.covered.max(to);
    }

    /// Moments are counted from this one on.
    pub fn rebase(&mut self, moment: Moment) {
        self.covered -= moment;
    }

    /// Takes out what has been counted.
    pub fn take(&mut self) -> std::time::Duration {
        let counted = std::mem::take(&mut self.counted);
        std::time::Duration::try_from_secs_f64(counted / 1000.0).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn what_overlaps_counts_once() {
        let mut busy = Busy::new();
        busy.add(0.0, 5.0);
        busy.add(3.0, 8.0);
        busy.add(4.0, 6.0);
        busy.add(20.0, 21.0);
        assert_eq!(busy.take(), Duration::from_millis(9));
        assert_eq!(busy.take(), Duration::ZERO);
    }

    #[test]
    fn the_beginning_may_move() {
        let mut busy = Busy::new();
        busy.add(990.0, 1000.0);
        busy.rebase(1000.0);
        busy.add(-5.0, 5.0);
        assert_eq!(busy.take(), Duration::from_millis(15));
    }
}
