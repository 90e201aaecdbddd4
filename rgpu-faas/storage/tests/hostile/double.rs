//! An HTTP server that answers as a test says, wrong answers included.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Asked {
    pub method: String,
    /// Path and query, as they were sent.
    pub target: String,
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Asked {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

/// What goes back, and what then becomes of the connection.
pub struct Reply {
    bytes: Vec<u8>,
    then: Then,
}

enum Then {
    Keep,
    Close,
    /// Nothing more comes, and the connection stays.
    Stall,
}

impl Reply {
    /// A right answer.
    pub fn new(status: u16, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Reply {
        let length = body.as_ref().len().to_string();
        let mut all = vec![("content-length", length.as_str())];
        all.extend_from_slice(headers);
        Reply::raw(status, &all, body)
    }

    /// As it stands: lengths are the test's matter.
    pub fn raw(status: u16, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Reply {
        let mut bytes = format!("HTTP/1.1 {status} X\r\n").into_bytes();
        for (name, value) in headers {
            bytes.extend(format!("{name}: {value}\r\n").bytes());
        }
        bytes.extend(b"\r\n");
        bytes.extend(body.as_ref());
        Reply {
            bytes,
            then: Then::Keep,
        }
    }

    pub fn close(mut self) -> Reply {
        self.then = Then::Close;
        self
    }

    pub fn stall(mut self) -> Reply {
        self.then = Then::Stall;
        self
    }

    /// No answer at all.
    pub fn nothing() -> Reply {
        Reply {
            bytes: Vec::new(),
            then: Then::Stall,
        }
    }

    /// The connection ends instead.
    pub fn hang_up() -> Reply {
        Reply {
            bytes: Vec::new(),
            then: Then::Close,
        }
    }
}

pub struct Double {
    pub address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    serving: tokio::task::JoinHandle<()>,
}

impl Double {
    /// `answer` is given the request and how many came before it.
    pub async fn start(answer: impl Fn(&Asked, usize) -> Reply + Send + Sync + 'static) -> Double {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (log, answer) = (asked.clone(), Arc::new(answer));
        let serving = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (log, answer) = (log.clone(), answer.clone());
                connections.spawn(async move {
                    // A client that goes away is no fault of the test.
                    let _ = serve(stream, &log, &*answer).await;
                });
            }
        });
        Double {
            address,
            asked,
            serving,
        }
    }

    /// All requests so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    pub fn count(&self, method: &str) -> usize {
        self.asked()
            .iter()
            .filter(|asked| asked.method == method)
            .count()
    }
}

impl Drop for Double {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(
    mut stream: TcpStream,
    log: &Mutex<Vec<Asked>>,
    answer: &(dyn Fn(&Asked, usize) -> Reply + Send + Sync),
) -> std::io::Result<()> {
    let mut buffer = Vec::new();
    loop {
        let end = loop {
            if let Some(at) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            if stream.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        };
        let head: Vec<u8> = buffer.drain(..end).collect();
        let mut asked = parse(&String::from_utf8_lossy(&head));
        let length: usize = asked.header("content-length").parse().unwrap_or(0);
        while buffer.len() < length {
            if stream.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        }
        asked.body = buffer.drain(..length).collect();
        let before = {
            let mut log = log.lock().unwrap();
            log.push(asked.clone());
            log.len() - 1
        };
        let reply = answer(&asked, before);
        stream.write_all(&reply.bytes).await?;
        match reply.then {
            Then::Keep => {}
            Then::Close => return Ok(()),
            Then::Stall => {
                // Until the client has enough.
                while stream.read_buf(&mut buffer).await? > 0 {}
                return Ok(());
            }
        }
    }
}

fn parse(head: &str) -> Asked {
    let mut lines = head.lines();
    let mut first = lines.next().unwrap_or("").split(' ');
    let mut word = || first.next().unwrap_or("").to_owned();
    Asked {
        method: word(),
        target: word(),
        headers: lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
            .collect(),
        body: Vec::new(),
    }
}
