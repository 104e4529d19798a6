//! Every rule, with the safe way to do what it refuses.

use squawk_linter::Rule;

/// An UPDATE, DELETE, MERGE, read or copy of a whole table in one statement.
pub const UNBATCHED_WRITE: &str = "unbatched-write";
/// A statement that takes a strong lock, and one that then works under it.
pub const WRITE_UNDER_LOCK: &str = "write-under-lock";
/// LOCK TABLE.
pub const LOCK_TABLE: &str = "lock-table";
/// TRUNCATE.
pub const TRUNCATE: &str = "truncate-live-table";
/// A column whose addition rewrites the table.
pub const ADDING_FILLED_FIELD: &str = "adding-filled-field";
/// A column whose addition scans the table.
pub const ADDING_CHECKED_FIELD: &str = "adding-checked-field";
/// ALTER TABLE, VACUUM FULL and CLUSTER where they copy the table.
pub const REWRITING_TABLE: &str = "rewriting-table";
/// ATTACH PARTITION.
pub const ATTACHING_PARTITION: &str = "attaching-partition";
/// REFRESH MATERIALIZED VIEW without CONCURRENTLY.
pub const REFRESH_LOCKS: &str = "refresh-blocks-reads";
/// DO, CALL, EXECUTE, scripts of extensions, and functions that are not known.
pub const OPAQUE: &str = "opaque-statement";
/// A trigger or rule on a table that shoppers use.
pub const LIVE_TRIGGER_OR_RULE: &str = "live-trigger-or-rule";
/// What has an effect until its transaction ends only, where it is alone in it.
pub const NEEDS_TRANSACTION: &str = "needs-transaction";
/// An index that is built concurrently without a name.
pub const UNNAMED_INDEX: &str = "unnamed-concurrent-index";
/// CONCURRENTLY in a schema file.
pub const CONCURRENT_IN_TRANSACTION: &str = "concurrent-in-transaction";
/// BEGIN, COMMIT and ROLLBACK in a file whose transactions are Evenkeel's.
pub const TRANSACTION_CONTROL: &str = "transaction-control";
/// Commands and variables of psql.
pub const PSQL_COMMAND: &str = "psql-command";
/// A statement that is in no row of the table.
pub const UNKNOWN: &str = "unknown-statement";
/// A lock that writers or readers wait for, kept while every row is read.
pub const SCAN_UNDER_LOCK: &str = "scan-under-lock";
/// A column of a type that may be a domain with conditions.
pub const ADDING_UNKNOWN_TYPE: &str = "adding-unknown-type";
/// CREATE TABLE … PARTITION OF.
pub const CREATING_PARTITION: &str = "creating-partition";
/// CASCADE, REASSIGN OWNED, DROP OWNED, ALL IN TABLESPACE.
pub const REACHES_UNNAMED: &str = "reaches-unnamed-objects";
/// SET, PREPARE, LISTEN, temporary tables and whatever else a session keeps.
pub const OUTLIVES: &str = "outlives-statement";
/// `SET LOCAL lock_timeout = 0` and the like.
pub const LIFTS_TIME_LIMIT: &str = "lifts-time-limit";
/// Not SQL.
pub const SYNTAX: &str = "syntax-error";
/// Not the file that it is supposed to be.
pub const NOT_A_DEFINITION: &str = "not-a-definition";
/// `:range` where it limits nothing.
pub const RANGE_LIMITS_NOTHING: &str = "range-limits-nothing";
/// A background statement that locks rows of a table other than its own.
pub const LOCKS_OTHER_TABLE: &str = "locks-other-table";
/// A pending condition that asks for the time or the session.
pub const PENDING_CHANGES: &str = "pending-changes-by-itself";
/// A comparison with NULL in a pending condition.
pub const NEVER_TRUE: &str = "never-true";
/// An exception without a reason.
pub const UNREASONED_EXCEPTION: &str = "exception-without-reason";
/// An exception for a rule that does not exist.
pub const UNKNOWN_EXCEPTION: &str = "exception-for-unknown-rule";
/// An exception that accepts nothing.
pub const UNUSED_EXCEPTION: &str = "unused-exception";

/// Rules that no exception silences.
pub const ABOUT_EXCEPTIONS: [&str; 3] = [UNREASONED_EXCEPTION, UNKNOWN_EXCEPTION, UNUSED_EXCEPTION];

/// Our own rules, each with the safe way.
pub const OWN: [(&str, &str); 32] = [
    (
        UNBATCHED_WRITE,
        "a background migration: `evenkeel migrate new NAME`",
    ),
    (
        WRITE_UNDER_LOCK,
        "the schema change alone in one file, the rows in a background migration",
    ),
    (
        LOCK_TABLE,
        "lock the rows that matter (SELECT … FOR UPDATE), or build a constraint that needs no lock",
    ),
    (
        TRUNCATE,
        "DELETE in a background migration, or swap in a new table",
    ),
    (
        ADDING_FILLED_FIELD,
        "add the column without it, set the default separately, fill old rows in a background migration",
    ),
    (
        ADDING_CHECKED_FIELD,
        "add the column alone, then ADD CONSTRAINT … NOT VALID, then VALIDATE CONSTRAINT as a step of its own",
    ),
    (
        REWRITING_TABLE,
        "pg_repack, a plain VACUUM, or a new table that a background migration fills",
    ),
    (
        ATTACHING_PARTITION,
        "first a CHECK of the partition's bounds, NOT VALID and then validated: with it ATTACH scans nothing; then say so in an exception",
    ),
    (
        REFRESH_LOCKS,
        "REFRESH MATERIALIZED VIEW CONCURRENTLY, which needs a unique index on the view",
    ),
    (
        OPAQUE,
        "the statements themselves, which the lint can read; rows in a background migration; what you have looked at, in an exception",
    ),
    (
        LIVE_TRIGGER_OR_RULE,
        "the same in the application's code; or find out what it locks and how long it takes, and say so in an exception",
    ),
    (
        NEEDS_TRANSACTION,
        "nothing for a lock_timeout in Evenkeel's files, which have one; elsewhere BEGIN before it and COMMIT after what it is for, or, where the tool that runs the file does that, an exception that says so",
    ),
    (
        UNNAMED_INDEX,
        "give the index a name, by which an invalid one left by a failed try is found",
    ),
    (
        CONCURRENT_IN_TRANSACTION,
        "a change (docs/migrations.md), which runs it outside a transaction",
    ),
    (
        TRANSACTION_CONTROL,
        "the statements alone: Evenkeel opens the transaction and commits its own note of it with them",
    ),
    (
        PSQL_COMMAND,
        "the SQL itself, with values in place of variables; give files that `\\i` names to the lint by themselves",
    ),
    (
        UNKNOWN,
        "find out which locks it takes; then say so in an exception",
    ),
    (
        SCAN_UNDER_LOCK,
        "where there is a form of it that is NOT VALID or CONCURRENTLY, that one; else a new table or column that a background migration fills",
    ),
    (
        ADDING_UNKNOWN_TYPE,
        "when it is a domain with conditions, a column of its base type and a constraint that is added NOT VALID and then validated; else say so in an exception",
    ),
    (
        CREATING_PARTITION,
        "CREATE TABLE … (LIKE parent INCLUDING ALL), then ALTER TABLE … ATTACH PARTITION, for which readers and writers of the parent do not wait",
    ),
    (
        REACHES_UNNAMED,
        "name every object in a statement of its own, without CASCADE",
    ),
    (
        OUTLIVES,
        "SET LOCAL, set_config(…, true), ON COMMIT DROP, pg_advisory_xact_lock: what ends with the transaction; roles and databases are set up outside migrations",
    ),
    (
        LIFTS_TIME_LIMIT,
        "leave the limits as they are; what needs more time belongs into a background migration or CONCURRENTLY",
    ),
    (SYNTAX, "SQL that PostgreSQL understands"),
    (
        NOT_A_DEFINITION,
        "the header and the sections that docs/migrations.md describes",
    ),
    (
        RANGE_LIMITS_NOTHING,
        "`WHERE :range`, in the statement that changes the rows or in the query that chooses them",
    ),
    (
        LOCKS_OTHER_TABLE,
        "read other tables without FOR UPDATE or FOR SHARE, and change them in a migration of their own",
    ),
    (
        PENDING_CHANGES,
        "ask for what the statement writes, and for a point of time that is written down",
    ),
    (NEVER_TRUE, "IS NULL, IS NOT NULL, IS DISTINCT FROM"),
    (UNREASONED_EXCEPTION, "-- lint: allow RULE because REASON"),
    (UNKNOWN_EXCEPTION, "one of the rules in docs/migrations.md"),
    (
        UNUSED_EXCEPTION,
        "remove it, or put it directly above the statement that it is about",
    ),
];

/// The rules of squawk that are about locks, rewrites, scans, and processes of the version before,
/// each with the safe way. Its others are about taste.
pub const SQUAWK: [(Rule, &str, &str); 20] = [
    (
        Rule::RequireConcurrentIndexCreation,
        "require-concurrent-index-creation",
        "CREATE INDEX CONCURRENTLY in a change (docs/migrations.md), which runs it outside a transaction",
    ),
    (
        Rule::RequireConcurrentIndexDeletion,
        "require-concurrent-index-deletion",
        "DROP INDEX CONCURRENTLY in a change (docs/migrations.md), which runs it outside a transaction",
    ),
    (
        Rule::RequireConcurrentReindex,
        "require-concurrent-reindex",
        "REINDEX … CONCURRENTLY",
    ),
    (
        Rule::RequireConcurrentPartitionDetach,
        "require-concurrent-partition-detach",
        "ALTER TABLE … DETACH PARTITION … CONCURRENTLY",
    ),
    (
        Rule::BanConcurrentIndexCreationInTransaction,
        "ban-concurrent-index-creation-in-transaction",
        "a change (docs/migrations.md), which runs it outside a transaction",
    ),
    (
        Rule::ConstraintMissingNotValid,
        "constraint-missing-not-valid",
        "ADD CONSTRAINT … NOT VALID, then VALIDATE CONSTRAINT in a transaction of its own; in a change both are steps",
    ),
    (
        Rule::AddingForeignKeyConstraint,
        "adding-foreign-key-constraint",
        "ADD CONSTRAINT … FOREIGN KEY … NOT VALID, then VALIDATE CONSTRAINT in a transaction of its own",
    ),
    (
        Rule::DisallowedUniqueConstraint,
        "disallowed-unique-constraint",
        "CREATE UNIQUE INDEX CONCURRENTLY, then ADD CONSTRAINT … UNIQUE USING INDEX",
    ),
    (
        Rule::AddingSerialPrimaryKeyField,
        "adding-serial-primary-key-field",
        "CREATE UNIQUE INDEX CONCURRENTLY on columns that are NOT NULL (a validated CHECK, then SET NOT NULL), then ADD CONSTRAINT … PRIMARY KEY USING INDEX",
    ),
    (
        Rule::AddingFieldWithDefault,
        "adding-field-with-default",
        "add the column without it, set the default separately, fill old rows in a background migration",
    ),
    (
        Rule::AddingNotNullableField,
        "adding-not-nullable-field",
        "ADD CONSTRAINT … CHECK (c IS NOT NULL) NOT VALID, VALIDATE CONSTRAINT, SET NOT NULL, drop the constraint: each a step of a change",
    ),
    (
        Rule::AddingRequiredField,
        "adding-required-field",
        "add the column nullable or with a constant default, fill it in a background migration, then require it",
    ),
    (
        Rule::ChangingColumnType,
        "changing-column-type",
        "a new column, filled by a background migration, and the old one dropped once nothing reads it",
    ),
    (
        Rule::RenamingColumn,
        "renaming-column",
        "a new column that is filled by a background migration: processes of the version before still use the old name",
    ),
    (
        Rule::RenamingTable,
        "renaming-table",
        "a view of the old name in the same transaction: processes of the version before still use it",
    ),
    (
        Rule::BanDropColumn,
        "ban-drop-column",
        "the contract step of a change, once no process reads it",
    ),
    (
        Rule::BanDropTable,
        "ban-drop-table",
        "the contract step of a change, once no process reads it",
    ),
    (
        Rule::BanDropDatabase,
        "ban-drop-database",
        "nothing that a migration file should do",
    ),
    (
        Rule::BanTruncateCascade,
        "ban-truncate-cascade",
        "DELETE in background migrations, table by table",
    ),
    (
        Rule::RequireLockTimeout,
        "require-lock-timeout",
        "SET lock_timeout = '200ms' first, and try again later",
    ),
];

/// Those of [`SQUAWK`] that squawk itself looks for; the others follow from the table of statements.
pub const LEFT_TO_SQUAWK: [Rule; 9] = [
    Rule::BanConcurrentIndexCreationInTransaction,
    Rule::ConstraintMissingNotValid,
    Rule::AddingRequiredField,
    Rule::RenamingColumn,
    Rule::RenamingTable,
    Rule::BanDropColumn,
    Rule::BanDropTable,
    Rule::BanDropDatabase,
    Rule::BanTruncateCascade,
];

/// The safe way to do what `rule` refuses.
pub fn instead(rule: &str) -> &'static str {
    let own = OWN.iter().find(|(name, _)| *name == rule);
    let squawk = || SQUAWK.iter().find(|(_, name, _)| *name == rule);
    own.map(|(_, instead)| *instead)
        .or_else(|| squawk().map(|(_, _, instead)| *instead))
        .unwrap_or_default()
}

/// Whether there is such a rule.
pub fn is_known(rule: &str) -> bool {
    !instead(rule).is_empty()
}
