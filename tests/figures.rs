//! The figures of a demo, as `demo.json` has them. `.ci/run` makes the demo and then runs this.

use std::path::PathBuf;

use serde_json::Value;

const CLASSES: [&str; 3] = ["browse", "account", "checkout"];

fn number(value: &Value) -> f64 {
    value
        .as_f64()
        .unwrap_or_else(|| panic!("{value} is not a number"))
}

#[test]
#[ignore = "reads the report in $DEMO_REPORT, which .ci/run makes"]
fn the_demo_shows_the_outage_and_the_same_change_without_one() {
    let directory = PathBuf::from(std::env::var_os("DEMO_REPORT").unwrap());
    let text = std::fs::read_to_string(directory.join("demo.json")).unwrap();
    let demo: Value = serde_json::from_str(&text).unwrap();
    let act = |name: &str| {
        let acts = demo["acts"].as_array().unwrap();
        acts.iter().find(|act| act["name"] == name).unwrap()
    };

    let (capacity, peak) = (number(&demo["capacity_rps"]), number(&demo["peak_rps"]));
    assert!(0.0 < peak && peak < capacity, "{peak} of {capacity}");

    let outage = &act("naive")["outage"];
    for class in CLASSES {
        assert!(
            number(&outage["failed_share"][class]) >= 0.99,
            "{class}: {outage}"
        );
    }
    assert!(number(&outage["onset_s"]) <= 3.0, "{outage}");

    let watched = act("watched");
    assert_eq!(watched["verdict"], "script", "{watched}");
    let culprit = watched["culprit"].as_str().unwrap();
    assert!(culprit.contains("nightly-report"), "{culprit}");
    for (figure, most) in [("named_s", 1.0), ("stopped_s", 2.0), ("normal_s", 5.0)] {
        assert!(number(&watched[figure]) <= most, "{figure}: {watched}");
    }
    assert!(
        number(&watched["failed"]) < number(&watched["sent"]),
        "{watched}"
    );
    assert!(number(&watched["browse_ok"]) >= 0.99, "{watched}");
    assert!(watched["acknowledged_s"].is_number(), "{watched}");

    let guarded = act("guarded");
    for class in CLASSES {
        let requests = &guarded["classes"][class];
        assert!(number(&requests["sent"]) > 0.0, "{class}: {requests}");
        assert_eq!(requests["failed"], 0, "{class}: {requests}");
        assert_eq!(requests["ok"], requests["sent"], "{class}: {requests}");
    }
    let migration = &guarded["migration"];
    assert!(number(&migration["rows_changed"]) > 0.0, "{migration}");
    assert_eq!(migration["rows_changed"], migration["rows_total"]);
    assert_eq!(migration["verified"], true);
    // As the demo judges itself: periods without any migration differ too.
    let noise = number(&migration["control_ratio_median"]).max(1.0);
    assert!(
        number(&migration["p99_ratio_median"]) <= 1.5 * noise,
        "{migration}"
    );
    assert!(number(&migration["cycles"]) >= 10.0, "{migration}");

    for file in ["report.html", "postmortem.md"] {
        assert!(directory.join(file).metadata().unwrap().len() > 0, "{file}");
    }
}
