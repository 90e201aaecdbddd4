//! vGPUs: on which device they are, who has one together, who waits for one, and what a reload changes.

use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use rgpu_proto::handshake::{Answer, ClientHandshake, Hello, RefusalCode, Token};
use rgpu_transport::{Endpoint, Pipe, greet_and_wait};
use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};

use crate::client::{Client, Session, attach, begin, hello};
use crate::daemon::{Daemon, PATIENCE, TOKEN, command, fails, folder};
use crate::worker::{CRASH, HOLD, LENT, NOT_LENT, VGPU};

/// What `path` says, with devices of 1 GiB each.
fn daemon(configuration: &str, devices: u32) -> Daemon {
    let folder = folder("");
    let path = folder.path().join("rgpud.toml");
    std::fs::write(&path, configuration).unwrap();
    let mut command = command(folder.path(), "driver.so");
    command
        .args(["--listen", "tcp://127.0.0.1:0"])
        .arg("--config")
        .arg(path)
        .env("SOFTGPU_DEVICES", devices.to_string());
    Daemon::from(command, folder)
}

fn configuration(more: &str) -> String {
    format!(
        "{more}\n[[profile]]\nname = \"half\"\nmemory_mib = 500\n\
         [[tenant]]\nname = \"tests\"\ntoken = \"{TOKEN}\"\nprofile = \"half\"\n\
         [[tenant]]\nname = \"others\"\ntoken = \"others-{TOKEN}\"\nprofile = \"half\"\n"
    )
}

fn of(token: &str, group: &str) -> Hello {
    Hello {
        token: Token::new(token),
        group: group.into(),
        ..hello()
    }
}

fn others() -> Hello {
    of(&format!("others-{TOKEN}"), "")
}

/// "VGPU [DEVICE]".
fn vgpu(session: &mut Session) -> (String, String) {
    session.data.write(&[VGPU]);
    let says = session.data.until_nul();
    let (vgpu, devices) = says.split_once(' ').unwrap();
    (vgpu.into(), devices.into())
}

fn holds(session: &mut Session, mib: u8) -> bool {
    session.data.write(&[HOLD, mib]);
    match session.data.some().as_slice() {
        [LENT] => true,
        [NOT_LENT] => false,
        other => panic!("{other:?}"),
    }
}

fn refused(endpoint: &Endpoint, hello: &Hello) -> (RefusalCode, String) {
    let refused = begin(endpoint, hello).map(|_| ()).unwrap_err();
    (refused.code, refused.message)
}

pub fn a_vgpu_is_placed_on_one_device() {
    let daemon = daemon(
        &configuration("[admission]\nwait_seconds = 0\n[placement]\npolicy = \"spread\""),
        2,
    );
    let endpoint = &daemon.listen[0];
    let mut sessions: Vec<Session> = (0..4).map(|_| begin(endpoint, &hello()).unwrap()).collect();
    let devices: Vec<String> = sessions.iter_mut().map(|it| vgpu(it).1).collect();
    assert_eq!(devices, ["[0]", "[1]", "[0]", "[1]"]);
    // Its driver shows that device alone.
    sessions[1].data.write(&[crate::worker::ENVIRONMENT]);
    let environment = sessions[1].data.until_nul();
    let only = "CUDA_VISIBLE_DEVICES=GPU-01010101-0101-0101-0101-010101010101";
    assert!(
        environment.lines().any(|line| line == only),
        "{environment}"
    );
    let (code, message) = refused(endpoint, &hello());
    assert_eq!(code, RefusalCode::NoCapacity, "{message}");
    assert!(message.contains("no device has 500 MiB left"), "{message}");
    // What a killed worker's vGPU had is there for the next.
    sessions[3].data.write(&[CRASH]);
    sessions[3].ended();
    let mut next = begin(endpoint, &hello()).unwrap();
    assert_eq!(vgpu(&mut next).1, "[1]");
}

pub fn sessions_of_a_group_count_together() {
    let daemon = daemon(&configuration("[admission]\nwait_seconds = 0"), 1);
    let endpoint = &daemon.listen[0];
    let mut one = begin(endpoint, &of(TOKEN, "job")).unwrap();
    let mut two = begin(endpoint, &of(TOKEN, "job")).unwrap();
    let mut apart = begin(endpoint, &of(TOKEN, "")).unwrap();
    assert_eq!(vgpu(&mut one), vgpu(&mut two));
    assert_ne!(vgpu(&mut one), vgpu(&mut apart));
    assert!(holds(&mut one, 200) && holds(&mut two, 200));
    // 500 MiB are for both.
    let mut third = begin(endpoint, &of(TOKEN, "job")).unwrap();
    assert!(!holds(&mut third, 101));
    assert!(holds(&mut apart, 250));
    // A name is the tenant's own: another's would be another vGPU, for which there is no room.
    let foreign = of(&format!("others-{TOKEN}"), "job");
    assert_eq!(refused(endpoint, &foreign).0, RefusalCode::NoCapacity);
    // Killed without a word: nothing of what it counted stays.
    one.data.write(&[CRASH]);
    one.ended();
    assert!(holds(&mut third, 250));
}

pub fn what_is_reserved_is_kept_from_those_without_a_profile() {
    let open = format!("[[tenant]]\nname = \"open\"\ntoken = \"open-{TOKEN}\"\n");
    let wait = "[admission]\nwait_seconds = 0";
    let daemon = daemon(&(configuration(wait) + &open), 1);
    let endpoint = &daemon.listen[0];
    let open = of(&format!("open-{TOKEN}"), "");
    let kept = begin(endpoint, &hello()).unwrap();
    let mut others: Vec<Session> = (0..4).map(|_| begin(endpoint, &open).unwrap()).collect();
    // 1024 MiB less 500.
    assert!(holds(&mut others[0], 250) && holds(&mut others[1], 250));
    assert!(!holds(&mut others[2], 25));
    assert!(holds(&mut others[2], 24));
    let second = begin(endpoint, &hello());
    assert!(second.is_err(), "what others hold has been reserved");
    drop(kept);
    drop(others.remove(0));
    // 274 MiB are held: there is room for one again, as soon as both are gone.
    let until = std::time::Instant::now() + PATIENCE;
    let again = loop {
        match begin(endpoint, &hello()) {
            Ok(session) => break session,
            Err(refused) => assert!(std::time::Instant::now() < until, "{refused:?}"),
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    };
    assert!(holds(&mut others[2], 250));
    assert!(!holds(&mut others[1], 25));
    drop(again);
}

/// A connection that waits, and has been told so.
fn waits(endpoint: &Endpoint, hello: &Hello) -> (Client, ClientHandshake, u32) {
    let pipe = Pipe::connect(endpoint, PATIENCE).unwrap();
    let mut client = Client::new(pipe);
    let mut handshake = ClientHandshake::new(hello).unwrap();
    client.write(handshake.output());
    loop {
        let bytes = client.some();
        assert!(!bytes.is_empty(), "closed");
        assert_eq!(handshake.push(&bytes), Ok(None));
        if let Some(waiting) = handshake.take_waiting() {
            return (client, handshake, waiting.position);
        }
    }
}

pub fn who_waits_is_told_and_served_in_turn() {
    let daemon = daemon(&configuration("[admission]\nwait_seconds = 600"), 1);
    let endpoint = &daemon.listen[0];
    let mut held: Vec<Session> = (0..2).map(|_| begin(endpoint, &hello()).unwrap()).collect();
    let mut flood: Vec<_> = (1..=3)
        .map(|place| {
            let waiting = waits(endpoint, &hello());
            assert_eq!(waiting.2, place);
            waiting
        })
        .collect();
    // Behind one of the tenant's that has more waiting, and not behind all.
    let (told, positions) = channel();
    std::thread::scope(|scope| {
        let other = scope.spawn(|| {
            let (welcome, greeted) = {
                let waits = |waiting: rgpu_proto::handshake::Waiting| {
                    told.send(waiting.position).unwrap();
                };
                let greeted = greet_and_wait(endpoint, &others(), PATIENCE, waits).unwrap();
                let Answer::Welcome(welcome) = greeted.answer else {
                    panic!("no welcome")
                };
                (welcome, greeted.pipe)
            };
            let control = attach(endpoint, welcome.session, welcome.secret);
            (greeted, control.unwrap())
        });
        assert_eq!(positions.recv_timeout(PATIENCE), Ok(2));
        // The first of the queue gives up.
        drop(flood.remove(0));
        // Its tenant's next was before the other's.
        held.pop();
        assert_eq!(positions.recv_timeout(PATIENCE), Ok(1));
        held.pop();
        drop(other.join().unwrap());
    });
    let mut daemon = daemon;
    daemon.logs("a session has waited");
    assert!(daemon.stop().success());
}

pub fn a_short_wait_is_no_longer_than_it_is_said_to_be() {
    let daemon = daemon(&configuration("[admission]\nwait_seconds = 1"), 1);
    let endpoint = &daemon.listen[0];
    let held: Vec<Session> = (0..2).map(|_| begin(endpoint, &hello()).unwrap()).collect();
    let begun = Instant::now();
    let (code, message) = refused(endpoint, &hello());
    let took = begun.elapsed();
    assert_eq!(code, RefusalCode::NoCapacity);
    assert!(message.contains("it has waited 1 s"), "{message}");
    assert!(
        (Duration::from_secs(1)..Duration::from_secs(4)).contains(&took),
        "{took:?}"
    );
    drop(held);
}

pub fn waiting_is_bounded() {
    let bounds = "[admission]\nwait_seconds = 600\nqueue_per_tenant = 2\nqueue = 3";
    let daemon = daemon(&configuration(bounds), 1);
    let endpoint = &daemon.listen[0];
    let held: Vec<Session> = (0..2).map(|_| begin(endpoint, &hello()).unwrap()).collect();
    let flood = [(); 2].map(|()| waits(endpoint, &hello()));
    let (code, message) = refused(endpoint, &hello());
    assert_eq!(code, RefusalCode::NoCapacity);
    let says = "2 of the tenant's sessions wait already";
    assert!(message.contains(says), "{message}");
    // Another tenant's flood displaces nobody.
    let (client, mut handshake, position) = waits(endpoint, &others());
    assert_eq!(position, 2);
    let (_, message) = refused(endpoint, &others());
    assert!(message.contains("3 sessions wait already"), "{message}");
    // Who waits when the daemon stops is told that it does.
    let mut daemon = daemon;
    let mut client = client;
    daemon.signal(Signal::TERM);
    let answer = loop {
        let bytes = client.some();
        assert!(!bytes.is_empty(), "closed");
        if let Some((_, answer)) = handshake.push(&bytes).unwrap() {
            break answer;
        }
    };
    assert!(matches!(answer, Answer::Refused(it) if it.code == RefusalCode::Draining));
    assert!(daemon.stop().success());
    drop((held, flood));
}

pub fn ten_thousand_connections_of_one_tenant_keep_nobody_else_out() {
    let configuration =
        configuration("").replacen("name = \"tests\"", "name = \"tests\"\nsessions = 2", 1);
    let daemon = daemon(&configuration, 2);
    let endpoint = &daemon.listen[0];
    let mut neighbour = begin(endpoint, &others()).unwrap();
    let limit = getrlimit(Resource::Nofile);
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        },
    )
    .unwrap();
    let files = limit.maximum.map_or(usize::MAX, |files| files as usize);
    // Each with the right token, and none of them ever reads.
    let crowd: Vec<Client> = (0..10_000.min(files.saturating_sub(200)))
        .map(|_| {
            let client = Client::new(Pipe::connect(endpoint, PATIENCE).unwrap());
            client.write(ClientHandshake::new(&hello()).unwrap().output());
            client
        })
        .collect();
    println!("{} connections", crowd.len());
    neighbour.data.echoes();
    begin(endpoint, &others()).unwrap().data.echoes();
    let (_, message) = refused(endpoint, &hello());
    assert!(
        message.contains("64 of the tenant's sessions wait already"),
        "{message}"
    );
    // Those that are gone leave nothing behind.
    drop(crowd);
    begin(endpoint, &hello()).unwrap().data.echoes();
    neighbour.data.echoes();
}

pub fn a_reload_is_whole_or_none() {
    let wait = "[admission]\nwait_seconds = 600\n";
    let daemon = daemon(&configuration(wait), 1);
    let endpoint = &daemon.listen[0];
    let path = daemon.folder.path().join("rgpud.toml");
    let mut running = begin(endpoint, &others()).unwrap();
    let reload = |text: &str, says: &str| {
        std::fs::write(&path, text).unwrap();
        daemon.signal(Signal::HUP);
        daemon.logs(says)
    };
    // All but one line is fine: nothing of it holds.
    let broken = configuration("").replace("500", "400") + "revoked = [\"x\"]\n";
    let line = reload(&broken, "the configuration stays as it was");
    let place = format!(
        "rgpud.toml:{}:12: tenant others: a hash is",
        broken.lines().count()
    );
    assert!(line.contains(&place), "{line}");
    let large = configuration("").replace("500", "1025");
    let line = reload(&large, "the configuration stays as it was");
    assert!(
        line.contains("rgpud.toml:4:14: profile half: 1025 MiB are more"),
        "{line}"
    );
    let session = begin(endpoint, &hello()).unwrap();
    assert_eq!(session.welcome.limits.memory, Some(500 << 20));
    // Two that wait: of one, the tenant has another profile then; the other's tenant is gone.
    let (mut kept, mut of_kept, _) = waits(endpoint, &of(TOKEN, "later"));
    let (mut gone, mut of_gone, _) = waits(endpoint, &others());
    let changed = configuration(wait).replace("500", "400");
    let without = changed
        .split("[[tenant]]\nname = \"others\"")
        .next()
        .unwrap();
    let line = reload(without, "the configuration is reloaded");
    assert!(line.contains("removed: [\"others\"]"), "{line}");
    let answer = |client: &mut Client, handshake: &mut ClientHandshake| loop {
        let bytes = client.some();
        assert!(!bytes.is_empty(), "closed");
        if let Some((_, answer)) = handshake.push(&bytes).unwrap() {
            return answer;
        }
    };
    let refused_now = answer(&mut gone, &mut of_gone);
    let unknown = RefusalCode::Unauthenticated;
    assert!(matches!(refused_now, Answer::Refused(it) if it.code == unknown));
    // What was granted goes on.
    assert_eq!(refused(endpoint, &others()).0, unknown);
    running.data.echoes();
    drop(running);
    match answer(&mut kept, &mut of_kept) {
        Answer::Welcome(welcome) => assert_eq!(welcome.limits.memory, Some(400 << 20)),
        other => panic!("{other:?}"),
    }
}

pub fn tokens_expire_and_are_revoked() {
    let hash = |token: &str| blake3::hash(token.as_bytes());
    let text = format!(
        "[[tenant]]\nname = \"tests\"\ntokens = [\n\
         {{ token = \"{TOKEN}\", expires = 2999-01-01T00:00:00Z }},\n\
         {{ token_hash = \"{}\" }},\n\
         {{ token = \"expired-{TOKEN}\", expires = 2020-01-01T00:00:00Z }},\n\
         {{ token = \"revoked-{TOKEN}\" }}]\nrevoked = [\"{}\"]\n",
        hash(&format!("hashed-{TOKEN}")),
        hash(&format!("revoked-{TOKEN}")),
    );
    let daemon = daemon(&text, 1);
    daemon.logs("a token has expired");
    let endpoint = &daemon.listen[0];
    let with = |prefix: &str| of(&format!("{prefix}{TOKEN}"), "");
    begin(endpoint, &with("")).unwrap().data.echoes();
    begin(endpoint, &with("hashed-")).unwrap().data.echoes();
    for (token, says) in [
        ("expired-", "the token has expired"),
        ("revoked-", "the token has been revoked"),
        ("wrong-", "the token is not known here"),
    ] {
        let (code, message) = refused(endpoint, &with(token));
        assert_eq!(code, RefusalCode::Unauthenticated);
        assert!(message.starts_with(says), "{message}");
    }
    // A hash is no token.
    let stolen = hash(&format!("hashed-{TOKEN}")).to_hex().to_string();
    let (_, message) = refused(endpoint, &of(&stolen, ""));
    assert!(
        message.starts_with("the token is not known here"),
        "{message}"
    );
}

pub fn what_no_device_has_is_not_promised() {
    let folder = folder("");
    let path = folder.path().join("rgpud.toml");
    std::fs::write(&path, configuration("").replace("500", "2000")).unwrap();
    let mut command = command(folder.path(), "driver.so");
    command
        .args(["--listen", "tcp://127.0.0.1:0"])
        .arg("--config")
        .arg(path)
        .env("SOFTGPU_DEVICES", "2");
    let said = fails(&mut command);
    let says = "rgpud.toml:4:14: profile half: 2000 MiB are more than a device has";
    assert!(said.contains(says), "{said}");
}
