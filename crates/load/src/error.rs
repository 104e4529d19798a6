//! Why a load could not be sent.

use http::StatusCode;

/// Why a load could not be sent.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The address is not one of a shop.
    #[error("`{0}` is not the address of a shop: write for example http://127.0.0.1:8080")]
    Url(String),
    /// The shop is on another machine.
    #[error(
        "refusing to load `{0}`: load goes only to this machine, that is 127.0.0.0/8, [::1] or \
         localhost"
    )]
    NotLoopback(String),
    /// The shop named something that no URI can hold.
    #[error("the shop named `{0}`, which is no path: {1}")]
    Path(String, String),
    /// Nobody listens.
    #[error("{0}: cannot connect; is the shop running there?")]
    Unreachable(String),
    /// The shop did not answer as expected.
    #[error("{0}: {1}")]
    Answer(String, String),
    /// The shop answered with an error.
    #[error("{what} was answered with {status}: {body}")]
    Status {
        /// Method and URI.
        what: String,
        /// The answer's status.
        status: StatusCode,
        /// The beginning of the answer's body.
        body: String,
    },
    /// The shop refused a log-in.
    #[error("the shop does not know the account that shoppers were to use")]
    UnknownAccount,
    /// No product can be ordered.
    #[error("the shop has no product in stock: import some, or start it with its sample shop")]
    NothingToBuy,
    /// The profile cannot work.
    #[error("{0}")]
    Profile(String),
    /// The thread that sends could not be started.
    #[error("cannot start the thread that sends the load: {0}")]
    Thread(#[from] std::io::Error),
}
