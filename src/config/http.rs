//! Settings of the HTTP service.

use std::net::SocketAddr;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use settings::bounds::{above_zero, at_most, lasts, time, within};

use super::Network;

/// A time limit for a client that is shorter than this is a mistake.
const SHORTEST_LIMIT: Duration = Duration::from_millis(50);

/// The HTTP service.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Http {
    /// Address to listen on; port 0 takes a free one.
    #[schemars(extend("format" = super::takes::SOCKET))]
    pub listen: SocketAddr,
    /// Networks of the proxies in front, such as `10.1.0.0/16`: what they say in X-Forwarded-For is believed,
    /// so that a client's address is the nearest one that is not theirs. Nobody's, unless set.
    pub trusted_proxies: Vec<Network>,
    /// A request that has waited for the shop for longer is answered with 503. The time in which the
    /// client sends its body does not count.
    #[serde(with = "settings::HumanTime")]
    pub request_timeout: Duration,
    /// A request whose body takes longer to arrive is answered with 408.
    #[serde(with = "settings::HumanTime")]
    pub body_timeout: Duration,
    /// A client that hangs up after it has waited for so long was failed by the shop; one that does so
    /// earlier left for reasons of its own, and is counted as abandoned alone.
    #[serde(with = "settings::HumanTime")]
    pub patience: Duration,
    /// Most connections at once; without one, as many as the limit of open files leaves room for, at
    /// most 10,000. At the cap a connection that waits for its client makes room for a new one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_connections: Option<usize>,
    /// How long a client may take from connecting, or from the first byte of a request, to the end of
    /// the request's head.
    #[serde(with = "settings::HumanTime")]
    pub head_timeout: Duration,
    /// How long a connection stays open between two requests.
    #[serde(with = "settings::HumanTime")]
    pub idle_timeout: Duration,
    /// How long an answer waits for a client that takes less than 16 KiB of it.
    #[serde(with = "settings::HumanTime")]
    pub unread_timeout: Duration,
    /// Largest request body, in bytes.
    pub body_limit: usize,
    /// How long readiness says 503 before the port closes, after SIGTERM: long enough for a load
    /// balancer to notice. Ctrl-C does not wait.
    #[serde(with = "settings::HumanTime")]
    pub notice: Duration,
    /// How long a shutdown waits for requests under way.
    #[serde(with = "settings::HumanTime")]
    pub drain: Duration,
}

impl Default for Http {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            trusted_proxies: Vec::new(),
            request_timeout: Duration::from_secs(5),
            body_timeout: Duration::from_secs(10),
            patience: Duration::from_millis(250),
            max_connections: None,
            head_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(60),
            unread_timeout: Duration::from_secs(30),
            body_limit: 64 * 1024,
            notice: Duration::from_secs(2),
            drain: Duration::from_secs(10),
        }
    }
}

impl Http {
    /// Checks what types cannot express.
    ///
    /// # Errors
    /// A sentence that names the key.
    pub(super) fn validate(&self) -> Result<(), String> {
        for (name, limit) in [
            ("request_timeout", self.request_timeout),
            ("body_timeout", self.body_timeout),
            ("head_timeout", self.head_timeout),
            ("idle_timeout", self.idle_timeout),
            ("unread_timeout", self.unread_timeout),
        ] {
            // No client is quicker than that.
            lasts(&format!("http.{name}"), limit, SHORTEST_LIMIT)?;
        }
        above_zero("http.patience", self.patience)?;
        lasts("http.notice", self.notice, Duration::ZERO)?;
        lasts("http.drain", self.drain, Duration::ZERO)?;
        if let Some(most) = self.max_connections {
            within("http.max_connections", most, 1..=1_000_000)?;
        }
        if self.trusted_proxies.iter().any(Network::is_everything) {
            return Err(
                "http.trusted_proxies holds every address there is, so that any client could claim to be \
                 any other: name the networks of your proxies alone"
                    .to_owned(),
            );
        }
        within("http.body_limit", self.body_limit, 1..=1 << 30)?;
        at_most(
            ("http.patience", self.patience),
            ("http.request_timeout", self.request_timeout),
            time,
            "nobody waits for longer",
        )
    }
}
