//! The container files. Nothing here runs a container: what can be checked without one is that the
//! files agree with the program and with the README.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_norway::Value;

fn read(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

fn compose() -> Value {
    serde_norway::from_str(&read("docker-compose.yml")).unwrap()
}

fn text(value: &Value) -> &str {
    value
        .as_str()
        .unwrap_or_else(|| panic!("{value:?} is not a text"))
}

/// A value with the defaults of its `${VARIABLE:-default}` put in.
fn with_defaults(value: &str) -> String {
    let Some((before, rest)) = value.split_once("${") else {
        return value.to_owned();
    };
    let (variable, after) = rest.split_once('}').unwrap();
    let (_, default) = variable
        .split_once(":-")
        .unwrap_or_else(|| panic!("{variable} has no default, so a first start would fail"));
    format!("{before}{default}{}", with_defaults(after))
}

fn environment_of(service: &str) -> BTreeMap<String, String> {
    let compose = compose();
    let environment = compose["services"][service]["environment"]
        .as_mapping()
        .unwrap();
    environment
        .iter()
        .map(|(name, value)| (text(name).to_owned(), with_defaults(text(value))))
        .collect()
}

/// The words behind every `instruction` of the Dockerfile.
fn instructions(instruction: &str) -> Vec<String> {
    let dockerfile = read("Dockerfile");
    dockerfile
        .lines()
        .filter_map(|line| line.strip_prefix(instruction)?.strip_prefix(' '))
        .map(str::to_owned)
        .collect()
}

/// `evenkeel config` in this environment and no other.
fn config(environment: &BTreeMap<String, String>) -> Output {
    Command::new(env!("CARGO_BIN_EXE_evenkeel"))
        .arg("config")
        .env_clear()
        .envs(environment)
        .output()
        .unwrap()
}

/// What the shop's container has in its environment.
fn shop_environment() -> BTreeMap<String, String> {
    let image = instructions("ENV");
    let image = image.iter().map(|line| line.split_once('=').unwrap());
    let mut environment: BTreeMap<_, _> = image
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    environment.extend(environment_of("shop"));
    environment
}

#[test]
fn the_environment_of_the_shop_is_made_of_real_settings() {
    let mut environment = shop_environment();
    let output = config(&environment);
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(printed.contains(r#"listen = "0.0.0.0:8080""#), "{printed}");
    assert!(printed.contains("@postgres:5432/evenkeel"), "{printed}");

    environment.insert("EVENKEEL_HTTP__PORT".to_owned(), "1".to_owned());
    assert!(
        !config(&environment).status.success(),
        "any setting would have passed"
    );
}

#[test]
fn the_shop_waits_for_a_healthy_postgresql_that_it_can_log_in_to() {
    let compose = compose();
    let services = compose["services"].as_mapping().unwrap();
    assert_eq!(
        services.keys().map(text).collect::<Vec<_>>(),
        ["shop", "postgres"]
    );
    let (shop, postgres) = (
        &compose["services"]["shop"],
        &compose["services"]["postgres"],
    );
    assert_eq!(
        text(&shop["depends_on"]["postgres"]["condition"]),
        "service_healthy"
    );
    assert!(postgres["healthcheck"]["test"].is_sequence());

    let database = environment_of("postgres");
    let url = format!(
        "postgres://{}:{}@postgres:5432/{}",
        database["POSTGRES_USER"], database["POSTGRES_PASSWORD"], database["POSTGRES_DB"]
    );
    assert_eq!(environment_of("shop")["DATABASE_URL"], url);
    let (_, version) = text(&postgres["image"]).split_once(':').unwrap();
    assert!(
        version.parse::<u32>().is_ok(),
        "pin the major version, not {version}"
    );
}

#[test]
fn the_ports_are_those_that_the_image_listens_on_and_only_this_machine_reaches_them() {
    let compose = compose();
    let ports = compose["services"]["shop"]["ports"].as_sequence().unwrap();
    let ports: Vec<_> = ports.iter().map(text).collect();
    assert_eq!(ports, ["127.0.0.1:8080:8080", "127.0.0.1:8081:8081"]);
    assert_eq!(instructions("EXPOSE"), ["8080", "8081"]);
    let environment = shop_environment();
    assert!(environment["EVENKEEL_HTTP__LISTEN"].ends_with(":8080"));
    assert!(environment["EVENKEEL_OPS__LISTEN"].ends_with(":8081"));
    assert!(
        compose["services"]["postgres"]["ports"].is_null(),
        "nobody else needs it"
    );
}

#[test]
fn the_image_is_built_as_the_readme_says_and_does_not_run_as_root() {
    let run = instructions("RUN");
    let build: Vec<_> = run
        .iter()
        .filter(|line| line.starts_with("cargo "))
        .collect();
    let [build] = build.as_slice() else {
        panic!("one build is expected: {build:?}");
    };
    let readme = read("README.md");
    assert!(
        readme.lines().any(|line| line == build.as_str()),
        "the README lacks `{build}`"
    );
    assert_eq!(instructions("USER"), ["evenkeel"]);
    assert!(
        run.iter()
            .any(|line| line.contains("useradd") && line.ends_with(" evenkeel"))
    );
}

#[test]
fn every_file_that_the_build_needs_is_sent_to_it() {
    let ignored = read(".dockerignore");
    for needed in [
        "Cargo.lock",
        "Cargo.toml",
        "benches",
        "build.rs",
        "migrations",
        "src",
        "static",
    ] {
        let is_there = Path::new(env!("CARGO_MANIFEST_DIR")).join(needed).exists();
        assert!(
            is_there && !ignored.lines().any(|line| line == needed),
            "{needed}"
        );
    }
}
