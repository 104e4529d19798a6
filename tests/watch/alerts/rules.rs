//! A file of rules, and what is said of mistakes in it.

use chrono::{DateTime, TimeDelta, Utc};
use evenkeel::watch::alerts::{Evaluator, Reading, Rules, Series, State};

/// What is said of a file that begins with the budget in its first line.
fn complaint(rules: &str) -> String {
    let text = format!("pages_per_week = 1\n{rules}");
    Rules::parse(&text, "my.toml").unwrap_err().to_string()
}

const THRESHOLD: &str = "[[threshold]]\nname = \"a\"\ntitle = \"A\"\nseverity = \"critical\"\n";
const BURN: &str = "[[burn_rate]]\nname = \"b\"\ntitle = \"B\"\nbad = \"browse.failed_per_s\"\n\
                    all = \"browse.arrivals_per_s\"\n";

#[test]
fn every_mistake_is_named_with_its_line_and_what_to_do() {
    let window = |long: &str, short: &str| {
        format!(
            "{BURN}objective = 99.9\nwindows = [\n  {{ rate = 14.4, long = \"{long}\", short = \"{short}\", \
             severity = \"critical\" }}\n]\n"
        )
    };
    let anomaly = "[[anomaly]]\nname = \"c\"\ntitle = \"C\"\nseverity = \"warning\"\n\
                   series = \"orders_per_s\"\ndirection = \"below\"\nz = 6\nchange = 0.5\n";
    for (rules, line, says) in [
        (
            format!("{THRESHOLD}series = \"orders\"\nabove = 1\n"),
            6,
            "nothing called `orders` is measured; write one of checkout.",
        ),
        (
            format!("{THRESHOLD}series = \"orders_per_s\"\nabove = 1\nfor = \"1 moment\"\n"),
            8,
            "is no length of time",
        ),
        (
            format!("{THRESHOLD}series = \"orders_per_s\"\nabove = 1\nbelow = 0\n"),
            3,
            "one of `above` and `below`",
        ),
        (
            format!("{THRESHOLD}series = \"orders_per_s\"\nabove = nan\n"),
            7,
            "above has to be a number",
        ),
        (
            format!("{THRESHOLD}series = \"orders_per_s\"\nabov = 1\n"),
            7,
            "unknown field `abov`",
        ),
        (
            format!("{THRESHOLD}series = \"orders_per_s\"\nabove = \"much\"\n"),
            7,
            "invalid type",
        ),
        (
            THRESHOLD.replace("critical", "terrible"),
            5,
            "unknown variant `terrible`",
        ),
        (
            THRESHOLD.replace("name = \"a\"", "name = \"No Way\""),
            2,
            "missing field `series`",
        ),
        ("treshold = 3\n".to_owned(), 2, "unknown field `treshold`"),
        ("[[threshold]\n".to_owned(), 2, "correct that"),
        (
            "timezone = \"Europe/Lundon\"\n".to_owned(),
            2,
            "Europe/London",
        ),
        ("baseline_weeks = 500\n".to_owned(), 2, "from 1 to 26"),
        (
            "baseline_weeks = 2\nbaseline_least_weeks = 3\n".to_owned(),
            3,
            "from 1 to 2",
        ),
        (String::new(), 1, "there is no rule"),
        (window("5m", "1h"), 9, "shorter than long"),
        (window("8d", "1h"), 9, "at most 3days"),
        (window("1h", "1s"), 9, "at least 10s"),
        (
            format!("{BURN}objective = 100\nwindows = []\n"),
            7,
            "below 100",
        ),
        (
            window("1h", "5m").replace("99.9", "90"),
            9,
            "can never be reached",
        ),
        (
            window("1h", "5m").replace("browse.failed_per_s", "browse.p95_ms"),
            5,
            "does not count requests",
        ),
        (format!("{anomaly}window = \"3h\"\n"), 10, "from 1m to 1h"),
    ] {
        let said = complaint(&rules);
        assert!(
            said.contains(&format!("my.toml:{line}: ")),
            "line {line}: {said}"
        );
        assert!(said.contains(says), "{says}: {said}");
    }
}

#[test]
fn all_mistakes_are_named_at_once_and_a_name_is_used_once() {
    let rule = format!("{THRESHOLD}series = \"orders_per_s\"\nabove = 1\n");
    let said = complaint(&format!("{rule}{rule}for = \"soon\"\n"));
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.len(), 2, "{said}");
    assert!(
        lines[0].starts_with("my.toml:9: there is a rule `a` in line 3 already"),
        "{said}"
    );
    assert!(lines[1].starts_with("my.toml:14: for = \"soon\""), "{said}");
    let said = complaint(&rule.replace("\"a\"", "\"A rule\""));
    assert!(said.contains("`A rule` is no name"), "{said}");
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let err = Rules::load(Some("/nowhere/rules.toml".as_ref())).unwrap_err();
    assert!(err.to_string().contains("/nowhere/rules.toml"), "{err}");
}

#[test]
fn the_built_in_rules_can_be_used() {
    let rules = Rules::load(None).unwrap();
    assert_eq!(rules.pages_per_week, 1.0);
    assert!(rules.iter().count() > 20);
    // Each says in a sentence what it means.
    assert!(
        rules
            .iter()
            .all(|rule| rule.to_string().len() > 20 && !rule.title.is_empty())
    );
}

/// What a threshold with a minute's patience says of readings every 10 s.
fn play(values: impl IntoIterator<Item = Option<f64>>) -> Vec<(i64, State)> {
    let rules = format!(
        "pages_per_week = 1\n{THRESHOLD}series = \"database.connections_used\"\nabove = 0.95\nfor = \"1m\"\n"
    );
    let mut evaluator = Evaluator::new(Rules::parse(&rules, "x").unwrap());
    let start: DateTime<Utc> = "2024-06-20T10:00:00Z".parse().unwrap();
    let mut changes = Vec::new();
    for (i, value) in (0..).zip(values) {
        let reading = Reading::new(start + TimeDelta::seconds(10 * i));
        let reading = reading.with(Series::CONNECTIONS_USED, value);
        let firings = evaluator.observe(&reading);
        changes.extend(firings.iter().map(|firing| (10 * i, firing.state)));
    }
    changes
}

#[test]
fn what_is_missing_or_no_number_neither_pages_nor_ends_a_page_at_once() {
    assert_eq!(play(vec![None; 60]), []);
    assert_eq!(play(vec![Some(f64::NAN); 60]), []);
    assert_eq!(play(vec![Some(f64::INFINITY); 60]), []);
    let mut full = vec![Some(1.0); 7];
    full.extend([None; 29]);
    let fired = [(0, State::Pending), (60, State::Firing)];
    assert_eq!(play(full.clone()), fired);
    full.push(None);
    assert_eq!(play(full)[2..], [(360, State::Resolved)]);
}

#[test]
fn a_reading_from_the_past_changes_nothing() {
    let rules = format!(
        "pages_per_week = 1\n{THRESHOLD}series = \"database.connections_used\"\nabove = 0.95\n"
    );
    let mut evaluator = Evaluator::new(Rules::parse(&rules, "x").unwrap());
    let now: DateTime<Utc> = "2024-06-20T10:00:00Z".parse().unwrap();
    let full = |at| Reading::new(at).with(Series::CONNECTIONS_USED, 1.0);
    assert_eq!(evaluator.observe(&full(now))[0].state, State::Firing);
    for minute in 0..30 {
        let past = now + TimeDelta::minutes(minute - 60);
        let calm = Reading::new(past).with(Series::CONNECTIONS_USED, 0.1);
        assert_eq!(evaluator.observe(&calm), []);
    }
    assert_eq!(evaluator.observe(&full(now)), [], "nor does the same again");
    assert_eq!(evaluator.firing().len(), 1);
}
