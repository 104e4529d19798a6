//! Connections that nobody can listen to or answer in another's name.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::receivers::{Mail, Mails, converse};
use super::{Process, eventually, settings};

/// Says to the test that it starts again where the certificate and its key are.
const CERTIFICATE: &str = "TEST_CERTIFICATE";

/// Makes a certificate for `localhost` that vouches for itself.
fn certificate(dir: &Path) -> PathBuf {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let file = dir.join("certificate.pem");
    std::fs::write(&file, made.cert.pem()).unwrap();
    std::fs::write(dir.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    file
}

fn acceptor(certificate: &Path) -> TlsAcceptor {
    let key = certificate.with_file_name("key.pem");
    let certificate = CertificateDer::from_pem_file(certificate).unwrap();
    let key = PrivateKeyDer::from_pem_file(key).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

/// How a client is met.
#[derive(Clone, Copy)]
enum Server {
    Https,
    Smtps,
    StartTls,
}

/// A server behind a certificate; returns its port.
async fn serve(server: Server, certificate: &Path, taken: Mails) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let tls = acceptor(certificate);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(meet(server, stream, tls.clone(), taken.clone()));
        }
    });
    port
}

async fn meet(
    server: Server,
    mut stream: TcpStream,
    tls: TlsAcceptor,
    taken: Mails,
) -> std::io::Result<()> {
    match server {
        Server::Smtps => converse(tls.accept(stream).await?, taken, true).await,
        Server::StartTls => {
            stream.write_all(b"220 test\r\n").await?;
            for answer in ["250-test\r\n250 STARTTLS\r\n", "220 go on\r\n"] {
                let mut line = [0; 512];
                let _ = stream.read(&mut line).await?;
                stream.write_all(answer.as_bytes()).await?;
            }
            converse(tls.accept(stream).await?, taken, false).await
        }
        Server::Https => {
            let mut stream = tls.accept(stream).await?;
            let mut request = vec![0; 65536];
            let read = stream.read(&mut request).await?;
            taken.lock().push(Mail {
                text: String::from_utf8_lossy(&request[..read]).into_owned(),
                ..Mail::default()
            });
            stream
                .write_all(b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n")
                .await?;
            stream.shutdown().await
        }
    }
}

fn channel(server: Server, port: u16) -> String {
    let channel = match server {
        Server::Https => format!("kind = \"slack\"\nurl = \"https://localhost:{port}/\""),
        Server::Smtps | Server::StartTls => {
            let security = match server {
                Server::Smtps => "tls",
                _ => "starttls",
            };
            format!(
                "kind = \"email\"\nhost = \"localhost\"\nport = {port}\nsecurity = \"{security}\"\n\
                 from = \"a@shop.example\"\nto = [\"b@shop.example\"]"
            )
        }
    };
    format!(
        "watch.notify.tries = 1\n[[watch.notify.channels]]\nname = \"it\"\nprivate = true\n{channel}\n"
    )
}

/// What the record says of a message to such a server, and how many it took.
async fn tell(server: Server, certificate: &Path) -> (Option<String>, usize) {
    let taken = Mails::default();
    let port = serve(server, certificate, taken.clone()).await;
    let journal = TempDir::new().unwrap();
    let process = Process::start(&settings(&channel(server, port)), &journal).await;
    let incident = process.opens().await;
    let told = async || process.told(incident).pop();
    let (_, _, problem) = eventually("the record", told).await;
    process.die().await;
    let taken = taken.lock().len();
    (problem, taken)
}

const SERVERS: [Server; 3] = [Server::Https, Server::Smtps, Server::StartTls];

#[tokio::test]
async fn a_server_that_nobody_vouches_for_gets_nothing() {
    let dir = TempDir::new().unwrap();
    let certificate = certificate(dir.path());
    for server in SERVERS {
        let (problem, taken) = tell(server, &certificate).await;
        let problem = problem.unwrap();
        assert!(problem.contains("certificate"), "{problem}");
        assert_eq!(taken, 0);
    }
}

/// The authorities of a process are those of its environment, so the test starts itself again.
#[test]
fn a_server_that_the_system_vouches_for_gets_the_message() {
    let dir = TempDir::new().unwrap();
    let certificate = certificate(dir.path());
    let inner = "watch::notify::tls::with_an_authority_of_its_own";
    let run = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", inner])
        .env("SSL_CERT_FILE", &certificate)
        .env(CERTIFICATE, &certificate)
        .output()
        .unwrap();
    let output = String::from_utf8_lossy(&run.stdout);
    assert!(
        run.status.success() && output.contains("1 passed"),
        "{output}"
    );
}

#[tokio::test]
#[ignore = "started by the test above, in an environment of its own"]
async fn with_an_authority_of_its_own() {
    let Some(certificate) = std::env::var_os(CERTIFICATE) else {
        return;
    };
    for server in SERVERS {
        let (problem, taken) = tell(server, Path::new(&certificate)).await;
        assert_eq!((problem, taken), (None, 1));
    }
}
