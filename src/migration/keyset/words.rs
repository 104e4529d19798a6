//! Keys and ranges of keys as people write them.

use sqlx::postgres::PgConnection;

use super::{KeyValue, Keyset};
use crate::migration::definition::Definition;

/// Characters of a value that are shown at most.
const SHOWN: usize = 60;

/// The names of a key's columns, by which its values are told: `id 4`, `(account_id, id) = (3, 17)`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyNames(Vec<String>);

impl KeyNames {
    /// The names of `columns`, as SQL spells them.
    pub fn new(columns: Vec<String>) -> Self {
        Self(columns)
    }

    /// The names in what [`Keyset::describe`] says: `account_id bigint, id bigint descending`.
    pub fn described(key: &str) -> Self {
        let (mut quoted, mut nested) = (false, 0);
        let parts = key.split(|c| {
            match c {
                '"' => quoted = !quoted,
                '(' if !quoted => nested += 1,
                ')' if !quoted => nested -= 1,
                _ => {}
            }
            c == ',' && !quoted && nested == 0
        });
        Self(parts.map(|part| name(part.trim())).collect())
    }

    /// The key by which a run of `definition` walks, where it can be found; without names a key is
    /// told by its values alone.
    pub async fn find(conn: &mut PgConnection, definition: &Definition) -> Self {
        if !definition.key.is_empty() {
            return Self(definition.key.clone());
        }
        let names = sqlx::query_scalar(
            "SELECT quote_ident(a.attname)
               FROM pg_index i
               CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY AS k (attnum, ord)
               JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
              WHERE i.indrelid = to_regclass($1) AND i.indisprimary AND k.ord <= i.indnkeyatts
              ORDER BY k.ord",
        );
        // A table that is gone, or whose name cannot be looked up, has no names to tell.
        Self(
            names
                .bind(&definition.table)
                .fetch_all(conn)
                .await
                .unwrap_or_default(),
        )
    }

    /// `id 4`; `(account_id, id) = (3, 17)` when the key has several columns.
    pub fn key(&self, key: &[String]) -> String {
        let values = values(key);
        match self.0.as_slice() {
            names if names.len() != key.len() => format!("key {values}"),
            [name] => format!("{name} {values}"),
            names => format!("({}) = {values}", names.join(", ")),
        }
    }

    /// The keys after `lower` up to and including `upper`: `after id 4 up to id 9`.
    pub fn range(&self, lower: Option<&KeyValue>, upper: &[String]) -> String {
        match lower {
            // The names of several columns are not told twice.
            Some(lower) if upper.len() > 1 => {
                format!("after {} up to {}", self.key(lower), values(upper))
            }
            Some(lower) => format!("after {} up to {}", self.key(lower), self.key(upper)),
            None => format!("from the beginning up to {}", self.key(upper)),
        }
    }
}

impl Keyset {
    /// The names of the key's columns.
    pub fn names(&self) -> KeyNames {
        KeyNames(self.columns.iter().map(|c| c.name.clone()).collect())
    }
}

/// The column's name at the beginning of `Name type`.
fn name(column: &str) -> String {
    let mut quoted = false;
    let name = column.split(|c| {
        quoted ^= c == '"';
        c == ' ' && !quoted
    });
    name.take(1).collect()
}

/// `4`, or `(3, 17)`.
fn values(key: &[String]) -> String {
    let values: Vec<_> = key.iter().map(|value| shown(value)).collect();
    match values.as_slice() {
        [value] => value.clone(),
        _ => format!("({})", values.join(", ")),
    }
}

/// A value as one writes it into SQL: in quotes, unless it is plain without them. What cannot be
/// printed is escaped, and what is very long is cut.
fn shown(value: &str) -> String {
    let length = value.chars().count();
    let mut text = String::new();
    for c in value.chars().take(SHOWN) {
        match c {
            '\'' => text.push_str("''"),
            c if c.is_control() => text.extend(c.escape_default()),
            c => text.push(c),
        }
    }
    let plain = |c: char| c.is_alphanumeric() || "_-.@+".contains(c);
    if length > SHOWN {
        return format!("'{text}…' ({length} characters)");
    }
    if text.is_empty() || !text.chars().all(plain) {
        return format!("'{text}'");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(values: &[&str]) -> KeyValue {
        values.iter().map(|&value| value.to_owned()).collect()
    }

    #[test]
    fn a_key_is_told_by_its_columns() {
        let names = KeyNames::new(key(&["id"]));
        assert_eq!(names.key(&key(&["4"])), "id 4");
        assert_eq!(
            names.range(Some(&key(&["4"])), &key(&["9"])),
            "after id 4 up to id 9"
        );
        assert_eq!(
            names.range(None, &key(&["9"])),
            "from the beginning up to id 9"
        );
        let names = KeyNames::new(key(&["account_id", "id"]));
        assert_eq!(names.key(&key(&["3", "17"])), "(account_id, id) = (3, 17)");
        assert_eq!(
            names.range(Some(&key(&["3", "17"])), &key(&["4", "1"])),
            "after (account_id, id) = (3, 17) up to (4, 1)"
        );
        // A table whose key has changed since, or is gone.
        assert_eq!(names.key(&key(&["3"])), "key 3");
        assert_eq!(KeyNames::default().key(&key(&["3", "4"])), "key (3, 4)");
    }

    #[test]
    fn a_value_is_quoted_where_it_must_be_and_cut_where_it_is_long() {
        for (value, told) in [
            ("-12.50", "-12.50"),
            ("zz-top@shop.example", "zz-top@shop.example"),
            ("", "''"),
            ("O'Hara", "'O''Hara'"),
            ("a, b", "'a, b'"),
            ("Some([\"4\"])", "'Some([\"4\"])'"),
            ("2026-12-01 10:00:00+00", "'2026-12-01 10:00:00+00'"),
            ("a\nb\u{1b}[31m", "'a\\nb\\u{1b}[31m'"),
            ("éclair", "éclair"),
        ] {
            assert_eq!(shown(value), told);
        }
        let long = shown(&"é".repeat(1000));
        assert!(long.chars().count() < 90, "{long}");
        assert!(long.ends_with("…' (1000 characters)"), "{long}");
    }

    #[test]
    fn names_are_read_from_a_described_key() {
        for (described, names) in [
            ("id bigint", vec!["id"]),
            (
                "account_id bigint, id bigint descending",
                vec!["account_id", "id"],
            ),
            (
                "price numeric(10,2), \"a, b\" text",
                vec!["price", "\"a, b\""],
            ),
            ("\"Order Id\" character varying(20)", vec!["\"Order Id\""]),
        ] {
            assert_eq!(KeyNames::described(described), KeyNames::new(key(&names)));
        }
    }
}
