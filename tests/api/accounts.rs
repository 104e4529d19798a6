//! Register, log in, log out.

use reqwest::{Client, Method};
use serde_json::json;

use crate::support::TestApp;
use crate::support::app::{PASSWORD, send};

#[tokio::test]
async fn a_session_works_as_bearer_token_until_it_is_logged_out() {
    let shop = TestApp::start().await;
    let ann = shop.shopper("Ann@Example.org").await;

    let me = shop.get_as(&ann, "/api/me").await.expect(200).json();
    assert_eq!(me["email"], "Ann@Example.org");
    assert_eq!(me["id"], ann.account);

    let log_out = shop.request(Method::DELETE, "/api/sessions/current");
    send(log_out.bearer_auth(&ann.token)).await.expect(204);
    let after = shop.get_as(&ann, "/api/me").await.expect(401);
    assert_eq!(after.header("www-authenticate"), "Bearer");
}

#[tokio::test]
async fn a_session_works_as_cookie_that_scripts_and_other_sites_cannot_use() {
    let shop = TestApp::start().await;
    shop.shopper("ann@example.org").await;
    let browser = Client::builder().cookie_store(true).build().unwrap();
    let url = |path| format!("http://{}{path}", shop.address);
    let account = json!({"email": "ann@example.org", "password": PASSWORD});

    let session = send(browser.post(url("/api/sessions")).json(&account)).await;
    let session = session.expect(201);
    let cookie = session.header("set-cookie");
    assert!(cookie.starts_with("evenkeel_session="), "{cookie}");
    for attribute in ["HttpOnly", "SameSite=Lax", "Path=/"] {
        assert!(cookie.contains(attribute), "{cookie}");
    }
    send(browser.get(url("/api/me"))).await.expect(200);

    send(browser.delete(url("/api/sessions/current")))
        .await
        .expect(204);
    send(browser.get(url("/api/me"))).await.expect(401);
}

#[tokio::test]
async fn an_address_is_registered_once_in_whatever_letter_case() {
    let shop = TestApp::start().await;
    shop.shopper("Ann@Example.org").await;
    sqlx::query("INSERT INTO accounts (email, password_hash) VALUES ('Old@Example.org', 'x')")
        .execute(&mut shop.sql().await)
        .await
        .unwrap();

    for taken in ["Ann@Example.org", "ann@example.ORG", "old@example.org"] {
        let account = json!({"email": taken, "password": PASSWORD});
        let refusal = shop.post("/api/accounts", &account).await.expect(409);
        assert_eq!(refusal.json()["type"], "/problems/email-taken");
    }
    let ann = json!({"email": "ANN@EXAMPLE.ORG", "password": PASSWORD});
    shop.post("/api/sessions", &ann).await.expect(201);
}

#[tokio::test]
async fn an_account_from_before_logs_in_with_the_address_as_it_was_typed() {
    let shop = TestApp::start().await;
    let turn = shop.app.passwords.turn(0).await.unwrap();
    let hash = turn.hash(PASSWORD.into()).await.unwrap();
    sqlx::query("INSERT INTO accounts (email, password_hash) VALUES ('Old@Example.org', $1)")
        .bind(hash)
        .execute(&mut shop.sql().await)
        .await
        .unwrap();
    let log_in = async |email: &str| {
        let account = json!({"email": email, "password": PASSWORD});
        shop.post("/api/sessions", &account).await
    };

    log_in("Old@Example.org").await.expect(201);
    log_in("old@example.org").await.expect(401);
}

#[tokio::test]
async fn a_wrong_password_and_an_unknown_address_answer_the_same() {
    let shop = TestApp::start().await;
    shop.shopper("ann@example.org").await;
    let log_in = async |email: &str| {
        let account = json!({"email": email, "password": "wrong password"});
        shop.post("/api/sessions", &account).await.expect(401)
    };

    let (wrong, unknown) = (
        log_in("ann@example.org").await,
        log_in("bob@example.org").await,
    );

    assert_eq!(wrong.text, unknown.text);
    assert_eq!(wrong.header("set-cookie"), "");
}

#[tokio::test]
async fn an_expired_session_is_none_and_goes_with_the_next_log_in() {
    let shop = TestApp::start().await;
    let ann = shop.shopper("ann@example.org").await;
    let mut sql = shop.sql().await;
    sqlx::query("UPDATE sessions SET expires_at = now()")
        .execute(&mut sql)
        .await
        .unwrap();

    shop.get_as(&ann, "/api/me").await.expect(401);
    shop.place(
        &ann,
        "key",
        &json!({"lines": [{"sku": "x", "quantity": 1}]}),
    )
    .await
    .expect(401);

    let account = json!({"email": "ann@example.org", "password": PASSWORD});
    shop.post("/api/sessions", &account).await.expect(201);
    let sessions: i64 = sqlx::query_scalar("SELECT count(*) FROM sessions")
        .fetch_one(&mut sql)
        .await
        .unwrap();
    assert_eq!(sessions, 1);
}

#[tokio::test]
async fn neither_passwords_nor_tokens_are_stored() {
    let shop = TestApp::start().await;
    let ann = shop.shopper("ann@example.org").await;

    let stored: String = sqlx::query_scalar(
        "SELECT concat((SELECT json_agg(a) FROM accounts a), (SELECT json_agg(s) FROM sessions s))",
    )
    .fetch_one(&mut shop.sql().await)
    .await
    .unwrap();

    assert!(stored.contains("$argon2id$"));
    assert!(!stored.contains(PASSWORD) && !stored.contains(&ann.token));
}

#[tokio::test]
async fn over_tls_the_cookie_belongs_to_this_host_alone_and_browsers_stay_with_tls() {
    let shop = TestApp::builder()
        .settings(|s| s.accounts.secure_cookies = true)
        .start()
        .await;
    let account = json!({"email": "ann@example.org", "password": PASSWORD});
    shop.post("/api/accounts", &account).await.expect(201);
    let session = shop.post("/api/sessions", &account).await.expect(201);
    let cookie = session.header("set-cookie");
    assert!(cookie.starts_with("__Host-evenkeel_session="), "{cookie}");
    for attribute in ["; Path=/", "; HttpOnly", "; SameSite=Lax", "; Secure"] {
        assert!(cookie.contains(attribute), "{cookie}");
    }
    assert!(!cookie.contains("Domain"), "{cookie}");
    assert!(
        session
            .header("strict-transport-security")
            .starts_with("max-age=")
    );
    let (pair, _) = cookie.split_once(';').unwrap();
    let request = shop.request(Method::GET, "/api/me");
    let both = format!("evenkeel_session=forged; {pair}");
    send(request.header("cookie", both)).await.expect(200);
    // A neighbouring host can set a cookie of the other name, with a session of its own.
    let (_, token) = pair.split_once('=').unwrap();
    let request = shop.request(Method::GET, "/api/me");
    let set_by_others = format!("evenkeel_session={token}");
    send(request.header("cookie", set_by_others))
        .await
        .expect(401);
    let plain = TestApp::start().await;
    assert_eq!(plain.get("/").await.header("strict-transport-security"), "");
}

#[tokio::test]
async fn nobody_is_registered_at_the_domain_whose_accounts_a_load_removes() {
    let shop = TestApp::start().await;
    for email in [
        "ann@load.evenkeel.invalid",
        "load-00000000000000000000000000000000-0@LOAD.Evenkeel.invalid",
    ] {
        let account = json!({"email": email, "password": PASSWORD});
        let answer = send(shop.request(Method::POST, "/api/accounts").json(&account)).await;
        let problem = answer.expect(422).json();
        assert_eq!(problem["errors"][0]["field"], "email", "{problem}");
        assert!(problem.to_string().contains("load generator"), "{problem}");
    }
    let near = json!({"email": "ann@sub.load.evenkeel.invalid", "password": PASSWORD});
    let near = shop.request(Method::POST, "/api/accounts").json(&near);
    send(near).await.expect(201);
}
