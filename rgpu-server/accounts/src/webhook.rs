//! Posts alerts to the configured address, on a thread of its own, so that nothing waits for whoever is there.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, TlsProvider};

use crate::config::Webhook;
use crate::time;
use crate::watch::Alert;

/// Alerts that wait for their turn.
const QUEUE: usize = 256;
/// Tries for each alert.
const TRIES: u32 = 5;
/// The first pause after a failure; each further one is twice as long.
const PAUSE: Duration = Duration::from_secs(1);
/// How long one try may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// At most so many tries a minute.
const A_MINUTE: usize = 30;
/// Where systems keep the authorities that they believe.
const SYSTEM_CA: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// An alert on its way.
type Letter = (Webhook, Alert);

/// The thread ends when this is dropped, once its present try is over.
pub struct Poster(SyncSender<Letter>);

impl Poster {
    pub fn start() -> std::io::Result<Poster> {
        let (sender, receiver) = sync_channel(QUEUE);
        std::thread::Builder::new()
            .name("webhook".into())
            .spawn(move || work(&receiver))?;
        Ok(Poster(sender))
    }

    /// Hands an alert over. Where too many wait, it is left out: it is in the log and in the database.
    pub fn post(&self, to: &Webhook, alert: &Alert) {
        match self.0.try_send((to.clone(), alert.clone())) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                tracing::warn!(
                    kind = alert.kind,
                    tenant = alert.tenant,
                    "too many alerts wait for the webhook; this one is not posted"
                );
            }
        }
    }
}

fn work(letters: &Receiver<Letter>) {
    let mut rate = Rate::default();
    while let Ok((to, alert)) = letters.recv() {
        let mut pause = PAUSE;
        for number in 1..=TRIES {
            std::thread::sleep(rate.wait(Instant::now()));
            match post(&to, &alert) {
                Ok(()) => break,
                Err(error) => tracing::warn!(
                    kind = alert.kind,
                    tenant = alert.tenant,
                    try_number = number,
                    tries = TRIES,
                    error,
                    "the webhook did not take an alert"
                ),
            }
            if number < TRIES {
                std::thread::sleep(pause);
                pause *= 2;
            }
        }
    }
}

/// How often it is tried.
#[derive(Debug, Default)]
struct Rate(VecDeque<Instant>);

impl Rate {
    /// How long the next try has to wait; it counts from then.
    fn wait(&mut self, now: Instant) -> Duration {
        let mut at = now;
        if self.0.len() >= A_MINUTE
            && let Some(first) = self.0.pop_front()
        {
            at = now.max(first + Duration::from_secs(60));
        }
        self.0.push_back(at);
        at - now
    }
}

/// The error's words, without the address: it may have a secret in it.
fn post(to: &Webhook, alert: &Alert) -> Result<(), String> {
    let mut config = ureq::Agent::config_builder()
        .timeout_global(Some(PATIENCE))
        // An alert is for who was named, and for nobody else.
        .max_redirects(0)
        .max_redirects_will_error(true)
        .user_agent(concat!("rgpud/", env!("CARGO_PKG_VERSION")));
    if to.url.starts_with("https://") {
        config = config.tls_config(tls(to)?);
    }
    let agent = ureq::Agent::new_with_config(config.build());
    let mut body = serde_json::to_value(alert).map_err(|error| error.to_string())?;
    body["time"] = time::text(alert.at).into();
    let answer = agent.post(&to.url).send_json(body);
    match answer {
        Ok(answer) if answer.status().is_success() => Ok(()),
        Ok(answer) => Err(format!("it answered {}", answer.status().as_u16())),
        Err(ureq::Error::StatusCode(code)) => Err(format!("it answered {code}")),
        Err(ureq::Error::Io(error)) => Err(error.to_string()),
        Err(ureq::Error::Timeout(_)) => Err(format!("no answer within {PATIENCE:?}")),
        Err(ureq::Error::HostNotFound) => Err("no such host".into()),
        Err(ureq::Error::ConnectionFailed) => Err("no connection".into()),
        Err(ureq::Error::Rustls(error)) => Err(error.to_string()),
        Err(_) => Err("it cannot be reached as its address says".into()),
    }
}

fn tls(to: &Webhook) -> Result<TlsConfig, String> {
    let text = match &to.ca_file {
        Some(file) => std::fs::read(file).map_err(|error| format!("{}: {error}", file.display())),
        None => SYSTEM_CA
            .iter()
            .find_map(|file| std::fs::read(file).ok())
            .ok_or_else(|| {
                "this system has no list of certificate authorities; name one by accounts.webhook_ca_file"
                    .to_owned()
            }),
    }?;
    let items = ureq::tls::parse_pem(&text);
    let certificates: Vec<Certificate<'static>> = items
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    if certificates.is_empty() {
        return Err("no certificate in the file of certificate authorities".into());
    }
    Ok(TlsConfig::builder()
        .provider(TlsProvider::Rustls)
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .root_certs(RootCerts::new_with_certs(&certificates))
        .build())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::TcpListener;

    fn alert() -> Alert {
        Alert {
            subject: "s".into(),
            at: time::DAY,
            kind: "cost_per_day",
            tenant: "echo".into(),
            text: "too much".into(),
            value: 2.0,
            threshold: 1.0,
        }
    }

    /// Answers so many requests with these statuses; what it was sent.
    fn serve(statuses: &'static [&'static str]) -> (Webhook, std::thread::JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/hook?key=s3cret", listener.local_addr().unwrap());
        let server = std::thread::spawn(move || {
            let answer = |status: &&str| {
                let (stream, _) = listener.accept().unwrap();
                let mut reader = BufReader::new(stream);
                let (mut head, mut length) = (String::new(), 0);
                loop {
                    let mut line = String::new();
                    reader.read_line(&mut line).unwrap();
                    if line.trim().is_empty() {
                        break;
                    }
                    let lower = line.to_ascii_lowercase();
                    if let Some(value) = lower.strip_prefix("content-length:") {
                        length = value.trim().parse().unwrap();
                    }
                    head.push_str(&line);
                }
                let mut body = vec![0; length];
                reader.read_exact(&mut body).unwrap();
                let answer = format!(
                    "HTTP/1.1 {status}\r\nLocation: /elsewhere\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                );
                reader.get_mut().write_all(answer.as_bytes()).unwrap();
                head + &String::from_utf8(body).unwrap()
            };
            statuses.iter().map(answer).collect()
        });
        (Webhook { url, ca_file: None }, server)
    }

    #[test]
    fn an_alert_is_posted_as_json_and_tried_again() {
        let (to, server) = serve(&["500 No", "204 Fine"]);
        let poster = Poster::start().unwrap();
        poster.post(&to, &alert());
        let sent = server.join().unwrap();
        let (_, body) = sent[1].split_once('{').unwrap();
        let body: serde_json::Value = serde_json::from_str(&format!("{{{body}")).unwrap();
        assert!(sent[1].starts_with("POST /hook?key=s3cret HTTP/1.1"));
        assert_eq!(body["kind"], "cost_per_day");
        assert_eq!(body["time"], "1970-01-02T00:00:00Z");
        assert_eq!(body["threshold"], 1.0);
    }

    #[test]
    fn who_sends_it_elsewhere_has_not_taken_it_and_no_error_names_the_address() {
        let (to, server) = serve(&["302 Found"]);
        let error = post(&to, &alert()).unwrap_err();
        assert!(!error.contains("s3cret"), "{error}");
        server.join().unwrap();
        let nobody = Webhook {
            url: "http://127.0.0.1:1/s3cret".into(),
            ca_file: None,
        };
        assert!(!post(&nobody, &alert()).unwrap_err().contains("s3cret"));
        let no_ca = Webhook {
            url: "https://127.0.0.1:1/s3cret".into(),
            ca_file: Some("/nowhere/ca.pem".into()),
        };
        assert!(
            post(&no_ca, &alert())
                .unwrap_err()
                .contains("/nowhere/ca.pem")
        );
    }

    #[test]
    fn tries_are_bounded_by_the_minute() {
        let now = Instant::now();
        let mut rate = Rate::default();
        for _ in 0..A_MINUTE {
            assert_eq!(rate.wait(now), Duration::ZERO);
        }
        assert_eq!(rate.wait(now), Duration::from_secs(60));
    }
}
