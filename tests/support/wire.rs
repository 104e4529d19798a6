//! A proxy between the service and PostgreSQL that counts statements, as the server would see them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sqlx::postgres::{PgConnectOptions, PgSslMode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::OwnedReadHalf;
use tokio::net::unix::OwnedWriteHalf;
use tokio::net::{TcpListener, UnixStream};

/// Counts the statements that pass.
pub struct CountingProxy {
    statements: Arc<AtomicU64>,
    /// Connects through the proxy.
    pub options: PgConnectOptions,
}

impl CountingProxy {
    /// Listens, and passes everything on to `database`.
    pub async fn start(database: &PgConnectOptions) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let socket = database.get_socket().unwrap();
        let socket = socket.join(format!(".s.PGSQL.{}", database.get_port()));
        let statements = Arc::new(AtomicU64::new(0));
        let counter = statements.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                client.set_nodelay(true).unwrap();
                let server = UnixStream::connect(&socket).await.unwrap();
                let (client_read, mut client_write) = client.into_split();
                let (mut server_read, server_write) = server.into_split();
                tokio::spawn(forward(client_read, server_write, counter.clone()));
                tokio::spawn(async move {
                    let _ = tokio::io::copy(&mut server_read, &mut client_write).await;
                });
            }
        });
        let options = PgConnectOptions::new_without_pgpass()
            .host("127.0.0.1")
            .port(port)
            .username(database.get_username())
            .database(database.get_database().unwrap())
            .ssl_mode(PgSslMode::Disable);
        Self {
            statements,
            options,
        }
    }

    /// How many statements have passed so far.
    pub fn statements(&self) -> u64 {
        self.statements.load(Ordering::SeqCst)
    }
}

async fn forward(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, statements: Arc<AtomicU64>) {
    // The startup message has no type.
    let Ok(length) = from.read_u32().await else {
        return;
    };
    if pass(&mut from, &mut to, None, length).await.is_none() {
        return;
    }
    loop {
        let Ok(kind) = from.read_u8().await else {
            return;
        };
        let Ok(length) = from.read_u32().await else {
            return;
        };
        // Execute, or Query.
        if matches!(kind, b'E' | b'Q') {
            statements.fetch_add(1, Ordering::SeqCst);
        }
        if pass(&mut from, &mut to, Some(kind), length).await.is_none() {
            return;
        }
    }
}

async fn pass(
    from: &mut OwnedReadHalf,
    to: &mut OwnedWriteHalf,
    kind: Option<u8>,
    length: u32,
) -> Option<()> {
    let mut body = vec![0; length as usize - 4];
    from.read_exact(&mut body).await.ok()?;
    let mut message: Vec<u8> = kind.into_iter().collect();
    message.extend(length.to_be_bytes());
    message.extend(&body);
    to.write_all(&message).await.ok()
}
