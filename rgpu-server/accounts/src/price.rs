//! What use costs. Pure.
//!
//! Costs are whole billionths of the currency, so that sums do not depend on their order.

use serde::Deserialize;

use crate::amounts::Amounts;
use crate::config::Wrong;
use crate::pattern::Pattern;
use crate::time;

/// Billionths of the currency.
pub const NANO: f64 = 1e9;
/// Most prices of a configuration.
const MOST: usize = 1000;
const GIB: f64 = (1u64 << 30) as f64;
/// Beyond this a price is a slip of the pen, and its sums would not fit.
const DEAREST: f64 = 1e6;

/// A `[[price]]` of the configuration.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FilePrice {
    /// Model of the device, with `*` for any text; all devices without it.
    pub device: Option<Pattern>,
    /// The day or time from which it holds; always without it.
    pub from: Option<String>,
    /// For a second of device time.
    #[serde(default)]
    pub gpu_second: f64,
    /// For a MiB of device memory, held for a second.
    #[serde(default)]
    pub memory_mib_second: f64,
    /// For a GiB that went over the connection, either way.
    #[serde(default)]
    pub gib_sent: f64,
}

#[derive(Clone, Debug, PartialEq)]
struct Price {
    device: Pattern,
    from: i64,
    gpu_second: f64,
    memory_mib_second: f64,
    gib_sent: f64,
}

/// The price list.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Prices(Vec<Price>);

impl Prices {
    pub fn new(list: &[FilePrice]) -> Result<Prices, Wrong> {
        if list.len() > MOST {
            return Err(Wrong::new("price", format!("at most {MOST} [[price]]s")));
        }
        let mut prices: Vec<Price> = Vec::new();
        for (at, price) in list.iter().enumerate() {
            let price = price.resolve().map_err(|(key, why)| {
                let why = format!("[[price]] {}: {why}", at + 1);
                Wrong::new(format!("price.{at}.{key}"), why)
            })?;
            let same = |other: &Price| other.device == price.device && other.from == price.from;
            if prices.iter().any(same) {
                let why = format!(
                    "[[price]] {}: there is another for {:?} from the same time on",
                    at + 1,
                    price.device.as_str()
                );
                return Err(Wrong::new(format!("price.{at}"), why));
            }
            prices.push(price);
        }
        Ok(Prices(prices))
    }

    /// The entry that says most of the device, and of those the latest that holds at that time.
    fn of(&self, model: &str, at: i64) -> Option<&Price> {
        let fitting = self.0.iter();
        fitting
            .filter(|price| price.from <= at && price.device.fits(model))
            .max_by_key(|price| (price.device.precision(), price.from))
    }

    /// What that costs on a device of this model at that time, in billionths of the currency; 0 without a price.
    pub fn cost(&self, model: &str, at: i64, amounts: &Amounts) -> i64 {
        let Some(price) = self.of(model, at) else {
            return 0;
        };
        let second = time::SECOND as f64;
        let sent = amounts.bytes_in.saturating_add(amounts.bytes_out);
        let cost = price.gpu_second * (amounts.gpu_us as f64 / second)
            + price.memory_mib_second * (amounts.memory_mib_us as f64 / second)
            + price.gib_sent * (sent as f64 / GIB);
        // A cast from a float saturates; sums of sums are to fit as well.
        ((cost * NANO).round() as i64).clamp(0, 1 << 53)
    }
}

impl FilePrice {
    /// An error is the key, and why.
    fn resolve(&self) -> Result<Price, (&'static str, String)> {
        let numbers = [
            ("gpu_second", self.gpu_second),
            ("memory_mib_second", self.memory_mib_second),
            ("gib_sent", self.gib_sent),
        ];
        for (name, number) in numbers {
            if !(0.0..=DEAREST).contains(&number) {
                let why = format!("{name} = {number}: a price is 0 to {DEAREST}");
                return Err((name, why));
            }
        }
        let from = self.from.as_deref().map(time::parse).transpose();
        Ok(Price {
            device: self.device.clone().unwrap_or_else(Pattern::any),
            from: from
                .map_err(|why| ("from", format!("from: {why}")))?
                .unwrap_or(i64::MIN),
            gpu_second: self.gpu_second,
            memory_mib_second: self.memory_mib_second,
            gib_sent: self.gib_sent,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::{DAY, SECOND};

    fn file(device: &str, from: &str, gpu_second: f64) -> FilePrice {
        FilePrice {
            device: (!device.is_empty()).then(|| Pattern::new(device)),
            from: (!from.is_empty()).then(|| from.to_owned()),
            gpu_second,
            memory_mib_second: 0.0,
            gib_sent: 0.0,
        }
    }

    #[test]
    fn the_most_exact_and_then_the_latest_holds() {
        let prices = Prices::new(&[
            file("", "", 1.0),
            file("NVIDIA H100*", "", 4.0),
            file("NVIDIA H100*", "1970-01-11", 3.0),
            file("NVIDIA H100 PCIe", "1970-01-21", 2.0),
        ])
        .unwrap();
        let second = Amounts {
            gpu_us: SECOND as u64,
            ..Amounts::default()
        };
        for (model, day, cost) in [
            ("softgpu", 0, 1),
            ("", 100, 1),
            ("NVIDIA H100 PCIe", 9, 4),
            ("NVIDIA H100 PCIe", 10, 3),
            ("NVIDIA H100 PCIe", 20, 2),
            ("NVIDIA H100 SXM", 20, 3),
        ] {
            let found = prices.cost(model, day * DAY, &second);
            assert_eq!(found, cost * NANO as i64, "{model} on day {day}");
        }
        assert_eq!(Prices::default().cost("x", 0, &second), 0);
    }

    #[test]
    fn each_kind_of_use_has_its_price() {
        let price = FilePrice {
            memory_mib_second: 0.5,
            gib_sent: 3.0,
            ..file("", "", 2.0)
        };
        let used = Amounts {
            gpu_us: 1_500_000,
            memory_mib_us: 4_000_000,
            bytes_in: 1 << 29,
            bytes_out: 1 << 29,
            ..Amounts::default()
        };
        let cost = Prices::new(&[price]).unwrap().cost("x", 0, &used);
        assert_eq!(cost, 8 * NANO as i64);
    }

    #[test]
    fn prices_that_make_no_sense_are_refused() {
        for (list, says) in [
            (vec![file("", "", -1.0)], "[[price]] 1: gpu_second = -1"),
            (vec![file("", "", f64::NAN)], "gpu_second = NaN"),
            (vec![file("", "", 1e9)], "a price is 0 to"),
            (
                vec![file("", "soon", 1.0)],
                "[[price]] 1: from: \"soon\" is no time",
            ),
            (
                vec![file("a", "", 1.0), file("a", "", 2.0)],
                "[[price]] 2: there is another",
            ),
            (vec![file("", "", 0.0); MOST + 1], "at most"),
        ] {
            let why = Prices::new(&list).unwrap_err().to_string();
            assert!(why.contains(says), "{why}");
        }
    }
}
