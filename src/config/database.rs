//! Settings of the database.

use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sqlx::postgres::PgConnectOptions;

use settings::bounds::above_zero;

use super::hidden;

/// Which PostgreSQL is used.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Database {
    /// A `postgres://` URL; without one an embedded server is started. Also read from `DATABASE_URL`.
    #[serde(
        skip_serializing_if = "Option::is_none",
        serialize_with = "super::hidden::url"
    )]
    #[schemars(extend("writeOnly" = true))]
    pub url: Option<String>,
    /// A `postgres://` URL that reaches PostgreSQL itself, where `url` leads through a pooler in
    /// transaction mode. What needs a session goes there: the SQL of migrations. Its connections count
    /// as the pool's.
    #[serde(
        skip_serializing_if = "Option::is_none",
        serialize_with = "super::hidden::url"
    )]
    #[schemars(extend("writeOnly" = true))]
    pub direct_url: Option<String>,
    /// Where the embedded server keeps its data; without one the user's data directory is used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_dir: Option<PathBuf>,
    /// Where PostgreSQL's programs are, for the embedded server. Also read from `PG_BIN_DIR`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bin_dir: Option<PathBuf>,
    /// How long opening a connection may take.
    #[serde(with = "settings::HumanTime")]
    pub connect_timeout: Duration,
    /// Bring the schema up to date at start. Off where a deployment does that in a step of its own.
    pub apply_schema: bool,
    /// Fill a shop without products with a sample shop at start. Without it an embedded server's is filled
    /// and no other.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sample_shop: Option<bool>,
}

impl Default for Database {
    fn default() -> Self {
        Self {
            url: None,
            direct_url: None,
            data_dir: None,
            bin_dir: None,
            connect_timeout: Duration::from_secs(1),
            apply_schema: true,
            sample_shop: None,
        }
    }
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let without_password = |url: &Option<String>| {
            url.as_ref()
                .map(|url| hidden::without_password(url, None).0)
        };
        f.debug_struct("Database")
            .field("url", &without_password(&self.url))
            .field("direct_url", &without_password(&self.direct_url))
            .field("data_dir", &self.data_dir)
            .field("bin_dir", &self.bin_dir)
            .field("connect_timeout", &self.connect_timeout)
            .field("apply_schema", &self.apply_schema)
            .field("sample_shop", &self.sample_shop)
            .finish()
    }
}

impl Database {
    /// Checks what types cannot express.
    ///
    /// # Errors
    /// A sentence that names the setting.
    pub(super) fn validate(&self) -> Result<(), String> {
        above_zero("database.connect_timeout", self.connect_timeout)?;
        database_url("database.url", self.url.as_deref())?;
        database_url("database.direct_url", self.direct_url.as_deref())?;
        if self.direct_url.is_some() && self.url.is_none() {
            return Err(
                "database.direct_url is another way to the database that database.url names, which is not \
                 set: set database.url (or DATABASE_URL) as well, or leave database.direct_url out"
                    .to_owned(),
            );
        }
        Ok(())
    }

    /// How PostgreSQL itself is reached, where that differs from `url`.
    ///
    /// # Errors
    /// When the URL is none; `Settings::validate` refuses it.
    pub fn direct(&self) -> Result<Option<PgConnectOptions>, sqlx::Error> {
        self.direct_url.as_deref().map(str::parse).transpose()
    }
}

/// Refuses what is no URL of a database. The sentence does not hold it, since a password may be in it.
pub(super) fn database_url(name: &str, url: Option<&str>) -> Result<(), String> {
    let Some(url) = url else {
        return Ok(());
    };
    let advice = "it should look like postgres://user@host/database";
    let known = ["postgres://", "postgresql://"];
    if !known.iter().any(|scheme| url.starts_with(scheme)) {
        return Err(format!("{name} cannot be used: {advice}"));
    }
    let (_, rest) = url.split_once("://").unwrap_or_default();
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    if !authority.contains('@') && path.contains('@') {
        return Err(format!(
            "{name} cannot be used: write / ? # and @ within a user's name or a password as %2F %3F %23 and \
             %40; {advice}"
        ));
    }
    match url.parse::<PgConnectOptions>() {
        Ok(_) => Ok(()),
        Err(err) => Err(format!("{name} cannot be used: {err}; {advice}")),
    }
}
