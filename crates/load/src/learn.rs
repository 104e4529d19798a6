//! Walks through a shop once before the load begins.

use std::fmt::Write;
use std::sync::atomic::AtomicU64;

use bytes::Bytes;
use http::{HeaderValue, StatusCode, Uri};
use serde::Deserialize;
use serde_json::json;
use uuid::Uuid;

use crate::client::{self, Http};
use crate::profile::Profile;
use crate::shop::{Shop, Shopper};
use crate::{LoadError, Target};

/// Products asked for per page.
const PAGE: usize = 20;
/// Orders of each account's history that shoppers open again.
const REMEMBERED_ORDERS: usize = 20;

/// Domain of the accounts that a load registers. It is reserved for examples (RFC 2606), and the shop counts
/// its people as made up.
const DOMAIN: &str = "example.com";

/// Somebody who can log in.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// The address.
    pub email: String,
    /// The password.
    pub password: String,
}

/// Where the shoppers' sessions come from.
#[derive(Clone, Debug)]
pub enum Sessions {
    /// Registers this many new accounts and logs them in, at about 60 ms each.
    Register(usize),
    /// Logs these accounts in, at about 30 ms each.
    LogIn(Vec<Credentials>),
    /// Uses sessions that exist. Without credentials nobody logs in during the load; those who
    /// would look at their order history instead.
    Tokens(Vec<String>),
}

#[derive(Deserialize)]
struct Page {
    items: Vec<Item>,
    next: Option<String>,
}
#[derive(Deserialize)]
struct Item {
    handle: String,
    title: String,
    #[serde(default)]
    category: String,
}
#[derive(Deserialize)]
struct Detail {
    variants: Vec<Variant>,
}
#[derive(Deserialize)]
struct Variant {
    sku: String,
    stock: i64,
}
#[derive(Deserialize)]
struct Session {
    token: String,
}
#[derive(Deserialize)]
struct History {
    items: Vec<PastOrder>,
}
#[derive(Deserialize)]
struct PastOrder {
    id: serde_json::Value,
}

impl Shop {
    /// Walks through the shop once: products, stock and the history of every session.
    ///
    /// # Errors
    /// [`LoadError`] when the shop does not answer as expected, or has nothing in stock.
    pub async fn learn(
        target: Target,
        profile: &Profile,
        sessions: Sessions,
    ) -> Result<Self, LoadError> {
        let mut shop = Self {
            http: Http::new(),
            details: Vec::new(),
            listings: Vec::new(),
            searches: Vec::new(),
            skus: Vec::new(),
            shoppers: Vec::new(),
            log_ins: Vec::new(),
            me: target.uri("/api/me")?,
            orders: target.uri("/api/orders")?,
            sessions: target.uri("/api/sessions")?,
            run: Uuid::new_v4(),
            loads: AtomicU64::new(0),
        };
        shop.learn_products(target, profile.products).await?;
        if profile.mix.needs_sessions() {
            shop.learn_shoppers(target, sessions).await?;
        }
        Ok(shop)
    }

    async fn learn_products(&mut self, target: Target, wanted: usize) -> Result<(), LoadError> {
        let mut path = format!("/api/products?limit={PAGE}");
        loop {
            let uri = target.uri(&path)?;
            let page: Page = self.http.json(client::get(uri.clone(), None)).await?;
            self.listings.push(uri);
            for item in page.items {
                let uri = target.uri(&format!("/api/products/{}", escape(&item.handle)))?;
                let detail: Detail = self.http.json(client::get(uri.clone(), None)).await?;
                self.details.push(uri);
                let in_stock = detail.variants.iter().filter(|variant| variant.stock > 0);
                self.skus
                    .extend(in_stock.map(|variant| json!(variant.sku).to_string()));
                self.learn_words(target, &item.title, &item.category)?;
            }
            match page.next {
                Some(next) if self.details.len() < wanted => {
                    path = format!("/api/products?limit={PAGE}&after={}", escape(&next));
                }
                _ => break,
            }
        }
        if self.skus.is_empty() {
            return Err(LoadError::NothingToBuy);
        }
        Ok(())
    }

    /// Shoppers search for the words of titles and open the categories that products are in.
    fn learn_words(
        &mut self,
        target: Target,
        title: &str,
        category: &str,
    ) -> Result<(), LoadError> {
        let words = title.split_whitespace().filter(|word| word.len() > 3);
        for word in words {
            let path = format!("/api/products?limit={PAGE}&q={}", escape(word));
            add_new(&mut self.searches, target.uri(&path)?);
        }
        if !category.is_empty() {
            let path = format!("/api/products?limit={PAGE}&category={}", escape(category));
            add_new(&mut self.listings, target.uri(&path)?);
        }
        Ok(())
    }

    async fn learn_shoppers(&mut self, target: Target, from: Sessions) -> Result<(), LoadError> {
        let credentials = match from {
            Sessions::Tokens(tokens) => {
                for token in tokens {
                    self.learn_shopper(target, &token).await?;
                }
                Vec::new()
            }
            Sessions::LogIn(credentials) => credentials,
            Sessions::Register(count) => self.register(target, count).await?,
        };
        for Credentials { email, password } in credentials {
            let body = Bytes::from(json!({"email": email, "password": password}).to_string());
            let log_in = client::post(self.sessions.clone(), None, body.clone());
            let session: Session = self.http.json(log_in).await.map_err(unknown)?;
            self.log_ins.push(body);
            self.learn_shopper(target, &session.token).await?;
        }
        if self.shoppers.is_empty() {
            return Err(LoadError::Profile(
                "the mix has actions that need a session, but there are no sessions".into(),
            ));
        }
        Ok(())
    }

    async fn register(&self, target: Target, count: usize) -> Result<Vec<Credentials>, LoadError> {
        let uri = target.uri("/api/accounts")?;
        let mut registered = Vec::with_capacity(count);
        for i in 0..count {
            let email = address(self.run, i);
            let password = Uuid::new_v4().to_string();
            let body =
                json!({"email": email, "password": password, "name": format!("Shopper {i}")});
            let call = client::post(uri.clone(), None, body.to_string().into());
            self.http.json::<serde_json::Value>(call).await?;
            registered.push(Credentials { email, password });
        }
        Ok(registered)
    }

    async fn learn_shopper(&mut self, target: Target, token: &str) -> Result<(), LoadError> {
        let session = HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| {
            LoadError::Profile("a session token holds characters that no header can carry".into())
        })?;
        let history = client::get(self.orders.clone(), Some(&session));
        let mut history: History = self.http.json(history).await?;
        if history.items.is_empty() {
            // A new account has nothing to look back at until it has bought something.
            let line = format!(r#"{{"lines":[{{"sku":{},"quantity":1}}]}}"#, self.skus[0]);
            let key = Uuid::new_v4().to_string();
            let order = client::place(self.orders.clone(), Some(&session), &key, line.into());
            history.items.push(self.http.json(order).await?);
        }
        let ids = history.items.iter().take(REMEMBERED_ORDERS);
        let orders = ids.map(|order| match &order.id {
            serde_json::Value::String(id) => target.uri(&format!("/api/orders/{}", escape(id))),
            id => target.uri(&format!("/api/orders/{id}")),
        });
        let orders = orders.collect::<Result<_, _>>()?;
        self.shoppers.push(Shopper { session, orders });
        Ok(())
    }
}

/// A log-in that is refused says that the account is of another shop.
fn unknown(err: LoadError) -> LoadError {
    match err {
        LoadError::Status { status, .. } if status == StatusCode::UNAUTHORIZED => {
            LoadError::UnknownAccount
        }
        err => err,
    }
}

fn add_new(uris: &mut Vec<Uri>, uri: Uri) {
    if !uris.contains(&uri) {
        uris.push(uri);
    }
}

/// Percent-encodes everything but unreserved characters.
fn escape(text: &str) -> String {
    text.bytes().fold(String::new(), |mut escaped, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(escaped, "%{byte:02X}");
        }
        escaped
    })
}

/// The address of account `number` of the load `run`.
fn address(run: Uuid, number: usize) -> String {
    format!("load-{}-{number}@{DOMAIN}", run.simple())
}
