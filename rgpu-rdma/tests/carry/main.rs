//! Sockets carried over a wire of memory and threads.

#[path = "../side/mod.rs"]
mod side;
mod wire;

use std::io::{Read, Write};
use std::net::Shutdown;

use side::{Side, exchange, pattern, side, write_to_nobody};
use wire::{Hand, pair};

fn sides(seed: u64) -> (Side, Side, Hand) {
    println!("seed {seed}");
    let (a, b, hand) = pair(seed);
    (side(a), side(b), hand)
}

#[test]
fn patterns_of_many_sizes_go_both_ways_at_once() {
    let sizes = [
        0,
        1,
        7,
        4096,
        128 << 10,
        (128 << 10) + 1,
        (1 << 20) - 1,
        1 << 20,
        5 << 20,
    ];
    for (seed, length) in (1..).zip(sizes) {
        let (a, b, _hand) = sides(seed);
        exchange([a, b], length, seed);
    }
}

#[test]
fn each_direction_ends_for_itself() {
    let (mut a, mut b, _hand) = sides(11);
    a.program.write_all(b"question").unwrap();
    a.program.shutdown(Shutdown::Write).unwrap();
    let mut question = String::new();
    b.program.read_to_string(&mut question).unwrap();
    assert_eq!(question, "question");
    b.program.write_all(b"answer").unwrap();
    drop(b.program);
    let mut answer = String::new();
    a.program.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "answer");
    drop(a.program);
    a.relay.join().unwrap().unwrap();
    b.relay.join().unwrap().unwrap();
}

#[test]
fn a_reader_that_goes_makes_writes_fail() {
    let (a, b, _hand) = sides(12);
    write_to_nobody([a, b]);
}

#[test]
fn a_peer_that_never_ends_does_not_hold_a_closed_socket() {
    let (a, _b, _hand) = sides(18);
    // b's program keeps its socket open and says nothing.
    drop(a.program);
    a.relay.join().unwrap().unwrap();
}

#[test]
fn a_reader_that_stands_still_holds_its_own_direction_only() {
    let (a, b, _hand) = sides(13);
    let mut to = a.program.try_clone().unwrap();
    let bulk = pattern(4 << 20, 13);
    let sent = bulk.clone();
    let writer = std::thread::spawn(move || to.write_all(&bulk));
    // The other direction goes on, however long the first is full.
    let (mut back, mut here) = (&b.program, &a.program);
    for _ in 0..2000 {
        back.write_all(&[1; 64]).unwrap();
        here.read_exact(&mut [0; 64]).unwrap();
    }
    let mut received = vec![0; 4 << 20];
    (&b.program).read_exact(&mut received).unwrap();
    assert!(received == sent);
    writer.join().unwrap().unwrap();
}

#[test]
fn a_connection_that_is_lost_says_why_before_the_socket_closes() {
    let (mut a, b, hand) = sides(14);
    a.program.write_all(b"something").unwrap();
    hand.cut("the cable");
    let lost = [a.relay, b.relay].map(|relay| relay.join().unwrap().unwrap_err().to_string());
    assert_eq!(lost, ["the cable", "the cable"]);
}

#[test]
fn a_peer_that_leaves_when_all_is_said_has_left_in_order() {
    let (mut a, b, hand) = sides(15);
    let bytes = pattern(200_000, 15);
    let mut to = b.program.try_clone().unwrap();
    let sent = bytes.clone();
    std::thread::spawn(move || {
        to.write_all(&sent).unwrap();
        drop(to);
    })
    .join()
    .unwrap();
    a.program.shutdown(Shutdown::Write).unwrap();
    drop(b.program);
    // b's relay has ended, so the wire is gone at its end; its last bytes are still here.
    b.relay.join().unwrap().unwrap();
    hand.cut("it has left");
    let mut received = Vec::new();
    a.program.read_to_end(&mut received).unwrap();
    assert!(received == bytes);
    a.relay.join().unwrap().unwrap();
}

#[test]
fn a_peer_that_breaks_the_rules_ends_the_connection_with_a_reason() {
    let (a, _b, hand) = sides(16);
    hand.say(0, 6 << 29);
    let why = a.relay.join().unwrap().unwrap_err().to_string();
    assert!(
        why.contains("means nothing") && why.contains("given up"),
        "{why}"
    );
    let (a, _b, hand) = sides(17);
    hand.say(0, (128 << 10) + 1);
    let why = a.relay.join().unwrap().unwrap_err().to_string();
    assert!(why.contains("writes 131073 bytes"), "{why}");
}
