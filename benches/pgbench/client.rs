//! A closed-loop HTTP client that costs as little as it can, because it shares the machine with what
//! it measures: requests are written as bytes, and of an answer only status and length are read.

use std::io::Write;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand::RngExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::database::{PRODUCTS, VARIANTS};

/// Like pgbench, which is told the same.
pub const THREADS: usize = 2;
const WARM_UP: Duration = Duration::from_millis(500);

/// What one connection asks for, again and again.
#[derive(Clone, Copy)]
pub enum Request<'a> {
    /// A random product.
    Detail,
    /// An order of two random variants.
    Order { token: &'a str },
}

impl Request<'_> {
    fn write(self, buffer: &mut Vec<u8>) {
        let mut rng = rand::rng();
        match self {
            Request::Detail => {
                let n = rng.random_range(1..=PRODUCTS);
                write!(buffer, "GET /api/products/product-{n} HTTP/1.1\r\nHost: bench\r\n\r\n")
            }
            Request::Order { token } => {
                let first = rng.random_range(1..=VARIANTS / 2);
                let second = rng.random_range(VARIANTS / 2 + 1..=VARIANTS);
                let body = format!(
                    r#"{{"lines":[{{"sku":"sku-{first}","quantity":1}},{{"sku":"sku-{second}","quantity":2}}]}}"#
                );
                write!(
                    buffer,
                    "POST /api/orders HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n\
                     Authorization: Bearer {token}\r\nIdempotency-Key: {:016x}\r\n\
                     Content-Length: {}\r\n\r\n{body}",
                    rng.random::<u64>(),
                    body.len()
                )
            }
        }
        .unwrap();
    }
}

/// Answers per second over `connections` kept-alive connections, each of which sends the next
/// request when it has the answer to the one before.
///
/// # Panics
/// When a request is not answered with success: what fails is not worth measuring.
pub fn rate<'a>(
    address: SocketAddr,
    connections: usize,
    lasting: Duration,
    request: impl Fn(usize) -> Request<'a> + Sync,
) -> f64 {
    let begin = Instant::now() + WARM_UP;
    let end = begin + lasting;
    let request = &request;
    let answers: u64 = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                scope.spawn(move || {
                    let runtime = tokio::runtime::Builder::new_current_thread()
                        .enable_all()
                        .build()
                        .unwrap();
                    let mine = (thread..connections).step_by(THREADS);
                    let clients = mine.map(|n| repeat(address, request(n), begin, end));
                    let answers = runtime.block_on(futures_util::future::join_all(clients));
                    answers.iter().sum::<u64>()
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .sum()
    });
    answers as f64 / lasting.as_secs_f64()
}

async fn repeat(address: SocketAddr, request: Request<'_>, begin: Instant, end: Instant) -> u64 {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let (mut sent, mut received) = (Vec::new(), Vec::with_capacity(64 * 1024));
    let mut answers = 0;
    loop {
        sent.clear();
        request.write(&mut sent);
        stream.write_all(&sent).await.unwrap();
        let status = answer(&mut stream, &mut received).await;
        assert!(
            (200..300).contains(&status),
            "{}",
            String::from_utf8_lossy(&received)
        );
        let now = Instant::now();
        if now >= end {
            return answers;
        }
        answers += u64::from(now >= begin);
    }
}

/// Reads one answer to its end.
async fn answer(stream: &mut TcpStream, received: &mut Vec<u8>) -> u16 {
    received.clear();
    let mut whole = None;
    loop {
        let n = stream.read_buf(received).await.unwrap();
        assert!(n > 0, "the server closed the connection");
        if whole.is_none() {
            whole = head(received);
        }
        if let Some((status, length)) = whole
            && received.len() >= length
        {
            return status;
        }
    }
}

/// Status and whole length of an answer whose head is complete.
fn head(received: &[u8]) -> Option<(u16, usize)> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(head) = response.parse(received).unwrap() else {
        return None;
    };
    let length = response
        .headers
        .iter()
        .find(|header| header.name.eq_ignore_ascii_case("content-length"));
    let length = std::str::from_utf8(length.unwrap().value).unwrap();
    Some((
        response.code.unwrap(),
        head + length.parse::<usize>().unwrap(),
    ))
}
