//! What `serve` puts into a database before it serves.

use indicatif::{ProgressBar, ProgressStyle};
use sqlx::postgres::PgConnection;

use super::{Args, ServeError};
use crate::cli::database::Database;
use crate::config::Settings;
use crate::store::sample::{self, SampleError, SampleSize};

/// Has the shop's tables ready, and fills them with a sample where that is wanted.
pub(super) async fn prepare(
    database: &Database,
    settings: &Settings,
    args: &Args,
) -> Result<(), ServeError> {
    let (mut conn, is_new) = database.shop(args.create).await?;
    let size = SampleSize::default();
    let is_wanted = match settings.database.sample_shop {
        _ if args.sample_shop => sample::is_wanted(&mut conn, size).await?,
        Some(true) => sample::is_wanted(&mut conn, size).await?,
        Some(false) => false,
        // A shop that has lost its products is not filled again unasked.
        None => is_new && database.is_embedded() || sample::is_unfinished(&mut conn, size).await?,
    };
    if is_wanted {
        fill(&mut conn, size).await?;
    } else if sample::is_empty(&mut conn).await? {
        eprintln!(
            "the shop has no products: `evenkeel catalog import` loads yours, `evenkeel serve --sample-shop` \
             makes some up"
        );
    }
    Ok(())
}

async fn fill(conn: &mut PgConnection, size: SampleSize) -> Result<(), SampleError> {
    let style = ProgressStyle::with_template("filling the sample shop {bar:40} {percent} %");
    let bar =
        ProgressBar::new(1).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    let done = sample::fill(conn, size, &|done, total| {
        bar.set_length(total);
        bar.set_position(done);
    })
    .await;
    bar.finish_and_clear();
    match done {
        // A shop with products of its own needs no samples.
        Ok(()) | Err(SampleError::NotEmpty) => Ok(()),
        Err(err) => Err(err),
    }
}
