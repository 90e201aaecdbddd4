//! Links that TCP is to pretend to be (`RGPU_SIMULATE` of both sides).

use std::time::Duration;

use rgpu_system::far::Way;

#[derive(Clone, Copy, Default)]
pub struct Link {
    /// There and back, beyond what loopback takes.
    pub rtt_us: u32,
    pub gbits: Option<f64>,
    pub loss: f64,
}

impl Link {
    pub fn rtt(rtt_us: u32) -> Link {
        Link {
            rtt_us,
            ..Link::default()
        }
    }

    /// The variable, unless the link is loopback as it is.
    pub fn variable(&self) -> Option<(String, String)> {
        let mut parts = Vec::new();
        if self.rtt_us > 0 {
            parts.push(format!("delay_us={}", f64::from(self.rtt_us) / 2.0));
        }
        if let Some(gbits) = self.gbits {
            parts.push(format!("rate_mbit={}", gbits * 1000.0));
        }
        if self.loss > 0.0 {
            parts.push(format!("loss={}", self.loss));
        }
        (!parts.is_empty()).then(|| {
            parts.push("seed=1".into());
            ("RGPU_SIMULATE".into(), parts.join(","))
        })
    }

    /// Whether a relay of datagrams can be this link: it adds some tens of microseconds itself, and knows no rate.
    pub fn carries_datagrams(&self) -> bool {
        self.gbits.is_none() && (self.rtt_us == 0 || self.rtt_us >= 1000)
    }

    /// What the relay does.
    pub fn way(&self) -> Way {
        Way {
            delay: Duration::from_micros(u64::from(self.rtt_us)) / 2,
            lost: (self.loss * 1e6) as u32,
            seed: 1,
        }
    }

    pub fn name(&self) -> String {
        let mut name = match self.rtt_us {
            0 => "loopback".to_owned(),
            micros if micros < 1000 => format!("{micros} µs"),
            micros => format!("{} ms", micros / 1000),
        };
        if let Some(gbits) = self.gbits {
            name += &format!(", {gbits} Gbit/s");
        }
        if self.loss > 0.0 {
            name += &format!(", {} % loss", 100.0 * self.loss);
        }
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_trip_is_two_delays() {
        assert_eq!(Link::default().variable(), None);
        let far = Link {
            rtt_us: 20_000,
            gbits: Some(1.0),
            loss: 0.01,
        };
        let value = "delay_us=10000,rate_mbit=1000,loss=0.01,seed=1";
        assert_eq!(far.variable(), Some(("RGPU_SIMULATE".into(), value.into())));
        assert_eq!(far.name(), "20 ms, 1 Gbit/s, 1 % loss");
        assert_eq!(Link::rtt(50).name(), "50 µs");
        assert_eq!((far.way().delay.as_millis(), far.way().lost), (10, 10_000));
        assert!(!far.carries_datagrams() && !Link::rtt(200).carries_datagrams());
        assert!(Link::rtt(1000).carries_datagrams() && Link::default().carries_datagrams());
    }
}
