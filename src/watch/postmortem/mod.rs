//! The postmortem of an incident, written from its events alone: a document in Markdown and the
//! timeline as a picture.
//!
//! # Layout
//!
//! - `document`: the whole text; `markdown`: other people's words in it
//! - `milestones`: when what was reached; `june`: the same on 20 June 2024
//! - `timeline`: every event in a row; `tasks`: what is left for people
//! - `picture`: the timeline drawn; `markers`: its labels; `readings`: its curves

mod document;
mod june;
mod markdown;
mod markers;
mod milestones;
mod picture;
mod readings;
mod tasks;
mod timeline;

use std::path::{Path, PathBuf};

use super::incident::Incident;

pub use document::document;
pub use picture::picture;
pub use timeline::{Row, timeline, words};

/// Name of the document.
pub const DOCUMENT: &str = "postmortem.md";
/// Name of the picture, which the document refers to.
pub const PICTURE: &str = "timeline.svg";

/// Where a postmortem was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// The document.
    pub document: PathBuf,
    /// The picture that it shows.
    pub picture: PathBuf,
}

/// Why a postmortem was not written.
#[derive(Debug, thiserror::Error)]
pub enum PostmortemError {
    /// A file.
    #[error("cannot write {path}: {source}; choose a directory that you may write to with --out")]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The picture.
    #[error("the timeline cannot be drawn: {0}")]
    Draw(String),
}

/// Writes the postmortem of `incident` into `directory`, which is made if need be. What an earlier one
/// was called is overwritten.
///
/// # Errors
/// [`PostmortemError`].
pub async fn write(incident: &Incident, directory: &Path) -> Result<Written, PostmortemError> {
    let written = Written {
        document: directory.join(DOCUMENT),
        picture: directory.join(PICTURE),
    };
    let drawn = picture(incident)?;
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| PostmortemError::Write { path, source }
    };
    tokio::fs::create_dir_all(directory)
        .await
        .map_err(failed(directory))?;
    tokio::fs::write(&written.picture, drawn)
        .await
        .map_err(failed(&written.picture))?;
    tokio::fs::write(&written.document, document(incident))
        .await
        .map_err(failed(&written.document))?;
    Ok(written)
}
