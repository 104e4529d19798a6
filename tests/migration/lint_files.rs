//! What `evenkeel migrate lint` takes, and what it says of which rules hold for which file.

use std::process::Command;

use serde_json::Value;

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        folder.write("schema/0002_b.sql", "DROP TABLE orders;");
        folder.write(
            "schema/0001_a.sql",
            "CREATE TABLE orders (id bigint PRIMARY KEY);",
        );
        folder.write(
            "background/fill.sql",
            "-- title: T\n-- owner: o\n-- table: t\n-- pending: n IS NULL\n\nUPDATE t SET n = 1 WHERE :range;\n",
        );
        folder.write("deep/er/c.sql", "ALTER TABLE orders ADD COLUMN n int;");
        folder.write("notes.txt", "no SQL");
        folder
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.0.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn lint(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_evenkeel"));
        let command = command.args(["migrate", "lint"]).args(arguments);
        let done = command.current_dir(self.0.path()).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (done.status.code(), text(done.stdout), text(done.stderr))
    }

    fn judged(&self, arguments: &[&str]) -> Vec<(String, String, usize)> {
        let (_, stdout, _) = self.lint(&[arguments, &["--json"]].concat());
        let judged: Vec<Value> = serde_json::from_str(&stdout).unwrap();
        let one = |one: &Value| {
            assert!(
                one["rules"].as_str().unwrap().contains("lock_timeout")
                    || one["judged_as"] == "script"
            );
            (
                one["file"].as_str().unwrap().to_owned(),
                one["judged_as"].as_str().unwrap().to_owned(),
                one["findings"].as_array().unwrap().len(),
            )
        };
        judged.iter().map(one).collect()
    }
}

#[test]
fn a_folder_means_every_sql_file_below_it_in_order() {
    let folder = Folder::new();
    let found =
        |file: &str, judged_as: &str, findings| (file.to_owned(), judged_as.to_owned(), findings);
    let all = [
        found("./background/fill.sql", "background-migration", 0),
        found("./deep/er/c.sql", "script", 1),
        found("./schema/0001_a.sql", "schema-file", 0),
        found("./schema/0002_b.sql", "schema-file", 1),
    ];
    assert_eq!(folder.judged(&["."]), all);
    let two = folder.judged(&["schema", "schema/0001_a.sql"]);
    let names: Vec<_> = two.iter().map(|one| one.0.as_str()).collect();
    assert_eq!(names, ["schema/0001_a.sql", "schema/0002_b.sql"]);
}

#[test]
fn what_a_dump_has_for_psql_alone_is_told_once_and_is_no_finding() {
    let folder = Folder::new();
    folder.write(
        "dump.sql",
        "\\restrict aB3\nCREATE TABLE t (id bigint PRIMARY KEY);\nCOPY t (id) FROM stdin;\n1\n\\.\n\
         COPY t (id) FROM stdin;\n2\n\\.\n\\unrestrict aB3\n",
    );
    let (code, stdout, _) = folder.lint(&["dump.sql", "schema/0001_a.sql"]);
    assert_eq!(code, Some(0), "{stdout}");
    let note = "\\restrict (line 1), the data of COPY (line 4), \\unrestrict (line 9): psql's own";
    assert_eq!(stdout.matches(note).count(), 1, "{stdout}");
    assert_eq!(stdout.matches("psql").count(), 1, "{stdout}");
}

#[test]
fn people_are_told_which_rules_hold_for_which_file_and_why() {
    let folder = Folder::new();
    let (code, stdout, stderr) = folder.lint(&["schema", "background", "deep/er/c.sql"]);
    assert_eq!(code, Some(1));
    for said in [
        "schema/0001_a.sql: schema file, nothing found",
        "schema/0002_b.sql: schema file, 1 thing found",
        "background/fill.sql: background migration, nothing found",
        "deep/er/c.sql: plain script, 1 thing found",
        "a schema file lies in a folder `schema`",
        "somebody else's tool runs it",
        "require-lock-timeout does not hold",
    ] {
        assert!(stdout.contains(said), "{said}:\n{stdout}");
    }
    assert!(stderr.contains("2 things found"), "{stderr}");
}

#[test]
fn what_cannot_be_read_is_named_beside_the_others() {
    let folder = Folder::new();
    std::fs::write(folder.0.path().join("deep/binary.sql"), b"\x00\x01").unwrap();
    std::fs::write(
        folder.0.path().join("deep/latin.sql"),
        b"SELECT 1;\nSELECT '\xe9';\n",
    )
    .unwrap();
    let (code, stdout, stderr) = folder.lint(&["deep", "nowhere.sql"]);
    assert_eq!(code, Some(1));
    assert!(
        stdout.contains("deep/er/c.sql: plain script, 1 thing found"),
        "{stdout}"
    );
    for said in [
        "deep/binary.sql: line 1: there is a NUL byte",
        "deep/latin.sql: line 2: the byte 0xE9 is not UTF-8",
        "nowhere.sql: there is no such file or folder",
        "1 thing found in the other files",
    ] {
        assert!(stderr.contains(said), "{said}:\n{stderr}");
    }
    std::fs::create_dir(folder.0.path().join("void")).unwrap();
    let (code, _, stderr) = folder.lint(&["void"]);
    assert!(
        code == Some(1) && stderr.contains("the folder has no .sql file"),
        "{stderr}"
    );
}
