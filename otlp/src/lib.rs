//! How the daemons send traces: by OpenTelemetry's protocol, over plain HTTP, where OpenTelemetry's variables name a collector.

mod http;

use anyhow::{Context as _, Result};
use opentelemetry::KeyValue;
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{IdGenerator, SdkTracerProvider};
use std::time::Duration;

/// What remains at the end for spans that have not been sent.
const LAST: Duration = Duration::from_secs(2);

fn is_named(name: &str) -> bool {
    std::env::var_os(name).is_some_and(|value| !value.is_empty())
}

/// Whether traces are to be sent.
pub fn is_asked_for() -> bool {
    let is_off = std::env::var("OTEL_SDK_DISABLED").is_ok_and(|it| it.eq_ignore_ascii_case("true"));
    let endpoints = [
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    ];
    !is_off && endpoints.into_iter().any(is_named)
}

/// Where spans of `service` go, if they are asked for. They are collected and sent by a thread of the library's; nobody waits for a
/// collector.
///
/// # Errors
/// What the variables say cannot be meant.
pub fn provider(
    service: &'static str,
    version: &'static str,
    ids: impl IdGenerator + 'static,
) -> Result<Option<SdkTracerProvider>> {
    if !is_asked_for() {
        return Ok(None);
    }
    let exporter = SpanExporter::builder()
        .with_http()
        .with_protocol(Protocol::HttpBinary)
        .with_http_client(http::Plain)
        .build()
        .context("OTEL_EXPORTER_OTLP_ENDPOINT")?;
    let mut resource = Resource::builder();
    if !is_named("OTEL_SERVICE_NAME") {
        resource = resource.with_service_name(service);
    }
    let version = KeyValue::new("service.version", version);
    let provider = SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_id_generator(ids)
        .with_resource(resource.with_attribute(version).build())
        .build();
    Ok(Some(provider))
}

/// Sends what is left, for two seconds at most. Blocks.
pub fn finish(provider: &SdkTracerProvider) {
    if let Err(error) = provider.shutdown_with_timeout(LAST) {
        tracing::warn!(%error, "not all traces could be sent");
    }
}
