//! Where a process keeps its files unless it is told otherwise.

use std::path::PathBuf;

use nix::unistd::geteuid;

/// Where the data lives unless told otherwise: `/var/lib/evenkeel` for root, else `evenkeel` in
/// `$XDG_DATA_HOME` or `~/.local/share`.
pub fn data() -> PathBuf {
    directory("/var/lib", "XDG_DATA_HOME", ".local/share")
}

/// Where fetched binaries live unless told otherwise: `/var/cache/evenkeel` for root, else
/// `evenkeel` in `$XDG_CACHE_HOME` or `~/.cache`.
pub fn cache() -> PathBuf {
    directory("/var/cache", "XDG_CACHE_HOME", ".cache")
}

/// Where a process keeps what must outlive it, beside a server that is not its own:
/// `/var/lib/evenkeel-state` for root, else `evenkeel` in `$XDG_STATE_HOME` or `~/.local/state`.
pub fn state() -> PathBuf {
    if geteuid().is_root() {
        // Not below the data directory, which has to be empty or a cluster's.
        return PathBuf::from("/var/lib/evenkeel-state");
    }
    directory("/var/lib", "XDG_STATE_HOME", ".local/state")
}

fn directory(of_root: &str, variable: &str, below_home: &str) -> PathBuf {
    let parent = if geteuid().is_root() {
        PathBuf::from(of_root)
    } else {
        std::env::var_os(variable)
            .map(PathBuf::from)
            // The XDG specification: a relative path is to be ignored.
            .filter(|path| path.is_absolute())
            .or_else(|| std::env::home_dir().map(|home| home.join(below_home)))
            .unwrap_or_else(std::env::temp_dir)
    };
    parent.join("evenkeel")
}
