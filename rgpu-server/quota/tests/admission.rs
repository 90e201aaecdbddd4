//! Sessions, vGPUs and devices by example.

use rgpu_quota::{Admission, Ahead, Denied, Entitlement, Grant, Policy, Profile, Request};

const MIB: u64 = 1 << 20;

fn entitled(memory_mib: u64) -> Entitlement {
    Entitlement {
        profile: Profile {
            name: "half".into(),
            memory: Some(memory_mib * MIB),
            placed: true,
            ..Profile::default()
        },
        ..Entitlement::default()
    }
}

fn group(name: &str) -> Request {
    Request {
        group: name.into(),
        ..Request::default()
    }
}

struct Server {
    admission: Admission,
    next: u64,
}

impl Server {
    fn new(devices_mib: &[u64], policy: Policy) -> Server {
        let mut admission = Admission::new(100);
        let totals: Vec<u64> = devices_mib.iter().map(|mib| mib * MIB).collect();
        admission.placement.set_devices(&totals);
        admission.placement.set_policy(policy, 100);
        Server { admission, next: 0 }
    }

    fn admit(&mut self, tenant: &str, of: &Entitlement, wants: &Request) -> Result<Grant, Denied> {
        self.next += 1;
        let ahead = Ahead::default();
        self.admission.admit(self.next, tenant, of, wants, ahead)
    }

    fn plain(&mut self, tenant: &str, of: &Entitlement) -> Result<Grant, Denied> {
        self.admit(tenant, of, &Request::default())
    }

    fn release(&mut self, tenant: &str, grant: &Grant) -> bool {
        self.admission.release(tenant, grant.vgpu, grant.row)
    }
}

#[test]
fn a_session_gets_what_it_asks_for_within_the_entitlement() {
    let mut server = Server::new(&[], Policy::BinPack);
    let mut of = entitled(512);
    of.profile.placed = false;
    of.sessions = Some(2);
    let less = Request {
        memory: Some(64 * MIB),
        share_percent: Some(25),
        ..Request::default()
    };
    let grant = server.admit("a", &of, &less).unwrap();
    assert_eq!(grant.profile.memory, Some(64 * MIB));
    assert_eq!((grant.profile.cap_percent, grant.device), (Some(25), None));
    let more = Request {
        memory: Some(1024 * MIB),
        ..Request::default()
    };
    assert_eq!(
        server.admit("a", &of, &more),
        Err(Denied::Memory {
            wanted: 1024,
            limit: 512
        })
    );
    let plain = server.plain("a", &of).unwrap();
    assert_eq!(plain.profile.memory, Some(512 * MIB));
    assert_eq!(server.plain("a", &of), Err(Denied::Sessions { limit: 2 }));
    server.release("a", &grant);
    assert!(server.plain("a", &of).is_ok());
}

#[test]
fn the_server_is_full_at_its_limit() {
    let mut admission = Admission::new(1);
    let (open, any) = (Entitlement::default(), Request::default());
    let mut admit = |id, tenant: &str| admission.admit(id, tenant, &open, &any, Ahead::default());
    let grant = admit(1, "a").unwrap();
    assert_eq!(admit(2, "b"), Err(Denied::Full { limit: 1 }));
    assert!(admission.release("a", grant.vgpu, grant.row));
    assert_eq!(admission.sessions(), 0);
}

#[test]
fn memory_of_a_device_is_given_out_once() {
    let mut server = Server::new(&[1000, 600], Policy::BinPack);
    let of = entitled(500);
    let first = server.plain("a", &of).unwrap();
    let second = server.plain("b", &of).unwrap();
    let third = server.plain("c", &of).unwrap();
    let places = [&first, &second, &third].map(|grant| grant.device);
    assert_eq!(places, [Some(1), Some(0), Some(0)]);
    assert_eq!(server.plain("d", &of), Err(Denied::NoRoom { wanted: 500 }));
    assert_eq!(
        server.plain("d", &entitled(1001)),
        Err(Denied::TooLarge {
            wanted: 1001,
            most: 1000
        })
    );
    assert!(server.release("b", &second));
    assert_eq!(server.plain("d", &of).unwrap().device, Some(0));
}

#[test]
fn what_others_have_of_a_device_is_not_reserved() {
    let mut server = Server::new(&[1000], Policy::BinPack);
    let of = entitled(300);
    server.admission.placement.set_open(0, 500 * MIB);
    assert!(server.plain("a", &of).is_ok());
    assert_eq!(server.plain("b", &of), Err(Denied::NoRoom { wanted: 300 }));
    assert_eq!(server.admission.placement.beside_fixed(0), 200 * MIB);
    server.admission.placement.set_open(0, 400 * MIB);
    assert!(server.plain("b", &of).is_ok());
}

#[test]
fn policies_choose_among_devices_with_room() {
    let (small, large) = (entitled(100), entitled(400));
    let mut spread = Server::new(&[1000, 1000], Policy::Spread);
    let places = ["a", "b", "c"].map(|tenant| spread.plain(tenant, &small).unwrap().device);
    assert_eq!(places, [Some(0), Some(1), Some(0)]);

    let mut near = Server::new(&[1000, 1000], Policy::Affinity);
    assert_eq!(near.plain("a", &large).unwrap().device, Some(0));
    assert_eq!(near.plain("b", &large).unwrap().device, Some(0));
    // No room beside it.
    let second = near.plain("b", &large).unwrap();
    assert_eq!(second.device, Some(1));
    assert_eq!(near.plain("a", &small).unwrap().device, Some(0));
    let of = |function: &str| Request {
        function: function.into(),
        ..Request::default()
    };
    near.release("b", &second);
    let mut last = Server::new(&[1000, 1000], Policy::Affinity);
    let filler = last.plain("x", &entitled(950)).unwrap();
    let there = last.admit("a", &small, &of("f")).unwrap();
    assert_eq!((filler.device, there.device), (Some(0), Some(1)));
    last.release("a", &there);
    last.release("x", &filler);
    // Its content may still be there.
    assert_eq!(last.admit("a", &small, &of("f")).unwrap().device, Some(1));
}

#[test]
fn a_vgpu_that_is_kept_outlives_its_sessions() {
    let mut server = Server::new(&[1000], Policy::BinPack);
    let of = entitled(600);
    let keep = |server: &mut Server| {
        server.next += 1;
        let (id, ahead) = (server.next, Ahead::default());
        let kept = server.admission.keep(id, "a", &of, "lease", ahead);
        kept.map(|()| id)
    };
    let room = |server: &Server, empty| {
        let placement = &server.admission.placement;
        placement.room_for(300 * MIB, false, empty)
    };
    let vgpu = keep(&mut server).unwrap();
    assert_eq!(keep(&mut server), Err(Denied::NoRoom { wanted: 600 }));
    assert_eq!(
        (room(&server, false), room(&server, true)),
        (Some(1), Some(3))
    );
    assert_eq!(server.admission.sessions(), 0);
    let one = server.admit("a", &of, &group("lease")).unwrap();
    assert_eq!((one.vgpu, one.row), (vgpu, 0));
    assert!(!server.release("a", &one));
    let other = server.admit("a", &of, &group("lease")).unwrap();
    assert_eq!(other.vgpu, vgpu);
    assert!(!server.admission.let_go(vgpu));
    assert!(server.release("a", &other));
    assert_eq!(room(&server, false), Some(3));
    let vgpu = keep(&mut server).unwrap();
    assert!(server.admission.let_go(vgpu));
    assert_eq!(room(&server, false), Some(3));
}

#[test]
fn a_group_has_one_vgpu() {
    let mut server = Server::new(&[1000], Policy::BinPack);
    let mut of = entitled(600);
    of.profile.sessions = Some(2);
    of.vgpus = Some(1);
    let one = server.admit("a", &of, &group("job")).unwrap();
    let two = server.admit("a", &of, &group("job")).unwrap();
    assert_eq!((one.vgpu, two.vgpu), (1, 1));
    assert_eq!((one.row, two.row), (0, 1));
    let third = server.admit("a", &of, &group("job"));
    assert_eq!(third, Err(Denied::OfVgpu { limit: 2 }));
    let another = server.admit("a", &of, &group("other"));
    assert_eq!(another, Err(Denied::Vgpus { limit: 1 }));
    // A name is a tenant's own; and there is no room for another's.
    let stranger = server.admit("b", &of, &group("job"));
    assert_eq!(stranger, Err(Denied::NoRoom { wanted: 600 }));
    assert!(!server.release("a", &one));
    let next = server.admit("a", &of, &group("job")).unwrap();
    assert_eq!((next.vgpu, next.row), (1, 0));
    assert!(!server.release("a", &two) && server.release("a", &next));
    assert!(server.admit("b", &of, &group("job")).is_ok());
}

#[test]
fn what_may_be_moved_away_is_overcommitted_as_far_as_the_server_says() {
    let mut server = Server::new(&[1000], Policy::BinPack);
    server.admission.placement.set_policy(Policy::BinPack, 200);
    let (fixed, mut movable) = (entitled(400), entitled(600));
    movable.profile.overcommit = true;
    let kept = server.plain("a", &fixed).unwrap();
    let two = [(); 2].map(|()| server.plain("b", &movable).unwrap());
    // 1600 of 2000; a fixed one must fit what the device really has.
    assert!(server.plain("a", &fixed).is_err());
    assert!(server.plain("b", &movable).is_err());
    for grant in &two {
        server.release("b", grant);
    }
    let beside = server.plain("a", &fixed).unwrap();
    // It would have no place beside those that stay.
    assert!(server.plain("b", &movable).is_err());
    server.release("a", &beside);
    server.release("a", &kept);
    assert_eq!(
        server.admission.placement.devices().next(),
        Some((1000 * MIB, 0))
    );
}

#[test]
fn who_is_behind_does_not_overtake() {
    let mut server = Server::new(&[1000], Policy::BinPack);
    let of = entitled(100);
    let held = server.admit("a", &of, &group("job")).unwrap();
    let behind = Ahead {
        room: true,
        place: false,
    };
    let mut behind = |request: &Request, of: &Entitlement| {
        server.next += 1;
        server
            .admission
            .admit(server.next, "a", of, request, behind)
    };
    let fresh = behind(&Request::default(), &of);
    assert_eq!(fresh, Err(Denied::NoRoom { wanted: 100 }));
    // It takes nothing that those ahead wait for.
    assert_eq!(behind(&group("job"), &of).unwrap().vgpu, held.vgpu);
    assert!(behind(&Request::default(), &Entitlement::default()).is_ok());
}

#[test]
fn a_session_that_goes_on_has_its_place_and_its_vgpu() {
    let half = entitled(512);
    let (first, second) = {
        let mut before = Server::new(&[1024], Policy::BinPack);
        let first = before.admit("a", &half, &group("g")).unwrap();
        let second = before.admit("a", &half, &group("g")).unwrap();
        (first, second)
    };
    // Its devices are told of later.
    let mut admission = Admission::new(1);
    admission.readmit("a", &second, &group("g"));
    admission.readmit("a", &first, &group("g"));
    assert_eq!(admission.sessions(), 2);
    assert_eq!(admission.vgpu(first.vgpu), Some((&first.profile, "g")));
    assert_eq!(admission.vgpus()[0].sessions, 2);
    admission.placement.set_devices(&[1024 * MIB]);
    let reserved = |of: &Admission| of.placement.devices().next();
    assert_eq!(reserved(&admission), Some((1024 * MIB, 512 * MIB)));
    let mut server = Server {
        admission,
        next: 100,
    };
    let full = Err(Denied::Full { limit: 1 });
    assert_eq!(server.admit("a", &half, &group("g")), full);
    assert!(!server.release("a", &first));
    assert_eq!(server.plain("b", &half), full);
    assert!(server.release("a", &second));
    assert_eq!(reserved(&server.admission), Some((1024 * MIB, 0)));
    assert!(server.plain("b", &half).is_ok());
}
