//! What holds whatever comes. Proptest prints the case that fails, and `PROPTEST_RNG_SEED` repeats a run.

use std::collections::{BTreeMap, HashMap, HashSet};

use proptest::prelude::*;
use rgpu_quota::{
    Admission, Ahead, Bounds, Denied, Entitlement, Grant, Policy, Priority, Profile, Queue,
    QueueFull, Request,
};

const TENANTS: [&str; 4] = ["a", "b", "c", "d"];

#[derive(Clone, Debug)]
enum Step {
    Admit {
        tenant: usize,
        memory: u64,
        group: usize,
        movable: bool,
    },
    Release(prop::sample::Index),
}

fn step() -> impl Strategy<Value = Step> {
    let admit = (0..4_usize, 1..700_u64, 0..4_usize, any::<bool>()).prop_map(
        |(tenant, memory, group, movable)| Step::Admit {
            tenant,
            memory,
            group,
            movable,
        },
    );
    prop_oneof![3 => admit, 2 => any::<prop::sample::Index>().prop_map(Step::Release)]
}

proptest! {
    #[test]
    fn devices_are_never_given_out_beyond_what_is_allowed(
        totals in prop::collection::vec(500..2000_u64, 1..4),
        policy in prop::sample::select(vec![Policy::BinPack, Policy::Spread, Policy::Affinity]),
        percent in 100..300_u32,
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let mut admission = Admission::new(40);
        admission.placement.set_devices(&totals);
        admission.placement.set_policy(policy, percent);
        let mut held: Vec<(usize, Grant)> = Vec::new();
        for (id, step) in (1..).zip(steps) {
            match step {
                Step::Admit { tenant, memory, group, movable } => {
                    let of = Entitlement {
                        profile: Profile {
                            memory: Some(memory),
                            overcommit: movable,
                            sessions: Some(3),
                            placed: true,
                            ..Profile::default()
                        },
                        vgpus: Some(5),
                        sessions: Some(9),
                    };
                    let request = Request {
                        // Number 0 has none.
                        group: "g".repeat(group),
                        ..Request::default()
                    };
                    let ahead = Ahead::default();
                    let name = TENANTS[tenant];
                    if let Ok(grant) = admission.admit(id, name, &of, &request, ahead) {
                        held.push((tenant, grant));
                    }
                }
                Step::Release(index) if !held.is_empty() => {
                    let (tenant, grant) = held.swap_remove(index.index(held.len()));
                    admission.release(TENANTS[tenant], grant.vgpu, grant.row);
                }
                Step::Release(_) => {}
            }
            // By what has been granted, and not by the admission's own account.
            let mut vgpus = BTreeMap::new();
            let mut rows = HashSet::new();
            for (tenant, grant) in &held {
                prop_assert!(rows.insert((grant.vgpu, grant.row)));
                let same = vgpus.insert(grant.vgpu, (tenant, grant));
                prop_assert!(same.is_none_or(|(of, it)| of == tenant && it.device == grant.device));
            }
            for (device, (total, reserved)) in (0..).zip(admission.placement.devices()) {
                let there = || vgpus.values().filter(|(_, it)| it.device == Some(device));
                let of = |movable: bool| -> u64 {
                    let kind = there().filter(|(_, it)| it.profile.overcommit == movable);
                    kind.map(|(_, it)| it.profile.memory.unwrap()).sum()
                };
                prop_assert_eq!(reserved, of(true) + of(false));
                prop_assert!(of(false) <= total);
                prop_assert!(reserved <= total * u64::from(percent) / 100);
                prop_assert!(of(true) > 0 || reserved <= total);
            }
            prop_assert_eq!(admission.sessions() as usize, held.len());
            prop_assert_eq!(admission.vgpus().len(), vgpus.len());
        }
        for (tenant, grant) in held {
            admission.release(TENANTS[tenant], grant.vgpu, grant.row);
        }
        prop_assert!(admission.placement.devices().all(|(_, reserved)| reserved == 0));
        prop_assert!(admission.vgpus().is_empty());
    }

    /// However many of the others' wait, a tenant's next is served after one of each of them; and its own as they came.
    #[test]
    fn tenants_are_served_in_turn(
        joins in prop::collection::vec((0..4_usize, any::<bool>()), 1..200),
    ) {
        let mut queue = Queue::default();
        let mut waiting: HashMap<u64, usize> = HashMap::new();
        let mut served_since: HashMap<u64, [u32; 4]> = HashMap::new();
        let mut last_served = [0_u64; 4];
        for (tenant, serve) in joins {
            let first = !waiting.values().any(|of| *of == tenant);
            let ticket = queue.join(TENANTS[tenant], Priority::Normal);
            waiting.insert(ticket, tenant);
            if first {
                served_since.insert(ticket, [0; 4]);
            }
            if !serve {
                continue;
            }
            let mut room = 1;
            let done = queue.serve(|_, _| match room {
                0 => Err(Denied::Full { limit: 0 }),
                _ => {
                    room -= 1;
                    Ok(())
                }
            });
            prop_assert_eq!(done.len(), 1);
            let ticket = done[0].0;
            let of = waiting.remove(&ticket).unwrap();
            prop_assert!(ticket > last_served[of], "a tenant's own order");
            last_served[of] = ticket;
            served_since.remove(&ticket);
            for (_, counts) in served_since.iter_mut() {
                counts[of] += 1;
                // One that was under way in the turn that has begun, and one of the next.
                prop_assert!(counts[of] <= 2, "{counts:?}");
            }
        }
    }

    #[test]
    fn classes_come_in_their_order(
        joins in prop::collection::vec((0..4_usize, 0..3_usize), 1..60),
    ) {
        let classes = [Priority::Batch, Priority::Normal, Priority::Latency];
        let mut queue = Queue::default();
        let mut class_of = HashMap::new();
        for (tenant, class) in joins {
            let ticket = queue.join(TENANTS[tenant], classes[class]);
            class_of.insert(ticket, classes[class]);
        }
        let order: Vec<Priority> = queue.order().iter().map(|it| class_of[it]).collect();
        prop_assert!(order.windows(2).all(|pair| pair[0] >= pair[1]));
    }
}

#[test]
fn a_flood_displaces_nobody() {
    let bounds = Bounds {
        all: 100,
        of_tenant: 10,
    };
    let mut queue = Queue::default();
    for number in 0..1000 {
        let ticket = queue.join("flood", Priority::Normal);
        let full = queue.check("flood", bounds);
        assert_eq!(full.is_err(), number >= 10, "{number}");
        if let Err(why) = full {
            assert_eq!(why, QueueFull::OfTenant(10));
            queue.leave(ticket);
        }
    }
    let other = queue.join("other", Priority::Normal);
    assert_eq!(queue.check("other", bounds), Ok(()));
    assert_eq!(queue.order()[1], other);
    assert_eq!(queue.len(), 11);
}

#[test]
fn who_gives_up_has_not_had_a_turn() {
    let mut queue = Queue::default();
    let early = [(); 3].map(|()| queue.join("a", Priority::Normal));
    let other = [(); 2].map(|()| queue.join("b", Priority::Normal));
    queue.leave(early[0]);
    assert_eq!(queue.order(), [early[1], other[0], early[2], other[1]]);
}

#[test]
fn who_lacks_something_of_its_own_holds_nobody_up() {
    let mut queue = Queue::default();
    let [own, never, room, place] =
        ["a", "b", "c", "d"].map(|tenant| queue.join(tenant, Priority::Normal));
    let last = queue.join("e", Priority::Normal);
    let mut seen = Vec::new();
    let done = queue.serve(|ticket, ahead| {
        seen.push((ticket, ahead.room, ahead.place));
        match ticket {
            it if it == own => Err(Denied::Sessions { limit: 1 }),
            it if it == never => Err(Denied::Share {
                wanted: 2,
                limit: 1,
            }),
            it if it == room => Err(Denied::NoRoom { wanted: 1 }),
            it if it == place => Err(Denied::Full { limit: 1 }),
            _ => Ok(()),
        }
    });
    assert_eq!(
        seen,
        [
            (own, false, false),
            (never, false, false),
            (room, false, false),
            (place, true, false),
            (last, true, true)
        ]
    );
    let done: Vec<_> = done
        .into_iter()
        .map(|(it, how)| (it, how.is_ok()))
        .collect();
    assert_eq!(done, [(never, false), (last, true)]);
    assert_eq!(queue.order(), [own, room, place]);
}
