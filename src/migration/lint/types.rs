//! Types and options that the lint knows by name.

/// Those that number the rows.
const SERIAL: [&str; 6] = [
    "serial",
    "bigserial",
    "smallserial",
    "serial2",
    "serial4",
    "serial8",
];

/// PostgreSQL's own, and those of well-known extensions: none of them is a domain.
const KNOWN: &str = "\
    int int2 int4 int8 integer smallint bigint real float float4 float8 numeric decimal dec money \
    bool boolean text name bytea uuid json jsonb jsonpath xml date time timetz timestamp timestamptz \
    interval inet cidr macaddr macaddr8 bit varbit bpchar varchar char point line lseg box path polygon \
    circle tsvector tsquery oid oid8 xid xid8 cid tid regclass regproc regprocedure regoper regoperator \
    regtype regrole regnamespace regconfig regdictionary regcollation pg_lsn pg_snapshot txid_snapshot \
    int4range int8range numrange tsrange tstzrange daterange int4multirange int8multirange \
    nummultirange tsmultirange tstzmultirange datemultirange refcursor aclitem int2vector oidvector \
    serial bigserial smallserial serial2 serial4 serial8 \
    citext hstore ltree lquery ltxtquery cube seg isbn isbn13 ismn ismn13 issn issn13 ean13 upc \
    geometry geography box2d box3d raster vector halfvec sparsevec semver";

/// Storage parameters under which plans and catalogues change, so that readers are kept out.
const READING: [&str; 6] = [
    "user_catalog_table",
    "buffering",
    "fastupdate",
    "security_barrier",
    "security_invoker",
    "check_option",
];

/// Whether a column of the type `path` gets a sequence.
pub fn is_serial(path: &[String]) -> bool {
    matches!(path, [name] if SERIAL.contains(&name.as_str()))
}

/// Whether the type `path` is certainly no domain.
pub fn is_known(path: &[String]) -> bool {
    match path {
        [schema, ..] if schema == "pg_catalog" && path.len() > 1 => true,
        [.., name] => KNOWN.split_whitespace().any(|known| known == name),
        [] => true,
    }
}

/// Whether readers wait while the storage parameter `name` is set.
pub fn changes_reading(name: &str) -> bool {
    let name = name.trim().to_ascii_lowercase();
    READING.contains(&name.as_str())
}
