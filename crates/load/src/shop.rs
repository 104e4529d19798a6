//! What shoppers know before they come: the shelves, the search box and their own accounts.

use std::fmt::Write;
use std::sync::atomic::AtomicU64;

use bytes::Bytes;
use http::{HeaderValue, Uri};
use rand::RngExt;
use rand::rngs::StdRng;

use crate::client::{self, Call, Http};
use crate::profile::Action;

#[derive(Debug)]
pub(crate) struct Shopper {
    pub(crate) session: HeaderValue,
    pub(crate) orders: Vec<Uri>,
}

/// Everything that a load needs to know of a shop: requests are put together from it without
/// asking again. Cheap to share between loads, which also share its connections.
#[derive(Debug)]
pub struct Shop {
    pub(crate) http: Http,
    pub(crate) details: Vec<Uri>,
    pub(crate) listings: Vec<Uri>,
    pub(crate) searches: Vec<Uri>,
    /// As JSON strings, quotes included.
    pub(crate) skus: Vec<String>,
    pub(crate) shoppers: Vec<Shopper>,
    pub(crate) log_ins: Vec<Bytes>,
    pub(crate) me: Uri,
    pub(crate) orders: Uri,
    pub(crate) sessions: Uri,
    /// Makes the idempotency keys of two loads differ.
    pub(crate) run: uuid::Uuid,
    /// Loads started so far.
    pub(crate) loads: AtomicU64,
}

impl Shop {
    /// The request of one `action`, by a shopper and about a product drawn at random. `number` is
    /// unique in its load, and `load` among the loads of this shop.
    pub(crate) fn call(
        &self,
        action: Action,
        (load, number): (u64, u64),
        max_lines: usize,
        rng: &mut StdRng,
    ) -> Call {
        let shopper = (!self.shoppers.is_empty()).then(|| pick(&self.shoppers, rng));
        let session = shopper.map(|shopper| &shopper.session);
        let past = shopper.map_or(&[][..], |shopper| &shopper.orders);
        let get = |uri: &Uri| client::get(uri.clone(), None);
        let own = |uri: &Uri| client::get(uri.clone(), session);
        match action {
            Action::ProductDetail => get(pick(&self.details, rng)),
            Action::Search if !self.searches.is_empty() => get(pick(&self.searches, rng)),
            Action::ProductList | Action::Search => get(pick(&self.listings, rng)),
            Action::Me => own(&self.me),
            Action::OrderDetail if !past.is_empty() => own(pick(past, rng)),
            Action::LogIn if !self.log_ins.is_empty() => {
                let body = pick(&self.log_ins, rng).clone();
                client::post(self.sessions.clone(), None, body)
            }
            Action::OrderHistory | Action::OrderDetail | Action::LogIn => own(&self.orders),
            Action::PlaceOrder => {
                let key = format!("{}-{load}-{number}", self.run.simple());
                let order = self.order(max_lines, rng);
                client::place(self.orders.clone(), session, &key, order)
            }
        }
    }

    /// One to `max_lines` different SKUs, one to three of each.
    fn order(&self, max_lines: usize, rng: &mut StdRng) -> Bytes {
        let lines = rng.random_range(1..=max_lines.clamp(1, self.skus.len()));
        let mut body = String::with_capacity(24 + lines * 64);
        body.push_str(r#"{"lines":["#);
        for (i, sku) in rand::seq::index::sample(rng, self.skus.len(), lines)
            .into_iter()
            .enumerate()
        {
            let comma = if i == 0 { "" } else { "," };
            let (sku, quantity) = (&self.skus[sku], rng.random_range(1..=3));
            // Writing to a String cannot fail.
            let _ = write!(body, r#"{comma}{{"sku":{sku},"quantity":{quantity}}}"#);
        }
        body.push_str("]}");
        body.into()
    }
}

fn pick<'a, T>(from: &'a [T], rng: &mut StdRng) -> &'a T {
    &from[rng.random_range(0..from.len())]
}
