//! The user that the server runs as, because PostgreSQL refuses to run as root.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use nix::unistd::{User, geteuid};
use tokio::process::Command;

use crate::EmbeddedError;

/// For a program that should take seconds: initdb, a download of 25 MB.
const PROGRAM_TIMEOUT: Duration = Duration::from_secs(300);
const REPORTED_LINES: usize = 10;

/// Who runs the server: an unprivileged user if this process is root, else whoever runs this
/// process.
#[derive(Debug, Clone)]
pub(crate) struct Account {
    switch_to: Option<User>,
}

impl Account {
    pub(crate) fn of_server() -> Result<Self, EmbeddedError> {
        if !geteuid().is_root() {
            return Ok(Self { switch_to: None });
        }
        ["postgres", "nobody"]
            .into_iter()
            .find_map(|name| User::from_name(name).ok().flatten())
            .map(|user| Self {
                switch_to: Some(user),
            })
            .ok_or(EmbeddedError::NoAccount)
    }

    /// A command that runs as this account, in `/`, without standard input.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        // The working directory of this process may be closed to the account.
        command.current_dir("/").stdin(Stdio::null());
        if let Some(user) = &self.switch_to {
            // For a root process this clears the supplementary groups, too.
            command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
        }
        command
    }

    /// Gives a file or directory to this account.
    pub(crate) fn own(&self, path: &Path) -> Result<(), EmbeddedError> {
        match &self.switch_to {
            Some(user) => chown(path, Some(user.uid.as_raw()), Some(user.gid.as_raw()))
                .map_err(EmbeddedError::io("change the owner of", path)),
            None => Ok(()),
        }
    }

    /// Checks that this account can enter `dir` and every directory above it.
    pub(crate) async fn check_reaches(&self, dir: &Path) -> Result<(), EmbeddedError> {
        let Some(user) = &self.switch_to else {
            return Ok(());
        };
        // Asking the kernel as that user is exact where mode bits are not (ACLs, mounts).
        let mut check = self.command("/bin/sh");
        check.args([
            "-c",
            r#"for d do [ -x "$d" ] || { printf %s "$d"; exit 1; }; done"#,
            "sh",
        ]);
        let mut from_the_root: Vec<_> = dir.ancestors().collect();
        from_the_root.reverse();
        check.args(from_the_root);
        let output = output_of(check, "sh").await?;
        if output.status.success() {
            return Ok(());
        }
        Err(EmbeddedError::NotTraversable {
            dir: String::from_utf8_lossy(&output.stdout).into_owned().into(),
            account: user.name.clone(),
        })
    }
}

/// Runs a program to its end; a failure carries the last lines that it wrote.
pub(crate) async fn run(command: Command) -> Result<Output, EmbeddedError> {
    let program = command.as_std().get_program().to_owned();
    let program = Path::new(&program).display().to_string();
    let output = output_of(command, &program).await?;
    if output.status.success() {
        return Ok(output);
    }
    let written = [&output.stdout[..], &output.stderr[..]].concat();
    Err(EmbeddedError::Program {
        program,
        reason: format!(
            "{}\n{}",
            output.status,
            last_lines(&String::from_utf8_lossy(&written), REPORTED_LINES)
        ),
    })
}

async fn output_of(mut command: Command, program: &str) -> Result<Output, EmbeddedError> {
    let failed = |reason: String| EmbeddedError::Program {
        program: program.to_owned(),
        reason,
    };
    command.stdin(Stdio::null()).kill_on_drop(true);
    match tokio::time::timeout(PROGRAM_TIMEOUT, command.output()).await {
        Ok(Ok(output)) => Ok(output),
        Ok(Err(e)) => Err(failed(format!("it could not be run ({e})"))),
        Err(_) => Err(failed(format!(
            "it did not end within {} s",
            PROGRAM_TIMEOUT.as_secs()
        ))),
    }
}

/// The last `count` lines of a text.
pub(crate) fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

/// Creates a directory and those above it that are missing. What root creates is open to the
/// server's account whatever the umask; what a user creates is private.
pub(crate) fn create_dir(dir: &Path) -> Result<(), EmbeddedError> {
    let mode = if geteuid().is_root() { 0o755 } else { 0o700 };
    let mut missing: Vec<_> = dir.ancestors().take_while(|dir| !dir.exists()).collect();
    while let Some(dir) = missing.pop() {
        match fs::create_dir(dir) {
            Ok(()) => fs::set_permissions(dir, Permissions::from_mode(mode)),
            // Another process was faster.
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
            Err(e) => Err(e),
        }
        .map_err(EmbeddedError::io("create the directory", dir))?;
    }
    Ok(())
}
