//! The daemon's own metrics.

use std::fmt::Error;

use prometheus_client::registry::Unit;

use crate::data::{AccountsFacts, Device, Facts, TenantFacts};

use super::{Labels, Sheet, alone};

pub(super) fn write(sheet: &mut Sheet<'_>, facts: &Facts) -> Result<(), Error> {
    daemon(sheet, facts)?;
    admission(sheet, facts)?;
    tenants(sheet, facts)?;
    if let Some(facts) = &facts.accounts {
        accounts(sheet, facts)?;
    }
    devices(sheet, facts)
}

fn accounts(sheet: &mut Sheet<'_>, facts: &AccountsFacts) -> Result<(), Error> {
    sheet.gauges(
        "rgpu_accounts_failing",
        None,
        "1 while accounts cannot be written",
        alone(u32::from(facts.failing)),
    )?;
    sheet.gauges(
        "rgpu_accounts_waiting",
        None,
        "Sessions that have ended and wait to be written",
        alone(facts.waiting),
    )?;
    sheet.counters(
        "rgpu_accounts_lost",
        None,
        "Sessions whose end was never written",
        alone(facts.lost_total),
    )?;
    sheet.gauges(
        "rgpu_alerts",
        None,
        "Alerts of the accounts that hold now, by kind",
        facts
            .alerts
            .iter()
            .map(|(kind, count)| (vec![("kind", kind.to_string())], *count)),
    )
}

fn daemon(sheet: &mut Sheet<'_>, facts: &Facts) -> Result<(), Error> {
    let version = env!("CARGO_PKG_VERSION").to_owned();
    sheet.info("rgpu_build", "This program", vec![("version", version)])?;
    sheet.gauges(
        "rgpu_uptime",
        Some(Unit::Seconds),
        "Since the daemon's start",
        alone(facts.uptime_seconds),
    )?;
    sheet.gauges(
        "rgpu_workers_ready",
        None,
        "Workers that wait for a session",
        alone(facts.workers_ready),
    )?;
    sheet.counters(
        "rgpu_workers_started",
        None,
        "Worker processes",
        alone(facts.workers_started_total),
    )?;
    sheet.counters(
        "rgpu_workers_lost",
        None,
        "Workers that died without a word or had to be killed",
        alone(facts.workers_lost_total),
    )?;
    sheet.gauges("rgpu_relays", None, "Relay processes", alone(facts.relays))?;
    sheet.counters(
        "rgpu_relays_lost",
        None,
        "Relay processes that died",
        alone(facts.relays_lost_total),
    )?;
    sheet.counters(
        "rgpu_scrape_errors",
        None,
        "Times that the devices could not be asked",
        alone(facts.device_errors_total),
    )
}

fn admission(sheet: &mut Sheet<'_>, facts: &Facts) -> Result<(), Error> {
    let by = |label: &'static str| {
        move |(name, count): (&&str, &u64)| (vec![(label, name.to_string())], *count)
    };
    sheet.gauges(
        "rgpu_sessions_limit",
        None,
        "Sessions that the server takes at once",
        alone(facts.sessions_limit),
    )?;
    sheet.gauges(
        "rgpu_greeting",
        None,
        "Connections that have not been let in",
        alone(facts.greeting),
    )?;
    sheet.gauges(
        "rgpu_monitors",
        None,
        "Connections that only watch",
        alone(facts.monitors),
    )?;
    sheet.gauges(
        "rgpu_queue_length",
        None,
        "Clients that wait for a place",
        alone(facts.queue),
    )?;
    sheet.waits(
        "rgpu_admission_wait",
        "How long clients waited that were let in",
        &facts.admission,
    )?;
    sheet.counters(
        "rgpu_refused",
        None,
        "Connections turned away, by reason",
        facts.refused_total.iter().map(by("code")),
    )?;
    sheet.counters(
        "rgpu_sessions_ended",
        None,
        "Sessions that are over, by how they ended",
        facts.ended_total.iter().map(by("outcome")),
    )?;
    sheet.counters(
        "rgpu_lease_switches",
        None,
        "Times that a device went from one session to another",
        facts.lease_switches_total.map(|count| (Vec::new(), count)),
    )?;
    sheet.gauges(
        "rgpu_leases",
        None,
        "Reserved vGPUs",
        facts
            .leases
            .iter()
            .map(|(tenant, count)| (vec![("tenant", tenant.clone())], *count)),
    )
}

fn tenants(sheet: &mut Sheet<'_>, facts: &Facts) -> Result<(), Error> {
    fn labels(it: &TenantFacts) -> Labels {
        vec![
            ("tenant", it.tenant.clone()),
            ("profile", it.profile.clone()),
        ]
    }
    let all = || facts.tenants.iter();
    sheet.gauges(
        "rgpu_sessions",
        None,
        "Sessions that run",
        all().map(|it| (labels(it), it.sessions)),
    )?;
    sheet.counters(
        "rgpu_sessions_admitted",
        None,
        "Sessions let in",
        all().map(|it| (labels(it), it.admitted_total)),
    )?;
    sheet.gauges(
        "rgpu_memory_held",
        Some(Unit::Bytes),
        "Device memory that sessions hold",
        all().map(|it| (labels(it), it.memory_bytes)),
    )?;
    sheet.gauges(
        "rgpu_memory_limit",
        Some(Unit::Bytes),
        "Device memory that the sessions that run may hold together",
        all().filter_map(|it| Some((labels(it), it.memory_limit_bytes?))),
    )?;
    sheet.seconds(
        "rgpu_gpu",
        "Device time",
        all().filter_map(|it| Some((labels(it), it.gpu_seconds_total?))),
    )?;
    sheet.seconds(
        "rgpu_session",
        "Time that sessions have lasted",
        all().map(|it| (labels(it), it.session_seconds_total)),
    )?;
    sheet.counters(
        "rgpu_calls",
        None,
        "Calls served",
        all().map(|it| (labels(it), it.calls_total)),
    )?;
    sheet.counters(
        "rgpu_launches",
        None,
        "Kernels launched",
        all().map(|it| (labels(it), it.launches_total)),
    )?;
    sheet.counters(
        "rgpu_bytes_in",
        None,
        "Bytes from clients",
        all().map(|it| (labels(it), it.bytes_in_total)),
    )?;
    sheet.counters(
        "rgpu_bytes_out",
        None,
        "Bytes to clients",
        all().map(|it| (labels(it), it.bytes_out_total)),
    )
}

fn devices(sheet: &mut Sheet<'_>, facts: &Facts) -> Result<(), Error> {
    fn labels(it: &Device) -> Labels {
        vec![("gpu", it.ordinal.to_string()), ("UUID", it.uuid.clone())]
    }
    let all = || facts.devices.iter();
    sheet.gauges(
        "rgpu_device_memory_total",
        Some(Unit::Bytes),
        "Memory of the device",
        all().map(|it| (labels(it), it.memory_total_bytes)),
    )?;
    sheet.gauges(
        "rgpu_device_memory_held",
        Some(Unit::Bytes),
        "What this server's sessions hold of it",
        all().map(|it| (labels(it), it.memory_held_bytes)),
    )?;
    sheet.gauges(
        "rgpu_device_sessions",
        None,
        "Sessions on the device",
        all().map(|it| (labels(it), it.sessions)),
    )
}
