//! Traces by OpenTelemetry's protocol, where `OTEL_EXPORTER_OTLP_ENDPOINT` names a collector: a span for each session, a child of its caller's, and one for
//! its admission. They are collected and sent by a thread of the library's; the daemon's own never waits for a collector.

use anyhow::Result;
use opentelemetry::trace::{
    SpanContext, SpanId, SpanKind, Status, TraceContextExt, TraceFlags, TraceId, TraceState,
    Tracer, TracerProvider,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::{RandomIdGenerator, SdkTracer, SdkTracerProvider};
use rgpu_proto::control::Usage;
use rgpu_proto::handshake::Hello;

/// The variable of a client's that names the span it runs in.
const PARENT: &str = "TRACEPARENT";

/// The traces of a daemon; none unless they were asked for.
#[derive(Default)]
pub struct Traces(Option<(SdkTracerProvider, SdkTracer)>);

/// One session's trace. It ends with this value, if not before.
pub struct Session(Option<(SdkTracer, Context)>);

/// A part of a session, until it is dropped.
pub struct Part(Option<Context>);

impl Traces {
    pub fn from_environment() -> Result<Traces> {
        let version = env!("CARGO_PKG_VERSION");
        let Some(provider) = rgpu_otlp::provider("rgpud", version, RandomIdGenerator::default())?
        else {
            return Ok(Traces(None));
        };
        let tracer = provider.tracer("rgpud");
        Ok(Traces(Some((provider, tracer))))
    }

    /// Begins with the greeting of a client.
    pub fn session(&self, hello: &Hello, peer: &str) -> Session {
        let begin = |tracer: &SdkTracer| {
            let client = &hello.client;
            let attributes = [
                KeyValue::new("client.address", peer.to_owned()),
                KeyValue::new("rgpu.client.program", client.program.clone()),
                KeyValue::new("rgpu.client.host", client.host.clone()),
                KeyValue::new("rgpu.client.pid", i64::from(client.pid)),
                KeyValue::new("rgpu.function", hello.reuse.function.clone()),
            ];
            let span = tracer
                .span_builder("session")
                .with_kind(SpanKind::Server)
                .with_attributes(attributes)
                .start_with_context(tracer, &caller(hello));
            (tracer.clone(), Context::new().with_span(span))
        };
        Session(self.0.as_ref().map(|(_, tracer)| begin(tracer)))
    }

    /// Sends what is left, for two seconds at most.
    pub async fn finish(&self) {
        let Some((provider, _)) = self.0.clone() else {
            return;
        };
        let _ = tokio::task::spawn_blocking(move || rgpu_otlp::finish(&provider)).await;
    }
}

impl Session {
    pub fn begin(&self, name: &'static str) -> Part {
        Part(self.0.as_ref().map(|(tracer, session)| {
            let span = tracer
                .span_builder(name)
                .start_with_context(tracer, session);
            session.with_span(span)
        }))
    }

    pub fn is(&self, session: u64, tenant: &str) {
        self.note([
            KeyValue::new("rgpu.session", session as i64),
            KeyValue::new("rgpu.tenant", tenant.to_owned()),
        ]);
    }

    pub fn refused(&self, kind: &'static str, reason: &str) {
        self.note([KeyValue::new("rgpu.refusal", kind)]);
        self.failed(reason);
    }

    pub fn ended(&self, result: u32, reason: &str, usage: &Usage) {
        let number = |it: u64| i64::try_from(it).unwrap_or(i64::MAX);
        self.note([
            KeyValue::new("rgpu.result", i64::from(result)),
            KeyValue::new("rgpu.calls", number(usage.calls)),
            KeyValue::new("rgpu.launches", number(usage.launches)),
            KeyValue::new("rgpu.bytes_in", number(usage.bytes_in)),
            KeyValue::new("rgpu.bytes_out", number(usage.bytes_out)),
            KeyValue::new("rgpu.memory_peak", number(usage.memory_peak)),
        ]);
        if result != 0 {
            self.failed(reason);
        }
    }

    fn note<const N: usize>(&self, attributes: [KeyValue; N]) {
        if let Some((_, context)) = &self.0 {
            context.span().set_attributes(attributes);
        }
    }

    fn failed(&self, reason: &str) {
        if let Some((_, context)) = &self.0 {
            context.span().set_status(Status::error(reason.to_owned()));
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some((_, context)) = &self.0 {
            context.span().end();
        }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if let Some(context) = &self.0 {
            context.span().end();
        }
    }
}

/// The span that the client runs in, if it has said one.
fn caller(hello: &Hello) -> Context {
    let said = hello.environment.iter().find(|(name, _)| name == PARENT);
    match said.and_then(|(_, value)| parent(value)) {
        Some(parent) => Context::new().with_remote_span_context(parent),
        None => Context::new(),
    }
}

/// W3C's `traceparent`: version, trace, span and flags in lower-case hexadecimal.
fn parent(text: &str) -> Option<SpanContext> {
    let is_hex = |part: &str, digits: usize| {
        part.len() == digits && part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    };
    let mut parts = text.split('-');
    let [version, trace, span, flags] =
        [parts.next()?, parts.next()?, parts.next()?, parts.next()?];
    let is_known = version == "00" && parts.next().is_none();
    // A later version may have more behind these.
    let is_later = is_hex(version, 2) && version != "ff" && version != "00";
    if !(is_known || is_later) || !is_hex(trace, 32) || !is_hex(span, 16) || !is_hex(flags, 2) {
        return None;
    }
    let flags = TraceFlags::new(u8::from_str_radix(flags, 16).ok()?);
    let (trace, span) = (TraceId::from_hex(trace).ok()?, SpanId::from_hex(span).ok()?);
    let parent = SpanContext::new(trace, span, flags, true, TraceState::default());
    parent.is_valid().then_some(parent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_callers_span_is_believed_if_it_is_one() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let found = parent(good).unwrap();
        assert_eq!(
            found.trace_id().to_string(),
            "4bf92f3577b34da6a3ce929d0e0e4736"
        );
        assert_eq!(found.span_id().to_string(), "00f067aa0ba902b7");
        assert!(found.is_sampled() && found.is_remote());
        assert!(parent("01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00-more").is_some());
        for wrong in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-+1",
            "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
        ] {
            assert!(parent(wrong).is_none(), "{wrong}");
        }
    }
}
