//! What the administration asks, answered from what the daemon knows.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use rgpu_admin::data::{
    AccountsFacts, Check, Device, Ended, Facts, Profile, Queue, Readings, Reloaded, Session,
    SessionState, Tenant, TenantFacts, Waiting,
};
use rgpu_admin::{Admin, Failure, Identity, Mount, Options, Question, Questions};
use rgpu_proto::monitor::{self, DeviceSample};
use tokio::task::spawn_local;
use tokio::time::Instant;

use crate::relay;
use crate::server::{self, End, Server};
use crate::settings::Settings;
use crate::tally::Used;

/// Descriptors that it may take.
pub const DESCRIPTORS: u64 = 80;
/// How long sessions get to tell what they use, and how old what they have told may be.
const ANSWER: Duration = Duration::from_millis(200);
const FRESH: Duration = Duration::from_millis(500);

/// Serves the administration, if it is wanted. Other parts of the daemon bring what else it shows.
pub fn start(settings: &Settings, mounts: Vec<Mount>) -> Result<Option<(Admin, Questions)>> {
    if settings.admin.is_empty() {
        return Ok(None);
    }
    let (asker, questions) = rgpu_admin::channel();
    let options = Options {
        listen: settings.admin.clone(),
        asker,
        mounts,
    };
    let admin = Admin::start(options).context("--admin")?;
    Ok(Some((admin, questions)))
}

/// Answers until nobody can ask any more.
pub async fn answer(server: Rc<Server>, mut questions: Questions) {
    while let Some(question) = questions.recv().await {
        spawn_local(one(server.clone(), question));
    }
}

/// Who has asked may have given up: nobody hears the answer then.
async fn one(server: Rc<Server>, question: Question) {
    match question {
        Question::Who { token, answer } => {
            let _ = answer.send(who(&server, &token));
        }
        Question::Ready(answer) => {
            let _ = answer.send(ready(&server));
        }
        Question::Facts(answer) => {
            let _ = answer.send(facts(&server).await);
        }
        Question::Sessions { of, answer } => {
            refresh(&server, of.as_deref()).await;
            let _ = answer.send(sessions(&server, of.as_deref()));
        }
        Question::EndSession {
            session,
            of,
            reason,
            answer,
        } => {
            let _ = answer.send(end_session(&server, session, of.as_deref(), reason));
        }
        Question::Tenants { of, answer } => {
            refresh(&server, of.as_deref()).await;
            let _ = answer.send(tenants(&server, of.as_deref()));
        }
        Question::Devices(answer) => {
            refresh(&server, None).await;
            let _ = answer.send(devices(&server).await);
        }
        Question::Queue { of, answer } => {
            let _ = answer.send(queue(&server, of.as_deref()));
        }
        Question::Profiles { of, answer } => {
            let _ = answer.send(profiles(&server, of.as_deref()));
        }
        Question::Reload(answer) => {
            let _ = answer.send(reload(&server).await);
        }
        Question::Leases { of, holder, answer } => {
            let _ = answer.send(server.leases_of(of.as_deref(), holder.as_deref()));
        }
        Question::GrantLease { by, wish, answer } => {
            let granted = server.grant_lease(&by, wish).await;
            if let Err(Ok(granted)) = answer.send(granted) {
                // Nobody knows of it.
                let _ = server.end_lease(&granted.id, None);
            }
        }
        Question::RenewLease {
            lease,
            of,
            ttl_seconds,
            answer,
        } => {
            let _ = answer.send(server.renew_lease(&lease, of.as_deref(), ttl_seconds));
        }
        Question::EndLease { lease, of, answer } => {
            let _ = answer.send(server.end_lease(&lease, of.as_deref()));
        }
    }
}

/// Who may not ask is told why, as clients are.
fn who(server: &Server, token: &str) -> Result<Identity, Failure> {
    let known = server
        .tenancy()
        .tenant(token.as_bytes(), SystemTime::now())
        .map_err(|why| {
            Failure::Unauthenticated(format!("{why}; use one of the server's tokens"))
        })?;
    Ok(Identity {
        tenant: known.tenant.name.clone(),
        role: known.tenant.role,
    })
}

async fn reload(server: &Rc<Server>) -> Result<Reloaded, Failure> {
    let changes = server.reload().await.map_err(Failure::Invalid)?;
    Ok(Reloaded {
        changed: changes.lines(),
        ..Reloaded::default()
    })
}

/// Nothing, where there is no name.
fn named(name: &str) -> Option<String> {
    (!name.is_empty()).then(|| name.to_owned())
}

/// Device time, where it is measured.
fn gpu_seconds(server: &Server, micros: u64) -> Option<f64> {
    let measured = server.settings.time_sharing;
    measured.then(|| Duration::from_micros(micros).as_secs_f64())
}

fn ready(server: &Server) -> Vec<Check> {
    let check = |name: &str, failure: Option<String>| Check {
        name: name.into(),
        ok: failure.is_none(),
        detail: failure.unwrap_or_default(),
    };
    let stopping = server.stopping().then(|| "the daemon is stopping".into());
    let held = server.admission.borrow().sessions();
    let limit = server.settings.max_sessions;
    let full = (held >= limit).then(|| format!("all {limit} sessions are taken"));
    let driver = server.tally.borrow().driver_failure.clone();
    vec![
        check("serving", stopping),
        check("driver", driver),
        check("room", full),
        Check {
            name: "isolation".into(),
            ok: true,
            detail: server.isolation.to_string(),
        },
    ]
}

/// Has sessions tell what they use; one that does not answer soon is shown as it told last.
async fn refresh(server: &Server, of: Option<&str>) {
    // Who asks for all keeps others from asking all again at once.
    if of.is_none() {
        let now = Instant::now();
        if server.refreshed.get().is_some_and(|at| now - at < FRESH) {
            return;
        }
        server.refreshed.set(Some(now));
    }
    let mut asked: Vec<_> = {
        let sessions = server.sessions.borrow();
        let chosen = sessions
            .values()
            .filter(|it| of.is_none_or(|of| it.tenant == of));
        chosen.map(server::Session::ask_usage).collect()
    };
    let answers = async {
        for usage in &mut asked {
            // An error means that the session has ended.
            let _ = usage.changed().await;
        }
    };
    let _ = tokio::time::timeout(ANSWER, answers).await;
}

fn sessions(server: &Server, of: Option<&str>) -> Vec<Session> {
    let sessions = server.sessions.borrow();
    let chosen = sessions
        .iter()
        .filter(|(_, it)| of.is_none_or(|of| it.tenant == of));
    let mut told: Vec<Session> = chosen
        .map(|(number, it)| session(server, *number, it))
        .collect();
    told.sort_by_key(|it| it.session);
    told
}

fn session(server: &Server, number: u64, it: &server::Session) -> Session {
    let usage = it.usage.borrow();
    let held = it.held(&usage);
    let holds = (0..).zip(&held).filter(|(_, bytes)| **bytes > 0);
    Session {
        session: number,
        tenant: it.tenant.clone(),
        profile: named(&it.about.profile),
        function: named(&it.about.function),
        lease: server.kept.of_vgpu(it.vgpu),
        program: it.client.program.clone(),
        host: it.client.host.clone(),
        pid: it.client.pid,
        peer: it.about.peer.clone(),
        state: match it.ending {
            true => SessionState::Ending,
            false => SessionState::Running,
        },
        age_seconds: it.about.began.elapsed().as_secs_f64(),
        devices: match it.devices.is_empty() {
            true => holds.map(|(ordinal, _)| ordinal).collect(),
            false => it.devices.clone(),
        },
        memory_bytes: usage.allocated(),
        memory_unused_bytes: usage.unused.iter().sum(),
        memory_peak_bytes: usage.memory_peak,
        memory_limit_bytes: it.memory_limit,
        share_percent: it.about.share_percent,
        gpu_seconds: gpu_seconds(server, usage.gpu_us),
        calls: usage.calls,
        waits: usage.waits,
        launches: usage.launches,
        bytes_in: usage.bytes_in,
        bytes_out: usage.bytes_out,
    }
}

fn end_session(
    server: &Server,
    number: u64,
    of: Option<&str>,
    reason: String,
) -> Result<Ended, Failure> {
    let tenant = {
        let sessions = server.sessions.borrow();
        let session = sessions.get(&number);
        let session = session.filter(|it| of.is_none_or(|of| it.tenant == of));
        session.map(|it| it.tenant.clone())
    };
    let tenant =
        tenant.ok_or_else(|| Failure::NotFound(format!("there is no session {number}")))?;
    tracing::info!(session = number, tenant, reason, "a session is to end");
    server.stop_session(
        number,
        End {
            result: 46,
            reason: reason.clone(),
        },
    );
    Ok(Ended {
        session: number,
        tenant,
        reason,
    })
}

/// Several tokens may have one name: they are one tenant.
fn tenants(server: &Server, of: Option<&str>) -> Vec<Tenant> {
    let tenancy = server.tenancy();
    let tally = server.tally.borrow();
    let mut by_name = BTreeMap::<&str, (Tenant, u64)>::new();
    let configured = tenancy.tenants().into_iter();
    for tenant in configured.filter(|it| of.is_none_or(|of| it.name == of)) {
        let profile = &tenant.entitlement.profile;
        let told = Tenant {
            tenant: tenant.name.clone(),
            role: tenant.role,
            profile: named(&profile.name),
            sessions_limit: tenant.entitlement.sessions,
            memory_limit_bytes: profile.memory,
            share_percent: profile.cap_percent,
            weight: Some(profile.weight),
            ..Tenant::default()
        };
        let over = tally.over.get(&tenant.name).map_or(0, |used| used.gpu_us);
        by_name.insert(&tenant.name, (told, over));
    }
    for session in server.sessions.borrow().values() {
        if let Some((told, micros)) = by_name.get_mut(session.tenant.as_str()) {
            let usage = session.usage.borrow();
            told.sessions += 1;
            told.memory_bytes += usage.allocated();
            *micros += usage.gpu_us;
        }
    }
    for waiting in server.desk.waiting() {
        if let Some((told, _)) = by_name.get_mut(waiting.tenant.as_str()) {
            told.waiting += 1;
        }
    }
    let leases = server.kept.by_tenant();
    let told = by_name.into_values().map(|(told, micros)| Tenant {
        leases: leases.get(&told.tenant).copied().unwrap_or(0),
        gpu_seconds: gpu_seconds(server, micros),
        ..told
    });
    told.collect()
}

fn queue(server: &Server, of: Option<&str>) -> Queue {
    let waiting = server.desk.waiting();
    let length = waiting.len() as u32;
    let seen = waiting
        .into_iter()
        .filter(|it| of.is_none_or(|of| it.tenant == of));
    Queue {
        length,
        waiting: seen
            .map(|it| Waiting {
                position: it.position as u32,
                profile: named(&it.profile),
                tenant: it.tenant,
                // The clock may have been set.
                waited_seconds: it.since.elapsed().unwrap_or_default().as_secs_f64(),
                waits_for: named(&it.lacks),
            })
            .collect(),
    }
}

/// The profiles of the configuration; and of each tenant that has none its own, of the tenant's name.
fn profiles(server: &Server, of: Option<&str>) -> Vec<Profile> {
    let tenancy = server.tenancy();
    let mut tenants = tenancy.tenants();
    tenants.retain(|it| of.is_none_or(|of| it.name == of));
    let admission = server.admission.borrow();
    let vgpus = admission.vgpus();
    // How many more the caller may have.
    let allowed = |name: &str| {
        let own = tenants.iter().find(|_| of.is_some())?;
        let held = vgpus.iter().filter(|it| it.tenant == own.name).count() as u32;
        let limit = own.entitlement.vgpus?;
        (own.entitlement.profile.name == name).then(|| limit.saturating_sub(held))
    };
    let mut told = Vec::new();
    for profile in tenancy.profiles.iter().map(|it| &it.profile) {
        let have = tenants
            .iter()
            .filter(|it| it.entitlement.profile.name == profile.name);
        let names: Vec<String> = have.map(|it| it.name.clone()).collect();
        if of.is_some() && names.is_empty() {
            continue;
        }
        let bytes = profile.memory.unwrap_or(0);
        let room = |empty| {
            let placement = &admission.placement;
            placement.room_for(bytes, profile.overcommit, empty)
        };
        let available = room(false);
        let available = available.map(|it| allowed(&profile.name).map_or(it, |most| it.min(most)));
        told.push(Profile {
            profile: profile.name.clone(),
            memory_bytes: profile.memory,
            weight: Some(profile.weight),
            cap_percent: profile.cap_percent,
            sessions: profile.sessions,
            tenants: names,
            available,
            capacity: room(true),
        });
    }
    let without = tenants
        .iter()
        .filter(|it| it.entitlement.profile.name.is_empty());
    told.extend(without.map(|tenant| Profile {
        profile: tenant.name.clone(),
        memory_bytes: tenant.entitlement.profile.memory,
        cap_percent: tenant.entitlement.profile.cap_percent,
        sessions: tenant.entitlement.sessions,
        tenants: vec![tenant.name.clone()],
        ..Profile::default()
    }));
    told
}

async fn devices(server: &Server) -> Vec<Device> {
    let known = server.gauges.look().await;
    let sessions = server.sessions.borrow();
    let held: Vec<(Vec<u64>, &[u32])> = sessions
        .values()
        .map(|it| (it.held(&it.usage.borrow()), it.devices.as_slice()))
        .collect();
    let bytes = |ordinal: usize| -> u64 {
        let here = held.iter().filter_map(|(held, _)| held.get(ordinal));
        here.sum()
    };
    let is_there = |ordinal: usize, held: &[u64], placed: &[u32]| {
        held.get(ordinal).is_some_and(|bytes| *bytes > 0) || placed.contains(&(ordinal as u32))
    };
    let count = |ordinal: usize| {
        let there = held.iter();
        let there = there.filter(|(held, placed)| is_there(ordinal, held, placed));
        there.count() as u32
    };
    if known.devices.is_empty() {
        // No worker watches yet, but one that serves sessions may have told.
        let told = server.known_devices().unwrap_or_default();
        let all = told.iter().enumerate();
        return all
            .map(|(ordinal, device)| Device {
                ordinal: ordinal as u32,
                name: device.name.clone(),
                uuid: device.uuid_text(),
                memory_total_bytes: device.memory,
                memory_held_bytes: bytes(ordinal),
                sessions: count(ordinal),
                ..Device::default()
            })
            .collect();
    }
    let none = DeviceSample::default();
    let all = known.devices.iter().enumerate();
    all.map(|(ordinal, device)| {
        let sample = known.sample.devices.get(ordinal).unwrap_or(&none);
        let read = sample.readings.as_ref();
        let utilization = read.and_then(|it| it.utilization);
        Device {
            ordinal: ordinal as u32,
            name: device.name.clone(),
            uuid: device.uuid_text(),
            pci_bus_id: device.pci_bus_id.clone(),
            memory_total_bytes: device.total_memory,
            memory_free_bytes: sample.free,
            memory_held_bytes: bytes(ordinal),
            sessions: count(ordinal),
            utilization_percent: utilization.map(|(gpu, _)| f64::from(gpu)),
            readings: read.map(readings),
        }
    })
    .collect()
}

fn readings(read: &monitor::Readings) -> Readings {
    Readings {
        memory_utilization_percent: read.utilization.map(|(_, memory)| memory),
        encoder_percent: read.codecs.0,
        decoder_percent: read.codecs.1,
        temperature_celsius: read.temperature,
        power_watts: read.power.map(|milliwatts| f64::from(milliwatts) / 1e3),
        energy_millijoules: read.energy,
        sm_clock_mhz: read.clocks[1],
        memory_clock_mhz: read.clocks[2],
        fan_percent: read.fan,
    }
}

async fn facts(server: &Server) -> Facts {
    // Both at once: neither is to keep a scrape for long.
    let (devices, ()) = tokio::join!(devices(server), refresh(server, None));
    let tally = server.tally.borrow();
    let (relays, relays_lost_total) = relay::counts();
    Facts {
        hostname: rustix::system::uname()
            .nodename()
            .to_string_lossy()
            .into_owned(),
        host_driver: server.gauges.host_driver(),
        uptime_seconds: server.started.elapsed().as_secs_f64(),
        tenants: tenant_facts(server),
        refused_total: tally.refused.clone(),
        ended_total: tally.ended.clone(),
        admission: tally.waits.clone(),
        queue: server.desk.count() as u32,
        sessions_limit: server.settings.max_sessions,
        greeting: server.greeting_count() as u32,
        monitors: server.monitors.borrow().sessions(),
        workers_ready: server.pool.len() as u32,
        workers_started_total: tally.workers_started,
        workers_lost_total: tally.workers_lost,
        relays,
        relays_lost_total,
        lease_switches_total: server
            .settings
            .time_sharing
            .then(|| server.leases.switches()),
        leases: server.kept.by_tenant(),
        devices,
        device_errors_total: server.gauges.errors.get(),
        accounts: server.accounts.health().map(|health| AccountsFacts {
            failing: health.failing.is_some(),
            waiting: health.waiting as u64,
            lost_total: health.lost,
            alerts: health.alerts.into_iter().collect(),
        }),
    }
}

fn tenant_facts(server: &Server) -> Vec<TenantFacts> {
    let tenancy = server.tenancy();
    let tally = server.tally.borrow();
    let mut by_name = BTreeMap::<&str, (TenantFacts, Used)>::new();
    for tenant in tenancy.tenants() {
        let facts = TenantFacts {
            profile: tenant.entitlement.profile.name.clone(),
            ..TenantFacts::default()
        };
        let over = tally.over.get(&tenant.name).cloned();
        by_name.insert(&tenant.name, (facts, over.unwrap_or_default()));
    }
    let sessions = server.sessions.borrow();
    for session in sessions.values() {
        let Some((facts, used)) = by_name.get_mut(session.tenant.as_str()) else {
            continue;
        };
        let usage = session.usage.borrow();
        facts.sessions += 1;
        facts.memory_bytes += usage.allocated();
        // One without a bound makes the sum meaningless.
        facts.memory_limit_bytes = match (facts.sessions, session.memory_limit) {
            (1, limit) => limit,
            (_, limit) => facts
                .memory_limit_bytes
                .zip(limit)
                .map(|(all, one)| all.saturating_add(one)),
        };
        used.add(&usage, session.about.began.elapsed().as_secs_f64());
    }
    let told = by_name
        .into_iter()
        .map(|(name, (facts, used))| TenantFacts {
            tenant: name.to_owned(),
            admitted_total: used.admitted,
            gpu_seconds_total: gpu_seconds(server, used.gpu_us),
            session_seconds_total: used.seconds,
            calls_total: used.calls,
            launches_total: used.launches,
            bytes_in_total: used.bytes_in,
            bytes_out_total: used.bytes_out,
            ..facts
        });
    told.collect()
}
