//! Calls: waited for, or not.

use std::io::{IsTerminal, Read, stdin};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result, bail};
use clap::Args;
use rgpu_http::{Body, Method, Request, encoded};
use serde_json::{Value, json};

use super::apply::{pretty, print};
use super::events::{Event, Events};
use super::progress::{Counted, Progress};
use super::results;
use super::target::Client;
use super::words::{cell, plain};
use super::{Asking, Output};

/// Exit statuses; `timeout` and shells have the last two as well.
const JOB_FAILED: u8 = 1;
const GOES_ON: u8 = 124;
const INTERRUPTED: u8 = 130;

#[derive(Args)]
pub struct Call {
    /// The function
    name: String,
    /// The file that it gets; - is the standard input. None without it
    input: Option<PathBuf>,
    /// The file's name for the function, if not its own
    #[arg(long)]
    filename: Option<String>,
    /// Calls with the same key run one after another
    #[arg(long)]
    order_key: Option<String>,
    /// Calls with the same key are one, however often they are made
    #[arg(long)]
    idempotency_key: Option<String>,
}

#[derive(Args)]
pub struct Run {
    #[command(flatten)]
    asking: Asking,
    #[command(flatten)]
    call: Call,
    /// Where the result goes: a file, or a folder if it is one or the result has several files [default: the standard output]
    #[arg(long, short)]
    out: Option<PathBuf>,
    /// How long is waited: 30s, 5m; then the job goes on and its name is said
    #[arg(long)]
    timeout: Option<String>,
    /// An interruption cancels the job without a question, also where there is no terminal
    #[arg(long)]
    cancel_on_interrupt: bool,
}

impl Call {
    fn is_from_stdin(&self) -> bool {
        self.input.as_ref().is_some_and(|it| it.as_os_str() == "-")
    }

    /// `POST /job/NAME` or `/run/NAME`. What is in the file is for the function alone, so it is sent in base64.
    fn request(&self, verb: &str, timeout: Option<&str>, progress: &Progress) -> Result<Request> {
        let mut query = Vec::new();
        let own = self.input.as_ref().and_then(|it| it.file_name()?.to_str());
        let own = own.filter(|_| !self.is_from_stdin());
        let filename = self.filename.as_deref().or(own);
        for (name, value) in [
            ("filename", filename),
            ("order_key", self.order_key.as_deref()),
            ("timeout", timeout),
        ] {
            query.extend(value.map(|value| format!("{name}={}", encoded(value))));
        }
        let path = format!("/{verb}/{}?{}", encoded(&self.name), query.join("&"));
        let mut request = Request::new(Method::POST, path);
        if let Some(key) = &self.idempotency_key {
            request = request.header("idempotency-key", key)?;
        }
        let Some(input) = &self.input else {
            return Ok(request);
        };
        let reader: Box<dyn Read + Send> = match self.is_from_stdin() {
            true => Box::new(stdin()),
            false => {
                let file = std::fs::File::open(input);
                Box::new(file.with_context(|| input.display().to_string())?)
            }
        };
        let counted = Counted {
            reader,
            progress: progress.clone(),
            read: 0,
        };
        Ok(request.body(Body::Base64(Box::new(counted))))
    }
}

pub fn job(asking: &Asking, call: &Call) -> Result<ExitCode> {
    let client = asking.target.client()?;
    let progress = Progress::new(format!("calling {}", call.name));
    let answer = client.ask(call.request("job", None, &progress)?);
    progress.end();
    let answer = super::target::json(&answer?)?;
    match asking.output {
        Output::Json => print(&pretty(&answer)?),
        // What is an event may have made several.
        Output::Text => match answer["jobs"].as_array() {
            Some(jobs) => {
                let lines = jobs.iter().map(|job| format!("{}\n", cell(&job["id"])));
                print(&lines.collect::<String>())
            }
            None => print(&format!("{}\n", cell(&answer["id"]))),
        },
    }
}

/// How a call has ended.
enum End {
    Succeeded,
    Failed(String),
    Cancelled,
    GoesOn,
}

impl Run {
    pub fn run(&self) -> Result<ExitCode> {
        let client = self.asking.target.client()?;
        let progress = Progress::new(format!("calling {}", self.call.name));
        let interrupt = Interrupt::watch(self, &client, &progress)?;
        let request = self
            .call
            .request("run", self.timeout.as_deref(), &progress)?;
        // The result itself is fetched, so that it may be of any size.
        let request = request.accept("text/event-stream, application/octet-stream");
        let ended = self.follow(&client, request, &progress, &interrupt);
        progress.end();
        let (id, end) = ended?;
        let mut files = Vec::new();
        let status = match &end {
            End::Succeeded => {
                let is_shown = self.asking.output == Output::Text;
                files = results::fetch(&client, &id, self.out.as_deref(), is_shown)?;
                0
            }
            End::Failed(reason) => {
                eprintln!("rgpu: job {id} failed: {}", plain(reason));
                JOB_FAILED
            }
            End::Cancelled => {
                eprintln!("rgpu: job {id} was cancelled");
                INTERRUPTED
            }
            End::GoesOn => {
                eprintln!(
                    "rgpu: job {id} takes longer and goes on; rgpu function logs --follow {id}"
                );
                GOES_ON
            }
        };
        if self.asking.output == Output::Json {
            let (state, reason) = match &end {
                End::Succeeded => ("SUCCEEDED", None),
                End::Failed(reason) => ("FAILED", Some(reason)),
                End::Cancelled => ("CANCELLED", None),
                End::GoesOn => ("ACCEPTED", None),
            };
            print(&pretty(
                &json!({ "job": id, "state": state, "reason": reason, "files": files }),
            )?)?;
        }
        Ok(ExitCode::from(status))
    }

    /// Shows the log until the last event; the job's name, and how it ended.
    fn follow(
        &self,
        client: &Client,
        request: Request,
        progress: &Progress,
        interrupt: &Interrupt,
    ) -> Result<(String, End)> {
        let mut stream = client.open(request)?;
        let mut events = Events::default();
        let mut id = String::new();
        while let Some(piece) = stream.piece().context("the job may go on")? {
            for Event { name, data } in events.push(&piece)? {
                match name.as_str() {
                    "job" => {
                        id = cell(&data["id"]);
                        interrupt.name(&id);
                        progress.say(format!("job {id}"));
                    }
                    "log" => progress.log(data.as_str().unwrap_or_default()),
                    "result" => return Ok((id, End::Succeeded)),
                    "accepted" => return Ok((id, End::GoesOn)),
                    "failed" if data["state"] == "CANCELLED" => return Ok((id, End::Cancelled)),
                    "failed" => {
                        let reason = match &data["error"] {
                            Value::Null => "for a reason that is not said".into(),
                            reason => reason.as_str().unwrap_or_default().to_owned(),
                        };
                        return Ok((id, End::Failed(reason)));
                    }
                    _ => {}
                }
            }
        }
        bail!("the runner stopped telling about job {id}; it may go on")
    }
}

/// What Ctrl-C does: a question, then the job is cancelled, then this program ends. Where nobody can be asked, this program ends at
/// once and the job goes on.
struct Interrupt {
    client: Client,
    progress: Progress,
    job: Mutex<String>,
    count: AtomicU32,
    can_ask: bool,
    cancels: bool,
    is_cancelled: AtomicBool,
}

impl Interrupt {
    fn watch(run: &Run, client: &Client, progress: &Progress) -> Result<Arc<Interrupt>> {
        let interrupt = Arc::new(Interrupt {
            client: client.clone(),
            progress: progress.clone(),
            job: Mutex::default(),
            count: AtomicU32::new(0),
            can_ask: stdin().is_terminal()
                && std::io::stderr().is_terminal()
                && !run.call.is_from_stdin(),
            cancels: run.cancel_on_interrupt,
            is_cancelled: AtomicBool::new(false),
        });
        let told = Arc::clone(&interrupt);
        ctrlc::set_handler(move || told.signal()).context("cannot watch for Ctrl-C")?;
        Ok(interrupt)
    }

    fn name(&self, id: &str) {
        if let Ok(mut job) = self.job.lock() {
            id.clone_into(&mut job);
        }
    }

    fn id(&self) -> String {
        self.job.lock().map(|job| job.clone()).unwrap_or_default()
    }

    fn signal(self: &Arc<Self>) {
        let id = self.id();
        let count = self.count.fetch_add(1, Ordering::SeqCst);
        if id.is_empty() {
            self.leave("interrupted before the call was taken; it may still be");
        } else if self.is_cancelled.load(Ordering::SeqCst) {
            self.leave(&format!("interrupted while job {id} was being cancelled"));
        } else if self.cancels || count > 0 {
            self.cancel(&id);
        } else if self.can_ask {
            let asking = Arc::clone(self);
            std::thread::spawn(move || asking.ask(&id));
        } else {
            self.leave(&format!("interrupted; job {id} goes on"));
        }
    }

    fn ask(&self, id: &str) {
        self.progress.line(&format!(
            "Cancel job {id}? y or Ctrl-C: yes; n: it goes on without you"
        ));
        let mut line = String::new();
        let _ = stdin().read_line(&mut line);
        match line.trim().starts_with(['y', 'Y']) {
            true if !self.is_cancelled.load(Ordering::SeqCst) => self.cancel(id),
            true => {}
            false if line.is_empty() && self.is_cancelled.load(Ordering::SeqCst) => {}
            false => self.leave(&format!(
                "job {id} goes on; rgpu function logs --follow {id}"
            )),
        }
    }

    /// The end comes as the call's last event.
    fn cancel(&self, id: &str) {
        self.is_cancelled.store(true, Ordering::SeqCst);
        self.progress.say(format!("cancelling job {id}"));
        if let Err(error) = self.client.post(&format!("/jobs/{}/cancel", encoded(id))) {
            self.progress.line(&format!("rgpu: {error:#}"));
        }
    }

    fn leave(&self, words: &str) -> ! {
        self.progress.end();
        eprintln!("rgpu: {words}");
        std::process::exit(INTERRUPTED.into())
    }
}
