//! Whose fault an error is: what its SQLSTATE says, for every class that PostgreSQL has.

use pool::PoolError;

/// Whose fault an error is, and so what can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The rows': other rows can be changed. They are tried in smaller batches, then set aside.
    Row,
    /// Somebody else's work was in the way: the same can work a little later.
    Contention,
    /// The session is gone, or not what it was: the same can work in another one.
    Lost,
    /// Something around the database is missing, such as disk space: the same can work once that is
    /// mended.
    Environment,
    /// The statement's, the schema's or the settings': neither time nor other rows help.
    Permanent,
    /// The answer cannot be read: it would be the same again.
    Unreadable,
    /// No error: shoppers have the connections.
    Busy,
}

impl Fault {
    /// Whether the same can work a little later.
    pub fn passes(self) -> bool {
        match self {
            Self::Contention | Self::Lost | Self::Environment | Self::Busy => true,
            Self::Row | Self::Permanent | Self::Unreadable => false,
        }
    }
}

use Fault::{Contention, Environment, Lost, Permanent, Row};

/// What the beginnings of SQLSTATEs mean, with the reason; the longest that fits counts.
pub const FAULTS: &[(&str, Fault)] = &[
    ("03", Permanent),     // the SQL is not complete
    ("08", Lost),          // the connection broke, or a foreign server's
    ("09", Row),           // a trigger's action failed for these rows
    ("0A", Permanent),     // PostgreSQL cannot do that
    ("0B", Permanent),     // a transaction is begun where none can be
    ("0F", Permanent),     // a large object is used wrongly
    ("0L", Permanent),     // a grant by whoever may not
    ("0P", Permanent),     // no such role
    ("0Z", Permanent),     // a function asks for diagnostics where there are none
    ("10", Row),           // XML of these rows cannot be searched
    ("20", Row),           // no branch of a CASE fits these rows
    ("21", Row),           // a subquery finds several rows for one of these
    ("22", Row),           // a value of these rows cannot be converted or computed with
    ("23", Row),           // these rows break a constraint
    ("24", Permanent),     // a function uses a cursor wrongly
    ("25", Permanent),     // not possible in this kind of transaction
    ("25006", Lost),       // a session made read-only, or of a server that became a replica
    ("25P03", Lost),       // the server ended a session that was silent in a transaction
    ("25P04", Lost),       // the server ended a session whose transaction took too long
    ("26", Lost),          // what we had prepared is gone from the session
    ("27", Row),           // a trigger has changed the very row that was to be changed
    ("28", Permanent),     // the server does not let this role in
    ("2B", Permanent),     // something still depends on what is dropped
    ("2D", Permanent),     // the SQL ends the transaction that it is in
    ("2F", Row),           // a function came to no result for these rows
    ("2F003", Permanent),  // a function runs what it must not
    ("34", Permanent),     // no such cursor
    ("38", Row),           // a function in another language failed for these rows
    ("39", Row),           // a function in another language got or gave what it must not
    ("39P", Permanent),    // a trigger's function is none
    ("3B", Permanent),     // no such savepoint
    ("3D", Permanent),     // no such database
    ("3F", Permanent),     // no such schema
    ("40", Contention),    // other transactions were in the way
    ("40002", Row),        // these rows break a constraint at the end of the transaction
    ("40003", Lost),       // whether the statement was done is not known
    ("42", Permanent),     // the database does not understand or permit the SQL
    ("42P05", Lost),       // the session has something prepared under a name of ours
    ("44", Row),           // these rows break the condition of a view
    ("53", Environment),   // the server lacks connections, memory or disk space
    ("53400", Row),        // more than a limit of the server allows; fewer rows may need less
    ("54", Row),           // a value is too large, for an index for example
    ("55", Permanent),     // a table or a setting is not in the state that this needs
    ("55P03", Contention), // somebody holds the lock
    ("57", Environment),   // the server's operator has intervened
    ("57014", Contention), // the statement took too long, or was cancelled
    ("57P", Lost),         // the server ended the session or is going down
    ("58", Environment),   // the server's disk or system failed
    ("58P", Permanent),    // a file that the server needs is missing, or in the way
    ("72", Contention),    // the snapshot is too old
    ("F0", Permanent),     // the server's configuration is wrong
    ("HV", Environment),   // a foreign server failed
    ("P0", Row),           // a function or trigger refuses these rows
    ("XX", Row),           // PostgreSQL did not expect this of these rows
    ("XX001", Permanent),  // the table's data is damaged
    ("XX002", Permanent),  // an index is damaged, so that no walk by it is complete
];

/// Whose fault the SQLSTATE `code` is. One that PostgreSQL does not define was chosen by whoever wrote
/// a trigger or function, for the rows that it refuses; what is set aside is bounded.
pub fn of_sqlstate(code: &str) -> Fault {
    let fits = FAULTS.iter().filter(|(start, _)| code.starts_with(start));
    fits.max_by_key(|(start, _)| start.len())
        .map_or(Row, |(_, fault)| *fault)
}

/// Whose fault an error of the driver is.
pub fn of_driver(err: &sqlx::Error) -> Fault {
    match err {
        sqlx::Error::Database(err) => err.code().map_or(Permanent, |code| of_sqlstate(&code)),
        sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::BeginFailed => Lost,
        // Of ours: a key that cannot be stored.
        sqlx::Error::InvalidArgument(_) => Permanent,
        // The server's answer, or what we make of it: asked again it would be the same.
        _ => Fault::Unreadable,
    }
}

/// Whose fault it is that there was no connection, or that it was kept for too long.
pub fn of_pool(err: &PoolError) -> Fault {
    match err {
        PoolError::Saturated { .. } => Fault::Busy,
        PoolError::TimedOut { .. } | PoolError::Closed => Lost,
        PoolError::Pooler(_) => Permanent,
        PoolError::Connect(err) => of_driver(err),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Classes in PostgreSQL's appendix of error codes, except those that are no errors.
    const CLASSES: &str = "03 08 09 0A 0B 0F 0L 0P 0Z 10 20 21 22 23 24 25 26 27 28 2B 2D 2F 34 38 39 \
                           3B 3D 3F 40 42 44 53 54 55 57 58 72 F0 HV P0 XX";

    #[test]
    fn every_class_of_errors_is_somebodys_fault() {
        for class in CLASSES.split_whitespace() {
            assert!(FAULTS.iter().any(|(start, _)| *start == class), "{class}");
        }
        let starts: BTreeSet<_> = FAULTS.iter().map(|(start, _)| start).collect();
        assert_eq!(starts.len(), FAULTS.len(), "none stands twice");
    }

    #[test]
    fn the_code_itself_counts_before_its_class() {
        for (code, fault) in [
            ("23514", Row),
            ("22021", Row),
            ("P0001", Row),
            ("SHOP1", Row),
            ("40P01", Contention),
            ("40001", Contention),
            ("55P03", Contention),
            ("57014", Contention),
            ("55000", Permanent),
            ("42501", Permanent),
            ("42P05", Lost),
            ("57P01", Lost),
            ("57P02", Lost),
            ("08006", Lost),
            ("25006", Lost),
            ("25001", Permanent),
            ("53100", Environment),
            ("53400", Row),
            ("58030", Environment),
            ("58P01", Permanent),
            ("XX000", Row),
            ("XX002", Permanent),
        ] {
            assert_eq!(of_sqlstate(code), fault, "{code}");
        }
    }

    #[test]
    fn an_answer_that_cannot_be_read_is_no_lost_connection() {
        let unreadable = sqlx::Error::Decode("invalid utf-8 sequence".into());
        assert_eq!(of_driver(&unreadable), Fault::Unreadable);
        let gone = sqlx::Error::Io(std::io::ErrorKind::ConnectionReset.into());
        assert_eq!(of_driver(&gone), Lost);
    }
}
