//! The shape of `demo.json`, and what its figures have to bear out.

use evenkeel::demo::evidence::{
    Act, ByClass, ClassFigures, Evidence, MigrationFigures, OutageFigures,
};
use evenkeel::demo::watched::WatchFigures;
use serde_json::json;

/// Figures as a demo that went well has them.
fn evidence() -> Evidence {
    let figures = ClassFigures {
        sent: 1_000,
        ok: 1_000,
        failed: 0,
        p50_ms: 1.0,
        p99_ms: 5.0,
    };
    let classes = ByClass::from_fn(|_| figures);
    Evidence {
        capacity_rps: 5_000.0,
        peak_rps: 3_000.0,
        stories: None,
        acts: [
            Act {
                name: "naive",
                classes,
                outage: Some(OutageFigures {
                    onset_s: 0.1,
                    duration_s: 18.0,
                    failed_share: ByClass::from_fn(|_| 1.0),
                    script_terminated: false,
                    script_s: 18.0,
                }),
                watch: None,
                migration: None,
            },
            Act {
                name: "watched",
                classes,
                outage: None,
                watch: Some(WatchFigures {
                    named_s: 0.6,
                    stopped_s: 0.9,
                    normal_s: 1.5,
                    culprit: "`cron: nightly_report.sh`".to_owned(),
                    verdict: "script".to_owned(),
                    failed: 3,
                    sent: 3_000,
                    told_s: 0.7,
                    escalated_s: 1.5,
                    acknowledged_s: 1.6,
                    browse_ok: 1.0,
                }),
                migration: None,
            },
            Act {
                name: "guarded",
                classes,
                outage: None,
                watch: None,
                migration: Some(MigrationFigures {
                    rows_total: 100,
                    rows_changed: 100,
                    rows_per_s: 10.0,
                    p99_on_ms: 6.0,
                    p99_off_ms: 5.0,
                    p99_ratio_median: 1.2,
                    cycles: 10,
                    verified: true,
                    control_ratio_median: 1.0,
                    control_cycles: 4,
                    p99_sustained_ms: f64::NAN,
                    sustained_rows_per_s: f64::NAN,
                    rows_after_peak: 0,
                }),
            },
        ],
    }
}

fn broken(change: fn(&mut Evidence)) -> String {
    let mut evidence = evidence();
    change(&mut evidence);
    let broken = evidence.broken_claims();
    assert_eq!(broken.len(), 1, "{broken:?}");
    broken[0].clone()
}

fn migration(evidence: &mut Evidence) -> &mut MigrationFigures {
    evidence.acts[2].migration.as_mut().unwrap()
}

#[test]
fn the_json_has_the_keys_that_others_read() {
    let written = serde_json::to_value(evidence()).unwrap();
    assert_eq!(written["peak_rps"], 3_000.0);
    let [naive, watched, guarded] = written["acts"].as_array().unwrap().as_slice() else {
        panic!("three acts: {written}");
    };
    assert_eq!(naive["name"], "naive");
    assert_eq!(guarded["name"], "guarded");
    assert_eq!(watched["name"], "watched");
    assert_eq!(watched["verdict"], "script");
    for key in ["named_s", "stopped_s", "normal_s", "failed", "sent"] {
        assert!(watched[key].is_number(), "{key}");
    }
    assert!(watched["culprit"].is_string());
    let browse = json!({"sent": 1_000, "ok": 1_000, "failed": 0, "p50_ms": 1.0, "p99_ms": 5.0});
    assert_eq!(guarded["classes"]["browse"], browse);
    assert_eq!(naive["outage"]["failed_share"]["checkout"], 1.0);
    assert_eq!(naive["outage"]["onset_s"], 0.1);
    assert!(naive.get("migration").is_none() && guarded.get("outage").is_none());
    let keys = [
        "rows_total",
        "rows_changed",
        "rows_per_s",
        "p99_on_ms",
        "p99_off_ms",
        "p99_ratio_median",
        "cycles",
    ];
    for key in keys {
        assert!(guarded["migration"][key].is_number(), "{key}");
    }
    assert_eq!(guarded["migration"]["verified"], true);
    // What was not measured is null, not a number.
    assert!(guarded["migration"]["p99_sustained_ms"].is_null());
}

#[test]
fn figures_that_bear_everything_out_break_no_claim() {
    assert_eq!(evidence().broken_claims(), Vec::<String>::new());
}

#[test]
fn every_claim_that_does_not_hold_is_said_in_a_sentence() {
    let outage = |e: &mut Evidence| e.acts[0].outage.as_mut().unwrap().failed_share.browse = 0.98;
    assert!(broken(outage).contains("98.0 % of browse failed"));
    let late = |e: &mut Evidence| e.acts[0].outage.as_mut().unwrap().onset_s = 3.1;
    assert!(broken(late).contains("3.1 s after the script"));
    let watch = |e: &mut Evidence| e.acts[1].watch.as_mut().unwrap().named_s = 1.1;
    assert!(broken(watch).contains("named 1.1 s after"));
    let never = |e: &mut Evidence| e.acts[1].watch.as_mut().unwrap().stopped_s = f64::NAN;
    assert!(broken(never).contains("stopped NaN s after"));
    let browse = |e: &mut Evidence| e.acts[1].watch.as_mut().unwrap().browse_ok = 0.98;
    assert!(broken(browse).contains("98.0 % of browse"));
    let failed = |e: &mut Evidence| e.acts[2].classes.checkout.failed = 1;
    assert!(broken(failed).contains("1 of 1000 checkout requests failed"));
    assert!(broken(|e| e.acts[2].classes.account.sent = 0).contains("0 of 0 account"));
    assert!(broken(|e| migration(e).p99_ratio_median = 1.51).contains("1.51 times"));
    assert!(broken(|e| migration(e).p99_ratio_median = f64::NAN).contains("NaN times"));
    assert!(broken(|e| migration(e).cycles = 9).contains("only 9 cycles"));
    assert!(broken(|e| migration(e).rows_changed = 99).contains("99 rows were changed"));
    assert!(broken(|e| migration(e).verified = false).contains("still pending"));
}

#[test]
fn what_was_left_for_after_the_peak_is_said() {
    let mut evidence = evidence();
    assert!(
        migration(&mut evidence)
            .progress()
            .contains("all of them at peak")
    );
    migration(&mut evidence).rows_after_peak = 40;
    let said = migration(&mut evidence).progress();
    assert_eq!(
        said,
        "100 of 100 rows changed, 60 of them at peak and 40 after it; verified"
    );
}
