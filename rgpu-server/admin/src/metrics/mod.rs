//! Metrics as Prometheus reads them. They are made anew from the daemon's facts at each scrape; what is not known is left out. Labels are
//! names from the configuration and devices, so how many series there are does not depend on what clients do.

mod dcgm;
mod own;

use std::fmt::Error;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeGaugeValue, MetricEncoder, NoLabelSet, prometheus_text, text,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

use crate::data::{Facts, Waits};

/// How a scraper wants them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// Prometheus' text format 0.0.4.
    Prometheus,
    OpenMetrics,
}

impl Format {
    /// By the header `Accept`: the first of the two that it names.
    pub(crate) fn of(accept: &str) -> Format {
        let known = |range: &str| match range.split(';').next().map(str::trim) {
            Some("application/openmetrics-text") => Some(Format::OpenMetrics),
            Some("text/plain") => Some(Format::Prometheus),
            _ => None,
        };
        accept
            .split(',')
            .find_map(known)
            .unwrap_or(Format::Prometheus)
    }

    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Format::Prometheus => prometheus_text::CONTENT_TYPE,
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

pub(crate) fn text(facts: &Facts, format: Format) -> Result<String, Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Page(facts.clone())));
    let mut out = String::new();
    match format {
        Format::Prometheus => prometheus_text::encode(&mut out, &registry)?,
        Format::OpenMetrics => text::encode(&mut out, &registry)?,
    }
    Ok(out)
}

#[derive(Debug)]
struct Page(Facts);

impl Collector for Page {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let mut sheet = Sheet(encoder);
        own::write(&mut sheet, &self.0)?;
        dcgm::write(&mut sheet, &self.0)
    }
}

type Labels = Vec<(&'static str, String)>;

/// Writes families of metrics; one without a sample is left out.
struct Sheet<'a>(DescriptorEncoder<'a>);

impl Sheet<'_> {
    fn gauges<V: EncodeGaugeValue>(
        &mut self,
        name: &str,
        unit: Option<Unit>,
        help: &str,
        samples: impl IntoIterator<Item = (Labels, V)>,
    ) -> Result<(), Error> {
        let write = |encoder: &mut MetricEncoder<'_>, value: &V| encoder.encode_gauge(value);
        self.family(name, unit, help, MetricType::Gauge, samples, write)
    }

    fn counters(
        &mut self,
        name: &str,
        unit: Option<Unit>,
        help: &str,
        samples: impl IntoIterator<Item = (Labels, u64)>,
    ) -> Result<(), Error> {
        let write = |encoder: &mut MetricEncoder<'_>, value: &u64| {
            encoder.encode_counter::<NoLabelSet, _, u64>(value, None)
        };
        self.family(name, unit, help, MetricType::Counter, samples, write)
    }

    fn seconds(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (Labels, f64)>,
    ) -> Result<(), Error> {
        let write = |encoder: &mut MetricEncoder<'_>, value: &f64| {
            encoder.encode_counter::<NoLabelSet, _, f64>(value, None)
        };
        self.family(
            name,
            Some(Unit::Seconds),
            help,
            MetricType::Counter,
            samples,
            write,
        )
    }

    fn waits(&mut self, name: &str, help: &str, waits: &Waits) -> Result<(), Error> {
        let mut encoder =
            self.0
                .encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Histogram)?;
        let ends = Waits::BOUNDS.into_iter().chain([f64::INFINITY]);
        let buckets: Vec<_> = ends.zip(waits.buckets).collect();
        encoder.encode_histogram::<NoLabelSet>(waits.sum, waits.count, &buckets, None)
    }

    fn info(&mut self, name: &str, help: &str, labels: Labels) -> Result<(), Error> {
        let mut encoder = self
            .0
            .encode_descriptor(name, help, None, MetricType::Info)?;
        encoder.encode_info(&labels)
    }

    fn family<V>(
        &mut self,
        name: &str,
        unit: Option<Unit>,
        help: &str,
        kind: MetricType,
        samples: impl IntoIterator<Item = (Labels, V)>,
        write: impl Fn(&mut MetricEncoder<'_>, &V) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut samples = samples.into_iter().peekable();
        if samples.peek().is_none() {
            return Ok(());
        }
        let mut encoder = self.0.encode_descriptor(name, help, unit.as_ref(), kind)?;
        for (labels, value) in samples {
            match labels.is_empty() {
                true => write(&mut encoder, &value)?,
                false => write(&mut encoder.encode_family(&labels)?, &value)?,
            }
        }
        Ok(())
    }
}

/// One sample without labels.
fn alone<V>(value: V) -> [(Labels, V); 1] {
    [(Vec::new(), value)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{AccountsFacts, Device, Readings, TenantFacts};

    fn facts() -> Facts {
        Facts {
            hostname: "gpuhost".into(),
            host_driver: "580.159.04".into(),
            tenants: vec![TenantFacts {
                tenant: "a \"b\"\\\n".into(),
                profile: "small".into(),
                sessions: 2,
                gpu_seconds_total: Some(1.5),
                bytes_in_total: 7,
                ..TenantFacts::default()
            }],
            refused_total: [("too_many_sessions", 3)].into(),
            accounts: Some(AccountsFacts {
                alerts: [("idle_memory", 4)].into(),
                ..AccountsFacts::default()
            }),
            devices: vec![Device {
                ordinal: 1,
                name: "NVIDIA H100".into(),
                uuid: "GPU-1".into(),
                pci_bus_id: "0000:3b:00.0".into(),
                memory_total_bytes: 80 << 30,
                memory_free_bytes: Some(70 << 30),
                utilization_percent: Some(40.0),
                readings: Some(Readings {
                    temperature_celsius: Some(50),
                    ..Readings::default()
                }),
                ..Device::default()
            }],
            ..Facts::default()
        }
    }

    fn lines(format: Format) -> Vec<String> {
        let text = text(&facts(), format).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn names_and_labels_that_dashboards_know() {
        let lines = lines(Format::Prometheus);
        let labels = "{gpu=\"1\",UUID=\"GPU-1\",pci_bus_id=\"00000000:3B:00.0\",device=\"nvidia1\",modelName=\"NVIDIA H100\",\
                      hostname=\"gpuhost\",DCGM_FI_DRIVER_VERSION=\"580.159.04\"}";
        for (name, value) in [
            ("DCGM_FI_DEV_GPU_UTIL", "40.0"),
            ("DCGM_FI_DEV_FB_USED", "10240.0"),
            ("DCGM_FI_DEV_FB_FREE", "71680.0"),
            ("DCGM_FI_DEV_GPU_TEMP", "50.0"),
        ] {
            let line = format!("{name}{labels} {value}");
            assert!(lines.contains(&line), "{line}\n{}", lines.join("\n"));
        }
        // The device has not told its power: no zero is invented.
        assert!(
            !lines
                .iter()
                .any(|line| line.contains("DCGM_FI_DEV_POWER_USAGE"))
        );
    }

    #[test]
    fn both_formats_say_the_same() {
        let sample = |lines: &[String], name: &str| {
            let found = lines.iter().find(|line| line.starts_with(name));
            found
                .and_then(|line| line.rsplit_once(' '))
                .map(|(_, value)| value.to_owned())
        };
        let (plain, open) = (lines(Format::Prometheus), lines(Format::OpenMetrics));
        assert_eq!(open.last().unwrap(), "# EOF");
        for (name, value) in [
            ("rgpu_refused_total{code=\"too_many_sessions\"}", "3"),
            ("rgpu_gpu_seconds_total{", "1.5"),
            ("rgpu_bytes_in_total{", "7"),
            ("rgpu_sessions{", "2"),
            ("rgpu_alerts{kind=\"idle_memory\"}", "4"),
            ("rgpu_accounts_failing", "0"),
        ] {
            assert_eq!(sample(&plain, name).as_deref(), Some(value), "{name}");
            assert_eq!(sample(&open, name).as_deref(), Some(value), "{name}");
        }
        assert!(plain.contains(&"# TYPE rgpu_refused_total counter".into()));
        assert!(open.contains(&"# TYPE rgpu_refused counter".into()));
        // A name from the configuration cannot break a line.
        assert!(plain.iter().any(|line| {
            line.starts_with(r#"rgpu_sessions{tenant="a \"b\"\\\n",profile="small"} 2"#)
        }));
    }

    #[test]
    fn the_format_is_the_first_that_the_scraper_names() {
        let prometheus = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;q=0.5,*/*;q=0.1";
        assert_eq!(Format::of(prometheus), Format::OpenMetrics);
        assert_eq!(Format::of("text/plain;version=0.0.4"), Format::Prometheus);
        assert_eq!(Format::of("*/*"), Format::Prometheus);
        assert_eq!(Format::of(""), Format::Prometheus);
    }

    #[test]
    fn waits_are_a_histogram() {
        let mut facts = Facts::default();
        for seconds in [0.0005, 0.3, 600.0] {
            facts.admission.add(seconds);
        }
        let text = text(&facts, Format::Prometheus).unwrap();
        for line in [
            "rgpu_admission_wait_seconds_bucket{le=\"0.001\"} 1",
            "rgpu_admission_wait_seconds_bucket{le=\"0.5\"} 2",
            "rgpu_admission_wait_seconds_bucket{le=\"+Inf\"} 3",
            "rgpu_admission_wait_seconds_count 3",
        ] {
            assert!(text.lines().any(|it| it == line), "{line}\n{text}");
        }
    }
}
