//! Leases of a device: what a session does with them, and without.

use std::time::{Duration, Instant};

use rgpu_proto::CudaError;
use rgpu_proto::calls::{self, op};
use rgpu_proto::control::{Assign, FromWorker, ToWorker};
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, IntoBytes};

use super::client::{MIB, assignment};
use super::fake;
use super::session::{RELEASE, Rig, STALL, STORE, STREAM, store, window};
use crate::content::Given;

impl Rig {
    /// Of a session that asks for leases.
    fn leased(limit_ms: Option<u32>) -> Rig {
        let assign = Assign {
            time_sharing: true,
            kernel_time_limit_ms: limit_ms,
            ..assignment(Some(256 * MIB), vec![window()], Vec::new())
        };
        Rig::given(assign, Given::default()).prepared()
    }

    /// What the worker says next, but for what it uses.
    pub fn said(&self) -> FromWorker {
        loop {
            match self.broker.receive().unwrap().unwrap().0 {
                FromWorker::Usage(_) => {}
                other => return other,
            }
        }
    }

    pub fn grant(&self, shared: bool) {
        let lease = ToWorker::Lease {
            device: 0,
            slice_us: None,
            shared,
        };
        self.broker.send(&lease, None).unwrap();
    }

    /// Returns when the worker has heard what was sent so far, and has said nothing of leases.
    fn heard(&self) {
        self.broker.send(&ToWorker::Report, None).unwrap();
        let said = self.broker.receive().unwrap().unwrap().0;
        assert!(matches!(said, FromWorker::Usage(_)), "{said:?}");
    }

    fn ask(&self) {
        let ask = ToWorker::Yield {
            device: 0,
            within_us: 0,
        };
        self.broker.send(&ask, None).unwrap();
    }
}

/// A word of the driver's memory.
fn there(address: u64) -> u32 {
    fake::with(|world| {
        let (&base, bytes) = world.memory.range(..=address).next_back().unwrap();
        let offset = (address - base) as usize;
        u32::from_le_bytes(bytes[offset..offset + 4].try_into().unwrap())
    })
}

const WANT: FromWorker = FromWorker::Want { device: 0 };

fn wants(said: &FromWorker) -> Option<bool> {
    match said {
        FromWorker::Yielded {
            device: 0, wants, ..
        } => Some(*wants),
        _ => None,
    }
}

#[test]
fn work_waits_for_a_lease_and_calls_that_are_none_do_not() {
    for shared in [false, true] {
        let mut rig = Rig::leased(None);
        let at = rig.base + 64;
        // What has come so far was no work.
        rig.client.memory_info();
        rig.client.launch(1, STORE, STREAM, &store(at, 5));
        assert_eq!(rig.said(), WANT);
        assert_eq!(there(at), 0);
        rig.grant(shared);
        assert_eq!(rig.client.copy_out(at, 4), 5_u32.to_le_bytes());
        // It is kept until it is asked for.
        rig.client.launch(1, STORE, STREAM, &store(at, 6));
        assert_eq!(rig.client.synchronize(), (0, 0));
        rig.ask();
        assert_eq!(wants(&rig.said()), Some(false));
        // One that is not held is not given back.
        rig.ask();
        rig.client.launch(1, STORE, STREAM, &store(at, 7));
        assert_eq!(rig.said(), WANT);
        rig.grant(shared);
        assert_eq!(rig.client.copy_out(at, 4), 7_u32.to_le_bytes());
        assert_eq!(rig.close().result, 0);
    }
}

#[test]
fn a_lease_ends_behind_the_work_that_is_under_way() {
    for (shared, key) in [(false, 700_u64), (true, 701)] {
        let mut rig = Rig::leased(None);
        let at = rig.base + 64;
        rig.client.launch(1, STALL, STREAM, &key.to_le_bytes());
        assert_eq!(rig.said(), WANT);
        rig.grant(shared);
        rig.client.memory_info();
        rig.ask();
        rig.heard();
        // This one is for the next lease.
        rig.client.launch(2, STORE, STREAM, &store(at, 1));
        fake::release(key);
        match wants(&rig.said()).unwrap() {
            true => {}
            // It came just after.
            false => assert_eq!(rig.said(), WANT),
        }
        assert_eq!(there(at), 0);
        rig.grant(shared);
        assert_eq!(rig.client.synchronize(), (0, 0));
        assert_eq!(there(at), 1);
        assert_eq!(rig.close().result, 0);
    }
}

#[test]
fn a_stream_that_stands_at_a_function_of_the_programs_holds_no_lease() {
    for shared in [false, true] {
        let mut rig = Rig::leased(None);
        let at = rig.base + 64;
        rig.client.launch(1, STORE, STREAM, &store(at, 1));
        assert_eq!(rig.said(), WANT);
        rig.grant(shared);
        let launch = calls::rgpuLaunchHostArgs {
            stream: U64::new(STREAM),
            kind: U32::new(0),
            name: U64::new(STREAM),
            function: U64::new(0x1234),
            data: U64::new(0x5678),
        };
        rig.client.must(op::rgpuLaunchHost, &[launch.as_bytes()]);
        let (_, _, next) = rig.client.call(2, op::rgpuHostNext, &[&[0; 8]]);
        let next = calls::rgpuHostNextReply::read_from_bytes(&next).unwrap();
        rig.client.launch(1, STORE, STREAM, &store(at, 2));
        rig.client.memory_info();
        rig.ask();
        assert_eq!(wants(&rig.said()), Some(false));
        // The function has returned: what is behind it may need the device.
        let number = next.number.get().to_le_bytes();
        rig.client.ask(2, op::rgpuHostNext, &[&number]);
        assert_eq!(rig.said(), WANT);
        rig.grant(shared);
        assert_eq!(rig.client.synchronize(), (0, 0));
        assert_eq!(rig.close().result, 0);
    }
}

#[test]
fn the_end_of_the_session_is_not_kept_from_it_by_a_lease() {
    let mut rig = Rig::leased(None);
    let at = rig.base + 64;
    rig.client.launch(1, STORE, STREAM, &store(at, 1));
    assert_eq!(rig.said(), WANT);
    rig.ends_by_broker();
}

#[test]
fn a_kernel_past_its_limit_ends_the_session() {
    let mut rig = Rig::leased(Some(50));
    let key = 800_u64;
    rig.client.launch(1, STALL, STREAM, &key.to_le_bytes());
    assert_eq!(rig.said(), WANT);
    rig.grant(false);
    let ((result, reason), usage) = rig.ended_having_used();
    assert_eq!(result, CudaError::LAUNCH_TIMEOUT.0);
    assert!(reason.contains("longer than 50 ms"), "{reason}");
    // Nobody sees the kernel's end, and it has used the device all the same.
    assert!(usage.gpu_us >= 50_000, "{} µs", usage.gpu_us);
    fake::release(key);
}

#[test]
fn a_kernel_that_is_under_way_as_the_session_ends_has_used_the_device() {
    let mut rig = Rig::leased(None);
    let key = 801_u64;
    rig.client.launch(1, STALL, STREAM, &key.to_le_bytes());
    assert_eq!(rig.said(), WANT);
    rig.grant(true);
    rig.client.memory_info();
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(50) {
        rig.client.memory_info();
    }
    let end = ToWorker::End {
        result: 46,
        reason: "enough".into(),
    };
    rig.broker.send(&end, None).unwrap();
    let ((result, _), usage) = rig.ended_having_used();
    assert_eq!(result, 46);
    assert!(usage.gpu_us >= 50_000, "{} µs", usage.gpu_us);
    fake::release(key);
}

#[test]
fn short_kernels_within_the_limit_go_on() {
    let mut rig = Rig::leased(Some(60_000));
    let at = rig.base + 64;
    rig.client.launch(1, STORE, STREAM, &store(at, 0));
    assert_eq!(rig.said(), WANT);
    rig.grant(false);
    for value in 0..200 {
        rig.client.launch(1, STORE, STREAM, &store(at, value));
    }
    assert_eq!(rig.client.copy_out(at, 4), 199_u32.to_le_bytes());
    assert_eq!(rig.close().result, 0);
}

#[test]
fn kernels_that_wait_for_others_get_them_in_the_end() {
    // The second kernel ends the first, which may not end before: on a shared device, and while a lease ends.
    for asks in [false, true] {
        let mut rig = Rig::leased(None);
        let key = 900 + u64::from(asks);
        rig.client.launch(1, STALL, STREAM, &key.to_le_bytes());
        assert_eq!(rig.said(), WANT);
        rig.grant(true);
        rig.client.memory_info();
        if asks {
            rig.ask();
        }
        rig.client.launch(1, RELEASE, 0, &key.to_le_bytes());
        assert_eq!(rig.client.synchronize(), (0, 0));
        if asks {
            assert_eq!(wants(&rig.said()), Some(false));
        }
        assert_eq!(rig.close().result, 0);
    }
}
