//! Traces by OpenTelemetry's protocol, where `OTEL_EXPORTER_OTLP_ENDPOINT` names a collector: a span for each event, within it one for its
//! job, and within that one for each attempt. Jobs that came from others are in their trace.
//!
//! The numbers of spans are made of jobs' names. So an attempt's program can be told of the span that it runs in long before that is sent,
//! and a job that goes on after a crash goes on in its trace, without anything being kept.

use crate::journal::{Attempt, Job, Journal, JournalError};
use crate::state::JobState;
use crate::time::Timestamp;
use opentelemetry::trace::{
    SpanContext, SpanId, SpanKind, Status, TraceContextExt, TraceFlags, TraceId, TraceState,
    Tracer, TracerProvider,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::{IdGenerator, SdkTracer, SdkTracerProvider};
use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::mpsc::Receiver;
use tokio::task::JoinHandle;

/// Jobs whose spans are not made yet; more are left out.
const BACKLOG: usize = 4096;
/// Jobs between one and the first that it came from.
const MAX_CHAIN: usize = 32;

/// The first 16 bytes of a hash, none of which is all zeros but with a probability that nobody lives to see.
fn number(kind: &str, name: &str, part: u32) -> [u8; 16] {
    let hash = blake3::hash(format!("{kind} {part} {name}").as_bytes());
    let mut number = [0; 16];
    number.copy_from_slice(&hash.as_bytes()[..16]);
    number
}

fn span_number(kind: &str, name: &str, part: u32) -> SpanId {
    let [a, b, c, d, e, f, g, h, ..] = number(kind, name, part);
    SpanId::from_bytes([a, b, c, d, e, f, g, h])
}

/// The trace that a job is in: that of the first job that it came from.
fn trace_of(journal: &Journal, job: &Job) -> Result<TraceId, JournalError> {
    let mut first = job.id.clone();
    let mut parent = job.parent.clone();
    for _ in 0..MAX_CHAIN {
        let Some(id) = parent else { break };
        parent = journal.job(&id)?.and_then(|job| job.parent);
        first = id;
    }
    Ok(TraceId::from_bytes(number("trace", &first, 0)))
}

/// W3C's `traceparent` for the program of an attempt.
pub fn parent_of_attempt(
    journal: &Journal,
    job: &Job,
    attempt: u32,
) -> Result<String, JournalError> {
    let trace = trace_of(journal, job)?;
    let span = span_number("attempt", &job.id, attempt);
    Ok(format!("00-{trace}-{span}-01"))
}

thread_local! {
    /// What the next span of this thread is called.
    static NEXT: Cell<(TraceId, SpanId)> = const { Cell::new((TraceId::INVALID, SpanId::INVALID)) };
}

/// Gives spans the numbers that were chosen for them.
#[derive(Debug)]
struct Chosen;

impl IdGenerator for Chosen {
    fn new_trace_id(&self) -> TraceId {
        NEXT.get().0
    }

    fn new_span_id(&self) -> SpanId {
        NEXT.get().1
    }
}

/// Follows the journal, and sends spans.
pub struct Traces {
    provider: SdkTracerProvider,
    following: JoinHandle<()>,
    stop: tokio::sync::oneshot::Sender<()>,
}

impl Traces {
    /// Traces of the jobs that end from now on, if they are asked for.
    ///
    /// # Errors
    /// What OpenTelemetry's variables say cannot be meant.
    pub fn start(journal: &Arc<Journal>) -> anyhow::Result<Option<Traces>> {
        let version = env!("CARGO_PKG_VERSION");
        let Some(provider) = rgpu_otlp::provider("rgpu-faas", version, Chosen)? else {
            return Ok(None);
        };
        let tracer = provider.tracer("rgpu-faas");
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let ended = journal.figures.watch(BACKLOG);
        let following = tokio::spawn(follow(journal.clone(), tracer, ended, stopped));
        Ok(Some(Traces {
            provider,
            following,
            stop,
        }))
    }

    /// Sends what is left.
    pub async fn finish(self) {
        let _ = self.stop.send(());
        let _ = self.following.await;
        let provider = self.provider;
        let _ = tokio::task::spawn_blocking(move || rgpu_otlp::finish(&provider)).await;
    }
}

async fn follow(
    journal: Arc<Journal>,
    tracer: SdkTracer,
    mut ended: Receiver<String>,
    mut stopped: tokio::sync::oneshot::Receiver<()>,
) {
    loop {
        let id = tokio::select! {
            biased;
            Some(id) = ended.recv() => id,
            _ = &mut stopped => return,
        };
        let (journal, tracer) = (journal.clone(), tracer.clone());
        let tell = move || -> Result<(), JournalError> {
            // It may have been removed again.
            if let Some(job) = journal.job(&id)? {
                let attempts = journal.attempts(&id)?;
                describe(&tracer, trace_of(&journal, &job)?, &job, &attempts);
            }
            Ok(())
        };
        if let Ok(Err(error)) = tokio::task::spawn_blocking(tell).await {
            tracing::warn!(%error, "a job's trace cannot be made");
        }
    }
}

fn wall(time: Timestamp) -> SystemTime {
    UNIX_EPOCH + Duration::from_micros(u64::try_from(time.0).unwrap_or(0))
}

/// A span that is over, and the context of what is within it.
struct Done<'a> {
    name: &'static str,
    id: SpanId,
    kind: SpanKind,
    from: Timestamp,
    to: Timestamp,
    attributes: Vec<KeyValue>,
    failed: Option<&'a str>,
}

fn send(tracer: &SdkTracer, trace: TraceId, within: &Context, done: Done<'_>) -> Context {
    NEXT.set((trace, done.id));
    let span = tracer
        .span_builder(done.name)
        .with_kind(done.kind)
        .with_start_time(wall(done.from))
        .with_attributes(done.attributes)
        .start_with_context(tracer, within);
    let context = within.with_span(span);
    if let Some(reason) = done.failed {
        let line = reason.lines().next().unwrap_or_default();
        context.span().set_status(Status::error(line.to_owned()));
    }
    context
        .span()
        .end_with_timestamp(wall(done.to.max(done.from)));
    context
}

/// Sends the spans of a job that is over.
fn describe(tracer: &SdkTracer, trace: TraceId, job: &Job, attempts: &[Attempt]) {
    let mut within = Context::new();
    if let Some(parent) = &job.parent {
        let span = span_number("job", parent, 0);
        let flags = TraceFlags::SAMPLED;
        let parent = SpanContext::new(trace, span, flags, true, TraceState::default());
        within = within.with_remote_span_context(parent);
    }
    let whose = || {
        vec![
            KeyValue::new("rgpu.job", job.id.clone()),
            KeyValue::new("rgpu.function", job.function.clone()),
        ]
    };
    let mut of_event = whose();
    of_event.push(KeyValue::new("rgpu.trigger", job.trigger.as_str()));
    let event = send(
        tracer,
        trace,
        &within,
        Done {
            name: "event",
            id: span_number("event", &job.id, 0),
            kind: SpanKind::Producer,
            from: job.event.time.min(job.t_submitted),
            to: job.t_submitted,
            attributes: of_event,
            failed: None,
        },
    );
    let failed = (job.state == JobState::Failed).then(|| job.reason.as_deref().unwrap_or_default());
    let mut of_job = whose();
    of_job.push(KeyValue::new("rgpu.state", job.state.as_str()));
    let end = job.t_end.unwrap_or(job.t_submitted);
    let within = send(
        tracer,
        trace,
        &event,
        Done {
            name: "job",
            id: span_number("job", &job.id, 0),
            kind: SpanKind::Consumer,
            from: job.t_submitted,
            to: end,
            attributes: of_job,
            failed,
        },
    );
    for attempt in attempts {
        let outcome = attempt.outcome.as_deref().unwrap_or_default();
        let mut of_attempt = whose();
        of_attempt.push(KeyValue::new("rgpu.attempt", i64::from(attempt.attempt)));
        of_attempt.push(KeyValue::new("rgpu.outcome", outcome.to_owned()));
        if let Some(running) = attempt.t_running {
            let starting = running.since(attempt.t_start).as_secs_f64();
            of_attempt.push(KeyValue::new("rgpu.starting_seconds", starting));
        }
        let done = Done {
            name: "attempt",
            id: span_number("attempt", &job.id, attempt.attempt),
            kind: SpanKind::Internal,
            from: attempt.t_start,
            to: attempt.t_end.unwrap_or(end),
            attributes: of_attempt,
            failed: (outcome == "FAILED").then(|| attempt.reason.as_deref().unwrap_or_default()),
        };
        send(tracer, trace, &within, done);
    }
}
