//! Somebody at the other end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;

use crate::support::eventually;

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Request {
    pub path: String,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Request {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// How the next requests are answered; the last one stands.
#[derive(Clone, Debug)]
pub enum Answer {
    Status(u16),
    Redirect(String),
    Never,
}

/// A server that takes what it is sent.
#[derive(Clone, Debug)]
pub struct Receiver {
    pub address: SocketAddr,
    state: Arc<Mutex<(Vec<Request>, Vec<Answer>)>>,
}

impl Receiver {
    pub async fn start() -> Self {
        Self::answering(vec![Answer::Status(202)]).await
    }

    pub async fn answering(answers: Vec<Answer>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let receiver = Self {
            address: listener.local_addr().unwrap(),
            state: Arc::new(Mutex::new((Vec::new(), answers))),
        };
        let router = Router::new().fallback(take).with_state(receiver.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        receiver
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn requests(&self) -> Vec<Request> {
        self.state.lock().0.clone()
    }

    pub async fn wait_for(&self, count: usize) -> Vec<Request> {
        let enough = async || Some(self.requests()).filter(|requests| requests.len() >= count);
        eventually(&format!("request {count}"), enough).await
    }
}

async fn take(
    State(receiver): State<Receiver>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let answer = {
        let (requests, answers) = &mut *receiver.state.lock();
        requests.push(Request {
            path: uri.path().to_owned(),
            headers,
            body,
        });
        let next = answers[0].clone();
        if answers.len() > 1 {
            answers.remove(0);
        }
        next
    };
    match answer {
        Answer::Status(status) => StatusCode::from_u16(status).unwrap().into_response(),
        Answer::Redirect(to) => {
            (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, to)]).into_response()
        }
        Answer::Never => {
            tokio::time::sleep(Duration::from_secs(3600)).await;
            StatusCode::OK.into_response()
        }
    }
}

/// A mail as it came.
#[derive(Clone, Debug, Default)]
pub struct Mail {
    pub from: String,
    pub to: Vec<String>,
    pub text: String,
}

/// What has arrived.
pub type Mails = Arc<Mutex<Vec<Mail>>>;

/// A mail server that speaks as much SMTP as a client without TLS needs.
#[derive(Clone, Debug)]
pub struct MailServer {
    pub address: SocketAddr,
    mails: Mails,
}

impl MailServer {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self {
            address: listener.local_addr().unwrap(),
            mails: Arc::default(),
        };
        let mails = server.mails.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(converse(stream, mails.clone(), true));
            }
        });
        server
    }

    pub fn mails(&self) -> Vec<Mail> {
        self.mails.lock().clone()
    }
}

/// Speaks with a client, from the greeting on or from what comes after STARTTLS.
pub async fn converse(
    stream: impl AsyncRead + AsyncWrite,
    mails: Mails,
    greets: bool,
) -> std::io::Result<()> {
    let (read, mut write) = tokio::io::split(stream);
    let mut lines = BufReader::new(read).lines();
    let mut mail = Mail::default();
    if greets {
        write.write_all(b"220 test ESMTP\r\n").await?;
    }
    while let Some(line) = lines.next_line().await? {
        let argument = line.split_once(':').map_or("", |(_, argument)| argument);
        let answer = match line.split(' ').next().unwrap_or_default() {
            "EHLO" => "250-test\r\n250 8BITMIME",
            "MAIL" => {
                mail.from = argument.to_owned();
                "250 ok"
            }
            "RCPT" => {
                mail.to.push(argument.to_owned());
                "250 ok"
            }
            "DATA" => {
                write.write_all(b"354 go on\r\n").await?;
                while let Some(line) = lines.next_line().await?
                    && line != "."
                {
                    mail.text += line.strip_prefix('.').unwrap_or(&line);
                    mail.text.push('\n');
                }
                mails.lock().push(std::mem::take(&mut mail));
                "250 taken"
            }
            "QUIT" => "221 bye",
            _ => "502 what?",
        };
        write.write_all(format!("{answer}\r\n").as_bytes()).await?;
    }
    Ok(())
}
