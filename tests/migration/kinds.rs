//! The kinds of tables on which a run must survive the death of its holder.

use super::fixture::{Fixture, UPDATE, migration};

/// A kind of table, for tests that migrate one of each.
pub struct Kind {
    pub name: &'static str,
    /// The columns of `t`.
    columns: &'static str,
    /// The values of the key for the integer `i`.
    values: &'static str,
    /// The columns of the key.
    key: &'static str,
    /// Rows are inserted while it is migrated, before and behind the cursor.
    grows: bool,
    /// The size of batches is changed meanwhile.
    pub resized: bool,
}

const PLAIN: Kind = Kind {
    name: "bigint",
    columns: "id bigint PRIMARY KEY",
    values: "i",
    key: "id",
    grows: false,
    resized: false,
};

/// What a run must survive its holder's death on.
pub const KINDS: [Kind; 8] = [
    PLAIN,
    Kind {
        name: "uuid",
        columns: "id uuid PRIMARY KEY",
        values: "md5(i::text)::uuid",
        ..PLAIN
    },
    Kind {
        name: "text",
        columns: "id text COLLATE \"und-x-icu\" PRIMARY KEY",
        values: "chr(65 + i * 7 % 58) || i",
        ..PLAIN
    },
    Kind {
        name: "composite",
        columns: "a int, id bigint, PRIMARY KEY (a, id)",
        values: "i % 3, i",
        key: "a, id",
        ..PLAIN
    },
    Kind {
        name: "mixed directions",
        columns: "a int NOT NULL, id bigint NOT NULL",
        values: "i % 3, i",
        key: "a, id",
        ..PLAIN
    },
    Kind {
        name: "sparse",
        values: "(i - 3) * (i % 5 + 1) * 1000000007::bigint",
        ..PLAIN
    },
    Kind {
        name: "growing",
        values: "i * 1000",
        grows: true,
        ..PLAIN
    },
    Kind {
        name: "resized",
        resized: true,
        ..PLAIN
    },
];

impl Kind {
    pub async fn create(&self, fixture: &mut Fixture) {
        fixture
            .run(&format!("CREATE TABLE t ({})", self.columns))
            .await;
        if self.name == "mixed directions" {
            let index = "CREATE UNIQUE INDEX ON t (a, id DESC)";
            fixture.run(index).await;
        }
        fixture.count_changes("t").await;
    }

    /// Leaves `rows` rows, and nothing in the ledger.
    pub async fn fill(&self, fixture: &mut Fixture, rows: i64) {
        fixture
            .run(&format!(
                "TRUNCATE t; TRUNCATE evenkeel.runs, evenkeel.events CASCADE;
                 INSERT INTO t SELECT {} FROM generate_series(1, {rows}) AS i ON CONFLICT DO NOTHING",
                self.values
            ))
            .await;
    }

    pub fn definition(&self) -> String {
        let header = format!("-- table: t\n-- key: {}\n-- pending: NOT done", self.key);
        migration(&header, UPDATE)
    }

    /// What the shop inserts meanwhile, if it does: before the first row, between, behind the last.
    /// Until the sweep has begun it may be pending. Afterwards only rows that are right from the
    /// start may arrive: a sweep cannot see what is inserted behind it.
    pub async fn grow(&self, fixture: &mut Fixture) {
        if self.grows {
            let rows = "INSERT INTO t (id, done, n)
                SELECT id, swept, CASE WHEN swept THEN 7 ELSE 0 END
                  FROM (SELECT bool_or(phase = 'sweep') AS swept FROM evenkeel.runs) AS run,
                       (SELECT unnest(ARRAY[min(id) - 1, min(id) + 1, max(id) - 1, max(id) + 1]) AS id
                          FROM t) AS new
                ON CONFLICT DO NOTHING";
            fixture.run(rows).await;
        }
    }

    /// Every row that was not right from the start was changed exactly once, and the ledger agrees.
    pub async fn assert_exactly_once(&self, fixture: &mut Fixture) {
        let [rows, once, changed, open] = [
            "SELECT count(*) FROM t WHERE NOT (done AND n = 7 AND changes = 0)",
            "SELECT count(*) FROM t WHERE done AND n = 1 AND changes = 1",
            "SELECT sum(rows_changed)::bigint FROM evenkeel.batches",
            "SELECT count(*) FROM evenkeel.runs WHERE state <> 'completed'",
        ];
        let rows = fixture.count(rows).await;
        assert_eq!(fixture.count(once).await, rows, "{}", self.name);
        assert_eq!(fixture.count(changed).await, rows, "{}", self.name);
        assert_eq!(fixture.count(open).await, 0, "{}", self.name);
        assert_eq!(fixture.gaps().await, 0, "{}", self.name);
    }
}
