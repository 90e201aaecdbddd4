use super::*;

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

const LONG: Duration = ms(10_000);

/// A device of 100, and sessions that have so much of it from the beginning.
fn books(rooms: &[u64]) -> Books {
    let mut books = Books::default();
    books.set_budget(Budget {
        memory: 1000,
        disk: 0,
    });
    for (session, room) in (1..).zip(rooms) {
        books.enter(session, 0, ms(0));
        books.set_capacity(0, 100);
        if *room > 0 {
            books.need(session, *room, false);
            let bytes = *room;
            assert_eq!(at_work(&mut books, ms(0)), [Order::Room { session, bytes }]);
        }
    }
    books
}

fn at_work(books: &mut Books, now: Duration) -> Vec<Order> {
    books.orders(now, |_| None)
}

fn put_away(session: u64, bytes: u64, idle: Duration) -> Order {
    let to = Store::Memory;
    Order::PutAway {
        session,
        bytes,
        idle,
        to,
    }
}

#[test]
fn who_has_done_nothing_longest_goes_and_never_who_asks() {
    let mut books = books(&[40, 20, 40, 0]);
    books.need(4, 50, false);
    let idle = |session| match session {
        1 => None,
        2 => Some(ms(3000)),
        _ => Some(ms(2000)),
    };
    let orders = books.orders(LONG, idle);
    let gone = [
        put_away(3, 40, Duration::ZERO),
        put_away(2, 20, Duration::ZERO),
    ];
    assert_eq!(orders, gone);
    // They are waited for.
    assert_eq!(books.orders(LONG, idle), []);
    books.away(3, 40, 0);
    assert_eq!(books.orders(LONG, idle), []);
    books.away(2, 20, 0);
    let room = Order::Room {
        session: 4,
        bytes: 50,
    };
    assert_eq!(books.orders(LONG, idle), [room]);
    assert_eq!(books.stored(Store::Memory), 60);
}

#[test]
fn who_is_at_work_stays_a_while() {
    let mut books = books(&[100, 0]);
    books.need(2, 60, false);
    // Only if it does nothing.
    assert_eq!(at_work(&mut books, ms(10)), [put_away(1, 100, LEAST_IDLE)]);
    books.stays(1, false, ms(11));
    assert_eq!(at_work(&mut books, ms(12)), []);
    let wakes = books.wakes(ms(12)).unwrap();
    assert_eq!(wakes, ms(31));
    assert_eq!(at_work(&mut books, wakes), [put_away(1, 100, LEAST_IDLE)]);
    books.stays(1, false, ms(990));
    assert_eq!(at_work(&mut books, ms(999)), []);
    let orders = at_work(&mut books, ms(1010));
    assert_eq!(orders, [put_away(1, 100, Duration::ZERO)]);
}

#[test]
fn one_that_waits_and_is_put_away_gets_all_at_once() {
    let mut books = books(&[60, 40]);
    books.need(1, 30, false);
    books.need(2, 50, false);
    assert_eq!(at_work(&mut books, LONG), [put_away(2, 40, Duration::ZERO)]);
    books.away(2, 40, 0);
    let room = |session, bytes| Order::Room { session, bytes };
    // The second now needs what it had, too, and the first goes for it.
    let orders = at_work(&mut books, LONG);
    assert_eq!(orders, [room(1, 30), put_away(1, 90, Duration::ZERO)]);
    books.away(1, 60, 30);
    assert_eq!(at_work(&mut books, LONG), [room(2, 90)]);
    books.back(2, LONG);
    assert_eq!(books.stored(Store::Memory), 60);
    // And gets a stay of its own.
    books.need(1, 60, false);
    let orders = at_work(&mut books, LONG + ms(1));
    assert_eq!(orders, [put_away(2, 90, LEAST_IDLE)]);
}

#[test]
fn the_first_in_line_is_not_overtaken_but_by_whom_it_does_not_wait_for() {
    let mut books = books(&[90, 0, 0]);
    books.need(2, 50, false);
    books.need(3, 5, false);
    assert_eq!(at_work(&mut books, LONG), [put_away(1, 90, Duration::ZERO)]);
    // Nothing else can go: the first cannot be served, and the other can.
    books.stays(1, true, LONG);
    let room = Order::Room {
        session: 3,
        bytes: 5,
    };
    assert_eq!(at_work(&mut books, LONG), [room]);
    // The small one may go as well, when the time has come.
    let later = LONG + STUCK;
    assert_eq!(
        at_work(&mut books, later),
        [put_away(1, 90, Duration::ZERO)]
    );
}

#[test]
fn what_can_never_be_is_said_at_once() {
    let mut books = books(&[10, 10]);
    books.beside(1, 15);
    books.need(2, 80, false);
    let never = Order::Room {
        session: 2,
        bytes: 0,
    };
    assert_eq!(at_work(&mut books, LONG), [never]);
    books.need(2, 75, false);
    assert_eq!(at_work(&mut books, LONG), [put_away(1, 10, Duration::ZERO)]);
}

#[test]
fn the_dead_leave_nothing_behind() {
    let mut books = books(&[60, 40, 0]);
    books.need(3, 60, false);
    at_work(&mut books, LONG);
    books.leave(1);
    books.leave(2);
    let room = Order::Room {
        session: 3,
        bytes: 60,
    };
    assert_eq!(at_work(&mut books, LONG), [room]);
    assert_eq!((books.stored(Store::Memory), books.wakes(LONG)), (0, None));
    // What they still say is not heard.
    books.away(1, 60, 0);
    books.need(2, 1, true);
    assert_eq!(at_work(&mut books, LONG), []);
    books.leave(3);
    assert_eq!(books.devices(), []);
}

#[test]
fn what_the_driver_refuses_is_somebodys() {
    let mut books = books(&[40, 10]);
    books.gave(2, 10);
    books.need(2, 10, true);
    assert_eq!(at_work(&mut books, LONG), [put_away(1, 40, Duration::ZERO)]);
    books.away(1, 40, 0);
    let room = Order::Room {
        session: 2,
        bytes: 10,
    };
    assert_eq!(at_work(&mut books, LONG), [room]);
    // When somebody is gone, it may have been that one's.
    books.leave(2);
    books.need(1, 100, false);
    let room = Order::Room {
        session: 1,
        bytes: 100,
    };
    assert_eq!(at_work(&mut books, LONG), [room]);
}

#[test]
fn memory_is_full_before_the_disk_and_then_nobody_goes() {
    let mut books = books(&[30, 30, 40, 0]);
    books.set_budget(Budget {
        memory: 30,
        disk: 35,
    });
    books.need(4, 90, false);
    // All of it would not fit.
    assert_eq!(at_work(&mut books, LONG), []);
    books.need(4, 60, false);
    let orders = at_work(&mut books, LONG);
    let on_disk = Order::PutAway {
        session: 2,
        bytes: 30,
        idle: Duration::ZERO,
        to: Store::Disk,
    };
    assert_eq!(orders, [put_away(1, 30, Duration::ZERO), on_disk]);
    books.stays(2, true, LONG);
    assert_eq!(books.stored(Store::Disk), 0);
}

#[test]
fn where_all_wait_and_files_are_full_who_came_last_goes_without() {
    let mut books = books(&[50, 50, 0]);
    books.set_budget(Budget {
        memory: 40,
        disk: 0,
    });
    books.need(1, 10, false);
    books.need(3, 5, false);
    // The second may end, or free what it has.
    assert_eq!(at_work(&mut books, LONG), []);
    let later = LONG + STANDSTILL;
    assert_eq!(at_work(&mut books, later), []);
    books.need(2, 10, false);
    assert_eq!(at_work(&mut books, later), []);
    let wakes = books.wakes(later).unwrap();
    assert!(wakes <= later + STANDSTILL);
    let end = later + STANDSTILL;
    let never = |session| Order::Room { session, bytes: 0 };
    assert_eq!(at_work(&mut books, end), [never(2)]);
    // It is not known yet what becomes of it.
    assert_eq!(at_work(&mut books, end + STANDSTILL), []);
    books.leave(2);
    let room = |session, bytes| Order::Room { session, bytes };
    let orders = at_work(&mut books, end + STANDSTILL);
    assert_eq!(orders, [room(1, 10), room(3, 5)]);
}

#[test]
fn where_all_wait_and_one_can_go_nobody_goes_without() {
    let mut books = books(&[50, 50]);
    books.set_budget(Budget {
        memory: 60,
        disk: 0,
    });
    books.need(1, 10, false);
    books.need(2, 10, false);
    let orders = at_work(&mut books, LONG);
    assert_eq!(orders, [put_away(2, 50, Duration::ZERO)]);
    // It says that it cannot now: it is asked again.
    books.stays(2, true, LONG);
    let later = LONG + STUCK * 2;
    let orders = at_work(&mut books, later);
    assert_eq!(orders, [put_away(2, 50, Duration::ZERO)]);
}

#[test]
fn another_daemon_is_told_how_things_are() {
    let mut books = books(&[]);
    for session in [1, 2] {
        books.expect(session, 0, LONG);
    }
    books.set_capacity(0, 100);
    // This is in what the second holds and needs.
    books.need(2, 60, false);
    books.gave(2, 60);
    books.holds(2, 0, 5, (Store::Disk, 60), 60);
    assert_eq!(books.stored(Store::Disk), 60);
    assert_eq!(at_work(&mut books, LONG), []);
    books.holds(1, 70, 5, (Store::Memory, 0), 0);
    let later = LONG + STAY;
    let orders = at_work(&mut books, later);
    assert_eq!(orders, [put_away(1, 70, Duration::ZERO)]);
    books.away(1, 70, 0);
    let room = Order::Room {
        session: 2,
        bytes: 60,
    };
    assert_eq!(at_work(&mut books, later), [room]);
    // One that never says anything holds nobody up for ever.
    books.expect(3, 0, later);
    books.need(1, 10, false);
    assert_eq!(at_work(&mut books, later), []);
    let room = Order::Room {
        session: 1,
        bytes: 10,
    };
    assert_eq!(at_work(&mut books, later + ANSWER), [room]);
}

#[test]
fn moving_pays_by_what_is_moved() {
    assert_eq!(pays_after(1), LEAST_IDLE);
    assert_eq!(pays_after(1 << 28), ms(500));
    assert_eq!(pays_after(u64::MAX), STAY);
}
