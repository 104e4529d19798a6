//! What was measured, as a table and as JSON.

use std::path::Path;

use serde::Serialize;

/// Rates of one round, per second.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Round {
    /// Product detail through the service.
    pub detail_service: f64,
    /// Product detail through axum and sqlx alone.
    pub detail_bare: f64,
    /// The statement of product detail in pgbench.
    pub detail_pgbench: f64,
    /// Orders placed through the service.
    pub order_service: f64,
    /// The statement that places an order in pgbench.
    pub order_pgbench: f64,
    /// The same with as many clients as the bulkhead lets checkouts in at once.
    pub order_pgbench_gated: f64,
}

/// All rounds and what they ran with.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Connections of every client.
    pub connections: usize,
    /// How long each measurement lasted.
    pub seconds: f64,
    /// In the order in which they ran.
    pub rounds: Vec<Round>,
    /// Memory that the service occupies at the end, in MiB.
    pub service_resident_mib: Option<f64>,
    /// Memory that the bare server occupies at the end, in MiB.
    pub bare_resident_mib: Option<f64>,
}

#[derive(Serialize)]
struct Figure {
    name: &'static str,
    median: f64,
    least: f64,
    most: f64,
}

impl Report {
    fn figure(&self, name: &'static str, of: impl Fn(&Round) -> f64) -> Figure {
        let mut values: Vec<f64> = self.rounds.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        Figure {
            name,
            median: values[values.len() / 2],
            least: values[0],
            most: values[values.len() - 1],
        }
    }

    /// Prints the table and writes the JSON to `file`.
    pub fn print(&self, file: &Path) {
        let rates = [
            self.figure("detail: service", |r| r.detail_service),
            self.figure("detail: bare axum + sqlx", |r| r.detail_bare),
            self.figure("detail: pgbench", |r| r.detail_pgbench),
            self.figure("order: service", |r| r.order_service),
            self.figure("order: pgbench", |r| r.order_pgbench),
            self.figure("order: pgbench, as gated", |r| r.order_pgbench_gated),
        ];
        // Of each round, because rounds differ by more than what is compared.
        let ratios = [
            self.figure("detail: service / bare", |r| {
                r.detail_service / r.detail_bare
            }),
            self.figure("detail: service / pgbench", |r| {
                r.detail_service / r.detail_pgbench
            }),
            self.figure("order: service / pgbench", |r| {
                r.order_service / r.order_pgbench
            }),
            self.figure("order: service / pgbench, as gated", |r| {
                r.order_service / r.order_pgbench_gated
            }),
        ];
        println!(
            "{:36}{:>10}{:>10}{:>10}",
            "per second", "median", "least", "most"
        );
        for Figure {
            name,
            median,
            least,
            most,
        } in &rates
        {
            println!("{name:36}{median:>10.0}{least:>10.0}{most:>10.0}");
        }
        println!(
            "{:36}{:>10}{:>10}{:>10}",
            "ratio within a round", "median", "least", "most"
        );
        for Figure {
            name,
            median,
            least,
            most,
        } in &ratios
        {
            println!("{name:36}{median:>10.2}{least:>10.2}{most:>10.2}");
        }
        if let (Some(service), Some(bare)) = (self.service_resident_mib, self.bare_resident_mib) {
            println!("resident: service {service:.0} MiB, bare {bare:.0} MiB");
        }
        let json = serde_json::json!({ "measured": self, "rates": rates, "ratios": ratios });
        std::fs::write(file, format!("{json:#}\n")).unwrap();
        println!("{}", file.display());
    }
}
