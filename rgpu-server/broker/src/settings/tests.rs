use std::path::Path;
use std::time::{Duration, SystemTime};

use clap::Parser;
use rgpu_content::store::Owner;
use rgpu_quota::{Policy, Priority};

use super::file::{File, Role, Source};
use super::tenancy::BadToken;
use super::*;

const SECRET: &str = "9223372036854775";

fn parse(text: &str) -> Result<(Source, File), String> {
    Source::parse(Path::new("rgpud.toml"), text.to_owned()).map_err(|error| error.to_string())
}

fn tenancy(text: &str) -> Result<Tenancy, String> {
    let (source, file) = parse(text)?;
    Tenancy::of(Some(&source), &file, None).map_err(|error| error.to_string())
}

/// Where it is wrong and why, without the file's name.
fn wrong(text: &str) -> String {
    let error = tenancy(text).unwrap_err();
    let place = error.strip_prefix("--config rgpud.toml:");
    place
        .unwrap_or_else(|| panic!("no place: {error}"))
        .to_owned()
}

fn now() -> SystemTime {
    SystemTime::now()
}

#[test]
fn tokens_map_to_tenants() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokens");
    std::fs::write(
        &path,
        "# comment\n0123456789abcdef alice\nfedcba9876543210\nfedcba9876543211\n0123456789abcdeg alice\n",
    )
    .unwrap();
    let of = |path: &Path| Tenancy::of(None, &File::default(), Some(path));
    let tenancy = of(&path).unwrap();
    let tenant = |token: &[u8]| tenancy.tenant(token, now()).map(|known| known.tenant);
    assert_eq!(tenant(b"0123456789abcdef").unwrap().name, "alice");
    assert_eq!(tenant(b"fedcba9876543210").unwrap().name, "default");
    assert_eq!(tenant(b""), Err(BadToken::Missing));
    assert_eq!(tenant(b"0123456789abcdee"), Err(BadToken::Unknown));
    let owner = |token: &[u8]| tenant(token).unwrap().owner("f");
    assert_eq!(owner(b"0123456789abcdef"), owner(b"0123456789abcdeg"));
    assert_ne!(owner(b"fedcba9876543210"), owner(b"fedcba9876543211"));
    assert_ne!(owner(b"fedcba9876543210"), Owner::new("default", "f"));
    assert_eq!(tenancy.keepers(), 3);
    std::fs::write(&path, "short\n").unwrap();
    assert!(of(&path).is_err());
}

#[test]
fn errors_say_where_and_do_not_show_a_token() {
    for (line, place) in [
        ("tokne = \"SECRET\"", "2:1: unknown field `tokne`"),
        ("token = \"SECRET", "2:"),
        ("token = 'SECRET", "2:"),
        ("token = \"\"\"SECRET", "3:1: "),
        ("token = SECRETSECRET", "2:9: wrong type, expected "),
        ("token = SECRET", "2:9: wrong type, expected a string"),
        ("token = SECRETx", "2:"),
        ("token = xSECRET", "2:"),
        ("token = \"SECRET\" \"", "2:"),
        ("token = \"SECRET\\q\"", "2:"),
        ("token \"SECRET\"", "2:"),
        (
            "token = \"SECRET\"\ntoken = \"SECRET\"",
            "3:1: duplicate key",
        ),
        ("sessions = true\ntoken = \"SECRET\"", "2:12: "),
    ] {
        let text = format!("[[tenant]]\n{}\n", line.replace("SECRET", SECRET));
        let error = wrong(&text);
        assert!(error.starts_with(place), "{line}: {error}");
        assert!(!error.contains(SECRET), "{line}: {error}");
    }
}

#[test]
fn contradictions_are_refused_where_they_stand() {
    const PROFILE: &str = "[[profile]]\nname = \"p\"\nmemory_mib = 64\n";
    const TENANT: &str = "[[tenant]]\nname = \"t\"\ntoken = \"9223372036854775\"\n";
    for (text, says) in [
        (
            "PROFILE weight = 0",
            "4:10: profile p: weight is 1 to 10000",
        ),
        ("PROFILE cap = 0", "4:7: profile p: cap is 1 to 100"),
        ("PROFILE cap = 101", "4:7: profile p: cap is 1 to 100"),
        (
            "PROFILE burst = 5",
            "4:9: profile p: burst is what a capped",
        ),
        (
            "PROFILE cap = 5\nburst = 0",
            "5:9: profile p: burst is 1 to",
        ),
        ("PROFILE sessions = 0", "4:12: profile p: sessions is 1 to"),
        (
            "PROFILE host_memory_mib = 0",
            "4:19: profile p: host_memory",
        ),
        (
            "PROFILE kernel_time_limit_ms = 0",
            "4:24: profile p: kernel_",
        ),
        ("PROFILE priority = \"high\"", "4:12: unknown variant"),
        ("PROFILE memory_mib = 1", "4:1: duplicate key"),
        ("[[profile]]\nname = \"p\"", "1:"),
        (
            "[[profile]]\nname = \"\"\nmemory_mib = 1",
            "2:8: a profile's",
        ),
        (
            "[[profile]]\nname = \"p\"\nmemory_mib = 0",
            "3:14: profile p: memory_mib 0 is no memory",
        ),
        (
            "[[profile]]\nname = \"p\"\nmemory_mib = 9223372036854775",
            "3:14: profile p: memory_mib is too large",
        ),
        (
            "PROFILE PROFILE",
            "5:8: two profiles are called p; the other is at --config rgpud.toml:2:8",
        ),
        (
            "TENANT profile = \"q\"",
            "4:11: tenant t: there is no profile q",
        ),
        (
            "PROFILE TENANT profile = \"p\"\nmemory_mib = 1",
            "8:14: tenant t: its profile says",
        ),
        (
            "PROFILE TENANT profile = \"p\"\nshare = 1",
            "8:9: tenant t: its",
        ),
        ("TENANT share = 0", "4:9: tenant t: share is 1 to 100"),
        ("TENANT vgpus = 0", "4:9: tenant t: vgpus is 1 to"),
        ("TENANT sessions = 0", "4:12: tenant t: sessions is 1 to"),
        ("TENANT revoked = [\"12\"]", "4:12: tenant t: a hash is 64"),
        (
            "TENANT token_hash = \"00\"",
            "2:8: tenant t: a token is one of",
        ),
        (
            "TENANT tokens = [{ token = \"short\" }]",
            "4:21: tenant t: a token has",
        ),
        (
            "TENANT tokens = [{ token = \"0123456789abcdef\", expires = 2030-01-01 }]",
            "4:51: tenant t: a moment is a date, a time and an offset",
        ),
        ("[[tenant]]\nname = \"t\"", "2:8: tenant t: one of token,"),
        (
            "TENANT [[tenant]]\nname = \"t\"\ntoken = \"0123456789abcdef\"",
            "5:8: two tenants are called t",
        ),
        (
            "[admission]\nwait_seconds = 100000",
            "2:16: [admission] wait_seconds is 0 to",
        ),
        (
            "[placement]\novercommit = 0.5",
            "2:14: [placement] overcommit is 1 to",
        ),
        (
            "[placement]\novercommit = nan",
            "2:14: [placement] overcommit is",
        ),
        ("[placement]\npolicy = \"best\"", "2:10: unknown variant"),
        (
            "[overcommit]\ndisk_mib = 5",
            "2:12: [overcommit] disk_mib is of a folder",
        ),
        (
            "[overcommit]\nfolder = \"here\"",
            "2:10: [overcommit] folder is no folder",
        ),
        (
            "[overcommit]\nfolder = \"/etc/passwd\"",
            "2:10: [overcommit] folder is no folder",
        ),
        (
            "PROFILE overcommit = true\n[overcommit]\nhost_mib = 0",
            "6:12: [overcommit] host_mib 0 without a folder",
        ),
        ("PROFILE overcommit = 1.5", "4:14: wrong type"),
    ] {
        let text = text.replace("PROFILE ", PROFILE);
        let text = text.replace("PROFILE", PROFILE).replace("TENANT ", TENANT);
        let error = wrong(&text);
        assert!(error.starts_with(says), "{text}\n{error}");
        let shown = error.contains(SECRET) && text.contains("token");
        assert!(!shown, "{error}");
    }
    let twice = "[[tenant]]\nname = \"a\"\ntokens = [{ token = \"0123456789abcdef\" }, { token = \"0123456789abcdef\" }]";
    assert_eq!(
        wrong(twice),
        "3:53: tenant a has the same token twice; the other is at --config rgpud.toml:3:21"
    );
    let two = "[[tenant]]\nname = \"a\"\ntoken = \"0123456789abcdef\"\n[[tenant]]\nname = \"b\"\ntoken = \"0123456789abcdef\"";
    let says = "6:9: tenants a and b have the same token; the other is at --config rgpud.toml:3:9";
    assert!(wrong(two).starts_with(says), "{}", wrong(two));
}

#[test]
fn a_whole_configuration() {
    let hash = blake3::hash(b"the token of carol's");
    let text = format!(
        r#"
        [admission]
        queue = 5
        queue_per_tenant = 2
        [placement]
        policy = "spread"
        overcommit = 1.5
        [[profile]]
        name = "small"
        memory_mib = 512
        weight = 300
        cap = 30
        burst = 20
        sessions = 4
        host_memory_mib = 1024
        cache_mib = 16
        kernel_time_limit_ms = 2000
        priority = "latency"
        overcommit = true
        [[tenant]]
        name = "carol"
        token = "0123456789abcdef"
        tokens = [
            {{ token_hash = "{hash}", expires = 2020-01-01T00:00:00Z }},
            {{ token = "fedcba9876543210", expires = 2999-01-01T00:00:00+02:00 }},
        ]
        profile = "small"
        vgpus = 2
        role = "admin"
        [[tenant]]
        name = "dave"
        token = "dave-dave-dave-dave"
        memory_mib = 256
        share = 25
        revoked = ["{}"]
        "#,
        blake3::hash(b"0123456789abcdef")
    );
    let tenancy = tenancy(&text).unwrap();
    assert_eq!((tenancy.queue.all, tenancy.queue.of_tenant), (5, 2));
    assert_eq!(tenancy.wait, Duration::from_secs(30));
    assert_eq!(
        (tenancy.policy, tenancy.overcommit_percent),
        (Policy::Spread, 150)
    );
    let who = |token: &[u8]| tenancy.tenant(token, now()).map(|known| known.tenant);
    assert_eq!(who(b"0123456789abcdef"), Err(BadToken::Revoked));
    assert_eq!(who(b"the token of carol's"), Err(BadToken::Expired));
    let carol = who(b"fedcba9876543210").unwrap();
    assert_eq!(
        (carol.role, carol.entitlement.vgpus),
        (Role::Admin, Some(2))
    );
    let small = &carol.entitlement.profile;
    assert_eq!((small.memory, small.weight), (Some(512 << 20), 300));
    assert_eq!((small.cap_percent, small.burst_ms), (Some(30), 20));
    assert_eq!(
        (small.sessions, small.host_memory),
        (Some(4), Some(1 << 30))
    );
    assert_eq!(
        (small.cache, small.kernel_time_limit_ms),
        (Some(16 << 20), Some(2000))
    );
    assert_eq!(small.priority, Priority::Latency);
    assert!(small.overcommit && small.placed);
    let dave = who(b"dave-dave-dave-dave").unwrap();
    let own = &dave.entitlement.profile;
    assert_eq!((own.memory, own.cap_percent), (Some(256 << 20), Some(25)));
    assert!(!own.placed && dave.role == Role::Tenant);

    let device = |mib: u64| rgpu_proto::control::HostDevice {
        memory: mib << 20,
        ..Default::default()
    };
    assert!(tenancy.check_devices(&[device(100), device(512)]).is_ok());
    let small = tenancy
        .check_devices(&[device(511)])
        .unwrap_err()
        .to_string();
    let says = "--config rgpud.toml:10:22: profile small: 512 MiB are more than";
    assert!(small.starts_with(says), "{small}");
}

#[test]
fn what_needs_turns_is_refused_without_them() {
    const PROFILE: &str = "[[profile]]\nname = \"p\"\nmemory_mib = 64\n";
    for (more, says) in [
        ("cap = 5", "4:7: profile p: cap needs time_sharing"),
        ("weight = 100", "4:10: profile p: weight needs time_sharing"),
        ("burst = 5\ncap = 5", "5:7: profile p: cap needs"),
    ] {
        let tenancy = tenancy(&format!("{PROFILE}{more}\n")).unwrap();
        assert!(tenancy.check_time_sharing(true).is_ok());
        let off = tenancy.check_time_sharing(false).unwrap_err().to_string();
        let says = format!("--config rgpud.toml:{says}");
        assert!(off.starts_with(&says), "{off}");
    }
    let share = "[[tenant]]\nname = \"t\"\ntoken = \"0123456789abcdef\"\nshare = 50\n";
    let off = tenancy(share).unwrap().check_time_sharing(false);
    let off = off.unwrap_err().to_string();
    let says = "--config rgpud.toml:4:9: tenant t: share needs time_sharing";
    assert!(off.starts_with(says), "{off}");
    // Nobody has written these; and the queue goes by the priority.
    for more in ["", "priority = \"batch\"\n", "overcommit = false\n"] {
        let tenancy = tenancy(&format!("{PROFILE}{more}")).unwrap();
        assert!(tenancy.check_time_sharing(false).is_ok(), "{more}");
    }
}

#[test]
fn accounts_are_refused_where_they_stand() {
    for (text, says) in [
        (
            "[[price]]\ngpu_second = 1\n[[price]]\ndevice = \"x\"\ngpu_second = -1",
            "5:14: [[price]] 2: gpu_second = -1",
        ),
        ("[[price]]\ngib_sent = nan", "2:12: [[price]] 1: gib_sent"),
        (
            "[[price]]\nfrom = \"soon\"",
            "2:8: [[price]] 1: from: \"soon\"",
        ),
        ("[[price]]\n[[price]]", "2:"),
        (
            "[accounts]\nwebhook = \"ftp://s3cret\"",
            "2:11: accounts.webhook: write https://",
        ),
        (
            "[accounts]\nkeep_days = 0",
            "2:13: accounts.keep_days = 0: 1 to",
        ),
        ("[accounts]\n[[accounts.excess]]\ntenant = \"x\"", "2:"),
        (
            "[[accounts.excess]]\ncost_per_day = -1",
            "2:16: [[accounts.excess]] 1: cost_per_day = -1",
        ),
    ] {
        let (source, file) = parse(text).unwrap();
        let error = accounts_in(Some(&source), &file).unwrap_err().to_string();
        let says = format!("--config rgpud.toml:{says}");
        assert!(error.starts_with(&says), "{text}\n{error}");
        assert!(!error.contains("s3cret"), "{error}");
    }
}

#[test]
fn what_is_promised_beyond_a_device_must_have_room_elsewhere() {
    let text = |host: u64, movable: bool| {
        format!(
            "[placement]\novercommit = 4.0\n[overcommit]\nhost_mib = {host}\n\
             [[profile]]\nname = \"p\"\nmemory_mib = 400\novercommit = {movable}\n"
        )
    };
    let device = rgpu_proto::control::HostDevice {
        memory: 512 << 20,
        ..Default::default()
    };
    let lacks = |host, movable| {
        let devices = std::slice::from_ref(&device);
        tenancy(&text(host, movable)).unwrap().lacks_stores(devices)
    };
    assert_eq!(lacks(350, true), Some((1936 << 20, 350 << 20)));
    assert_eq!(lacks(1935, true), Some((1936 << 20, 1935 << 20)));
    assert_eq!(lacks(1936, true), None);
    assert_eq!(lacks(350, false), None);
}

#[test]
fn memory_that_moves_needs_turns_and_a_place_to_go() {
    let text = |more: &str| {
        format!("[[profile]]\nname = \"p\"\nmemory_mib = 64\novercommit = true\n{more}")
    };
    let usual = tenancy(&text("")).unwrap();
    assert!(usual.check_time_sharing(true).is_ok());
    let off = usual.check_time_sharing(false).unwrap_err().to_string();
    let says = "--config rgpud.toml:4:14: profile p: overcommit needs time_sharing";
    assert!(off.starts_with(says), "{off}");
    assert_eq!(usual.away.memory, None);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().display();
    let both = text(&format!(
        "[overcommit]\nhost_mib = 0\nfolder = \"{path}\"\ndisk_mib = 3\n"
    ));
    let away = tenancy(&both).unwrap().away;
    assert_eq!((away.memory, away.disk), (Some(0), 3 << 20));
    assert_eq!(away.folder.as_deref(), Some(folder.path()));
    let stays = text("").replace("true", "false");
    assert!(tenancy(&stays).unwrap().check_time_sharing(false).is_ok());
}

#[test]
fn a_line_of_a_token_file_may_be_another_token_of_a_tenant() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokens");
    std::fs::write(&path, "fedcba9876543210 alice\n").unwrap();
    let text = "[[tenant]]\nname = \"alice\"\ntoken = \"0123456789abcdef\"\nsessions = 3";
    let (source, file) = parse(text).unwrap();
    let tenancy = Tenancy::of(Some(&source), &file, Some(&path)).unwrap();
    let tenant = tenancy.tenant(b"fedcba9876543210", now()).unwrap().tenant;
    assert_eq!(tenant.entitlement.sessions, Some(3));
    assert_eq!(tenancy.keepers(), 1);
}

#[test]
fn a_reload_says_what_has_changed() {
    const BEFORE: &str = r#"
        profile = [{ name = "p", memory_mib = 1 }, { name = "q", memory_mib = 1 }]
        tenant = [
            { name = "a", token = "aaaaaaaaaaaaaaaa", profile = "p" },
            { name = "b", token = "bbbbbbbbbbbbbbbb" },
            { name = "c", token = "cccccccccccccccc" },
        ]"#;
    const AFTER: &str = r#"
        admission = { wait_seconds = 1 }
        profile = [{ name = "p", memory_mib = 2 }, { name = "r", memory_mib = 1 }]
        tenant = [
            { name = "a", token = "aaaaaaaaaaaaaaab", profile = "p" },
            { name = "b", token = "bbbbbbbbbbbbbbbb" },
            { name = "d", token = "dddddddddddddddd" },
        ]"#;
    let (before, after) = (tenancy(BEFORE).unwrap(), tenancy(AFTER).unwrap());
    let changes = Changes::between(&before, &after);
    let name = |name: &str| vec![name.to_owned()];
    assert_eq!(changes.profiles.added, name("r"));
    assert_eq!(changes.profiles.removed, name("q"));
    assert_eq!(changes.profiles.changed, name("p"));
    assert_eq!(changes.tenants.added, name("d"));
    assert_eq!(changes.tenants.removed, name("c"));
    assert_eq!(changes.tenants.changed, name("a"));
    assert_eq!((changes.tokens_gone, changes.tokens_added), (2, 2));
    assert!(changes.admission);
    let lines = changes.lines();
    assert!(lines.contains(&"2 tokens are new".to_owned()), "{lines:?}");
    let one = Changes {
        tokens_gone: 1,
        tokens_added: 1,
        ..Changes::default()
    };
    assert_eq!(
        one.lines(),
        ["1 token lets nobody in any more", "1 token is new"]
    );
    assert_eq!(Changes::between(&after, &after), Changes::default());
}

#[test]
fn unknown_keys_are_refused() {
    assert!(parse("driver = \"x\"\nlisten_on = []").is_err());
    assert!(parse("[[profile]]\nname = \"a\"\nmemory_mib = 1\nmemory = 2").is_err());
}

#[test]
fn what_belongs_to_quic_is_checked() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let (driver, token) = (file("driver.so", ""), file("token", "0123456789abcdef"));
    let resolve = |more: &[&str]| {
        let given = ["rgpud", "--driver", &driver, "--token-file", &token];
        Settings::resolve(Cli::parse_from([&given, more].concat()))
    };
    let pinned = format!("quic://127.0.0.1:0?pin=sha256:{}", "0".repeat(64));
    let listen = ["--listen", "quic://127.0.0.1:0"];
    for (more, says) in [
        (&["--listen", &pinned][..], "the pin is for clients"),
        (
            &[listen[0], listen[1], "--tls-cert", "x"],
            "belong together",
        ),
        (&[listen[0], listen[1], "--tls-key", "x"], "belong together"),
    ] {
        let error = resolve(more).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
    assert_eq!(resolve(&listen).unwrap().tls, TlsFiles::None);
    let files = ["--tls-cert", "c", "--tls-key", "k"];
    let settings = resolve(&[listen, [files[0], files[1]], [files[2], files[3]]].concat());
    let (certificate, key) = ("c".into(), "k".into());
    assert_eq!(settings.unwrap().tls, TlsFiles::Both { certificate, key });
}

/// What serde says of an unknown key: all that there are.
fn keys(section: &str) -> Vec<String> {
    let error = parse(&format!("{section}\nno_such_key = 1")).err().unwrap();
    let (_, known) = error.split_once(", expected ").unwrap();
    let words = known.split('`').skip(1).step_by(2);
    words.map(str::to_owned).collect()
}

#[test]
fn the_packaged_file_explains_every_key() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../packaging/rgpud.toml");
    let text = std::fs::read_to_string(path).unwrap();
    assert!(parse(&text).is_ok());
    // Lines that are values, or would be without their mark.
    let lines = text
        .lines()
        .map(|line| line.strip_prefix('#').unwrap_or(line));
    let values: Vec<&str> = lines
        .filter(|line| !line.starts_with(' ') && !line.is_empty())
        .collect();
    let (_, whole) = parse(&values.join("\n")).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((whole.tenant.len(), whole.profile.len()), (1, 1));
    assert!(whole.accounts.resolve(&whole.price).is_ok());
    let mut section = String::new();
    let mut explained = std::collections::HashSet::new();
    for line in values {
        if line.starts_with('[') {
            let name = line.trim_matches(['[', ']']);
            let (parent, key) = name.rsplit_once('.').unwrap_or(("", name));
            explained.insert((parent.to_owned(), key.to_owned()));
            section = name.to_owned();
        } else if let Some((key, _)) = line.split_once(" = ") {
            explained.insert((section.clone(), key.to_owned()));
        }
    }
    for header in [
        "",
        "[accounts]",
        "[[accounts.excess]]",
        "[[price]]",
        "[admission]",
        "[placement]",
        "[overcommit]",
        "[[profile]]",
        "[[tenant]]",
    ] {
        let section = header.trim_matches(['[', ']']);
        for key in keys(header) {
            assert!(
                explained.contains(&(section.to_owned(), key.clone())),
                "{header} {key} is not explained in packaging/rgpud.toml"
            );
        }
    }
}

#[test]
fn a_folder_for_the_state_is_found_again() {
    let endpoints = |all: &[&str]| -> Vec<Endpoint> {
        all.iter().map(|it| Endpoint::parse(it).unwrap()).collect()
    };
    let fixed = endpoints(&["tcp://127.0.0.1:7070", "quic://127.0.0.1:0"]);
    let asked = Afterlife::resolve(Some("x".into()), 5, &endpoints(&["tcp://127.0.0.1:0"]));
    assert!(asked.is_asked_for && asked.folder == Some("x".into()));
    assert_eq!(Afterlife::resolve(Some("x".into()), 0, &fixed).folder, None);
    let chosen = endpoints(&["tcp://127.0.0.1:0", "quic://127.0.0.1:0"]);
    assert_eq!(Afterlife::resolve(None, 5, &chosen).folder, None);
    let own = Afterlife::resolve(None, 5, &fixed);
    assert_eq!(own, Afterlife::resolve(None, 5, &fixed));
    assert!(!own.is_asked_for);
}
