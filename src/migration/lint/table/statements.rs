//! The statements other than ALTER.

use squawk_syntax::SyntaxKind::{self, *};

use super::Given::{Concurrently, Full, Has};
use super::Lock::*;
use super::On::*;
use super::Work::MayScan;
use super::{Row, looks, rewrites, rows, scans, takes, touch};

/// Most of them only write to the catalogue.
pub const STATEMENTS: &[&[Row]] = rows! {
    // Transactions.
    "ABORT" "sql-abort" ROLLBACK_TRANSACTION {}
    "BEGIN" "sql-begin" BEGIN {}
    "COMMIT" "sql-commit" COMMIT_TRANSACTION {}
    "COMMIT PREPARED" "sql-commit-prepared" COMMIT_PREPARED {}
    "END" "sql-end" COMMIT_TRANSACTION {}
    "PREPARE TRANSACTION" "sql-prepare-transaction" PREPARE_TRANSACTION {}
    "RELEASE SAVEPOINT" "sql-release-savepoint" RELEASE_SAVEPOINT {}
    "ROLLBACK" "sql-rollback" ROLLBACK_TRANSACTION {}
    "ROLLBACK PREPARED" "sql-rollback-prepared" ROLLBACK_PREPARED {}
    "ROLLBACK TO SAVEPOINT" "sql-rollback-to" ROLLBACK_TO_SAVEPOINT {}
    "SAVEPOINT" "sql-savepoint" SAVEPOINT_CREATE {}
    "SET CONSTRAINTS" "sql-set-constraints" SET_CONSTRAINTS {}
    "SET TRANSACTION" "sql-set-transaction" SET_TRANSACTION {}
    "START TRANSACTION" "sql-start-transaction" BEGIN {}

    // Rows.
    "COPY" "sql-copy" COPY {
        COPY [Has(COPY_FROM), Has(COPY_TABLE)] (takes(Named, RowExclusive), looks(Related, RowShare));
        COPY [Has(COPY_TABLE)] (scans(Named, AccessShare));
        COPY (looks(Read, AccessShare));
    }
    "DELETE" "sql-delete" DELETE { DELETE (looks(Named, RowExclusive), looks(Related, RowExclusive), looks(Read, RowShare)); }
    "INSERT" "sql-insert" INSERT { INSERT (takes(Named, RowExclusive), looks(Related, RowShare), looks(Read, RowShare)); }
    "MERGE" "sql-merge" MERGE { MERGE (looks(Named, RowExclusive), looks(Related, RowExclusive), looks(Read, RowShare)); }
    "SELECT" "sql-select" SELECT {
        SELECT [Has(LOCKING_CLAUSE)] (looks(Read, RowShare));
        SELECT (looks(Read, AccessShare));
    }
    "SELECT" "sql-select#SQL-UNION" COMPOUND_SELECT { COMPOUND_SELECT (looks(Read, RowShare)); }
    "SELECT" "sql-select" PAREN_SELECT { PAREN_SELECT (looks(Read, RowShare)); }
    "SELECT INTO" "sql-selectinto" SELECT_INTO { SELECT_INTO (looks(Read, RowShare)); }
    "TABLE" "sql-select#SQL-TABLE" TABLE { TABLE (scans(Named, AccessShare)); }
    "TRUNCATE" "sql-truncate" TRUNCATE {
        TRUNCATE [Has(CASCADE)] (rewrites(Family, AccessExclusive), rewrites(Related, AccessExclusive)) "truncate-live-table";
        TRUNCATE (rewrites(Family, AccessExclusive)) "truncate-live-table";
    }
    "UPDATE" "sql-update" UPDATE { UPDATE (looks(Named, RowExclusive), looks(Related, RowExclusive), looks(Read, RowShare)); }
    "VALUES" "sql-values" VALUES { VALUES (looks(Read, AccessShare)); }
    "WITH" "queries-with" SELECT { SELECT (looks(Read, RowShare)); }

    // Upkeep.
    "ANALYZE" "sql-analyze" ANALYZE { ANALYZE (looks(Family, ShareUpdateExclusive)); }
    "CHECKPOINT" "sql-checkpoint" CHECKPOINT {}
    "CLUSTER" "sql-cluster" CLUSTER {
        CLUSTER [Has(TABLE_NAME_REF)] (rewrites(Family, AccessExclusive));
        CLUSTER (rewrites(Everything, AccessExclusive));
    }
    "LOCK" "sql-lock" LOCK {
        LOCK [Has(ACCESS_SHARE)] (takes(Family, AccessShare));
        LOCK [Has(ROW_SHARE)] (takes(Family, RowShare));
        LOCK [Has(ROW_EXCLUSIVE)] (takes(Family, RowExclusive));
        LOCK [Has(SHARE_UPDATE_EXCLUSIVE)] (takes(Family, ShareUpdateExclusive));
        LOCK [Has(SHARE)] (takes(Family, Share)) "lock-table";
        LOCK [Has(SHARE_ROW_EXCLUSIVE)] (takes(Family, ShareRowExclusive)) "lock-table";
        LOCK [Has(EXCLUSIVE)] (takes(Family, Exclusive)) "lock-table";
        LOCK (takes(Family, AccessExclusive)) "lock-table";
    }
    "REFRESH MATERIALIZED VIEW" "sql-refreshmaterializedview" REFRESH {
        REFRESH [Concurrently] (scans(View, Exclusive));
        REFRESH (rewrites(Named, AccessExclusive)) "refresh-blocks-reads";
    }
    "REINDEX" "sql-reindex" REINDEX {
        REINDEX [Concurrently, Has(REINDEX_TARGET_TABLE)] (scans(Family, ShareUpdateExclusive));
        REINDEX [Concurrently, Has(REINDEX_TARGET_INDEX)] (scans(Table, ShareUpdateExclusive));
        REINDEX [Concurrently] (scans(Everything, ShareUpdateExclusive));
        REINDEX [Has(REINDEX_TARGET_TABLE)] (scans(Family, Share)) "require-concurrent-reindex";
        REINDEX [Has(REINDEX_TARGET_INDEX)] (scans(Table, Share)) "require-concurrent-reindex";
        REINDEX (scans(Everything, Share)) "require-concurrent-reindex";
    }
    "VACUUM" "sql-vacuum" VACUUM {
        VACUUM [Full, Has(TABLE_AND_COLUMNS_LIST)] (rewrites(Family, AccessExclusive));
        VACUUM [Full] (rewrites(Everything, AccessExclusive));
        VACUUM (looks(Family, ShareUpdateExclusive));
    }

    // Relations.
    "CREATE FOREIGN TABLE" "sql-createforeigntable" CREATE_FOREIGN_TABLE {
        CREATE_FOREIGN_TABLE [Has(PARTITION_OF)] (takes(Parent, AccessExclusive), scans(DefaultPartition, AccessExclusive)) "creating-partition";
        CREATE_FOREIGN_TABLE (takes(Parent, ShareUpdateExclusive));
    }
    "CREATE INDEX" "sql-createindex" CREATE_INDEX {
        CREATE_INDEX [Concurrently] (scans(Family, ShareUpdateExclusive));
        CREATE_INDEX [Has(ONLY_KW)] (touch(Named, Share, MayScan)) "require-concurrent-index-creation";
        CREATE_INDEX (scans(Family, Share)) "require-concurrent-index-creation";
    }
    "CREATE MATERIALIZED VIEW" "sql-creatematerializedview" CREATE_MATERIALIZED_VIEW { CREATE_MATERIALIZED_VIEW (looks(Read, RowShare)); }
    "CREATE SEQUENCE" "sql-createsequence" CREATE_SEQUENCE { CREATE_SEQUENCE (takes(Table, AccessShare)); }
    "CREATE STATISTICS" "sql-createstatistics" CREATE_STATISTICS { CREATE_STATISTICS (takes(Named, ShareUpdateExclusive)); }
    "CREATE TABLE" "sql-createtable" CREATE_TABLE {
        CREATE_TABLE [Has(PARTITION_OF)] (takes(Parent, AccessExclusive), scans(DefaultPartition, AccessExclusive), takes(Referenced, ShareRowExclusive), takes(Related, ShareRowExclusive)) "creating-partition";
        CREATE_TABLE (takes(Parent, ShareUpdateExclusive), takes(Referenced, ShareRowExclusive), takes(Read, AccessShare));
    }
    "CREATE TABLE AS" "sql-createtableas" CREATE_TABLE_AS { CREATE_TABLE_AS (looks(Read, RowShare)); }
    "CREATE VIEW" "sql-createview" CREATE_VIEW {
        CREATE_VIEW [Has(OR_REPLACE)] (takes(Created, AccessExclusive), takes(Read, AccessShare));
        CREATE_VIEW (takes(Read, AccessShare));
    }
    "DROP FOREIGN TABLE" "sql-dropforeigntable" DROP_FOREIGN_TABLE { DROP_FOREIGN_TABLE (takes(Named, AccessExclusive), takes(Parent, AccessExclusive)); }
    "DROP INDEX" "sql-dropindex" DROP_INDEX {
        DROP_INDEX [Concurrently] (takes(Table, ShareUpdateExclusive));
        DROP_INDEX (takes(Table, AccessExclusive)) "require-concurrent-index-deletion";
    }
    "DROP MATERIALIZED VIEW" "sql-dropmaterializedview" DROP_MATERIALIZED_VIEW { DROP_MATERIALIZED_VIEW (takes(Named, AccessExclusive)); }
    "DROP SEQUENCE" "sql-dropsequence" DROP_SEQUENCE { DROP_SEQUENCE (takes(Named, AccessExclusive)); }
    "DROP STATISTICS" "sql-dropstatistics" DROP_STATISTICS { DROP_STATISTICS (takes(Table, ShareUpdateExclusive)); }
    "DROP TABLE" "sql-droptable" DROP_TABLE { DROP_TABLE (takes(Family, AccessExclusive), takes(Related, AccessExclusive), takes(Sequences, AccessExclusive)); }
    "DROP VIEW" "sql-dropview" DROP_VIEW { DROP_VIEW (takes(Named, AccessExclusive)); }

    // What belongs to relations.
    "COMMENT" "sql-comment" COMMENT_ON {
        COMMENT_ON [Has(OBJECT_CONSTRAINT)] ();
        COMMENT_ON [Has(OBJECT_TRIGGER)] ();
        COMMENT_ON [Has(OBJECT_RULE)] ();
        COMMENT_ON [Has(OBJECT_POLICY)] ();
        COMMENT_ON (takes(Named, ShareUpdateExclusive));
    }
    "CREATE POLICY" "sql-createpolicy" CREATE_POLICY { CREATE_POLICY (takes(Named, AccessExclusive)); }
    "CREATE PUBLICATION" "sql-createpublication" CREATE_PUBLICATION { CREATE_PUBLICATION (takes(Family, ShareUpdateExclusive)); }
    "CREATE RULE" "sql-createrule" CREATE_RULE { CREATE_RULE (takes(Named, AccessExclusive), takes(Read, AccessShare)) "live-trigger-or-rule"; }
    "CREATE TRIGGER" "sql-createtrigger" CREATE_TRIGGER { CREATE_TRIGGER (takes(Family, ShareRowExclusive), takes(Referenced, AccessShare)) "live-trigger-or-rule"; }
    "DROP POLICY" "sql-droppolicy" DROP_POLICY { DROP_POLICY (takes(Named, AccessExclusive)); }
    "DROP RULE" "sql-droprule" DROP_RULE { DROP_RULE (takes(Named, AccessExclusive)); }
    "DROP TRIGGER" "sql-droptrigger" DROP_TRIGGER { DROP_TRIGGER (takes(Family, AccessExclusive)); }
    "GRANT" "sql-grant" GRANT {}
    "REVOKE" "sql-revoke" REVOKE {}
    "SECURITY LABEL" "sql-security-label" SECURITY_LABEL { SECURITY_LABEL (takes(Named, ShareUpdateExclusive)); }

    // Whatever there is.
    "DROP OWNED" "sql-drop-owned" DROP_OWNED { DROP_OWNED (takes(Everything, AccessExclusive)) "reaches-unnamed-objects"; }
    "REASSIGN OWNED" "sql-reassign-owned" REASSIGN { REASSIGN (takes(Everything, AccessExclusive)) "reaches-unnamed-objects"; }

    // What the lint cannot see.
    "CALL" "sql-call" CALL { CALL () "opaque-statement"; }
    "CREATE EXTENSION" "sql-createextension" CREATE_EXTENSION { CREATE_EXTENSION () "opaque-statement"; }
    "DO" "sql-do" DO { DO () "opaque-statement"; }
    "EXECUTE" "sql-execute" EXECUTE { EXECUTE () "opaque-statement"; }
    "IMPORT FOREIGN SCHEMA" "sql-importforeignschema" IMPORT_FOREIGN_SCHEMA { IMPORT_FOREIGN_SCHEMA () "opaque-statement"; }

    // The session.
    "CLOSE" "sql-close" CLOSE {}
    "DEALLOCATE" "sql-deallocate" DEALLOCATE {}
    "DECLARE" "sql-declare" DECLARE { DECLARE (looks(Read, RowShare)); }
    "DISCARD" "sql-discard" DISCARD {}
    "EXPLAIN" "sql-explain" EXPLAIN { EXPLAIN (looks(Named, RowExclusive), looks(Related, RowExclusive), looks(Read, RowShare)); }
    "FETCH" "sql-fetch" FETCH {}
    "LISTEN" "sql-listen" LISTEN {}
    "LOAD" "sql-load" LOAD {}
    "MOVE" "sql-move" MOVE {}
    "NOTIFY" "sql-notify" NOTIFY {}
    "PREPARE" "sql-prepare" PREPARE {}
    "RESET" "sql-reset" RESET {}
    "RESET" "sql-set-role" RESET_ROLE {}
    "RESET" "sql-set-session-authorization" RESET_SESSION_AUTH {}
    "SET" "sql-set" SET {}
    "SET ROLE" "sql-set-role" SET_ROLE {}
    "SET SESSION AUTHORIZATION" "sql-set-session-authorization" SET_SESSION_AUTH {}
    "SHOW" "sql-show" SHOW {}
    "UNLISTEN" "sql-unlisten" UNLISTEN {}

    // Only rows of the catalogue.
    "CREATE ACCESS METHOD" "sql-create-access-method" CREATE_ACCESS_METHOD {}
    "CREATE AGGREGATE" "sql-createaggregate" CREATE_AGGREGATE {}
    "CREATE CAST" "sql-createcast" CREATE_CAST {}
    "CREATE COLLATION" "sql-createcollation" CREATE_COLLATION {}
    "CREATE CONVERSION" "sql-createconversion" CREATE_CONVERSION {}
    "CREATE DATABASE" "sql-createdatabase" CREATE_DATABASE {}
    "CREATE DOMAIN" "sql-createdomain" CREATE_DOMAIN {}
    "CREATE EVENT TRIGGER" "sql-createeventtrigger" CREATE_EVENT_TRIGGER {}
    "CREATE FOREIGN DATA WRAPPER" "sql-createforeigndatawrapper" CREATE_FOREIGN_DATA_WRAPPER {}
    "CREATE FUNCTION" "sql-createfunction" CREATE_FUNCTION {}
    "CREATE GROUP" "sql-creategroup" CREATE_GROUP {}
    "CREATE LANGUAGE" "sql-createlanguage" CREATE_LANGUAGE {}
    "CREATE OPERATOR" "sql-createoperator" CREATE_OPERATOR {}
    "CREATE OPERATOR CLASS" "sql-createopclass" CREATE_OPERATOR_CLASS {}
    "CREATE OPERATOR FAMILY" "sql-createopfamily" CREATE_OPERATOR_FAMILY {}
    "CREATE PROCEDURE" "sql-createprocedure" CREATE_PROCEDURE {}
    "CREATE ROLE" "sql-createrole" CREATE_ROLE {}
    "CREATE SCHEMA" "sql-createschema" CREATE_SCHEMA {}
    "CREATE SERVER" "sql-createserver" CREATE_SERVER {}
    "CREATE SUBSCRIPTION" "sql-createsubscription" CREATE_SUBSCRIPTION {}
    "CREATE TABLESPACE" "sql-createtablespace" CREATE_TABLESPACE {}
    "CREATE TEXT SEARCH CONFIGURATION" "sql-createtsconfig" CREATE_TEXT_SEARCH_CONFIGURATION {}
    "CREATE TEXT SEARCH DICTIONARY" "sql-createtsdictionary" CREATE_TEXT_SEARCH_DICTIONARY {}
    "CREATE TEXT SEARCH PARSER" "sql-createtsparser" CREATE_TEXT_SEARCH_PARSER {}
    "CREATE TEXT SEARCH TEMPLATE" "sql-createtstemplate" CREATE_TEXT_SEARCH_TEMPLATE {}
    "CREATE TRANSFORM" "sql-createtransform" CREATE_TRANSFORM {}
    "CREATE TYPE" "sql-createtype" CREATE_TYPE {}
    "CREATE USER" "sql-createuser" CREATE_USER {}
    "CREATE USER MAPPING" "sql-createusermapping" CREATE_USER_MAPPING {}
    "DROP ACCESS METHOD" "sql-drop-access-method" DROP_ACCESS_METHOD {}
    "DROP AGGREGATE" "sql-dropaggregate" DROP_AGGREGATE {}
    "DROP CAST" "sql-dropcast" DROP_CAST {}
    "DROP COLLATION" "sql-dropcollation" DROP_COLLATION {}
    "DROP CONVERSION" "sql-dropconversion" DROP_CONVERSION {}
    "DROP DATABASE" "sql-dropdatabase" DROP_DATABASE {}
    "DROP DOMAIN" "sql-dropdomain" DROP_DOMAIN {}
    "DROP EVENT TRIGGER" "sql-dropeventtrigger" DROP_EVENT_TRIGGER {}
    "DROP EXTENSION" "sql-dropextension" DROP_EXTENSION {}
    "DROP FOREIGN DATA WRAPPER" "sql-dropforeigndatawrapper" DROP_FOREIGN_DATA_WRAPPER {}
    "DROP FUNCTION" "sql-dropfunction" DROP_FUNCTION {}
    "DROP GROUP" "sql-dropgroup" DROP_GROUP {}
    "DROP LANGUAGE" "sql-droplanguage" DROP_LANGUAGE {}
    "DROP OPERATOR" "sql-dropoperator" DROP_OPERATOR {}
    "DROP OPERATOR CLASS" "sql-dropopclass" DROP_OPERATOR_CLASS {}
    "DROP OPERATOR FAMILY" "sql-dropopfamily" DROP_OPERATOR_FAMILY {}
    "DROP PROCEDURE" "sql-dropprocedure" DROP_PROCEDURE {}
    "DROP PUBLICATION" "sql-droppublication" DROP_PUBLICATION {}
    "DROP ROLE" "sql-droprole" DROP_ROLE {}
    "DROP ROUTINE" "sql-droproutine" DROP_ROUTINE {}
    "DROP SCHEMA" "sql-dropschema" DROP_SCHEMA {}
    "DROP SERVER" "sql-dropserver" DROP_SERVER {}
    "DROP SUBSCRIPTION" "sql-dropsubscription" DROP_SUBSCRIPTION {}
    "DROP TABLESPACE" "sql-droptablespace" DROP_TABLESPACE {}
    "DROP TEXT SEARCH CONFIGURATION" "sql-droptsconfig" DROP_TEXT_SEARCH_CONFIG {}
    "DROP TEXT SEARCH DICTIONARY" "sql-droptsdictionary" DROP_TEXT_SEARCH_DICT {}
    "DROP TEXT SEARCH PARSER" "sql-droptsparser" DROP_TEXT_SEARCH_PARSER {}
    "DROP TEXT SEARCH TEMPLATE" "sql-droptstemplate" DROP_TEXT_SEARCH_TEMPLATE {}
    "DROP TRANSFORM" "sql-droptransform" DROP_TRANSFORM {}
    "DROP TYPE" "sql-droptype" DROP_TYPE {}
    "DROP USER" "sql-dropuser" DROP_USER {}
    "DROP USER MAPPING" "sql-dropusermapping" DROP_USER_MAPPING {}
};
