//! What other people see of the engine's sessions.

use evenkeel::migration::ledger;
use evenkeel::migration::runner::End;

use super::fixture::{Fixture, of_t};

#[tokio::test]
async fn a_batch_says_who_it_is_in_the_name_of_its_session_and_no_longer() {
    let mut fixture = Fixture::with_rows(35).await;
    fixture.engine.batch_max = 10;
    fixture.run("ALTER TABLE t ADD session text").await;
    let text = of_t().replace(
        "n = n + 1",
        "n = n + 1, session = current_setting('application_name')",
    );
    for name in ["orders_total".to_owned(), "long_".repeat(20)] {
        fixture.run("UPDATE t SET done = false").await;
        let run = ledger::enqueue(&mut fixture.sql, &name, &text, "tester").await;
        let run = run.unwrap();
        assert_eq!(fixture.drive().await, End::Completed);
        let sessions: Vec<String> =
            sqlx::query_scalar("SELECT session FROM t GROUP BY session ORDER BY min(id)")
                .fetch_all(&mut fixture.sql)
                .await
                .unwrap();
        // 35 rows in batches of at most ten; where the machine is slow the engine takes fewer at once.
        assert!(sessions.len() >= 4, "{sessions:?}");
        for (session, number) in sessions.iter().zip(1..) {
            let which = format!(" run {} batch {number}", run.id);
            let who = session.strip_suffix(&which).unwrap();
            let who = who.strip_prefix("evenkeel migration ").unwrap();
            assert!(name == who || session.len() == 63 && name.starts_with(who));
        }
    }
    let called_so = "SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND application_name LIKE 'evenkeel migration %'";
    assert_eq!(fixture.count(called_so).await, 0);
}
