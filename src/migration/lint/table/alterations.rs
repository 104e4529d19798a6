//! The subcommands of ALTER.

use squawk_syntax::SyntaxKind::{self, *};

use super::Given::{
    CheckedDomain, Concurrently, Has, NoDefault, ProvenNotNull, ReadingOption, Serial, UnknownType,
    VolatileDefault,
};
use super::Lock::*;
use super::On::*;
use super::Work::{MayRewrite, MayScan};
use super::{Row, looks, rewrites, rows, scans, takes, touch};

/// The statements whose effect does not depend on the subcommand have one row.
pub const ALTERATIONS: &[&[Row]] = rows! {
    "ALTER TABLE" "sql-altertable" ALTER_TABLE {
        ADD_COLUMN [Has(GENERATED_IDENTITY)] (rewrites(Family, AccessExclusive), takes(Referenced, ShareRowExclusive)) "adding-filled-field";
        ADD_COLUMN [Has(GENERATED_CONSTRAINT)] (rewrites(Family, AccessExclusive), takes(Referenced, ShareRowExclusive)) "adding-field-with-default";
        ADD_COLUMN [Serial] (rewrites(Family, AccessExclusive), takes(Referenced, ShareRowExclusive)) "adding-filled-field";
        ADD_COLUMN [VolatileDefault] (rewrites(Family, AccessExclusive), takes(Referenced, ShareRowExclusive)) "adding-field-with-default";
        ADD_COLUMN [CheckedDomain] (rewrites(Family, AccessExclusive), takes(Referenced, ShareRowExclusive)) "adding-checked-field";
        ADD_COLUMN [Has(PRIMARY_KEY_CONSTRAINT)] (scans(Family, AccessExclusive)) "adding-serial-primary-key-field";
        ADD_COLUMN [Has(UNIQUE_CONSTRAINT)] (scans(Family, AccessExclusive)) "disallowed-unique-constraint";
        ADD_COLUMN [Has(CHECK_CONSTRAINT)] (scans(Family, AccessExclusive), takes(Referenced, ShareRowExclusive)) "adding-checked-field";
        ADD_COLUMN [UnknownType] (touch(Family, AccessExclusive, MayRewrite), takes(Referenced, ShareRowExclusive)) "adding-unknown-type";
        ADD_COLUMN [Has(REFERENCES_CONSTRAINT), Has(DEFAULT_CONSTRAINT)] (scans(Family, AccessExclusive), looks(Referenced, ShareRowExclusive)) "adding-foreign-key-constraint";
        ADD_COLUMN [Has(NOT_NULL_CONSTRAINT), NoDefault] (scans(Family, AccessExclusive), takes(Referenced, ShareRowExclusive)) "adding-required-field";
        ADD_COLUMN (takes(Family, AccessExclusive), takes(Referenced, ShareRowExclusive));
        ADD_CONSTRAINT [Has(FOREIGN_KEY_CONSTRAINT), Has(NOT_VALID)] (takes(Named, ShareRowExclusive), takes(Referenced, ShareRowExclusive));
        ADD_CONSTRAINT [Has(FOREIGN_KEY_CONSTRAINT)] (scans(Family, ShareRowExclusive), looks(Referenced, ShareRowExclusive)) "adding-foreign-key-constraint";
        ADD_CONSTRAINT [Has(USING_INDEX_NAME), Has(PRIMARY_KEY_CONSTRAINT), ProvenNotNull] (takes(Named, AccessExclusive));
        ADD_CONSTRAINT [Has(USING_INDEX_NAME), Has(PRIMARY_KEY_CONSTRAINT)] (touch(Named, AccessExclusive, MayScan)) "adding-not-nullable-field";
        ADD_CONSTRAINT [Has(USING_INDEX_NAME)] (takes(Named, AccessExclusive));
        ADD_CONSTRAINT [Has(UNIQUE_CONSTRAINT)] (scans(Family, AccessExclusive)) "disallowed-unique-constraint";
        ADD_CONSTRAINT [Has(PRIMARY_KEY_CONSTRAINT)] (scans(Family, AccessExclusive)) "adding-serial-primary-key-field";
        ADD_CONSTRAINT [Has(EXCLUDE_CONSTRAINT)] (scans(Family, AccessExclusive));
        ADD_CONSTRAINT [Has(NOT_VALID)] (takes(Family, AccessExclusive));
        ADD_CONSTRAINT (scans(Family, AccessExclusive)) "constraint-missing-not-valid";
        ADD_GENERATED (takes(Named, AccessExclusive));
        ALL_IN_TABLESPACE (rewrites(Everything, AccessExclusive)) "reaches-unnamed-objects";
        ALTER_CONSTRAINT (takes(Family, AccessExclusive), takes(Related, AccessExclusive));
        ALTER_OPTION_LIST (takes(Named, AccessExclusive));
        ATTACH_PARTITION (takes(Named, ShareUpdateExclusive), scans(Part, AccessExclusive), scans(DefaultPartition, AccessExclusive), takes(Related, ShareRowExclusive)) "attaching-partition";
        CLUSTER_ON (takes(Named, ShareUpdateExclusive));
        DETACH_PARTITION [Concurrently] (takes(Named, ShareUpdateExclusive), takes(Part, AccessExclusive));
        DETACH_PARTITION [Has(DETACH_FINALIZE)] (takes(Named, ShareUpdateExclusive), takes(Part, AccessExclusive));
        DETACH_PARTITION (takes(Named, AccessExclusive), takes(Part, AccessExclusive), takes(DefaultPartition, AccessExclusive)) "require-concurrent-partition-detach";
        DISABLE_RLS (takes(Named, AccessExclusive));
        DISABLE_RULE (takes(Named, AccessExclusive));
        DISABLE_TRIGGER (takes(Family, ShareRowExclusive));
        DROP_COLUMN (takes(Family, AccessExclusive), takes(Related, AccessExclusive), takes(Sequences, AccessExclusive));
        DROP_CONSTRAINT (takes(Family, AccessExclusive), takes(Related, AccessExclusive));
        DROP_DEFAULT (takes(Family, AccessExclusive));
        DROP_EXPRESSION (takes(Family, AccessExclusive));
        DROP_IDENTITY (takes(Named, AccessExclusive), takes(Sequences, AccessExclusive));
        DROP_NOT_NULL (takes(Family, AccessExclusive));
        ENABLE_ALWAYS_RULE (takes(Named, AccessExclusive));
        ENABLE_ALWAYS_TRIGGER (takes(Family, ShareRowExclusive));
        ENABLE_REPLICA_RULE (takes(Named, AccessExclusive));
        ENABLE_REPLICA_TRIGGER (takes(Family, ShareRowExclusive));
        ENABLE_RLS (takes(Named, AccessExclusive));
        ENABLE_RULE (takes(Named, AccessExclusive));
        ENABLE_TRIGGER (takes(Family, ShareRowExclusive));
        FORCE_RLS (takes(Named, AccessExclusive));
        INHERIT_TABLE (takes(Named, AccessExclusive), takes(Parent, ShareUpdateExclusive));
        NO_FORCE_RLS (takes(Named, AccessExclusive));
        NO_INHERIT_TABLE (takes(Named, AccessExclusive), takes(Parent, AccessShare));
        NOT_OF (takes(Named, AccessExclusive));
        OF_TYPE (takes(Named, AccessExclusive));
        OPTION_ITEM_LIST (takes(Named, AccessExclusive));
        OWNER_TO (takes(Named, AccessExclusive), takes(Sequences, AccessExclusive));
        RENAME_COLUMN (takes(Family, AccessExclusive));
        RENAME_CONSTRAINT (takes(Family, AccessExclusive));
        REPLICA_IDENTITY (takes(Named, AccessExclusive));
        RESET_OPTIONS [ReadingOption] (takes(Family, AccessExclusive));
        RESET_OPTIONS (takes(Family, ShareUpdateExclusive));
        RESTART (takes(Named, AccessExclusive), takes(Sequences, ShareRowExclusive));
        SET_ACCESS_METHOD (rewrites(Named, AccessExclusive));
        SET_COMPRESSION (takes(Family, AccessExclusive));
        SET_DEFAULT (takes(Family, AccessExclusive));
        SET_EXPRESSION (rewrites(Family, AccessExclusive));
        SET_GENERATED (takes(Named, AccessExclusive), takes(Sequences, ShareRowExclusive));
        SET_GENERATED_OPTIONS (takes(Named, AccessExclusive), takes(Sequences, ShareRowExclusive));
        SET_LOGGED (rewrites(Named, AccessExclusive), takes(Sequences, AccessExclusive));
        SET_NOT_NULL [ProvenNotNull] (takes(Family, AccessExclusive));
        SET_NOT_NULL (scans(Family, AccessExclusive)) "adding-not-nullable-field";
        SET_OPTIONS [ReadingOption] (takes(Family, AccessExclusive));
        SET_OPTIONS (takes(Family, ShareUpdateExclusive));
        SET_OPTIONS_LIST (takes(Family, AccessExclusive));
        SET_SCHEMA (takes(Named, AccessExclusive), takes(Sequences, AccessExclusive)) "renaming-table";
        SET_SEQUENCE_OPTION (takes(Named, AccessExclusive), takes(Sequences, ShareRowExclusive));
        SET_STATISTICS (takes(Family, ShareUpdateExclusive));
        SET_STORAGE (takes(Family, AccessExclusive));
        SET_TABLESPACE (rewrites(Named, AccessExclusive));
        SET_TYPE (touch(Family, AccessExclusive, MayRewrite), takes(Related, AccessExclusive), takes(Sequences, AccessExclusive)) "changing-column-type";
        SET_UNLOGGED (rewrites(Named, AccessExclusive), takes(Sequences, AccessExclusive));
        SET_WITHOUT_CLUSTER (takes(Named, ShareUpdateExclusive));
        SET_WITHOUT_OIDS (takes(Family, AccessExclusive));
        TABLE_RENAME_TO (takes(Named, AccessExclusive));
        VALIDATE_CONSTRAINT (scans(Family, ShareUpdateExclusive), looks(Related, RowShare));
    }
    "ALTER INDEX" "sql-alterindex" ALTER_INDEX {
        ALL_IN_TABLESPACE (rewrites(Everything, AccessExclusive)) "reaches-unnamed-objects";
        ALTER_SET_STATISTICS (takes(Named, ShareUpdateExclusive));
        ATTACH_INDEX_PARTITION (takes(Named, ShareUpdateExclusive), takes(Part, AccessExclusive));
        DEPENDS_ON_EXTENSION (takes(Named, AccessExclusive));
        INDEX_RENAME_TO (takes(Named, ShareUpdateExclusive));
        NO_DEPENDS_ON_EXTENSION (takes(Named, AccessExclusive));
        RESET_OPTIONS [ReadingOption] (takes(Named, AccessExclusive));
        RESET_OPTIONS (takes(Named, ShareUpdateExclusive));
        SET_OPTIONS [ReadingOption] (takes(Named, AccessExclusive));
        SET_OPTIONS (takes(Named, ShareUpdateExclusive));
        SET_TABLESPACE (rewrites(Named, AccessExclusive));
    }
    "ALTER SEQUENCE" "sql-altersequence" ALTER_SEQUENCE {
        OWNER_TO (takes(Named, AccessExclusive));
        SEQUENCE_RENAME_TO (takes(Named, AccessExclusive));
        SET_LOGGED (takes(Named, AccessExclusive));
        SET_SCHEMA (takes(Named, AccessExclusive));
        SET_UNLOGGED (takes(Named, AccessExclusive));
        OPTION_AS_TYPE (takes(Named, ShareRowExclusive));
        OPTION_CACHE (takes(Named, ShareRowExclusive));
        OPTION_CYCLE (takes(Named, ShareRowExclusive));
        OPTION_INCREMENT (takes(Named, ShareRowExclusive));
        OPTION_MAX_VALUE (takes(Named, ShareRowExclusive));
        OPTION_MIN_VALUE (takes(Named, ShareRowExclusive));
        OPTION_NO_CYCLE (takes(Named, ShareRowExclusive));
        OPTION_NO_MAX_VALUE (takes(Named, ShareRowExclusive));
        OPTION_NO_MIN_VALUE (takes(Named, ShareRowExclusive));
        OPTION_OWNED_BY (takes(Named, ShareRowExclusive), takes(Table, AccessShare));
        OPTION_RESTART (takes(Named, ShareRowExclusive));
        OPTION_START (takes(Named, ShareRowExclusive));
    }
    "ALTER VIEW" "sql-alterview" ALTER_VIEW {
        DROP_DEFAULT (takes(Named, AccessExclusive));
        OWNER_TO (takes(Named, AccessExclusive));
        RENAME_COLUMN (takes(Named, AccessExclusive)) "renaming-column";
        RESET_OPTIONS (takes(Named, AccessExclusive));
        SET_DEFAULT (takes(Named, AccessExclusive));
        SET_OPTIONS (takes(Named, AccessExclusive));
        SET_SCHEMA (takes(Named, AccessExclusive)) "renaming-table";
        VIEW_RENAME_TO (takes(Named, AccessExclusive)) "renaming-table";
    }
    "ALTER MATERIALIZED VIEW" "sql-altermaterializedview" ALTER_MATERIALIZED_VIEW {
        ALL_IN_TABLESPACE (rewrites(Everything, AccessExclusive)) "reaches-unnamed-objects";
        CLUSTER_ON (takes(Named, ShareUpdateExclusive));
        DEPENDS_ON_EXTENSION (takes(Named, AccessExclusive));
        NO_DEPENDS_ON_EXTENSION (takes(Named, AccessExclusive));
        OWNER_TO (takes(Named, AccessExclusive));
        RENAME_COLUMN (takes(Named, AccessExclusive)) "renaming-column";
        RESET_OPTIONS (takes(Named, ShareUpdateExclusive));
        SET_ACCESS_METHOD (rewrites(Named, AccessExclusive));
        SET_COMPRESSION (takes(Named, AccessExclusive));
        SET_OPTIONS (takes(Named, ShareUpdateExclusive));
        SET_SCHEMA (takes(Named, AccessExclusive)) "renaming-table";
        SET_STATISTICS (takes(Named, ShareUpdateExclusive));
        SET_STORAGE (takes(Named, AccessExclusive));
        SET_TABLESPACE (rewrites(Named, AccessExclusive));
        SET_WITHOUT_CLUSTER (takes(Named, ShareUpdateExclusive));
        VIEW_RENAME_TO (takes(Named, AccessExclusive)) "renaming-table";
    }
    "ALTER DOMAIN" "sql-alterdomain" ALTER_DOMAIN {
        ADD_CONSTRAINT [Has(NOT_VALID)] ();
        ADD_CONSTRAINT (scans(Users, Share));
        DOMAIN_RENAME_TO ();
        DROP_CONSTRAINT ();
        DROP_DEFAULT ();
        DROP_NOT_NULL ();
        OWNER_TO ();
        RENAME_CONSTRAINT ();
        SET_DEFAULT ();
        SET_NOT_NULL (scans(Users, Share));
        SET_SCHEMA ();
        VALIDATE_CONSTRAINT (scans(Users, Share));
    }
    "ALTER TYPE" "sql-altertype" ALTER_TYPE {
        ADD_ATTRIBUTE [Has(CASCADE), CheckedDomain] (takes(Type, AccessExclusive), rewrites(Users, AccessExclusive));
        ADD_ATTRIBUTE [Has(CASCADE), UnknownType] (takes(Type, AccessExclusive), touch(Users, AccessExclusive, MayRewrite));
        ADD_ATTRIBUTE [Has(CASCADE)] (takes(Type, AccessExclusive), takes(Users, AccessExclusive));
        ADD_ATTRIBUTE (takes(Type, AccessExclusive));
        ADD_VALUE ();
        ALTER_ATTRIBUTE [Has(CASCADE)] (takes(Type, AccessExclusive), touch(Users, AccessExclusive, MayRewrite));
        ALTER_ATTRIBUTE (takes(Type, AccessExclusive));
        DROP_ATTRIBUTE [Has(CASCADE)] (takes(Type, AccessExclusive), takes(Users, AccessExclusive));
        DROP_ATTRIBUTE (takes(Type, AccessExclusive));
        OWNER_TO (takes(Type, AccessExclusive));
        RENAME_ATTRIBUTE [Has(CASCADE)] (takes(Type, AccessExclusive), takes(Users, AccessExclusive));
        RENAME_ATTRIBUTE (takes(Type, AccessExclusive));
        RENAME_VALUE ();
        SET_OPTIONS ();
        SET_SCHEMA ();
        TYPE_RENAME_TO (takes(Type, AccessExclusive));
    }
    "ALTER PUBLICATION" "sql-alterpublication" ALTER_PUBLICATION {
        ALTER_PUBLICATION [Has(SET_PUBLICATION_OBJECTS)] (takes(Family, ShareUpdateExclusive), takes(Dependents, ShareUpdateExclusive));
        ALTER_PUBLICATION (takes(Family, ShareUpdateExclusive));
    }
    "ALTER STATISTICS" "sql-alterstatistics" ALTER_STATISTICS {}
    "ALTER EXTENSION" "sql-alterextension" ALTER_EXTENSION {
        ALTER_EXTENSION_UPDATE () "opaque-statement";
        ALTER_EXTENSION_ADD (takes(Named, ShareUpdateExclusive));
        ALTER_EXTENSION_DROP (takes(Named, ShareUpdateExclusive));
        SET_SCHEMA (takes(Dependents, AccessExclusive)) "reaches-unnamed-objects";
    }
    "ALTER POLICY" "sql-alterpolicy" ALTER_POLICY { ALTER_POLICY (takes(Named, AccessExclusive)); }
    "ALTER RULE" "sql-alterrule" ALTER_RULE { ALTER_RULE (takes(Named, AccessExclusive)); }
    "ALTER TRIGGER" "sql-altertrigger" ALTER_TRIGGER { ALTER_TRIGGER (takes(Family, AccessExclusive)); }

    "ALTER AGGREGATE" "sql-alteraggregate" ALTER_AGGREGATE {}
    "ALTER COLLATION" "sql-altercollation" ALTER_COLLATION {}
    "ALTER CONVERSION" "sql-alterconversion" ALTER_CONVERSION {}
    "ALTER DATABASE" "sql-alterdatabase" ALTER_DATABASE {}
    "ALTER DEFAULT PRIVILEGES" "sql-alterdefaultprivileges" ALTER_DEFAULT_PRIVILEGES {}
    "ALTER FOREIGN TABLE" "sql-alterforeigntable" ALTER_FOREIGN_TABLE {}
    "ALTER EVENT TRIGGER" "sql-altereventtrigger" ALTER_EVENT_TRIGGER {}
    "ALTER FOREIGN DATA WRAPPER" "sql-alterforeigndatawrapper" ALTER_FOREIGN_DATA_WRAPPER {}
    "ALTER FUNCTION" "sql-alterfunction" ALTER_FUNCTION {}
    "ALTER GROUP" "sql-altergroup" ALTER_GROUP {}
    "ALTER LANGUAGE" "sql-alterlanguage" ALTER_LANGUAGE {}
    "ALTER LARGE OBJECT" "sql-alterlargeobject" ALTER_LARGE_OBJECT {}
    "ALTER OPERATOR" "sql-alteroperator" ALTER_OPERATOR {}
    "ALTER OPERATOR CLASS" "sql-alteropclass" ALTER_OPERATOR_CLASS {}
    "ALTER OPERATOR FAMILY" "sql-alteropfamily" ALTER_OPERATOR_FAMILY {}
    "ALTER PROCEDURE" "sql-alterprocedure" ALTER_PROCEDURE {}
    "ALTER ROLE" "sql-alterrole" ALTER_ROLE {}
    "ALTER ROUTINE" "sql-alterroutine" ALTER_ROUTINE {}
    "ALTER SCHEMA" "sql-alterschema" ALTER_SCHEMA {}
    "ALTER SERVER" "sql-alterserver" ALTER_SERVER {}
    "ALTER SUBSCRIPTION" "sql-altersubscription" ALTER_SUBSCRIPTION {}
    "ALTER SYSTEM" "sql-altersystem" ALTER_SYSTEM {}
    "ALTER TABLESPACE" "sql-altertablespace" ALTER_TABLESPACE {}
    "ALTER TEXT SEARCH CONFIGURATION" "sql-altertsconfig" ALTER_TEXT_SEARCH_CONFIGURATION {}
    "ALTER TEXT SEARCH DICTIONARY" "sql-altertsdictionary" ALTER_TEXT_SEARCH_DICTIONARY {}
    "ALTER TEXT SEARCH PARSER" "sql-altertsparser" ALTER_TEXT_SEARCH_PARSER {}
    "ALTER TEXT SEARCH TEMPLATE" "sql-altertstemplate" ALTER_TEXT_SEARCH_TEMPLATE {}
    "ALTER USER" "sql-alteruser" ALTER_USER {}
    "ALTER USER MAPPING" "sql-alterusermapping" ALTER_USER_MAPPING {}
};
