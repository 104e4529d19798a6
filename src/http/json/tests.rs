use serde::Deserialize;

use super::*;

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Outer {
    name: String,
    #[serde(default)]
    count: Option<i32>,
    #[serde(default)]
    lines: Vec<Inner>,
    #[serde(default)]
    details: Map<String, Value>,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Inner {
    sku: String,
}

fn complaint(text: &str) -> (String, String) {
    match read::<Outer>(text) {
        Err(Unfit::Part { path, message }) => (path, message),
        other => panic!("{text}: {other:?}"),
    }
}

#[test]
fn what_is_wrong_is_named_with_its_path() {
    for (text, path, message) in [
        (r#"["a"]"#, "", "an object is wanted, not an array"),
        (r#""a""#, "", "an object is wanted, not a string"),
        ("null", "", "an object is wanted, not null"),
        ("{}", "name", "is missing"),
        (
            r#"{"name":"a","nam":1}"#,
            "nam",
            "is not known here; known are `name`, `count`, `lines`, `details`",
        ),
        (
            r#"{"name":1}"#,
            "name",
            "invalid type: integer `1`, expected a string",
        ),
        (
            r#"{"name":null}"#,
            "name",
            "invalid type: null, expected a string",
        ),
        (
            r#"{"name":"a\u0000"}"#,
            "name",
            "NUL characters are not allowed",
        ),
        (
            r#"{"name":"a","name":"b"}"#,
            "",
            "has two members named \"name\": leave one out",
        ),
        (
            r#"{"name":"a","lines":[{"sku":"b"},["c"]]}"#,
            "lines[1]",
            "an object is wanted, not an array",
        ),
        (r#"{"name":"a","lines":[{}]}"#, "lines[0].sku", "is missing"),
        (
            r#"{"name":"a","lines":{"0":{"sku":"b"}}}"#,
            "lines",
            "an array is wanted, not an object",
        ),
        (
            r#"{"name":"a","lines":[{"sku":"b","sku":"b"}]}"#,
            "lines[0]",
            "has two members named \"sku\": leave one out",
        ),
        (
            r#"{"name":"a","details":{"b":{"c":1,"c":2}}}"#,
            "details.b",
            "has two members named \"c\": leave one out",
        ),
        (
            r#"{"name":"a","details":{"b\u0000":1}}"#,
            "details",
            "NUL characters are not allowed",
        ),
        (
            r#"{"name":"a","details":[]}"#,
            "details",
            "an object is wanted, not an array",
        ),
        (
            r#"{"name":"a","count":1.5}"#,
            "count",
            "invalid type: floating point `1.5`, expected i32",
        ),
        (
            r#"{"name":"a","count":4294967296}"#,
            "count",
            "invalid value: integer `4294967296`, expected i32",
        ),
    ] {
        assert_eq!(
            complaint(text),
            (path.to_owned(), message.to_owned()),
            "{text}"
        );
    }
}

#[test]
fn nesting_has_a_bound() {
    let nested = |depth: usize| {
        let (open, close) = ("[".repeat(depth - 2), "]".repeat(depth - 2));
        format!(r#"{{"name":"a","details":{{"b":{open}{close}}}}}"#)
    };
    assert!(read::<Outer>(&nested(DEEPEST)).is_ok());
    let (path, message) = complaint(&nested(DEEPEST + 1));
    assert!(path.starts_with("details.b[0]"), "{path}");
    assert_eq!(message, "nested more than 32 deep");
    complaint(&nested(50_000));
}

#[test]
fn what_is_not_json_is_told_apart() {
    for text in [
        "",
        "{",
        "{,}",
        r#"{"name":"a"}x"#,
        r#"{"name":"\ud800"}"#,
        "{'name':1}",
        "nul",
    ] {
        let read = read::<Outer>(text);
        assert!(matches!(read, Err(Unfit::NotJson(_))), "{text}: {read:?}");
    }
}

#[test]
fn a_whole_number_is_one_however_it_is_written() {
    for (text, count) in [
        ("1", Some(1)),
        ("1.0", Some(1)),
        ("1e2", Some(100)),
        ("-0.0", Some(0)),
        ("null", None),
    ] {
        let outer: Outer = read(&format!(r#"{{"name":"a","count":{text}}}"#)).expect(text);
        assert_eq!(outer.count, count);
    }
}
