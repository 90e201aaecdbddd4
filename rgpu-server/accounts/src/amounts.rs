//! What is added up. Pure.

/// Larger totals are cut here, so that sums of a great many of them stay within SQLite's integers.
const MOST: u64 = 1 << 53;

/// Totals of a session, or a part of them. Within a session all of them only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amounts {
    /// Microseconds that the session has lasted, by the monotonic clock.
    pub duration_us: u64,
    /// Microseconds of device time.
    pub gpu_us: u64,
    /// MiB of device memory times the microseconds for which they were held.
    pub memory_mib_us: u64,
    /// Bytes from the client.
    pub bytes_in: u64,
    /// Bytes to the client.
    pub bytes_out: u64,
    /// Commands served.
    pub calls: u64,
    /// Kernel launches.
    pub launches: u64,
}

/// How many numbers [`Amounts`] are.
pub const COUNT: usize = 7;

impl Amounts {
    pub fn array(self) -> [u64; COUNT] {
        let Amounts {
            duration_us,
            gpu_us,
            memory_mib_us,
            bytes_in,
            bytes_out,
            calls,
            launches,
        } = self;
        [
            duration_us,
            gpu_us,
            memory_mib_us,
            bytes_in,
            bytes_out,
            calls,
            launches,
        ]
    }

    pub fn from_array(array: [u64; COUNT]) -> Amounts {
        let [
            duration_us,
            gpu_us,
            memory_mib_us,
            bytes_in,
            bytes_out,
            calls,
            launches,
        ] = array;
        Amounts {
            duration_us,
            gpu_us,
            memory_mib_us,
            bytes_in,
            bytes_out,
            calls,
            launches,
        }
    }

    fn with(self, other: Amounts, each: impl Fn(u64, u64) -> u64) -> Amounts {
        let other = other.array();
        let mut numbers = self.array();
        for (number, other) in numbers.iter_mut().zip(other) {
            *number = each(*number, other).min(MOST);
        }
        Amounts::from_array(numbers)
    }

    /// Each number's larger value: of two reports of one session, the later.
    pub fn later(self, other: Amounts) -> Amounts {
        self.with(other, u64::max)
    }

    /// What has come since `earlier`; nothing, where that is more.
    pub fn since(self, earlier: Amounts) -> Amounts {
        self.with(earlier, u64::saturating_sub)
    }

    pub fn plus(self, other: Amounts) -> Amounts {
        self.with(other, u64::saturating_add)
    }

    /// The part up to `done` of `whole`. What such parts differ by sums up to the whole, whatever is rounded.
    pub fn up_to(self, done: u64, whole: u64) -> Amounts {
        let (done, whole) = (u128::from(done.min(whole)), u128::from(whole.max(1)));
        let part = |number| (u128::from(number) * done / whole) as u64;
        Amounts::from_array(self.array().map(part))
    }

    pub fn is_nothing(self) -> bool {
        self == Amounts::default()
    }
}
