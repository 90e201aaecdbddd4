//! Real devices, or those that the kernel plays: `soft_roce ADDRESS`, an address that an RDMA device has. Both ends are here.

mod side;

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rgpu_rdma::verbs::{Connection, Listener, Request};
use rgpu_rdma::{Event, Note, Post, SHAPE, Span, Wire};
use rustix::event::{PollFd, PollFlags, poll};
use side::{exchange, side, write_to_nobody};

const PATIENCE: Duration = Duration::from_secs(20);

fn request(listener: &Listener) -> Request {
    loop {
        if let Some(request) = listener.next().unwrap() {
            return request;
        }
        poll(
            &mut [PollFd::from_borrowed_fd(listener.as_fd(), PollFlags::IN)],
            None,
        )
        .unwrap();
    }
}

fn listen(address: SocketAddr) -> (Listener, SocketAddr) {
    let listener = Listener::bind(address).unwrap();
    let place = SocketAddr::new(address.ip(), listener.port());
    assert_ne!(place.port(), 0);
    (listener, place)
}

/// Both ends of a connection.
fn connected(address: SocketAddr) -> (Connection, Connection) {
    let (listener, place) = listen(address);
    let client = std::thread::spawn(move || Connection::connect(place, PATIENCE).unwrap());
    let request = request(&listener);
    assert_eq!(request.peer().unwrap().ip(), address.ip());
    let server = request.accept(PATIENCE).unwrap();
    (client.join().unwrap(), server)
}

fn patterns_of_many_sizes_go_both_ways_at_once(address: SocketAddr) {
    let sizes = [
        0,
        1,
        63,
        4095,
        4096,
        4097,
        128 << 10,
        (1 << 20) - 1,
        1 << 20,
        9 << 20,
    ];
    for (seed, length) in (1..).zip(sizes) {
        let (client, server) = connected(address);
        exchange([client, server].map(side), length, seed);
    }
}

fn small_questions_have_small_answers(address: SocketAddr) {
    let (client, server) = connected(address);
    let (client, server) = (side(client), side(server));
    let (mut asker, mut answerer) = (client.program, server.program);
    let mut slowest = Duration::ZERO;
    for number in 0..300u32 {
        let asked = Instant::now();
        asker.write_all(&number.to_le_bytes()).unwrap();
        let mut bytes = [0; 4];
        answerer.read_exact(&mut bytes).unwrap();
        answerer.write_all(&bytes).unwrap();
        asker.read_exact(&mut bytes).unwrap();
        assert_eq!(u32::from_le_bytes(bytes), number);
        slowest = slowest.max(asked.elapsed());
    }
    println!("  slowest {slowest:?}");
    // One that waits until a probe wakes it has missed an event.
    assert!(slowest < Duration::from_secs(4));
    drop((asker, answerer));
    client.relay.join().unwrap().unwrap();
    server.relay.join().unwrap().unwrap();
}

fn a_reader_that_goes_makes_writes_fail(address: SocketAddr) {
    let (client, server) = connected(address);
    write_to_nobody([client, server].map(side));
}

/// The other end as a process, for [`a_peer_that_is_killed_is_noticed`]: sends for ever.
fn victim(place: SocketAddr) {
    let side = side(Connection::connect(place, PATIENCE).unwrap());
    let chunk = vec![9; 1 << 16];
    while (&side.program).write_all(&chunk).is_ok() {}
}

fn a_peer_that_is_killed_is_noticed(address: SocketAddr) {
    let (listener, place) = listen(address);
    let mut child = Command::new("/proc/self/exe")
        .args(["victim", &place.to_string()])
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let server = side(request(&listener).accept(PATIENCE).unwrap());
    // In the midst of a transfer.
    (&server.program).read_exact(&mut vec![0; 3 << 20]).unwrap();
    child.kill().unwrap();
    let killed = Instant::now();
    let drain = std::thread::spawn(move || {
        let mut program = server.program;
        while program.read(&mut [0; 1 << 16]).is_ok_and(|count| count > 0) {}
    });
    let lost = server.relay.join().unwrap().unwrap_err();
    println!("  noticed after {:?}: {lost}", killed.elapsed());
    assert!(killed.elapsed() < Duration::from_secs(25));
    drain.join().unwrap();
    child.wait().unwrap();
}

/// What the server says when its peer posts this.
fn hostile(address: SocketAddr, posts: &[Post]) -> String {
    let (mut client, server) = connected(address);
    let server = side(server);
    for post in posts {
        // Each after the one before, as the device has room for them.
        if client.post(*post).is_err() {
            break;
        }
        while let Ok(event) = client.poll() {
            if matches!(event, Some(Event::Done(_))) {
                break;
            }
            client.awake().unwrap();
            std::thread::yield_now();
        }
    }
    let why = server.relay.join().unwrap().unwrap_err().to_string();
    println!("  {why}");
    why
}

fn a_peer_that_breaks_the_rules_ends_the_connection_with_a_reason(address: SocketAddr) {
    let whole = |offset| {
        Post::Data(Span {
            offset,
            length: SHAPE.write,
        })
    };
    let why = hostile(address, &[Post::Position(1)]);
    assert!(why.contains("read up to 1"), "{why}");
    // More than there is room for: nobody reads at the server, but its socket takes something.
    let round: Vec<Post> = (0..24).map(|at| whole(at % 8 * SHAPE.write)).collect();
    let why = hostile(address, &round);
    assert!(why.contains("are free"), "{why}");
    let why = hostile(address, &[Post::Note(Note::End), Post::Note(Note::End)]);
    assert!(why.contains("after its end"), "{why}");
    // Behind the ring, where the device lets nobody write.
    let behind = Post::Data(Span {
        offset: SHAPE.ring,
        length: 1024,
    });
    let why = hostile(address, &[behind]);
    assert!(!why.contains("are free"), "it came through: {why}");
}

fn who_is_refused_hears_why(address: SocketAddr) {
    let (listener, place) = listen(address);
    let client = std::thread::spawn(move || Connection::connect(place, PATIENCE).map(drop));
    request(&listener).refuse("the server has no room");
    let why = client.join().unwrap().unwrap_err().to_string();
    assert_eq!(why, "the server has no room");
    drop(listener);
    let why = Connection::connect(place, PATIENCE).map(drop).unwrap_err();
    assert!(why.to_string().contains("nobody takes"), "{why}");
}

type Case = fn(SocketAddr);

fn main() {
    let mut arguments = std::env::args().skip(1);
    let (Some(first), second) = (arguments.next(), arguments.next()) else {
        println!("soft_roce ADDRESS: an address that an RDMA device has; see tests/rdma/README.md");
        return;
    };
    if let ("victim", Some(place)) = (first.as_str(), &second) {
        return victim(place.parse().unwrap());
    }
    let address = SocketAddr::new(first.parse().unwrap(), 0);
    let cases: [(&str, Case); 6] = [
        (
            "patterns both ways",
            patterns_of_many_sizes_go_both_ways_at_once,
        ),
        ("questions and answers", small_questions_have_small_answers),
        ("a reader that goes", a_reader_that_goes_makes_writes_fail),
        ("a peer that is killed", a_peer_that_is_killed_is_noticed),
        (
            "hostile peers",
            a_peer_that_breaks_the_rules_ends_the_connection_with_a_reason,
        ),
        ("refusals", who_is_refused_hears_why),
    ];
    for (name, case) in cases {
        if second.as_deref().is_some_and(|only| !name.contains(only)) {
            continue;
        }
        let start = Instant::now();
        println!("{name}");
        case(address);
        println!("  ok, {:?}", start.elapsed());
    }
}
