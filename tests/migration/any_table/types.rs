//! What key columns can be of.

/// A type of key columns.
pub struct Type {
    /// As SQL.
    pub name: &'static str,
    /// Makes a value of it from the integer `j`, some of them the type's odd ones.
    pub value: &'static str,
    /// Operator classes beside the one that it has unless another is named.
    pub classes: &'static [&'static str],
    /// Whether it has collations.
    pub collatable: bool,
}

const fn plain(name: &'static str, value: &'static str) -> Type {
    Type {
        name,
        value,
        classes: &[],
        collatable: false,
    }
}

const fn classed(
    name: &'static str,
    value: &'static str,
    classes: &'static [&'static str],
) -> Type {
    Type {
        name,
        value,
        classes,
        collatable: false,
    }
}

const fn textual(
    name: &'static str,
    value: &'static str,
    classes: &'static [&'static str],
) -> Type {
    Type {
        name,
        value,
        classes,
        collatable: true,
    }
}

const ODD_TEXT: &str = "(ARRAY['', ' ', '{', '\"', 'Ä', 'ß', 'a', 'A', '\\', ',', 'NULL', 'É', 'e'])[1 + j % 13] || j % 17";

/// Those of PostgreSQL that a B-tree sorts, those of its extensions, in a schema of their own, and some
/// that users make.
pub const TYPES: &[Type] = &[
    plain("bigint", "(j - 50) * 18000000000000000"),
    classed(
        "integer",
        "(j - 20) * 7",
        &[
            "classes.int4_down",
            "classes.int4_down",
            "classes.int4_swapped",
            "classes.int4_part",
        ],
    ),
    plain("smallint", "j"),
    plain("oid", "j + 4294967000::bigint"),
    plain("\"char\"", "chr(j % 120 + 1)"),
    plain("boolean", "j % 2 = 0"),
    textual("text", ODD_TEXT, &["text_pattern_ops", "classes.by_length"]),
    textual("varchar", ODD_TEXT, &["varchar_pattern_ops", "varchar_ops"]),
    textual(
        "varchar(9)",
        "chr(65 + j % 60) || j",
        &["text_pattern_ops", "text_ops", "classes.by_length"],
    ),
    textual(
        "char(6)",
        "(ARRAY['a', 'a b', ' a', 'B', 'é'])[1 + j % 5] || j % 7",
        &["bpchar_pattern_ops"],
    ),
    textual(
        "bpchar",
        "repeat(' ', j % 3) || j % 11",
        &["bpchar_pattern_ops"],
    ),
    textual("name", "chr(97 + j % 26) || j", &[]),
    plain(
        "numeric",
        "coalesce((ARRAY['NaN', 'Infinity', '-Infinity', '0.00', '1e-40']::numeric[])[1 + j % 19], (j - 9) * power(10::numeric, j % 20 - 10))",
    ),
    plain("numeric(12, 3)", "j / 7.0"),
    plain(
        "double precision",
        "CASE j % 11 WHEN 0 THEN 'NaN' WHEN 1 THEN '-Infinity' WHEN 2 THEN '-0' WHEN 3 THEN '0' ELSE 1e-300 * j / 3.0 END::float8",
    ),
    plain(
        "real",
        "(CASE j % 11 WHEN 0 THEN 'NaN' WHEN 1 THEN 'Infinity' ELSE (j / 3.0)::float4 END)::float4",
    ),
    plain("money", "((j - 40)::numeric / 7)::money"),
    plain(
        "timestamptz",
        "CASE j % 13 WHEN 0 THEN '-infinity' WHEN 1 THEN 'infinity' WHEN 2 THEN '0044-03-15 BC' ELSE '2024-03-31'::timestamptz + j * interval '7.123457 minutes' END",
    ),
    plain(
        "timestamp(3)",
        "'2024-10-27'::timestamp + j * interval '13.000001 minutes'",
    ),
    plain("timetz", "timetz '10:00+03' + j * interval '61.000001 s'"),
    plain(
        "time",
        "CASE j % 9 WHEN 0 THEN time '24:00' ELSE time '00:00' + j * interval '1.5 s' END",
    ),
    plain(
        "date",
        "CASE j % 9 WHEN 0 THEN 'infinity' ELSE '4713-02-01 BC'::date + j * 9000 END",
    ),
    plain(
        "interval",
        "make_interval(months => j % 5 - 2, days => j % 40 - 20, secs => 1.5 - j)",
    ),
    plain("bytea", "decode(lpad(to_hex(j * 65521), 8, '0'), 'hex')"),
    plain("uuid", "md5(j::text)::uuid"),
    plain("inet", "'10.0.0.0/8'::inet + j"),
    classed(
        "cidr",
        "set_masklen('10.0.0.0/8'::inet + j * 256, 24)::cidr",
        &["inet_ops", "cidr_ops"],
    ),
    plain(
        "macaddr",
        "('08:00:2b:01:02:' || lpad(to_hex(j % 256), 2, '0'))::macaddr",
    ),
    plain(
        "macaddr8",
        "('08:00:2b:01:02:03:04:' || lpad(to_hex(j % 256), 2, '0'))::macaddr8",
    ),
    plain("bit(10)", "j::bit(10)"),
    plain("varbit", "substring(j::bit(12) FROM 1 + j % 11)"),
    plain(
        "jsonb",
        "(ARRAY[to_jsonb(j), to_jsonb(j::text), jsonb_build_object('a', j, 'b', NULL), jsonb_build_array(j, '\"')])[1 + j % 4]",
    ),
    textual(
        "text[]",
        "ARRAY[j::text, NULL, 'NULL', '\"x\"', 'a,b', '']",
        &[],
    ),
    plain(
        "integer[]",
        "CASE j % 9 WHEN 0 THEN '{}' ELSE ARRAY[j % 5, NULL, j] END",
    ),
    plain("float8[]", "ARRAY[ARRAY[j / 3.0, 'NaN']]::float8[]"),
    plain(
        "timestamptz[]",
        "ARRAY[timestamptz '2024-03-31' + j * interval '1 h']",
    ),
    plain(
        "int4range",
        "CASE j % 7 WHEN 0 THEN 'empty' ELSE int4range(j % 31, j % 31 + j % 5, '[]') END",
    ),
    plain("numrange", "numrange(j / 3.0, NULL, '(]')"),
    plain(
        "tstzrange",
        "tstzrange('2024-03-31', '2024-04-01'::timestamptz + j * interval '1 h')",
    ),
    plain(
        "public.textrange",
        "public.textrange('a' || j % 9, 'b,\"' || j)",
    ),
    plain(
        "int8multirange",
        "int8multirange(int8range(j, j + 3), int8range(j + 9, NULL))",
    ),
    plain("pg_lsn", "pg_lsn '0/0' + j * 77777777777"),
    plain("tid", "('(' || j % 5 || ',' || j || ')')::tid"),
    plain("xid8", "(j::bigint * 7777777777)::text::xid8"),
    plain("oidvector", "(j % 7 || ' ' || j)::oidvector"),
    plain(
        "tsvector",
        "to_tsvector('simple', 'a b ' || j || ' a''b \\ ')",
    ),
    plain("tsquery", "(j || ' & !(b | ''c d'') <2> e:*A')::tsquery"),
    plain(
        "regclass",
        "(SELECT c.oid FROM pg_class c ORDER BY c.oid LIMIT 1 OFFSET j)::regclass",
    ),
    plain(
        "regtype",
        "(SELECT c.oid FROM pg_type c ORDER BY c.oid LIMIT 1 OFFSET j)::regtype",
    ),
    plain("regrole[]", "ARRAY[j::oid::regrole]"),
    classed(
        "public.size",
        "(enum_range(NULL::public.size))[1 + j % 4]",
        &["classes.size_down", "classes.any_enum"],
    ),
    classed(
        "\"Odd \"\"Schema\".\"Größe\"",
        "(enum_range(NULL::\"Odd \"\"Schema\".\"Größe\"))[1 + j % 3]",
        &["classes.any_enum"],
    ),
    classed(
        "public.pair",
        "ROW(j % 5, 'x,\"' || j)::public.pair",
        &["record_image_ops"],
    ),
    classed(
        "\"Odd \"\"Schema\".\"Pair\"",
        "ROW(CASE WHEN j % 3 > 0 THEN j END, ROW(j % 4, 'N' || j % 9), ARRAY['n' || j % 5]::ext.citext[])::\"Odd \"\"Schema\".\"Pair\"",
        &["record_image_ops"],
    ),
    textual(
        "ext.citext",
        "chr(CASE WHEN j % 2 = 0 THEN 65 ELSE 97 END + j % 26) || chr(97 + j * 7 % 26) || j",
        &["ext.citext_pattern_ops", "text_ops", "text_pattern_ops"],
    ),
    textual(
        "ext.citext[]",
        "ARRAY['N' || j % 9, 'n' || j]::ext.citext[]",
        &[],
    ),
    plain("ext.hstore", "ext.hstore(ARRAY['a', j::text, 'b\"', NULL])"),
    plain("ext.ltree", "('top.n' || j % 7 || '.m' || j)::ext.ltree"),
    plain(
        "ext.isbn13",
        "('978' || lpad((j * 997)::text, 9, '0') || '?')::ext.isbn13",
    ),
    plain(
        "ext.ean13",
        "('40' || lpad((j * 8887)::text, 10, '0') || '?')::ext.ean13",
    ),
    plain("ext.cube", "ext.cube(ARRAY[j / 7.0, j % 5])"),
    plain("ext.seg", "(j % 50 || '.5 .. ' || j + 60)::ext.seg"),
    plain("public.amount", "j / 7.0"),
    plain("public.price", "j / 7.0"),
    textual(
        "public.nick",
        "'N' || j % 9 || chr(65 + j % 60)",
        &["ext.citext_pattern_ops"],
    ),
    classed(
        "public.sizes",
        "(enum_range(NULL::public.size))[1 + j % 4]",
        &["classes.size_down", "classes.any_enum"],
    ),
    plain("public.numbers", "ARRAY[j % 5, j]"),
    plain("public.span", "int4range(j, j + 3)"),
    classed(
        "public.couple",
        "ROW(j % 5, 'x' || j)::public.pair",
        &["record_image_ops"],
    ),
    textual(
        "public.code",
        "'k' || j",
        &["text_pattern_ops", "classes.by_length"],
    ),
    classed("public.down", "j", &["classes.down_own"]),
];

/// The schemas, extensions, types, collations, operator classes and decoys.
pub const SETUP: &str = r#"
CREATE SCHEMA ext; CREATE SCHEMA classes; CREATE SCHEMA decoy; CREATE SCHEMA "Odd ""Schema";
CREATE EXTENSION citext SCHEMA ext; CREATE EXTENSION hstore SCHEMA ext; CREATE EXTENSION ltree SCHEMA ext;
CREATE EXTENSION isn SCHEMA ext; CREATE EXTENSION cube SCHEMA ext; CREATE EXTENSION seg SCHEMA ext;
CREATE COLLATION public.blind (provider = icu, locale = 'und-u-ks-level2', deterministic = false);

CREATE TYPE public.size AS ENUM ('xl', 'm', 'Odd "one"');
ALTER TYPE public.size ADD VALUE 'small, new' BEFORE 'm';
CREATE TYPE "Odd ""Schema"."Größe" AS ENUM ('b', 'a', 'c');
CREATE TYPE public.pair AS (a int, b text);
CREATE TYPE "Odd ""Schema"."Pair" AS ("A" int, b public.pair, c ext.citext[]);
CREATE TYPE public.textrange AS RANGE (subtype = text, collation = "und-x-icu");
CREATE DOMAIN public.amount AS numeric(12, 2);
CREATE DOMAIN public.price AS public.amount;
CREATE DOMAIN public.nick AS ext.citext COLLATE "und-x-icu";
CREATE DOMAIN public.sizes AS public.size;
CREATE DOMAIN public.numbers AS int[];
CREATE DOMAIN public.span AS int4range;
CREATE DOMAIN public.couple AS public.pair;
CREATE DOMAIN public.code AS varchar(9);
CREATE DOMAIN public.down AS integer;

-- Makes a family of operators and an operator class of its own for `of`, by an expression that
-- compares $1 with $2. It is qualified, or the order itself would depend on the search path.
CREATE FUNCTION public.make_class(name text, of text, compare text, operators text[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    tests text[] := ARRAY['<', '<=', '=', '>=', '>'];
    list text := '';
BEGIN
    EXECUTE format('CREATE FUNCTION classes.%I(%s, %s) RETURNS int LANGUAGE sql IMMUTABLE STRICT AS %L',
                   name || '_cmp', of, of, 'SELECT ' || compare);
    FOR s IN 1..5 LOOP
        EXECUTE format('CREATE FUNCTION classes.%I(%s, %s) RETURNS boolean LANGUAGE sql IMMUTABLE STRICT AS %L',
                       name || s, of, of,
                       format('SELECT (classes.%I($1, $2)) OPERATOR(pg_catalog.%s) 0', name || '_cmp', tests[s]));
        EXECUTE format('CREATE OPERATOR classes.%s (FUNCTION = classes.%I, LEFTARG = %s, RIGHTARG = %s%s)',
                       operators[s], name || s, of, of,
                       CASE s WHEN 1 THEN ', RESTRICT = scalarltsel' WHEN 3 THEN ', RESTRICT = eqsel, MERGES'
                              WHEN 5 THEN ', RESTRICT = scalargtsel' ELSE '' END);
        list := list || format('OPERATOR %s classes.%s, ', s, operators[s]);
    END LOOP;
    EXECUTE format('CREATE OPERATOR CLASS classes.%I FOR TYPE %s USING btree AS %s FUNCTION 1 classes.%I(%s, %s)',
                   name, of, list, name || '_cmp', of, of);
END $$;
SELECT public.make_class('int4_down', 'int4', 'pg_catalog.btint4cmp($2, $1)', '{<,<=,=,>=,>}');
SELECT public.make_class('by_length', 'text',
    'CASE WHEN pg_catalog.octet_length($1) = pg_catalog.octet_length($2) THEN pg_catalog.bttextcmp($1, $2 COLLATE pg_catalog."C") ELSE pg_catalog.octet_length($1) - pg_catalog.octet_length($2) END',
    '{<,<=,=,>=,>}');
SELECT public.make_class('size_down', 'public.size', 'pg_catalog.enum_cmp($2, $1)', '{|<,|<=,|=,|>=,|>}');
CREATE OPERATOR classes.<< (FUNCTION = enum_lt, LEFTARG = anyenum, RIGHTARG = anyenum);
CREATE OPERATOR classes.<<= (FUNCTION = enum_le, LEFTARG = anyenum, RIGHTARG = anyenum);
CREATE OPERATOR classes.<<>> (FUNCTION = enum_eq, LEFTARG = anyenum, RIGHTARG = anyenum, MERGES);
CREATE OPERATOR classes.>>= (FUNCTION = enum_ge, LEFTARG = anyenum, RIGHTARG = anyenum);
CREATE OPERATOR classes.>> (FUNCTION = enum_gt, LEFTARG = anyenum, RIGHTARG = anyenum);
CREATE OPERATOR CLASS classes.any_enum FOR TYPE anyenum USING btree AS
    OPERATOR 1 classes.<<, OPERATOR 2 classes.<<=, OPERATOR 3 classes.<<>>, OPERATOR 4 classes.>>=, OPERATOR 5 classes.>>,
    FUNCTION 1 enum_cmp(anyenum, anyenum);
SELECT public.make_class('down_own', 'public.down', 'pg_catalog.btint4cmp($2, $1)', '{<|,<=|,=|,>=|,>|}');
-- The type's own operators the other way round: PostgreSQL takes its order for the default one.
CREATE OPERATOR CLASS classes.int4_swapped FOR TYPE int4 USING btree AS
    OPERATOR 1 >, OPERATOR 2 >=, OPERATOR 3 =, OPERATOR 4 <=, OPERATOR 5 <, FUNCTION 1 classes.int4_down_cmp(int4, int4);
CREATE OPERATOR CLASS classes.int4_part FOR TYPE int4 USING btree AS
    OPERATOR 1 classes.<, OPERATOR 3 classes.=, OPERATOR 5 classes.>, FUNCTION 1 classes.int4_down_cmp(int4, int4);
"#;

/// Operators, functions, a type and a collation that hide PostgreSQL's in a search path that names
/// `pg_catalog` last. They are of types that neither the ledger nor the driver use.
pub const DECOYS: &str = r#"
DO $$
DECLARE
    of text;
    o text;
BEGIN
    FOREACH of IN ARRAY ARRAY['uuid', 'numeric', 'date', 'inet', 'bytea', 'bpchar', 'name', 'time', 'money',
                              'interval', 'macaddr', 'anyenum', 'anyrange', 'record', 'ext.citext'] LOOP
        EXECUTE format('CREATE FUNCTION decoy.never(%s, %s) RETURNS boolean LANGUAGE %s', of, of, CASE of WHEN 'record' THEN 'internal IMMUTABLE AS ''record_ne''' ELSE 'sql IMMUTABLE AS ''SELECT false''' END);
        FOREACH o IN ARRAY '{<,<=,=,<>,>=,>}'::text[] LOOP
            EXECUTE format('CREATE OPERATOR decoy.%s (FUNCTION = decoy.never, LEFTARG = %s, RIGHTARG = %s)', o, of, of);
        END LOOP;
    END LOOP;
END $$;
CREATE FUNCTION decoy.hashtextextended(text, bigint) RETURNS bigint LANGUAGE sql AS 'SELECT 1 / 0::bigint';
CREATE FUNCTION decoy.to_regclass(text) RETURNS regclass LANGUAGE sql AS 'SELECT NULL::regclass';
CREATE FUNCTION decoy.quote_ident(text) RETURNS text LANGUAGE sql AS $$ SELECT 'nonsense' $$;
CREATE FUNCTION decoy.format_type(oid, integer) RETURNS text LANGUAGE sql AS $$ SELECT 'nonsense' $$;
CREATE FUNCTION decoy.pg_get_expr(pg_node_tree, oid) RETURNS text LANGUAGE sql AS $$ SELECT 'nonsense' $$;
CREATE FUNCTION decoy.jsonb_array_elements(jsonb) RETURNS SETOF jsonb LANGUAGE sql AS 'SELECT NULL::jsonb';
CREATE AGGREGATE decoy.sum(numeric) (SFUNC = numeric_larger, STYPE = numeric);
CREATE DOMAIN decoy.uuid AS text; CREATE DOMAIN decoy.name AS integer; CREATE DOMAIN decoy.bytea AS integer;
CREATE DOMAIN decoy.bpchar AS integer; CREATE DOMAIN decoy.inet AS integer; CREATE DOMAIN decoy.date AS integer;
CREATE COLLATION decoy."C" (provider = icu, locale = 'und-u-ks-level1', deterministic = false);
CREATE VIEW decoy.pg_class AS SELECT * FROM pg_catalog.pg_class WHERE false;
CREATE VIEW decoy.pg_index AS SELECT * FROM pg_catalog.pg_index WHERE false;
CREATE VIEW decoy.pg_operator AS SELECT * FROM pg_catalog.pg_operator WHERE false;
"#;
