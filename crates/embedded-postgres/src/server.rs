//! The running server. A shell supervises it, so that it ends with this process however that ends.

use std::ffi::OsString;
use std::fs::{File, OpenOptions, Permissions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Child;
use tokio::time::{Instant, sleep, timeout};

use crate::account::{Account, last_lines};
use crate::{EmbeddedError, PORT, ping};

/// The supervisor, run as `sh -c SUPERVISOR sh postgres ARGS...`.
///
/// It starts the server, prints its process id and ends with it. A watcher reads the lifeline,
/// which is the supervisor's standard input and whose other end only our process holds: a line
/// names a way to stop; the end of the file means that our process is gone, and an orphan gets
/// no more than 5 s. Only the supervisor reaps the server, so the watcher cannot signal a
/// stranger that has got the same process id.
const SUPERVISOR: &str = r#"
exec 3<&0
"$@" 3<&- </dev/null >&2 &
server=$!
(
    read -r mode <&3
    case "$mode" in
        immediate) signal=QUIT patience=60 ;;
        fast) signal=INT patience=60 ;;
        *) signal=INT patience=5 ;;
    esac
    kill -s "$signal" "$server"
    while [ "$patience" -gt 0 ]; do
        sleep 1
        kill -s 0 "$server" || exit 0
        patience=$((patience - 1))
    done
    kill -s QUIT "$server"
) >/dev/null 2>&1 &
watcher=$!
echo "$server"
exec </dev/null >/dev/null 3<&-
wait "$server"
status=$?
kill "$watcher" 2>/dev/null
exit "$status"
"#;

/// What a private server differs in from PostgreSQL's defaults. Nothing here weakens durability. Its log
/// is to hold no values of rows: no DETAIL ("Key (email)=(…) already exists"), statements or parameters,
/// and none of the errors that clients are told of.
const SETTINGS: [(&str, &str); 8] = [
    ("listen_addresses", ""),
    ("max_connections", "100"),
    ("shared_buffers", "256MB"),
    ("log_error_verbosity", "terse"),
    ("log_min_messages", "log"),
    ("log_min_error_statement", "panic"),
    ("log_parameter_max_length", "0"),
    ("log_parameter_max_length_on_error", "0"),
];

const READY_PATIENCE: Duration = Duration::from_secs(30);
/// While the server says that it is starting up, it replays its log after a crash.
const RECOVERY_PATIENCE: Duration = Duration::from_secs(300);
/// Recoveries longer than this are told to the person who waits, again and again.
const RECOVERY_SILENCE: Duration = Duration::from_secs(2);
/// The supervisor's patience, plus what PostgreSQL needs after SIGQUIT.
const STOP_PATIENCE: Duration = Duration::from_secs(75);
const POLL: Duration = Duration::from_millis(20);
/// SQLSTATE `cannot_connect_now`.
const STARTING_UP: &str = "57P03";
const LOG_MAX_BYTES: u64 = 10 * 1024 * 1024;
const LOG_TAIL_BYTES: u64 = 16 * 1024;
const LOG_TAIL_LINES: usize = 10;

/// How to stop the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopMode {
    /// Sessions are ended and data is flushed.
    Fast,
    /// As in a crash: the next start recovers from the log.
    Immediate,
}

/// What it takes to start the server, again and again.
#[derive(Debug)]
pub(crate) struct Launch {
    pub(crate) account: Account,
    pub(crate) bin_dir: PathBuf,
    pub(crate) pgdata: PathBuf,
    pub(crate) log: PathBuf,
    pub(crate) socket_dir: PathBuf,
    pub(crate) settings: Vec<(String, String)>,
}

/// A running server. Dropped, it shuts down by itself.
#[derive(Debug)]
pub(crate) struct Server {
    supervisor: Child,
    /// Closing it, as the kernel does when this process dies, stops the server.
    lifeline: File,
    postmaster: u32,
    pgdata: PathBuf,
}

impl Server {
    /// Starts the server and waits until it accepts connections.
    pub(crate) async fn start(
        launch: &Launch,
        progress: &(dyn Fn(&str) + Send + Sync),
    ) -> Result<Self, EmbeddedError> {
        launch.keep_log_small()?;
        let mut server = Self::spawn(launch).await?;
        server.wait_until_ready(launch, progress).await?;
        Ok(server)
    }

    pub(crate) async fn spawn(launch: &Launch) -> Result<Self, EmbeddedError> {
        let shell = Path::new("/bin/sh");
        let not_run = || EmbeddedError::io("run", shell);
        let mut command = launch.account.command(shell);
        command
            .args(["-c", SUPERVISOR, "sh"])
            .arg(launch.bin_dir.join("postgres"))
            .arg("-D")
            .arg(&launch.pgdata)
            .arg("-c")
            .arg(format!("port={PORT}"));
        command.arg("-c").arg(socket_setting(&launch.socket_dir));
        for (name, value) in SETTINGS {
            command.arg("-c").arg(format!("{name}={value}"));
        }
        for (name, value) in &launch.settings {
            command.arg("-c").arg(format!("{name}={value}"));
        }
        let mut supervisor = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(open_log(&launch.log)?)
            // Ctrl-C in a terminal reaches this process alone, which then stops the server in
            // its own order.
            .process_group(0)
            .spawn()
            .map_err(not_run())?;
        let (Some(lifeline), Some(stdout)) = (supervisor.stdin.take(), supervisor.stdout.take())
        else {
            return Err(not_run()(std::io::ErrorKind::BrokenPipe.into()));
        };
        let lifeline = File::from(lifeline.into_owned_fd().map_err(not_run())?);
        let mut line = String::new();
        BufReader::new(stdout)
            .read_line(&mut line)
            .await
            .map_err(not_run())?;
        let postmaster = line
            .trim()
            .parse()
            .map_err(|_| not_run()(std::io::ErrorKind::UnexpectedEof.into()))?;
        Ok(Self {
            supervisor,
            lifeline,
            postmaster,
            pgdata: launch.pgdata.clone(),
        })
    }

    pub(crate) async fn wait_until_ready(
        &mut self,
        launch: &Launch,
        progress: &(dyn Fn(&str) + Send + Sync),
    ) -> Result<(), EmbeddedError> {
        let started = Instant::now();
        let mut told = Instant::now();
        let not_started = |reason: String| EmbeddedError::NotStarted {
            reason,
            log: launch.log.clone(),
            log_tail: log_tail(&launch.log),
        };
        loop {
            if let Some(status) = self.exited()? {
                return Err(not_started(format!("it ended with {status}")));
            }
            let (reason, patience) = match timeout(READY_PATIENCE, ping(&launch.socket_dir)).await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(sqlx::Error::Database(e))) if e.code().as_deref() == Some(STARTING_UP) => {
                    if told.elapsed() > RECOVERY_SILENCE {
                        progress(&recovery(&launch.log));
                        told = Instant::now();
                    }
                    (e.to_string(), RECOVERY_PATIENCE)
                }
                Ok(Err(e)) => (e.to_string(), READY_PATIENCE),
                Err(_) => ("it does not answer".to_owned(), READY_PATIENCE),
            };
            if started.elapsed() > patience {
                let waited = patience.as_secs();
                return Err(not_started(format!("after {waited} s: {reason}")));
            }
            sleep(POLL).await;
        }
    }

    pub(crate) fn postmaster_pid(&self) -> u32 {
        self.postmaster
    }

    /// Stops the server and waits for its end; does nothing if it has ended already.
    pub(crate) async fn stop(&mut self, mode: StopMode) -> Result<(), EmbeddedError> {
        let line = match mode {
            StopMode::Fast => "fast\n",
            StopMode::Immediate => "immediate\n",
        };
        // Nobody reads any more if the server has ended, which is what is wanted.
        let _ = self.lifeline.write_all(line.as_bytes());
        let deadline = Instant::now() + STOP_PATIENCE;
        while self.exited()?.is_none() {
            if Instant::now() > deadline {
                return Err(EmbeddedError::StillRunning {
                    pid: self.postmaster,
                    pgdata: self.pgdata.clone(),
                });
            }
            sleep(POLL).await;
        }
        Ok(())
    }

    /// Polled rather than awaited, so that a server outlives the runtime that started it: tests
    /// share one server and have a runtime each.
    pub(crate) fn exited(&mut self) -> Result<Option<std::process::ExitStatus>, EmbeddedError> {
        self.supervisor
            .try_wait()
            .map_err(EmbeddedError::io("wait for the server of", &self.pgdata))
    }
}

impl Launch {
    /// Keeps what the log has grown to beside it and begins anew, once it is long. The server appends, so
    /// that it goes on at the new beginning.
    pub(crate) fn keep_log_small(&self) -> Result<(), EmbeddedError> {
        let keep = || {
            let log = private().append(true).open(&self.log)?;
            if log.metadata()?.len() <= LOG_MAX_BYTES {
                return Ok(());
            }
            let mut before = private()
                .write(true)
                .truncate(true)
                .open(self.log.with_extension("log.1"))?;
            std::io::copy(&mut File::open(&self.log)?, &mut before)?;
            log.set_len(0)
        };
        keep().map_err(EmbeddedError::io("shorten the log", &self.log))
    }
}

/// How far the server is in replaying its log.
fn recovery(log: &Path) -> String {
    let said = "PostgreSQL was not shut down in order and is recovering";
    let tail = log_tail(log);
    let redo = tail
        .lines()
        .rev()
        .find_map(|line| Some(line.split_once("redo in progress, ")?.1));
    redo.map_or_else(|| said.to_owned(), |redo| format!("{said}, {redo}"))
}

/// For files that nobody else may read.
fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.create(true).mode(0o600);
    options
}

/// The setting is a list; quotes keep a path with commas or spaces one entry.
fn socket_setting(dir: &Path) -> OsString {
    let path = dir.as_os_str().as_bytes();
    let doubled = path.split(|byte| *byte == b'"').collect::<Vec<_>>();
    let mut setting = b"unix_socket_directories=\"".to_vec();
    setting.extend(doubled.join(&b"\"\""[..]));
    setting.push(b'"');
    OsString::from_vec(setting)
}

fn open_log(path: &Path) -> Result<File, EmbeddedError> {
    let open = || {
        let log = private().append(true).open(path)?;
        // One from an earlier version may be for everybody to read.
        log.set_permissions(Permissions::from_mode(0o600))?;
        Ok(log)
    };
    open().map_err(EmbeddedError::io("open the log", path))
}

fn log_tail(path: &Path) -> String {
    let read = || {
        let mut log = File::open(path)?;
        let start = log.metadata()?.len().saturating_sub(LOG_TAIL_BYTES);
        log.seek(SeekFrom::Start(start))?;
        let mut bytes = Vec::new();
        log.read_to_end(&mut bytes)?;
        Ok::<_, std::io::Error>(String::from_utf8_lossy(&bytes).into_owned())
    };
    read().map_or_else(
        |e| format!("(could not be read: {e})"),
        |text| last_lines(&text, LOG_TAIL_LINES),
    )
}
